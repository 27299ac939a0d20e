"""Speech from espeak-ng, through the library that the package espeakng-loader ships."""

import ctypes
import tempfile
from pathlib import Path

import numpy as np

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback, nothing is played
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_LONGEST_PATH = 120  # espeak-ng keeps its data path in a buffer of 160 characters
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Espeak:
    """The one espeak-ng of this process.

    espeak-ng keeps state from one utterance to the next (flutter of the voice), so the
    same calls in the same order from a fresh process give the same samples; single
    utterances taken out of that order do not.

    Parameters
    ----------
    seed : int
        For the breath noise of a voice; espeak-ng's own seed is the time of day.

    Raises
    ------
    ValueError
        If the package espeakng-loader is missing or its data cannot be read.
    """

    def __init__(self, seed: int):
        try:
            import espeakng_loader
        except ImportError as error:
            raise ValueError(
                "the corpus mini_emo needs the package espeakng-loader: "
                "pip install 'emoq[mini_emo]'"
            ) from error
        self._library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        data = str(espeakng_loader.get_data_path())
        if len(data) > _LONGEST_PATH:
            self._link = tempfile.TemporaryDirectory()  # as long as this object lives
            link = Path(self._link.name) / "espeak-ng-data"
            link.symlink_to(data)
            data = str(link)
        self.sample_rate = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, data.encode(), 0
        )
        if self.sample_rate <= 0:
            raise ValueError(
                f"espeak-ng does not start with its data in {data}: reinstall it with "
                "pip install --force-reinstall espeakng-loader"
            )
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self._chunks: list[np.ndarray] = []
        self._callback = _CALLBACK(self._keep)  # must outlive the library's use of it
        self._library.espeak_SetSynthCallback(self._callback)

    def _keep(self, samples, count: int, _events) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(
        self,
        text: str,
        *,
        voice: str,
        words_per_minute: int,
        pitch: int,
        pitch_range: int,
    ) -> np.ndarray:
        """Speak one sentence.

        Parameters
        ----------
        text : str
            English.
        voice : str
            Language and variant, for example `en-us+f2`.
        words_per_minute : int
            From 80 to 450; espeak-ng's own default is 175.
        pitch, pitch_range : int
            From 0 to 99; 50 is the voice's own.

        Returns
        -------
        (N,) float64 array
            At `sample_rate`, full scale is 1.

        Raises
        ------
        ValueError
            If espeak-ng does not know the voice or gives no sound.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice '{voice}'")
        for parameter, value in (
            (_RATE, words_per_minute),
            (_PITCH, pitch),
            (_RANGE, pitch_range),
        ):
            self._library.espeak_SetParameter(parameter, int(value), 0)
        self._chunks.clear()
        raw = text.encode()
        status = self._library.espeak_Synth(
            raw, ctypes.c_size_t(len(raw) + 1), 0, 1, 0, _UTF8, None, None
        )
        if status != 0 or not self._chunks:
            raise ValueError(f"espeak-ng ({voice}) gave no sound for '{text}'")
        return np.concatenate(self._chunks) / 32768.0
