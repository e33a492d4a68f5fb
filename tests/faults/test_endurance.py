"""Long films, many files, clocks that jump, a machine that sleeps: nothing grows or differs."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import media
from tests.faults.conftest import Program, until, upscale

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
PICTURES = 1000


@linux
@pytest.mark.slow
def test_a_thousand_tiny_files(program: Program) -> None:
    """All are made, in their order, without more open files or memory than for a hundred."""
    folder = program.folder / "in"
    folder.mkdir()
    random = np.random.default_rng(0)
    shapes = [(4, 4, 3), (5, 3, 3)]
    for number in range(PICTURES):
        pixels = random.integers(0, 256, shapes[number % 97 == 0], dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.bmp")
    (folder / "0500.bmp").write_bytes(b"BM, and then nothing")
    pid = program.start("upscale", "in", "-s", "2", "-n", "bicubic", "-o", "out")
    made = program.folder / "out"
    handles, memory = 0, list[int]()
    while not (made / "0999.png").exists() and Path(f"/proc/{pid}/fd").exists():
        handles = max(handles, open_files(pid))
        memory.append(resident(pid))
        time.sleep(0.02)
    ended = program.end()
    assert ended.code == 3
    assert "1 of 1000 pictures failed: 0500.bmp" in ended.err
    assert len(list(made.iterdir())) == PICTURES - 1
    assert program.litter() == []
    assert handles < 64
    quarter = max(memory[: len(memory) // 4])
    assert max(memory) < quarter + (48 << 20)


def open_files(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:  # it has ended meanwhile
        return 0


def resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


@linux
@pytest.mark.slow
def test_memory_and_handles_do_not_depend_on_the_length(program: Program) -> None:
    """A file job; `scripts/soak.py` does the same for hours."""
    shots = media.pictures(50, (32, 24))
    source = media.clip(program.folder / "long.mkv", frames=shots * 80, audio="aac")
    log = f"{program.folder}.stdout"
    line = upscale("--progress", "json", "--no-verify", "-c", "x264", source=source.name)
    pid = program.start(*line)
    seen: list[tuple[int, int, int]] = []
    until(lambda: Path(log).exists())
    while Path(f"/proc/{pid}/fd").exists() and not finished(log):
        lines = Path(log).read_text("utf-8").splitlines()
        frames = json.loads(lines[-1]).get("frames", 0) if lines else 0
        seen.append((frames, resident(pid), open_files(pid)))
        time.sleep(0.02)
    assert program.end().code == 0
    middle = [entry for entry in seen if 500 <= entry[0] <= 1500]
    late = [entry for entry in seen if entry[0] >= 2500]
    assert middle
    assert late
    assert max(entry[1] for entry in late) < max(entry[1] for entry in middle) + (24 << 20)
    joining = 4  # at the end: what was written is read, and the source's sound
    assert max(entry[2] for entry in late) <= max(entry[2] for entry in middle) + joining


def finished(log: str) -> bool:
    text = Path(log).read_text("utf-8")
    return '"event": "done"' in text


@pytest.mark.parametrize("seconds", [86400.0 * 400, -86400.0 * 400])
def test_a_clock_that_jumps_changes_nothing(program: Program, seconds: float) -> None:
    line = upscale("--progress", "json")
    assert program(*line).code == 0
    calm = (program.folder / "out.mkv").read_bytes()
    ended = program(*line, "-y", fault="turned", by=seconds)
    assert ended.code == 0, ended.err
    assert (program.folder / "out.mkv").read_bytes() == calm
    for told in map(json.loads, ended.out.splitlines()):
        assert 0 <= told.get("seconds", 0) < 3600
        assert (told.get("eta") or 0) >= 0


def test_a_machine_that_sleeps_midway_changes_nothing(program: Program) -> None:
    """The process stands still at a frame and goes on; steady clocks may have run meanwhile."""
    assert program(*upscale()).code == 0
    calm = (program.folder / "out.mkv").read_bytes()
    line = upscale("-y")
    pid = program.start(*line, fault="signalled", stage="encoding", nth=7, number=signal.SIGSTOP)
    until(lambda: Path(f"/proc/{pid}/stat").read_text("utf-8").split(") ")[1].startswith("T"))
    time.sleep(1.5)
    os.kill(pid, signal.SIGCONT)
    assert program.end().code == 0
    assert (program.folder / "out.mkv").read_bytes() == calm
