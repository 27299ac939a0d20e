"""Emo-Q: emotion-aware discrete speech units that keep emotion."""

from typing import Any

__version__ = "0.1.0"


def load(name: str, *, arm: str | None = None, n_levels: int | None = None) -> Any:
    """Load a quantizer from a directory or a Hugging Face hub repository.

    Parameters
    ----------
    name : str
        Directory of an artifact, or ``owner/name`` on the hub.
    arm : str, optional
        For a bank of experts: ``balanced`` or ``<group>-<router>``, such as
        ``specific-distortion``. A saved `RoutedQuantizer` knows its own.
    n_levels : int, optional
        Levels of the code stream; all that were learned when None.

    Returns
    -------
    quantizer : RoutedQuantizer

    Raises
    ------
    ValueError
        If it is no artifact, is damaged, is a bank and no arm is named, or has fewer
        levels.
    """
    from emoq_plugin.core.artifact import artifact_type
    from emoq_plugin.core.bank import CodebookBank
    from emoq_plugin.routing.quantizer import RoutedQuantizer

    if artifact_type(name) == "RoutedQuantizer":
        quantizer = RoutedQuantizer.from_pretrained(name)
        arm = arm or quantizer.arm.name
        n_levels = quantizer.n_levels if n_levels is None else n_levels
        return RoutedQuantizer(
            quantizer.bank, arm, depth=quantizer.depth, n_levels=n_levels
        )
    bank = CodebookBank.from_pretrained(name)
    if arm is None:
        raise ValueError(
            f"{name} is a bank of experts {bank.groups}: name an arm, for example "
            'arm="specific-distortion"'
        )
    depth = bank.card.get("route_depth", 1)
    return RoutedQuantizer(bank, arm, depth=depth, n_levels=n_levels)


def register() -> None:
    """Add the plug-in's frontends and quantizer to ESPnet's registries.

    They are `emoq_quantized` (tasks with speech frontends), `emoq_units` (tasks whose
    frontends embed tokens) and the tokenizer quantizer `emoq`; see docs/espnet.md.
    A second call changes nothing; nothing of ESPnet is imported before it is used.

    Raises
    ------
    ValueError
        For a missing or another ESPnet, or where a registry has another class under
        one of these names.
    """
    from emoq_plugin.espnet_adapters.registration import register

    register()
