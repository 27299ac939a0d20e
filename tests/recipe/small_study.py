"""A repository in small: recipes with features, and a study of seconds."""

import numpy as np

from emoq_plugin.data.folds import speaker_folds, write_folds
from emoq_plugin.files import write_table
from emoq_plugin.recipe.stage import Stage
from emoq_plugin.speech.encoders.encoder import FeatureSpecification
from emoq_plugin.speech.store import merge_feature_jobs, write_features

EMOTIONS = ["angry", "neutral", "sad"]
SPECIFICATION = FeatureSpecification("fbank", [], 4, 50.0, 16000)
QUANTIZER = "norm: corpus\nlearning: {max_iterations: 3}\n"
STUDY = """
features: [fbank]
quantizers:
  tiny: {seeds: [0, 1]}
rates: [4x1, 4x2]
systems: [balanced, specific-distortion, capacity-distortion, specific-oracle,
       balanced+specific-distortion]
n_resamples: 50
"""


def make_recipe(place, corpus, *, n_speakers=4, emotions=EMOTIONS, seed=0, n_frames=20):
    """Write what stages 1 to 3 leave: clips whose frames hold emotion and speaker."""
    random = np.random.default_rng(seed)
    speaker = {
        f"{corpus}{s}-{e}{i}": f"{corpus}{s}"
        for s in range(n_speakers)
        for e in emotions
        for i in range(4)
    }
    emotion = {u: u.split("-")[1][:-1] for u in speaker}
    raw, features = place / "dump" / "raw" / "all", place / "dump" / "fbank" / "all"
    write_table(raw / "wav.scp", {u: f"{u}.wav" for u in speaker})
    write_table(raw / "utt2spk", speaker)
    write_table(raw / "utt2emo", emotion)
    Stage(raw).finish()
    (place / "data").mkdir(parents=True)
    (place / "data" / "emotions").write_text("\n".join(emotions) + "\n")
    folds = speaker_folds(speaker, n_folds=2, n_valid_speakers=1)
    write_folds(place / "data" / "folds", folds)
    clips = {
        u: random.normal(size=(n_frames, 4))
        + 1.2 * np.eye(4)[EMOTIONS.index(emotion[u])]
        + 0.5 * np.eye(4)[3] * int(speaker[u][-1])
        for u in speaker
    }
    write_features(features, SPECIFICATION, clips.items())
    merge_feature_jobs(features, 1)
    Stage(features).finish()


LEFT_OUT = """
features: [fbank]
quantizers:
  tiny: {seeds: [0]}
rates: [4x1, 4x2]
systems: [balanced, specific-distortion, specific-calibrated, balanced+clip6, clip6,
       label, balanced+specific-calibrated, capacity-distortion]
left_out_classes: [angry, sad]
left_out_rates: [4x1]
figures:
  - {name: gain, of: 4x1/balanced+clip6, minus: 4x2/balanced, least: -100, low: -100}
  - {name: alone, of: none/clip6, least: 101}
  - {name: gap, of: 4x1/balanced+clip6, minus: continuous}
  - {name: new, of: 4x1/balanced+clip6, minus: 4x1/specific-distortion, unseen: true,
     least: 100}
crossfit: 2
n_resamples: 50
"""
