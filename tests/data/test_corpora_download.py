"""Downloading open corpora from a server on this machine."""

import dataclasses
import hashlib
import http.server
import io
import re
import shutil
import tarfile
import threading
import zipfile

import pytest

from emoq_plugin.bin import prepare_corpus
from emoq_plugin.data import corpora
from emoq_plugin.data.corpora.download import Archive, Download, fetch, fetch_media
from emoq_plugin.data.directory import DataDirectory, read_emotions

CONTENT = bytes(range(256)) * 400
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"  # of Git LFS
)


@pytest.fixture
def server():
    """Serve `files`, by default CONTENT, with ranges; `asked` lists the Range headers.

    Attributes that tests set: ranges are not known; the connection breaks after so
    many bytes; the length is not sent (as archives of a commit are sent).
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        asked = []
        files = {"/a.zip": CONTENT}
        ranges = True
        breaks_at = None
        chunked = False

        def do_GET(self):
            asked = self.headers.get("Range", "")
            self.asked.append(asked)
            if self.path not in self.files:
                self.send_error(404)
                return
            content = self.files[self.path]
            start = int(asked[6:-1]) if asked and self.ranges else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.close_connection = True
            self.send_response(206 if start else 200)
            sent = content[start : self.breaks_at]
            if self.chunked:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"%x\r\n%b\r\n" % (len(sent), sent))
                if self.breaks_at is None:
                    self.wfile.write(b"0\r\n\r\n")
                return
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(
            target=running.serve_forever, args=(0.01,), daemon=True
        ).start()
        Handler.root = f"http://127.0.0.1:{running.server_port}"
        Handler.url = f"{Handler.root}/a.zip"
        yield Handler
        running.shutdown()


@pytest.mark.parametrize("there", [0, 1000, len(CONTENT)])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize(
    "checksum", [MD5, f"sha256:{hashlib.sha256(CONTENT).hexdigest()}", ""]
)
def test_an_interrupted_download_goes_on(server, tmp_path, there, ranges, checksum):
    server.ranges = ranges
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:there])
    archive = Archive(server.url, "a.zip", checksum)
    assert fetch(archive, tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={there}-" if there else ""]
    fetch(archive, tmp_path)
    assert len(server.asked) == 1  # it was there


@pytest.mark.parametrize("kind, digits", [("md5", 32), ("sha256", 64)])
def test_a_wrong_checksum_is_refused_and_the_file_removed(
    server, tmp_path, kind, digits
):
    archive = Archive(server.url, "a.zip", f"{kind}:{'0' * digits}")
    found = hashlib.new(kind, CONTENT).hexdigest()
    message = f"{kind} {found} of 102400 bytes, expected 0000"
    with pytest.raises(ValueError, match=message):
        fetch(archive, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_it_says_where_to_put_the_file(tmp_path):
    archive = Archive("http://127.0.0.1:9/a.zip", "a.zip", MD5)
    with pytest.raises(OSError, match="put it at .*a.zip"):
        fetch(archive, tmp_path)


def test_what_came_before_the_connection_broke_is_kept(server, tmp_path):
    server.breaks_at = 5000
    with pytest.raises(OSError, match="5000 of 102400 bytes came: call it again"):
        fetch(Archive(server.url, "a.zip", MD5), tmp_path)
    server.breaks_at = None
    assert fetch(Archive(server.url, "a.zip", MD5), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["", "bytes=5000-"]


def test_a_download_of_unknown_length_that_broke_is_not_taken_for_whole(
    server, tmp_path
):
    server.chunked, server.breaks_at = True, 5000
    with pytest.raises(OSError, match="call it again"):
        fetch(Archive(server.url, "a.zip"), tmp_path)
    server.breaks_at = None
    assert fetch(Archive(server.url, "a.zip"), tmp_path).read_bytes() == CONTENT


def lfs(tree, folder, suffix):
    """Put pointers in place of files; give what the server has instead."""
    held = {}
    for path in sorted((tree / folder).rglob(f"*{suffix}")):
        content = path.read_bytes()
        held[f"/media/{path.relative_to(tree).as_posix()}"] = content
        sha256 = hashlib.sha256(content).hexdigest()
        path.write_text(POINTER.format(sha256, len(content)))
    return held


def test_media_in_place_of_git_lfs_pointers_are_checked_and_fetched_once(
    server, tmp_path
):
    folder = tmp_path / "CREMA-D-1658cd3" / "AudioWAV"
    folder.mkdir(parents=True)
    for n in range(20):
        (folder / f"{n}.wav").write_bytes(CONTENT[n:])
    (folder / "README").write_text("kept")
    server.files = lfs(tmp_path / "CREMA-D-1658cd3", "AudioWAV", ".wav")
    download = Download([], f"{server.root}/media", "AudioWAV")
    good = server.files["/media/AudioWAV/7.wav"]
    server.files["/media/AudioWAV/7.wav"] = b"not this"
    with pytest.raises(ValueError, match=r"7\.wav\.media.*: sha256 \w+ of 8 bytes"):
        fetch_media(tmp_path, download)
    assert (folder / "7.wav").read_bytes().startswith(b"version https")
    server.files["/media/AudioWAV/7.wav"] = good
    fetch_media(tmp_path, download)
    for n in range(20):
        assert (folder / f"{n}.wav").read_bytes() == CONTENT[n:]
    assert sorted(p.name for p in folder.iterdir() if p.suffix != ".wav") == ["README"]
    assert fetch_media(tmp_path, download) == 0


def packed(tree, name):
    """Pack a tree as an archive of this name, below one folder as distributed."""
    stream = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(stream, "w") as archive:
            for path in sorted(p for p in tree.rglob("*") if p.is_file()):
                archive.write(path, f"top/{path.relative_to(tree)}")
    else:
        with tarfile.open(
            fileobj=stream, mode=f"w:{name.rpartition('.')[2]}"
        ) as archive:
            archive.add(tree, tree.name)
    return stream.getvalue()


def served(corpus, tree, root):
    """Return what the publisher's server would hold of a miniature."""
    files = {}
    if corpus == "crema_d":
        files |= lfs(tree, "AudioWAV", ".wav")
    if corpus == "meld":  # an archive of archives
        for folder in [p for p in tree.iterdir() if p.is_dir()]:
            packing = packed(folder, f"{folder.name}.tar.gz")
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
            (tree / f"{folder.name.partition('_')[0]}.tar.gz").write_bytes(packing)
    described = corpora.load(corpus).download
    archives = []
    for archive in described.archives:
        one = tree / archive.name  # metadata.csv
        part = tree / archive.name.partition(".")[0]  # cleaned_webm.tar.xz
        content = (
            one.read_bytes()
            if one.is_file()
            else packed(part if part.is_dir() else tree, archive.name)
        )
        files[f"/{archive.name}"] = content
        checksum = archive.checksum and f"md5:{hashlib.md5(content).hexdigest()}"
        archives.append(Archive(f"{root}/{archive.name}", archive.name, checksum))
    media = described.media_url and f"{root}/media"
    return files, dataclasses.replace(described, archives=archives, media_url=media)


