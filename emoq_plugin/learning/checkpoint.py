"""What a restart of the learning needs, in one file."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from emoq_plugin.files import atomic_write


@dataclass
class Progress:
    """Everything that a restart needs: learned levels and the state of this one."""

    identity: str  # which call made it
    codebooks: list[Tensor]  # finished (or, for ema, moving) levels, each (E, K_l, D)
    current: Tensor | None  # (E, K_l, D) of the level being learned
    averages: list[Tensor]  # ema: counts (E, K_l) and sums (E, K_l, D) of every level
    best: list[Tensor]  # ema: codebooks of each expert's best pass
    iteration: int
    objective: list[float]  # of the last (ema: best) pass, for each expert
    waited: list[int]  # passes without improvement; -1 = has stopped
    units: list[float]  # of the sums of this level, for each expert, see lloyd.py
    log: list[dict]

    def save(self, path: Path) -> None:
        """Write one file, aside first."""
        lists = {"codebooks": self.codebooks, "averages": self.averages}
        lists |= {"best": self.best}
        tensors = {
            f"{name}.{i}": tensor.contiguous()
            for name, group in lists.items()
            for i, tensor in enumerate(group)
        }
        if self.current is not None:
            tensors["current"] = self.current.contiguous()
        notes = {
            "identity": self.identity,
            "iteration": self.iteration,
            "objective": self.objective,
            "waited": self.waited,
            "units": self.units,
            "log": self.log,
        }
        with atomic_write(path, "wb") as stream:
            stream.write(save(tensors, {"progress": json.dumps(notes)}))

    @classmethod
    def load(cls, path: Path, device: torch.device) -> "Progress":
        """Read the file of `save`; any error of a reader for one that is damaged."""
        with safe_open(path, "pt", device=str(device)) as tensors:
            notes = json.loads(tensors.metadata()["progress"])
            names = sorted(tensors.keys(), key=lambda n: int(n.partition(".")[2] or 0))

            def group(prefix: str) -> list[Tensor]:
                return [
                    tensors.get_tensor(n) for n in names if n.startswith(f"{prefix}.")
                ]

            current = tensors.get_tensor("current") if "current" in names else None
            lists = {n: group(n) for n in ("codebooks", "averages", "best")}
        return cls(current=current, **lists, **notes)


def resume(
    path: Path | None, identity: str, n_experts: int, device: torch.device
) -> Progress:
    """Read where the same call has stopped, or begin.

    Parameters
    ----------
    path : Path or None
    identity : str
        Of the call; a file of another one is not used, which the log says.
    n_experts : int
    device : torch.device
    """
    if path and path.exists():
        try:
            found = Progress.load(path, device)
        except Exception as error:  # whatever garbage raises
            logging.warning("%s is damaged (%s): starting again", path, error)
        else:
            if found.identity == identity:
                place = (len(found.codebooks), found.iteration)
                logging.info("resuming at level %d, iteration %d", *place)
                return found
            logging.warning("%s is of another call: starting again", path)
    infinite = [float("inf")] * n_experts
    begin = [0] * n_experts, [0.0] * n_experts
    return Progress(identity, [], None, [], [], 0, infinite, *begin, [])
