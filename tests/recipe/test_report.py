"""The report: complete, true to its JSON, self-contained, usable in a browser."""

import base64
import hashlib
import html
import io
import itertools
import json
import os
import re
import select
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
import torch

from emoq_plugin.bin.report import main
from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.core.normalization import Normalization
from emoq_plugin.evaluation.predictions import Prediction, write_predictions
from emoq_plugin.evaluation.results import VERSION
from emoq_plugin.files import write_json, write_table
from emoq_plugin.recipe.report.answers import answer_questions
from emoq_plugin.recipe.report.citations import cite_corpus
from emoq_plugin.recipe.report.content import METRICS, Content, read_content
from emoq_plugin.recipe.report.figures import RateAxis
from emoq_plugin.recipe.report.files import fill
from emoq_plugin.recipe.report.listening import clips_to_hear, waveform
from emoq_plugin.recipe.report.page import render_page
from emoq_plugin.routing.systems import display_name
from emoq_plugin.speech.encoders.fbank import Fbank
from emoq_plugin.speech.store import write_features
from emoq_plugin.units.store import UnitWriter, write_cards

EMOTIONS = ["angry", "neutral", "sad"]
RATES = {"16x1": 200.0, "64x1": 300.0, "64x2": 600.0}
SYSTEMS = ["balanced", "specific-distortion", "capacity-distortion", "specific-oracle"]
EVIL = "<script>document.title='owned'</script><img src=x onerror=alert(1)>$a_{b}$"
NAME = "toy-fbank-level"
LEAKS = ["a note on leaks", "esd: fbank was trained on it, with labels"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# ---------------------------------------------------------------------- made-up studies


def triple(mean, half=0.04):
    return {"mean": mean, "low": mean - half, "high": mean + half}


def condition(rate, system, head, level):
    side = 0.7 if system != "balanced" else 0.0
    bits = None
    if rate != "continuous":
        bits = {"nominal": RATES[rate], "entropy": 0.9 * RATES[rate], "side_info": side}
    metrics = {name: triple(level + 0.01 * n) for n, name in enumerate(METRICS)}
    metrics["recall"] = {e: triple(level + 0.02 * n) for n, e in enumerate(EMOTIONS)}
    return {
        "experiment": NAME,
        "rate": rate,
        "system": system,
        "head": head,
        "bitrate_bps": bits,
        "metrics": metrics,
        "ambiguity": {
            part: {"n_utterances": 5, "js": triple(0.2), "top2_set": triple(0.6)}
            for part in ("low", "high")
        },
        "confusion": [[8, 1, 1], [2, 7, 1], [0, 3, 7]],
    }


def difference(rate, metric, value, reference="balanced", **more):
    return {
        "family": "one",
        "experiment": NAME,
        "rate": rate,
        "head": "retrained",
        "system": "specific-distortion",
        "reference": reference,
        "metric": metric,
        "difference": value,
        "p": 0.01,
        "p_holm": 0.02,
        **more,
    }


def measured(rate, system):
    levels = int(rate.split("x")[1])
    told = {what: {"excess": triple(0.5)} for what in ("emotion", "phone", "speaker")}
    use = {"utilisation": 0.9, "entropy_share": triple(0.8), "perplexity": 40.0}
    return {
        "experiment": NAME,
        "rate": rate,
        "system": system,
        "values": {
            "distortion": {e: triple(0.3 + 0.1 * n) for n, e in enumerate(EMOTIONS)},
            "cosine_of_means": {"all": triple(0.7)},
            "levels": [{**use, "distortion": 0.3} for _ in range(levels)],
            "cka": triple(0.6),
            "mutual_information": told,
            "drift": {"angry": triple(0.2), "sad": triple(0.1), "neutral": None},
            "vote_structure": triple(0.5),
            "routes": {
                e: {"specific/" + e: 0.75, "specific/sad": 0.25} for e in EMOTIONS
            },
        },
    }


def make_summary():
    levels = itertools.count()
    scores = [condition("continuous", "continuous", "retrained", 0.61)]
    for rate in RATES:
        for system in SYSTEMS:
            scores.append(
                condition(rate, system, "retrained", 0.5 + 0.0137 * next(levels))
            )
    scores.append(condition("64x1", "balanced", "frozen", 0.333))
    lost = {"emotion_loss": triple(0.5), "phone_loss": triple(0.2)}
    lost |= {"speaker_loss": triple(0.3), "emotion_minus_phone": triple(0.3)}
    lost |= {"emotion_minus_speaker": triple(0.2)}
    facts = {"corpus": "emodb", "feature": "fbank", "quantizer": "level", "seeds": [0]}
    facts |= {"folds": ["1", "2"], "n_utterances": 40, "n_speakers": 8}
    return {
        "version": VERSION,
        "name": "toy",
        "corpus": "emodb",
        "synthetic": True,
        "emotions": EMOTIONS,
        "command": "egs2/toy/ser2/run.sh --stage 7 && echo <done>",
        "environment": {"torch": "9.9.9"},
        "config": {"emoq": "specific-distortion"},
        "jobs": 2,
        "conditions": 13,
        "missing": [{"job": "toy-s1/fold2", "why": "has not been run"}],
        "experiments": [{"name": NAME, **facts, "leakage": LEAKS}],
        "scores": scores,
        "measures": [measured(rate, system) for rate in RATES for system in SYSTEMS],
        "comparisons": [
            difference(rate, metric, triple(0.08 if metric == "macro_f1" else -0.05))
            for rate in RATES
            for metric in ("macro_f1", "js")
        ],
        "controls": [
            {"experiment": NAME, "rate": rate, "system": system, **lost}
            for rate in RATES
            for system in ("balanced", "specific-distortion")
        ],
        "selected": {
            "by": "validation speakers",
            "chosen": {
                "1/0": {
                    "quantizer": "level",
                    "rate": "64x1",
                    "system": "specific-distortion",
                    "validation_macro_f1": 0.777,
                }
            },
            "difference_to_balanced": {"macro_f1": triple(0.0612)},
            "difference_to_capacity": {"macro_f1": triple(0.01)},
        },
        "examples": [
            {
                "utterance": EVIL,
                "emotion": "sad",
                "rate": "64x1",
                "targets": {"angry": 0.25, "neutral": 0.0, "sad": 0.75},
                "posteriors": {
                    system: {"angry": 0.2, "neutral": 0.1, "sad": 0.7}
                    for system in ("continuous", *SYSTEMS[:2])
                },
            }
        ],
    }


class Page(HTMLParser):
    """What the tests ask of a page: elements, addresses, rows of conditions, text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.rows, self.words, self.open = [], [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.elements.append((tag, found))
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append(["", found.get("data-value")])

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, text):
        if {"td", "th"} & set(self.open[-3:]):
            self.rows[-1][-1][0] += text
        if not {"script", "style"} & set(self.open):
            self.words.append(text)

    def having(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return a study's directory, its summary and its page."""
    directory = tmp_path_factory.mktemp("exp") / "study_toy"
    summary = make_summary()
    write_json(directory / "summary.json", summary)
    main([str(directory)])
    return directory, summary, (directory / "report.html").read_text()


def test_markdown_has_the_tables_of_the_page(study):
    directory, _, page = study
    output = directory / "report.md"
    main([str(directory), "--output", str(output)])
    text = output.read_text()
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    assert len(tables) == page.count("<table ")
    for table in tables:
        lines = [re.split(r"(?<!\\)\|", line) for line in table.splitlines()]
        assert len({len(line) for line in lines}) == 1 and len(lines) > 2
        assert set(lines[1]) <= {"", "\n", "---", "---:"}
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [
        html.unescape(title)
        for title in re.findall(r"<h2>(.*?)</h2>", page)
        if title != "To listen to"
    ]
    assert "<" not in re.sub(r"```.*?```|< [0-9.]|<= ", "", text, flags=re.S)


def render(summary, **options):
    return render_page(Content(options.pop("path"), summary, True), audio=False)


# ----------------------------------------------------------------------- the whole page


def test_a_page_refers_to_nothing_outside_but_one_link_to_the_paper(study):
    page = Page(study[2])
    outside = {
        value
        for tag, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "data", "action", "poster", "srcset")
        and not value.startswith(("#", "data:"))
    }
    assert outside == {"https://arxiv.org/abs/2603.21224"}
    links = [tag for tag, a in page.elements if a.get("href") in outside]
    assert links == ["a"]
    assert "@import" not in study[2] and "url(http" not in study[2]
    assert {tag for tag, _ in page.elements} & {"iframe", "object", "embed"} == set()


