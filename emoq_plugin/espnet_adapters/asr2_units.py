"""Units of data directories for ESPnet's asr2.sh, in place of its stages 2 to 6.

Writes `<dumpdir>/raw/<set>` for every set, and into the model's directory the packed
quantizer, `emoq_units.json` (the card) and `asr2.options` (the options of asr2.sh that
enter it at stage 7, one argument a line).
"""

import argparse
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import chain, groupby, tee
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoq_plugin import routing, speech
from emoq_plugin import units as units_code
from emoq_plugin.files import (
    atomic_write,
    missing_config,
    read_table,
    reading,
    write_table,
)
from emoq_plugin.options import number, str2bool, whole
from emoq_plugin.recipe.stage import Stage

if TYPE_CHECKING:
    from emoq_plugin.espnet_adapters.asr2 import Asr2Units
    from emoq_plugin.speech.pipeline import SpeechToUnits

PYTHON = "python3 -m emoq_plugin.run"
TABLES = ("wav.scp", "segments", "text", "utt2spk")
OPTIONS = "asr2.options"
FIRST_STAGE = 7  # of asr2.sh, after the units


@dataclass(frozen=True)
class Kept:
    """Which recordings of a set are encoded.

    Attributes
    ----------
    factors : list of str
        Speeds at which each is played.
    seconds : (shortest, longest), optional
        None keeps all, also those without a text.
    """

    factors: list[str]
    seconds: tuple[float, float] | None

    def takes(self, seconds: float) -> bool:
        """Return whether a recording of this length is encoded."""
        return self.seconds is None or self.seconds[0] <= seconds <= self.seconds[1]


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="asr2_units", description=__doc__)
    add = parser.add_argument
    add("--quantizer", type=Path, required=True, help="directory or hub name")
    add("--system", help="of a bank: balanced or <group>-<router>")
    add("--n_levels", type=whole(1), help="levels of the stream; all when left out")
    add("--sets", nargs="+", required=True, help="the training set first")
    add("--data_dir", type=Path, default=Path("data"), help="holds <set>/wav.scp")
    add("--asr_exp", type=Path, help="of the model; default: exp/asr_<src_lang>")
    add("--dumpdir", type=Path, help="default: dump/<src_lang>")
    add("--src_lang", help="default: emoq_<system>_<K>x<L>_<sha256 of the codebooks>")
    add("--tgt_lang", default="en", help="as in asr2.sh")
    add("--stream", choices=["single", "multi"], help="default: by the levels")
    add("--deduplicate", type=str2bool, help="default: true for a single stream")
    add("--speed_perturb_factors", nargs="*", default=[], help="of the training set")
    add(
        "--min_wav_duration", type=number(0), default=0.1, help="s, of the training set"
    )
    add(
        "--max_wav_duration",
        type=number(0),
        default=30.0,
        help="s, of the training set",
    )
    add("--src_nbpe", type=whole(1), default=500, help="BPE pieces of a single stream")
    add("--asr_config", type=Path, help="of mt_train; needed for --stream multi")
    add("--python", default=PYTHON, help="command that asr2.sh runs ESPnet with")
    add("--allow_pipe", type=str2bool, default=False, help="run commands in wav.scp")
    add("--multi_channel", default="error", choices=["error", "first", "mean"])
    add("--device", default="cpu", choices=["cpu", "cuda", "auto"])
    add("--model_dir", help="local directory of the encoder's model")
    add("--nj", type=whole(1), default=1, help="processes on the CPU")
    return parser


def work(options: argparse.Namespace) -> None:
    """Pack the quantizer, encode every set, write card and options."""
    from emoq_plugin.espnet_adapters.asr2 import read_recordings

    for factor in options.speed_perturb_factors:
        if not re.fullmatch(r"\d+(\.\d+)?", factor) or not float(factor):
            raise ValueError(
                f"--speed_perturb_factors '{factor}', expected such as 0.9"
            )
    if options.min_wav_duration >= options.max_wav_duration:
        raise ValueError(
            f"--min_wav_duration {options.min_wav_duration:g} is not below "
            f"--max_wav_duration {options.max_wav_duration:g}"
        )
    if options.asr_config and not options.asr_config.is_file():
        raise FileNotFoundError(missing_config(options.asr_config))
    if repeated := {s for s in options.sets if options.sets.count(s) > 1}:
        raise ValueError(f"--sets names '{repeated.pop()}' twice")
    for name in options.sets:
        read_recordings(options.data_dir / name)
    units = _prepare(options)
    for name in options.sets:
        trained = name == options.sets[0]
        sped = options.speed_perturb_factors if trained else []
        # As in asr2.sh, only what is trained on is filtered.
        limits = (options.min_wav_duration, options.max_wav_duration)
        kept = Kept(sped or ["1.0"], limits if trained else None)
        output = options.dumpdir / "raw" / (f"{name}_sp" if sped else name)
        source = options.data_dir / name
        stage = Stage(
            output,
            inputs=[
                options.quantizer,
                *(source / t for t in TABLES if (source / t).exists()),
            ],
            settings={
                "stream": units.stream,
                "deduplicate": units.deduplicate,
                "kept": asdict(kept),
                "tgt_lang": options.tgt_lang,
                "multi_channel": options.multi_channel,
            },
            code=[speech, routing, units_code],
        )
        if not stage.is_done():
            shutil.rmtree(output, ignore_errors=True)
            stage.start()
            facts = _write_set(options, units, source, output=output, kept=kept)
            stage.finish(**facts)
            logging.info("%s: %s", output, facts)
    _finish(options, units)


