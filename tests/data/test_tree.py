"""Walking a directory: links, loops, hidden files, what is left out."""

import pytest

from emoq_plugin.data.tree import HIDDEN, NOWHERE, OTHER, REPEATED, walk


@pytest.fixture
def root(tmp_path):
    """A tree and, on another disk so to say, a folder beside it."""
    for name in ("tree/a/1.wav", "tree/b.WAV", "disk/x/2.wav", "disk/x/deep/3.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "tree"


def names(paths, root):
    return [path.relative_to(root).as_posix() for path in paths]


def test_linked_folders_and_files_are_listed_by_the_names_of_the_links(root):
    (root / "linked").symlink_to(root.parent / "disk" / "x")
    (root / "4.wav").symlink_to(root.parent / "disk" / "x" / "2.wav")
    tree = walk(root)
    expected = ["4.wav", "a/1.wav", "b.WAV", "linked/2.wav", "linked/deep/3.wav"]
    assert names(tree.files, root) == expected
    assert names(tree.folders, root) == ["a", "linked", "linked/deep"]
    assert tree.left_out == {} and tree.listed() == ""


def test_the_directory_itself_may_be_a_link(root):
    link = root.parent / "link"
    link.symlink_to(root)
    assert names(walk(link).files, link) == ["a/1.wav", "b.WAV"]


@pytest.mark.parametrize("target", ["tree", "tree/a", "."])
def test_no_loop_is_endless_and_no_file_is_listed_twice(root, target):
    (root / "a" / "loop").symlink_to(root.parent / target)
    tree = walk(root)
    assert names(tree.files, root) == ["a/1.wav", "b.WAV"]
    assert tree.left_out == {REPEATED: [root / "a" / "loop"]}


def test_links_that_lead_to_each_other_end(root):
    disk = root.parent / "disk"
    (root / "linked").symlink_to(disk)
    (disk / "x" / "back").symlink_to(root)
    (disk / "x" / "up").symlink_to(disk)
    tree = walk(root)
    assert len(tree.files) == 4 and len(tree.left_out[REPEATED]) == 2


def test_a_folder_goes_by_its_own_name_before_that_of_a_link(root):
    (root / "0 first").symlink_to(root / "a")
    tree = walk(root)
    assert names(tree.files, root) == ["a/1.wav", "b.WAV"]
    assert tree.listed() == f"1 {REPEATED} (0 first)"


def test_hidden_files_other_suffixes_and_broken_links_are_counted(root):
    for name in ("._1.wav", "a/._2.wav", ".DS_Store", "a/notes.txt", ".git/9.wav"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    (root / "gone.wav").symlink_to("nowhere.wav")
    tree = walk(root, (".wav",))
    assert names(tree.files, root) == ["a/1.wav", "b.WAV"]
    left_out = {k: sorted(names(v, root)) for k, v in tree.left_out.items()}
    assert left_out == {
        HIDDEN: ["._1.wav", ".git", "a/._2.wav"],
        OTHER: ["a/notes.txt"],
        NOWHERE: ["gone.wav"],
    }
    assert f"3 {HIDDEN} (._1.wav, ...)" in tree.listed()
