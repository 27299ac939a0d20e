"""`emoq compare`: what is equal, what is not, and what cannot be compared."""

import json

import numpy as np
import pytest
import torch

from emoq_plugin.bin.compare import main
from emoq_plugin.core import CodebookBank, Normalization
from emoq_plugin.espnet_adapters.compare import CompareOptions, measured
from emoq_plugin.espnet_adapters.kmeans_models import export_kmeans
from emoq_plugin.evaluation.compare import UnitSet, codeword_overlap, unit_overlap
from emoq_plugin.speech.encoders.encoder import FeatureSpecification
from emoq_plugin.speech.store import merge_feature_jobs, write_features

EMOTIONS = ("angry", "sad")
CENTRES = np.array([[-4, 0, 0], [-4, 9, 0], [4, 0, 0], [4, 9, 0]], dtype=np.float32)


def specification(**changed):
    fields = {"encoder": "made", "layers": [], "dimension": 3, "frame_rate_hz": 50.0}
    return FeatureSpecification(**fields | {"sample_rate": 16000} | changed)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Angry clips visit centres 0 and 1, sad ones 2 and 3; phones are even and odd."""
    root = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    clips, tables, segments = {}, {"utt2spk": "", "utt2emo": "", "wav.scp": ""}, ""
    for n in range(24):
        name, place = f"s{n % 4}_{n:02d}", 2 * (n // 4 % 2)
        centres = place + np.arange(40) // 4 % 2
        clips[name] = (
            CENTRES[centres] + random.normal(0, 0.3, (40, 3)).astype(np.float32)
        ).astype(np.float32)
        tables["utt2spk"] += f"{name} s{n % 4}\n"
        tables["utt2emo"] += f"{name} {EMOTIONS[place // 2]}\n"
        tables["wav.scp"] += f"{name} {name}.wav\n"
        for t in range(0, 40, 4):
            phone = "ao"[t // 4 % 2]
            segments += f"{name} 1 {t / 50:.2f} 0.08 {phone}\n"
    write_features(root / "features", specification(), clips.items())
    merge_feature_jobs(root / "features", 1)
    (root / "data").mkdir()
    for name, text in tables.items():
        (root / "data" / name).write_text("".join(sorted(text.splitlines(True))))
    (root / "phones.ctm").write_text(segments)
    return root


def save(place, codebook, *, norm="corpus", **changed):
    norm = Normalization(norm, torch.zeros(3), torch.ones(3))
    card = {"feature": specification(**changed).to_json()}
    codebooks = [torch.from_numpy(codebook)[None]]
    CodebookBank(["balanced"], codebooks, norm, emotions=[], card=card).save_pretrained(
        place
    )
    return str(place)


def compare(corpus, a, b, **options):
    options = {"data": corpus / "features", "system_a": "balanced"} | options
    return measured(CompareOptions(a=str(a), b=str(b), system_b="balanced", **options))


def test_a_quantizer_equals_itself_however_its_codewords_are_numbered(corpus, tmp_path):
    a = save(tmp_path / "a", CENTRES)
    b = save(tmp_path / "b", CENTRES[[2, 0, 3, 1]])
    found = compare(corpus, a, b)
    assert found["overlap"]["unit_nmi"] == [pytest.approx(1)]
    assert found["overlap"]["codewords"] == [
        {"nearest": pytest.approx(1), "matched": pytest.approx(1)}
    ]
    assert found["a"]["distortion"] == pytest.approx(found["b"]["distortion"])
    assert found["a"]["used"] == [1.0]
    assert 3.9 < found["a"]["perplexity"][0] <= 4


def test_what_makes_a_codebook_worse_shows(corpus, tmp_path):
    good = save(tmp_path / "good", CENTRES)
    # Angry and sad share codewords, and one is never used.
    mean = CENTRES[[0, 1]] / 2 + CENTRES[[2, 3]] / 2
    bad = save(tmp_path / "bad", np.concatenate([mean, [[99, 99, 99]]]).astype("f4"))
    found = compare(
        corpus, good, bad, labels=corpus / "data", alignments=corpus / "phones.ctm"
    )
    a, b = found["a"], found["b"]
    assert a["distortion"] < 0.05 < 0.3 < b["distortion"] < 1
    assert b["used"] == [pytest.approx(2 / 3)]
    assert a["emotion"]["uar"] == 1.0 and b["emotion"]["uar"] < 0.8
    for side in (a, b):
        assert side["phone"]["accuracy"] == 1.0 > side["phone"]["chance"]
    assert found["overlap"]["unit_nmi"][0] < 0.8


def test_distortion_does_not_count_the_offset_that_is_removed(corpus, tmp_path):
    centred = CENTRES - CENTRES[:2].mean(axis=0)
    clip = save(tmp_path / "clip", centred, norm="clip")
    found = compare(corpus, clip, save(tmp_path / "plain", CENTRES))
    assert found["a"]["distortion"] < 0.05
    assert "codewords" not in found["overlap"], "their spaces differ"


def test_models_of_espnet_and_files_of_units_are_compared_too(corpus, tmp_path):
    pytest.importorskip("joblib")
    a = save(tmp_path / "a", CENTRES)
    export_kmeans([torch.from_numpy(CENTRES)], tmp_path / "km_4.mdl")
    found = compare(corpus, a, tmp_path / "km_4.mdl")
    assert found["overlap"]["unit_nmi"] == [pytest.approx(1)]
    assert found["overlap"]["codewords"][0]["matched"] == pytest.approx(1)
    lines = [
        f"s{n % 4}_{n:02d} "
        + " ".join(str(2 * (n // 4 % 2) + t // 4 % 2) for t in range(40))
        for n in range(24)
    ]
    (tmp_path / "units").write_text("\n".join(sorted(lines)) + "\n")
    found = compare(corpus, a, tmp_path / "units", labels=corpus / "data")
    assert found["overlap"]["unit_nmi"][0] > 0.99
    assert found["b"]["emotion"]["uar"] == 1.0 and "distortion" not in found["b"]
    alone = compare(corpus, tmp_path / "units", tmp_path / "units", data=None)
    assert alone["overlap"]["unit_nmi"] == [pytest.approx(1)]


def test_the_command_prints_a_table_and_writes_json(corpus, tmp_path, capsys):
    a = save(tmp_path / "a", CENTRES)
    words = [a, a, "--system_a", "balanced", "--system_b", "balanced", "--data"]
    words += [str(corpus / "features"), "--labels", str(corpus / "data")]
    main([*words, "--output", str(tmp_path / "found.json")])
    out = capsys.readouterr().out
    assert "emotion from units, UAR %" in out and "units of level 0: 1.000" in out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["a"]["bits_a_frame"] == 2.0


def test_quantizers_of_different_features_are_refused(corpus, tmp_path):
    a = save(tmp_path / "a", CENTRES)
    other = save(tmp_path / "b", CENTRES, settings={"layer": 3})
    with pytest.raises(ValueError, match=r"different features: .*'settings'"):
        compare(corpus, a, other)
    with pytest.raises(ValueError, match="different features"):
        compare(corpus, other, other)  # of the data
    wide = tmp_path / "km_2.mdl"
    export_kmeans([torch.ones(2, 5)], wide)
    with pytest.raises(ValueError, match="different dimensions"):
        compare(corpus, a, wide)


def test_what_cannot_be_compared_is_refused(corpus, tmp_path):
    a = save(tmp_path / "a", CENTRES)
    clip = save(tmp_path / "clip", CENTRES, norm="clip")
    with pytest.raises(ValueError, match="nothing can be compared"):
        compare(corpus, a, clip, data=None)
    (tmp_path / "short").write_text("s0_00 1 2\n")
    with pytest.raises(ValueError, match="alone"):
        compare(corpus, a, tmp_path / "short")
    with pytest.raises(ValueError, match="needs --data, to encode"):
        compare(corpus, a, tmp_path / "short", data=None)
    (tmp_path / "bad").write_text("x 1 2\ny 1 -2\n")
    with pytest.raises(ValueError, match="bad:2: clip 'y'"):
        compare(corpus, tmp_path / "bad", tmp_path / "bad", data=None)
    with pytest.raises(ValueError, match="--alignments needs --labels"):
        compare(corpus, a, a, alignments=corpus / "phones.ctm")


def test_a_router_that_has_seen_the_labels_is_named(corpus, tmp_path, caplog):
    plain = Normalization("corpus", torch.zeros(3), torch.ones(3))
    experts = [f"specific/{emotion}" for emotion in EMOTIONS]
    codebooks = [torch.from_numpy(CENTRES).view(2, 2, 3)]
    for name, speakers in (("seen", ["s0", "s1"]), ("unseen", ["elsewhere"])):
        card = {
            "feature": specification().to_json(),
            "training_speakers": speakers,
        }
        bank = CodebookBank(experts, codebooks, plain, emotions=EMOTIONS, card=card)
        bank.save_pretrained(tmp_path / name)
    system = "specific-distortion"
    for name, said in (("unseen", 0), ("seen", 1)):
        caplog.clear()
        measured(
            CompareOptions(
                a=str(tmp_path / name),
                b=save(tmp_path / "b", CENTRES),
                system_a=system,
                system_b="balanced",
                data=corpus / "features",
                labels=corpus / "data",
            )
        )
        assert caplog.text.count("labels of 2 of these speakers") == said


def test_units_without_repeats_do_not_fit_the_frames():
    a = UnitSet("a", {"x": np.array([[0], [0], [1]])}, [2])
    b = UnitSet("b", {"x": np.array([[0], [1]])}, [2])
    from emoq_plugin.evaluation.compare import check_same_clips

    with pytest.raises(ValueError, match="3 frames in a and 2 in b"):
        check_same_clips(a, b)


def test_independent_units_share_nothing_and_random_codebooks_little():
    random = np.random.default_rng(0)
    a, b = (
        UnitSet(name, {"x": random.integers(0, 8, (20000, 1))}, [8]) for name in "ab"
    )
    assert unit_overlap(a, b)[0] < 0.01
    found = codeword_overlap(*random.normal(size=(2, 64, 32)))
    assert found["matched"] < 0.5
