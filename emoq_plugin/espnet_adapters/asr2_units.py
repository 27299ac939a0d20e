"""Units of data directories for ESPnet's asr2.sh, in place of its stages 2 to 6."""

import logging
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from emoq_plugin import routing, speech
from emoq_plugin import units as units_code
from emoq_plugin.files import (
    atomic_write,
    missing_config,
    read_table,
    reading,
    write_json,
    write_table,
)
from emoq_plugin.options import Count, number
from emoq_plugin.recipe.stage import Stage

if TYPE_CHECKING:
    from emoq_plugin.espnet_adapters.asr2 import Asr2Units
    from emoq_plugin.espnet_adapters.asr2_encoding import SetEncoder

PYTHON = "python3 -m emoq_plugin.run"
TABLES = ("wav.scp", "segments", "text", "utt2spk")
OPTIONS = "asr2.options"
FIRST_STAGE = 7  # of asr2.sh, after the units


def speed_factor(text: str) -> str:
    """Check a speed; asr2.sh makes names of its spelling."""
    if not re.fullmatch(r"\d+(\.\d+)?", text) or not float(text):
        raise ValueError(f"'{text}', expected such as 0.9")
    return text


@dataclass(frozen=True, kw_only=True)
class Asr2UnitsOptions:
    """Which units of which sets, for which model.

    Attributes
    ----------
    quantizer
        Directory or hub name.
    system
        Of a bank: balanced or <expert set>-<router>.
    n_levels
        Levels of the stream; all when left out.
    sets
        The training set first.
    data_dir
        Holds <set>/wav.scp.
    asr_exp
        Directory of the model; default: exp/asr_<src_lang>.
    dumpdir
        Default: dump/<src_lang>.
    src_lang
        Default: emoq_<system>_<K>x<L>_<sha256 of the codebooks>.
    tgt_lang
        As in asr2.sh.
    stream
        Default: by the levels.
    deduplicate
        Default: true for a single stream.
    speed_perturb_factors
        Of the training set.
    min_wav_duration, max_wav_duration
        Seconds, of the training set.
    src_nbpe
        BPE pieces of a single stream.
    asr_config
        Configuration of mt_train; needed for --stream multi.
    python
        Command that asr2.sh runs ESPnet with.
    allow_pipe
        Run commands in wav.scp.
    multi_channel
        What is done with several channels.
    device
        Auto is the GPU where there is one.
    model_dir
        Local directory of the encoder's model.
    nj
        Processes on the CPU.
    """

    quantizer: Path
    system: str | None = None
    n_levels: Count | None = None
    sets: tuple[str, ...]
    data_dir: Path = Path("data")
    asr_exp: Path | None = None
    dumpdir: Path | None = None
    src_lang: str | None = None
    tgt_lang: str = "en"
    stream: Literal["single", "multi"] | None = None
    deduplicate: bool | None = None
    speed_perturb_factors: tuple[Annotated[str, speed_factor], ...] = ()
    min_wav_duration: Annotated[float, number(0)] = 0.1
    max_wav_duration: Annotated[float, number(0)] = 30.0
    src_nbpe: Count = 500
    asr_config: Path | None = None
    python: str = PYTHON
    allow_pipe: bool = False
    multi_channel: Literal["error", "first", "mean"] = "error"
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    model_dir: str | None = None
    nj: Count = 1

    def encoder(self, units: "Asr2Units", name: str) -> "SetEncoder":
        """Return what encodes a set; only the training set is filtered, as there."""
        from emoq_plugin.espnet_adapters.asr2_encoding import SetEncoder

        trained = name == self.sets[0]
        limits = (self.min_wav_duration, self.max_wav_duration)
        return SetEncoder(
            source=self.data_dir / name,
            units=units,
            quantizer=self.quantizer,
            factors=(trained and self.speed_perturb_factors) or ("1.0",),
            seconds=limits if trained else None,
            allow_pipe=self.allow_pipe,
            multi_channel=self.multi_channel,
            device=self.device,
            model_dir=self.model_dir,
            nj=self.nj,
        )

    def dumped(self, name: str) -> Path:
        """Return the directory of a set's units, as asr2.sh calls it."""
        sped = name == self.sets[0] and self.speed_perturb_factors
        return self.dumpdir / "raw" / (f"{name}_sp" if sped else name)


