"""The report: true to its JSON, self-contained, verdicts by one rule, in a browser."""

import base64
import hashlib
import html
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

from emoq_plugin.bin.report import main
from emoq_plugin.evaluation.results import VERSION
from emoq_plugin.files import write_json
from emoq_plugin.recipe.report.chart import Axes, Plot, Series, figure
from emoq_plugin.recipe.report.citations import cite_corpus
from emoq_plugin.recipe.report.content import METRICS, Content
from emoq_plugin.recipe.report.page import render_page
from emoq_plugin.recipe.report.verdicts import answer_questions, friedman, headline
from emoq_plugin.routing.systems import display_name

EMOTIONS = ["angry", "neutral", "sad"]
RATES = {"16x1": 200.0, "64x1": 300.0, "64x2": 600.0}
EMOQ, CAPACITY = "specific-distortion", "capacity-distortion"
SYSTEMS = ["balanced", EMOQ, CAPACITY, "specific-oracle"]
EVIL = "<script>document.title='owned'</script><img src=x onerror=alert(1)>$a_{b}$"
NAME = "toy-fbank-level"
LEAKS = ["a note on leaks", "esd: fbank was trained on it, with labels"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# ------------------------------------------------------------------- a made-up study


def triple(mean, half=0.04):
    return {"mean": mean, "low": mean - half, "high": mean + half}


def condition(rate, system, head, level):
    bits = None
    if rate != "continuous":
        side = 0.7 if system != "balanced" else 0.0
        bits = {"nominal": RATES[rate], "entropy": 0.9 * RATES[rate], "side_info": side}
    metrics = {name: triple(level + 0.01 * n) for n, name in enumerate(METRICS)}
    return {
        "experiment": NAME,
        "rate": rate,
        "system": system,
        "head": head,
        "bitrate_bps": bits,
        "metrics": metrics,
        "confusion": [[8, 1, 1], [2, 7, 1], [0, 3, 7]],
    }


def difference(rate, metric, value, reference="balanced", system=EMOQ):
    return {
        "family": "one",
        "experiment": NAME,
        "rate": rate,
        "head": "retrained",
        "system": system,
        "reference": reference,
        "metric": metric,
        "difference": value,
        "p": 0.01,
        "p_holm": 0.02,
    }


def measured(rate, system):
    use = {"utilisation": 0.9, "entropy_share": triple(0.8), "perplexity": 40.0}
    return {
        "experiment": NAME,
        "rate": rate,
        "system": system,
        "values": {
            "levels": [use] * int(rate.split("x")[1]),
            "cka": triple(0.6),
            "drift": {"angry": triple(0.2), "sad": triple(0.1), "neutral": None},
            "routes": {
                e: {"specific/" + e: 0.75, "specific/sad": 0.25} for e in EMOTIONS
            },
        },
    }


def make_summary():
    levels = itertools.count()
    scores = [condition("continuous", "continuous", "retrained", 0.61)]
    for rate, system in itertools.product(RATES, SYSTEMS):
        level = 0.5 + 0.0137 * next(levels)
        scores.append(condition(rate, system, "retrained", level))
    scores.append(condition("64x1", "balanced", "frozen", 0.333))
    lost = {"emotion_loss": triple(0.5), "phone_loss": triple(0.2)}
    lost |= {"speaker_loss": triple(0.3), "emotion_minus_phone": triple(0.3)}
    lost |= {"emotion_minus_speaker": triple(0.2)}
    about = {"corpus": "emodb", "feature": "fbank", "quantizer": "level", "seeds": [0]}
    about |= {"folds": ["1", "2"], "n_utterances": 40, "n_speakers": 8}
    comparisons = [
        difference(rate, metric, triple(0.08 if metric == "macro_f1" else -0.05))
        for rate in RATES
        for metric in ("macro_f1", "js")
    ]
    comparisons += [
        difference(rate, f"recall/{e}", triple(-0.1), "continuous", system)
        for rate in RATES
        for e in EMOTIONS
        for system in SYSTEMS[:2]
    ]
    chosen = {"quantizer": "level", "rate": "64x1", "validation_macro_f1": 0.777}
    balanced = {"quantizer": "level", "rate": "64x2", "system": "balanced"}
    best = [
        {
            "experiment": NAME,
            "rate": rate,
            "head": "retrained",
            "role": role,
            "systems": {"1": system, "2": system},
            "bitrate_bps": bits,
            "macro_f1": triple(mean),
            "differences": (
                {"balanced": triple(0.08), "capacity": triple(0.01)}
                if role == "emoq"
                else {}
            ),
        }
        for rate, bits in RATES.items()
        for role, system, mean in (
            ("balanced", "balanced", 0.5),
            ("emoq", EMOQ, 0.58),
            ("capacity", CAPACITY, 0.57),
        )
    ]
    return {
        "version": VERSION,
        "further": [],
        "best": best,
        "name": "toy",
        "corpus": "emodb",
        "synthetic": True,
        "emotions": EMOTIONS,
        "command": "egs2/toy/ser2/run.sh --stage 7 && echo <done>",
        "environment": {"torch": "9.9.9"},
        "config": {"emoq": EMOQ},
        "missing": [{"job": "toy-s1/fold2", "why": "has not been run"}],
        "experiments": [{"name": NAME, **about, "leakage": LEAKS}],
        "scores": scores,
        "measures": [measured(rate, system) for rate in RATES for system in SYSTEMS],
        "comparisons": comparisons,
        "controls": [
            {"experiment": NAME, "rate": rate, "system": system, **lost}
            for rate in RATES
            for system in SYSTEMS[:2]
        ],
        "selected": {
            "experiment": NAME,
            "scores": {"macro_f1": triple(0.6)},
            "chosen": {"1/0": chosen | {"system": EMOQ}},
            "chosen_balanced": {"1/0": balanced},
            "difference_to_balanced": {"macro_f1": triple(0.0612), "js": triple(-0.05)},
            "difference_to_best_balanced": {"macro_f1": triple(0.05)},
            "difference_to_capacity": {"macro_f1": triple(0.01)},
        },
    }


def fold_line(fold, rate, system, recalls):
    heads = {"retrained": {f"recall/{e}": r for e, r in zip(EMOTIONS, recalls)}}
    known = {"experiment": NAME, "fold": fold, "seed": 0, "rate": rate}
    return json.dumps(known | {"system": system, "heads": heads}) + "\n"


class Page(HTMLParser):
    """What the tests ask of a page: elements with those around them, tables, text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.rows, self.words, self.open = [], [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.elements.append((tag, found, list(self.open)))
        if tag not in ("meta", "link"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append(["", found.get("data-value")])

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), list(self.open)))

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, text):
        if {"td", "th"} & set(self.open[-3:]):
            self.rows[-1][-1][0] += text
        if not {"script", "style"} & set(self.open):
            self.words.append(text)

    def having(self, tag):
        return [attributes for name, attributes, _ in self.elements if name == tag]


def render(summary, path, **options):
    return render_page(Content(path, summary), **options)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return a study's directory, its summary and its page."""
    directory = tmp_path_factory.mktemp("exp") / "study_toy"
    summary = make_summary()
    write_json(directory / "summary.json", summary)
    main([str(directory)])
    return directory, summary, (directory / "report.html").read_text()


# ------------------------------------------------------------ the whole page


def test_a_page_refers_to_nothing_outside_but_one_link_to_the_paper(study):
    page = Page(study[2])
    outside = [
        (tag, value)
        for tag, attributes, _ in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "data", "action", "poster", "srcset")
        and not value.startswith(("#", "data:"))
    ]
    assert outside == [("a", "https://arxiv.org/abs/2603.21224")]
    assert "@import" not in study[2] and "url(" not in study[2]
    assert not {tag for tag, *_ in page.elements} & {"iframe", "object", "embed"}


