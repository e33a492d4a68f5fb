"""A disk that is full, at any moment of a job: one line, and the older file is safe."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import media
from tests.faults.conftest import FRAMES, Program, upscale

LARGE = ("-s", "8", "-c", "x264", "--crf", "4")
"""With noise as the source: over a megabyte, which libav gathers before it writes."""
PAGE = 4096
PAGES = 1024
LOG = 512
"""Bytes that the one line on stderr may have, which is a file as well."""


@pytest.fixture
def noise(program: Program) -> str:
    shots = np.random.default_rng(1).integers(0, 256, (FRAMES, 48, 64, 3), dtype=np.uint8)
    return media.clip(program.folder / "noise.mkv", frames=list(shots), codec="ffv1").name


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes, where this user may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={PAGES * PAGE}", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def leave(disk: Path, pages: int) -> None:
    """Fills a file system but for some pages."""
    free = os.statvfs(disk).f_bavail
    (disk / "ballast").write_bytes(bytes(PAGE * (free - pages)))


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize("share", [0.6, 0.99])
def test_no_file_may_grow_beyond_a_part_of_the_film(
    program: Program, noise: str, suffix: str, share: float
) -> None:
    """In the header, midway, and in what is written last: index or cues."""
    line = upscale(*LARGE, source=noise, target=f"out.{suffix}")
    assert program(*line).code == 0
    target = program.folder / f"out.{suffix}"
    size = target.stat().st_size
    assert size > 1 << 20, "the first write would be the last"
    target.write_bytes(b"precious")
    ended = program(*line, "-y", fault="limited", size=max(LOG, int(size * share)))
    assert ended.code == 4
    assert len(ended.told) == 1
    assert "disk full" in ended.err
    assert target.read_bytes() == b"precious"
    assert program.litter() == []


@pytest.mark.parametrize("pages", [0, 1, 200])
def test_a_full_file_system(program: Program, noise: str, disk: Path, pages: int) -> None:
    leave(disk, pages)
    ended = program(*upscale(*LARGE, source=noise, target=str(disk / "out.mkv")))
    assert ended.code == 4
    assert len(ended.told) == 1
    assert "disk full" in ended.err
    assert not (disk / "out.mkv").exists()
    assert not [path for path in disk.iterdir() if ".vsr-" in path.name]


def test_room_that_is_made_lets_the_same_command_succeed(program: Program, disk: Path) -> None:
    leave(disk, 2)
    line = upscale(target=str(disk / "out.mkv"))
    assert program(*line).code == 4
    (disk / "ballast").unlink()
    ended = program(*line)
    assert ended.code == 0, ended.err
    assert len(media.decoded(disk / "out.mkv")) == len(media.decoded(program.folder / "in.mkv"))


def test_a_folder_of_pictures_keeps_those_that_are_whole(program: Program, disk: Path) -> None:
    pictures = program.folder / "in"
    line = ["upscale", "in.mkv", "-s", "1", "-n", "bicubic", "-o", f"{pictures}/%d.png"]
    assert program(*line).code == 0
    leave(disk, 24)
    line = ["upscale", str(pictures), "-s", "2", "-n", "bicubic", "-o", str(disk / "out")]
    ended = program(*line)
    assert ended.code == 4
    assert "disk full" in ended.err
    made = list((disk / "out").iterdir())
    assert 0 < len(made) < len(list(pictures.iterdir()))
    assert all(media.decoded(path)[0][1].shape == (96, 128, 3) for path in made)
    (disk / "ballast").unlink()
    assert program(*line).code == 0
    assert len(list((disk / "out").iterdir())) == len(list(pictures.iterdir()))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("form", ["y4m", "nut", "matroska"])
def test_a_pipe_into_a_full_device(program: Program, form: str) -> None:
    ended = program(
        *("pipe", "-i", "in.mkv", "-s", "2", "-n", "bicubic", "-f", form), stdout="/dev/full"
    )
    assert ended.code == 4
    assert len(ended.told) == 1
