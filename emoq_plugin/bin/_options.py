"""Types of options, until no command takes them from here."""

from emoq_plugin.options import number, optional, whole

__all__ = ["number", "optional", "whole"]
