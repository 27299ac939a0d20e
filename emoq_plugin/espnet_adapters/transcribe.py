"""Speech in, text out: our units through a trained asr2 model of ESPnet."""

import argparse
import inspect
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

import emoq_plugin
from emoq_plugin.espnet_adapters.asr2 import CARD, Asr2Units
from emoq_plugin.espnet_adapters.units_frontend import (
    select_codebooks,
    sha256_of_codebook,
)
from emoq_plugin.files import read_options, reading
from emoq_plugin.routing.quantizer import RoutedQuantizer
from emoq_plugin.speech.pipeline import Audio, SpeechToUnits
from emoq_plugin.units.clip_units import Units
from emoq_plugin.units.text import CJK_FIRST

# What asr2.sh decodes with, then the model's other averages and bests.
CHECKPOINTS = [
    f"valid.{criterion}.{kind}.pth"
    for criterion in ("acc", "loss")
    for kind in ("ave", "ave_*best", "best")
]
AGAIN = "bring the directory of the trained model again, or train it"


@dataclass(frozen=True)
class Transcription:
    """What was said, and the units that it was read from.

    Attributes
    ----------
    text : str
        Best hypothesis.
    units : Units
        As the quantizer gives them, before repeated ones are dropped.
    seconds : float
        Duration of the recording.
    """

    text: str
    units: Units
    seconds: float


class Transcriber:
    """Encoder, quantizer and recogniser together.

    Parameters
    ----------
    asr : str or Path
        Experiment directory of asr2.sh with config.yaml, a checkpoint and
        emoq_units.json, or a model that espnet2.bin.pack made of all three and the
        quantizer.
    device : str, default="cpu"
        torch device of everything.
    model_file : str, optional
        Name of the checkpoint in the directory; valid.acc.ave.pth, or the nearest to it
        that there is.
    inference_config : str or Path, optional
        Decoding options as for asr2.sh, to which `lm_train_config` and `lm_file` may be
        added; those of espnet2.bin.mt_inference when left out.
    model_dir : str, optional
        Local directory of the encoder's model.

    Raises
    ------
    FileNotFoundError
        If one of the files is missing.
    ValueError
        For another version of ESPnet, a damaged file, and for a quantizer whose units
        are not those that the model was trained on.
    """

    def __init__(
        self,
        asr: str | Path,
        *,
        device: str = "cpu",
        model_file: str | None = None,
        inference_config: str | Path | None = None,
        model_dir: str | None = None,
    ):
        emoq_plugin.register()
        from espnet2.bin.mt_inference import Text2Text
        from espnet2.tasks.mt import MTTask

        directory = self._unpacked(asr)
        self.card = card = Asr2Units.read(directory)
        conf = read_config(directory, card)
        quantizer = emoq_plugin.load(
            str(directory / card.quantizer), system=card.system, n_levels=card.n_levels
        )
        self.tokens = conf["src_token_list"]
        check_codebooks(card, quantizer, conf)
        check_tokens(card, self.tokens)
        with reading(directory / "config.yaml", f"with its files: {AGAIN}"):
            namespace = argparse.Namespace(**conf)
            self._preprocess = MTTask.build_preprocess_fn(namespace, False)
        self.speech = SpeechToUnits(quantizer, device=device, model_dir=model_dir)
        checkpoint = find_checkpoint(directory, model_file)
        decoding = decoding_options(
            inference_config, vocabulary=len(conf["token_list"])
        )
        with reading(checkpoint, AGAIN):
            self.text2text = Text2Text(
                mt_train_config=directory / "config.yaml",
                mt_model_file=checkpoint,
                bpemodel=conf["bpemodel"],
                device=device,
                **decoding,
            )

    @classmethod
    def from_pretrained(cls, asr: str | Path, **options: Any) -> Self:
        """Load a trained model; see the class."""
        return cls(asr, **options)

    def _unpacked(self, asr: str | Path) -> Path:
        """Return the directory of a model; a packed one's lives as long as this.

        ESPnet reads sentencepiece models late.
        """
        if not Path(asr).is_file():
            return Path(asr)
        from espnet2.main_funcs.pack_funcs import unpack

        self._folder = tempfile.TemporaryDirectory(prefix="emoq_asr_")
        unpack(asr, self._folder.name)
        found = sorted(Path(self._folder.name).rglob(CARD))
        if len(found) != 1:
            raise FileNotFoundError(
                f"{asr} holds {len(found)} files {CARD}, expected one: pack the model "
                f"with --option <asr_dir>/{CARD} --option <quantizer directory>"
            )
        return found[0].parent

    def __call__(
        self, audio: Audio | list[Audio], **options: Any
    ) -> Transcription | list[Transcription]:
        """Transcribe a recording, or a list of them.

        Parameters
        ----------
        audio : str, Path, ((N,) float array, Hz), or a list of these
        **options
            `multi_channel` and `speaker_mean` of `SpeechToUnits`.

        Raises
        ------
        ValueError
            For audio that cannot be used, or is too short for the model.
        """
        many = audio if isinstance(audio, list) else [audio]
        found = [self._read(units) for units in self.speech(many, **options)]
        return found if isinstance(audio, list) else found[0]

    def source(self, units: Units) -> np.ndarray:
        """Return the ids (N,) of the source vocabulary that the model reads.

        Raises
        ------
        ValueError
            For units that are not those of the card.
        """
        ids = self.card.source(units.codes, units.route, units.clip_codes)
        source = ids if self.card.stream == "multi" else self.card.text(ids)
        ids = self._preprocess("", {"src_text": source})["src_text"]
        if unknown := np.count_nonzero(ids == self.tokens.index("<unk>")):
            logging.warning(
                "%d of %d tokens are of units that the training data did not have",
                unknown, len(ids),
            )  # fmt: skip
        return ids

    def _read(self, units: Units) -> Transcription:
        from espnet2.legacy.nets.pytorch_backend.transformer.subsampling import (
            TooShortUttError,
        )

        ids = self.source(units)
        try:
            text, tokens, *_ = self.text2text(ids)[0]
        except TooShortUttError as error:
            raise ValueError(
                f"{len(ids)} units of {units.seconds:.3f} s are too few for the "
                f"encoder of this model: {error}"
            ) from error
        text = " ".join(tokens) if text is None else text
        return Transcription(text=text, units=units, seconds=units.seconds)


