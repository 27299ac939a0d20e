"""Pages: examples of architecture.md work, links lead somewhere, api.md is of today.

Every block of commands says which test runs it, or why none does.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emoq_plugin import EmoQuantizer
from emoq_plugin.data import corpora
from emoq_plugin.data.corpora.corpus import build
from emoq_plugin.learning import weighting

PAGE = Path(__file__).parents[1] / "docs/architecture.md"
EXAMPLES = {
    part.partition("\n")[0]: re.findall(r"```python\n(.*?)```", part, re.DOTALL)
    for part in re.split(r"^### An? ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
}
ROUTED = """
import sys
import numpy as np
from emoq_plugin import EmoQuantizer
from emoq_plugin.routing import routers
from emoq_plugin.routing.systems import System

routers.__path__.append(sys.argv[1])
assert System.parse("specific-spread").title == "Emo-Q, spread router"
random = np.random.default_rng(0)
labels = ["happy", "sad"] * 5
clips = [random.normal(n % 2, 1, (20 + n, 3)) for n in range(10)]
q = EmoQuantizer(codebook_size=8, router="spread", norm="corpus").fit(clips, labels)
x = [(c - q.bank_.normalization.mean.numpy()) for c in clips]
x = [c / q.bank_.normalization.scale.numpy() for c in x]
used = np.zeros((2, len(clips)))
for place, expert in enumerate(q.quantizer_.bank.experts):
    table = q.bank_.subset([expert]).codebooks[0][0].numpy()
    for n, clip in enumerate(x):
        far = ((clip[:, None] - table) ** 2).sum(axis=-1)
        used[place, n] = len(set(far.argmin(axis=1)))
route = q(clips).route[:, 0]
assert (used[route, range(10)] == used.max(axis=0)).all(), used
assert len(set(route.tolist())) == 2
"""


def test_a_router_is_one_file(tmp_path):
    [code] = EXAMPLES["router"]
    (tmp_path / "spread.py").write_text(code)
    # In a process of its own: a class cannot be forgotten.
    done = subprocess.run(
        [sys.executable, "-c", ROUTED, tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_an_expert_set_is_a_function_and_its_name(monkeypatch):
    [code] = EXAMPLES["expert set"]
    monkeypatch.setattr(weighting, "EXPERT_SETS", dict(weighting.EXPERT_SETS))
    exec(compile(code, PAGE.name, "exec"), {})
    random = np.random.default_rng(0)
    labels = ["angry", "happy", "sad"] * 4
    clips = [random.normal(len(label), 1, (30, 2)) for label in labels]
    q = EmoQuantizer(codebook_size=4, router="distortion", expert_set="others")
    bank = q.fit(clips, labels).bank_
    assert bank.expert_set("others") == [
        f"others/{e}" for e in ("angry", "happy", "sad")
    ]
    assert bank.card["expert_frames"]["others/sad"] == 30 * 8


def test_a_corpus_is_one_module(tmp_path, monkeypatch):
    [code] = EXAMPLES["corpus"]
    package, audio = tmp_path / "package", tmp_path / "audio"
    package.mkdir()
    (package / "toy.py").write_text(code)
    audio.mkdir()
    for speaker in ("ann", "ben", "cem"):
        for label in ("joy", "rage", "song"):
            soundfile.write(audio / f"{speaker}_{label}_1.wav", np.zeros(1600), 16000)
    monkeypatch.setattr(corpora, "__path__", [*corpora.__path__, str(package)])
    monkeypatch.delitem(sys.modules, f"{corpora.__name__}.toy", raising=False)
    assert "toy" in corpora.names()
    corpus = corpora.load("toy")
    clips = corpus.find(audio)
    assert [clip.left_out for clip in clips].count("songs") == 3
    used = [clip for clip in clips if not clip.left_out]
    data = build(corpus, used, class_set="all")
    assert len(data.utterances) == 6
    assert set(data.emotion.values()) == {"happy", "angry"}


ROOT = PAGE.parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES += sorted(ROOT.glob("egs2/*/*/README.md"))
ALL_RUN = re.compile(r"^<!-- all blocks run: (\S+) -->$", re.MULTILINE)
RUN = re.compile(r"<!-- (?:run|run smaller): (.+) -->")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_block_of_commands_is_run_by_a_test_or_says_why_not(page):
    text = page.read_text("utf-8")
    whole = ALL_RUN.findall(text)
    places = list(whole)
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line != "```bash":
            continue
        mark = lines[number - 1]
        found = RUN.fullmatch(mark)
        assert (
            whole or found or mark.startswith("<!-- not run: ")
        ), f"{page.name}:{number + 1}: say above the block which test runs it"
        places += found[1].split("; ") if found else []
    for place in places:
        file, _, test = place.partition("::")
        source = (ROOT / file).read_text("utf-8")
        assert not test or f"def {test}(" in source, place
        # A page of which all is run is read by its test.
        assert place not in whole or page.stem in source, place


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 120


def test_the_page_on_the_api_is_made_from_the_docstrings_of_today():
    command = [sys.executable, ROOT / "local/api_page.py"]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    page = (ROOT / "docs/api.md").read_text("utf-8")
    assert made == page, "python local/api_page.py > docs/api.md makes it new"
    summaries = re.findall(r"^- `.*`: *(.*)$", page, re.MULTILINE)
    assert summaries and all(summaries)  # nothing public without a docstring


def test_links_of_the_pages_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
            if "://" not in link:
                target = os.path.normpath(page.parent / link)
                assert os.path.exists(target), f"{page.name}: {link}"
