"""Inputs that break while they are read: cut short, removed, on a bad disk, behind a lost line."""

import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from tests import media
from tests.faults.conftest import FRAMES, Program, until, upscale
from tests.unit.test_reader import hurt

LONG = 300
PIPE = ("pipe", "-s", "2", "-n", "bicubic", "--device", "cpu")


def times(path: Path) -> list[Fraction]:
    return [time for time, _ in media.decoded(path)]


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
def test_damage_midway_is_concealed_and_counted_or_refused(program: Program, suffix: str) -> None:
    source = program.folder / f"hurt.{suffix}"
    shots = media.pictures(30, (160, 120))
    media.clip(source, frames=shots, options={"g": "10", "bf": "0"}, audio="aac")
    clean = times(source)
    hurt(source, [4, 5, 17])
    ended = program(*upscale("--strict", source=source.name))
    assert ended.code == 3
    assert len(ended.told) == 1
    assert "--strict" in ended.err
    assert not (program.folder / "out.mkv").exists()
    assert program.litter() == []
    ended = program(*upscale(source=source.name))
    assert ended.code == 0, ended.err
    assert ended.err.count("concealed: ") == 1
    left = times(program.folder / "out.mkv")
    assert 25 <= len(left) <= 30
    assert {round(float(time), 2) for time in left} <= {round(float(time), 2) for time in clean}
    assert left[-1] == pytest.approx(clean[-1], abs=0.0006)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_film_that_another_program_cuts_short_is_never_taken_for_whole(
    program: Program, suffix: str, strict: bool
) -> None:
    source = media.clip(program.folder / f"long.{suffix}", frames=LONG, options={"crf": "4"})
    size = source.stat().st_size
    ended = program(
        *upscale(*(["--strict"] if strict else []), source=source.name),
        fault="shortened",
        stage="encoding",
        nth=3,
        path=source.name,
        size=size // 2,
    )
    assert program.litter() == []
    target = program.folder / "out.mkv"
    if strict:
        assert ended.code == 3, ended.err
    if ended.code == 0:
        assert "cut short" in ended.err
        assert LONG // 3 < len(times(target)) < LONG
    else:
        assert not target.exists()


@pytest.mark.parametrize("stage", ["planning", "encoding", "finishing", "verifying"])
def test_a_film_that_vanishes(program: Program, stage: str) -> None:
    """What is open is read to its end; a source that is gone cannot be compared with."""
    ended = program(*upscale(), fault="removed", stage=stage, nth=1, path="in.mkv")
    target = program.folder / "out.mkv"
    assert program.litter() == []
    if stage == "verifying":
        assert ended.code == 0
        assert "is gone, so the output cannot be compared" in ended.err
    if ended.code:
        assert ended.code == 3
        assert not target.exists()
    else:
        assert len(times(target)) == FRAMES


@pytest.fixture
def bad_disk(tmp_path: Path, program: Program) -> Iterator[Path]:
    """A film on a disk whose second half cannot be read, where this user may make one."""
    image, folder = tmp_path / "disk.img", tmp_path / "disk"
    film = media.clip(tmp_path / "film.mkv", frames=120, codec="rawvideo", size=(128, 96))
    image.write_bytes(bytes(8 << 20))
    folder.mkdir()
    try:
        commands = [
            ["mkfs.ext4", "-q", "-O", "^has_journal", "-d", str(film.parent), str(image)],
            ["mount", "-o", "loop,ro", str(image), str(folder)],
        ]
        shutil.rmtree(program.folder)  # only the film goes into the image
        image.rename(tmp_path.with_suffix(".img"))
        image = tmp_path.with_suffix(".img")
        commands[0][-1] = commands[1][-2] = str(image)
        made = all(
            subprocess.run(command, check=False, capture_output=True).returncode == 0
            for command in commands
        )
    except FileNotFoundError:
        made = False
    program.folder.mkdir()
    if not made:
        pytest.skip("an image of a disk cannot be mounted here")
    middle = film.read_bytes()[film.stat().st_size // 2 :][:4096]
    os.truncate(image, image.read_bytes().index(middle))
    yield folder / "film.mkv"
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("strict", [False, True])
def test_a_disk_that_cannot_be_read_midway(program: Program, bad_disk: Path, strict: bool) -> None:
    ended = program(*upscale(*(["--strict"] if strict else []), source=str(bad_disk)))
    assert program.litter() == []
    target = program.folder / "out.mkv"
    if strict or ended.code:
        assert ended.code == 3, ended.err
        assert not target.exists()
        return
    assert "concealed" in ended.err or "cut short" in ended.err
    assert 0 < len(times(target)) < 120


def test_a_line_that_breaks_is_an_error_after_the_frames_before_it(program: Program) -> None:
    """A reset connection, unlike the end of a stream, is a failed read."""
    frame = b"FRAME\n" + bytes(range(96))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program.start(*PIPE, "-o", "out.y4m", stdin=f"tcp:{port}")
        line, _ = server.accept()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.sendall(b"YUV4MPEG2 W8 H8 F25:1\n" + 3 * frame + frame[:40])
    until(lambda: next(program.folder.glob(".out.y4m*"), None))
    line.close()  # with this option: a reset
    ended = program.end()
    assert ended.code == 3
    assert len(ended.told) == 1
    assert "cannot be read: Connection reset by peer" in ended.err
    assert not (program.folder / "out.y4m").exists()
    assert program.litter() == []
