"""Downloading open corpora from a server on this machine."""

import hashlib
import http.server
import threading

import pytest

from emoq_plugin.data.corpora.download import Archive, fetch

CONTENT = bytes(range(256)) * 400
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server():
    """Serve CONTENT with ranges; `asked` lists the Range headers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        asked = []
        ranges = True
        breaks_at = None

        def do_GET(self):
            asked = self.headers.get("Range", "")
            self.asked.append(asked)
            start = int(asked[6:-1]) if asked and self.ranges else 0
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start : self.breaks_at])

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(
            target=running.serve_forever, args=(0.01,), daemon=True
        ).start()
        Handler.url = f"http://127.0.0.1:{running.server_port}/a.zip"
        yield Handler
        running.shutdown()


@pytest.mark.parametrize("there", [0, 1000, len(CONTENT)])
@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(server, tmp_path, there, ranges):
    server.ranges = ranges
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:there])
    path = fetch(Archive(server.url, "a.zip", MD5), tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked == [f"bytes={there}-" if there else ""]
    fetch(Archive(server.url, "a.zip", MD5), tmp_path)
    assert len(server.asked) == 1  # it was there


def test_a_wrong_checksum_is_refused_and_the_file_removed(server, tmp_path):
    archive = Archive(server.url, "a.zip", "0" * 32)
    with pytest.raises(ValueError, match=f"MD5 {MD5} of 102400 bytes, expected 0000"):
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
