"""What holds for every test: reasons to skip, fixed seeds, one thread, no network, common clips.

`VSR_NO_SKIP="shared ffmpeg"` turns a skip for one of these reasons into a failure, so that CI
cannot silently leave out what it should run.
"""

import importlib.util
import logging
import os
import random
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which no conftest does

import hypothesis
import pytest

from tests import media

hypothesis.settings.register_profile(
    "house",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=50,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("house")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # as in a shell's background jobs: the programs that are started here would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _no_gpu() -> str | None:
    import torch

    return None if torch.cuda.is_available() else "no CUDA device"


def _no_ffmpeg() -> str | None:
    absent = [name for name in ("ffmpeg", "ffprobe") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def _no_vapoursynth() -> str | None:
    found = importlib.util.find_spec("vapoursynth")
    return None if found else "the package vapoursynth is not installed"


def _no_shared() -> str | None:
    return None if media.SHARED.is_dir() else "no folder ../shared"


MISSING: dict[str, Callable[[], str | None]] = {
    "gpu": _no_gpu,
    "ffmpeg": _no_ffmpeg,
    "vapoursynth": _no_vapoursynth,
    "shared": _no_shared,
}


def pytest_configure() -> None:
    unknown = set(os.environ.get("VSR_NO_SKIP", "").split()) - set(MISSING)
    if unknown:
        msg = f"VSR_NO_SKIP names {sorted(unknown)}; it knows {sorted(MISSING)}"
        raise pytest.UsageError(msg)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, missing in MISSING.items():
        if item.get_closest_marker(marker) is None or (reason := missing()) is None:
            continue
        if marker in os.environ.get("VSR_NO_SKIP", "").split():
            pytest.fail(f"{reason}, and VSR_NO_SKIP forbids to skip for {marker}", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _logger() -> Iterator[None]:
    """A command line that was run in this process leaves its logging settings behind."""
    _forget_logging()  # a fixture of a wider scope may have run one too
    yield
    _forget_logging()


def _forget_logging() -> None:
    logger = logging.getLogger("vsr")
    logger.setLevel(logging.NOTSET)
    logger.propagate, logger.handlers[:] = True, []


@pytest.fixture(autouse=True)
def _readers() -> Iterator[None]:
    """What a test has read from is closed."""
    yield
    while "tests.pipes" in sys.modules and sys.modules["tests.pipes"].OPEN:
        sys.modules["tests.pipes"].OPEN.pop().close()


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    home = tmp_path_factory.getbasetemp() / "home"
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home / name.lower()))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test leaves this machine; a server on the loopback address is fine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else address
        local = self.family == getattr(socket, "AF_UNIX", None)
        if not local and host not in ("127.0.0.1", "::1", "localhost"):
            msg = f"a test tried to reach {host}"
            raise RuntimeError(msg)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ../shared; mark the test `shared`."""
    return media.SHARED


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames of 64×48 H.264 in Matroska with sound and two subtitles; do not write to it."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    cues = [(0.0, 0.1, "Hello"), (0.2, 0.36, "there")]
    return media.clip(path, frames=10, audio="aac", subtitles=cues, tags={"title": "A film"})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that is the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
