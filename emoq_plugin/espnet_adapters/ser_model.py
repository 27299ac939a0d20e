"""Emotion recognition model: frontend, encoder, pooling, one linear layer."""

from collections.abc import Sequence

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.asr.specaug.abs_specaug import AbsSpecAug
from espnet2.spk.pooling.abs_pooling import AbsPooling
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from torch.nn.functional import cross_entropy, one_hot

from emoq_plugin.espnet_adapters.clip_tokens import ClipTokens

LOSSES = ("hard", "soft")


class ESPnetSERModel(AbsESPnetModel):
    """Map units to a distribution over emotions.

    Parameters
    ----------
    emotions : sequence of str
        Class order of the targets and the posteriors.
    frontend, specaug, encoder, pooling : modules
        ESPnet's abstract types; `specaug` may be None.
    loss : {"soft", "hard"}, default="soft"
        Cross-entropy against the vote shares, or against their largest share. With
        one-hot targets both are the same.
    label_smoothing : float, default=0.0
        Share of every target that is spread evenly.
    class_weights : sequence of float, optional
        One weight for each emotion in the loss.
    dropout_rate : float, default=0.2
        Before the output layer.
    clip_sizes : sequence of int, optional
        Alphabets of the clip codes that come with the units, see `ClipTokens`.

    Raises
    ------
    ValueError
        For an unknown `loss` or a wrong number of class weights.
    """

    def __init__(
        self,
        emotions: Sequence[str],
        frontend: AbsFrontend,
        specaug: AbsSpecAug | None,
        encoder: AbsEncoder,
        pooling: AbsPooling,
        loss: str = "soft",
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        dropout_rate: float = 0.2,
        clip_sizes: Sequence[int] | None = None,
    ):
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"model_conf loss is '{loss}', expected one of {LOSSES}")
        if class_weights is not None and len(class_weights) != len(emotions):
            raise ValueError(
                f"model_conf class_weights has {len(class_weights)} numbers for "
                f"{len(emotions)} emotions"
            )
        self.emotions = list(emotions)
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights and [float(w) for w in class_weights]
        self.frontend = frontend
        self.clip_tokens = None
        if clip_sizes:
            self.clip_tokens = ClipTokens(clip_sizes, frontend.output_size())
        self.specaug = specaug
        self.encoder = encoder
        self.pooling = pooling
        self.head = torch.nn.Sequential(
            torch.nn.LayerNorm(pooling.output_size()),
            torch.nn.Dropout(dropout_rate),
            torch.nn.Linear(pooling.output_size(), len(self.emotions)),
        )

    def _logits(
        self,
        units: torch.Tensor,
        units_lengths: torch.Tensor,
        route: torch.Tensor | None,
        clip_codes: torch.Tensor | None = None,
        clip_codes_lengths: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if (clip_codes is None) != (self.clip_tokens is None):
            raise ValueError(
                "these units have clip codes, and the model was made for units without"
                if self.clip_tokens is None
                else "the model wants clip codes beside its units, found none"
            )
        units = units[:, : int(units_lengths.max())]
        frames, lengths = self.frontend(units, units_lengths, route)
        if self.specaug is not None and self.training:
            frames, lengths = self.specaug(frames, lengths)
        if self.clip_tokens is not None:
            windows = (clip_codes, clip_codes_lengths)
            frames, lengths = self.clip_tokens(*windows, frames, lengths)
        frames, lengths, _ = self.encoder(frames, lengths)
        return self.head(self.pooling(frames.transpose(1, 2), lengths))

    def forward(
        self,
        units: torch.Tensor,
        units_lengths: torch.Tensor,
        votes: torch.Tensor,
        route: torch.Tensor | None = None,
        clip_codes: torch.Tensor | None = None,
        clip_codes_lengths: torch.Tensor | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Return the loss and the statistics of a batch.

        Macro averages are not reported: a mean over batches would not be the macro
        average of the set. The scorer computes them from the posteriors.

        Parameters
        ----------
        units : (B, T, M * L) int64
            Unit ids, padded with -1.
        units_lengths : (B,) int64
            Frames.
        votes : (B, C) float
            Share of the votes for each emotion, one-hot for hard labels.
        route : (B, M * E) float, optional
            See `UnitsFrontend.forward`.
        clip_codes : (B, N, C) int64, optional
            Padded with -1.
        clip_codes_lengths : (B,) int64, optional
            Windows.

        Returns
        -------
        loss, stats, weight
            As ESPnet's trainer expects; `acc` counts a tie as right for either class.
        """
        if votes.shape[1] != len(self.emotions):
            raise ValueError(
                f"targets have {votes.shape[1]} classes, the model has "
                f"{len(self.emotions)}: {self.emotions}"
            )
        windows = (clip_codes, clip_codes_lengths)
        logits = self._logits(units, units_lengths, route, *windows)
        target = votes
        if self.loss == "hard":
            target = one_hot(votes.argmax(dim=1), len(self.emotions)).to(votes)
        weights = self.class_weights and logits.new_tensor(self.class_weights)
        loss = cross_entropy(
            logits, target, weight=weights, label_smoothing=self.label_smoothing
        )
        chosen = votes.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0]
        correct = chosen >= votes.max(dim=1).values
        stats = {"loss": loss.detach(), "acc": correct.float().mean()}
        return force_gatherable((loss, stats, len(units)), loss.device)

    def collect_feats(
        self,
        units: torch.Tensor,
        units_lengths: torch.Tensor,
        route: torch.Tensor | None = None,
        **kwargs,
    ) -> dict[str, torch.Tensor]:
        """Return the frontend's output for ESPnet's statistics pass."""
        feats, lengths = self.frontend(units, units_lengths, route)
        return {"feats": feats, "feats_lengths": lengths}

    @torch.no_grad()
    def predict(
        self,
        units: torch.Tensor,
        units_lengths: torch.Tensor,
        route: torch.Tensor | None = None,
        clip_codes: torch.Tensor | None = None,
        clip_codes_lengths: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the posteriors, (B, C) float, rows sum to 1; call `eval()` before."""
        windows = (clip_codes, clip_codes_lengths)
        return self._logits(units, units_lengths, route, *windows).softmax(dim=1)