def read_config(directory: Path, card: Asr2Units) -> dict[str, Any]:
    """Read config.yaml of a model, and find its sentencepiece models.

    Raises
    ------
    FileNotFoundError
        If one of them is missing.
    """
    import yaml

    path = directory / "config.yaml"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: give the directory asr_... of asr2.sh that holds the "
            "trained model"
        )
    with reading(path, AGAIN):
        conf = yaml.safe_load(path.read_text(encoding="utf-8"))
        source = card.src_bpemodel or conf["src_bpemodel"]
        target = conf["bpemodel"]
        for name in ("src_token_list", "token_list"):
            list(conf[name])
    conf["src_bpemodel"] = find_file(source, directory)
    conf["bpemodel"] = find_file(target, directory)
    return conf


def find_file(name: str | None, directory: Path) -> str | None:
    """Find a file that a recipe named from its own directory, where asr2.sh was run.

    Looks into `directory`, where a copied model may have it, and all above.

    Raises
    ------
    FileNotFoundError
        If it is nowhere.
    """
    if name is None:
        return None
    above = [directory.resolve(), *directory.resolve().parents]
    for path in (place / name for place in above):
        if path.is_file():
            return str(path)
    raise FileNotFoundError(
        f"{directory / name} is missing, with which the model was trained: keep it at "
        "its place in the recipe, or pack it with the model (--option)"
    )


def find_checkpoint(directory: Path, name: str | None = None) -> Path:
    """Find the parameters of a model.

    Parameters
    ----------
    directory : Path
    name : str, optional
        The first of `CHECKPOINTS` that exists, then the last epoch.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    for pattern in [name] if name else CHECKPOINTS:
        if found := sorted(directory.glob(pattern)):
            return found[-1]
    epochs = {} if name else {
        int(path.name.removesuffix("epoch.pth")): path
        for path in directory.glob("[0-9]*epoch.pth")
    }  # fmt: skip
    if not epochs:
        raise FileNotFoundError(
            f"{directory} holds no {name or CHECKPOINTS[0]} and nothing to use "
            "instead: was the model trained (stage 13 of asr2.sh)?"
        )
    return epochs[max(epochs)]


def check_codebooks(
    card: Asr2Units, quantizer: RoutedQuantizer, conf: Mapping[str, Any]
) -> None:
    """Refuse codebooks that are not those of the training.

    Parameters
    ----------
    card : Asr2Units
        Has the SHA-256 of the quantizer.
    quantizer : RoutedQuantizer
    conf : mapping
        Of the model; where its frontend is `emoq_units` it has those of the levels.

    Raises
    ------
    ValueError
        If they differ.
    """
    found: Any = quantizer.codebooks_sha256
    expected: Any = card.codebooks_sha256
    saved = ((conf["frontend_conf"] or {}).get("quantizer") or {}).get("saved")
    if found == expected and saved:
        levels = select_codebooks(
            quantizer.bank, saved["experts"], n_levels=saved["n_levels"]
        )
        found, expected = [*map(sha256_of_codebook, levels)], saved["codebooks_sha256"]
    if found != expected:
        raise ValueError(
            f"quantizer '{card.quantizer}' has codebooks with sha256 {found}, the "
            f"model was trained with {expected}: give the quantizer of the training"
        )


def check_tokens(card: Asr2Units, tokens: Sequence[str]) -> None:
    """Refuse a token list that other units made.

    Raises
    ------
    ValueError
        If the list is longer or shorter than the flat ids, or has characters of a
        single stream that are no units.
    """
    if card.stream == "multi":
        found, fits = f"{len(tokens) - 3} units", len(tokens) - 3 == card.n_units
    else:
        known = {ord(c) - CJK_FIRST for token in tokens[2:-1] for c in token}
        last = max(known, default=-1)  # sentencepiece's own sign is far below 0
        found, fits = f"units up to {last}", 0 <= last < card.n_units
    if not fits:
        raise ValueError(
            f"the quantizer makes the units 0 to {card.n_units - 1}, the token list of "
            f"the model has {found}: it was trained on others"
        )


def decoding_options(path: str | Path | None, *, vocabulary: int) -> dict[str, Any]:
    """Return the options of `Text2Text` that mt_inference would use.

    Parameters
    ----------
    path : str or Path, optional
        YAML file of its options, the `--inference_config` of asr2.sh.
    vocabulary : int
        Tokens of the model; ESPnet's search fails with a wider beam.

    Raises
    ------
    ValueError
        For an option that it does not have.
    """
    from espnet2.bin.mt_inference import Text2Text, get_parser

    parser = get_parser()
    known = {action.dest: action.default for action in parser._actions}
    values = known | (read_options(path, known) if path else {})
    values["beam_size"] = min(values["beam_size"], vocabulary)
    taken = set(inspect.signature(Text2Text.__init__).parameters) & set(values)
    own = {"mt_train_config", "mt_model_file", "bpemodel", "device"}
    return {name: values[name] for name in taken - own}
