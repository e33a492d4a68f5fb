"""Too little memory and overflow, in whole programs and in any order: the same frames, redone."""

import itertools
import logging
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import media
from tests.faults.conftest import FRAMES, Program, upscale
from tests.unit.test_engine_stream import Nearest, make_frames, upscaler
from vsr.engine.stream import Settings
from vsr.engine.tiled import Tiled
from vsr.errors import OutOfMemoryError
from vsr.tiling import smallest_tile

LUMA = 64 * 48


def test_a_batch_then_a_tile_is_halved_and_the_film_is_the_same(program: Program) -> None:
    lossless = ("--precision", "fp32", "-c", "ffv1", "--no-verify")
    plain = program(*upscale(*lossless, model="auto"))
    assert plain.code == 0, plain.err
    cramped = program(
        *upscale(*lossless, "--batch", "4", model="auto", target="cramped.mkv"),
        fault="cramped",
        pixels=LUMA // 2,
    )
    assert cramped.code == 0, cramped.err
    said = [line for line in cramped.err.splitlines() if "out of memory" in line]
    assert [line.rpartition("with ")[2] for line in said] == [
        "batches of 2",
        "batches of 1",
        "tiles of 32 pixels",
    ]
    one, other = (media.decoded(program.folder / f"{name}.mkv") for name in ("out", "cramped"))
    assert [time for time, _ in other] == [time for time, _ in one]
    for (_, ours), (_, theirs) in zip(other, one, strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_other_doors_redo_the_same_pictures(program: Program, kind: str) -> None:
    source, target = str(program.folder / "in.mkv"), str(program.folder / "out.y4m")
    made = program("pipe", "-i", source, "-o", "same.y4m", "-s", "2", "--precision", "fp32")
    assert made.code == 0, made.err
    if kind == "pipe":
        line = ["pipe", "-i", source, "-o", target, "-s", "2", "--precision", "fp32"]
        ended = program(*line, "--batch", "4", fault="cramped", pixels=LUMA, once=[4])
        assert ended.code == 0, ended.err
        same = (program.folder / "same.y4m").read_bytes()
        assert (program.folder / "out.y4m").read_bytes() == same
        return
    pictures = program.folder / "pictures"
    line = ["upscale", source, "-s", "2", "--precision", "fp32"]
    assert program(*line, "-o", f"{pictures}/%03d.png").code == 0
    again = ["upscale", str(pictures), "-s", "2", "--precision", "fp32", "-o"]
    assert program(*again, f"{program.folder}/plain").code == 0
    ended = program(*again, f"{program.folder}/cramped", fault="cramped", pixels=2 * LUMA)
    assert ended.code == 0, ended.err
    assert "out of memory" in ended.err
    for path in (program.folder / "plain").iterdir():
        assert (program.folder / "cramped" / path.name).read_bytes() == path.read_bytes()


def test_no_room_at_all_is_one_line_and_no_file(program: Program) -> None:
    ended = program(*upscale(model="auto"), fault="cramped", pixels=0)
    assert ended.code == 6
    assert len(ended.told) == 1
    assert "use a smaller model or --device cpu" in ended.err
    assert not (program.folder / "out.mkv").exists()
    assert program.litter() == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_overflow_in_half_precision_is_redone_in_fp32(program: Program, value: float) -> None:
    lossless = ("-c", "ffv1", "--no-verify")
    for name, precision in (("half", "bf16"), ("full", "fp32")):
        line = upscale(*lossless, "--precision", precision, target=f"{name}.mkv", model="auto")
        assert program(*line).code == 0
    ended = program(
        *upscale(*lossless, "--precision", "bf16", "--progress", "json", model="auto"),
        fault="overflowing",
        calls=[7],
        value=value,
    )
    assert ended.code == 0, ended.err
    assert ended.err.count("redone and the rest done in fp32") == 1
    mixed, half, full = (
        [picture for _, picture in media.decoded(program.folder / f"{name}.mkv")]
        for name in ("out", "half", "full")
    )
    assert len(mixed) == FRAMES
    kinds = [
        "half" if np.array_equal(got, one) else "full" if np.array_equal(got, other) else "neither"
        for got, one, other in zip(mixed, half, full, strict=True)
    ]
    changes = [kind for kind, _ in itertools.groupby(kinds)]
    assert changes == ["half", "full"], "what was good stays, what was not is done in fp32"


class Moody(Nearest):
    """Follows a list of misfortunes, one a call; then all is well."""

    def __init__(self, misfortunes: Iterator[str], precision: str) -> None:
        super().__init__(overlap=2)
        self._misfortunes, self._precision = misfortunes, precision

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = super().__call__(x)
        match next(self._misfortunes, "none"):
            case "memory":
                msg = "CUDA out of memory"
                raise torch.OutOfMemoryError(msg)
            case "overflow" if self._precision != "fp32":
                y[0, 0, 0, 0] = float("inf")
        return y


@settings(max_examples=60)
@given(
    misfortunes=st.lists(st.sampled_from(["none", "none", "memory", "overflow"]), max_size=24),
    batch=st.sampled_from([1, 2, 3, 8]),
    workers=st.sampled_from([1, 2]),
    count=st.integers(1, 9),
)
def test_any_order_of_misfortunes_gives_every_frame_once_or_an_error(
    misfortunes: list[str], batch: int, workers: int, count: int
) -> None:
    """Halved, redone in fp32, both within one frame, or with batches under way: all the same."""
    coming = iter(misfortunes)

    def make(chosen: Settings) -> Moody | Tiled:
        network = Moody(coming, chosen.precision)
        return Tiled(network, chosen.tile) if chosen.tile else network

    logging.getLogger("vsr").setLevel(logging.ERROR)
    frames = make_frames(count)
    run = upscaler(make, settings=Settings(precision="fp16", batch=batch, workers=workers))
    least = smallest_tile(2, 1)
    try:
        got = list(run(frames))
    except OutOfMemoryError:
        assert run.settings.batch == 1
        assert -(-(run.settings.tile or 32) // 2) < least, "there was a smaller tile to try"
        return
    want = list(upscaler(lambda _: Nearest())(frames))
    assert [frame.pts for frame in got] == [frame.pts for frame in frames]
    for ours, theirs in zip(got, want, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours.planes, theirs.planes, strict=True))
