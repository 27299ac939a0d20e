"""The calibrated router: class posteriors from evidence."""

from collections.abc import Sequence

import torch
from torch import Tensor

from emoq_plugin.core.bank import places_of_classes
from emoq_plugin.routing.base import Choice, Router, RoutingInputs, single
from emoq_plugin.routing.evidence import evidence, posteriors
from emoq_plugin.routing.training import FittedRouter, RouterTraining


class CalibratedRouter(Router):
    """Takes the class of highest posterior; looks at features, not at the levels."""

    name = "calibrated"
    of_class = True
    shared = True

    def choose(self, inputs: RoutingInputs, experts: Sequence[str]) -> Choice:
        """Take the class of the highest posterior, speaker-held-out where there is."""
        classes = places_of_classes(experts, inputs.bank.emotions)
        held_out = inputs.held_out.get(self.name)
        if held_out is None:
            found = self.posteriors(inputs)
        elif held_out.isnan().any():
            found = self.posteriors(inputs).to(held_out)
            found = torch.where(held_out.isnan(), found, held_out)
        else:
            found = held_out
        best = found.argmax(dim=1)
        return single(torch.tensor(classes, device=best.device)[best])

    def posteriors(self, inputs: RoutingInputs) -> Tensor:
        """Return class posteriors, (B, C) float64."""
        learned = self.parameters(inputs.bank)
        clips = inputs.clips
        return posteriors(learned, evidence(learned, clips.normalised, clips.lengths))

    def fit(self, training: RouterTraining) -> FittedRouter:
        """Learn, and give the speaker-held-out posteriors of the training clips."""
        from emoq_plugin.routing.fit_calibrated import fit_calibrated

        parameters, held_out = fit_calibrated(
            training.read,
            training.targets,
            training.speakers,
            n_frames=training.n_frames,
            frame_rate_hz=training.frame_rate_hz,
            settings=training.settings.get(self.name),
        )
        return FittedRouter(parameters, held_out)
