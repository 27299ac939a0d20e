"""Properties of training and inference with ESPnet's trainer on a tiny corpus."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from espnet2.train.trainer import Trainer

from emoq_plugin.bin import ser_train
from emoq_plugin.core.bank import CodebookBank
from emoq_plugin.core.clip_code import ClipCode
from emoq_plugin.espnet_adapters.clip_tokens import ClipTokens
from emoq_plugin.espnet_adapters.ser_inputs import available, load_units, write_split
from emoq_plugin.espnet_adapters.ser_task import SERTask
from emoq_plugin.evaluation.predictions import read_predictions
from emoq_plugin.files import read_json, write_json
from emoq_plugin.recipe.stages import ser_infer
from emoq_plugin.recipe.stages.ser_train import set_class_weights
from emoq_plugin.units.store import UnitStore, UnitWriter, write_cards

CONFIG = Path(__file__).parents[2] / "conf" / "ser" / "transformer.yaml"
SHORT = "--max_epoch 3 --frontend_conf output_size=16"


def options(corpus, output, **more) -> list[str]:
    given = {
        "units_dir": corpus / "units",
        "data_dir": corpus / "data" / "all",
        "fold_dir": corpus / "data" / "folds" / "0",
        "emotions": corpus / "data" / "emotions",
        "output_dir": output,
        **more,
    }
    return [str(item) for k, v in given.items() for item in (f"--{k}", v)]


@pytest.fixture
def run(corpus, tmp_path, quantizer):
    """Train in-process and give the experiment's directory."""

    def train(name="exp", **more):
        more = {"quantizer": quantizer, "config": CONFIG, **more}
        ser_train.main(options(corpus, tmp_path / name, **more))
        return tmp_path / name

    return train


def weights(exp):
    return torch.load(exp / "latest.pth", weights_only=True)


def test_the_task_learns_predicts_and_does_nothing_again(run, corpus, caplog, tiny):
    caplog.set_level("INFO")
    more = {
        "infer": "true",
        "ser_args": "--max_epoch 30 --patience none --scheduler_conf warmup_steps=10",
    }
    exp = run(**more)
    (prediction,) = read_predictions(exp / "posteriors.jsonl")
    assert (prediction.fold, prediction.rate, prediction.head) == ("0", "8x2", "espnet")
    assert prediction.emotions == tiny.emotions
    label = [int(u.rpartition("-")[2]) % 2 for u in prediction.utterances]
    accuracy = (prediction.posteriors.argmax(axis=1) == label).mean()
    assert accuracy >= 0.9

    before = {path: path.stat().st_mtime_ns for path in exp.rglob("*.*")}
    caplog.clear()
    run(**more)
    assert before == {path: path.stat().st_mtime_ns for path in exp.rglob("*.*")}
    assert sum("nothing to do" in line for line in caplog.messages) == 2

    # A saved model needs no quantizer and gives the same output in any batch.
    model = ser_infer.load_model(exp)
    units = UnitStore(corpus / "units")
    alone = [ser_infer.predict(model, units, [u])[0] for u in prediction.utterances]
    np.testing.assert_allclose(alone, prediction.posteriors, atol=1e-5)
    assert str(corpus) not in str(model.frontend.portable_conf())
    assert read_json(exp / ".done.json")["n_utterances"]["train"] == 40


