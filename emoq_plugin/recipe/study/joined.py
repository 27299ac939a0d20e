"""Several corpora as one set: learned from together, or tested on one by one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emoq_plugin import data as data_code
from emoq_plugin.data.directory import DataDirectory, read_emotions, write_lines
from emoq_plugin.data.folds import Fold, read_folds, write_folds
from emoq_plugin.files import read_table, write_json, write_table
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.speech.store import LENGTHS, SCP, SPECIFICATION, FeatureStore

if TYPE_CHECKING:
    from emoq_plugin.recipe.study.plan import Study


def join_corpora(study: "Study") -> None:
    """Join the corpora of a cross-corpus study, where their features are there."""
    if not study.crosses:
        return
    features = [f for f in study.config.features if not study.why_missing(f)]
    if not features:
        return
    config, corpora = study.config, [*study.config.learn_on, *study.config.test_on]
    join_data(
        {corpus: study.recipe(corpus) for corpus in corpora},
        learn_on=config.learn_on,
        test_on=config.test_on,
        set_name=study.set_name,
        max_per_emotion=config.max_per_emotion,
        output=study.data_dir.parent,
    )
    for feature in features:
        stores = {c: study.source_dirs(c, feature)[-1] for c in corpora}
        join_features(stores, study.data_dir, study.feature_dir(feature))


def cut_by_emotion(
    data: DataDirectory, classes: Sequence[str], max_per_emotion: int, *, seed: int = 0
) -> list[str]:
    """Draw at most so many labelled utterances of each class.

    Raises
    ------
    ValueError
        If the classes that occur are not the expected ones.
    """
    by_class: dict[str, list[str]] = {}
    for utterance in data.utterances:
        if emotion := data.emotion.get(utterance):
            by_class.setdefault(emotion, []).append(utterance)
    if sorted(by_class) != sorted(classes):
        raise ValueError(
            f"{data.path} has classes {sorted(by_class)}, but the study expects "
            f"{sorted(classes)}"
        )
    random = np.random.default_rng(seed)
    return sorted(
        utterance
        for emotion in sorted(by_class)
        for utterance in random.permutation(by_class[emotion])[:max_per_emotion]
    )


def join_data(
    recipes: Mapping[str, Path],
    *,
    learn_on: Sequence[str],
    test_on: Mapping[str, Sequence[str]],
    set_name: str,
    max_per_emotion: int,
    output: Path,
) -> None:
    """Write one data directory with a fold for each test set.

    Everything of the learning corpora is in `train`, but for the validation speakers of
    their first folds, which are in `valid`.

    Parameters
    ----------
    recipes : mapping of str to Path
        egs2/<corpus>/ser2 by corpus, after stage 2.
    learn_on : sequence of str
    test_on : mapping of str to sequence of str
        Test corpora and their classes; fold n is the n-th.
    set_name : str
    max_per_emotion : int
    output : Path
        Gets `raw`, `emotions` and `folds`.

    Raises
    ------
    ValueError
        If learning corpora differ in their classes, or ids clash.
    """
    raw = {corpus: recipes[corpus] / "dump" / "raw" / set_name for corpus in recipes}
    stage = Stage(
        output / "raw",
        inputs=raw.values(),
        settings={
            "learn_on": list(learn_on),
            "test_on": {corpus: list(c) for corpus, c in test_on.items()},
            "max_per_emotion": max_per_emotion,
        },
        code=[data_code],
    )
    if stage.is_done():
        return
    emotions = read_emotions(recipes[learn_on[0]] / "data" / "emotions")
    corpora = {}
    for corpus, place in raw.items():
        classes = read_emotions(recipes[corpus] / "data" / "emotions")
        expected = test_on.get(corpus, emotions)
        if set(classes) != set(expected) or not set(classes) <= set(emotions):
            raise ValueError(
                f"{corpus} has classes {classes}, expected {list(expected)}: prepare "
                "it with these (stage 1, --local_data_opts '--classes ...')"
            )
        corpora[corpus] = DataDirectory.read(place, classes)
    train, valid = [], []
    for corpus in learn_on:
        data = corpora[corpus]
        first = read_folds(recipes[corpus] / "data" / "folds")[0]
        held_out = {data.speaker[u] for u in first.restricted_to(data.utterances).valid}
        for u in data.utterances:
            (valid if data.speaker[u] in held_out else train).append(u)
    tests = {
        corpus: cut_by_emotion(corpora[corpus], classes, max_per_emotion)
        for corpus, classes in test_on.items()
    }
    stage.start()
    kept = {*train, *valid, *(u for test in tests.values() for u in test)}
    merged = _merge([data.subset(kept) for data in corpora.values()], emotions)
    merged.write(output / "raw")
    write_lines(output / "emotions", emotions)
    folds = (
        Fold(str(n), tuple(train), tuple(valid), tuple(test))
        for n, test in enumerate(tests.values(), 1)
    )
    write_folds(output / "folds", folds)
    stage.finish(utterances=len(merged.utterances))


def _merge(parts: Sequence[DataDirectory], emotions: Sequence[str]) -> DataDirectory:
    merged = DataDirectory(Path(), utterances=[], wav={}, speaker={}, emotion={})
    merged.emotions = list(emotions)
    for data in parts:
        if clash := set(data.utterances) & set(merged.utterances):
            raise ValueError(
                f"{data.path}: utterance '{min(clash)}' is in another corpus too: ids "
                "must begin with the name of the corpus"
            )
        merged.utterances = sorted([*merged.utterances, *data.utterances])
        for name in ("wav", "speaker", "emotion", "segments", "text"):
            getattr(merged, name).update(getattr(data, name))
        columns = [merged.emotions.index(emotion) for emotion in data.emotions]
        for utterance, counts in data.votes.items():
            votes = np.zeros(len(emotions))
            votes[columns] = counts
            merged.votes[utterance] = votes
    return merged


def join_features(stores: Mapping[str, Path], data_dir: Path, output: Path) -> None:
    """Write the tables of a feature store whose arks are links to those of the corpora.

    Parameters
    ----------
    stores : mapping of str to Path
        dump/<feature>/<set> by corpus.
    data_dir : Path
        The joined set; only its utterances are taken.
    output : Path

    Raises
    ------
    ValueError
        If corpora were encoded differently, or an utterance has no features.
    """
    stage = Stage(output, inputs=[data_dir, *stores.values()])
    if stage.is_done():
        return
    wanted = set(DataDirectory.read(data_dir).utterances)
    places, lengths, spec = {}, {}, None
    stage.start()
    for corpus, place in stores.items():
        store = FeatureStore(place)
        spec = spec or store.specification
        if store.specification.fingerprint() != spec.fingerprint():
            raise ValueError(
                f"{place}: features of {store.specification}, expected {spec}"
            )
        for utterance, entry in read_table(place / SCP).items():
            if utterance in wanted:
                ark, _, offset = entry.rpartition(":")
                link = output / f"{corpus}.{Path(ark).name}"
                places[utterance] = f"{link}:{offset}"
                lengths[utterance] = store.lengths[utterance]
        for ark in place.glob("*.ark"):
            link = output / f"{corpus}.{ark.name}"
            link.unlink(missing_ok=True)
            link.symlink_to(ark.resolve())
    if absent := sorted(wanted - set(places)):
        raise ValueError(
            f"{output}: utterance '{absent[0]}' has no features in a store"
        )
    write_table(output / LENGTHS, lengths)
    write_json(output / SPECIFICATION, spec.to_json())
    write_table(output / SCP, places)
    stage.finish(utterances=len(places))
