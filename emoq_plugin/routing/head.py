"""The emotion head of a quantizer: what its units say of emotion."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from emoq_plugin.batches import in_batches
from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.core.batch_encoding import batch_encoding, decode_batch, masked_pool
from emoq_plugin.routing.base import RoutingInputs
from emoq_plugin.routing.systems import System

if TYPE_CHECKING:
    from emoq_plugin.routing.learn import TrainingClips

PREFIX = "head."


# Factor of the decoded clip code, beside pooled features of unit variance.
CLIP_SCALE = 2.0


def head_inputs(
    bank: CodebookBank,
    codes: Tensor,
    route: Tensor,
    weights: Tensor,
    clip_codes: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return what the head sees of a stream.

    Returns
    -------
    pooled : (B, 2 D + V) Tensor
        Mean and deviation over time of the reconstruction, in normalised features; then
        the V statistics that a clip code gives.
    routes : (B, E) Tensor
        Weight of each expert.
    """
    mask = codes[..., 0] >= 0
    decoded = decode_batch(bank, codes, route, weights, clip_codes)
    pooled = masked_pool(decoded, mask)
    if bank.clip_code is not None:
        pooled = torch.cat([pooled, bank.clip_code.pooled(clip_codes)], dim=1)
    routes = pooled.new_zeros((len(codes), len(bank.experts)))
    return pooled, routes.scatter_(1, route, weights)


def emphasis(dimension: int, n_columns: int) -> np.ndarray:
    """Return the weight of each column that a head sees, (F,).

    Parameters
    ----------
    dimension : int
        D of the features, of which mean and deviation come first.
    n_columns : int
        F; what comes behind is the decoded clip code.
    """
    return np.where(np.arange(n_columns) < 2 * dimension, 1.0, CLIP_SCALE)


def fit_head(
    clips: "TrainingClips",
    bank: CodebookBank,
    system: System,
    *,
    depth: int,
    held_out: Mapping[str, np.ndarray],
) -> dict[str, Tensor]:
    """Fit a logistic regression on the units of the training clips.

    They are routed by speaker-held-out posteriors where the router has them, so that
    the head does not trust routes more than new clips deserve.

    Parameters
    ----------
    clips : TrainingClips
    bank : CodebookBank
        With fitted routers.
    system : System
    depth : int
        Levels that the router looks at.
    held_out : mapping of str to (U, C) array
        By router.

    Returns
    -------
    parameters : dict of str to Tensor
        For `CodebookBank.router_parameters`.
    """
    from emoq_plugin.routing.pooled import PooledClassifier

    bank = bank.subset(system.experts(bank))
    pooled, routes = [], []
    for rows, encoding in _batches(clips, bank):
        posteriors = {k: torch.from_numpy(v[rows]) for k, v in held_out.items()}
        inputs = RoutingInputs(encoding, depth=depth, held_out=posteriors)
        route, weights = system.route(inputs)
        codes = encoding.codes(route, bank.n_levels)
        found = head_inputs(bank, codes, route, weights, encoding.clip_codes)
        pooled.append(found[0])
        routes.append(found[1])
    table = torch.cat(pooled).numpy()
    head = PooledClassifier()
    head.fit(
        table,
        clips.targets,
        torch.cat(routes).numpy(),
        emphasis=emphasis(bank.dimension, table.shape[1]),
    )
    return {
        PREFIX + name: torch.from_numpy(value).float()
        for name, value in head.parameters().items()
    }


def _batches(clips: "TrainingClips", bank: CodebookBank) -> Iterator:
    rows = ((n, clips.lengths[u]) for n, u in enumerate(clips.utterances))
    for batch in in_batches(rows):
        names = [clips.utterances[n] for n in batch]
        # A copy: a clip of a temporary file is mapped, not read.
        frames = [torch.from_numpy(np.array(clips.features[u])) for u in names]
        means = [clips.means(u) for u in names]
        yield (
            np.array(batch),
            batch_encoding(
                bank,
                torch.nn.utils.rnn.pad_sequence(frames, batch_first=True),
                torch.tensor([len(f) for f in frames]),
                speaker_mean=None if means[0] is None else torch.stack(means),
            ),
        )


def has_head(bank: CodebookBank) -> bool:
    """Return whether the bank of a quantizer has an emotion head."""
    return f"{PREFIX}weight" in bank.router_parameters


def posteriors(
    bank: CodebookBank,
    codes: Tensor,
    route: Tensor,
    weights: Tensor,
    clip_codes: Tensor | None = None,
) -> Tensor:
    """Return class posteriors of a stream, (B, C).

    Raises
    ------
    ValueError
        If the quantizer has no head.
    """
    learned = bank.router_parameters
    if not has_head(bank):
        raise ValueError(
            "this quantizer has no emotion head: it was learned without labels, or by "
            "a recipe, whose scores are in RESULTS.md"
        )
    pooled, routes = head_inputs(bank, codes, route, weights, clip_codes)
    mean, scale, weight, bias = (
        learned[PREFIX + name] for name in ("mean", "scale", "weight", "bias")
    )
    scaled = torch.cat([(pooled - mean) / scale, routes], dim=1)
    return (scaled @ weight.T + bias).softmax(dim=1)
