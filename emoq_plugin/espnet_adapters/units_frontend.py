"""Frontend `emoq_units`: unit ids become their codebook vectors, plus the route."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from espnet2.asr.frontend.abs_frontend import AbsFrontend

from emoq_plugin.core.normalization import Float32Buffers
from emoq_plugin.espnet_adapters.portable import keep_exact

LEVEL_MODES = ("sum", "concat", "learned")
EMBEDDINGS = ("tied", "initialised", "random")


def sha256_of_codebook(codebook: torch.Tensor) -> str:
    """Return the SHA-256 of one level's codewords, whatever their device and dtype.

    Parameters
    ----------
    codebook : (E, K, D) tensor
        Hashed as little-endian float32 in C order, after its shape.
    """
    values = codebook.detach().cpu().float().contiguous().numpy().astype("<f4")
    digest = hashlib.sha256(str(values.shape).encode())
    digest.update(values.tobytes())
    return digest.hexdigest()


def load_bank(quantizer: str | Path, *, codebooks_sha256: str | None = None) -> Any:
    """Load the `CodebookBank` that made some units, or that of a `RoutedQuantizer`.

    Raises
    ------
    ValueError
        If its codebooks are not the ones declared.
    """
    from emoq_plugin.core import CodebookBank
    from emoq_plugin.core.artifact import artifact_type
    from emoq_plugin.routing.quantizer import RoutedQuantizer

    if artifact_type(quantizer) == "RoutedQuantizer":
        bank = RoutedQuantizer.from_pretrained(quantizer).bank
    else:
        bank = CodebookBank.from_pretrained(quantizer)
    if codebooks_sha256 not in (None, bank.codebooks_sha256):
        raise ValueError(
            f"{quantizer} has codebooks {bank.codebooks_sha256}, the units were made "
            f"with {codebooks_sha256}: give the quantizer that made the units"
        )
    return bank


def select_codebooks(
    bank: Any, experts: Sequence[str] | None = None, *, n_levels: int | None = None
) -> list[torch.Tensor]:
    """Take some experts and the first levels out of a bank.

    Parameters
    ----------
    bank : CodebookBank
        `experts` (names) and `codebooks` (one (E, K, D) tensor for each level).
    experts : sequence of str, optional
        Names in the order of the units' route; all of the bank by default.
    n_levels : int, optional
        All of the bank by default.

    Raises
    ------
    ValueError
        If the bank lacks an expert or has fewer levels.
    """
    known = list(bank.experts)
    unknown = [name for name in experts or [] if name not in known]
    if unknown:
        raise ValueError(
            f"the quantizer has no expert {unknown}, it has {known}: "
            "give the quantizer that made the units"
        )
    if n_levels is not None and not 1 <= n_levels <= len(bank.codebooks):
        raise ValueError(
            f"the units have {n_levels} levels, the quantizer has "
            f"{len(bank.codebooks)}: give the quantizer that made the units"
        )
    rows = [known.index(name) for name in experts or known]
    return [level.detach()[rows].clone().float() for level in bank.codebooks[:n_levels]]


class UnitsFrontend(Float32Buffers, AbsFrontend):
    """Embed unit ids by the vectors of the codebooks that made them.

    The codebooks are buffers: no optimiser, no `init` and no `half` touches them. Their
    SHA-256 is in the configuration and is compared after every `load_state_dict`, so a
    checkpoint that lacks them or holds others is refused even with `strict=False`.

    Parameters
    ----------
    quantizer : str, optional
        Directory of the `CodebookBank`; needed once, to start a training.
    experts : list of str, optional
        The units' experts in the order of the route; all of the bank by default.
    n_levels : int, optional
        Levels of the units; all of the bank by default.
    quantizer_sha256 : str, optional
        `codebooks_sha256` of the whole bank.
    codebook_sizes : list of int, optional
        K of every level; without `quantizer` it shapes the empty codebooks that a
        checkpoint fills.
    dimension : int, optional
        D of the codewords, without `quantizer`.
    codebooks_sha256 : list of str, optional
        One for each level, over the chosen experts only.
    level_mode : {"sum", "concat", "learned"}, default="sum"
        `sum` is the quantizer's reconstruction; `learned` weighs the levels, starting
        from the sum; `concat` keeps them apart.
    stack : int, default=1
        Neighbouring frames that are projected together to one, so that the encoder
        sees ceil(T / stack) frames; the last is filled with zeros.
    output_size : int, default=64
        Dimension after the projection.
    use_route : bool, default=True
        Add a learned embedding of the route after the projection.
    embedding : {"tied", "initialised", "random"}, default="tied"
        Embed by the codewords as they are, by vectors that start from them and are
        trained, or by trained vectors that start at random.

    Raises
    ------
    ValueError
        For an unknown `level_mode` or `embedding`, a `stack` below 1, codebooks that
        are not the declared ones, or when neither `quantizer` nor the shapes are given.
    """

    def __init__(
        self,
        quantizer: str | None = None,
        experts: list | None = None,
        n_levels: int | None = None,
        quantizer_sha256: str | None = None,
        codebook_sizes: list | None = None,
        dimension: int | None = None,
        codebooks_sha256: list | None = None,
        level_mode: str = "sum",
        stack: int = 1,
        output_size: int = 64,
        use_route: bool = True,
        embedding: str = "tied",
    ):
        super().__init__()
        if level_mode not in LEVEL_MODES:
            raise ValueError(f"level_mode is '{level_mode}', expected {LEVEL_MODES}")
        if embedding not in EMBEDDINGS:
            raise ValueError(f"embedding is '{embedding}', expected {EMBEDDINGS}")
        if stack < 1:
            raise ValueError(f"stack is {stack}, expected at least 1 frame")
        self.level_mode = level_mode
        self.stack = stack
        self.quantizer_sha256 = quantizer_sha256
        if quantizer is not None:
            codebooks = self._from_quantizer(quantizer, experts, n_levels)
        elif experts and codebook_sizes and dimension and codebooks_sha256:
            self.experts = list(experts)
            codebooks = [
                torch.zeros(len(experts), size, dimension) for size in codebook_sizes
            ]
        else:
            raise ValueError(
                "frontend_conf needs 'quantizer' (a directory) or all of 'experts', "
                "'codebook_sizes', 'dimension' and 'codebooks_sha256'"
            )
        self.codebook_sizes = [level.shape[1] for level in codebooks]
        self.dimension = codebooks[0].shape[2]
        for level, codebook in enumerate(codebooks):
            self.register_buffer(f"codebook_{level}", codebook)
        if codebooks_sha256 is None:
            codebooks_sha256 = [sha256_of_codebook(level) for level in codebooks]
        self.codebooks_sha256 = list(codebooks_sha256)
        if quantizer is not None:
            self.verify_codebooks(f"the quantizer {quantizer}")

        n_levels = len(codebooks)
        self.register_buffer(
            "offset", torch.zeros(n_levels, self.dimension), persistent=False
        )
        self.register_buffer("scale", torch.ones(n_levels), persistent=False)
        self._standardise()
        self.register_load_state_dict_post_hook(_after_load)
        self.register_state_dict_post_hook(keep_exact)
        self.embedding = embedding
        self.vectors = None
        if embedding != "tied":
            self.vectors = torch.nn.ParameterList(map(torch.zeros_like, codebooks))
            self.espnet_initialization_fn()

        if level_mode == "learned":
            self.level_weight = torch.nn.Parameter(torch.ones(n_levels))
        inputs = self.dimension * (n_levels if level_mode == "concat" else 1)
        self.projection = torch.nn.Linear(stack * inputs, output_size)
        self.route_embedding = (
            torch.nn.Linear(len(self.experts), output_size, bias=False)
            if use_route
            else None
        )
        self._output_size = output_size

    @classmethod
    def of_bank(
        cls,
        bank: Any,
        *,
        n_levels: int | None = None,
        levels_sha256: list | None = None,
        **conf: Any,
    ) -> "UnitsFrontend":
        """Make a frontend from a bank at hand.

        Parameters
        ----------
        bank : CodebookBank
        n_levels : int, optional
        levels_sha256 : list of str, optional
            Where the bank is still empty: those of the checkpoint to come.
        **conf
            Options of the constructor.
        """
        codebooks = select_codebooks(bank, n_levels=n_levels)
        frontend = cls(
            experts=list(bank.experts),
            codebook_sizes=[level.shape[1] for level in codebooks],
            dimension=bank.dimension,
            codebooks_sha256=levels_sha256 or [*map(sha256_of_codebook, codebooks)],
            **conf,
        )
        for mine, codebook in zip(frontend.codebooks, codebooks):
            mine.copy_(codebook)
        frontend._standardise()
        frontend.espnet_initialization_fn()
        return frontend

    def _from_quantizer(
        self, quantizer: str, experts: list | None, n_levels: int | None
    ) -> list[torch.Tensor]:
        bank = load_bank(quantizer, codebooks_sha256=self.quantizer_sha256)
        self.quantizer_sha256 = bank.codebooks_sha256
        self.experts = list(experts or bank.experts)
        return select_codebooks(bank, self.experts, n_levels=n_levels)

    @property
    def codebooks(self) -> list[torch.Tensor]:
        """The levels' codewords, (E, K, D) each."""
        return [
            getattr(self, f"codebook_{level}")
            for level in range(len(self.codebook_sizes))
        ]

    def output_size(self) -> int:
        """Return the dimension of a frame."""
        return self._output_size

    def portable_conf(self) -> dict[str, Any]:
        """Return the part of `frontend_conf` that rebuilds this without quantizer."""
        return {
            "quantizer": None,
            "experts": list(self.experts),
            "n_levels": len(self.codebook_sizes),
            "quantizer_sha256": self.quantizer_sha256,
            "codebook_sizes": list(self.codebook_sizes),
            "dimension": self.dimension,
            "codebooks_sha256": list(self.codebooks_sha256),
        }

    def verify_codebooks(self, source: str = "the model") -> None:
        """Compare the codebooks with the SHA-256 of the configuration.

        Raises
        ------
        ValueError
            Naming the first level that differs.
        """
        if len(self.codebooks_sha256) != len(self.codebook_sizes):
            raise ValueError(
                f"codebooks_sha256 has {len(self.codebooks_sha256)} entries for "
                f"{len(self.codebook_sizes)} levels"
            )
        for level, codebook in enumerate(self.codebooks):
            found, expected = sha256_of_codebook(codebook), self.codebooks_sha256[level]
            if found != expected:
                raise ValueError(
                    f"codebook of level {level} of {source} has sha256 {found}, "
                    f"frontend_conf expects {expected}: the checkpoint or quantizer "
                    "is damaged, averaged over epochs, or belongs to other units"
                )

    def espnet_initialization_fn(self) -> None:
        """Start the trained vectors; ESPnet calls this after its own `init`."""
        if self.vectors is None:
            return
        with torch.no_grad():
            for level, vectors in enumerate(self.vectors):
                if self.embedding == "random":
                    vectors.normal_()
                else:
                    vectors.copy_(self._standard(level))

    def _standard(self, level: int) -> torch.Tensor:
        """Return the standardised (E, K, D) codewords of a level."""
        return (self.codebooks[level] - self.offset[level]) / self.scale[level]

    def _standardise(self) -> None:
        # Codewords keep the features' scale (log-mel: several nats); the projection
        # starts well only from about unit variance. Derived from the codebooks, so
        # nothing more has to be saved.
        mean = torch.stack([level.mean(dim=(0, 1)) for level in self.codebooks])
        variance = torch.stack(
            [
                (level - centre).square().mean()
                for level, centre in zip(self.codebooks, mean)
            ]
        )
        if self.level_mode != "concat":
            variance = variance.sum().expand(len(variance))
        self.offset.copy_(mean)
        self.scale.copy_(variance.sqrt().clamp(min=1e-5))

    def _check_ids(self, codes: torch.Tensor, valid: torch.Tensor) -> None:
        for level, size in enumerate(self.codebook_sizes):
            ids = codes[..., level]  # (B, T, M)
            bad = ((ids < 0) | (ids >= size)) & valid[:, :, None]
            if bad.any():
                row, frame, _ = bad.nonzero()[0].tolist()
                raise ValueError(
                    f"level {level}: unit id {ids[bad][0].item()} in row {row}, frame "
                    f"{frame} is outside the codebook of K={size} codewords: were the "
                    "units made with this quantizer?"
                )

    def _embed_levels(
        self, codes: torch.Tensor, expert: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        frames = []
        for level, codebook in enumerate(self.codebooks):
            ids = codes[..., level].clamp(0, codebook.shape[1] - 1)
            table = self.vectors[level] if self.vectors else self._standard(level)
            vectors = table[expert[:, None, :], ids].to(weight)  # (B, T, M, D)
            frames.append(torch.einsum("btmd,bm->btd", vectors, weight))
        if self.level_mode == "concat":
            return torch.cat(frames, dim=-1)  # (B, T, L * D)
        levels = torch.stack(frames)  # (L, B, T, D)
        if self.level_mode == "learned":
            return torch.einsum("lbtd,l->btd", levels, self.level_weight)
        return levels.sum(dim=0)

    def forward(
        self,
        input: torch.Tensor,
        input_lengths: torch.Tensor,
        route: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed unit ids.

        Parameters
        ----------
        input : (B, T, M * L) or (B, T) int64
            Ids, the L levels of the first mixed expert before those of the second;
            padded with anything, for example -1.
        input_lengths : (B,) int64
            Frames of each utterance.
        route : (B, M * E) float, optional
            For each of the M mixed experts a row of E numbers that holds its weight at
            its place; M is 1 and the row one-hot when routed hard. May be left out
            when there is one expert only.

        Returns
        -------
        frames : (B, ceil(T / stack), output_size) float
            Zero where padded.
        lengths : (B,) int64
            Of `frames`.

        Raises
        ------
        ValueError
            For ids outside the codebook and shapes that do not fit.
        """
        if input.dim() == 2:
            input = input[..., None]
        n_batch, n_frames, width = input.shape
        n_levels, n_experts = len(self.codebook_sizes), len(self.experts)
        if route is None:
            if n_experts != 1:
                raise ValueError(
                    f"no route given, needed to choose among {n_experts} experts"
                )
            route = self.offset.new_ones(n_batch, 1)
        n_mixed = route.shape[1] // n_experts
        if n_mixed * n_experts != route.shape[1] or n_mixed * n_levels != width:
            raise ValueError(
                f"units have {width} ids a frame and the route {route.shape[1]} "
                f"numbers; expected M * {n_levels} (levels) and M * {n_experts} "
                "(experts) with the same M"
            )
        route = route.view(n_batch, n_mixed, n_experts).to(self.projection.weight)
        codes = input.view(n_batch, n_frames, n_mixed, n_levels).long()
        valid = _valid_frames(input_lengths, n_frames, input.device)
        self._check_ids(codes, valid)

        frames = self._embed_levels(codes, route.argmax(dim=-1), route.sum(dim=-1))
        frames = frames.masked_fill(~valid[..., None], 0.0)
        lengths = input_lengths
        if self.stack > 1:
            lengths = lengths.add(self.stack - 1).div(self.stack, rounding_mode="floor")
            filled = torch.nn.functional.pad(frames, (0, 0, 0, -n_frames % self.stack))
            frames = filled.reshape(n_batch, -1, self.stack * frames.shape[2])
            valid = _valid_frames(lengths, frames.shape[1], input.device)
        frames = self.projection(frames)
        if self.route_embedding is not None:
            frames = frames + self.route_embedding(route.sum(dim=1))[:, None]
        return frames.masked_fill(~valid[..., None], 0.0), lengths


def _valid_frames(
    lengths: torch.Tensor, n_frames: int, device: torch.device
) -> torch.Tensor:
    steps = torch.arange(n_frames, device=device)
    return steps < lengths.to(device)[:, None]  # (B, T)


def _after_load(frontend: UnitsFrontend, incompatible_keys: Any) -> None:
    """Refuse what `load_state_dict(strict=False)` would let pass."""
    missing = [
        key
        for key in incompatible_keys.missing_keys
        if key.rpartition(".")[2].startswith("codebook_")
    ]
    if missing:
        raise ValueError(
            f"the checkpoint has no codebooks: {', '.join(missing)} missing"
        )
    frontend.verify_codebooks("the checkpoint")
    frontend._standardise()