def test_the_policy_of_the_page_allows_its_own_script_alone(study):
    [policy] = [a for a in Page(study[2]).having("meta") if "http-equiv" in a]
    script = re.search(r"<script>(.*?)</script>", study[2], re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy["content"]
    assert f"script-src 'sha256-{digest}'" in policy["content"]


def test_text_of_the_data_stays_text(study):
    page = Page(study[2])
    assert len(page.having("script")) == 1 and not page.having("img")
    assert EVIL in page.text
    assert "&& echo <done>" in page.text


def test_names_in_drawings_stay_text(tmp_path):
    summary = make_summary()
    text = json.dumps(summary).replace("specific-distortion", "specific-<b>$x")
    text = text.replace('"angry"', json.dumps('a" onclick="x"><i>'))
    page = Page(render(json.loads(text), path=tmp_path))
    assert not page.having("b") and not page.having("i")
    assert not any("onclick" in attributes for _, attributes in page.elements)
    assert "Emo-Q, <b>$x router" in page.text


def test_every_system_rate_and_section_appears(study):
    page = Page(study[2])
    for system in SYSTEMS:
        assert display_name(system) in page.text
    for rate in RATES:
        assert rate.replace("x", "×") in page.text
    assert "toy-s1/fold2" in page.text and "a note on leaks" in page.text
    table = [[condition[0] for condition in row] for row in page.rows if len(row) == 3]
    assert ["fbank", "esd", "fbank was trained on it, with labels"] in table
    assert "SYNTHETIC" in page.text and "torch 9.9.9" in page.text
    assert "Burkhardt" in page.text and "2603.21224" in page.text
    named = {a["id"] for a in page.having("section")}
    shown = {a["href"][1:] for a in page.having("a") if a["href"].startswith("#")}
    assert shown == named and len(named) > 15


def test_all_scores_are_those_of_the_summary(study):
    _, summary, text = study
    rows = {
        (r[0][0], r[1][0], r[2][0]): r
        for r in Page(text).rows
        if len(r) == 6 + len(METRICS)
    }
    assert len(rows) == len(summary["scores"]) + 1
    for score in summary["scores"]:
        rate = (
            score["rate"].replace("x", "×") if score["bitrate_bps"] else score["rate"]
        )
        row = rows[rate, display_name(score["system"]), score["head"]]
        for name, (shown, value) in zip(METRICS, row[6:]):
            mean, low, high = (
                score["metrics"][name][k] for k in ("mean", "low", "high")
            )
            scale, digits = (100, 1) if METRICS[name].percent else (1, 3)
            assert float(value) == mean
            numbers = [float(n) for n in re.findall(r"[\d.]+", shown)]
            expected = [round(scale * v, digits) for v in (mean, low, high)]
            assert numbers == pytest.approx(expected, abs=1e-9)
        if score["bitrate_bps"]:
            assert float(row[3][1]) == score["bitrate_bps"]["nominal"]


def test_confusions_and_routes_are_those_of_the_summary(study):
    rows = [[text for text, _ in row] for row in Page(study[2]).rows]
    assert ["angry", "8", "1", "1"] in rows and ["sad", "0", "3", "7"] in rows
    assert ["angry", "75.0", "0.0", "25.0"] in rows  # experts angry, neutral, sad


def test_every_drawing_is_described_and_takes_its_colours_from_the_page(study):
    page = Page(study[2])
    drawings = page.having("svg")
    assert len(drawings) > 12
    for drawing in drawings:
        assert drawing["role"] == "img" and len(drawing["aria-label"]) > 40
    assert "var(--s1)" in study[2] and not re.search("#a7..5c", study[2])
    assert "<text" in study[2]  # letters stay letters
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(set(ids)) == len(ids)


def test_what_a_summary_lacks_is_named(tmp_path):
    summary = make_summary()
    for name in ("controls", "measures", "examples", "selected"):
        summary.pop(name)
    text = Page(render(summary, path=tmp_path)).text
    missing = text[text.index("What is missing") :]
    for title in ("Emotion against phones", "Routes", "Codebook use", "Figures to"):
        assert title in missing
    assert "No sounds: switched off" in missing


def test_a_directory_without_results_is_refused(tmp_path, caplog):
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "summary.json" in caplog.text and "scores.json" in caplog.text


# -------------------------------------------------------------------------- the answers


def answers_of(summary, tmp_path):
    return answer_questions(Content(tmp_path, summary, True))


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [(0.3, "holds"), (0.02, "does not hold"), (-0.3, "does not hold")],
)
def test_a_claim_holds_only_where_its_interval_says_so(tmp_path, mean, verdict):
    summary = make_summary()
    for control in summary["controls"]:
        control["emotion_minus_phone"] = triple(mean)
        control["emotion_minus_speaker"] = triple(mean)
    assert answers_of(summary, tmp_path)[0].verdict == verdict


