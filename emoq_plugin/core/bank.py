"""CodebookBank: named experts of equal shape that share one normalisation."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from emoq_plugin.core.artifact import Artifact, fingerprint_of_tensors
from emoq_plugin.core.clip_code import ClipCode
from emoq_plugin.core.golden import golden_codes
from emoq_plugin.core.nearest import SearchTable
from emoq_plugin.core.normalization import Float32Module, Normalization
from emoq_plugin.core.rvq import ResidualQuantizer
from emoq_plugin.files import check_types

BALANCED = "balanced"
CONFIG_TYPES = {
    "experts": list[str],
    "sizes": list[int],
    "emotions": list[str],
    "normalization": str,
    "codebooks_sha256": str,
    "card": dict[str, Any],
    "clip_code": dict[str, Any],
    "golden": dict[str, list[str]],
}
CLIP_CODE = "clip_code."  # before the names of its tensors
CLIP_CODE_TYPES = {"component_bits": list[int], "window": int | None, "bits": float}


class CodebookBank(Artifact, Float32Module):
    """All codebooks that were learned together.

    Experts are named ``balanced`` or ``<expert set>/<member>``: ``specific/angry``,
    ``biased95/sad``, ``capacity/0``.

    Parameters
    ----------
    experts : sequence of E str
    codebooks : sequence of L (E, K_l, D) Tensors
    normalization : Normalization
    emotions : sequence of str
        Class order of everything that is counted by class.
    card : mapping, optional
        Notes for the reader and for checks: the feature specification, data
        fingerprint, seed, weighting rules.
    router_parameters : mapping of str to Tensor, optional
        What routers have learned about this bank, as `routing.fit_routers` gives it.
    clip_code : ClipCode, optional
        Of the normalised features, see `Normalization.forward` (`sent`); the codebooks
        are of what it leaves.

    Raises
    ------
    ValueError
        If names repeat or shapes do not agree.
    """

    def __init__(
        self,
        experts: Sequence[str],
        codebooks: Sequence[Tensor],
        normalization: Normalization,
        *,
        emotions: Sequence[str],
        card: Mapping | None = None,
        router_parameters: Mapping[str, Tensor] | None = None,
        clip_code: ClipCode | None = None,
    ):
        super().__init__()
        if len(set(experts)) != len(experts):
            raise ValueError(f"expert names repeat: {list(experts)}")
        for level, codebook in enumerate(codebooks):
            expected = (len(experts), codebook.shape[1], len(normalization.mean))
            if codebook.shape != expected:
                raise ValueError(
                    f"codebooks of level {level} have shape {tuple(codebook.shape)}, "
                    f"expected {expected} (experts, codewords, dimension)"
                )
            self.register_buffer(f"codebook_{level}", codebook.float().contiguous())
        self.experts = list(experts)
        self.n_levels = len(codebooks)
        if clip_code is not None and clip_code.dimension != len(normalization.mean):
            raise ValueError(
                f"the clip code was learned for features of {clip_code.dimension} "
                f"dimensions, the codebooks for {len(normalization.mean)}"
            )
        self.normalization = normalization
        self.clip_code = clip_code
        self.emotions = list(emotions)
        self.card = dict(card or {})
        self._search_tables: dict[tuple[int, int], tuple[tuple, SearchTable]] = {}
        self._router_names: list[str] = []
        self.router_parameters = dict(router_parameters or {})

    def search_table(self, expert: int, level: int) -> SearchTable:
        """Return a codebook with what its search needs, made once for many batches.

        Parameters
        ----------
        expert : int
            Its place in ``experts``.
        level : int
        """
        codebook = self.codebooks[level]
        version = None if codebook.is_inference() else codebook._version
        state = (codebook.data_ptr(), version)  # others once it has moved or changed
        known, table = self._search_tables.get((expert, level), (None, None))
        if known != state:
            table = SearchTable.of(codebook[expert])
            self._search_tables[expert, level] = state, table
        return table

    @property
    def router_parameters(self) -> dict[str, Tensor]:
        """What routers have learned; buffers, so that they move with the codebooks."""
        return {name: getattr(self, _buffer(name)) for name in self._router_names}

    @router_parameters.setter
    def router_parameters(self, values: Mapping[str, Tensor]) -> None:
        values = dict(values)  # may be those that are removed next
        if len({_buffer(name) for name in values}) < len(values):
            raise ValueError(
                f"router parameters {sorted(values)}: two names differ only in '.' "
                "and '_'"
            )
        for name in self._router_names:
            delattr(self, _buffer(name))
        self._router_names = list(values)
        for name, value in values.items():
            self.register_buffer(_buffer(name), value)

    @property
    def codebooks(self) -> list[Tensor]:
        """List over levels of (E, K_l, D) codebooks."""
        return [getattr(self, f"codebook_{i}") for i in range(self.n_levels)]

    @property
    def dimension(self) -> int:
        """D of the features."""
        return self.codebooks[0].shape[2]

    @property
    def sizes(self) -> list[int]:
        """Codebook size K of each level."""
        return [codebook.shape[1] for codebook in self.codebooks]

    @property
    def codebooks_sha256(self) -> str:
        """SHA-256 over tensors, order of experts, normalisation, form of clip codes."""
        names = [*self.experts, self.normalization.kind]
        if self.clip_code is not None:
            names.append(str(self.clip_code.config()))
        return fingerprint_of_tensors(self.tensors(), names)

    @property
    def expert_sets(self) -> list[str]:
        """Names of the expert sets, in order."""
        return list(dict.fromkeys(map(expert_set_of, self.experts)))

    def expert_set(self, name: str) -> list[str]:
        """Return the experts of a expert set.

        Raises
        ------
        ValueError
            If there is no such expert set.
        """
        members = [e for e in self.experts if e == name or e.startswith(f"{name}/")]
        if not members:
            raise ValueError(
                f"no expert set '{name}', expected one of {self.expert_sets}"
            )
        return members

    def expert(self, name: str) -> ResidualQuantizer:
        """Return one expert as a quantizer that shares this bank's memory.

        Raises
        ------
        ValueError
            If there is no such expert, or frame codes are of what a clip code leaves.
        """
        if self.clip_code is not None:
            raise ValueError(
                "the experts of this quantizer encode what its clip code leaves, which "
                "an expert alone does not know: use the whole quantizer"
            )
        if name not in self.experts:
            raise ValueError(f"no expert '{name}', expected one of {self.experts}")
        e = self.experts.index(name)
        return ResidualQuantizer([c[e] for c in self.codebooks], self.normalization)

    def subset(self, experts: Sequence[str]) -> "CodebookBank":
        """Return a bank of some experts, in this order, with everything else kept."""
        return CodebookBank(
            experts,
            self.stacked(experts),
            self.normalization,
            emotions=self.emotions,
            card=self.card,
            router_parameters=self.router_parameters,
            clip_code=self.clip_code,
        )

    def of_what_is_left(self) -> "CodebookBank":
        """Return a bank that encodes what the frame codes of this one encode.

        That is normalised already, and what the clip code knows is subtracted.
        """
        plain = torch.zeros(self.dimension), torch.ones(self.dimension)
        return CodebookBank(
            self.experts,
            self.codebooks,
            Normalization("corpus", *plain),
            emotions=self.emotions,
            card=self.card,
            router_parameters=self.router_parameters,
        )

    def joined(
        self, other: "CodebookBank", expert_sets: Sequence[str]
    ) -> "CodebookBank":
        """Return a bank with the experts of both, in the order of these expert sets.

        Parameters
        ----------
        other : CodebookBank
            Other experts, learned from the same clips under the same settings.
        expert sets : sequence of str
            All of their expert sets.

        Raises
        ------
        ValueError
            If their frame codes are of what different clip codes leave.
        """
        own, others = (
            code and (code.config(), fingerprint_of_tensors(code.tensors()))
            for code in (self.clip_code, other.clip_code)
        )
        if own != others:
            raise ValueError(
                "these experts quantize what different clip codes leave: learn the new "
                "ones with the clip code of the bank that they join"
            )
        names = [*self.experts, *other.experts]
        rows = sorted(
            range(len(names)), key=lambda e: expert_sets.index(expert_set_of(names[e]))
        )
        pairs = zip(self.codebooks, other.codebooks, strict=True)
        frames = [bank.card.get("expert_frames", {}) for bank in (self, other)]
        return CodebookBank(
            [names[e] for e in rows],
            [torch.cat(pair)[rows] for pair in pairs],
            self.normalization,
            emotions=self.emotions,
            card=self.card | {"expert_frames": frames[0] | frames[1]},
            router_parameters=self.router_parameters,
            clip_code=self.clip_code,
        )

    def stacked(
        self, experts: Sequence[str], n_levels: int | None = None
    ) -> list[Tensor]:
        """Return the codebooks of some experts: list over levels of (E, K_l, D)."""
        rows = torch.tensor([self.experts.index(name) for name in experts])
        return [c[rows.to(c.device)] for c in self.codebooks[:n_levels]]

    # What the artifact holds, see artifact.py.

    def config(self) -> dict:
        """Return all that is not a tensor."""
        config = {
            "experts": self.experts,
            "sizes": self.sizes,
            "emotions": self.emotions,
            "normalization": self.normalization.kind,
            "codebooks_sha256": self.codebooks_sha256,
            "card": self.card,
        }
        if self.clip_code is not None:
            code = self.clip_code
            config["clip_code"] = code.config() | {"bits": code.bits}
        return config

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors under their names in the file."""
        named = {f"codebooks.{i}": c for i, c in enumerate(self.codebooks)}
        named["normalization.mean"] = self.normalization.mean
        named["normalization.scale"] = self.normalization.scale
        named |= {f"router.{name}": v for name, v in self.router_parameters.items()}
        if self.clip_code is not None:
            named |= _of_clip_code(self.clip_code.tensors())
        return named

    def stored(self) -> dict[str, Tensor]:
        """Return the tensors as a file holds them; see `ClipCode.stored`."""
        code = self.clip_code
        cut = {} if code is None else _of_clip_code(code.stored())
        return self.tensors() | cut

    def by_expert(self) -> dict[str, list[Tensor]]:
        """Return the (K_l, D) codebooks of each expert."""
        return {
            name: [codebook[e] for codebook in self.codebooks]
            for e, name in enumerate(self.experts)
        }

    def golden(self) -> dict[str, list[str]]:
        """Return the codes of golden frames by expert, see `core.golden`."""
        return golden_codes(self.normalization, self.by_expert())

    @classmethod
    def from_config(cls, config: dict, tensors: dict[str, Tensor]) -> "CodebookBank":
        """Build what `config` and `tensors` describe."""
        check_types(config, CONFIG_TYPES, "config")
        clip_code = None
        if "clip_code" in config:  # artifacts of before it have none
            check_types(config["clip_code"], CLIP_CODE_TYPES, "config: clip_code")
            found = {name: tensors[f"{CLIP_CODE}{name}"] for name in ClipCode.NAMES}
            clip_code = ClipCode.from_config(config["clip_code"], found)
        bank = cls(
            config["experts"],
            [tensors[f"codebooks.{i}"] for i in range(len(config["sizes"]))],
            Normalization(
                config["normalization"],
                tensors["normalization.mean"],
                tensors["normalization.scale"],
            ),
            emotions=config["emotions"],
            card=config["card"],
            router_parameters={
                name.removeprefix("router."): value
                for name, value in tensors.items()
                if name.startswith("router.")
            },
            clip_code=clip_code,
        )
        if not bank.sizes or min(bank.sizes) < 1 or bank.sizes != config["sizes"]:
            raise ValueError(f"sizes are {config['sizes']}, the tensors' {bank.sizes}")
        return bank


def expert_set_of(expert: str) -> str:
    """Return the expert set of an expert: ``specific/sad`` -> ``specific``."""
    return expert.partition("/")[0]


def member(expert: str) -> str:
    """Return an expert's name without its set: ``specific/sad`` -> ``sad``."""
    return expert.rpartition("/")[2]


def places_of_classes(experts: Sequence[str], emotions: Sequence[str]) -> list[int]:
    """Return the place of the expert of each class.

    Raises
    ------
    ValueError
        If a class has no expert.
    """
    members = [member(expert) for expert in experts]
    for emotion in emotions:
        if emotion not in members:
            raise ValueError(
                f"no expert of class '{emotion}' among {list(experts)}: choose a "
                "router that needs no classes, or another expert set"
            )
    return [members.index(emotion) for emotion in emotions]


def _buffer(name: str) -> str:
    return f"router_{name.replace('.', '_')}"


def _of_clip_code(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{CLIP_CODE}{name}": value for name, value in tensors.items()}
