"""Corpora in miniature, of noise and tones; processes that work together."""

import io
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emoq_plugin.data.directory import DataDirectory

ROOT = Path(__file__).parents[1]
FOUR = ("angry", "happy", "neutral", "sad")
IEMOCAP_TURN = "[{0:.4f} - {1:.4f}]\t{2}\t{3}\t[2.5000, 2.5000, 2.5000]\n"


class Miniature:
    """Writes the files of one corpus; films hold plain audio (see `ffmpeg`)."""

    def __init__(self, root: Path):
        self.root = root
        self.count = 0

    def audio(self, name, emotion, *, rate=16000, channels=1, seconds=0.6):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.count += 1
        random = np.random.default_rng(self.count)
        time = np.arange(round(seconds * rate)) / rate
        pitch = 150 * (1 + len(emotion) % 5)
        samples = 0.2 * np.sin(2 * np.pi * pitch * time)
        samples = samples + 0.05 * random.standard_normal(len(time))
        form = "FLAC" if path.suffix == ".flac" else "WAV"
        soundfile.write(path, np.tile(samples[:, None], channels), rate, format=form)
        return path

    def text(self, name, content, encoding="utf-8"):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode(encoding))
        return path


def esd(m):
    for speaker in ("0011", "0012", "0013", "0001"):
        lines = []
        for n, emotion in enumerate((*FOUR, "surprise")):
            name = f"{speaker}_{n * 350 + 1:06d}"
            # The first release has parts between emotion and file.
            part = "evaluation/" if speaker == "0012" else ""
            m.audio(f"{speaker}/{emotion.capitalize()}/{part}{name}.wav", emotion)
            lines.append(f"{name}\tThe nine the eggs.\t{emotion.capitalize()}")
        encoding = "utf-16" if speaker == "0013" else "utf-8"
        m.text(f"{speaker}/{speaker}.txt", "\n".join(lines), encoding)
    take = "0012_000001.wav"  # a duplicate
    (m.root / "0012/Angry/train").mkdir()
    shutil.copy(m.root / "0012/Angry/evaluation" / take, m.root / "0012/Angry/train")


def iemocap(m):
    codes = {"ang": "Anger", "hap": "Happiness", "neu": "Neutral state"}
    codes |= {"sad": "Sadness", "exc": "Excited", "fru": "Frustration", "xxx": "Fear"}
    for session in (1, 2, 3):
        dialogue = f"Ses0{session}F_impro01"
        table = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        script = ""
        for number, (code, rated) in enumerate(codes.items()):
            for sex in "FM":
                turn = f"{dialogue}_{sex}{number:03d}"
                table += IEMOCAP_TURN.format(number, number + 1, turn, code)
                table += f"C-E1:\t{rated};\t()\nC-E2:\t{rated};\t(comment; more)\n"
                table += f"C-E4:\t{rated}; Other;\t()\nC-F1:\tSurprise;\t()\n"
                table += "A-E3:\tval 3; act 2; dom  2;\t()\n\n"
                script += f"{turn} [00{number}.2901-008.2357]: Excuse me.\n"
                if turn != "Ses02F_impro01_M003":  # a missing file
                    folder = f"Session{session}/sentences/wav/{dialogue}"
                    m.audio(f"{folder}/{turn}.wav", rated)
        dialog = f"Session{session}/dialog"
        m.text(f"{dialog}/EmoEvaluation/{dialogue}.txt", table)
        m.text(f"{dialog}/EmoEvaluation/._{dialogue}.txt", "\0\x05")
        m.text(f"{dialog}/EmoEvaluation/Categorical/{dialogue}_e1_cat.txt", "")
        m.text(f"{dialog}/transcriptions/{dialogue}.txt", script)


def ravdess(m):
    for actor in range(1, 7):
        for code in range(1, 9):
            name = f"03-01-{code:02d}-01-01-01-{actor:02d}.wav"
            channels = 2 if (actor, code) == (1, 2) or (actor, code) == (5, 5) else 1
            m.audio(f"Actor_{actor:02d}/{name}", "x" * code, channels=channels)
    m.audio("Actor_01/03-02-05-01-01-01-01.wav", "song")
    m.text("Actor_01/._03-01-05-01-01-01-01.wav", "macOS")