def test_one_control_of_two_is_a_part(tmp_path):
    summary = make_summary()
    for control in summary["controls"]:
        control["emotion_minus_speaker"] = triple(0.0)
    assert answers_of(summary, tmp_path)[0].verdict == "holds in part"


def test_specialised_codebooks_need_hard_and_soft_gains_after_correction(tmp_path):
    summary = make_summary()
    assert answers_of(summary, tmp_path)[2].verdict == "holds"
    for comparison in summary["comparisons"]:
        if comparison["metric"] == "js":
            comparison["p_holm"] = 0.2
    assert answers_of(summary, tmp_path)[2].verdict == "holds in part"
    for comparison in summary["comparisons"]:
        comparison["difference"] = triple(0.0)
    assert answers_of(summary, tmp_path)[2].verdict == "does not hold"


def test_a_lower_divergence_counts_as_better(tmp_path):
    summary = make_summary()
    for comparison in summary["comparisons"]:
        if comparison["metric"] == "js":
            comparison["difference"] = triple(+0.08)
    sentences = " ".join(answers_of(summary, tmp_path)[2].sentences)
    assert "worse in 3" in sentences


def test_the_saving_is_the_ratio_of_bitrates_with_the_route(tmp_path):
    summary = make_summary()
    level = {"balanced": {"16x1": 0.4, "64x1": 0.5, "64x2": 0.6}}
    level["specific-distortion"] = {"16x1": 0.5, "64x1": 0.65, "64x2": 0.7}
    for score in summary["scores"]:
        if score["system"] in level and score["head"] == "retrained":
            value = level[score["system"]][score["rate"]]
            score["metrics"]["macro_f1"] = triple(value)
    sentences = " ".join(answers_of(summary, tmp_path)[3].sentences)
    assert (
        "300.7 bit/s" in sentences and f"{300.7 / 600:.2f} of the bitrate" in sentences
    )
    assert "+6.1 points [+2.1," in sentences  # the setting that validation chose


