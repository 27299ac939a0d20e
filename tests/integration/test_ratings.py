"""Ratings go through stages 2 to 6 by their commands."""

from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.evaluation.predictions import read_predictions
from emoq_plugin.evaluation.results import Results
from emoq_plugin.files import write_table
from tests.integration.test_faults import EMOTIONS, STAGES, Experiment


def test_a_corpus_with_ratings_has_its_ccc_in_scores_and_page(tmp_path, warm_python):
    here = Experiment(tmp_path, warm_python)
    here.make()
    data = DataDirectory.read(tmp_path / "data/all")
    # The pitch of a clip is that of its class, so arousal is a line of the features.
    arousal = {u: 2 * EMOTIONS.index(e) - 1 for u, e in data.emotion.items()}
    rated = {u: f"arousal={a}" for u, a in arousal.items() if not u.endswith("happy1")}
    write_table(tmp_path / "data/all/utt2avd", rated)
    (tmp_path / "data/all/avd_scale").write_text("-1 3\n")
    for stage in STAGES:
        here.finish(stage)
    results = Results.read(tmp_path / "exp/scores/scores.json")
    bound = results.score("continuous", "continuous").ratings
    assert set(bound) == {"arousal"} and bound["arousal"]["mean"] > 0.8
    for score in results.scores:
        assert (score.ratings is not None) == (score.head == "retrained")
    page = (tmp_path / "exp/scores/RESULTS.md").read_text()
    assert f"| {bound['arousal']['mean']:.3f} [" in page
    # Every test clip has a prediction, of which the rated ones are scored.
    first = read_predictions(tmp_path / "exp/ser/posteriors.jsonl")[0]
    assert len(first.ratings["arousal"]) == len(first.utterances) == 12
    # Other ratings make the scores stale, and a rating off its scale stops stage 2.
    table = tmp_path / "data/all/utt2avd"
    table.write_text(table.read_text().replace("arousal=3", "arousal=2"))
    for stage in STAGES:
        assert "nothing to do" not in here.finish(stage)
    (tmp_path / "data/all/avd_scale").write_text("0 3\n")
    code, said = here.run("format_data")
    assert code == 1 and "utt2avd:1: s0-angry0: arousal -1 is outside" in said