OPEN = [name for name in corpora.names() if corpora.load(name).download]


@pytest.mark.parametrize("corpus", OPEN)
def test_every_open_corpus_comes_out_of_what_its_publisher_serves(
    server, miniature, tmp_path, monkeypatch, ffmpeg, corpus
):
    monkeypatch.setenv("PATH", ffmpeg)
    options = ["--corpus", corpus, "--n_folds", "3", "--n_valid_speakers", "1"]
    monkeypatch.chdir(tmp_path)
    there = miniature(corpus)
    prepare_corpus.main([*options, "--corpus_dir", str(there), "--output_dir", "a"])
    tree = tmp_path / "server" / there.name
    shutil.copytree(there, tree)
    server.files, download = served(corpus, tree, server.root)
    described = dataclasses.replace(corpora.load(corpus), download=download)
    monkeypatch.setattr(corpora, "load", lambda name: described)
    monkeypatch.setattr(prepare_corpus, "own_options", dict)
    prepare_corpus.main([*options, "--corpus_dir", "download", "--output_dir", "b"])
    emotions = read_emotions("b/emotions")
    local, fetched = (DataDirectory.read(f"{p}/all", emotions) for p in "ab")
    assert fetched.emotion == local.emotion and fetched.text == local.text
    assert all(f"downloads/{corpus}/" in place for place in fetched.wav.values())
    asked = len(server.asked)
    prepare_corpus.main([*options, "--corpus_dir", "download", "--output_dir", "b"])
    assert len(server.asked) == asked  # nothing is fetched twice


def test_addresses_are_official_and_checksums_well_formed():
    for name in OPEN:
        for archive in corpora.load(name).download.archives:
            assert re.match(r"https?://\S+/\S+$", archive.url)
            assert re.fullmatch(
                r"|md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", archive.checksum
            )
    assert {"ravdess", "crema_d", "nemo", "jl_corpus", "emns", "meld"} < set(OPEN)
    assert not {"iemocap", "msp_podcast", "esd"} & set(OPEN)  # on request


def test_an_archive_without_a_checksum_that_is_broken_is_named(
    server, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    nemo = corpora.load("nemo")
    download = Download([Archive(server.url, "nEMO.zip")])
    described = dataclasses.replace(nemo, download=download)
    monkeypatch.setattr(corpora, "load", lambda name: described)
    with pytest.raises(SystemExit):
        prepare_corpus.main(["--corpus", "nemo", "--corpus_dir", "download"])
    assert "remove it to fetch it again" in caplog.text
    assert "no checksum is published" in caplog.text
