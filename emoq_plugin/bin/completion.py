"""Print the completion of verbs and options for a shell.

emoq completion bash > ~/.local/share/bash-completion/completions/emoq
"""

import argparse
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Literal

from emoq_plugin.bin._command import add_common
from emoq_plugin.bin._parser import command
from emoq_plugin.bin.main import spelled, summary, verbs
from emoq_plugin.options import POSITIONAL


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """For whom.

    Attributes
    ----------
    shell
        Where the completion is used.
    """

    shell: Annotated[Literal["bash", "zsh", "fish", "tcsh"], POSITIONAL]


def completion(options: CompletionOptions) -> None:
    """Print a script that completes verbs, options, their choices and file names."""
    import shtab

    root = argparse.ArgumentParser(prog="emoq")
    added = root.add_subparsers()
    for verb in verbs():
        parser = import_module(f"emoq_plugin.bin.{verb}").main.get_parser()
        add_common(parser)
        added.add_parser(
            spelled(verb), parents=[parser], add_help=False, help=summary(verb)
        )
        for action in parser._actions:
            if action.choices is None and action.nargs != 0:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(root, options.shell))


main = command(CompletionOptions, completion, __doc__)

if __name__ == "__main__":
    main()
