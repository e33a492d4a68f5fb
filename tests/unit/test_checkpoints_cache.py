"""Cache and downloads, against a server on the loopback address."""

import hashlib
import http.server
import logging
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import override

import pytest

from vsr.checkpoints import cache_dir, cached_path, ensure, verify
from vsr.checkpoints.download import Response, open_https
from vsr.errors import CheckpointError, DownloadError
from vsr.models.catalog import Published

CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT, with faults on request."""

    requests: list[str | None]
    cut_after: int | None = None
    ranges = True
    extra = b""
    status = 200


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.requests.append(wanted)
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        body = CONTENT + self.server.extra
        begin = int(wanted[6:-1]) if wanted and self.server.ranges else 0
        if begin >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - begin))
        self.send_header("Content-Disposition", "attachment; filename=../../evil.sh")
        self.end_headers()
        end = self.server.cut_after
        self.wfile.write(body[begin:end])

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.requests = []
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VSR_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def entry(server: Server) -> Published:
    return Published(
        name="Net_x4",
        architecture="compact",
        scale=4,
        licence="MIT",
        purpose="tests",
        url=f"http://127.0.0.1:{server.server_port}/some/where.pth",
        size=len(CONTENT),
        sha256=DIGEST,
    )


def plain(request: urllib.request.Request) -> Response:
    """Stands in for `open_https`: the loopback server speaks http."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(request, timeout=10)


def test_download_is_verified_and_kept(entry: Published, server: Server, cache: Path):
    told: list[tuple[int, int]] = []
    path = ensure(entry, progress=lambda *now: told.append(now), open_url=plain)
    assert path == cache / "models" / "Net_x4.pth" == cached_path(entry)
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert verify(entry) == "good"
    assert ensure(entry, offline=True) == path
    assert server.requests == [None]
    assert [p.name for p in path.parent.iterdir()] == ["Net_x4.pth"]


def test_interrupted_download_is_continued(entry: Published, server: Server):
    server.cut_after = 300_000
    with pytest.raises(DownloadError, match="cut after 300000 of 1048576 bytes"):
        ensure(entry, open_url=plain)
    assert verify(entry) == "absent"
    server.cut_after = None
    assert ensure(entry, open_url=plain).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-"]


def test_server_without_ranges_starts_over(entry: Published, server: Server):
    server.cut_after = 1000
    with pytest.raises(DownloadError):
        ensure(entry, open_url=plain)
    server.cut_after, server.ranges = None, False
    assert ensure(entry, open_url=plain).read_bytes() == CONTENT


def test_spoiled_remains_are_replaced(entry: Published, server: Server):
    part = cached_path(entry).parent / ".Net_x4.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"other" * 10)
    assert ensure(entry, open_url=plain).read_bytes() == CONTENT
    assert server.requests == ["bytes=50-", None]
    part.write_bytes(CONTENT + b"too long")
    cached_path(entry).unlink()
    assert ensure(entry, open_url=plain).read_bytes() == CONTENT


def test_complete_remains_need_no_server(entry: Published, server: Server):
    part = cached_path(entry).parent / ".Net_x4.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    assert ensure(entry, open_url=plain).read_bytes() == CONTENT
    assert server.requests == []


def test_wrong_digest_leaves_nothing(entry: Published):
    wrong = replace(entry, sha256="0" * 64)
    with pytest.raises(DownloadError, match="thrown away"):
        ensure(wrong, open_url=plain)
    assert verify(wrong) == "absent"
    assert ensure(entry, open_url=plain).read_bytes() == CONTENT


def test_too_much_is_stopped(entry: Published, server: Server):
    server.extra = b"x"
    with pytest.raises(DownloadError, match="more than the expected"):
        ensure(entry, open_url=plain)


