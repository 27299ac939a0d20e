"""Emo-Q: emotion-aware discrete speech units that keep emotion."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emoq_plugin.estimator import EmoQuantizer
    from emoq_plugin.speech.pipeline import SpeechToUnits

__version__ = "0.1.0"

# OpenMP's threads wait for each other by spinning, which on a busy machine takes the
# processor from those they wait for, and sleep only after some 100 ms. So few turns are
# microseconds: long enough for the next operation. Read once, when torch is loaded.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"


__all__ = ["EmoQuantizer", "SpeechToUnits", "load", "register"]
# What is imported when it is first asked for: torch alone takes two seconds.
_LAZY = {
    "EmoQuantizer": "emoq_plugin.estimator",
    "SpeechToUnits": "emoq_plugin.speech.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'emoq_plugin' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])


def load(
    name: str,
    *,
    system: str | None = None,
    n_levels: int | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    device: str = "cpu",
    check: bool = True,
) -> Any:
    """Load a quantizer from the package, a directory or a Hugging Face hub repository.

    Parameters
    ----------
    name : str
        Directory of an artifact, one that comes with the package, such as
        ``emodb-fbank`` (see ``emoq quantizers``), or ``owner/name`` on the hub.
    system : str, optional
        For a bank of experts: ``balanced`` or ``<expert set>-<router>``, such as
        ``specific-distortion``. A saved `RoutedQuantizer` knows its own.
    n_levels : int, optional
        Levels of the code stream; all that were learned when None.
    revision : str, optional
        Branch, tag or commit on the hub.
    token : str or bool, optional
        For a private repository; True takes the one that is logged in.
    device : str, default="cpu"
        torch device; ``auto`` is the GPU where there is one.
    check : bool, default=True
        Whether golden frames must get the codes that the maker of the quantizer got;
        artifacts of before there were any are not checked.

    Returns
    -------
    quantizer : RoutedQuantizer

    Raises
    ------
    ValueError
        If it is no artifact, is damaged, is a bank and no system is named, has fewer
        levels, or gives other codes here than where it was made.
    """
    from emoq_plugin.core.artifact import (
        CONFIG,
        GOLDEN,
        artifact_type,
        local_directory,
    )
    from emoq_plugin.core.bank import CodebookBank
    from emoq_plugin.core.golden import check_golden_codes
    from emoq_plugin.devices import pick_device
    from emoq_plugin.files import read_json
    from emoq_plugin.routing.quantizer import RoutedQuantizer

    directory = local_directory(name, revision, token)
    device = pick_device(device, 1)
    if artifact_type(directory) == "RoutedQuantizer":
        quantizer = RoutedQuantizer.from_pretrained(directory)
        bank, depth = quantizer.bank, quantizer.depth
        system = system or quantizer.system.name
        n_levels = quantizer.n_levels if n_levels is None else n_levels
    else:
        bank = CodebookBank.from_pretrained(directory)
        depth = bank.card.get("route_depth", 1)
    if system is None:
        raise ValueError(
            f"{name} is a bank of experts {bank.expert_sets}: name a system, such as "
            'system="specific-distortion"'
        )
    quantizer = RoutedQuantizer(bank, system, depth=depth, n_levels=n_levels)
    quantizer = quantizer.to(device)
    recorded = read_json(directory / CONFIG).get(GOLDEN, {})
    if check and recorded:
        check_golden_codes(quantizer.golden(), recorded, str(name))
    return quantizer


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