def asr2_units(options: Asr2UnitsOptions) -> None:
    """Pack the quantizer, encode every set, write card and options.

    Writes `<dumpdir>/raw/<set>` for every set, and into the model's directory the
    packed quantizer, `emoq_units.json` (the card) and `asr2.options` (the options of
    asr2.sh that enter it at stage 7, one argument a line).

    Raises
    ------
    ValueError
        For options, sets, a quantizer or a model that do not fit each other, before
        anything is written.
    """
    _check(options)
    options, units = _prepare(options)
    for name in options.sets:
        encoder = options.encoder(units, name)
        stage = Stage(
            options.dumped(name),
            inputs=[
                options.quantizer,
                *(p for t in TABLES if (p := encoder.source / t).exists()),
            ],
            settings={
                "stream": units.stream,
                "deduplicate": units.deduplicate,
                "kept": {"factors": encoder.factors, "seconds": encoder.seconds},
                "tgt_lang": options.tgt_lang,
                "multi_channel": options.multi_channel,
            },
            code=[speech, routing, units_code],
        )
        if not stage.is_done():
            shutil.rmtree(stage.output, ignore_errors=True)
            stage.start()
            counts = _write_set(encoder, stage.output, options.tgt_lang)
            stage.finish(**counts)
            logging.info("%s: %s", stage.output, counts)
    _finish(options, units)


def _check(options: Asr2UnitsOptions) -> None:
    from emoq_plugin.espnet_adapters.asr2 import read_recordings

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


def _prepare(options: Asr2UnitsOptions) -> tuple[Asr2UnitsOptions, "Asr2Units"]:
    """Pack the quantizer, fill in names that follow from it, refuse a foreign model."""
    import emoq_plugin
    from emoq_plugin.espnet_adapters.asr2 import CARD, Asr2Units, name_of_units
    from emoq_plugin.recipe.stages.pack import PackOptions, pack

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
    src_lang = options.src_lang
    if src_lang is None:
        src_lang = name_of_units(found)
    exp = options.asr_exp or Path("exp") / f"asr_{src_lang}"
    dumpdir = options.dumpdir or Path("dump") / src_lang
    deduplicate = options.deduplicate
    if deduplicate is None:
        deduplicate = stream == "single"
    # What cannot be is refused before anything is written.
    units = Asr2Units.describe(
        found,
        path="quantizer",
        stream=stream,
        deduplicate=deduplicate,
        src_lang=src_lang,
    )
    if stream == "single":
        name = f"src_bpe_unigram{options.src_nbpe}_{units.src_case}_{src_lang}"
        bpe = os.path.relpath(f"data/{src_lang}_token_list/{name}", exp)
        units = replace(
            units, src_bpemodel=f"{bpe}/bpe.model", src_token_list=f"{bpe}/tokens.txt"
        )
    packed = dumpdir / "quantizer"
    pack(
        PackOptions(
            quantizer=options.quantizer,
            system=system,
            n_levels=levels,
            output_dir=packed,
        )
    )
    # Of the levels that are packed, not of all that were learned.
    sha256 = emoq_plugin.load(str(packed)).codebooks_sha256
    units = replace(units, codebooks_sha256=sha256)
    trained = (exp / "checkpoint.pth").exists()
    if trained and not ((exp / CARD).exists() and Asr2Units.read(exp) == units):
        raise ValueError(
            f"{exp} holds a model that was trained on other units, and ESPnet would go "
            "on from it: give another --asr_exp, or remove it"
        )
    (exp / OPTIONS).unlink(missing_ok=True)  # those of a call before
    return replace(options, quantizer=packed, asr_exp=exp, dumpdir=dumpdir), units