def test_the_policy_of_the_page_allows_its_own_script_alone(study):
    [policy] = [a for a in Page(study[2]).having("meta") if "http-equiv" in a]
    script = re.search(r"<script>(.*?)</script>", study[2], re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy["content"]
    assert f"script-src 'sha256-{digest}'" in policy["content"]


def test_names_stay_text_in_page_and_drawings(tmp_path):
    text = json.dumps(make_summary()).replace(EMOQ, "<b>$x-distortion")
    text = text.replace('"angry"', json.dumps('a" onclick="x"><i>'))
    summary = json.loads(text) | {"name": EVIL}
    page = Page(render(summary, tmp_path))
    assert len(page.having("script")) == 1 and not page.having("img")
    assert not page.having("b") and not page.having("i")
    assert not any("onclick" in attributes for _, attributes, _ in page.elements)
    assert EVIL in page.text and "<b>$x, distortion router" in page.text
    assert "&& echo <done>" in page.text


def test_the_title_names_corpus_features_and_question(study):
    [title] = re.findall(r"<h1>(.*?)</h1>", study[2])
    assert (
        title
        == "EMO-DB, fbank features: does Emo-Q keep emotion that quantization loses?"
    )


def test_the_navigation_leads_to_every_section_and_each_has_content(study):
    page = Page(study[2])
    named = {a["id"] for a in page.having("section")}
    shown = {a["href"][1:] for a in page.having("a") if a["href"].startswith("#")}
    assert shown == named
    assert named >= {
        *("rates", "systems", "emotions", "probes", "confusions", "routes")
    }
    assert "toy-s1/fold2" in page.text and "a note on leaks" in page.text
    assert "SYNTHETIC" in page.text and "torch 9.9.9" in page.text


@pytest.mark.parametrize(
    ("field", "section"),
    [("controls", "Emotion against phones"), ("measures", "Codebook use")],
)
def test_a_section_without_data_is_absent(study, tmp_path, field, section):
    assert section in Page(study[2]).text
    summary = make_summary()
    summary[field] = []
    assert section not in Page(render(summary, tmp_path)).text


def test_a_directory_without_results_is_refused(tmp_path, caplog):
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "summary.json" in caplog.text and "scores.json" in caplog.text


@pytest.mark.parametrize("name", ["x.pdf", "x", "x.docx"])
def test_a_file_of_another_kind_is_refused(study, tmp_path, caplog, name):
    with pytest.raises(SystemExit):
        main([str(study[0]), "--output", str(tmp_path / name)])
    assert f"{name}: reports are written as .html, .htm, .md" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_dash_is_standard_output(study, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main([str(study[0]), "--output", "-"])
    assert capsys.readouterr().out == study[2]
    assert not list(tmp_path.iterdir())


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
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert re.findall(r"^## (.*)", text, re.M) == list(map(html.unescape, titles))
    assert "<" not in re.sub(r"```.*?```", "", text, flags=re.S)


# ------------------------------------------------------------ tables and drawings


def test_all_scores_are_those_of_the_summary(study):
    _, summary, text = study
    rows = {
        (r[0][0], r[1][0], r[2 + len(METRICS)][0]): r
        for r in Page(text).rows
        if len(r) == 6 + len(METRICS)
    }
    for score in summary["scores"]:
        rate = score["rate"].replace("x", "×") if score["bitrate_bps"] else "continuous"
        found = rows[display_name(score["system"]), rate, score["head"]]
        for (name, metric), (shown, value) in zip(METRICS.items(), found[2:]):
            ends = [score["metrics"][name][k] for k in ("mean", "low", "high")]
            assert float(value) == ends[0]
            numbers = [float(n) for n in re.findall(r"[\d.]+", shown)]
            assert numbers == [round(metric.scale * v, metric.digits) for v in ends]


def test_the_table_of_rates_begins_with_the_answer(study):
    rows = [[text for text, _ in r] for r in Page(study[2]).rows]
    [header] = [r for r in rows if r[:1] == ["rate"]]
    assert header[:3] == ["rate", "best Emo-Q − balanced", "balanced RVQ"]
    [row] = [r for r in rows if len(r) == len(header) and r[0] == "64×1"]
    assert row[1].startswith("+8.0 [+4.0,") and row[-1] == "300"


def test_the_first_picture_has_the_best_of_each_kind(tmp_path):
    summary = make_summary()
    summary["selected"] = None
    two_scale = summary["best"][1] | {"role": "two_scale", "macro_f1": triple(0.888)}
    summary["best"].append(two_scale)
    text = render(summary, tmp_path)
    lead = text[text.index("<svg viewBox") :]
    described = re.search('aria-label="([^"]*)"', lead)[1]
    assert "best Emo-Q: 58.0, 58.0, 58.0" in described
    assert "two-scale: 88.8" in described
    assert "Emo-Q scores 58.0 % macro-F1 and balanced RVQ 50.0 %" in Page(text).text
    said = r"Two-scale units \(\d+×\d and a clip code\) score 88\.8 %, \+8\.0 points"
    assert re.search(said, Page(text).text)
    rows = [[text for text, _ in r] for r in Page(text).rows]
    [header] = [r for r in rows if r[:1] == ["rate"]]
    assert header[1:3] == ["best Emo-Q − balanced", "two-scale − balanced"]


def test_an_oracle_is_only_among_controls(study):
    page = study[2]
    place = page.index("specific, oracle route (control)")
    assert page.rindex("<summary>Controls, never results", 0, place)
    assert page.rindex('<section id="', 0, place) == page.index('<section id="details"')


def test_long_tables_are_folded(study):
    depth = [around for tag, _, around in Page(study[2]).elements if tag == "table"]
    rows = [len(re.findall("<tr>", t)) for t in study[2].split("<table ")[1:]]
    assert max(rows) > 12 and len(rows) == len(depth)
    assert all("details" in around for n, around in zip(rows, depth) if n > 12)


def test_every_drawing_is_described_and_takes_its_colours_from_the_page(study):
    drawings = [a for a in Page(study[2]).having("svg") if "key" not in a.values()]
    assert len(drawings) > 8
    for drawing in drawings:
        assert drawing["role"] == "img" and len(drawing["aria-label"]) > 40
    assert "color:var(--s1)" in study[2]
    assert not re.search(r'(fill|stroke)="#', study[2])


def test_drawings_of_a_figure_have_equal_axes():
    ticks = {"a": "a\n1", "b": "b\n2"}
    plots = [
        Plot(f"{level}", [Series("one", {"a": triple(level), "b": triple(0.5)}, 0)])
        for level in (0.1, 0.9)
    ]
    made = figure("", plots, Axes(ticks, "score"))
    axes = [re.findall(r'text-anchor="end">([\d.]+)<', svg) for _, svg in made.drawings]
    assert axes[0] == axes[1] and len(axes[0]) > 3
    assert min(map(float, axes[0])) <= 0.2 and max(map(float, axes[0])) >= 0.8


def test_a_line_that_all_drawings_have_is_in_the_table_once():
    same = Series("balanced", {"a": triple(0.4)}, 0)
    plots = [
        Plot(name, [same, Series("this system", {"a": triple(value)}, 1)])
        for name, value in {"one": 0.5, "two": 0.6}.items()
    ]
    made = figure("", plots, Axes({"a": "a"}, "score"))
    names = [line[0].text for line in made.numbers.rows]
    assert names == ["balanced", "one: this system", "two: this system"]


def test_rates_are_categories_at_equal_distance():
    ticks = {"a": "a\n1", "b": "b\n2", "c": "c\n4000"}
    points = dict.fromkeys(ticks, triple(0.5))
    made = figure("", [Plot("", [Series("one", points, 0)])], Axes(ticks, "score"))
    [line] = re.findall('polyline class="line" points="([^"]*)"', made.drawings[0][1])
    places = [float(point.split(",")[0]) for point in line.split()]
    assert np.allclose(np.diff(places), places[1] - places[0], atol=0.11)


# ------------------------------------------------------------ the verdicts


def answers_of(summary, path):
    content = Content(path, summary)
    return answer_questions(content, content.groups[0])


@pytest.mark.parametrize(
    ("mean", "verdict"), [(0.3, "yes"), (0.02, "not shown"), (-0.3, "no")]
)
@pytest.mark.parametrize("name", ["equal rate", "beyond capacity", "lower rate"])
def test_a_verdict_follows_from_its_interval_alone(tmp_path, name, mean, verdict):
    summary = make_summary()
    field = {"equal rate": "balanced", "beyond capacity": "capacity"}
    field = f"difference_to_{field.get(name, 'best_balanced')}"
    summary["selected"][field]["macro_f1"] = triple(mean)
    answer = answers_of(summary, tmp_path)[name]
    assert answer.verdict == verdict
    assert f"{100 * mean:+.1f}".replace("-", "−") in answer.finding


def test_other_comparisons_do_not_move_a_verdict(tmp_path):
    before, summary = answers_of(make_summary(), tmp_path), make_summary()
    for comparison in summary["comparisons"]:
        comparison["difference"] = triple(-0.9)
    assert answers_of(summary, tmp_path) == before


def test_the_first_sentence_agrees_with_its_question(tmp_path):
    for mean, words in ((0.3, "keeps more"), (0.0, "not shown"), (-0.3, "keeps less")):
        summary = make_summary()
        summary["selected"]["difference_to_balanced"]["macro_f1"] = triple(mean)
        content = Content(tmp_path, summary)
        verdict = answers_of(summary, tmp_path)["equal rate"].verdict
        sentence = " ".join(headline(content, content.groups[0], verdict).split())
        assert words in sentence and "continuous features 61.0 %" in sentence
        assert "(301 bit/s)" in sentence
        assert f"balanced RVQ {60 - 100 * mean:.1f} %" in sentence


def test_without_a_chosen_setting_the_lowest_rate_is_tested(tmp_path):
    summary = make_summary()
    summary["selected"] = None
    summary["best"][1]["differences"]["balanced"] = triple(0.0123)
    answers = answers_of(summary, tmp_path)
    assert "+1.2 points" in answers["equal rate"].finding
    assert answers["equal rate"].verdict == "not shown"
    assert answers["lower rate"].verdict == "not measured"
    assert (
        "At the lowest rate, 16×1 (200 bit/s)" in Page(render(summary, tmp_path)).text
    )


def test_a_lower_divergence_is_better_and_needs_votes(tmp_path):
    summary = make_summary()
    assert answers_of(summary, tmp_path)["votes"].verdict == "yes"
    summary["selected"]["difference_to_balanced"]["js"] = triple(0.05)
    assert answers_of(summary, tmp_path)["votes"].verdict == "no"
    summary["experiments"][0]["soft_targets"] = "one-hot"
    assert answers_of(summary, tmp_path)["votes"].verdict == "not measured"


def test_a_better_score_at_no_lower_rate_is_no_yes(tmp_path):
    summary = make_summary()
    summary["selected"]["chosen_balanced"]["1/0"]["rate"] = "16x1"
    answer = answers_of(summary, tmp_path)["lower rate"]
    assert answer.verdict == "not shown"
    assert "300.7 bit/s" in answer.finding and "200.0 bit/s" in answer.finding


@pytest.mark.parametrize(
    ("phone", "speaker", "verdict"),
    [(0.3, 0.3, "yes"), (0.3, 0.0, "not shown"), (0.3, -0.3, "no")],
)
def test_emotion_has_to_lose_more_than_each_control(tmp_path, phone, speaker, verdict):
    summary = make_summary()
    for control in summary["controls"]:
        control["emotion_minus_phone"] = triple(phone)
        control["emotion_minus_speaker"] = triple(speaker)
    assert answers_of(summary, tmp_path)["emotion first"].verdict == verdict


@pytest.mark.parametrize(
    ("recalls", "verdict"),
    [
        (lambda fold: (0.1, 0.4, 0.7), "yes"),
        (lambda fold: np.roll((0.1, 0.4, 0.7), fold), "not shown"),
        (lambda fold: (0.5, 0.5, 0.5), "not shown"),
    ],
)
def test_a_loss_is_uneven_if_folds_rank_emotions_alike(tmp_path, recalls, verdict):
    lines = [
        fold_line(str(fold), *key, values)
        for fold in range(6)
        for key, values in (
            (("continuous", "continuous"), (0.9, 0.9, 0.9)),
            (("16x1", "balanced"), recalls(fold)),
        )
    ]
    (tmp_path / "conditions.jsonl").write_text("".join(lines))
    assert answers_of(make_summary(), tmp_path)["uneven"].verdict == verdict


def test_friedman_by_hand():
    losses = np.array([[1, 2, 3]] * 4)  # chi2 = 8 with two degrees of freedom
    assert friedman(losses) == pytest.approx(np.exp(-4))


def test_with_one_test_speaker_nothing_is_decided(tmp_path):
    summary = make_summary()
    summary["experiments"][0]["no_interval"] = "one test speaker"
    answers = answers_of(summary, tmp_path).values()
    assert {a.verdict for a in answers} == {"not shown", "not measured"}
    assert all("one test speaker" in a.finding for a in answers if a.verdict[4] == "s")


# ------------------------------------------------------------------ several experiments


def test_other_corpora_have_their_own_verdicts_and_are_folded(tmp_path):
    summary, other = make_summary(), make_summary()
    for kind in ("scores", "controls", "comparisons", "best"):
        summary[kind] += [x | {"experiment": "esd-fbank"} for x in other[kind]]
    summary["experiments"].append(
        {"name": "esd-fbank", "corpus": "esd", "quantizer": "level"}
    )
    chosen = other["selected"]
    chosen["difference_to_balanced"]["macro_f1"] = triple(-0.3)
    summary["further"] = [{"corpus": "esd", "feature": None, "selected": chosen}]
    text = render(summary, tmp_path)
    fold = text[text.index("The same tests on other corpora") :]
    fold = Page(fold[: fold.index("</details>")]).text
    assert "esd" in fold and "no. macro-F1: −30.0 points" in fold
    assert answers_of(summary, tmp_path)["equal rate"].verdict == "yes"
    assert "All scores: esd-fbank" in Page(text).text


def test_every_corpus_has_a_reference_and_odd_names_do_no_harm():
    corpora = "emodb esd iemocap ravdess crema_d msp_podcast emns enterface jl_corpus"
    for corpus in f"{corpora} nemo meld".split():
        assert re.search(r"(19|20)\d\d|arXiv", cite_corpus(corpus)), corpus
    for odd in ("../x", "nothing", "tables", "a.b"):
        assert cite_corpus(odd).startswith(odd)


# ------------------------------------------------------------ in a browser


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


@pytest.mark.parametrize(
    ("width", "height", "dark"),
    [(390, 844, False), (768, 1024, False), (1200, 800, True)],
)
def test_a_browser_shows_the_page_without_complaint(
    browser, study, width, height, dark
):
    browser.open(study[0] / "report.html", width=width, dark=dark)
    wrong = {"Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"}
    assert not wrong & set(browser.named())
    asked = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    page = (study[0] / "report.html").as_uri()
    assert [url for url in asked if not url.startswith("data:")] == [page]
    assert browser.run("document.documentElement.scrollWidth") <= width
    boxes = "map(s => s.getBoundingClientRect()).map(b => [b.left, b.right, b.bottom])"
    drawn = browser.run(f"[...document.querySelectorAll('.panel > svg')].{boxes}")
    assert all(left >= 0 and right <= width for left, right, _ in drawn)
    # One sentence and one picture on the first screen.
    [sentence] = browser.run(f"[...document.querySelectorAll('.sentence')].{boxes}")
    assert sentence[2] < height and drawn[0][2] < height
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", paper)[:3])) > 384
    assert light != dark


def test_tables_sort_by_the_keyboard(browser, study):
    browser.open(study[0] / "report.html", width=1280)
    table = "[...document.querySelectorAll('table.sortable')].at(-1)"
    browser.run(f"{table}.closest('details').open = true")
    heads = f"[...{table}.tHead.rows[0].cells]"
    head = f"{heads}.find(cell => cell.textContent.includes('macro-F1'))"
    column = browser.run(f"{head}.cellIndex")
    browser.run(f"{head}.querySelector('button').focus()")
    values = f"[...{table}.tBodies[0].rows].map(r => +r.cells[{column}].dataset.value)"
    key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
    for order in (-1, 1):
        browser.call("Input.dispatchKeyEvent", type="keyDown", **key)
        browser.call("Input.dispatchKeyEvent", type="keyUp", **key)
        found = browser.run(values)
        assert len(set(found)) > 5 and found == sorted(found, reverse=order < 0)
    assert browser.run(f"{head}.getAttribute('aria-sort')") == "ascending"


def test_the_printed_page_fits_its_paper(browser, study):
    browser.open(study[0] / "report.html", width=703)  # 186 mm at 96 dots an inch
    browser.call("Emulation.setEmulatedMedia", media="print")
    style = "getComputedStyle(document.querySelector('nav')).display"
    assert browser.run(style) == "none"
    ends = "[...document.querySelectorAll('table, svg')].map(t => t.clientWidth)"
    assert max(browser.run(ends)) <= 703
    code = browser.call("Page.printToPDF")["data"]
    assert base64.b64decode(code).startswith(b"%PDF")
