"""Our units where ESPnet's own tts2.sh and svs2.sh read theirs: both train on them."""

import json
import os
from pathlib import Path

import pytest
import soundfile
import yaml

from emoq_plugin.files import read_table, write_table
from tests.integration.digits import write_banks, write_corpus

ROOT = Path(__file__).parents[2]
ESPNET = os.environ.get("ESPNET_ROOT") or next(ROOT.glob(".venv/espnet-*"), "")
pytestmark = pytest.mark.skipif(not ESPNET, reason="ESPnet's recipe tree is not there")
SETS = {"train": 60, "dev": 30, "test": 30}
STOCK = """
. ./path.sh
stock() {{
    "${{ESPNET_ROOT}}/egs2/TEMPLATE/{layout}/{layout}.sh" --ngpu 0 --nj 1 \
        --python '{python}' --audio_format wav --fs 8000 --n_fft 256 --n_shift 160 \
        --train_set train --valid_set dev --test_sets test --srctexts data/train/text \
        --g2p none --cleaner none {options} "$@"
}}
"""
UNITS = """
stock --stage 2 --stop_stage {prepared}
python3 -m emoq_plugin.bin.synthesis_units --layout {layout} --quantizer banks/experts \
    --system specific-distortion --n_levels {levels} --sets train dev test --tag units
"""
TRAIN = """
mapfile -t units <dump/units/{layout}.options
stock "${{units[@]}}" --train_config conf.yaml {more}
"""
TRAINED = {"max_epoch": 1, "batch_type": "sorted", "batch_size": 8, "num_workers": 0}
SMALL = {"adim": 16, "aheads": 2, "elayers": 1, "eunits": 16, "dlayers": 1}
SMALL |= {"dunits": 16, "postnet_layers": 0}


@pytest.fixture
def recipe(tree, call):
    """A recipe's directory with the corpus as its first stage leaves it."""
    recipe = tree / "egs2" / "fsdd" / "asr2"
    if not (tree / "digits").exists():
        write_corpus(tree / "digits")
        heard = sorted(tree.glob("digits/recordings/*_5.wav"))
        write_banks(recipe / "banks", heard)
    call("rm", "-rf", *(recipe / name for name in ("data", "dump", "exp")))
    script = f"cd '{recipe}'; . ./path.sh; local/data.sh --unseen_speakers theo"
    made = call("bash", "-ec", script, FSDD=str(tree / "digits"))
    assert made.returncode == 0, made.stdout
    return recipe


@pytest.fixture
def run(recipe, call, warm_python):
    """Return a function that runs a part of the script in the recipe."""

    def run(*parts, **values):
        text = "".join(parts).format(python=warm_python, **values)
        text = f"set -euo pipefail; cd '{recipe}'\n{text}"
        done = call("bash", "-c", text, PYTHONPATH=str(ROOT))
        assert done.returncode == 0, done.stdout[-3000:]

    return run


def ids_of(table):
    return {u: [int(i) for i in ids.split()] for u, ids in read_table(table).items()}


def has_trained(log):
    return "1epoch results: [train]" in log.read_text()


def write_durations(recipe):
    """Write how many frames a letter and the end have, as an aligner would."""
    for name in SETS:
        text = read_table(recipe / f"data/{name}/text")
        lines = {}
        for u, ids in ids_of(recipe / f"dump/raw/{name}/text.km.units").items():
            each = len(ids) // (len(text[u]) + 1)
            first = [each] * len(text[u])
            lines[u] = " ".join(map(str, [*first, len(ids) - sum(first)]))
        write_table(recipe / f"teacher/{name}/durations", lines)


def test_stock_tts2_trains_on_one_level(recipe, run):
    options = {"layout": "tts2", "options": "--src_token_type char"}
    run(STOCK, UNITS, levels=1, prepared=5, **options)
    raw = recipe / "dump/raw"
    for name, count in SETS.items():
        found = ids_of(raw / name / "text.km.units")
        assert len(found) == count
        assert {i // 16 for ids in found.values() for i in ids} <= {0, 1}
    write_durations(recipe)
    averaged = {"reduction_factor": 1}
    config = TRAINED | {
        "tts_conf": SMALL | {"duration_predictor_chans": 16},
        "pitch_extract": "dio",
        "pitch_extract_conf": averaged | {"use_token_averaged_f0": True},
        "energy_extract": "energy",
        "energy_extract_conf": averaged | {"use_token_averaged_energy": True},
    }
    (recipe / "conf.yaml").write_text(yaml.safe_dump(config))
    more = "--stop_stage 8 --teacher_dumpdir teacher"
    run(STOCK, TRAIN, more=more, **options)
    assert has_trained(recipe / "exp/tts2_units/train.log")
    shape = read_table(recipe / "exp/tts2_stats_units/train/discrete_speech_shape")
    expected = ids_of(raw / "train/text.km.units")
    assert {u: int(n) for u, n in shape.items()} == {
        u: len(ids) for u, ids in expected.items()
    }


def sing(recipe):
    """Make songs of the digits: every letter is a note."""
    for name in SETS:
        data = recipe / "data" / name
        text, wav = read_table(data / "text"), read_table(data / "wav.scp")
        labels, scores = {}, {}
        for u, word in text.items():
            each = soundfile.info(wav[u]).duration / len(word)
            notes = [
                [i * each, (i + 1) * each, letter, 60 + i, letter]
                for i, letter in enumerate(word)
            ]
            labels[u] = " ".join(f"{a:.4f} {b:.4f} {x}" for a, b, x, *_ in notes)
            scores[u] = f"data/{name}/{u}.json"
            score = {"tempo": 120, "item_list": ["st", "et", "lyric", "midi", "phns"]}
            (recipe / scores[u]).write_text(json.dumps(score | {"note": notes}))
        write_table(data / "label", labels)
        write_table(data / "score.scp", scores)
        write_table(data / "text", {u: " ".join(word) for u, word in text.items()})


def test_stock_svs2_trains_on_two_levels(recipe, run):
    sing(recipe)
    config = TRAINED | {
        "model_type": "discrete_svs",
        "svs": "toksing",
        "svs_conf": SMALL
        | {"text_encoder_blocks": 1, "use_discrete_token": True, "use_masking": True}
        | {"predict_pitch": True, "loss_function": "FastSpeech1"},
        "pitch_extract": "dio",
        "pitch_extract_conf": {"use_token_averaged_f0": False, "use_log_f0": True},
        "pitch_normalize": "None",
    }
    (recipe / "conf.yaml").write_text(yaml.safe_dump(config))
    options = "--token_type phn --score_feats_extract syllable_score_feats "
    options += "--win_length 256 --fmax 3800 --preset_layer none --preset_token none "
    options += "--pitch_extract dio"
    values = {"layout": "svs2", "options": options, "more": "--stop_stage 7"}
    run(STOCK, UNITS, TRAIN, levels=2, prepared=3, **values)
    assert has_trained(recipe / "exp/svs2_units/train.log")
    config = yaml.safe_load((recipe / "exp/svs2_units/config.yaml").read_text())
    assert (config["nclusters"], config["discrete_token_layers"]) == (32, 2)
