"""Tables and texts of corpora as programs save them; optional ones."""

import pytest

from emoq_plugin.data import corpora
from emoq_plugin.data.corpora.crema_d import read_voice_votes
from emoq_plugin.data.corpora.finding import find_clips

VOTES = "processedResults/tabulatedVotes.csv"


def find(name, directory, **options):
    return find_clips(corpora.load(name), directory, **options)


# ----------------------------------------------------------------- tables saved again


def saved(text, how):
    """Save tabulatedVotes.csv as pandas, R or Excel would."""
    rows = [line.split(",") for line in text.splitlines()]
    if how == "named":  # read and written by pandas
        rows[0][0] = "Unnamed: 0"
    if how == "twice":  # with another index before it
        rows[0][0] = "Unnamed: 0"
        rows = [[str(n - 1) if n else "", *row] for n, row in enumerate(rows)]
    if how == "last":
        rows = [[*row[1:], row[0] or "id"] for row in rows]
    if how == "without":
        rows = [row[1:] for row in rows]
    if how == "index":
        rows = [[str(n - 1) if n else "", *row[1:]] for n, row in enumerate(rows)]
    if how == "face":
        rows = [row for row in rows if not row[0].startswith('"1')]
    return "\n".join(map(",".join, rows)) + "\n"


@pytest.mark.parametrize("how", ["named", "twice", "last", "utf-16", "utf-8-sig"])
def test_crema_d_votes_that_keep_their_row_ids_are_the_votes_on_the_voice(copy, how):
    table = copy("crema_d") / VOTES
    expected = read_voice_votes(table)
    text = table.read_text()
    if how.startswith("utf"):
        table.write_text(text, encoding=how)
    else:
        table.write_text(saved(text, how))
    assert read_voice_votes(table) == expected
    assert len(expected) == 31


@pytest.mark.parametrize("how", ["without", "index", "face"])
def test_crema_d_votes_without_row_ids_are_refused(copy, how):
    table = copy("crema_d") / VOTES
    table.write_text(saved(table.read_text(), how))
    with pytest.raises(ValueError, match="tabulatedVotes.csv: .*row ids .*1xxxxx"):
        read_voice_votes(table)


def test_a_table_whose_name_does_not_say_voice_is_not_taken_for_it(tmp_path):
    text = "clip,anger,disgust,fear,happy,neutral,sad\n1001_DFA_ANG_XX,1,0,0,0,0,0\n"
    for name in ("votes_voice.csv", "votes_face.csv"):
        (tmp_path / name).write_text(text)
    assert read_voice_votes(tmp_path)["1001_DFA_ANG_XX"]["ANG"] == 1
    with pytest.raises(ValueError, match="votes_face.csv: .*expected votes_voice.csv"):
        read_voice_votes(tmp_path / "votes_face.csv")


@pytest.mark.parametrize(
    "old, new, message",
    [
        (",8,0,0,0,2,0,", ",8,-,0,0,2,0,", r"tabulatedVotes.csv:\d+: 1001_IEO_ANG"),
        (
            ",8,0,0,0,2,0,",
            ",8,-1,0,0,2,0,",
            r"Votes.csv:\d+: 1001_IEO.* finite and >= 0",
        ),
        ('"1001_IEO_DIS_HI"', '"1001_IEO_ANG_HI"', r"ANG_HI' occurs twice"),
    ],
)
def test_faults_of_votes_are_named_with_their_line(copy, old, new, message):
    table = copy("crema_d") / VOTES
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_voice_votes(table)


@pytest.mark.parametrize(
    "encoding, apostrophe", [("cp1252", "’"), ("latin-1", "´"), ("utf-16", "’")]
)
@pytest.mark.parametrize("mark", ["\t", "  "])
def test_esd_texts_in_8_bits_or_with_blanks_are_read(copy, encoding, apostrophe, mark):
    place = copy("esd")
    words = f"I{apostrophe}d like the nine."
    for odd in ("", "x"):  # an even and an odd number of bytes
        lines = [f"0011_000001{mark}{words}{mark}Angry", "0011_000351 Eggs. Happy"]
        content = "\n".join([*lines, odd]).encode(encoding)
        (place / "0011" / "0011.txt").write_bytes(content)
        texts = {c.name: c.text for c in find("esd", place)}
        assert texts["0011_000001"] == words and texts["0011_000351"] == "Eggs."


