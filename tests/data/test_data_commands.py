"""The data commands: stage 2, folds and validation as the recipes call them."""

import logging

import numpy as np
import pytest
import soundfile

from emoq_plugin.bin import make_folds, validate_data_dir
from emoq_plugin.data.folds import read_folds

RATE = 16000


def fails(caplog, work, *arguments, **options):
    """Run a command that must exit with status 1; give its error message."""
    with pytest.raises(SystemExit) as caught:
        work(*arguments, **options)
    assert caught.value.code == 1
    return caplog.records[-1].getMessage()


def test_audio_that_fits_is_not_copied(corpus, stage2):
    before = {u: f.read_bytes() for u, f in corpus.audio.items()}
    data = stage2()
    assert data.wav == {u: str(f) for u, f in corpus.audio.items()}
    assert {u: f.read_bytes() for u, f in corpus.audio.items()} == before
    assert data.extra["utt2num_samples"] == dict.fromkeys(data.utterances, "8000")


def test_segments_rates_and_channels_become_mono_files_at_one_rate(corpus, stage2):
    u = corpus.utterances
    corpus.samples(u[1], corpus.tone(0.5, 44100), 44100)
    corpus.samples(u[2], np.stack([corpus.tone(0.5)] * 2, axis=1))
    segments = [f"{x} {x} 0.1 0.35" for x in u]
    plain = stage2(multi_channel="mean")
    corpus.table("segments", segments)
    cut = stage2(multi_channel="mean")
    assert cut.segments == {}
    for data, n_samples, changed in ((plain, 8000, u[1:3]), (cut, 4000, u)):
        assert data.extra["utt2num_samples"] == dict.fromkeys(u, str(n_samples))
        for name in changed:
            assert name in data.wav[name]
    for entry in cut.wav.values():
        info = soundfile.info(entry)
        assert (info.samplerate, info.channels, info.frames) == (RATE, 1, 4000)


def test_too_short_and_too_long_are_dropped_listed_and_counted(corpus, stage2, caplog):
    caplog.set_level(logging.INFO)
    short, long, *rest = corpus.utterances
    corpus.samples(short, corpus.tone(0.05))
    corpus.samples(long, corpus.tone(2.0))
    corpus.table("spk2gender", ["s0 f", "s1 m", "s2 f", "s3 m"])
    data = stage2(max_seconds=1.5)
    assert data.utterances == rest
    dropped = (corpus.root / "dump" / "dropped.tsv").read_text().splitlines()
    assert dropped[1:] == [
        f"{short}\ttoo short: 0.050 s, at least 0.1 s",
        f"{long}\ttoo long: 2.000 s, at most 1.5 s",
    ]
    assert "dropped, too short: 1" in caplog.text
    assert "dropped, too long: 1" in caplog.text
    genders = (corpus.root / "dump" / "spk2gender").read_text().splitlines()
    assert genders == ["s1 m", "s2 f", "s3 m"]


def test_unusable_audio_stops_and_all_of_it_is_named(corpus, stage2, caplog):
    u = corpus.utterances
    corpus.audio[u[0]].unlink()
    corpus.audio[u[1]].write_bytes(b"garbage")
    corpus.samples(u[2], np.full(8000, np.nan, np.float32), subtype="FLOAT")
    corpus.samples(u[3], np.zeros(8000))
    corpus.samples(u[4], np.stack([corpus.tone(0.5)] * 2, axis=1))
    corpus.samples(u[5], np.zeros(0))
    message = fails(caplog, stage2)
    for line, what in enumerate(
        ("missing", "unreadable", "NaN", "silent", "2 channels", "empty"), 1
    ):
        assert f"wav.scp:{line}: {u[line - 1]}: " in message and what in message
    assert not (corpus.root / "dump" / ".done.json").exists()
    assert stage2(on_error="drop").utterances == u[6:]


def test_when_nothing_is_left_it_is_an_error(stage2, caplog):
    assert "nothing left" in fails(caplog, stage2, max_seconds=0.2)


def test_commands_in_wav_scp_are_refused_unless_allowed(corpus, stage2, caplog):
    first, *_ = corpus.utterances
    entry = f"{first} cat '{corpus.audio[first]}' |"
    corpus.table("wav.scp", [entry, *corpus.lines("wav.scp")[1:]])
    assert "refused" in fails(caplog, stage2)
    assert stage2(allow_pipe="true").utterances == corpus.utterances


