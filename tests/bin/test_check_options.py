"""Options of a recipe: what later stages refuse is reported before the first one."""

import logging
import subprocess
import sys

import pytest

from emoq_plugin.bin import (
    asr2_units,
    check_options,
    dump_features,
    encode_units,
    learn_codebooks,
    measure,
    pack,
    score,
)
from emoq_plugin.bin.check_options import main
from emoq_plugin.recipe.stage import Stage

DEFAULTS = {
    "corpus": "toy",
    "stage": "1",
    "stop_stage": "6",
    "nj": "2",
    "ngpu": "0",
    "set_name": "all",
    "first_fold": "1",
    "last_fold": "",
    "sample_rate": "16000",
    "min_seconds": "0.1",
    "max_seconds": "60",
    "feature_config": "conf/features/fbank.yaml",
    "quantizer_config": "conf/quantizer/level.yaml",
    "probe_config": "conf/ser/probe.yaml",
    "ser_config": "conf/ser/transformer.yaml",
    "study_config": "conf/study/quick.yaml",
    "rates": "2x4 16x1 64x1 64x4",
    "systems": "balanced specific-distortion biased95-linear",
    "ser_backend": "probe espnet",
    "ser_args": "",
    "espnet_rate": "64x1",
    "espnet_systems": "balanced specific-distortion",
    "pack_rate": "64x1",
    "pack_system": "specific-distortion",
    "pack_fold": "1",
    "tag": "fbank_level",
}


@pytest.fixture
def call(monkeypatch, tmp_path, caplog, capsys):
    """Return what the check says of some options; in an empty recipe."""
    (tmp_path / "conf").symlink_to(
        check_options.__file__.rpartition("/emoq")[0] + "/conf"
    )
    monkeypatch.chdir(tmp_path)

    def run(**options):
        arguments = [f"--{n}={v}" for n, v in (DEFAULTS | options).items()]
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            try:
                main([*arguments, "--pack_dir=exp/quantizer"])
            except SystemExit as stop:
                assert stop.code in (1, 2)
                return caplog.text + capsys.readouterr().err
        return ""

    return run


def test_the_defaults_of_the_recipes_are_right(call):
    assert call() == call(stop_stage="9") == ""


