"""The neighbours in a pipe: one that sleeps, one that leaves, one that says nothing."""

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.faults.conftest import PATIENCE, Program, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SIZE = (160, 120)
FRAME = SIZE[0] * SIZE[1] * 3 // 2
ANSWER = 4 * FRAME
HEADER = b"YUV4MPEG2 W%d H%d F25:1\n" % SIZE
FILM = 200
MOST = 60
"""Frames that may be under way: decoded, in the device, in both pipes."""


def line(*more: str) -> list[str]:
    return ["pipe", "-s", "2", "-n", "bicubic", "--device", "cpu", *more]


def picture(number: int) -> bytes:
    return b"FRAME\n" + bytes([number % 256]) * FRAME


@pytest.fixture
def fifos(program: Program) -> tuple[str, str]:
    names = [f"{program.folder}.{name}" for name in ("to", "from")]
    for name in names:
        os.mkfifo(name)
    return names[0], names[1]


class Producer(threading.Thread):
    """Sends a film into a FIFO until its reader has gone; `taken` pictures so far."""

    def __init__(self, name: str, *, noise: bool = False) -> None:
        super().__init__(daemon=True)
        self.taken, self._path, self._noise = 0, Path(name), noise
        self.start()

    def run(self) -> None:
        with contextlib.suppress(BrokenPipeError), self._path.open("wb", buffering=0) as file:
            file.write(HEADER)
            for number in range(FILM):
                file.write(b"FRAME\n" + os.urandom(FRAME) if self._noise else picture(number))
                self.taken = number + 1

    def stalled(self) -> int:
        """Waits until nothing has been taken for a while; what has been by then."""
        before, since = -1, time.monotonic()
        while time.monotonic() - since < 0.7 or not before:
            if self.taken != before:
                before, since = self.taken, time.monotonic()
            time.sleep(0.02)
        return before


def test_a_consumer_that_sleeps_bounds_what_is_read(
    program: Program, fifos: tuple[str, str]
) -> None:
    """The input waits, memory stays, and all comes through when the consumer wakes."""
    producer = Producer(fifos[0])
    program.start(*line(), stdin=fifos[0], stdout=fifos[1])
    with Path(fifos[1]).open("rb") as output:
        assert 0 < producer.stalled() <= MOST
        assert output.readline() == b"YUV4MPEG2 W320 H240 F25:1\n"
        for number in range(FILM):
            assert output.readline() == b"FRAME\n"
            assert output.read(ANSWER) == bytes([number % 256]) * ANSWER
        assert output.read() == b""
    assert program.end(fifos[1]).code == 0
    producer.join(PATIENCE)


@pytest.mark.parametrize("form", ["y4m", "nut", "matroska"])
@pytest.mark.parametrize("fate", ["leaves", "SIGTERM"])
def test_the_end_while_a_consumer_sleeps(
    program: Program, fifos: tuple[str, str], form: str, fate: str
) -> None:
    """The consumer goes away or the user gives up, while the program is stuck in a write."""
    producer = Producer(fifos[0], noise=True)
    pid = program.start(*line("-f", form), stdin=fifos[0], stdout=fifos[1])
    source = os.open(fifos[1], os.O_RDONLY)
    assert os.read(source, 8)
    assert producer.stalled() <= MOST
    if fate == "leaves":
        os.close(source)
    else:
        os.kill(pid, signal.SIGTERM)
    ended = program.end(fifos[1])
    producer.join(PATIENCE)
    if fate == "leaves":
        assert (ended.code, ended.err) == (1, "")
        return
    os.close(source)
    assert ended.code == 130
    assert [text.partition("error: ")[2] for text in ended.told] == ["stopped by SIGTERM"]


@pytest.mark.parametrize("begins", [b"", b"\x1aE\xdf\xa3", b"nut/multimedia container\0", HEADER])
def test_a_signal_while_the_input_says_nothing(
    program: Program, fifos: tuple[str, str], begins: bytes
) -> None:
    """Before the first byte, within a header that libav reads, and after a header."""
    pid = program.start(*line("-o", "out.y4m"), stdin=fifos[0])
    to = os.open(fifos[0], os.O_WRONLY)
    if begins:
        os.write(to, begins)
    tasks = Path(f"/proc/{pid}/task")
    until(lambda: any("poll" in path.read_text("ascii") for path in tasks.glob("*/wchan")))
    time.sleep(0.3)
    os.kill(pid, signal.SIGINT)
    ended = program.end()
    os.close(to)
    assert ended.code == 130
    assert [text.partition("error: ")[2] for text in ended.told] == ["stopped by SIGINT"]
    assert not list(program.folder.glob("out*"))
    assert program.litter() == []
