"""What the espnet3 system takes for a configuration, and its metrics."""

import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("espnet3")

from espnet3.contract.metrics import MetricContractError  # noqa: E402
from espnet3.utils.config_utils import load_and_merge_config  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

from emoq_plugin.espnet_adapters.espnet3 import PACKAGE  # noqa: E402
from emoq_plugin.espnet_adapters.espnet3.jobs import make_pool, run_jobs  # noqa: E402
from emoq_plugin.espnet_adapters.espnet3.metrics import (  # noqa: E402
    EmotionScores,
    SoftEmotionScores,
)
from emoq_plugin.espnet_adapters.espnet3.settings import Settings  # noqa: E402
from emoq_plugin.espnet_adapters.espnet3.system import SER2System  # noqa: E402

ROOT = Path(__file__).parents[2]
# Of ser2.sh, which are about its launcher, its duration, the studies and the log.
ELSEWHERE = {"stage", "stop_stage", "cmd_backend", "cmd_opts", "python", "tag"}
ELSEWHERE |= {"dumpdir", "expdir", "local_data_opts", "learn_nodes", "learn_procs"}
ELSEWHERE |= {"study_config", "study_only", "alignments", "minutes"}


def config(corpus="mini_emo", **changed):
    path = ROOT / "egs3" / corpus / "ser2" / "conf" / "training.yaml"
    found = load_and_merge_config(path, "training.yaml", PACKAGE)
    return OmegaConf.to_container(found) | changed


@pytest.mark.parametrize("corpus", ["mini_emo", "emodb"])
def test_the_options_of_the_egs3_recipes_are_those_of_egs2(corpus, monkeypatch):
    monkeypatch.setenv("EMODB", "somewhere")
    driver = (ROOT / "egs2/TEMPLATE/ser2/ser2.sh").read_text()
    header = driver[driver.index("# General") : driver.index("\ntag=")]
    defaults = {}
    for name, more, text in re.findall(r"^(\w+)(\+?)=(.*)$", header, re.M):
        [value] = shlex.split(text, comments=True) or [""]
        defaults[name] = defaults.get(name, "") + value if more else value
    script = (ROOT / f"egs2/{corpus}/ser2/run.sh").read_text().split("./ser2.sh ")[1]
    words = shlex.split(script)[:-1]
    defaults |= {n.removeprefix("--"): v for n, v in zip(words[::2], words[1::2])}
    own = config(corpus)
    presets = {
        "feature_config": "fbank",
        "quantizer_config": "level",
        "probe_config": "probe",
        "ser_config": "transformer",
    }
    for name in ELSEWHERE & set(defaults):
        del defaults[name]
    for name, value in defaults.items():
        ours = own[name]
        text = " ".join(ours) if isinstance(ours, list) else str(ours)
        text = {"None": "", "True": "true", "False": "false"}.get(text, text)
        assert text == (value or presets.get(name, "")), name


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"model": {}}, "unknown option 'model', expected one of"),
        ({"nj": "two"}, "nj is 'two', expected int"),
        ({"nj": 0}, "nj is 0, expected at least 1"),
        ({"rates": "16x1"}, "rates is '16x1', expected list"),
        ({"systems": ["specific-distorsion"]}, "router 'distorsion'"),
        ({"feature_config": "none"}, "none is missing: no such file"),
        ({"espnet_rate": "9x9"}, "--espnet_rate 9x9 is not among --rates"),
        ({"exp_tag": "a/b"}, "--tag 'a/b': expected a name"),
    ],
)
def test_a_wrong_configuration_is_refused_before_any_work(changed, told):
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(told)):
        Settings.read(config(**changed))


def test_a_configuration_without_the_defaults_says_where_they_are():
    with pytest.raises(ValueError, match="conf_package"):
        Settings.read({"corpus": "mini_emo"})


def test_stages_without_their_earlier_stage_say_which_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    system = SER2System(training_config=OmegaConf.create(config()))
    with pytest.raises(FileNotFoundError, match="run the stage create_dataset first"):
        system.train()


@pytest.mark.parametrize("name", [None, "no_such_module.f", "emoq_plugin.files.none"])
def test_a_function_of_no_module_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    found = OmegaConf.create(config(create_dataset={"func": name}))
    with pytest.raises(ValueError, match="create_dataset.func .* dotted name"):
        SER2System(training_config=found).create_dataset()


def test_a_lost_corpus_says_what_it_looks_like(tmp_path, monkeypatch):
    monkeypatch.delenv("EMODB", raising=False)
    monkeypatch.chdir(tmp_path)
    system = SER2System(training_config=OmegaConf.create(config("emodb")))
    with pytest.raises(FileNotFoundError, match="Burkhardt"):
        system.create_dataset()


def fail_at_two(number):
    if number == 2:
        raise ValueError("two is too many")
    Path(f"{number}.txt").touch()


def test_jobs_end_before_the_first_error_is_raised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = r"two is too many \(log: .*work\.2\.log"
    with make_pool(1) as pool, pytest.raises(RuntimeError, match=told):
        run_jobs(pool, fail_at_two, [1, 2, 3], log_dir=tmp_path, name="work")
    assert sorted(p.name for p in tmp_path.glob("*.txt")) == ["1.txt", "3.txt"]
    assert "two is too many" in (tmp_path / "work.2.log").read_text()


def test_hard_scores_are_of_labelled_clips_whatever_the_batches():
    refs = ["sad", "sad", "angry", "", "sad", "happy"]
    hyps = ["sad", "angry", "angry", "sad", "none", "happy"]
    whole, parts = EmotionScores(), EmotionScores()
    whole.update(ref=refs, hyp=hyps)
    for ref, hyp in zip(refs, hyps):
        parts.update(ref=[ref], hyp=[hyp])
    assert whole.compute() == parts.compute()
    # Recalls 1/3, 1, 1; the label that is no class stays a miss of 'sad'.
    assert whole.compute()["UA"] == pytest.approx(100 * 7 / 9, abs=0.01)
    assert whole.compute()["WA"] == 60.0


def test_scores_of_nothing_are_refused():
    metric = EmotionScores()
    metric.update(ref=["", ""], hyp=["sad", "sad"])
    with pytest.raises(ValueError, match="no utterance has a reference label"):
        metric.compute()


def test_soft_scores_do_not_depend_on_the_scale_of_votes():
    few, many = SoftEmotionScores(), SoftEmotionScores(["angry", "happy", "sad"])
    few.update(ref=["angry=1 sad=3", "sad=1"], hyp=["angry=0.3 sad=0.7", "angry=1"])
    many.update(ref=["angry=2 sad=6", "sad=5"], hyp=["angry=3 sad=7", "angry=0.2"])
    for name in ("kl", "js", "cosine", "brier"):
        assert few.compute()[name] == pytest.approx(many.compute()[name])


def test_metrics_refuse_what_their_contract_excludes():
    with pytest.raises(MetricContractError):
        EmotionScores().update(ref=["sad"], hyp=[3])
    metric = SoftEmotionScores(["sad"])
    metric.update(ref=["sad=1"], hyp=["glad=1"])
    with pytest.raises(ValueError, match="unknown emotion 'glad'"):
        metric.compute()