def _write_set(encoder: "SetEncoder", output: Path, tgt_lang: str) -> dict[str, Any]:
    """Encode one set as ESPnet's dump/raw/<set>; gives what the marker keeps."""
    from emoq_plugin.espnet_adapters.asr2_encoding import speed_prefix

    source, units = encoder.source, encoder.units
    speakers, texts = (read_table(source / name) for name in ("utt2spk", "text"))
    names = {
        f"{speed_prefix(factor)}{u}": (u, speed_prefix(factor))
        for factor in encoder.factors
        for u in speakers
    }
    ids, seconds, bits = {}, 0.0, 0.0
    for found in encoder:
        ids[found.name] = found.ids
        seconds, bits = seconds + found.seconds, bits + found.bits
    if not ids:
        raise ValueError(
            f"{source}: no recording has a text and {encoder.seconds[0]:g} to "
            f"{encoder.seconds[1]:g} s (--min_wav_duration, --max_wav_duration)"
        )
    if units.stream == "single":
        lines = {u: units.text(found) for u, found in ids.items()}
        write_table(output / units.src_text, lines)
    else:
        _write_ark(output, units.src_text, ids)
        with atomic_write(output / "token_lists/codec_token_list") as stream:
            stream.writelines(f"{token}\n" for token in units.tokens())
    tgt = {name: texts[names[name][0]] for name in ids}
    write_table(output / f"text.ts.{tgt_lang}", tgt)
    spoken = {name: f"{names[name][1]}{speakers[names[name][0]]}" for name in ids}
    write_table(output / "utt2spk", spoken)
    (output / "feats_type").write_text("raw\n")
    counts = {
        "utterances": len(ids),
        "left_out": len(names) - len(ids),
        "seconds": round(seconds, 3),
        "bits_per_second": round(bits / seconds, 3),
        "ids": sum(map(len, ids.values())),
        "different_ids": len(set().union(*(set(i.tolist()) for i in ids.values()))),
    }
    write_json(output / "units.json", counts)
    return counts


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


def _finish(options: Asr2UnitsOptions, units: "Asr2Units") -> None:
    """Write the quantizer, the options of asr2.sh and, last, the card."""
    exp, raw = options.asr_exp, options.dumpdir / "raw"
    shutil.copytree(options.quantizer, exp / "quantizer", dirs_exist_ok=True)
    # asr2.sh looks for a validation set that it decodes under org/.
    if not (raw / "org").is_symlink():
        (raw / "org").symlink_to(".")
    train = options.dumped(options.sets[0])
    src, tgt = train / units.src_text, train / f"text.ts.{options.tgt_lang}"
    # As stage 6 of asr2.sh, for a language model.
    texts = read_table(tgt)
    lm = {f"{u}.ts.{options.tgt_lang}": text for u, text in texts.items() if text}
    write_table(raw / "lm_train.txt", lm)
    values = {
        "stage": FIRST_STAGE,
        "python": options.python,
        "dumpdir": options.dumpdir,
        "asr_exp": exp,
        "asr_stats_dir": exp / "stats",
        "src_lang": units.src_lang,
        "tgt_lang": options.tgt_lang,
        "src_case": units.src_case,
        "tgt_case": "ts",
        "speed_perturb_factors": " ".join(options.speed_perturb_factors),
        # Its directory of token lists, so that no list of other units is taken.
        "lang": units.src_lang,
        "src_bpe_train_text": src,
        "tgt_bpe_train_text": tgt,
        "lm_train_text": tgt,
    }
    config = options.asr_config
    if units.stream == "single":
        _check_bpe_size(src, options.src_nbpe)
        values |= {
            "tokenization_choice": "ssl",
            "src_token_type": "bpe",
            "src_nbpe": options.src_nbpe,
        }
    else:
        config = _write_config(config, units, exp)
        values |= {"tokenization_choice": "codec", "src_token_type": "null"}
    if config:
        values["asr_config"] = config
    with atomic_write(exp / OPTIONS) as stream:
        stream.writelines(f"--{key}\n{value}\n" for key, value in values.items())
    units.write(exp)
    logging.info("%s enters asr2.sh at stage %d", exp / OPTIONS, FIRST_STAGE)


def _write_config(config: Path, units: "Asr2Units", exp: Path) -> Path:
    """Write a training configuration with the frontend of multi-stream units."""
    import yaml

    from emoq_plugin.espnet_adapters.asr2 import with_units_frontend

    with reading(config, "expected options of espnet2.bin.mt_train"):
        values = dict(yaml.safe_load(config.read_text(encoding="utf-8")) or {})
    values = with_units_frontend(values, units, quantizer=str(exp / "quantizer"))
    with atomic_write(exp / "train.yaml") as stream:
        yaml.safe_dump(values, stream, sort_keys=False)
    return exp / "train.yaml"


def _check_bpe_size(path: Path, size: int) -> None:
    """Refuse a BPE vocabulary that cannot hold every unit, as sentencepiece would."""
    n_units = len(set("".join(read_table(path).values())))
    # <unk>, <s> and </s> count too.
    if size < n_units + 3:
        raise ValueError(
            f"--src_nbpe {size}: {path} has {n_units} different units, which need at "
            f"least {n_units + 3}"
        )