def test_the_shell_gets_the_files_that_were_found(call, capsys, tmp_path):
    mine = tmp_path / "it's `here` $HOME" / "mine.yaml"
    mine.parent.mkdir()
    mine.write_text((tmp_path / "conf/study/quick.yaml").read_text())
    # The features of stage 4 may be those of a layer, which has no configuration.
    configs = {"feature_config": "layer12", "quantizer_config": "level"}
    configs["study_config"] = str(mine.relative_to(tmp_path))
    assert call(stage="4", **configs) == ""
    script = 'eval "$1"; printf "%s\\n" "$feature_config" "$quantizer_config"'
    found = subprocess.run(
        ["bash", "-c", script + ' "$study_config"', "bash", capsys.readouterr().out],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    level = (tmp_path / "conf/quantizer/level.yaml").resolve()
    assert found.splitlines() == ["", str(level), str(mine)]


def test_nothing_is_imported_that_only_learning_needs():
    options = [f"--{n}={v}" for n, v in (DEFAULTS | {"stop_stage": "9"}).items()]
    code = (
        "import sys; from emoq_plugin.bin.check_options import main; "
        "main(sys.argv[1:]); print(*{'sklearn', 'pandas', 'espnet2'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code, *options]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert found.splitlines()[-1] == ""


@pytest.mark.parametrize(
    ("option", "value", "reported"),
    [
        ("stage", "six", "--stage: 'six', expected a whole number"),
        ("stop_stage", "3.5", "--stop_stage: '3.5', expected a whole number"),
        ("stage", "8", "--stage 8 --stop_stage 6: no stage would run"),
        ("nj", "0", "--nj: '0', expected a whole number of at least 1"),
        ("ngpu", "one", "--ngpu: 'one'"),
        ("last_fold", "x", "--last_fold: 'x'"),
        ("first_fold", "3", "--first_fold 3 comes after --last_fold 2"),
        ("max_seconds", "long", "--max_seconds: 'long', expected a number"),
        ("max_seconds", "0.05", "--min_seconds 0.1 is not below --max_seconds 0.05"),
        ("min_seconds", "nan", "--min_seconds: 'nan'"),
        ("crossfit", "1", "--crossfit 1"),
        ("learn_nodes", "2", "needs --cmd_backend slurm"),
        ("on_error", "skip", "--on_error: invalid choice: 'skip'"),
        ("train_on", "all", "--train_on: invalid choice: 'all'"),
        ("rates", "64x1 64-2", "--rates: rate '64-2' is not <K>x<L>"),
        ("rates", "", "--rates is empty"),
        ("systems", "balanced specific-nearest", "--systems: unknown router 'nearest'"),
        ("systems", "blanced", "--systems: 'blanced' is no system"),
        ("systems", "specific", "--systems: 'specific' is no system"),
        ("systems", "balanced-cosine", "'balanced-cosine' is no system"),
        (
            "systems",
            "balanced specfic-cosine",
            "'specfic-cosine' needs the experts 'spec",
        ),
        (
            "systems",
            "balanced biased50-cosine",
            "learned are only balanced specific bia",
        ),
        ("systems", "balanced capacity-oracle", "the experts of 'capacity' are none"),
        ("espnet_rate", "64x2", "--espnet_rate 64x2 is not among --rates 2x4 16x1"),
        (
            "espnet_systems",
            "balanced biased95-soft",
            "'biased95-soft' is not among --systems",
        ),
        ("ser_backend", "prob", "--ser_backend 'prob', expected probe or espnet"),
        ("ser_args", "--x 'y", "--ser_args: No closing quotation"),
        ("quantizer_config", "conf/quantizer/levle.yaml", "no such file, seen"),
        ("quantizer_config", "conf/quantizer/levle.yaml", "clip corpus level"),
        ("feature_config", "hubert", "--feature_config hubert is missing: no such"),
        ("study_config", "conf/study/x.yaml", "emodb paper quick"),
        ("model_dir", "nowhere", "--model_dir nowhere: no such directory"),
        ("tag", "a b", "--tag 'a b': expected a name"),
        ("tag", "x" * 200, "at most 150 letters"),
    ],
)
def test_what_a_later_stage_would_refuse_is_reported_at_once(
    call, option, value, reported
):
    more = {"last_fold": "2"} if option == "first_fold" else {}
    assert reported in call(**{option: value}, **more)


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        ({"pack_rate": "8x1"}, "--pack_rate 8x1 is not learned at --rates 2x4 16x1"),
        ({"pack_rate": "16x2"}, "--pack_rate 16x2 is not learned"),
        ({"pack_rate": "64"}, "--pack_rate: rate '64' is not <K>x<L>"),
        ({"pack_system": "capacity-cosine"}, "--pack_system: 'capacity-cosine' needs"),
        ({"pack_system": "specific-typo"}, "--pack_system: unknown router 'typo'"),
        ({"pack_fold": "3", "last_fold": "2"}, "--pack_fold 3 is not among the folds"),
        ({"alignments": "nowhere"}, "--alignments nowhere: no such directory or file"),
    ],
)
def test_stages_7_and_9_are_checked_when_they_run(call, options, reported):
    assert reported in call(stop_stage="9", **options)
    assert call(**options) == ""


def test_a_quantizer_of_all_speakers_is_learned_in_stage_9(call):
    of_all = {"pack_fold": "all", "pack_rate": "8x1"}  # a rate that stage 4 lacks
    assert call(stage="9", stop_stage="9", **of_all) == ""
    assert call(stop_stage="9", **of_all) == ""
    absent = "'biased50-cosine' needs the experts 'biased50', learned are only"
    found = call(stage="9", stop_stage="9", pack_system="biased50-cosine", **of_all)
    assert f"--pack_system: {absent}" in found
    assert "expected a whole number" in call(pack_fold="every")


def test_rates_without_the_default_of_the_espnet_task_need_another(call):
    assert "--espnet_rate 64x1 is not among" in call(rates="16x1")
    assert call(rates="16x1", espnet_rate="16x1") == ""
    assert call(rates="16x1", ser_backend="probe") == ""
    assert call(rates="16x1", stop_stage="5") == ""


