"""The digits recipe in miniature: our bridge, then ESPnet's own asr2.sh, to a score."""

import json
import os
from pathlib import Path

import pytest

from emoq_plugin.espnet_adapters.asr2 import Asr2Units
from emoq_plugin.files import read_table
from tests.integration.digits import write_banks, write_corpus

ROOT = Path(__file__).parents[2]
ESPNET = os.environ.get("ESPNET_ROOT") or next(ROOT.glob(".venv/espnet-*"), "")
pytestmark = pytest.mark.skipif(not ESPNET, reason="ESPnet's recipe tree is not there")
ASR2 = """
. ./path.sh
../../TEMPLATE/asr2/use_units.sh --quantizer {bank} --system {system} \
    --n_levels {levels} --sets "train dev test" --asr_exp exp/asr --src_nbpe 36 \
    --asr_config conf/{stream}.yaml
mapfile -t units <exp/asr/asr2.options
"${{ESPNET_ROOT}}/egs2/TEMPLATE/asr2/asr2.sh" --ngpu 0 --nj 1 --inference_nj 1 \
    --use_lm false --tgt_token_type word --train_set train --valid_set dev \
    --test_sets test --inference_config conf/decode.yaml --stop_stage 14 \
    "${{units[@]}}" --asr_args "--max_epoch 1"
python3 -m emoq_plugin.bin.asr2_wer --asr_exp exp/asr --sets test
"""


ROUTED, TWO_SCALE = ("experts", "specific-distortion"), ("two_scale", "balanced+clip4")


@pytest.fixture(
    params=[("single", 1, *ROUTED), ("multi", 2, *ROUTED), ("single", 1, *TWO_SCALE)],
    ids=["single", "multi", "clip tokens"],
)
def recognised(request, tree, call):
    """Run everything for one stream; gives the recipe's directory and the log."""
    stream, levels, bank, system = request.param
    recipe = tree / "egs2" / "fsdd" / "asr2"
    digits = tree / "digits"
    variables = {"FSDD": str(digits), "PYTHONPATH": str(ROOT)}
    if not digits.exists():
        write_corpus(digits)
        write_banks(recipe / "banks", sorted(digits.glob("recordings/*_5.wav")))
    call("rm", "-rf", recipe / "exp", recipe / "dump")
    script = f"set -euo pipefail; cd '{recipe}'\n"
    if not (recipe / "data").exists():
        script += ". ./path.sh; local/data.sh --unseen_speakers theo\n"
    script += ASR2.format(
        levels=levels, stream=stream, bank=f"banks/{bank}", system=system
    )
    done = call("bash", "-c", script, **variables)
    assert done.returncode == 0, done.stdout[-3000:]
    return recipe, stream, levels, system


def test_stock_asr2_trains_and_decodes_our_units_to_a_score(recognised):
    recipe, stream, levels, system = recognised
    exp = recipe / "exp" / "asr"
    card = Asr2Units.read(exp)
    assert (card.stream, card.n_levels, card.system) == (stream, levels, system)
    assert bool(card.clip_sizes) == ("clip" in system)
    [scored] = exp.glob("*/test/wer.json")
    found = json.loads(scored.read_text())
    words = read_table(recipe / "data" / "test" / "text")
    assert found["words"] == found["utterances"] == len(words) == 30
    hypothesis = read_table(scored.with_name("text"))
    assert sum(words[u] != h for u, h in hypothesis.items()) <= found["errors"]
    # What is needed to decode audio later is where the card says.
    assert (exp / card.quantizer / "config.json").is_file()
    if stream == "single":
        assert (exp / card.src_bpemodel).is_file()
        assert (exp / card.src_token_list).is_file()
    else:
        assert f"patch_size: {levels}" in (exp / "config.yaml").read_text()
    assert not Path(exp, "kmeans").exists()
