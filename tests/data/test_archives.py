"""Archives: their folders, links in them, others of the same name."""

import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from emoq_plugin.data.corpora.archives import stem, unpack


def packed(path, content):
    with zipfile.ZipFile(path, "w") as stream:
        stream.writestr("a.wav", content)
    return path


def test_archives_of_one_name_up_to_a_dot_have_folders_of_their_own(tmp_path):
    places = [
        unpack(packed(tmp_path / name, name), tmp_path / "into")
        for name in ("corpus.v1.zip", "corpus.v2.ZIP", "corpus.zip", "corpus")
    ]
    names = ["corpus.v1", "corpus.v2", "corpus", "corpus.unpacked"]
    assert [place.name for place in places] == names
    assert (places[1] / "a.wav").read_text() == "corpus.v2.ZIP"
    assert stem(Path("x.y.tar.bz2")) == "x.y"


def test_another_archive_of_the_same_name_is_not_taken_for_what_is_unpacked(tmp_path):
    for folder in "xyz":
        (tmp_path / folder).mkdir()
    into = tmp_path / "into"
    one, same, other = (
        packed(tmp_path / folder / "c.zip", text) for folder, text in zip("xyz", "112")
    )
    assert unpack(one, into) == unpack(same, into)
    with pytest.raises(ValueError, match="into/c was unpacked from another .*z/c.zip"):
        unpack(other, into)


def test_links_in_a_zip_archive_are_refused_as_they_would_become_text(tmp_path):
    link = zipfile.ZipInfo("AudioWAV")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as stream:
        stream.writestr(link, "/disk/AudioWAV")
    with pytest.raises(ValueError, match=r"c.zip: 1 links \(AudioWAV\): unpack it"):
        unpack(tmp_path / "c.zip", tmp_path / "into")
    assert not list((tmp_path / "into").rglob("AudioWAV"))


def test_archives_within_an_archive_that_share_a_folder_are_refused(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    packed(tree / "a.zip", "1")
    with tarfile.open(tree / "a.tar", "w") as stream:
        stream.add(tree / "a.zip", "b.wav")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as stream:
        for path in tree.iterdir():
            stream.write(path, path.name)
    with pytest.raises(ValueError, match="a was unpacked from another archive"):
        unpack(tmp_path / "all.zip", tmp_path / "into")
