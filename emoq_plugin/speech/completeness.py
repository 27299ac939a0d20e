"""Whether a file holds all the audio that it says it holds."""

import re
from io import BytesIO

import soundfile

# The length of what was written to a pipe is unknown: programs put 2 GiB less some
# kilobytes, or more, in its place.
UNKNOWN_BYTES = 2**31 - 2**12
# Bytes or samples: headers that count themselves are wrong by as much, and no copy
# that is cut at a whole block lacks so little.
HEADER_SLACK = 256
# What follows the last chunk, and is more than that, is audio that was not counted.
MAX_REST_SECONDS = 0.5
# Lines of libsndfile's log: `data : 96000 (should be 38373)`, `Frames : 48000`.
_BYTES = re.compile(
    r"^\s*(?:data|SSND|BODY|riff|Data Size) *: (\d+) \(should be (\d+)\)", re.M
)
_FRAMES = re.compile(r"^\s*Frames *: (\d+)$", re.M)
_LENGTH = re.compile(r"^Length *: (\d+)$", re.M)
_SAMPLE_BYTES = {
    "PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3,
    "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8,
}  # fmt: skip
_NIST_HEADER, _NIST_COUNT = 1024, re.compile(rb"sample_count -i (\d+)")
_OGG_PAGE, _OGG_HEADER, _OGG_END = 2**16, 27, 4


def what_is_missing(stream: soundfile.SoundFile, source: str | bytes) -> str:
    """Say how a file contradicts what it says of its own length.

    Parameters
    ----------
    stream : SoundFile
    source : str or bytes
        Path or content of the same file.

    Returns
    -------
    str
        Empty where nothing is missing.
    """
    log, frames = stream.extra_info, stream.frames
    for claimed, held in _BYTES.findall(log):
        if int(claimed) - int(held) > HEADER_SLACK and int(claimed) < UNKNOWN_BYTES:
            return f"its header counts {claimed} bytes, the file holds {held} of them"
    counts = [int(count) for count in _FRAMES.findall(log)]
    if stream.format == "NIST":
        counts += map(int, _NIST_COUNT.findall(_end(source, first=_NIST_HEADER)))
    if counts and max(counts) - frames > HEADER_SLACK:
        return f"its header counts {max(counts)} samples, the file holds {frames}"
    if stream.format == "OGG" and not _ogg_ends(_end(source, last=2 * _OGG_PAGE)):
        return "its last page does not end the stream"
    return _uncounted(stream, log)


def _uncounted(stream: soundfile.SoundFile, log: str) -> str:
    """Say what follows the audio that the header counts and is no chunk either."""
    found, width = _LENGTH.search(log), _SAMPLE_BYTES.get(stream.subtype)
    chunks = stream.format in ("WAV", "WAVEX", "AIFF")
    if found is None or width is None or not (chunks or stream.format == "AU"):
        return ""
    frame = width * stream.channels
    rest = int(found[1]) - stream.frames * frame
    if rest <= MAX_REST_SECONDS * stream.samplerate * frame + HEADER_SLACK:
        return ""
    if chunks and "Exiting parser" not in log:
        return ""
    return (
        f"its header counts {stream.frames * frame} bytes of audio, {rest} others "
        "are in the file"
    )


def _ogg_ends(tail: bytes) -> bool:
    """Return whether the last page is whole and says that it is the last."""
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < _OGG_HEADER or not page[5] & _OGG_END:
        return False
    sizes = page[_OGG_HEADER : _OGG_HEADER + page[26]]
    return len(page) >= _OGG_HEADER + page[26] + sum(sizes)


def _end(source: str | bytes, *, first: int = 0, last: int = 0) -> bytes:
    """Return the first or the last bytes of a file."""
    with open(source, "rb") if isinstance(source, str) else BytesIO(source) as stream:
        stream.seek(0 if first else max(0, stream.seek(0, 2) - last))
        return stream.read(first or last)
