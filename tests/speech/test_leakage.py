"""Leakage notes say what a source says, and no more."""

from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from emoq_plugin.speech.encoders.encoder import FeatureSpecification
from emoq_plugin.speech.encoders.leakage import encoder_id, leakage_notes
from emoq_plugin.speech.encoders.registry import read_feature_config

ENTRIES = yaml.safe_load(
    files("emoq_plugin.speech.encoders").joinpath("leakage.yaml").read_text("utf-8")
)
CONF = Path(__file__).parents[2] / "conf/features"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["names"][0])
def test_every_entry_names_its_source(entry):
    assert set(entry) <= {"names", "data", "complete", "source", "seen", "overlap"}
    assert "https://" in entry["source"] or "arXiv" in entry["source"]
    assert isinstance(entry["complete"], bool) and entry["data"]
    for note in leakage_notes(entry["names"][0], ["esd", "nowhere"]):
        assert entry["source"] in note


def test_no_encoder_is_described_twice():
    names = [name for entry in ENTRIES for name in entry["names"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_preset_is_in_the_table(path):
    name, conf = read_feature_config(path)
    [note] = leakage_notes(conf.get("model", name), ["esd"])
    assert "unknown" not in note


def test_what_was_seen_is_distinguished_from_what_was_not_and_what_nobody_knows():
    iemocap, esd = leakage_notes("emotion2vec/emotion2vec_base", ["iemocap", "esd"])
    assert iemocap.startswith("iemocap: emotion2vec_base was trained on it, without")
    assert esd.startswith("esd: not in the training data of emotion2vec_base (")
    [seed] = leakage_notes("emotion2vec_plus_seed", ["CREMA-D"])
    assert seed.startswith("CREMA-D: emotion2vec_plus_seed was trained on it, with la")
    [nemo] = leakage_notes("iic/emotion2vec_plus_base", ["nemo"])
    assert nemo.startswith("nemo: not documented whether emotion2vec_plus_base was")
    [podcast] = leakage_notes("microsoft/wavlm-large", ["msp_podcast"])
    assert "not documented whether wavlm-large has seen a part: GigaSpeech" in podcast
    [web] = leakage_notes("openai/whisper-large-v3", ["meld"])
    assert "not documented" in web


def test_names_of_s3prl_and_local_copies_are_known():
    hub = leakage_notes("facebook/hubert-large-ll60k", ["esd"])[0]
    copy = leakage_notes("copies/HuBERT-large_ll60k/", ["esd"])[0]
    upstream = leakage_notes("hubert_large_ll60k", ["esd"])[0]
    tails = {note.partition("(")[2] for note in (hub, copy, upstream)}
    assert len(tails) == 1 and "Libri-Light" in tails.pop()


def test_a_specification_gives_the_name():
    specification = FeatureSpecification(
        "huggingface", [24], 8, 50.0, 16000, versions={"model": "a/b"}
    )
    assert encoder_id(specification) == "a/b"
    assert encoder_id(FeatureSpecification("fbank", [], 8, 50.0, 16000)) == "fbank"
