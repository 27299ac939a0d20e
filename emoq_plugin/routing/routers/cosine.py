"""The routers of arXiv 2603.21224: cosine between time means, and its gain."""

import math
from collections.abc import Sequence

from emoq_plugin.core.bank import BALANCED
from emoq_plugin.routing.base import Choice, Router, RoutingInputs, single


class CosineRouter(Router):
    """Takes the expert whose reconstruction has the nearest time mean.

    "Unfiltered" routing of arXiv 2603.21224. After the normalisation `clip` every time
    mean is zero, and so this score means nothing there.
    """

    name = "cosine"

    def choose(self, inputs: RoutingInputs, experts: Sequence[str]) -> Choice:
        """Take the largest cosine."""
        places = inputs.places(experts)
        return single(inputs.clips.cosine(places, inputs.depth).argmax(dim=1))


class GainRouter(Router):
    """Takes the largest gain in cosine over the balanced codebook, or falls back to it.

    "Filtered" routing of arXiv 2603.21224; the fallback is the balanced codebook, never
    unquantized features.
    """

    name = "gain"
    also = (BALANCED,)

    def side_bits(self, n_experts: int) -> float:
        """Bits of one more route, the fallback."""
        return math.log2(n_experts + 1)

    def choose(self, inputs: RoutingInputs, experts: Sequence[str]) -> Choice:
        """Take the largest cosine if it is above that of the balanced codebook."""
        cosine = inputs.clips.cosine(inputs.places(experts), inputs.depth)
        best = cosine[:, :-1].max(dim=1)
        gains = best.values > cosine[:, -1]
        return single(best.indices.where(gains, len(experts) - 1))
