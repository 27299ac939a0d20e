"""Lines of Kaldi tables with their numbers, before anything is known of them."""

from pathlib import Path

from emoq_plugin.files import unmarked


def require_tables(path: Path) -> None:
    """Refuse a directory without the tables that every one has."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such data directory")
    missing = [name for name in ("wav.scp", "utt2spk") if not (path / name).is_file()]
    if not any((path / name).is_file() for name in ("utt2emo", "utt2votes")):
        missing.append("utt2emo (or utt2votes)")
    if missing:
        raise FileNotFoundError(f"{path}: missing {', '.join(missing)}")


def read_lines(path: Path, faults: list[str]) -> tuple[dict[str, str], dict[str, int]]:
    """Read a table with line numbers; unlike `read_table`, go on after a fault."""
    table: dict[str, str] = {}
    lines: dict[str, int] = {}
    if not path.is_file():
        return table, lines
    try:
        content = unmarked(path.read_bytes(), path).removesuffix(b"\n")
    except ValueError as error:
        faults.append(str(error))
        return table, lines
    for number, raw in enumerate(content.split(b"\n") if content else (), 1):
        try:
            line = raw.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            faults.append(f"{path}:{number}: not UTF-8: {error}")
            continue
        if not line:
            faults.append(f"{path}:{number}: empty line, expected '<id> <value>'")
            continue
        key, *value = line.split(maxsplit=1)
        if key in table:
            faults.append(
                f"{path}:{number}: duplicate id '{key}', it is in line "
                f"{lines[key]} too"
            )
            continue
        table[key], lines[key] = (value or [""])[0], number
    return table, lines


def parse_segment(text: str) -> tuple[str, float, float]:
    """Read `<recording> <start> <end>`."""
    fields = text.split()
    try:
        recording, start, end = fields[0], float(fields[1]), float(fields[2])
    except (IndexError, ValueError):
        recording, start, end = "", 0.0, 0.0
    if len(fields) != 3 or not 0 <= start < end < float("inf"):
        raise ValueError(
            f"segment '{text}', expected '<recording> <start> <end>' in seconds "
            "with 0 <= start < end"
        )
    return recording, start, end