def test_emoq_is_set_beside_its_controls(tmp_path):
    summary = make_summary()
    for reference in ("capacity-distortion", "balanced+specific-distortion"):
        summary["comparisons"].append(
            difference("64x1", "macro_f1", triple(0.0123), reference)
        )
    sentences = answers_of(summary, tmp_path)[3].sentences
    beside = [s for s in sentences if "+1.2 points" in s]
    assert len(beside) == 2 and all("at 0 of 1 rates" in s for s in beside)


def test_paired_recall_losses_are_preferred_to_independent_ones(tmp_path):
    summary = make_summary()
    for number, emotion in enumerate(EMOTIONS):
        paired = triple(-0.3 * number, 0.01)
        summary["comparisons"].append(
            difference(
                "16x1", f"recall/{emotion}", paired, "continuous", system="balanced"
            )
        )
    answer = answers_of(summary, tmp_path)[1]
    assert "sad −60.0 points [−61.0,\N{NO-BREAK SPACE}−59.0]" in answer.sentences[-1]
    assert answer.verdict == "holds"


# ------------------------------------------------------- an experiment that is no study


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Return exp/<tag> with scores, predictions, units and features beside it."""
    root = tmp_path_factory.mktemp("recipe")
    tag, rate, system = root / "exp/fbank_level", "4x1", "specific-distortion"
    random = np.random.default_rng(0)
    utterances = [f"s-{e}-{n}" for n in range(2) for e in EMOTIONS]
    label = {u: u.split("-")[1] for u in utterances}
    raw, dump = root / "dump/raw/all", root / "dump/fbank/all"
    raw.mkdir(parents=True)
    write_table(raw / "utt2emo", label)
    write_table(raw / "utt2spk", dict.fromkeys(utterances, "s"))
    write_table(
        raw / "utt2votes",
        {
            u: " ".join(f"{e}={3 if e == label[u] else 1}" for e in EMOTIONS)
            for u in label
        },
    )
    encoder = Fbank()
    waves = random.normal(0, 0.1, (len(utterances), 8000)).astype(np.float32)
    frames = dict(zip(utterances, encoder.encode(list(waves))))
    (dump).mkdir(parents=True)
    write_features(dump, encoder.card, frames.items())
    for name in ("feats.{}scp", "utt2num_frames{}", "feature.{}json"):
        job = name.format("1." if name.endswith(("scp", "json")) else ".1")
        (dump / job).rename(dump / name.format(""))
    stacked = np.concatenate(list(frames.values())) - np.mean(
        np.concatenate([f - f.mean() for f in frames.values()]), axis=0
    )
    stacked = torch.from_numpy(stacked)
    members = [f"specific/{e}" for e in EMOTIONS]
    bank = CodebookBank(
        ["balanced", *members],
        [torch.randn(4, 4, 80, generator=torch.Generator().manual_seed(0))],
        Normalization("level", stacked.mean(dim=0) * 0, stacked.std(dim=0)),
        emotions=EMOTIONS,
        card={"feature_fingerprint": encoder.card.fingerprint()},
    )
    bank.save_pretrained(tag / "fold1/quantizer/4x1")
    for name in ("balanced", system):
        output = root / f"dump/units/fbank_level/fold1/all/{rate}/{name}"
        routed = name != "balanced"
        with UnitWriter(output, size=4, n_levels=1, routed=routed) as writer:
            for u in utterances:
                codes = random.integers(0, 4, (len(frames[u]), 1))
                expert = f"specific/{label[u]}" if routed else "balanced"
                writer.write(u, codes, {expert: 1.0})
        card = {
            "rate": rate,
            "system": name,
            "experts": members if routed else ["balanced"],
        }
        card |= {"n_levels": 1, "size": 4, "frame_rate_hz": 50.0}
        card |= {"quantizer": os.path.relpath(tag / "fold1/quantizer/4x1", output)}
        card |= {"codebooks_sha256": bank.codebooks_sha256}
        write_cards(output, card, {"used_share": [0.75], "relative_entropy": [0.9]})
    bits = {"nominal": 100.0, "entropy": 90.0, "side_info": 0.5}
    conditions = [
        ("continuous", "continuous", None),
        (rate, "balanced", bits),
        (rate, system, bits),
    ]
    rows = np.full((len(utterances), 3), 0.2) + 0.4 * np.eye(3)[[0, 1, 2, 0, 1, 1]]
    write_predictions(
        tag / "fold1/ser/probe/posteriors.jsonl",
        [
            Prediction("1", r, a, "retrained", b, EMOTIONS, utterances, rows)
            for r, a, b in conditions
        ],
    )
    made = [
        condition(r if b is None else "16x1", a, "retrained", 0.5)
        | {"experiment": tag.name, "rate": r, "bitrate_bps": b}
        for r, a, b in conditions
    ]
    facts = {"folds": ["1"], "n_utterances": 6, "n_speakers": 1}
    scores = {"version": VERSION, "name": tag.name, "corpus": "mini_emo"}
    scores |= {"synthetic": True, "emotions": EMOTIONS, "scores": made}
    scores |= {"config": {"feature": encoder.card.to_json()}}
    scores["experiments"] = [{"name": tag.name, "corpus": "mini_emo", **facts}]
    write_json(tag / "scores.json", scores)
    return tag


def test_scores_alone_make_a_page_that_says_what_is_missing(experiment, tmp_path):
    tag = tmp_path / "exp/only"
    tag.mkdir(parents=True)
    shutil.copy(experiment / "scores.json", tag)
    main([str(tag), "--output", str(tmp_path / "page.html")])
    text = Page((tmp_path / "page.html").read_text()).text
    missing = text[text.index("What is missing") :]
    assert "not a study" in missing and "Routes" in missing
    assert "No sounds: units were not found" in missing
    assert "Emo-Q, distortion router" in text and "50.0 [46.0," in text


@pytest.mark.parametrize("name", ["x.pdf", "x", "x.docx"])
def test_a_file_of_another_kind_is_refused(study, tmp_path, caplog, name):
    with pytest.raises(SystemExit):
        main([str(study[0]), "--output", str(tmp_path / name)])
    assert f"{name}: reports are written as .html, .htm, .md" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_dash_is_standard_output(study, tmp_path, monkeypatch, capsys):
    directory, _, page = study
    monkeypatch.chdir(tmp_path)
    main([str(directory), "--output", "-"])
    found = (
        re.sub(r"\b[mp][0-9a-f]{10}\b", "", text)
        for text in (capsys.readouterr().out, page)
    )  # Matplotlib's names differ from call to call
    assert len(set(found)) == 1
    assert not list(tmp_path.iterdir())


def test_files_beside_the_scores_fill_what_they_can(experiment):
    content = read_content(experiment)
    fill(content.summary, experiment)
    [toy] = content.experiments
    routes = toy.measure("4x1", "specific-distortion", "routes")
    assert routes == {e: {e: 1.0} for e in EMOTIONS}
    assert toy.measure("4x1", "balanced", "levels")[0]["utilisation"] == 0.75
    examples = {e["emotion"]: e for e in content.summary["examples"]}
    assert examples["sad"]["targets"] == {"angry": 0.2, "neutral": 0.2, "sad": 0.6}
    assert sum(examples["sad"]["posteriors"]["balanced"].values()) == pytest.approx(1)


def test_one_clip_of_each_emotion_can_be_heard(experiment):
    content = read_content(experiment)
    clips, why = clips_to_hear(content)
    assert why == "" and len(clips) == len(EMOTIONS)
    for clip in clips:
        labels = [one.label for one in clip.sounds]
        assert labels[0] == "continuous features" and len(labels) == 3
        for one in clip.sounds:
            kind, code = one.source.split(",")
            assert kind == "data:audio/flac;base64"
            wave, rate = soundfile.read(io.BytesIO(base64.b64decode(code)))
            assert rate == 16000 and wave.ndim == 1 and 0.4 < len(wave) / rate < 0.6
            assert 0.01 < np.abs(wave).max() <= 1


def test_sound_made_of_features_has_these_features():
    time = np.arange(16000) / 16000
    tone = 0.1 * np.sin(2 * np.pi * 1000 * time) * (1 + np.sin(2 * np.pi * 3 * time))
    tone = tone + 0.002 * np.random.default_rng(0).standard_normal(16000)
    encoder = Fbank()
    [before] = encoder.encode([tone.astype(np.float32)])
    [after] = encoder.encode([waveform(before, encoder.settings)])
    length = min(len(before), len(after)) - 1
    # Frames of the new wave are centred, Kaldi's are not: about half a frame apart.
    before, after = before[1 : length + 1], after[:length]
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.85
    assert abs(before.mean() - after.mean()) < 1
    assert abs(before.mean(axis=0).argmax() - after.mean(axis=0).argmax()) <= 1


# ---------------------------------------------------------------------------- comparing


def test_two_studies_stand_beside_each_other(study, tmp_path):
    directory, summary, _ = study
    second = json.loads(json.dumps(summary))
    second["name"] = "later"
    for score in second["scores"]:
        score["metrics"]["macro_f1"] = triple(
            score["metrics"]["macro_f1"]["mean"] + 0.1
        )
    write_json(tmp_path / "study_later/summary.json", second)
    output = tmp_path / "both.html"
    other = str(tmp_path / "study_later")
    main(
        [
            str(directory),
            "--compare",
            other,
            "--output",
            str(output),
            "--audio",
            "false",
        ]
    )
    text = output.read_text()
    page = Page(text)
    assert "toy beside later" in page.text
    rows = [row for row in page.rows if len(row) == 9 and row[5][1]]
    changes = [float(row[5][1]) for row in rows if row[0][0] in ("16×1", "64×1")]
    assert len(changes) == 9 and changes == pytest.approx([0.1] * 9)
    assert "balanced RVQ (second)" in text and "stroke-dasharray" in text


def test_experiments_without_a_partner_are_named(study, tmp_path):
    summary = study[1]
    two = json.loads(json.dumps(summary))
    two["experiments"].append({"name": "alone", "corpus": "emodb"})
    two["scores"].append(summary["scores"][1] | {"experiment": "alone"})
    page = render_page(
        Content(tmp_path, two, True),
        other=Content(tmp_path, summary, True),
        audio=False,
    )
    assert "Without a partner in the second: alone." in Page(page).text


# -------------------------------------------------------------------------------- parts


def test_rates_stand_in_order_of_their_bits_and_apart():
    places = RateAxis(
        {"16x1": 200.0, "2x4": 200.0, "64x1": 300.0, "64x4": 1200.0}
    ).places
    found = list(places.values())
    assert found == sorted(found) and found[0] == 0 and found[-1] == 1
    assert np.diff(found).min() > 0.1


def test_an_system_of_two_streams_stands_at_its_own_bitrate():
    axis = RateAxis({"64x1": 300.0, "64x2": 600.0})
    assert axis.place("64x1", 600.0) == axis.places["64x2"]
    assert axis.place("64x2", 1200.0) == pytest.approx(2.0)  # beyond the last tick
    assert axis.place("64x1", 300.7) == axis.places["64x1"]


def test_every_corpus_has_a_reference_and_odd_names_do_no_harm():
    corpora = "emodb esd iemocap ravdess crema_d msp_podcast emns enterface jl_corpus"
    for corpus in f"{corpora} nemo meld".split():
        assert re.search(r"(19|20)\d\d|arXiv", cite_corpus(corpus)), corpus
    for odd in ("../x", "nothing", "tables", "a.b"):
        assert cite_corpus(odd).startswith(odd)


# ------------------------------------------------------------------------- in a browser


class Browser:
    """Headless Chromium over its debugging pipe: files 3 and 4, messages end in NUL."""

    def __init__(self, home):
        read_by_it, self.output = os.pipe()
        self.input, written_by_it = os.pipe()

        def pipes():
            os.dup2(os.dup(read_by_it), 103)
            os.dup2(os.dup(written_by_it), 104)
            os.dup2(103, 3)
            os.dup2(104, 4)

        options = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage"
        command = [CHROMIUM, *options.split(), "--remote-debugging-pipe"]
        self.process = subprocess.Popen(
            [*command, f"--user-data-dir={home}", "about:blank"],
            preexec_fn=pipes,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_by_it)
        os.close(written_by_it)
        self.count, self.events, self.rest, self.session = 0, [], b"", None
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.output, json.dumps(message).encode() + b"\0")
        while (answer := self.read()).get("id") != message["id"]:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def read(self):
        while b"\0" not in self.rest:
            assert select.select([self.input], [], [], 60)[0], "Chromium is silent"
            self.rest += os.read(self.input, 1 << 20)
        line, _, self.rest = self.rest.partition(b"\0")
        message = json.loads(line)
        self.events += [message] if "method" in message else []
        return message

    def run(self, expression):
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")

    def open(self, path, *, width, dark=False):
        self.events.clear()
        size = {"width": width, "height": 844, "deviceScaleFactor": 1}
        self.call("Emulation.setDeviceMetricsOverride", **size, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.as_uri())
        while "Page.loadEventFired" not in self.named():
            self.read()

    def named(self):
        return [event["method"] for event in self.events]

    def close(self):
        self.session = None
        self.call("Browser.close")
        self.process.wait(timeout=30)
        os.close(self.output)
        os.close(self.input)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    started = Browser(tmp_path_factory.mktemp("chromium"))
    yield started
    started.close()


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1280, True)])
def test_a_browser_shows_the_page_without_complaint(browser, study, width, dark):
    browser.open(study[0] / "report.html", width=width, dark=dark)
    wrong = {"Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"}
    assert not wrong & set(browser.named())
    asked = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith("data:")] == [
        (study[0] / "report.html").as_uri()
    ]
    assert browser.run("document.documentElement.scrollWidth") <= width
    sizes = browser.run(
        "[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect())"
        ".map(b => [b.left, b.right, b.height])"
    )
    assert len(sizes) > 12
    assert all(
        left >= 0 and right <= width and tall > 80 for left, right, tall in sizes
    )
    assert "owned" not in browser.run("document.title")
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", paper)[:3])) > 384
    assert light != dark


def test_tables_sort_by_the_keyboard(browser, study):
    browser.open(study[0] / "report.html", width=1280)
    table = "document.querySelector('#scores table')"
    heads = f"[...{table}.tHead.rows[0].conditions]"
    head = f"{heads}.find(condition => condition.textContent.includes('macro-F1'))"
    column = browser.run(f"{head}.conditionIndex")
    browser.run(f"{head}.querySelector('button').focus()")
    values = (
        f"[...{table}.tBodies[0].rows].map(r => +r.conditions[{column}].dataset.value)"
    )
    for order in (-1, 1):
        key = {
            "key": "Enter",
            "code": "Enter",
            "windowsVirtualKeyCode": 13,
            "text": "\r",
        }
        browser.call("Input.dispatchKeyEvent", type="keyDown", **key)
        browser.call("Input.dispatchKeyEvent", type="keyUp", **key)
        found = browser.run(values)
        assert found == sorted(found, reverse=order < 0)
    state = browser.run(f"{head}.getAttribute('aria-sort')")
    assert state == "ascending"


def test_the_printed_page_fits_its_paper(browser, study):
    browser.open(study[0] / "report.html", width=794)
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert (
        browser.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    )
    # The widest tables have landscape pages: 273 mm at 96 dots an inch.
    ends = "[...document.querySelectorAll('table')].map(t => t.offsetWidth)"
    assert max(browser.run(ends)) <= 273 / 25.4 * 96
    code = browser.call("Page.printToPDF")["data"]
    assert base64.b64decode(code).startswith(b"%PDF")