def test_an_interrupted_training_goes_on_and_ends_the_same(run, monkeypatch, caplog):
    caplog.set_level("INFO")
    whole = run("whole", ser_args=SHORT)

    class Interrupted(Trainer):
        @classmethod
        def train_one_epoch(cls, *args, **kwargs):
            if kwargs["reporter"].epoch == 3:
                raise KeyboardInterrupt
            return super().train_one_epoch(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(SERTask, "trainer", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("parts", ser_args=SHORT)
    caplog.clear()
    parts = run("parts", ser_args=SHORT)
    assert any("resuming after epoch 2" in line for line in caplog.messages)
    expected = weights(whole)
    for name, value in weights(parts).items():
        torch.testing.assert_close(value, expected[name], msg=name)

    # Other settings never continue an old training; a torn checkpoint is no obstacle.
    caplog.clear()
    run("parts", ser_args=SHORT, seed=1)
    assert any("of other inputs or settings" in line for line in caplog.messages)
    assert not torch.equal(weights(parts)["head.2.weight"], expected["head.2.weight"])
    checkpoint = parts / "checkpoint.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    (parts / ".done.json").unlink()
    caplog.clear()
    run("parts", ser_args=SHORT, seed=1)
    assert any("cannot be resumed" in line for line in caplog.messages)


@pytest.mark.parametrize(
    "fault, message",
    [
        ("--model_conf loss=both", "loss is 'both'"),
        ("--encoder_conf heads=3", "unexpected keyword argument 'heads'"),
        ("--max_epochs 3", None),
    ],
)
def test_wrong_settings_do_not_cost_a_finished_training(run, caplog, fault, message):
    exp = run(ser_args="--max_epoch 1")
    with pytest.raises(SystemExit):
        run(ser_args=fault)
    if message:
        assert message in caplog.messages[-1]
    caplog.set_level("INFO")
    run(ser_args="--max_epoch 1")
    assert "nothing to do" in caplog.text and ser_infer.load_model(exp)


def test_a_tampered_checkpoint_is_detected_when_espnet_loads_it(run):
    exp = run(ser_args="--max_epoch 1")
    best = ser_infer.best_model(exp)
    states = torch.load(best, weights_only=True)
    states["frontend.codebook_0"][0, 0] += 1
    torch.save(states, best)
    with pytest.raises(ValueError, match="codebook of level 0 of the checkpoint"):
        SERTask.build_model_from_file(exp / "config.yaml", best)


def test_units_of_other_codebooks_are_refused(run, corpus, tmp_path):
    exp = run(ser_args="--max_epoch 1")
    card = read_json(corpus / "units" / "units.json")
    write_json(corpus / "units" / "units.json", {**card, "codebooks_sha256": "abc"})
    with pytest.raises(ValueError, match="units have codebooks abc"):
        ser_infer.ser_infer(
            ser_infer.SerInferOptions(
                exp_dir=exp,
                units_dir=corpus / "units",
                fold_dir=corpus / "data" / "folds" / "0",
                output=tmp_path / "posteriors.jsonl",
            )
        )


def test_an_id_outside_the_codebook_is_named_before_training(run, corpus, caplog, tiny):
    names = list(UnitStore(corpus / "units"))
    codes = {u: np.zeros((2, 2)) for u in names}
    codes["a-00"] = np.array([[7, 5], [2, 6], [0, 0]])
    tiny.write_units(corpus / "units", codes, dict.fromkeys(names, tiny.experts[0]))
    with pytest.raises(SystemExit):
        run()
    message = caplog.messages[-1]
    assert re.search(r"'a-00'.*level 1, frame 1: id 6 .* K=6", message)


def test_a_speaker_on_both_sides_is_refused(run, corpus, caplog):
    with open(corpus / "data" / "folds" / "0" / "valid", "a") as stream:
        stream.write("a-00\n")
    train = corpus / "data" / "folds" / "0" / "train"
    train.write_text(train.read_text().replace("a-00\n", ""))
    with pytest.raises(SystemExit):
        run()
    assert "speaker 'a'" in caplog.messages[-1]


def test_utterances_without_a_majority_are_left_out_of_hard_training(
    run, corpus, caplog
):
    data = corpus / "data" / "all"
    lines = (data / "utt2emo").read_text().splitlines()
    (data / "utt2emo").write_text("\n".join(lines[1:]) + "\n")
    (data / "utt2votes").write_text("a-00 angry=1 sad=1\na-01 angry=1 sad=3\n")
    exp = run(ser_args="--max_epoch 1")
    votes = (exp / "data" / "train" / "votes").read_text().splitlines()
    assert votes[:3] == ["a-00 0.5 0.5", "a-01 0.25 0.75", "a-02 1 0"]
    run(ser_args="--max_epoch 1 --model_conf loss=hard")
    votes = (exp / "data" / "train" / "votes").read_text().splitlines()
    assert votes[:2] == ["a-01 0 1", "a-02 1 0"]


def test_balanced_class_weights_are_counted_on_the_training_targets(run):
    exp = run(ser_args="--max_epoch 1 --model_conf class_weights=balanced")
    assert ser_infer.load_model(exp).class_weights == [1.0, 1.0]
    conf = {"class_weights": "balanced"}
    train = {"a": np.array([1.0, 0.0]), "b": np.array([1.0, 0.0]), "c": np.eye(2)[1]}
    set_class_weights(conf, train)
    assert conf["class_weights"] == [0.75, 1.5]


def test_a_quantizer_that_knows_the_test_speakers_is_refused(run, corpus, caplog):
    folds = corpus / "data" / "folds" / "0"
    (folds / "train").rename(folds / "aside")
    (folds / "test").rename(folds / "train")
    (folds / "aside").rename(folds / "test")
    with pytest.raises(SystemExit):
        run()
    assert "that the codebooks were learned from" in caplog.messages[-1]


def test_a_mixture_becomes_one_row_of_weights_for_each_block(corpus, tiny):
    units = UnitStore(corpus / "units")
    utterance = min(units)
    codes, route = load_units(units, utterance, tiny.sizes)
    units.routes[utterance] = {tiny.experts[1]: 0.75, tiny.experts[0]: 0.25}
    units.card["n_levels"] = 1
    mixed, route = load_units(units, utterance, [8])
    assert route.tolist() == [0, 0.75, 0.25, 0]
    np.testing.assert_array_equal(mixed, codes)


def test_the_number_of_mixed_experts_must_not_change(corpus, tmp_path, tiny):
    class Changing(UnitStore):
        def __getitem__(self, utterance):
            return np.zeros((3, 2 * len(self.routes[utterance])), np.int64)

    units = Changing(corpus / "units")
    one, two, *_ = units
    units.routes[two] = {tiny.experts[1]: 0.75, tiny.experts[0]: 0.25}
    targets = dict.fromkeys((one, two), np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="ids a frame changes"):
        write_split(tmp_path, units, targets, codebook_sizes=tiny.sizes)


def test_lists_without_units_are_refused(corpus):
    with pytest.raises(ValueError, match="none of the 1 utterances of the test list"):
        available(UnitStore(corpus / "units"), ["z-99"], "test")


@pytest.fixture
def two_scale(corpus, tiny, tmp_path):
    """Give units of noise whose clip codes, of one or two windows, tell the emotion."""
    code = ClipCode(
        {
            "mean": torch.zeros(45),
            "scale": torch.ones(45),
            "encoder": torch.eye(45)[:, :1],
            "decoder": torch.eye(45)[:1],
            "token": torch.tensor([[0.0], [8.0]]),
            "levels": torch.tensor([-1.0, 0.0, 1.0, 2.0]),
        },
        [2],
        window=10,
    )
    plain = tiny.bank()
    bank = CodebookBank(
        plain.experts,
        plain.codebooks,
        plain.normalization,
        emotions=plain.emotions,
        card=plain.card,
        clip_code=code,
    )
    bank.save_pretrained(tmp_path / "two_scale")
    random = np.random.default_rng(0)
    names = list(UnitStore(corpus / "units"))
    shutil.rmtree(corpus / "units")
    shape = {"size": 8, "n_levels": 1, "routed": False, "clip_coded": True}
    with UnitWriter(corpus / "units", **shape) as writer:
        for name in names:
            codes = random.integers(8, size=(int(random.integers(5, 20)), 1))
            windows = random.integers(2, size=(1 + len(codes) // 15, 2))
            windows[:, 1] = random.integers(2) + 2 * (int(name[-1]) % 2)
            writer.write(name, codes, {"balanced": 1.0}, windows)
    card = {
        "rate": "8x1",
        "system": "balanced+clip3",
        "experts": ["balanced"],
        "n_levels": 1,
        "codebooks_sha256": bank.codebooks_sha256,
        "clip_sizes": code.sizes,
    }
    rates = {"nominal": 150, "entropy": 140, "side_info": 20}
    write_cards(corpus / "units", card, rates)
    return tmp_path / "two_scale"


def test_clip_codes_are_tokens_that_the_task_reads(run, corpus, two_scale, tiny):
    exp = run(
        quantizer=two_scale,
        infer="true",
        ser_args="--max_epoch 30 --patience none --scheduler_conf warmup_steps=10",
    )
    [prediction] = read_predictions(exp / "posteriors.jsonl")
    assert prediction.system == "balanced+clip3"
    label = [int(u[-1]) % 2 for u in prediction.utterances]
    assert (prediction.posteriors.argmax(axis=1) == label).mean() >= 0.9
    model, units = ser_infer.load_model(exp), UnitStore(corpus / "units")
    assert {len(rows) for rows in units.clip_codes.values()} == {1, 2}
    alone = [ser_infer.predict(model, units, [u])[0] for u in prediction.utterances]
    np.testing.assert_allclose(alone, prediction.posteriors, atol=1e-5)
    units.clip_codes = {}
    with pytest.raises(ValueError, match="wants clip codes beside its units, found no"):
        ser_infer.predict(model, units, prediction.utterances)


def test_tokens_come_first_and_padding_last():
    tokens = ClipTokens([4, 2], 3)
    codes = torch.tensor([[[3, 1], [0, 0]], [[1, 1], [-1, -1]]])
    frames = torch.arange(30.0).view(2, 5, 3)
    joined, lengths = tokens(codes, torch.tensor([2, 1]), frames, torch.tensor([2, 5]))
    assert lengths.tolist() == [4, 6]
    alone, _ = tokens(codes[:1], torch.tensor([2]), frames[:1, :2], torch.tensor([2]))
    torch.testing.assert_close(joined[:1, :4], alone)
    torch.testing.assert_close(joined[0, 2:4], frames[0, :2])
    torch.testing.assert_close(joined[1, 1:6], frames[1])
    vectors = tokens.vectors.weight
    torch.testing.assert_close(joined[0, 0], vectors[3] + vectors[4 + 1])
    assert not joined[0, 4:].any() and not joined[1, 6:].any()