def test_damage_in_the_cache_is_noticed(entry: Published, caplog: pytest.LogCaptureFixture):
    path = ensure(entry, open_url=plain)
    path.write_bytes(CONTENT[:-1] + b"x")
    assert verify(entry) == "damaged"
    with pytest.raises(DownloadError, match="is damaged in the cache and offline"):
        ensure(entry, offline=True, open_url=plain)
    with caplog.at_level(logging.WARNING):
        assert ensure(entry, open_url=plain).read_bytes() == CONTENT
    assert "damaged" in caplog.text


def test_offline_by_argument_or_environment(
    entry: Published, server: Server, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(DownloadError, match=r"absent in the cache.*vsr models get Net_x4"):
        ensure(entry, offline=True, open_url=plain)
    monkeypatch.setenv("VSR_OFFLINE", "1")
    with pytest.raises(DownloadError, match="offline"):
        ensure(entry, open_url=plain)
    assert server.requests == []
    monkeypatch.setenv("VSR_OFFLINE", "0")
    assert ensure(entry, open_url=plain).is_file()


def test_unpinned_needs_consent_and_is_pinned_from_then_on(entry: Published, server: Server):
    loose = replace(entry, sha256=None, size=None)
    asked: list[str] = []
    with pytest.raises(DownloadError, match="not confirmed"):
        ensure(loose, open_url=plain)
    with pytest.raises(DownloadError, match="not confirmed"):
        ensure(loose, confirm=lambda text: bool(asked.append(text)), open_url=plain)
    assert str(loose.url) in asked[0]
    assert server.requests == []
    path = ensure(loose, confirm=lambda _: True, open_url=plain)
    assert verify(loose) == "good"
    assert ensure(loose) == path
    path.write_bytes(b"replaced")
    with pytest.raises(DownloadError, match="not the file that was confirmed"):
        ensure(loose, confirm=lambda _: True, open_url=plain)
    assert server.requests == [None]


def test_unpinned_file_that_nobody_confirmed_is_not_trusted(entry: Published):
    loose = replace(entry, sha256=None)
    path = cached_path(loose)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert verify(loose) == "damaged"


def test_server_errors_are_one_line(entry: Published, server: Server):
    server.status = 404
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 failed: the server answered 404"):
        ensure(entry, open_url=plain)


def test_no_server(entry: Published):
    nowhere = replace(entry, url="http://127.0.0.1:9/x.pth")
    with pytest.raises(DownloadError, match="refused"):
        ensure(nowhere, open_url=plain)


def test_only_https(entry: Published):
    for url in (entry.url, "file:///etc/passwd", "ftp://example.org/x"):
        with pytest.raises(DownloadError, match="only https"):
            ensure(replace(entry, url=url))


def test_redirects_stay_on_https():
    from vsr.checkpoints.download import _SecureRedirects

    request = urllib.request.Request("https://example.org/a")
    handler = _SecureRedirects()
    with pytest.raises(DownloadError, match="only https"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://example.org/b")
    new = handler.redirect_request(request, None, 302, "Found", {}, "https://example.org/b")
    assert new is not None
    assert new.full_url == "https://example.org/b"
    assert callable(open_https)


def test_a_second_process_waits_its_turn(entry: Published, cache: Path):
    fcntl = pytest.importorskip("fcntl")
    part = cache / "models" / ".Net_x4.pth.part"
    part.parent.mkdir(parents=True)
    with part.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="another process"):
            ensure(entry, open_url=plain)
    assert ensure(entry, open_url=plain).is_file()


def test_unwritable_cache(entry: Published, cache: Path):
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match="cannot be written"):
        ensure(entry, open_url=plain)


def test_embedded_models_need_neither_cache_nor_network(entry: Published):
    missing = replace(entry, url=None, embedded="no-such.safetensors")
    with pytest.raises(CheckpointError, match="missing from this installation"):
        ensure(missing)


def test_place_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("VSR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "vsr"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir() == Path.home() / ".cache" / "vsr"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_dir() == Path.home() / "Library" / "Caches" / "vsr"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert cache_dir() == tmp_path / "vsr"
