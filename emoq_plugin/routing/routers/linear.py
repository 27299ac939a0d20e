"""The linear router: a logistic regression on pooled features."""

from collections.abc import Sequence

import torch
from torch import Tensor

from emoq_plugin.core.bank import places_of_classes
from emoq_plugin.routing.base import Choice, Router, RoutingInputs, single
from emoq_plugin.routing.training import FittedRouter, RouterTraining


class LinearRouter(Router):
    """Takes the class that a logistic regression on mean and deviation names."""

    name = "linear"
    of_class = True

    def choose(self, inputs: RoutingInputs, experts: Sequence[str]) -> Choice:
        """Take the class of the highest logit."""
        classes = places_of_classes(experts, inputs.bank.emotions)
        best = self._logits(inputs).argmax(dim=1)
        return single(torch.tensor(classes, device=best.device)[best])

    def posteriors(self, inputs: RoutingInputs) -> Tensor:
        """Return class posteriors, (B, C)."""
        return self._logits(inputs).softmax(dim=1)

    def _logits(self, inputs: RoutingInputs) -> Tensor:
        learned = self.parameters(inputs.bank)
        scaled = (inputs.clips.pooled() - learned["mean"]) / learned["scale"]
        return scaled @ learned["weight"].T + learned["bias"]

    def fit(self, training: RouterTraining) -> FittedRouter:
        """Learn the regression."""
        from emoq_plugin.routing.pooled import PooledClassifier

        classifier = PooledClassifier().fit(training.pooled().numpy(), training.targets)
        return FittedRouter(
            {
                name: torch.from_numpy(value).float()
                for name, value in classifier.parameters().items()
            }
        )