def _prepare(options: argparse.Namespace) -> "Asr2Units":
    """Pack the quantizer, fill in names that follow from it, refuse a foreign model."""
    import emoq_plugin
    from emoq_plugin.espnet_adapters.asr2 import CARD, Asr2Units
    from emoq_plugin.recipe.stages import pack

    found = emoq_plugin.load(
        str(options.quantizer), system=options.system, n_levels=options.n_levels
    )
    system, levels = found.system.name, found.n_levels
    stream = options.stream or ("single" if levels == 1 else "multi")
    if stream == "multi" and options.asr_config is None:
        raise ValueError(
            "--asr_config is missing: units of several levels need the configuration "
            "of mt_train, into which the frontend is written"
        )
    if options.src_lang is None:
        rate = f"{found.bank.sizes[0]}x{levels}"
        digest = found.codebooks_sha256[:8]
        options.src_lang = f"emoq_{system.replace('-', '_')}_{rate}_{digest}"
    options.asr_exp = options.asr_exp or Path("exp") / f"asr_{options.src_lang}"
    options.dumpdir = options.dumpdir or Path("dump") / options.src_lang
    deduplicate = options.deduplicate
    if deduplicate is None:
        deduplicate = stream == "single"
    options.src_case = "rm" if deduplicate else "ts"
    files = {}
    if stream == "single":
        name = f"src_bpe_unigram{options.src_nbpe}_{options.src_case}"
        bpe = f"data/{options.src_lang}_token_list/{name}_{options.src_lang}"
        files = {
            "src_bpemodel": f"{bpe}/bpe.model",
            "src_token_list": f"{bpe}/tokens.txt",
        }
    # What cannot be is told before anything is written.
    described = {
        "path": "quantizer",
        "stream": stream,
        "deduplicate": deduplicate,
        "src_lang": options.src_lang,
        **{k: os.path.relpath(v, options.asr_exp) for k, v in files.items()},
    }
    Asr2Units.describe(found, **described)
    packed = options.dumpdir / "quantizer"
    pack.work(
        pack.get_parser().parse_args(
            ["--quantizer", str(options.quantizer), "--system", system]
            + ["--n_levels", str(levels), "--output_dir", str(packed)]
        )
    )
    options.quantizer = packed
    units = Asr2Units.describe(emoq_plugin.load(str(packed)), **described)
    exp = options.asr_exp
    trained = (exp / "checkpoint.pth").exists()
    if trained and not ((exp / CARD).exists() and Asr2Units.read(exp) == units):
        raise ValueError(
            f"{exp} holds a model that was trained on other units, and ESPnet would go "
            "on from it: give another --asr_exp, or remove it"
        )
    (exp / OPTIONS).unlink(missing_ok=True)  # those of a call before
    return units


# ----------------------------------------------------------------------------- encoding


def _write_set(
    options: argparse.Namespace,
    units: "Asr2Units",
    source: Path,
    *,
    output: Path,
    kept: Kept,
) -> dict[str, Any]:
    """Encode one set as ESPnet's dump/raw/<set>; gives what the marker keeps."""
    from emoq_plugin.files import write_json

    speakers, texts = (read_table(source / name) for name in ("utt2spk", "text"))
    names = {}
    for factor in kept.factors:
        names |= {f"{_prefix(factor)}{u}": (u, _prefix(factor)) for u in speakers}
    ids, seconds, bits = {}, 0.0, 0.0
    for name, found, duration, cost in _encode_all(options, units, source, kept):
        ids[name], seconds, bits = found, seconds + duration, bits + cost
    if not ids:
        raise ValueError(
            f"{source}: no recording has a text and {kept.seconds[0]:g} to "
            f"{kept.seconds[1]:g} s (--min_wav_duration, --max_wav_duration)"
        )
    src = f"text.{options.src_case}.{options.src_lang}"
    if units.stream == "single":
        write_table(output / src, {u: units.text(found) for u, found in ids.items()})
    else:
        _write_ark(output, src, ids)
        (output / "token_lists").mkdir()
        with atomic_write(output / "token_lists/codec_token_list") as stream:
            stream.writelines(f"{token}\n" for token in units.tokens())
    tgt = {name: texts[names[name][0]] for name in ids}
    write_table(output / f"text.ts.{options.tgt_lang}", tgt)
    spoken = {name: f"{names[name][1]}{speakers[names[name][0]]}" for name in ids}
    write_table(output / "utt2spk", spoken)
    (output / "feats_type").write_text("raw\n")
    facts = {
        "utterances": len(ids),
        "left_out": len(names) - len(ids),
        "seconds": round(seconds, 3),
        "bits_per_second": round(bits / seconds, 3),
        "ids": sum(map(len, ids.values())),
        "different_ids": len(set().union(*(set(i.tolist()) for i in ids.values()))),
    }
    write_json(output / "units.json", facts)
    return facts