def crema_d(m):
    codes = {"ANG": "A", "DIS": "D", "FEA": "F", "HAP": "H", "NEU": "N", "SAD": "S"}
    table = '"","A","D","F","H","N","S","fileName","numResponses"\n'
    people = "ActorID,Age,Sex,Race,Ethnicity\n"
    for n, speaker in enumerate((1001, 1019, 1037, 1055, 1073)):
        people += f"{speaker},30,{'Male' if n % 2 else 'Female'},x,y\n"
        for k, (code, letter) in enumerate(codes.items()):
            name = f"{speaker}_IEO_{code}_HI"
            m.audio(f"AudioWAV/{name}.wav", code * (k + 1))
            votes = [8 if c == letter else 0 for c in codes.values()]
            votes[4] += 2
            if name == "1001_IEO_HAP_HI":
                votes = [0, 0, 0, 5, 5, 0]  # a tie
            for shown in (1, 2, 3):
                counts = votes if shown == 1 else votes[::-1]
                row = ",".join(map(str, counts))
                table += f'"{shown}0000{n}",{row},"{name}",{sum(counts)}\n'
    table += '"100009",0,0,0,0,1,9,"1073_MTI_SAD_XX",10\n'  # silent, see below
    m.text("processedResults/tabulatedVotes.csv", table)
    m.text("VideoDemographics.csv", people)
    soundfile.write(m.root / "AudioWAV/1073_MTI_SAD_XX.wav", np.zeros(9600), 16000)


def msp_podcast(m):
    names = {"A": "Angry", "H": "Happy", "N": "Neutral", "S": "Sad", "X": "Fear"}
    names |= {"O": "Other-Bored"}
    consensus = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
    detailed = "FileName,EmoDetail\n"
    parts = ("Train", "Train", "Development", "Test1", "Test2")
    for speaker, part in enumerate(parts):
        for n, (code, name) in enumerate(names.items()):
            file = f"MSP-PODCAST_{speaker:04d}_{n:04d}.wav"
            who = "Unknown" if (speaker, code) == (0, "A") else str(speaker)
            if (part, code) == ("Development", "S"):
                who = "3"  # a speaker of Test1
            consensus += f"{file},{code},4.2,3.1,4.4,{who},Female,{part}\n"
            for rater in range(4):
                rated = "Neutral" if rater == 3 else name
                tags = "" if rater else " Annoyed,Sad;"
                detail = f"WORKER{rater}; {rated};{tags} A:5; V:2; D:5;"
                detailed += f'{file},"{detail}"\n'
            m.text(f"Transcripts/{file[:-4]}.txt", "well you know\n")
            m.audio(f"Audios/{file}", name)
    consensus += "MSP-PODCAST_9999_0000.wav,H,4,4,4,7,Male,Train\n"  # no audio
    m.text("Labels/labels_consensus.csv", consensus)
    m.text("Labels/labels_detailed.csv", detailed)


def emns(m):
    header = "id|utterance|description|emotion|date_created|status|gender|age|level|"
    table = header + "audio_recording|user_id\n"
    emotions = ("Angry", "Happy", "Neutral", "Sad", "Excited", "Disgust", "Sarcastic")
    for n in range(12):
        for k, emotion in enumerate((*emotions, "Surprised")):
            file = f"rec{n}{k}.webm"
            table += f"{n}{k}|Sentence, number {n}.|said so|{emotion}|2022|Complete|"
            table += f"Female|20s|5|wavs/{file}|3\n"
            if (n, k) != (0, 0):
                m.audio(f"cleaned_webm/{file}", emotion, rate=48000)
    m.text("metadata.csv", table)


def enterface(m):
    emotions = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
    for subject in (1, 2, 3, 6, 12):
        for emotion in emotions:
            folder = f"enterface database/subject {subject}/{emotion}"
            folder += "" if subject == 6 else "/sentence 1"
            name = f"s{subject}_{emotion[:2]}_1"
            m.audio(f"{folder}/{name}.avi", emotion, rate=48000, channels=2)
    m.audio("enterface database/subject 1/anger/sentence 1/s1_an_1.wav", "anger")
    m.audio("enterface database/readme/sample.avi", "anger")


def jl_corpus(m):
    folder = "Raw JL corpus (unchecked and unannotated)/JL(wav+txt)"
    for speaker in ("female1", "female2", "male1", "male2"):
        for emotion in (*FOUR, "excited", "anxious", "apologetic"):
            for take in "ab":
                name = f"{folder}/{speaker}_{emotion}_1{take}_1"
                m.audio(f"{name}.wav", emotion, rate=44100)
                m.text(f"{name}.txt", "Carl leaps into a jeep.\n")
    for emotion in ("assertive", "concerned", "encouraging"):
        m.audio(f"{folder}/male1_{emotion}_1a_1.wav", emotion, rate=44100)


def nemo(m):
    names = "file_id emotion raw_text normalized_text speaker_id gender age"
    table = "\t".join(names.split()) + "\n"
    emotions = ("anger", "fear", "happiness", "neutral", "sadness", "surprised")
    for speaker in ("EB0", "KD0", "KS0", "MP0", "WR0", "IC0"):
        gender = "male" if speaker in ("KS0", "MP0", "WR0") else "female"
        for emotion in emotions:
            file = f"{speaker}_{emotion}_1.wav"
            m.audio(f"samples/{file}", emotion, rate=24000)
            row = (file, emotion, "Lubię czytać.", "lubię czytać", f"        {speaker}")
            table += "\t".join((*row, gender, "27")) + "\n"
    m.text("data.tsv", table)


