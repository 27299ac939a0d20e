"""Frontend `emoq_units` of the discrete-token tasks (mt): ids come as flat text."""

from typing import Any

import torch

from emoq_plugin.espnet_adapters.units_frontend import UnitsFrontend, load_bank
from emoq_plugin.files import check_options
from emoq_plugin.units.flat import FIRST_ID

OPTIONS = ("path", "experts", "n_levels", "codebooks_sha256", "saved")


class TextUnitsFrontend(UnitsFrontend):
    """Embed flat ids (see `units.flat.flatten_codes`) by their codebook vectors.

    Parameters
    ----------
    input_size : int
        Tokens of the source vocabulary; ESPnet gives it.
    quantizer : dict
        ``{path: <directory or hub name>, n_levels: 2}`` and, for some experts of a
        bank, ``experts: [balanced]`` in the order of the ids. What rebuilds the
        frontend from a checkpoint is added to it, see `PortableQuantizer`.
    token_per_frame : int, optional
        Must be the number of levels, as `model_conf.patch_size` must.
    **conf
        `level_mode`, `embedding`, `output_size`, `use_route` of `UnitsFrontend`.

    Raises
    ------
    ValueError
        For a vocabulary or a `token_per_frame` that the quantizer does not make.
    """

    def __init__(
        self,
        input_size: int | None = None,
        quantizer: dict | None = None,
        token_per_frame: int | None = None,
        level_mode: str = "sum",
        embedding: str = "tied",
        output_size: int = 256,
        use_route: bool = True,
    ):
        if not isinstance(quantizer, dict):
            raise ValueError(
                f"frontend_conf: quantizer is {quantizer!r}, expected a mapping such "
                "as {path: exp/quantizer/64x4, n_levels: 2}"
            )
        check_options(quantizer, OPTIONS, "quantizer")
        shapes, clip_sizes = _shape_options(quantizer)
        super().__init__(
            **shapes,
            level_mode=level_mode,
            embedding=embedding,
            output_size=output_size,
            use_route=use_route,
        )
        self.is_empty = "saved" in quantizer
        self.clip_sizes = clip_sizes
        saved = self.portable_conf() | {"clip_sizes": clip_sizes}
        quantizer.setdefault("saved", saved)
        n_levels, n_units = len(self.codebook_sizes), sum(self.codebook_sizes)
        self.first_clip_id = FIRST_ID + len(self.experts) * n_units
        expected = self.first_clip_id + sum(clip_sizes) + 1
        if input_size != expected:
            raise ValueError(
                f"the source vocabulary has {input_size} tokens, expected {expected}: "
                f"<blank> <unk>, {len(self.experts)} expert(s) of {n_units} units, "
                f"{sum(clip_sizes)} clip tokens, <sos/eos> (write it with "
                "emoq_plugin.units.flat.token_list)"
            )
        if token_per_frame not in (None, n_levels):
            raise ValueError(
                f"token_per_frame is {token_per_frame}, the units have {n_levels} "
                "levels: set it and model_conf.patch_size to that"
            )
        self.boundary_id = input_size - 1
        self.boundary = torch.nn.Parameter(torch.zeros(output_size))
        self.clip_vectors = None
        if clip_sizes:
            self.clip_vectors = torch.nn.Embedding(sum(clip_sizes), output_size)
        self.register_load_state_dict_post_hook(_fill)

    def _split(
        self, ids: torch.Tensor, valid: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Split (B, T, L) ids into codes and the (B,) expert of each utterance."""
        if ((ids < FIRST_ID) & valid[..., None]).any():
            row, frame, _ = ((ids < FIRST_ID) & valid[..., None]).nonzero()[0].tolist()
            raise ValueError(
                f"row {row}, frame {frame}: ids {ids[row, frame].tolist()} hold "
                "<blank> or <unk>: the units do not fit the token list"
            )
        sizes = torch.tensor(self.codebook_sizes, device=ids.device)
        n_units = int(sizes.sum())
        expert = (ids - FIRST_ID).div(n_units, rounding_mode="floor")
        first = valid.int().argmax(dim=1)  # of each utterance
        chosen = expert[torch.arange(len(ids)), first, 0]
        chosen = chosen.where(valid.any(dim=1), torch.zeros_like(chosen))
        mixed = (expert != chosen[:, None, None]) & valid[..., None]
        if mixed.any():
            row, frame, _ = mixed.nonzero()[0].tolist()
            raise ValueError(
                f"row {row}, frame {frame}: ids {ids[row, frame].tolist()} are of "
                "another expert than the first frame of the utterance"
            )
        codes = ids - FIRST_ID - chosen[:, None, None] * n_units
        codes = codes - (sizes.cumsum(0) - sizes)
        return codes.masked_fill(~valid[..., None], 0), chosen

    def forward(
        self, input: torch.Tensor, input_lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed flat ids.

        Parameters
        ----------
        input : (B, T * L) int64, or whole numbers as floats
            Frame by frame. A frame of <sos/eos>, which ESPnet's models put first, is
            a learned vector, and so is a clip token, L times its id.
        input_lengths : (B,) int64
            Ids of each utterance.

        Returns
        -------
        frames : (B, T, output_size) float
        lengths : (B,) int64
            Frames.

        Raises
        ------
        ValueError
            For lengths that are no multiple of L, and ids that no unit has.
        """
        if self.is_empty:
            raise ValueError(
                "the codebooks are empty: no checkpoint was loaded. To train anew, "
                "write only 'path' (and 'n_levels') under 'quantizer', not 'saved'"
            )
        n_levels = len(self.codebook_sizes)
        bad = (input_lengths % n_levels).nonzero()
        if input.shape[1] % n_levels or len(bad):
            found = int(input_lengths[bad[0, 0]]) if len(bad) else input.shape[1]
            raise ValueError(
                f"{found} ids are no multiple of {n_levels} levels: are the ids of all "
                "levels there, and is model_conf.patch_size equal to the levels?"
            )
        # asr2.sh reads stored ids as kaldi_ark, that is, as floats.
        ids = input.long().view(len(input), -1, n_levels)
        lengths = input_lengths // n_levels
        steps = torch.arange(ids.shape[1], device=input.device)
        boundary = (ids == self.boundary_id).all(dim=-1)
        inside = steps < lengths.to(input.device)[:, None]
        clip = (ids >= self.first_clip_id).all(dim=-1) & inside & ~boundary
        if self.clip_sizes and (lacks := ~clip.any(dim=1)).any():
            raise ValueError(
                f"row {int(lacks.int().argmax())} has no clip tokens, without which "
                "the frame codes of this quantizer mean little: put them before the "
                "frames"
            )
        codes, expert = self._split(ids, inside & ~boundary & ~clip)
        route = torch.nn.functional.one_hot(expert, len(self.experts))
        frames, _ = super().forward(codes, lengths, route)
        if self.clip_vectors is not None:
            places = (ids[..., 0] - self.first_clip_id).where(clip, 0)
            frames = torch.where(clip[..., None], self.clip_vectors(places), frames)
        marks = (boundary & inside)[..., None]
        return torch.where(marks, self.boundary, frames), lengths


def _shape_options(quantizer: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Return the options of `UnitsFrontend`, and the alphabets of a clip code.

    Units of a bank have all its experts.
    """
    if "saved" in quantizer:
        saved = dict(quantizer["saved"])
        return saved, saved.pop("clip_sizes", [])
    if "path" not in quantizer:
        raise ValueError("quantizer: found no 'path', expected a directory or name")
    bank = load_bank(
        quantizer["path"], codebooks_sha256=quantizer.get("codebooks_sha256")
    )
    quantizer["codebooks_sha256"] = bank.codebooks_sha256
    shapes = {
        "quantizer": quantizer["path"],
        "experts": quantizer.get("experts"),
        "n_levels": quantizer.get("n_levels"),
        "quantizer_sha256": bank.codebooks_sha256,
    }
    return shapes, [] if bank.clip_code is None else list(bank.clip_code.sizes)


def _fill(frontend: TextUnitsFrontend, keys: Any) -> None:
    frontend.is_empty = False