def _write_ark(output: Path, name: str, ids: dict[str, Any]) -> None:
    """Write flat ids as float vectors, which asr2.sh reads as kaldi_ark."""
    import kaldiio

    places = {}
    with atomic_write(output / "ids.ark", "wb") as stream:
        for utterance in sorted(ids):
            at = stream.tell() + len(utterance.encode()) + 1
            places[utterance] = f"{output / 'ids.ark'}:{at}"
            kaldiio.save_ark(stream, {utterance: ids[utterance].astype("float32")})
    write_table(output / name, places)


def _prefix(factor: str) -> str:
    """Return what ESPnet puts before names of recordings at another speed."""
    return "" if float(factor) == 1.0 else f"sp{factor}-"


def _encode_all(
    options: argparse.Namespace, units: "Asr2Units", source: Path, kept: Kept
) -> Iterator[tuple[str, Any, float, float]]:
    """Return (utterance, ids, seconds, bits) of every recording at every speed."""
    from emoq_plugin.espnet_adapters.asr2 import read_recordings
    from emoq_plugin.progress import progress

    texts = read_table(source / "text")
    recordings = read_recordings(source)
    names = sorted(
        (u for u in recordings if kept.seconds is None or texts[u]),
        key=lambda u: (recordings[u][0], u),
    )
    # All of a recording in one part, which opens it once.
    groups = [list(group) for _, group in groupby(names, lambda u: recordings[u][0])]
    groups.sort()  # by utterance, so that a speaker stays together
    size = -(-len(groups) // options.nj)
    parts = [
        list(chain.from_iterable(groups[at : at + size]))
        for at in range(0, len(groups), size or 1)
    ]
    calls = [(options, units, source, part, kept) for part in parts]
    if options.nj == 1:
        total = len(names) * len(kept.factors)
        for call in calls:
            yield from progress(encode_part(*call), total, f"encoding {source}")
        return
    # Not forked: torch has threads.
    with ProcessPoolExecutor(options.nj, get_context("spawn")) as pool:
        for found in pool.map(_encoded, calls):
            yield from found


def _encoded(call: tuple) -> list[tuple[str, Any, float, float]]:
    import torch

    torch.set_num_threads(1)
    return list(encode_part(*call))


def encode_part(
    options: argparse.Namespace,
    units: "Asr2Units",
    source: Path,
    names: list[str],
    kept: Kept,
) -> Iterator[tuple[str, Any, float, float]]:
    """Encode some recordings of a set, each at every speed."""
    import emoq_plugin
    from emoq_plugin.devices import pick_device
    from emoq_plugin.speech.pipeline import SpeechToUnits

    quantizer = emoq_plugin.load(str(options.quantizer))
    speech = SpeechToUnits(
        quantizer, device=pick_device(options.device, 1), model_dir=options.model_dir
    )
    if quantizer.bank.normalization.kind != "speaker":
        waves = _Waves(options, source, kept)
        yield from _encode(speech, units, waves.read(names, kept.factors), None)
        return
    speaker = read_table(source / "utt2spk")
    for who in dict.fromkeys(speaker[u] for u in names):
        # Of one speaker all is kept open: it is read for the mean and at each speed.
        waves = _Waves(options, source, kept, n_open=None)
        spoken = [u for u in waves.recordings if speaker[u] == who]
        chosen = [u for u in names if speaker[u] == who]
        for factor in kept.factors:
            all_of = (wave for _, wave in waves.read(spoken, [factor]))
            mean = speech.speaker_mean(all_of)
            yield from _encode(speech, units, waves.read(chosen, [factor]), mean)


def _encode(
    speech: "SpeechToUnits",
    units: "Asr2Units",
    waves: Iterable[tuple[str, tuple[Any, int]]],
    mean: Any,
) -> Iterator[tuple[str, Any, float, float]]:
    names, given = tee(waves)  # a batch is read before its units are there
    encoded = speech((wave for _, wave in given), speaker_mean=mean)
    for found, (name, _) in zip(encoded, names):
        ids = units.source(found.codes, found.route)
        yield name, ids, found.seconds, found.bits


class _Waves:
    """Reads recordings of a set; a command runs once for all that are kept open."""

    def __init__(
        self,
        options: argparse.Namespace,
        source: Path,
        kept: Kept,
        *,
        n_open: int | None = 1,
    ):
        from emoq_plugin.espnet_adapters.asr2 import read_recordings
        from emoq_plugin.speech.audio import Recording

        self.recordings = read_recordings(source)
        self._options, self._source, self._kept = options, source, kept
        opened = partial(Recording, allow_pipe=options.allow_pipe)
        self._open = lru_cache(n_open)(opened)

    def read(
        self, names: Iterable[str], factors: Iterable[str]
    ) -> Iterator[tuple[str, tuple[Any, int]]]:
        """Return (name, (samples, Hz)) of each at every speed, by recording.

        A recording played `factor` times as fast is one of `factor` times its rate.
        """
        for name in sorted(names, key=lambda u: (self.recordings[u][0], u)):
            entry, segment = self.recordings[name]
            try:
                samples, rate = self._open(entry).read(
                    segment or None, multi_channel=self._options.multi_channel
                )
            except (ValueError, OSError) as error:
                raise ValueError(f"{self._source}: '{name}': {error}") from error
            for factor in factors:
                played = round(rate * float(factor))
                if self._kept.takes(len(samples) / played):
                    yield f"{_prefix(factor)}{name}", (samples, played)


def _finish(options: argparse.Namespace, units: "Asr2Units") -> None:
    """Write the quantizer, the options of asr2.sh and, last, the card."""
    from emoq_plugin.espnet_adapters.asr2 import with_units_frontend

    exp, raw = options.asr_exp, options.dumpdir / "raw"
    shutil.copytree(options.quantizer, exp / "quantizer", dirs_exist_ok=True)
    # asr2.sh looks for a validation set that it decodes under org/.
    if not (raw / "org").is_symlink():
        (raw / "org").symlink_to(".")
    train = raw / (options.sets[0] + ("_sp" if options.speed_perturb_factors else ""))
    texts = {
        "src": train / f"text.{options.src_case}.{options.src_lang}",
        "tgt": train / f"text.ts.{options.tgt_lang}",
    }
    # As stage 6 of asr2.sh, for a language model.
    tgt = read_table(texts["tgt"])
    lm = {f"{u}.ts.{options.tgt_lang}": text for u, text in tgt.items() if text}
    write_table(raw / "lm_train.txt", lm)
    told = {
        "stage": str(FIRST_STAGE),
        "python": options.python,
        "dumpdir": str(options.dumpdir),
        "asr_exp": str(exp),
        "asr_stats_dir": str(exp / "stats"),
        "src_lang": options.src_lang,
        "tgt_lang": options.tgt_lang,
        "src_case": options.src_case,
        "tgt_case": "ts",
        "speed_perturb_factors": " ".join(options.speed_perturb_factors),
        # Its directory of token lists, so that no list of other units is taken.
        "lang": options.src_lang,
        "src_bpe_train_text": str(texts["src"]),
        "tgt_bpe_train_text": str(texts["tgt"]),
        "lm_train_text": str(texts["tgt"]),
    }
    config = options.asr_config
    if units.stream == "single":
        _check_bpe_size(texts["src"], options.src_nbpe)
        told |= {
            "tokenization_choice": "ssl",
            "src_token_type": "bpe",
            "src_nbpe": str(options.src_nbpe),
        }
    else:
        import yaml

        with reading(config, "expected options of espnet2.bin.mt_train"):
            values = dict(yaml.safe_load(config.read_text(encoding="utf-8")) or {})
        values = with_units_frontend(values, units, quantizer=str(exp / "quantizer"))
        config = exp / "train.yaml"
        with atomic_write(config) as stream:
            yaml.safe_dump(values, stream, sort_keys=False)
        told |= {"tokenization_choice": "codec", "src_token_type": "null"}
    if config:
        told["asr_config"] = str(config)
    with atomic_write(exp / OPTIONS) as stream:
        stream.writelines(f"--{key}\n{value}\n" for key, value in told.items())
    units.write(exp)
    logging.info("%s enters asr2.sh at stage %d", exp / OPTIONS, FIRST_STAGE)


def _check_bpe_size(path: Path, size: int) -> None:
    """Refuse a BPE vocabulary that cannot hold every unit, as sentencepiece would."""
    n_units = len(set("".join(read_table(path).values())))
    # <unk>, <s> and </s> count too.
    if size < n_units + 3:
        raise ValueError(
            f"--src_nbpe {size}: {path} has {n_units} different units, which need at "
            f"least {n_units + 3}"
        )
