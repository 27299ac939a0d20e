"""One of several features is chosen by validation speakers, never by test speakers."""

import numpy as np
import pytest

from emoq_plugin.bin.compare_features import main
from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.data.folds import Fold, read_folds, write_folds
from emoq_plugin.evaluation.candidates import choose_by_validation
from emoq_plugin.files import read_json
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.speech.encoders.encoder import FeatureSpecification
from emoq_plugin.speech.store import merge_feature_jobs, write_features
from tests.recipe.small_study import EMOTIONS, make_recipe


@pytest.fixture
def place(tmp_path):
    make_recipe(tmp_path, "toy")
    return tmp_path


def arguments(place, *feature_dirs):
    return [
        *("--feature_dirs", *map(str, feature_dirs)),
        *("--data_dir", str(place / "dump/raw/all")),
        *("--emotions", str(place / "data/emotions")),
        *("--folds", str(place / "data/folds")),
    ]


def rows(clips, emotion, clear):
    """Return one-hot emotions of the clips of `clear`, noise for the others."""
    random = np.random.default_rng(0)
    noise = {u: random.normal(size=3) for u in clips}
    one_hot = {u: np.eye(3)[EMOTIONS.index(emotion[u])] for u in clips}
    return {u: one_hot[u] if u in clear else noise[u] for u in clips}


def test_test_speakers_have_no_say(place):
    data = DataDirectory.read(place / "dump/raw/all", EMOTIONS)
    [fold] = read_folds(place / "data/folds")[:1]
    clips = [*fold.train, *fold.valid, *fold.test]
    pooled = {
        "clear in test": rows(clips, data.emotion, {*fold.train, *fold.test}),
        "clear in validation": rows(clips, data.emotion, {*fold.train, *fold.valid}),
    }
    found = choose_by_validation(pooled, data, [fold], EMOTIONS)
    assert found.chosen == "clear in validation"
    first, second = found.candidates
    assert first.chosen_in == [] and second.chosen_in == [fold.name]
    assert second.valid_macro_f1 == 1 > first.valid_macro_f1
    assert found.test_macro_f1 < 0.7  # of the choice, which is noise there


def test_each_layer_of_a_concatenation_is_a_candidate(place, capsys):
    data = DataDirectory.read(place / "dump/raw/all", EMOTIONS)
    random = np.random.default_rng(1)
    noise = {u: random.normal(size=(9, 3)) for u in data.utterances}
    label = {u: np.eye(3)[EMOTIONS.index(data.emotion[u])] for u in data.utterances}
    frames = {u: np.hstack([noise[u], noise[u] + 9 * label[u]]) for u in noise}
    layers = place / "dump/layers/all"
    card = FeatureSpecification(
        "huggingface", [2, 5], 6, 50.0, 16000, {"layer_mode": "concat"}
    )
    write_features(layers, card, frames.items())
    merge_feature_jobs(layers, 1)
    Stage(layers).finish()
    output = place / "choice.json"
    given = arguments(place, place / "dump/fbank/all", layers)
    main([*given, "--output", str(output)])
    found = read_json(output)
    names = [candidate["name"] for candidate in found["candidates"]]
    assert names == ["fbank", "layers, layer 2", "layers, layer 5"]
    assert found["chosen"] == "layers, layer 5" and found["test_macro_f1"] == 1
    assert "| layers, layer 5 | 100.0 | 1 2 |" in capsys.readouterr().out


def test_folds_without_validation_speakers_cannot_choose(place, caplog):
    first = read_folds(place / "data/folds")[0]
    write_folds(place / "data/folds", [Fold("1", first.train, (), first.test)])
    with pytest.raises(SystemExit):
        main(arguments(place, place / "dump/fbank/all"))
    assert "fold 1 has no validation clips to choose by" in caplog.text


def test_two_sets_of_one_name_are_refused(place, caplog):
    with pytest.raises(SystemExit):
        main(arguments(place, place / "dump/fbank/all", place / "dump/fbank/all"))
    assert "'fbank' comes twice" in caplog.text
