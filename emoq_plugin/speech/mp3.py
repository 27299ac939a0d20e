"""The number of frames of an MP3 file, counted: many headers lack it or are wrong.

Without a Xing header decoders guess the length from the first frame's bit rate, which
a variable bit rate makes wrong in both directions, and stop there.
"""

from dataclasses import dataclass

# Of layer III, ISO/IEC 11172-3 and 13818-3: kbit/s by index, samples/s by version.
_BIT_RATES = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {
    3: (44100, 48000, 32000),
    2: (22050, 24000, 16000),
    0: (11025, 12000, 8000),
}
_ID3_HEADER = 10
# Version, layer and rate: the same in all frames of a stream.
_CONSTANT = 0xFFFE0C00


@dataclass(frozen=True)
class _Frame:
    """The header of a frame of layer III."""

    word: int

    @property
    def _version(self) -> int:
        return self.word >> 19 & 3

    @property
    def length(self) -> int:
        """Bytes of the frame."""
        first = self._version == 3
        kilobits = _BIT_RATES[first][self.word >> 12 & 15]
        rate = _RATES[self._version][self.word >> 10 & 3]
        return (144 if first else 72) * 1000 * kilobits // rate + (self.word >> 9 & 1)

    @property
    def side(self) -> int:
        """Bytes of side information, after the 4 of the header."""
        mono = self.word >> 6 & 3 == 3
        return (17 if mono else 32) if self._version == 3 else (9 if mono else 17)


def _frame_at(data: bytes, at: int) -> _Frame | None:
    word = int.from_bytes(data[at : at + 4], "big")
    is_layer_3 = word >> 21 == 0x7FF and word >> 17 & 3 == 1
    if not is_layer_3 or word >> 19 & 3 not in _RATES:
        return None
    # Neither a free nor a forbidden bit rate, nor a reserved rate.
    if word >> 12 & 15 in (0, 15) or word >> 10 & 3 == 3:
        return None
    return _Frame(word)


def count_frames(data: bytes) -> tuple[bytes, str]:
    """Count the frames of an MP3 file and make its header say so.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    data : bytes
        The same, or with a new header frame where it had none or a wrong one.
    fault : str
        What is missing, where the header counts more than the file holds.
    """
    start = _after_id3(data)
    first = _frame_at(data, start)
    if first is None:  # layer I or II, or free format
        return data, ""
    claimed = _claimed(data[start : start + first.length], first)
    if claimed is not None:
        start += first.length
    counted = _count(data, start, first.word & _CONSTANT)
    # Some count the header's frame too; the last one may lack some bytes.
    if claimed and abs(claimed - counted) <= 1:
        return data, ""
    lacks = claimed and claimed > counted
    fault = f"its header counts {claimed} frames, the file holds {counted}"
    return _header(first.word, counted) + data[start:], fault if lacks else ""


def _after_id3(data: bytes) -> int:
    """Return the place after tags in front; sizes have seven bits a byte."""
    at = 0
    while data[at : at + 3] == b"ID3" and len(data) > at + _ID3_HEADER:
        a, b, c, d = data[at + 6 : at + _ID3_HEADER]
        at += _ID3_HEADER + (a << 21 | b << 14 | c << 7 | d)
    return at


def _claimed(frame: bytes, header: _Frame) -> int | None:
    at = 4 + header.side
    if frame[at : at + 4] not in (b"Xing", b"Info"):
        return None
    has_count = frame[at + 7] & 1
    return int.from_bytes(frame[at + 8 : at + 12], "big") if has_count else 0


def _count(data: bytes, at: int, constant: int) -> int:
    """Count whole frames; what is no frame in between is passed over."""

    def frame_at(place: int) -> _Frame | None:
        frame = _frame_at(data, place)
        return frame if frame and frame.word & _CONSTANT == constant else None

    counted, lost = 0, False
    while 0 <= at <= len(data) - 4:
        frame = frame_at(at)
        # Where frames were lost two bytes may look like one: the next must follow.
        if frame and lost:
            after = at + frame.length
            frame = frame if after == len(data) or frame_at(after) else None
        lost = frame is None
        if frame is None:
            at = data.find(b"\xff", at + 1)
            continue
        at += frame.length
        counted += at <= len(data)
    return counted


def _header(word: int, n_frames: int) -> bytes:
    """Make a frame without sound that says how many follow."""
    # Without a checksum and padding, and with a bit rate that leaves room.
    word = (word | 1 << 16) & ~(15 << 12 | 1 << 9) | 9 << 12
    frame = _Frame(word)
    start = word.to_bytes(4, "big") + bytes(frame.side)
    text = b"Info" + (1).to_bytes(4, "big") + n_frames.to_bytes(4, "big")
    return (start + text).ljust(frame.length, b"\0")
