"""A thread that dies, in whatever stage and by whatever error: told, joined, nothing left."""

from collections.abc import Iterator

import pytest

from tests.faults.conftest import Program, upscale
from tests.media import decoded
from vsr.pipeline import Prefetch

DEATHS = [
    ("decoding", 9, "RuntimeError", 70),
    ("decoding", 9, "SystemExit", 70),
    ("computing", 12, "SystemExit", 70),
    ("computing", 12, "EIO", 4),
    ("encoding", 5, "MemoryError", 6),
    ("writing", 1, "RuntimeError", 70),
    ("syncing", 1, "EIO", 4),
    ("verifying", 1, "RuntimeError", 70),
    ("naming", 1, "EIO", 4),
]


@pytest.mark.parametrize(("stage", "nth", "kind", "code"), DEATHS)
def test_an_error_in_any_thread_is_told_once(
    program: Program, stage: str, nth: int, kind: str, code: int
) -> None:
    target = program.folder / "out.mkv"
    target.write_bytes(b"precious")
    ended = program(*upscale("-y"), fault="raised", stage=stage, nth=nth, kind=kind)
    assert ended.code == code, ended.err
    assert len(ended.told) == 1
    assert target.read_bytes() == b"precious"
    assert program.litter() == []


def test_a_thread_of_a_folder_that_dies_stops_the_job(program: Program) -> None:
    pictures = program.folder / "in"
    line = ["upscale", "in.mkv", "-s", "1", "-n", "bicubic", "-o", f"{pictures}/%02d.png"]
    assert program(*line).code == 0
    line = ["upscale", "in", "-s", "2", "-n", "bicubic", "-o", "out", "-j", "2:1:2"]
    for stage in ("reading picture", "encoding picture"):
        ended = program(*line, fault="raised", stage=stage, nth=9, kind="SystemExit")
        assert ended.code == 70, ended.err
        assert len(ended.told) == 1
        made = program.folder / "out"
        assert program.litter() == []
        assert all(decoded(path)[0][1].shape == (96, 128, 3) for path in made.glob("*"))


def test_nobody_waits_for_a_thread_that_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed by what no `except` sees, such as an error inside its own handling of errors."""
    monkeypatch.setattr(Prefetch, "_run", lambda _: None)
    with Prefetch([1, 2], name="vsr-decode") as stream:
        with pytest.raises(RuntimeError, match="vsr-decode has died"):
            next(stream)
        assert next(stream, None) is None


def test_a_thread_that_leaves_the_program_does_not_end_it_well() -> None:
    def upstream() -> Iterator[int]:
        yield 1
        raise SystemExit(0)

    with Prefetch(upstream()) as stream:
        assert next(stream) == 1
        with pytest.raises(RuntimeError, match=r"sys\.exit\(0\)"):
            next(stream)
