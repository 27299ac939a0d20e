"""Make `mini_emo`: a SYNTHETIC corpus of expressive speech with simulated raters.

Every clip is espeak-ng speech changed by WORLD. Nobody spoke, nobody listened: numbers
made with it show that the tools work, never how well emotion is recognised.

Emotions
    Each emotion is a point in a space of acoustic correlates (`PROTOTYPES`), relative
    to the speaker's neutral voice. Direction and order follow the literature, the sizes
    are ours, chosen so that emotions overlap:

    angry    higher F0, wider range, faster, louder, flatter spectrum, rough
    happy    higher F0, widest range, slightly faster and louder, raised formants
    neutral  the origin
    sad      lower F0, narrow range, slower, softer, steeper spectrum, breathy

    Murray and Arnott, J. Acoust. Soc. Am. 93(2), 1993; Banse and Scherer, J. Pers. Soc.
    Psychol. 70(3), 1996; Burkhardt and Sendlmeier, ISCA Workshop on Speech and Emotion,
    2000; Juslin and Laukka, Psychol. Bull. 129(5), 2003.

Speakers
    A voice variant of espeak-ng, a vocal-tract length, a spectral tilt, a recording
    level, a speech rate, an expressivity (factor on all prototypes) and an own offset
    on each emotion's prototype. Each clip adds its own deviation. A clip's level holds
    the distance to the microphone too, so loudness alone does not give the emotion.

Votes
    `RATERS` simulated raters hear each clip. Its acoustics x (mean F0, F0 range, tempo,
    level, tilt) are measured from the finished audio, minus the mean over the speaker's
    clips, divided by the standard deviation over the corpus. With m_e the mean of x
    over the clips intended as emotion e, each rater votes, independently, for e with
    probability

        p(e | x) = exp(-SHARPNESS |x - m_e|) / sum_k exp(-SHARPNESS |x - m_k|)

    So a clip that came out between two emotions gets split votes, and the majority can
    differ from the intended emotion, which is what `utt2emo` holds.

Same options, same package versions: same bytes, whatever `--nj` is.
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import logging
import multiprocessing
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from emoq_plugin.bin._command import run_command
from emoq_plugin.data.directory import DataDirectory
from emoq_plugin.files import atomic_write, read_table, write_table
from emoq_plugin.progress import progress
from emoq_plugin.recipe.corpus_card import write_card
from emoq_plugin.recipe.stage import FinishedMeanwhile, Stage
from emoq_plugin.speech.audio import write_audio

EMOTIONS = ("angry", "happy", "neutral", "sad")

# Sentences of our own, with the number of syllables.
SENTENCES = (
    ("The bus stops at the corner.", 7),
    ("She put the keys on the table.", 8),
    ("They will come back on Monday.", 7),
    ("The window was open all day.", 8),
    ("He left his coat in the office.", 8),
    ("There are seven books on the shelf.", 8),
    ("The train leaves in ten minutes.", 7),
    ("We had some soup before dinner.", 8),
    ("The letter came this morning.", 7),
    ("I saw the dog in the garden.", 8),
    ("The road goes over the river.", 8),
    ("You can find it in the kitchen.", 8),
    ("The shop is next to the station.", 8),
    ("My brother called me on Sunday.", 8),
    ("The paper lies under the lamp.", 8),
    ("They painted the wall last summer.", 8),
    ("The meeting begins after lunch.", 8),
    ("He walked around the lake today.", 8),
    ("The water is warm in the evening.", 8),
    ("We parked the car behind the house.", 8),
)

# Female and male in turn, so that any first part of the list has both.
VOICES = {
    "s01f": "en+f2",
    "s02m": "en-us+m3",
    "s03f": "en-us+f3",
    "s04m": "en-gb-x-rp+m7",
    "s05f": "en-gb-scotland+f1",
    "s06m": "en+m1",
    "s07f": "en-gb-x-rp+f4",
    "s08m": "en-gb-scotland+m2",
    "s09f": "en-029+f5",
    "s10m": "en-us+m4",
    "s11f": "en-us+f1",
    "s12m": "en-029+m5",
    "s13f": "en-gb-x-gbclan+f2",
    "s14m": "en-gb-x-gbclan+m3",
    "s15f": "en-gb-x-gbcwmd+f3",
    "s16m": "en-gb-x-gbcwmd+m6",
}

# Units: semitones, octaves, octaves, dB, dB/octave, share, log F0, octaves.
DIMENSIONS = (
    "pitch",
    "pitch_range",
    "tempo",
    "level",
    "tilt",
    "breath",
    "jitter",
    "formants",
)
PROTOTYPES = {
    "angry": (4.0, 0.5, 0.20, 4.0, 2.8, 0.0, 0.030, 0.00),
    "happy": (5.0, 0.9, 0.08, 2.0, 0.5, 0.0, 0.003, 0.12),
    "neutral": (0.0, 0.0, 0.00, 0.0, 0.0, 0.0, 0.003, 0.00),
    "sad": (-2.5, -0.8, -0.22, -3.0, -2.4, 0.7, 0.008, -0.05),
}
# One standard deviation of "large": overlap is counted in it, for each dimension.
SCALES = np.array([3.0, 0.6, 0.15, 4.0, 1.4, 0.25, 0.006, 0.03])
SPEAKER_DEVIATION = 0.2  # of a speaker's own way with one emotion
CLIP_DEVIATION = 0.35  # of one clip
EXPRESSIVITY_DEVIATION = 0.2  # natural log
MICROPHONE_DEVIATION = 4.5  # dB, clip to clip
SPEECH_LEVEL, NOISE_LEVEL = -33.0, -66.0  # dB re full scale
WORDS_PER_MINUTE = 165
PITCH_STEPS_PER_SEMITONE = 4.2  # espeak-ng: 50 steps are an octave
RATERS, SHARPNESS = 8, 1.8


@dataclasses.dataclass(frozen=True)
class Speaker:
    """One synthetic speaker and their way with each emotion."""

    name: str
    voice: str
    tilt: float  # dB per octave
    formants: float  # octaves
    level: float  # dB re full scale
    words_per_minute: float
    habits: np.ndarray  # (4, 8), the speaker's own prototypes

    @classmethod
    def draw(cls, name: str, seed: int) -> "Speaker":
        """Draw the speaker called `name`, a key of `VOICES`, from the seed."""
        rng = np.random.default_rng([seed, list(VOICES).index(name)])
        prototypes = np.array([PROTOTYPES[emotion] for emotion in EMOTIONS])
        expressivity = np.exp(EXPRESSIVITY_DEVIATION * rng.standard_normal())
        own = SPEAKER_DEVIATION * SCALES * rng.standard_normal(prototypes.shape)
        own[EMOTIONS.index("neutral")] *= 0.5
        return cls(
            name=name,
            voice=VOICES[name],
            tilt=rng.normal(0, 0.5),
            formants=rng.normal(0, 0.03),
            level=rng.normal(SPEECH_LEVEL, 3.0),
            words_per_minute=rng.normal(WORDS_PER_MINUTE, 10),
            habits=expressivity * prototypes + own,
        )


def utterance_name(speaker: str, emotion: int, sentence: int) -> str:
    """Name one clip; the speaker comes first, as Kaldi wants it."""
    return f"{speaker}_{EMOTIONS[emotion]}_{sentence + 1:02d}"


def _say(espeak, speaker: Speaker, emotion: int, sentence: int, seed: int):
    from expression import Expression, express, measure

    number = list(VOICES).index(speaker.name)
    rng = np.random.default_rng([seed, number, emotion, sentence])
    deviation = CLIP_DEVIATION * SCALES * rng.standard_normal(len(DIMENSIONS))
    wanted = dict(zip(DIMENSIONS, speaker.habits[emotion] + deviation))
    wanted["jitter"] = max(wanted["jitter"], 0.0)
    text, syllables = SENTENCES[sentence]
    wave = espeak.say(
        text,
        voice=speaker.voice,
        words_per_minute=round(speaker.words_per_minute * 2 ** wanted["tempo"]),
        pitch=int(np.clip(50 + PITCH_STEPS_PER_SEMITONE * wanted["pitch"], 0, 99)),
        pitch_range=int(np.clip(50 * 2 ** wanted["pitch_range"], 5, 99)),
    )
    wanted["level"] += MICROPHONE_DEVIATION * rng.standard_normal()
    wanted["tilt"] += speaker.tilt
    wanted["formants"] += speaker.formants
    samples = express(
        wave,
        Expression(**wanted),
        rng,
        sample_rate=espeak.sample_rate,
        level=speaker.level,
        noise_level=NOISE_LEVEL,
    )
    return samples, measure(samples, syllables=syllables)


def make_speaker(
    name: str, seed: int, n_sentences: int, directory: str
) -> list[tuple[str, np.ndarray]]:
    """Write all clips of one speaker; must run in a process of its own.

    Parameters
    ----------
    name : str
        Key of `VOICES`.
    seed : int
    n_sentences : int
    directory : str
        Gets `<name>/<utterance>.wav`, 16 kHz, one channel, 16 bit.

    Returns
    -------
    list of (str, (5,) float64 array)
        Utterance and its measured acoustics.
    """
    from espeak import Espeak
    from expression import SAMPLE_RATE

    espeak, speaker = Espeak(seed), Speaker.draw(name, seed)
    folder = Path(directory) / name
    measured = []
    for sentence in range(n_sentences):
        for emotion in range(len(EMOTIONS)):
            utterance = utterance_name(name, emotion, sentence)
            samples, acoustics = _say(espeak, speaker, emotion, sentence, seed)
            write_audio(folder / f"{utterance}.wav", samples, SAMPLE_RATE)
            measured.append((utterance, acoustics))
    return measured


def vote_shares(
    acoustics: np.ndarray, speaker: Sequence[str], emotion: np.ndarray
) -> np.ndarray:
    """Return the probability that a simulated rater hears each emotion in each clip.

    Parameters
    ----------
    acoustics : (N, 5) float64 array
        Measured from the audio.
    speaker : sequence of N str
    emotion : (N,) int array
        Intended emotion.

    Returns
    -------
    (N, 4) float64 array
        Rows sum to 1; the formula is in this module's docstring.
    """
    relative = acoustics.copy()
    names = np.array(speaker)
    for name in set(speaker):
        relative[names == name] -= acoustics[names == name].mean(axis=0)
    relative /= relative.std(axis=0)
    means = np.stack(
        [relative[emotion == e].mean(axis=0) for e in range(len(EMOTIONS))]
    )
    distance = np.sqrt(((relative[:, None] - means) ** 2).sum(axis=2))  # (N, 4)
    weight = np.exp(-SHARPNESS * (distance - distance.min(axis=1, keepdims=True)))
    return weight / weight.sum(axis=1, keepdims=True)


def _make_audio(options: argparse.Namespace, stage: Stage) -> None:
    stage.start()
    wav = stage.output / "wav"
    shutil.rmtree(wav, ignore_errors=True)
    names = list(VOICES)[: options.n_speakers]
    # A fresh process for each speaker: what espeak-ng remembers then never depends on
    # how many run at a time.
    with ProcessPoolExecutor(
        max_workers=options.nj,
        mp_context=multiprocessing.get_context("spawn"),
        max_tasks_per_child=1,
    ) as pool:
        jobs = [
            pool.submit(make_speaker, name, options.seed, options.n_sentences, str(wav))
            for name in names
        ]
        done = [job.result() for job in progress(jobs, len(jobs), "synthetic speakers")]
    rows = dict(row for speaker in done for row in speaker)
    with atomic_write(stage.output / "acoustics") as stream:
        for utterance in sorted(rows):
            values = " ".join(f"{value:.6f}" for value in rows[utterance])
            stream.write(f"{utterance} {values}\n")
    stage.finish(synthetic=True, clips=len(rows))


def _write_data(options: argparse.Namespace, stage: Stage) -> None:
    stage.start()
    wav = Path(options.audio_dir) / "wav"
    table = read_table(Path(options.audio_dir) / "acoustics")
    utterances = sorted(table)
    speaker, emotion, sentence = zip(*(name.split("_") for name in utterances))
    intended = np.array([EMOTIONS.index(name) for name in emotion])
    acoustics = np.array([table[u].split() for u in utterances], dtype=np.float64)
    shares = vote_shares(acoustics, speaker, intended)
    votes = np.random.default_rng([options.seed, len(VOICES)]).multinomial(
        RATERS, shares
    )  # (N, 4)
    data = DataDirectory(
        stage.output,
        utterances=utterances,
        wav={u: f"{wav}/{s}/{u}.wav" for u, s in zip(utterances, speaker)},
        speaker=dict(zip(utterances, speaker)),
        emotion=dict(zip(utterances, emotion)),
        votes=dict(zip(utterances, votes)),
        text={u: SENTENCES[int(n) - 1][0] for u, n in zip(utterances, sentence)},
        emotions=list(EMOTIONS),
    )
    data.write(stage.output)
    note = "SYNTHETIC: made by rule, and rated by simulated raters"
    write_card(stage.output, "mini_emo, a synthetic corpus", data, notes=[note])
    write_table(stage.output / "spk2gender", {name: name[-1] for name in speaker})
    with atomic_write(stage.output.parent / "emotions") as stream:
        stream.writelines(f"{emotion}\n" for emotion in EMOTIONS)
    metadata = {
        "clips": len(utterances),
        "speakers": len(set(speaker)),
        "at_most_half_of_the_votes_on_one_emotion": int(
            (2 * votes.max(axis=1) <= RATERS).sum()
        ),
        "most_votes_on_the_intended_emotion": int(
            (votes.argmax(axis=1) == intended).sum()
        ),
    }
    logging.info("mini_emo, a synthetic corpus: %s", metadata)
    stage.finish(synthetic=True, **metadata)


def get_parser() -> argparse.ArgumentParser:
    """Make the command-line parser."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio_dir", default="downloads/mini_emo")
    parser.add_argument("--data_dir", default="data", help="gets all/ and emotions")
    parser.add_argument("--n_speakers", type=int, default=10)
    parser.add_argument(
        "--n_sentences", type=int, default=10, help="a speaker, emotion"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nj", type=int, default=2, help="processes")
    return parser


def work(options: argparse.Namespace) -> None:
    """Make what is missing of audio and data directory."""
    for name, low, high in (
        ("n_speakers", 3, len(VOICES)),
        ("n_sentences", 1, len(SENTENCES)),
        ("nj", 1, 256),
        ("seed", 0, 2**32 - 1),
    ):
        value = getattr(options, name)
        if not low <= value <= high:
            raise ValueError(f"--{name} {value}: expected {low} to {high}")
    for package in ("espeakng-loader", "pyworld"):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError as error:
            raise ValueError(
                f"the synthetic corpus mini_emo needs the package {package}: "
                "pip install 'emoq[mini_emo]'"
            ) from error
    here = Path(__file__).parent
    settings = {
        name: getattr(options, name) for name in ("n_speakers", "n_sentences", "seed")
    }
    audio = Stage(
        options.audio_dir,
        inputs=[
            here / f"{name}.py" for name in ("make_corpus", "espeak", "expression")
        ],
        settings=settings,
    )
    if not audio.is_done():
        with contextlib.suppress(FinishedMeanwhile):
            _make_audio(options, audio)
    data = Stage(Path(options.data_dir) / "all", inputs=[options.audio_dir])
    if not data.is_done():
        _write_data(options, data)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    run_command(get_parser, work, arguments)


if __name__ == "__main__":
    main()