def test_esd_mandarin_is_read_as_its_own_8_bit_encoding(copy, caplog):
    place = copy("esd")
    line = "0001_000001\t打远一看，它们的确很是美丽，\t生气\n"
    (place / "0001/0001.txt").write_bytes(line.encode("gb18030"))
    [clip] = [c for c in find("esd", place, language="mandarin") if c.text]
    assert clip.text == "打远一看，它们的确很是美丽，"
    assert "0001.txt is not UTF-8, read as gb18030" in caplog.text


@pytest.mark.parametrize(
    "content, message",
    [
        (b"0011_000001\tA \x81.\tAngry\n", "not UTF-8 and not cp1252"),
        ("0011_000001\tA.\tAngry\n".encode("utf-16-le"), "without a byte order mark"),
        (b"hello\n0011_000001 A text\n", "2 lines without id and text (hello, ...)"),
        (None, "found no"),
    ],
)
def test_esd_texts_that_cannot_be_read_are_reported_and_stop_nothing(
    copy, caplog, content, message
):
    place = copy("esd")
    (place / "0011" / "0011.txt").unlink()
    if content is not None:
        (place / "0011" / "0011.txt").write_bytes(content)
    assert len(find("esd", place)) == 15
    assert message in caplog.text and "0011.txt" in caplog.text
    assert "text 10," in caplog.text


# -------------------------------------------------------------------- optional tables


@pytest.mark.parametrize(
    "change, n_shares, message",
    [
        (lambda t: t.replace("\t", "   "), 42, ""),
        (lambda t: t.partition("\n")[2], 42, ""),  # no header
        (lambda t: t + "Summe\t42\n\n", 42, "1 lines without a recording (44)"),
        (lambda t: t.replace("62,50", "-", 1), 41, "1 without a per cent number (2)"),
        (lambda t: t.replace("62,50", "162,5", 1), 41, "per cent number (2)"),
        (lambda t: "nothing", 0, ""),
        (lambda t: t + t.splitlines()[1].replace("62", "63"), 0, "two shares of 03a01"),
    ],
)
def test_emodb_shares_are_read_line_by_line_and_what_lacks_is_reported(
    copy, caplog, change, n_shares, message
):
    place = copy("emodb")
    table = place / "erkennung.txt"
    table.write_text(change(table.read_text("latin-1")), "latin-1")
    clips = find("emodb", place)
    assert len(clips) == 42
    assert sum("utt2agreement" in c.extra for c in clips) == n_shares
    assert message in caplog.text


@pytest.mark.parametrize(
    "metadata, message",
    [
        ("title,year\nx,1\n", "metadata.csv:1: no column file"),
        ("file,recognised_pct\nwav/03a01Wa.wav,-\n", "1 without a per cent number (2)"),
        ('file,recognised_pct\n"wav', "not closed"),
    ],
)
def test_an_unrelated_metadata_table_does_not_stop_emodb(
    copy, caplog, metadata, message
):
    place = copy("emodb")
    (place / "metadata.csv").write_text(metadata)
    clips = find("emodb", place)
    assert message in caplog.text
    assert {c.extra["utt2agreement"] for c in clips} == {"0.625"}  # of erkennung.txt


@pytest.mark.parametrize(
    "name, table, lacks",
    [
        ("crema_d", "VideoDemographics.csv", "genders"),
        ("jl_corpus", "*/JL(wav+txt)/male1_sad_1a_1.txt", "words"),
        ("iemocap", "Session1/dialog/transcriptions/Ses01F_impro01.txt", "words"),
        ("msp_podcast", "Labels/labels_detailed.csv", "votes"),
        ("msp_podcast", "Transcripts/MSP-PODCAST_0000_0000.txt", "words"),
    ],
)
def test_a_broken_optional_table_stops_no_corpus(copy, caplog, name, table, lacks):
    place = copy(name)
    expected = {c.name for c in find(name, place)}
    [path] = place.glob(table)
    path.write_bytes(b"\xff\xfe\xff")
    caplog.clear()
    assert {c.name for c in find(name, place)} == expected
    assert f"no {lacks} are read" in caplog.text and str(path) in caplog.text
