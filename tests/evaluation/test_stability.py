"""Units of disturbed recordings are compared where and when they mean the same."""

import numpy as np
import pytest
import soundfile

from emoq_plugin.bin.stability import main
from emoq_plugin.evaluation.stability import Shares
from emoq_plugin.files import read_json
from emoq_plugin.speech.band import band_of
from emoq_plugin.speech.disturbances import DISTURBANCES, SPEED
from emoq_plugin.units.clip_units import Units
from tests.speech.tiny_bank import make_bank

RATE = 16000


def units(codes, route="a", clip_codes=None, n_levels=1):
    codes = np.array(codes)
    clip = None if clip_codes is None else np.array(clip_codes)
    seconds = len(codes) / 50
    return Units(codes, {route: 1.0}, n_levels, [9], seconds, 1.0, 50.0, clip, [4, 4])


def shares(*pairs, **options):
    found = Shares()
    for before, after in pairs:
        found.add(before, after, **options)
    return found.means()


def test_levels_and_recordings_are_counted_apart_and_together():
    one = units([[1, 2], [3, 4], [5, 6]], n_levels=2)
    two = units([[1, 0], [3, 4], [0, 6]], n_levels=2)
    found = shares((one, two), (units([[7, 8]], n_levels=2),) * 2)
    assert found["frame codes"] == 3 / 4 and found["frame codes, level 2"] == 3 / 4
    assert "clip codes" not in found


def test_codes_of_another_expert_are_others():
    found = shares((units([[1], [2]]), units([[1], [2]], route="b")))
    assert found == {"routes": 0, "frame codes": 0}


def test_symbols_of_clip_codes_and_whole_ones_are_counted():
    before = units([[1]], clip_codes=[[0, 1], [2, 3]])
    found = shares((before, units([[1]], clip_codes=[[0, 1], [2, 0], [1, 1]])))
    assert found["symbols of clip codes"] == 3 / 4 and found["clip codes"] == 1 / 2


def test_frames_are_compared_at_the_same_moment():
    slow = units(np.repeat(np.arange(50), 2)[:, None])
    fast = units(np.arange(50)[:, None])
    assert shares((slow, fast), speed=2.0)["frame codes"] == 1
    assert shares((slow, fast))["frame codes"] < 0.1


def speech(seconds=2):
    random = np.random.default_rng(0)
    wave = np.cumsum(random.normal(size=RATE * seconds))  # more power in low bands
    wave = wave - np.linspace(wave[0], wave[-1], len(wave))
    return 0.3 * wave / np.abs(wave).max() + 0.01 * random.normal(size=len(wave))


def test_disturbances_do_what_they_say():
    wave = speech().astype(np.float32)
    changed = {
        name: kind.change(wave, RATE, np.random.default_rng(1))
        for name, kind in DISTURBANCES.items()
    }
    noise = changed["noise at 20 dB"] - wave
    assert 10 * np.log10(np.mean(wave**2) / np.mean(noise**2)) == pytest.approx(
        20, 0.01
    )
    assert len(changed["speed 1.03"]) == pytest.approx(len(wave) / SPEED, abs=2)
    assert band_of(changed["8 kHz"], RATE, RATE) <= 4100 < band_of(wave, RATE, RATE)
    for name in ("8 kHz", "MP3, 64 kbit/s"):  # nothing is shifted in time
        assert len(changed[name]) == len(wave)
        assert np.corrcoef(changed[name], wave)[0, 1] > 0.95
        assert np.abs(changed[name] - wave).max() > 1e-3


def test_the_command_works_for_an_artifact_and_recordings(tmp_path, capsys, caplog):
    make_bank().save_pretrained(tmp_path / "bank")
    (tmp_path / "audio").mkdir()
    for n in range(2):
        soundfile.write(tmp_path / "audio" / f"{n}.wav", speech()[n * 9000 :], RATE)
    output = tmp_path / "shares.json"
    arguments = [str(tmp_path / "audio"), "--quantizer", str(tmp_path / "bank")]
    arguments += ["--system", "balanced", "--output", str(output)]
    main(arguments)
    found = read_json(output)
    assert list(found) == list(DISTURBANCES)
    assert all(0 < kinds["frame codes"] <= 1 for kinds in found.values())
    assert "| noise at 20 dB | 100.0 |" in capsys.readouterr().out  # one route
    (tmp_path / "audio" / "bad.wav").write_text("no audio")
    with pytest.raises(SystemExit):
        main(arguments)
    assert "bad.wav" in caplog.text and read_json(output) == found
