"""Tables and texts as they come: quotes, line breaks, encodings, several of a name."""

import re

import pytest

from emoq_plugin.data.corpora.tables import (
    columns_of,
    files,
    first_of,
    optional_table,
    read_text,
    rows,
)


@pytest.fixture
def table(tmp_path):
    """Return a function that writes a table and reads it."""

    def read(text, *columns, written="utf-8", **options):
        path = tmp_path / "t.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode(written))
        return list(rows(path, columns or ["a", "b"], **options))

    return read


@pytest.mark.parametrize("mark", "\t|")
def test_a_quote_is_a_character_in_tables_of_tabs_and_bars(table, mark, caplog):
    texts = ['"No," he said', '"', 'she: "no"', 'an "', '"all"']
    lines = [f"{n}{mark}{text}" for n, text in enumerate(texts)]
    found = table("\n".join([f"a{mark}b", *lines]), delimiter=mark)
    assert [row["b"] for _, row in found] == texts
    assert [line for line, _ in found] == [2, 3, 4, 5, 6]
    assert "1 rows have a value in quotes, which are kept" in caplog.text
    assert "line 6" in caplog.text


@pytest.mark.parametrize("mark", ",;")
def test_quotes_hold_delimiters_and_quotes_in_tables_of_commas(table, mark):
    found = table(f'a{mark}b\n1{mark}"x{mark} ""y"""\n', delimiter=mark)
    assert found == [(2, {"a": "1", "b": f'x{mark} "y"'})]


@pytest.mark.parametrize(
    "text, mark, message",
    [
        ('a,b\n1,x\n2,"y\n3,z\n4,"w\n', ",", r"t.csv:3: .*not closed"),
        ('a,b\n1,x\n2,"y\n3,z\n', ",", r"t.csv:3: .*not closed"),
        ('a,b\n1,"x\ny"\n', ",", r"t.csv:2: a value goes on to line 3.*'x\\ny'"),
        ('a,b\n1,"x" y\n', ",", r"t.csv:2: .*not doubled"),
        ("a,b\n1," + "x" * 200000, ",", r"t.csv:2: field larger than"),
        ("a\tb\tc\n1\tx\n2\tz\n", "\t", r"t.csv:2: 2 values, but 3 columns.*line"),
        ("a\tb\n1\tx\ny\n", "\t", r"t.csv:3: 1 values, but 2 columns.*line break or"),
        ("a|b\n1|x|y\n", "|", r"t.csv:2: 3 values, but 2 columns"),
        ("a|b\n1|x\ry\n", "|", r"t.csv:3: 1 values, but 2 columns"),
        ("a,b,a\n1,x,2\n", ",", r"t.csv:1: column 'a' occurs twice"),
        ("a,b,A\n1,x,2\n", ",", r"t.csv:1: column 'a' occurs twice: \['a', 'A'\]"),
        ("a,c\n1,x\n", ",", r"t.csv:1: no column b, found: a, c$"),
        ("a;b\n1;x\n", ",", r"no column a, b, .*divided by semicolons, not commas"),
        ("a\tb\n1\tx\n", ",", r"divided by tabs, not commas"),
        ('"a"\t"b"\n', "\t", r"save it without quotes"),
        ("", ",", r"t.csv:1: no column a, b, found"),
    ],
)
def test_what_would_swallow_rows_or_values_is_refused_with_its_line(
    table, text, mark, message
):
    with pytest.raises(ValueError, match=re.compile(message, re.S)):
        table(text, delimiter=mark)


def test_columns_in_another_case_are_read_and_said(table, caplog):
    caplog.set_level("INFO")
    found = table("A,b,TEXT,Age\n1,x,hi,9\n", optional=["text"])
    assert found == [(2, {"a": "1", "b": "x", "text": "hi", "Age": "9"})]
    assert "column 'TEXT' is read as 'text'" in caplog.text


def test_rows_without_any_value_are_no_rows(table):
    assert table("a,b\n,\n\n1,x\n , \n") == [(4, {"a": "1", "b": "x"})]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_tables_are_read_with_and_without_a_mark(table, encoding, tmp_path):
    found = table("a\tb\r\n1\té抯\r\n", delimiter="\t", written=encoding)
    assert found == [(2, {"a": "1", "b": "é抯"})]
    assert columns_of(tmp_path / "t.csv", delimiter="\t") == ["a", "b"]


def test_an_even_number_of_bytes_is_not_utf16_and_8_bits_must_be_declared(
    table, caplog
):
    caplog.set_level("INFO")
    text = "a,b\n1,I’d gö\n".encode("cp1252")
    assert table(text, encoding="cp1252")[0][1]["b"] == "I’d gö"
    assert "is not UTF-8, read as cp1252" in caplog.text
    with pytest.raises(ValueError, match=r"t.csv:2: not UTF-8 .*save it as UTF-8"):
        table(text)
    with pytest.raises(ValueError, match=r"t.csv:2: not UTF-8 and not cp1252"):
        table(b"a,b\n1,\x81\n", encoding="cp1252")


@pytest.mark.parametrize(
    "content, message",
    [
        ("a,b\n1,x\n".encode("utf-16-le"), "a NUL, .*UTF-16 without a byte order mark"),
        (b"\xff\xfea", "t.csv:1: not utf-16 .*save it as UTF-8"),
        (b"PK\3\4rest", "t.csv: a zip archive or an Excel file"),
        (b"\xd0\xcf\x11\xe0rest", "t.csv: a zip archive or an Excel file"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_text(tmp_path / "t.csv")


def test_an_optional_table_never_stops_its_corpus_and_says_why(caplog):
    def broken():
        raise ValueError("t.csv:3: no number")

    assert optional_table(broken, {}, "texts") == {}
    assert "no texts are read: t.csv:3: no number" in caplog.text


def test_files_in_linked_folders_are_found_and_hidden_ones_are_not(tmp_path):
    (tmp_path / "disk").mkdir()
    for name in ("1.WAV", "._2.wav"):
        (tmp_path / "disk" / name).touch()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "disk")
    found = files(tmp_path / "tree", r"(.+)\.wav")
    assert [match[1] for _, match in found] == ["1"]
    assert first_of(tmp_path / "tree", "1.WAV").parent.name == "link"


def test_the_first_of_several_tables_is_not_taken_unless_they_are_the_same(
    tmp_path, caplog
):
    caplog.set_level("INFO")
    for folder in ("x", "y", "z/deep"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "t.csv").write_text("a\n")
    assert first_of(tmp_path, "none.csv", "t.csv") == tmp_path / "x" / "t.csv"
    assert "deep/t.csv" in caplog.text.partition("x/t.csv is read, not")[2]
    (tmp_path / "y" / "t.csv").write_text("b\n")
    with pytest.raises(ValueError, match="two are called t.csv.*x/t.csv and .*y/t.csv"):
        first_of(tmp_path, "t.csv")
    (tmp_path / "t.csv").touch()
    assert first_of(tmp_path, "t.csv") == tmp_path / "t.csv"
