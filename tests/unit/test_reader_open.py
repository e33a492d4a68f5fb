"""Safe opening: a name or a content never makes another file or address be opened."""

import os
import shutil
import socket
import threading
from pathlib import Path

import pytest

from tests import media
from vsr.errors import SourceError, SourceNotFoundError, UnsupportedSourceError
from vsr.io.open import is_url, open_input


@pytest.mark.parametrize(
    "name",
    [
        "-rf.mkv",
        "http:evil.mkv",
        "time 12:30.mkv",
        "frame%03d.mkv",
        "@list.mkv",
        "concat:a|b.mkv",
        "üñï 电影 🎬.mkv",
        "quote'\"$(id)`x`;&.mkv",
        "x" * 240 + ".mkv",
        "film.txt",
        "film",
        "pipe:0",
    ],
)
def test_any_name_opens_as_itself(name: str, film: Path, folder: Path):
    shutil.copy(film, folder / name)
    with open_input(name) as container:
        assert len(container.streams.video) == 1


def test_a_number_pattern_is_a_name(folder: Path):
    media.clip(folder / "a.png", codec="png", fmt="rgb24", frames=1, size=(16, 8), muxing={})
    (folder / "a.png").rename(folder / "shot%03d.png")
    for index in range(3):
        (folder / f"shot{index:03d}.png").write_bytes(b"not this one")
    with open_input("shot%03d.png") as container:
        assert container.streams.video[0].codec_context.width == 16


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 5000, bytes(range(256)) * 40, b"<html>404</html>"]
)
def test_what_is_no_media_is_refused_in_one_line(content: bytes, folder: Path):
    (folder / "x.mp4").write_bytes(content)
    with pytest.raises(UnsupportedSourceError) as caught:
        open_input("x.mp4")
    assert "\n" not in str(caught.value)
    assert "x.mp4" in str(caught.value)


def test_missing_files_and_folders(folder: Path):
    with pytest.raises(SourceNotFoundError, match="does not exist"):
        open_input("nothing.mkv")
    with pytest.raises(SourceNotFoundError):
        open_input("nowhere/nothing.mkv")
    with pytest.raises(UnsupportedSourceError, match="folder"):
        open_input(folder)
    with pytest.raises(SourceError, match="cannot be read"):
        open_input("x" * 5000)
    with pytest.raises(SourceError, match="cannot be read"):
        open_input("a\0b.mkv")


def test_pipes_are_not_waited_for(folder: Path):
    os.mkfifo(folder / "pipe.mkv")
    with pytest.raises(UnsupportedSourceError, match="vsr pipe"):
        open_input("pipe.mkv")


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXTINF:10.0,\n{target}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{target}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>{target}</BaseURL></MPD>",
    ],
)
def test_lists_of_other_files_open_none(playlist: str, film: Path, folder: Path):
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.2)
    asked = threading.Event()

    def listen():
        try:
            server.accept()
            asked.set()
        except TimeoutError:
            pass

    thread = threading.Thread(target=listen)
    thread.start()
    address = f"http://127.0.0.1:{server.getsockname()[1]}/x.ts"
    for target in (address, str(film)):
        for name in ("list.m3u8", "list.mp4", "list.sdp"):
            (folder / name).write_text(playlist.format(target=target))
            with pytest.raises(UnsupportedSourceError):
                open_input(name)
    thread.join()
    server.close()
    assert not asked.is_set()


def test_addresses_need_permission():
    with pytest.raises(UnsupportedSourceError, match="--allow-url"):
        open_input("http://127.0.0.1:9/film.mkv")
    with pytest.raises(SourceError, match="cannot be opened"):
        open_input("http://127.0.0.1:9/film.mkv", allow_url=True)
    assert not is_url("http:evil.mkv")
    assert not is_url(Path("http://example.org/a.mkv"))


def test_a_file_that_looks_like_an_address_is_a_file(film: Path, folder: Path):
    (folder / "http:" / "host").mkdir(parents=True)
    shutil.copy(film, folder / "http:" / "host" / "film.mkv")
    with open_input("http://host/film.mkv") as container:
        assert container.streams.video


def test_huge_pictures_are_refused_before_memory_is_taken(folder: Path):
    (folder / "x.y4m").write_bytes(b"YUV4MPEG2 W100000 H100000 F25:1 C420jpeg\nFRAME\n" + bytes(99))
    with pytest.raises(UnsupportedSourceError, match="100000x100000"):
        open_input("x.y4m")
    media.clip(folder / "x.png", codec="png", fmt="rgb24", frames=1, size=(60, 40))
    with pytest.raises(UnsupportedSourceError, match=r"60x40.*--max-pixels"):
        open_input("x.png", max_pixels=1000)


def test_opening_prints_nothing(film: Path, folder: Path, capfd: pytest.CaptureFixture[str]):
    (folder / "x.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(500))
    with pytest.raises(SourceError):
        open_input("x.mp4")
    with open_input(film):
        pass
    assert capfd.readouterr() == ("", "")