@pytest.mark.parametrize("nj", [1, 3])
def test_a_command_runs_once_for_all_segments(corpus, stage2, nj):
    count, audio = corpus.root / "count", corpus.root / "long.wav"
    soundfile.write(audio, corpus.tone(4.0), RATE)
    entry = f"echo x >> '{count}'; cat '{audio}' |"
    corpus.table("wav.scp", [f"rec{n} {entry}" for n in (1, 2)])
    u = corpus.utterances
    # Alternating, so that two neighbours are never of one recording.
    lines = [f"{x} rec{1 + n % 2} {n / 4} {n / 4 + 0.25}" for n, x in enumerate(u)]
    corpus.table("segments", lines)
    data = stage2(allow_pipe="true", nj=nj)
    assert count.read_text() == "x\n" * 2
    assert data.utterances == u
    tone = corpus.tone(4.0)
    for n, x in enumerate(u):
        read, _ = soundfile.read(data.wav[x])
        start = round(n / 4 * RATE)
        np.testing.assert_allclose(read, tone[start : start + RATE // 4], atol=1e-4)
    validate_data_dir.main(
        [f"--data_dir={corpus.path}", f"--emotions={corpus.emotions_file}"]
        + ["--check_audio=true", "--allow_pipe=true"]
    )
    assert count.read_text() == "x\n" * 4


def test_a_second_call_does_nothing_until_something_changes(corpus, stage2, caplog):
    caplog.set_level(logging.INFO)
    stage2()
    stage2()
    assert "up to date" in caplog.text
    caplog.clear()
    stage2(sample_rate=8000)
    assert "sample_rate: 16000 -> 8000" in caplog.text
    caplog.clear()
    corpus.samples(corpus.utterances[0], corpus.tone(0.7))
    data = stage2(sample_rate=8000)
    assert "up to date" not in caplog.text
    assert data.extra["utt2num_samples"][corpus.utterances[0]] == "5600"


def test_finished_files_of_an_interrupted_run_are_kept(corpus, stage2, caplog):
    *rest, last = corpus.utterances
    corpus.audio[last].write_bytes(b"garbage")
    fails(caplog, stage2, sample_rate=8000)
    kept = corpus.root / "dump" / "wav" / f"{rest[0]}.flac"
    before = kept.stat().st_mtime_ns
    fails(caplog, stage2, sample_rate=8000)
    assert kept.stat().st_mtime_ns == before
    assert not list(kept.parent.glob("*.part"))
    fails(caplog, stage2, sample_rate=4000)
    assert soundfile.info(kept).samplerate == 4000


def test_threads_give_the_same_result(corpus, stage2):
    one = stage2(sample_rate=8000)
    many = stage2(sample_rate=8000, nj=3, output_dir=corpus.root / "many")
    assert one.utterances == many.utterances
    for u in one.utterances:
        a, b = (corpus.root / d / "wav" / f"{u}.flac" for d in ("dump", "many"))
        assert a.read_bytes() == b.read_bytes()


def test_the_output_must_not_be_the_input(corpus, stage2, caplog):
    assert "another one" in fails(caplog, stage2, output_dir=corpus.path)


def test_folds_are_made_once_and_pass_validation(corpus, caplog):
    caplog.set_level(logging.INFO)
    folds = corpus.root / "data" / "folds"
    corpus.table("spk2gender", ["s0 f", "s1 m", "s2 f", "s3 m"])
    call = [
        f"--data_dir={corpus.path}",
        f"--output={folds}",
        "--n_folds=2",
        f"--group_file={corpus.path / 'spk2gender'}",
    ]
    make_folds.main(call)
    make_folds.main(call)
    assert "up to date" in caplog.text
    assert {u.split("-")[0] for u in read_folds(folds)[0].test} == {"s0", "s1"}
    validate_data_dir.main(
        [
            f"--data_dir={corpus.path}",
            f"--emotions={corpus.emotions_file}",
            f"--folds={folds}",
            "--check_audio=true",
            f"--sample_rate={RATE}",
        ]
    )
    assert "is valid: 8 utterances, 4 speakers" in caplog.text


def test_validation_collects_faults_of_tables_folds_and_audio(corpus, caplog):
    u = corpus.utterances
    corpus.samples(u[0], corpus.tone(0.5), 8000)
    corpus.audio[u[1]].unlink()
    corpus.table("utt2emo", [f"{x} sad" for x in u[:-1]])
    fold = corpus.root / "folds" / "1"
    fold.mkdir(parents=True)
    for part, lines in (("train", u[:3]), ("valid", []), ("test", [u[3], "ghost"])):
        (fold / part).write_text("".join(f"{x}\n" for x in lines))
    message = fails(
        caplog,
        validate_data_dir.main,
        [
            f"--data_dir={corpus.path}",
            f"--emotions={corpus.emotions_file}",
            f"--folds={fold.parent}",
            "--check_audio=true",
            f"--sample_rate={RATE}",
        ],
    )
    assert "5 fault(s)" in message
    for expected in (
        "8000 Hz, expected 16000 Hz",
        f"wav.scp:2: audio file of '{u[1]}' is missing",
        f"wav.scp:8: utterance '{u[7]}' is not in utt2emo",
        "test:1: speaker 's1'",
        "test:2: utterance 'ghost' is not in utt2spk",
    ):
        assert expected in message


def test_validation_reports_what_is_not_used(corpus, caplog):
    u = corpus.utterances
    corpus.table("segments", [f"{x} {x} 0.1 0.35" for x in u[:-1]])
    for name in ("utt2spk", "utt2emo"):
        corpus.table(name, corpus.lines(name)[:-1])
    fold = corpus.root / "folds" / "1"
    fold.mkdir(parents=True)
    for part, lines in (("train", u[:2]), ("valid", []), ("test", u[2:4])):
        (fold / part).write_text("".join(f"{x}\n" for x in lines))
    call = [
        f"--data_dir={corpus.path}",
        f"--emotions={corpus.emotions_file}",
        f"--folds={fold.parent}",
    ]
    validate_data_dir.main(call)
    assert f"1 recordings without a segment ({u[7]})" in caplog.text
    assert f"3 utterances in no part of any fold ({u[4]}, ...)" in caplog.text
    fold.rename(fold.with_name("3"))
    message = fails(caplog, validate_data_dir.main, call)
    assert "folds: folds 3, expected them to be numbered from 1 to 1" in message


def test_copies_of_speaker_tables_are_not_taken_along(corpus, stage2, caplog):
    corpus.table("spk2gender", ["s0 f", "s1 m", "s2 f", "s3 m"])
    corpus.table("spk2gender.bak", ["", "garbage"])
    stage2()
    assert (corpus.root / "dump" / "spk2gender").exists()
    assert not (corpus.root / "dump" / "spk2gender.bak").exists()
    assert "passed over that are no tables by their names: spk2gender.bak" in (
        caplog.text
    )
