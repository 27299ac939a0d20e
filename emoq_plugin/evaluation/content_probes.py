"""Linear probes of what reconstructions keep beside emotion: phones and speakers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from emoq_plugin.data.directory import DataDirectory

# Frames that the phone probe learns from, evenly spaced: neighbours are alike.
MAX_FRAMES = 20000
PHONE_PENALTY = 1e-3  # both fixed on log-mel features, before any unit was probed
SPEAKER_SHRINKAGE = 0.1
MAX_ITERATIONS = 40  # the loss has settled
# Directions with less than this share of the largest variance are left out: rows of
# few distinct vectors span few directions.
SMALLEST_VARIANCE = 1e-6


@dataclass(frozen=True)
class LinearProbe:
    """Decides for the class with the largest ``rows @ weight + bias``.

    Attributes
    ----------
    weight : (D, C) Tensor
    bias : (C,) Tensor
    """

    weight: Tensor
    bias: Tensor

    def predict(self, rows: Tensor) -> Tensor:
        """Return the classes (N,) of rows (N, D)."""
        return torch.addmm(self.bias, rows, self.weight).argmax(dim=1)


def fit_softmax(
    rows: Tensor, counts: Tensor, *, penalty: float = PHONE_PENALTY
) -> LinearProbe:
    """Fit a multinomial logistic regression to counts of labels for each row.

    Rows are standardised and whitened first: quasi-Newton steps (L-BFGS) are few, the
    penalty does not depend on the scale, and there may be fewer distinct rows than
    dimensions (then the probe is a table of the most frequent label by row).

    Parameters
    ----------
    rows : (R, D) float32 Tensor
        Distinct vectors (or frames).
    counts : (R, C) float32 Tensor
        How often each row has each label.
    penalty : float, default=PHONE_PENALTY
        Factor of the squared weights, beside the mean cross-entropy.

    Returns
    -------
    probe : LinearProbe
    """
    shares = counts / counts.sum()
    mass = shares.sum(dim=1, keepdim=True)  # (R, 1)
    mean = (mass * rows).sum(dim=0)
    centred = rows - mean
    scale = (mass * centred.square()).sum(dim=0).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    centred /= scale
    variance, axes = torch.linalg.eigh(((mass * centred).T @ centred).double())
    kept = variance > SMALLEST_VARIANCE * variance[-1].clamp_min(1e-12)
    whiten = (axes[:, kept] / variance[kept].sqrt()).float()  # (D, D')
    inputs = torch.cat([centred @ whiten, torch.ones_like(mass)], dim=1)
    shape = inputs.shape[1], counts.shape[1]
    decay = torch.full((shape[0], 1), penalty)
    decay[-1] = 0  # the bias is free

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        solution = torch.from_numpy(flat.astype(np.float32)).view(shape)
        logs = torch.log_softmax(inputs @ solution, dim=1)
        value = (decay * solution.square()).sum() - (shares * logs).sum()
        slope = inputs.T @ (logs.exp_().mul_(mass).sub_(shares))
        slope += 2 * decay * solution
        return float(value), slope.flatten().numpy().astype(np.float64)

    found = minimize(
        loss,
        np.zeros(shape[0] * shape[1]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_ITERATIONS},
    )
    solution = torch.from_numpy(found.x.astype(np.float32)).view(shape)
    weight = whiten @ solution[:-1] / scale[:, None]
    return LinearProbe(weight, solution[-1] - mean @ weight)


def fit_discriminant(
    rows: Tensor,
    labels: Tensor,
    n_classes: int,
    *,
    shrinkage: float = SPEAKER_SHRINKAGE,
) -> LinearProbe:
    """Fit a linear discriminant with a shrunken covariance, in closed form.

    Fisher's rule on standardised rows; the covariance within classes is
    ``(1 - s) S + s (trace S / D) I`` (Friedman 1989, "Regularized discriminant
    analysis"), which has an inverse with fewer rows than dimensions, too. Classes are
    equally likely.

    Parameters
    ----------
    rows : (N, D) Tensor
    labels : (N,) int64 Tensor
    n_classes : int
        C; a class without rows is never chosen.
    shrinkage : float, default=SPEAKER_SHRINKAGE

    Returns
    -------
    probe : LinearProbe
    """
    rows = rows.double()
    mean, scale = rows.mean(dim=0), rows.std(dim=0, correction=0)
    scale = torch.where(scale > 1e-6 * scale.max(), scale, torch.inf)
    rows = (rows - mean) / scale
    member = torch.nn.functional.one_hot(labels, n_classes).double()
    size = member.sum(dim=0)
    centres = (member.T @ rows) / size.clamp_min(1)[:, None]  # (C, D)
    within = rows - centres[labels]
    covariance = (1 - shrinkage) * within.T @ within / len(rows)
    level = covariance.trace() / len(covariance) + 1e-9
    covariance.diagonal().add_(level * shrinkage / (1 - shrinkage))
    weight = torch.linalg.solve(covariance, centres.T)  # (D, C)
    bias = -0.5 * (centres.T * weight).sum(dim=0)
    bias[size == 0] = -torch.inf
    weight = weight / scale[:, None]
    return LinearProbe(weight.float(), (bias - mean @ weight).float())


@dataclass(frozen=True)
class PhoneTask:
    """Labelled frames that the phone probe learns from and is tested on.

    Attributes
    ----------
    n_phones : int
    train, test : dict of str to (F,) int64 array
        Frames of each clip that are used.
    train_labels, test_labels : (sum of F,) int64 array
        Of these frames, clip behind clip.
    """

    n_phones: int
    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    train_labels: np.ndarray
    test_labels: np.ndarray

    @classmethod
    def build(
        cls,
        labels: Mapping[str, np.ndarray],
        *,
        n_phones: int,
        train: Sequence[str],
        test: Sequence[str],
        max_frames: int = MAX_FRAMES,
    ) -> "PhoneTask | None":
        """Choose the frames.

        Parameters
        ----------
        labels : mapping of str to (T,) int array
            -1 where a frame has none; clips may be missing.
        n_phones : int
        train, test : sequence of str
            Clips.
        max_frames : int, default=MAX_FRAMES

        Returns
        -------
        task : PhoneTask or None
            None if one of the two parts has no labelled frame.
        """
        train, test = ([u for u in part if u in labels] for part in (train, test))
        tested = {u: np.flatnonzero(labels[u] >= 0) for u in test}
        learned = {u: np.flatnonzero(labels[u] >= 0) for u in train}
        total = sum(map(len, learned.values()))
        if not total or not sum(map(len, tested.values())):
            return None
        chosen = np.zeros(total, dtype=bool)
        chosen[np.linspace(0, total - 1, min(total, max_frames)).astype(int)] = True
        parts = np.split(chosen, np.cumsum([len(f) for f in learned.values()])[:-1])
        learned = {u: f[part] for (u, f), part in zip(learned.items(), parts)}

        def chain(frames: Mapping[str, np.ndarray]) -> np.ndarray:
            return np.concatenate([labels[u][f] for u, f in frames.items()])

        return cls(n_phones, learned, tested, chain(learned), chain(tested))

    def score(self, rows: Tensor, train: np.ndarray, test: np.ndarray) -> dict:
        """Train the probe and count what it gets right.

        Parameters
        ----------
        rows : (R, D) float32 Tensor
            Distinct vectors.
        train, test : int arrays
            Row of each frame of `train_labels` and `test_labels`.

        Returns
        -------
        counts : dict
            ``utterances``, and for each ``correct`` and ``total`` frames; ``chance``,
            the share that is right if every frame is the most frequent phone.
        """
        used, row = np.unique(train, return_inverse=True)
        conditions = np.bincount(
            row * self.n_phones + self.train_labels, minlength=len(used) * self.n_phones
        ).reshape(len(used), self.n_phones)
        probe = fit_softmax(
            rows[torch.from_numpy(used)],
            torch.from_numpy(conditions.astype(np.float32)),
        )
        right = probe.predict(rows).numpy()[test] == self.test_labels
        clip = np.repeat(np.arange(len(self.test)), [*map(len, self.test.values())])
        n_clips = len(self.test)
        return {
            "utterances": list(self.test),
            "correct": np.bincount(clip[right], minlength=n_clips).tolist(),
            "total": np.bincount(clip, minlength=n_clips).tolist(),
            "chance": float(
                np.mean(self.test_labels == np.bincount(self.train_labels).argmax())
            ),
        }


def halves(groups: Sequence[str]) -> np.ndarray:
    """Split clips in two by group (their text): every second group, 0 or 1 by clip."""
    order = {group: i for i, group in enumerate(sorted(set(groups)))}
    return np.array([order[group] % 2 for group in groups])


@dataclass(frozen=True)
class SpeakerTask:
    """Identification among all speakers of the corpus, on texts not heard before.

    A probe learns from all speakers' clips of one half of the texts; tested are the
    clips of the other half that belong to `tested`; then the halves change places. So
    the codebooks have not seen the tested speakers, and the probe not their clips.

    Attributes
    ----------
    utterances : list of N str
    speakers : (N,) int64 array
    half : (N,) int array
        0 or 1, see `halves`.
    tested : (N,) bool array
        Clips of the test speakers.
    """

    utterances: list[str]
    speakers: np.ndarray
    half: np.ndarray
    tested: np.ndarray

    def score(self, pooled: np.ndarray) -> dict:
        """Train both probes and return which test clips they get right.

        Parameters
        ----------
        pooled : (N, F) array

        Returns
        -------
        counts : dict
            ``utterances`` and ``correct`` (0 or 1); a clip whose speaker has no clip in
            the other half is left out.
        """
        rows, speakers = torch.from_numpy(pooled), torch.from_numpy(self.speakers)
        correct = np.full(len(rows), -1)
        for half in (0, 1):
            train = np.flatnonzero(self.half != half)
            known = np.isin(self.speakers, self.speakers[train])
            test = np.flatnonzero((self.half == half) & self.tested & known)
            if not len(test):
                continue
            n_speakers = int(self.speakers.max()) + 1
            probe = fit_discriminant(rows[train], speakers[train], n_speakers)
            correct[test] = (probe.predict(rows[test]) == speakers[test]).numpy()
        scored = np.flatnonzero(correct >= 0)
        return {
            "utterances": [self.utterances[i] for i in scored],
            "correct": correct[scored].tolist(),
        }


def speaker_task(
    data: DataDirectory, clips: Sequence[str], tested: Sequence[str]
) -> SpeakerTask:
    """Make the task of the speaker probe: halves by text, or by clip without text."""
    # Tables that say which clips share a text, best first.
    tables = [data.extra.get("utt2sentence", {}), data.text]
    text = next(
        (t for t in tables if all(u in t for u in clips)), {u: u for u in clips}
    )
    names = sorted({data.speaker[u] for u in clips})
    return SpeakerTask(
        utterances=list(clips),
        speakers=np.array([names.index(data.speaker[u]) for u in clips]),
        half=halves([text[u] for u in clips]),
        tested=np.isin(clips, tested),
    )