def test_a_quantizer_that_is_there_says_what_can_be_packed(call, tmp_path):
    at_9 = {"stage": "9", "stop_stage": "9"}
    assert "exp/quantizer is missing: run the earlier stage" in call(**at_9)
    quantizer = tmp_path / "exp" / "quantizer"
    (quantizer / "8x2").mkdir(parents=True)
    config = '{"experts": ["balanced", "specific/sad"]}'
    (quantizer / "8x2" / "config.json").write_text(config)
    Stage(quantizer).finish(banks=["8x2"])
    assert "rate 64x1, these were learned: 8x2" in call(**at_9)
    assert call(**at_9, pack_rate="8x1") == ""
    said = call(**at_9, pack_rate="8x1", pack_system="capacity-cosine")
    assert "'capacity-cosine' needs the experts 'capacity', learned are only" in said


def test_folds_that_do_not_exist_are_reported_once_they_are_made(call, tmp_path):
    for fold in "123":
        (tmp_path / "data" / "folds" / fold).mkdir(parents=True)
    assert call(stage="2", last_fold="3") == ""
    assert "--last_fold 4: data/folds has 3 folds" in call(stage="2", last_fold="4")
    assert call(last_fold="4") == ""  # stage 1 makes others


def test_a_configuration_that_is_missing_is_no_earlier_stage(tmp_path, caplog):
    (tmp_path / "mine.yaml").write_text("norm: clip\n")
    Stage(tmp_path).finish()
    options = {
        "feature_dir": tmp_path,
        "data_dir": tmp_path,
        "emotions": tmp_path / "mine.yaml",
        "folds": tmp_path,
        "fold": "1",
        "config": tmp_path / "mien.yaml",
        "rates": "4x1",
        "corpus": "toy",
        "output_dir": tmp_path / "out",
    }
    with pytest.raises(SystemExit):
        learn_codebooks.main([f"--{name}={value}" for name, value in options.items()])
    assert "mien.yaml is missing: no such file" in caplog.text
    assert "clip corpus level" in caplog.text and "earlier stage" not in caplog.text


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        (learn_codebooks, "route_depth", "0"),
        (learn_codebooks, "crossfit", "-1"),
        (encode_units, "beam", "0"),
        (measure, "min_phone_count", "many"),
        (dump_features, "nj", "0"),
        (score, "n_resamples", "0"),
        (asr2_units, "min_wav_duration", "nan"),
        (pack, "n_levels", "0"),
    ],
)
def test_numbers_of_the_commands_have_bounds(command, option, value, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main([f"--{option}={value}"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert f"--{option}: '{value}', expected a" in said


@pytest.mark.parametrize(
    ("options", "reported"),
    [
        (["--speed_perturb_factors", "0.9", "fast"], "'fast', expected such as 0.9"),
        (["--speed_perturb_factors", "0.0"], "'0.0', expected such as 0.9"),
        (["--min_wav_duration", "40"], "40 is not below --max_wav_duration 30"),
        (["--asr_config", "conf/no.yaml"], "conf/no.yaml is missing: no such config"),
    ],
)
def test_options_of_asr2_are_reported_before_the_quantizer_is_read(
    options, reported, caplog, capsys
):
    with pytest.raises(SystemExit):
        asr2_units.main(["--quantizer", "none", "--sets", "train", *options])
    assert reported in caplog.text + capsys.readouterr().err


def test_two_scale_systems_are_options_of_recipes(call):
    systems = "balanced balanced+clip56 specific-calibrated+clip32 clip56 label"
    assert call(systems=systems, ser_backend="probe") == ""
    task = "balanced balanced+clip56"
    packed = {"stop_stage": "9", "pack_system": "balanced+clip56"}
    assert call(systems=systems, espnet_systems=task, **packed) == ""
    for system in ("clip56", "label"):
        assert f"'{system}' has no units of frames" in call(
            systems=systems, espnet_systems=system
        )
    alone = packed | {"pack_system": "clip56", "ser_backend": "probe"}
    assert "pack 'balanced+clip56'" in call(systems=systems, **alone)
    alone["pack_system"] = "label"
    assert "'label' is a control of experiments" in call(systems=systems, **alone)
    other = packed | {"pack_system": "balanced+clip32", "ser_backend": "probe"}
    assert "learned are only specific" in call(systems=systems, **other)
    other["pack_system"] = "balanced+clip8"
    assert "learned are only those of other clip codes" in call(
        systems=systems, **other
    )
    assert "expected clip<bits> with at least 1 bit" in call(systems="balanced+clip0")
