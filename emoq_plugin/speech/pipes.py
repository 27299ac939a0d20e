"""Commands in wav.scp: `sph2pipe x.sph |` writes audio to its standard output."""

import logging
import re
import subprocess

# What tools say on standard error of a recording that they could not read to its end.
DAMAGE = re.compile(
    r"error|invalid|corrupt|truncat|premature|partial|unexpected|incomplete|fail"
    r"|lost sync|mismatch|no such|not found|damag|broken|killed",
    re.IGNORECASE,
)
# ffmpeg that was asked for errors says nothing else.
ERRORS_ONLY = re.compile(r"\bffmpeg\b.* -(loglevel|v) +(error|fatal|panic|16|8|0)\b")


def is_pipe(entry: str) -> bool:
    """Return whether an entry of wav.scp is a command (`sph2pipe x.sph |`)."""
    return entry.rstrip().endswith("|")


def run_pipe(entry: str) -> bytes:
    """Run a command of wav.scp and give what it writes.

    Parameters
    ----------
    entry : str
        Ends in `|`.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If a program of it fails, or one says that the recording is damaged and ends
        with status 0, as ffmpeg does. What else it says is logged.
    """
    # The first command of a pipeline may fail as well as the last. Without a terminal:
    # ffmpeg would take keys from it.
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", entry.rstrip()[:-1]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode != 0:
        raise ValueError(f"{entry}: exit status {done.returncode}: {said}")
    if not said:
        return done.stdout
    lines = said.splitlines()
    if ERRORS_ONLY.search(entry):
        damage = lines[0]
    else:
        damage = next((line for line in lines if DAMAGE.search(line)), "")
    if damage:
        raise ValueError(
            f"{entry}: exit status 0, but it says: {damage}: mend the recording, or "
            "decode it to a file yourself and name that in wav.scp"
        )
    logging.warning(
        "%s: its command writes to standard error, the last of %d line(s): %s",
        *(entry, len(lines), lines[-1]),
    )
    return done.stdout
