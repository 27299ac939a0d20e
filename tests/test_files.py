"""Files that are never half-written and tables that name their faults."""

import errno
import json
import os
from pathlib import Path

import pytest

from emoq_plugin.files import (
    atomic_write,
    read_json,
    read_options,
    read_table,
    reading,
    sha256_of_file,
    write_json,
    write_table,
)


@pytest.mark.parametrize(("mode", "content"), [("w", "größe\n"), ("wb", b"\0\1")])
def test_a_file_appears_whole(tmp_path, mode, content):
    path = tmp_path / "deep" / "file"
    with atomic_write(path, mode) as stream:
        stream.write(content)
        assert not path.exists()
    assert path.read_bytes() == (content if "b" in mode else content.encode())
    assert list(path.parent.iterdir()) == [path]


def test_a_broken_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as stream:
        stream.write("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named_with_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    message = r"No space left on device: '.*file'"
    with pytest.raises(OSError, match=message), atomic_write(path) as stream:
        stream.write("new")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_comes_back(tmp_path):
    value = {"größe": [1, 2.5, None], "b": {"c": True}}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert "größe" in (tmp_path / "x.json").read_text(encoding="utf-8")


def test_json_that_is_none_is_named_with_file_and_line(tmp_path):
    (tmp_path / "x.json").write_text('{\n"a": 1,\n}')
    with pytest.raises(ValueError, match=r"x\.json:3: not JSON"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("kind", [KeyError("a\nb"), RuntimeError("a"), EOFError("a")])
def test_what_a_library_raises_on_a_file_names_it_and_the_remedy(kind):
    expected = pytest.raises(
        ValueError, match="^x.pt: [A-Za-z]+ .*a.*: bring it again$"
    )
    with expected, reading("x.pt", "bring it again"):
        raise kind


@pytest.mark.parametrize("kind", [FileNotFoundError(2, "none", "x.pt"), MemoryError()])
def test_what_is_no_fault_of_the_content_is_raised_as_it_is(kind):
    with pytest.raises(type(kind)), reading("x.pt", "bring it again"):
        raise kind


def test_a_table_comes_back_sorted_by_the_c_locale(tmp_path):
    table = {"b": "x  y", "a-é": "", "B": "2", "a": "1"}
    write_table(tmp_path / "t", table)
    found = read_table(tmp_path / "t")
    assert found == table
    assert list(found) == ["B", "a", "a-é", "b"]


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    (tmp_path / "t").write_text("a 1\nb 2\n", encoding="utf-8-sig")
    assert read_table(tmp_path / "t") == {"a": "1", "b": "2"}
    (tmp_path / "x.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "x.json") == {"a": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a 1\n".encode("utf-16"), "t:1: UTF-16, expected UTF-8"),
        (b"a 1\n\nb 2\n", "t:2: empty line"),
        (b"a 1\nb 2\na 3\n", "t:3: duplicate key 'a'"),
        (b"a 1\nb \xff\n", "t:2: not UTF-8"),
    ],
)
def test_a_faulty_table_is_named_with_file_and_line(tmp_path, content, message):
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "t")


def test_a_tab_separates_as_a_space_does(tmp_path):
    (tmp_path / "text").write_text("a\tone two\nb  six \nc\n")
    assert read_table(tmp_path / "text") == {"a": "one two", "b": "six", "c": ""}


def test_options_are_read_and_checked(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("C: 0.5 # strength\n")
    assert read_options(path, ("C", "max_iter", "route_scale")) == {"C": 0.5}
    path.write_text("# all defaults\n")
    assert read_options(path, ("C",)) == {}
    for text, message in (
        ("c: 1", r"c.yaml: unknown option 'c', expected one of \['C'\]"),
        ("1: 1", "unknown option '1'"),
        ("[C]", r"c.yaml: found \['C'\], expected '<option>: <value>'"),
        ("C", "c.yaml: found 'C'"),
        ("0", "c.yaml: found 0"),
        ("C: {", "c.yaml: not YAML"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_options(path, ("C",))


def test_a_checksum_is_that_of_sha256sum(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "x").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_every_file_of_options_in_conf_is_read(tmp_path):
    from emoq_plugin.learning.fit_bank import QuantizerConfig

    conf = Path(__file__).parents[1] / "conf"
    for path in conf.glob("quantizer/*.yaml"):
        assert QuantizerConfig.read(path).norm == path.stem
    assert set(read_options(conf / "ser/probe.yaml", ("C", "max_iter", "route_scale")))
    assert json.dumps(
        read_options(conf / "ser/probe.yaml", ("C", "max_iter", "route_scale"))
    )