def meld(m):
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"
    emotions = ("anger", "joy", "neutral", "sadness", "surprise", "fear", "disgust")
    folders = {
        "train": "train_splits",
        "dev": "dev_splits_complete",
        "test": "output_repeated_splits_test",
    }
    cast = ("Ross", "Rachel", "Joey", "Dr. Franzblau", "Monica", "Ross and Joey")
    for part, folder in folders.items():
        table = header
        for d, speaker in enumerate(cast):
            for u, emotion in enumerate(emotions):
                table += f'{u},"It\x92s me, {speaker}.",{speaker},{emotion},x,{d},{u}\n'
                if (part, d, u) != ("train", 1, 3):  # a missing film
                    m.audio(f"{folder}/dia{d}_utt{u}.mp4", emotion, channels=2)
        m.text(f"{part}_sent_emo.csv", table, "latin-1")
    m.audio("output_repeated_splits_test/final_videos_testdia0_utt0.mp4", "anger")


def emodb(m):
    table = "Nr.\tSatz\terkannt\tnatuerlich\n"
    for n, actor in enumerate(("03", "08", "09", "10", "11", "13")):
        for letter in "WFNTALE":
            name = f"{actor}a01{letter}a.wav"
            m.audio(f"wav/{name}", "x" * ord(letter))
            table += f"{n}\xa0\t{name}\t62,50\xa0\xa0\t35,00\xa0\n"
    m.text("erkennung.txt", table, "latin-1")
    m.text("lablaut/03a01Wa.lablaut", "#\n")


MAKERS = (esd, iemocap, ravdess, crema_d, msp_podcast, emns, enterface, jl_corpus)
MAKERS += (nemo, meld, emodb)


@pytest.fixture(scope="session")
def miniature(tmp_path_factory):
    """Return the directory of a corpus' miniature, made once."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("as distributed") / name
            {maker.__name__: maker for maker in MAKERS}[name](Miniature(made[name]))
        return made[name]

    return make


@pytest.fixture(scope="session")
def ffmpeg(tmp_path_factory):
    """Return a PATH on which `ffmpeg` passes on the audio that miniature films hold."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "ffmpeg"
    script.write_text(
        '#!/usr/bin/env bash\nwhile [ "$1" != -i ]; do shift; done\ncat "$2"\n'
    )
    script.chmod(0o755)
    python = Path(sys.executable).parent
    return os.pathsep.join([str(folder), str(python), os.environ["PATH"]])


@pytest.fixture(scope="session")
def make_data():
    """Return what makes a data directory in memory that knows speakers only."""

    def make(speaker):
        return DataDirectory(
            Path("data/all"),
            utterances=sorted(speaker),
            wav={},
            speaker=speaker,
            emotion={},
        )

    return make


@pytest.fixture
def piped(monkeypatch):
    """Put text or bytes on standard input."""

    def put(content):
        content = content if isinstance(content, bytes) else content.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return put


@pytest.fixture
def master_port(monkeypatch):
    """Keep a port for rank 0: no other process is given it, and rank 0 may share it."""
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(kept.getsockname()[1]))
        yield


@pytest.fixture(scope="session")
def run_ranks():
    """Return a function that runs Python in two ranks and gives what each said."""
    return _run_ranks


def _run_ranks(*arguments, cwd, seconds=300):
    """Run both to their end; when one fails, the other is ended, too."""
    common = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    common["MASTER_ADDR"] = "127.0.0.1"
    command = [sys.executable, *map(str, arguments)]
    logs = [cwd / f"stderr.{rank}" for rank in (0, 1)]
    running = []
    end = time.monotonic() + seconds
    try:
        for rank, log in enumerate(logs):
            environment = {**os.environ, **common, "RANK": str(rank)}
            with log.open("w") as stderr:
                running.append(
                    subprocess.Popen(command, env=environment, cwd=cwd, stderr=stderr)
                )
        while None in (codes := [p.poll() for p in running]) and not any(codes):
            if time.monotonic() > end:
                break
            time.sleep(0.05)
    finally:
        for process in running:
            process.kill()
            process.wait()
    said = [log.read_text() for log in logs]
    how = [
        f"rank {rank} {'was still running' if code is None else f'ended with {code}'}:"
        f"\n{text}"
        for rank, (code, text) in enumerate(zip(codes, said))
    ]
    assert codes == [0, 0], "\n".join(how)
    return said
