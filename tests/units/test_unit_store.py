"""Units on disk: what was written is read, wherever the directory is."""

import shutil

import numpy as np
import pytest

from emoq_plugin.units.store import (
    UnitStore,
    UnitWriter,
    format_route,
    parse_route,
    write_cards,
)
from emoq_plugin.units.text import CJK_SIZE, deduplicate, pseudo_label_file, to_cjk

EXPERTS = ["specific/angry", "specific/sad"]
CODES = {
    "s1-größe": np.array([[5, 0], [5, 0], [2, 7]]),
    "s1-b": np.array([[0, 1]]),
    "s2-愛": np.array([[7, 7], [6, 6]]),
}
ROUTES = {
    "s1-größe": {"specific/sad": 1.0},
    "s1-b": {"specific/angry": 1.0},
    "s2-愛": {"specific/sad": 1.0},
}


def write(folder, codes=CODES, routes=ROUTES, *, size=8, n_levels=2, routed=True):
    with UnitWriter(folder, size=size, n_levels=n_levels, routed=routed) as writer:
        for utterance, table in codes.items():
            route = routes[utterance] if routed else {"balanced": 1.0}
            writer.write(utterance, table, route)
    experts = EXPERTS if routed else ["balanced"]
    card = {"experts": experts, "n_levels": n_levels, "system": "x", "rate": "8x2"}
    write_cards(folder, card, {"nominal": 300.0})
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "units")


def test_codes_routes_and_cards_come_back(folder):
    store = UnitStore(folder)
    assert sorted(store) == sorted(CODES)
    for utterance, codes in CODES.items():
        np.testing.assert_array_equal(store[utterance], codes)
    assert store.routes == ROUTES
    assert store.card["rate"] == "8x2"
    assert store.bitrate == {"nominal": 300.0}


@pytest.mark.parametrize("size", [8, 2**15, 2**15 + 1, 70000])
def test_the_largest_code_comes_back(tmp_path, size):
    codes = {"a": np.array([[size - 1], [0]])}
    write(tmp_path, codes, routed=False, size=size, n_levels=1)
    np.testing.assert_array_equal(UnitStore(tmp_path)["a"], codes["a"])


def test_a_single_expert_has_no_routes_on_disk(tmp_path):
    store = UnitStore(write(tmp_path, routed=False))
    assert not (tmp_path / "utt2route").exists()
    assert store.routes == {u: {"balanced": 1.0} for u in CODES}


def test_a_mixture_comes_back_with_its_weights(tmp_path):
    mixture = {"specific/sad": 0.7, "specific/angry": 0.3}
    codes = {"a": np.arange(8).reshape(2, 4)}
    store = UnitStore(write(tmp_path, codes, {"a": mixture}))
    assert store.routes["a"] == pytest.approx(mixture)
    assert list(store.routes["a"]) == list(mixture)  # the order of the code blocks
    np.testing.assert_array_equal(store["a"], codes["a"])
    # The labels are those of the heavier expert, which is first.
    assert (tmp_path / "pseudo_labels_RVQ_0_km8.txt").read_text() == "a 0 4\n"


def test_a_moved_directory_still_works(folder, tmp_path):
    moved = tmp_path / "elsewhere" / "units"
    moved.parent.mkdir()
    shutil.move(folder, moved)
    store = UnitStore(moved)
    for utterance, codes in CODES.items():
        np.testing.assert_array_equal(store[utterance], codes)


def test_labels_have_the_names_and_lines_of_espnet(folder, tmp_path):
    lines = (folder / "pseudo_labels_RVQ_1_km8.txt").read_text().splitlines()
    assert lines == ["s1-größe 0 0 7", "s1-b 1", "s2-愛 7 6"]
    single = write(tmp_path / "1", {"a": np.array([[3]])}, routed=False, n_levels=1)
    assert (single / "pseudo_labels_km8.txt").read_text() == "a 3\n"
    assert pseudo_label_file(1024, 0, 1) == "pseudo_labels_km1024.txt"
    assert pseudo_label_file(1024, 2, 8) == "pseudo_labels_RVQ_2_km1024.txt"


