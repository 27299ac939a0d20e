"""What routers learn about a bank from training clips."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.core.clip_encoding import ClipEncoding
from emoq_plugin.routing.pooled import PooledClassifier
from emoq_plugin.routing.routers import fit_soft_temperature


def fit_routers(
    bank: CodebookBank,
    clips: Iterable[ClipEncoding],
    targets: np.ndarray,
    *,
    depth: int = 1,
) -> dict[str, Tensor]:
    """Fit the linear router and the temperature of the soft one.

    Parameters
    ----------
    bank : CodebookBank
        With the group `specific`.
    clips : iterable of N ClipEncoding
        Training clips.
    targets : (N, C) array
        Their class shares.
    depth : int, default=1
        Levels that routers look at.

    Returns
    -------
    parameters : dict of str to Tensor
        For `CodebookBank.router_parameters`.
    """
    experts = bank.group("specific")
    pooled, distortions = [], []
    for clip in clips:
        pooled.append(clip.pooled())
        distortions.append([clip.distortion(e, depth) for e in experts])
    classifier = PooledClassifier().fit(torch.stack(pooled).numpy(), targets)
    return {
        f"linear.{name}": torch.from_numpy(value.astype(np.float32))
        for name, value in classifier.parameters().items()
    } | {
        "soft.temperature": fit_soft_temperature(
            torch.tensor(distortions), torch.from_numpy(targets)
        )
    }
