"""Whole programs with faults in them, and what must be true after any fault."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import media

PATIENCE = 120.0
"""Seconds after which a program hangs; each here takes about one on an idle machine."""
FRAMES = 24


@dataclass(frozen=True, slots=True)
class Ended:
    """What a program did: exit code (negative: killed by that signal), and what it said."""

    code: int
    out: bytes
    err: str

    @property
    def told(self) -> list[str]:
        """Its lines about errors."""
        return [line for line in self.err.splitlines() if "error:" in line]


class Program:
    """Runs `vsr` in a folder as often as wanted; see `nursery.py`.

    Args:
        folder: Working directory of every run.
        nursery: What they are forked from.
    """

    def __init__(self, folder: Path, nursery: "Nursery") -> None:
        self.folder, self._nursery = folder, nursery

    def __call__(
        self,
        *arguments: str,
        fault: str = "",
        stdin: str = os.devnull,
        stdout: str = "stdout",
        **given: object,
    ) -> Ended:
        """Runs one command line to its end, with a fault from `injections.py` in it."""
        self.start(*arguments, fault=fault, stdin=stdin, stdout=stdout, **given)
        return self.end(stdout)

    def start(
        self,
        *arguments: str,
        fault: str = "",
        stdin: str = os.devnull,
        stdout: str = "stdout",
        **given: object,
    ) -> int:
        """Begins one; gives its process number."""
        write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        standard = [(stdin, os.O_RDONLY), (self._log(stdout), write), (self._log("stderr"), write)]
        self._nursery.ask(
            {
                "arguments": arguments,
                "folder": str(self.folder),
                "standard": standard,
                "patience": PATIENCE,
                "fault": fault,
                "given": given,
            }
        )
        return self._nursery.answer("pid")

    def end(self, stdout: str = "stdout") -> Ended:
        """Waits for the one that was begun; it must not hang."""
        code = self._nursery.answer("code")
        regular = Path(self._log(stdout)).is_file()
        out = Path(self._log(stdout)).read_bytes() if regular else b""
        err = Path(self._log("stderr")).read_text("utf-8")
        assert code is not None, f"it hangs:\n{err}"
        assert code >= 0, f"it crashed by signal {-code}:\n{err}"
        assert "Traceback" not in err, err
        return Ended(code, out, err)

    def _log(self, name: str) -> str:
        """Logs lie beside the folder, so that it holds what the program made and nothing else."""
        return name if Path(name).is_absolute() else f"{self.folder}.{name}"

    def litter(self) -> list[str]:
        """Names of partial files, drafts, locks and journals: these jobs are short."""
        return [path.name for path in self.folder.rglob(".*.vsr-*")]


class Nursery:
    """The process that programs are forked from."""

    def __init__(self, home: Path) -> None:
        requests, ask = os.pipe()
        answer, answers = os.pipe()
        homes = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("nursery.py"), str(requests), str(answers)],
            pass_fds=(requests, answers),
            env=environment | dict.fromkeys(homes, str(home)) | {"OMP_NUM_THREADS": "1"},
            cwd=media.REPO,
        )
        os.close(requests)
        os.close(answers)
        self._running = 0
        self._ask, self._answer = os.fdopen(ask, "w"), os.fdopen(answer)

    def ask(self, request: dict[str, object]) -> None:
        """Sends a request; what a failed test has left running ends first."""
        if self._running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._running, signal.SIGKILL)
            self.answer("code")
        print(json.dumps(request), file=self._ask, flush=True)

    def answer(self, key: str) -> int:
        """Waits for the next answer."""
        answer = json.loads(self._answer.readline())[key]
        self._running = answer if key == "pid" else 0
        return answer

    def close(self) -> None:
        """Ends it, and what is left of its children."""
        if self._running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._running, signal.SIGKILL)
        self._ask.close()
        self._answer.close()
        self._process.wait(PATIENCE)


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    made = Nursery(tmp_path_factory.getbasetemp() / "home")
    yield made
    made.close()


@pytest.fixture
def program(nursery: Nursery, tmp_path: Path) -> Program:
    """`vsr` in an empty folder, except for the film `in.mkv`."""
    folder = tmp_path / "work"
    folder.mkdir()
    media.clip(folder / "in.mkv", frames=FRAMES, audio="aac", subtitles=[(0.1, 0.4, "Hello")])
    return Program(folder, nursery)


def until(condition: Callable[[], object]) -> None:
    """Waits for what a program is about to do."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def upscale(
    *more: str, source: str = "in.mkv", target: str = "out.mkv", model: str = "bicubic"
) -> Sequence[str]:
    """A command line."""
    settings = ("--scale", "2", "--model", model, "--device", "cpu", "-o", target)
    return ("upscale", source, *settings, *more)