def test_a_truncated_ark_is_named_with_the_utterance(folder):
    ark = folder / "codes.ark"
    ark.write_bytes(ark.read_bytes()[:-3])
    store = UnitStore(folder)
    np.testing.assert_array_equal(store["s1-b"], CODES["s1-b"])
    with pytest.raises(ValueError, match="codes.ark: utterance 's2-愛': truncated"):
        store["s2-愛"]


def test_a_garbled_ark_is_named_and_no_pickle_is_loaded(folder):
    ark = folder / "codes.ark"
    ark.write_bytes(ark.read_bytes().replace(b"NPY", b"PKL"))
    with pytest.raises(ValueError, match="codes.ark: utterance 's1-b': .*garbled"):
        UnitStore(folder)["s1-b"]


def test_an_empty_ark_is_named(folder):
    (folder / "codes.ark").write_bytes(b"")
    with pytest.raises(ValueError, match="'s1-b': truncated"):
        UnitStore(folder)["s1-b"]


def test_nothing_appears_when_writing_breaks_off(tmp_path):
    with (
        pytest.raises(RuntimeError),
        UnitWriter(tmp_path / "u", size=8, n_levels=2, routed=True) as writer,
    ):
        writer.write("s1-b", CODES["s1-b"], ROUTES["s1-b"])
        raise RuntimeError
    assert list((tmp_path / "u").iterdir()) == []


def test_units_without_a_card_are_not_finished(folder):
    (folder / "units.json").unlink()
    with pytest.raises(FileNotFoundError, match="units.json is missing: run stage 5"):
        UnitStore(folder)


def test_a_faulty_route_is_named_with_file_and_line(folder):
    (folder / "utt2route").write_text("s1-b angry\ns1-größe glad\ns2-愛 sad\n")
    with pytest.raises(ValueError, match="utt2route:2: route 'glad' is unknown.*angry"):
        UnitStore(folder)


def test_an_utterance_without_a_route_is_named(folder):
    (folder / "utt2route").write_text("s1-b angry\ns1-größe sad\n")
    with pytest.raises(ValueError, match="utterance 's2-愛' is in only one of"):
        UnitStore(folder)


def test_codes_of_another_width_are_named(folder):
    (folder / "utt2route").write_text(
        "s1-b angry=0.5 sad=0.5\ns1-größe sad\ns2-愛 sad\n"
    )
    with pytest.raises(
        ValueError, match=r"'s1-b' has codes of shape \(1, 2\).*\(T, 4\)"
    ):
        UnitStore(folder)["s1-b"]


@pytest.mark.parametrize(
    "route", [{"specific/sad": 1.0}, {"specific/angry": 0.6, "specific/sad": 0.4}]
)
def test_a_route_is_read_as_it_was_written(route):
    named = {"angry": "specific/angry", "sad": "specific/sad"}
    assert parse_route(format_route(route), named) == route


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty route"),
        ("calm", "route 'calm' is unknown"),
        ("angry=much sad=0.5", "route weight 'much' is not a number"),
        ("angry=0.5", "sum to 1"),
        ("angry sad", "sum to 1"),
        ("angry=nan sad=0.5", "sum to 1"),
        ("angry=-0.5 sad=1.5", "sum to 1"),
    ],
)
def test_a_route_that_is_none_is_explained(text, message):
    named = {"angry": "specific/angry", "sad": "specific/sad"}
    with pytest.raises(ValueError, match=message):
        parse_route(text, named)


def test_cjk_text_is_one_character_for_each_unit():
    assert [ord(c) - 0x4E00 for c in to_cjk([0, 5, CJK_SIZE - 1])] == [
        0,
        5,
        CJK_SIZE - 1,
    ]
    assert to_cjk([]) == ""


@pytest.mark.parametrize("unit", [-1, CJK_SIZE])
def test_a_unit_outside_the_alphabet_is_named(unit):
    with pytest.raises(ValueError, match=f"unit {unit} at position 1 .*20900"):
        to_cjk([3, unit, unit])


def test_repetitions_are_those_of_all_levels():
    codes = np.array([[1, 1], [1, 1], [1, 2], [1, 1]])
    assert deduplicate(codes).tolist() == [[1, 1], [1, 2], [1, 1]]
    assert deduplicate(np.array([4])).tolist() == [4]
