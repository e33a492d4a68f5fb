"""A stream in parts that do not depend on each other, and results that do not depend on how."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import vsr
from tests import media
from vsr.engine.assembly import Wishes, frame_upscaler
from vsr.engine.color import Picture
from vsr.engine.fingerprint import fingerprint
from vsr.engine.loading import find_model
from vsr.engine.repeats import shots
from vsr.engine.stream import FrameUpscaler, Settings
from vsr.io.folder import Stills
from vsr.io.identity import identity
from vsr.models._base import InputSpec
from vsr.types import ColorSpec, Frame, PixelFormat

GRAY = PixelFormat(family="gray")
COLOR = ColorSpec(matrix=1, full_range=True)


def frames(values: list[int], width: int = 8, height: int = 6) -> list[Frame]:
    return [
        Frame(
            planes=(np.full((height, width), value, np.uint8),),
            format=GRAY,
            color=COLOR,
            pts=number,
            time_base=Fraction(1, 25),
        )
        for number, value in enumerate(values)
    ]


class Counting:
    """Doubles pictures by repeating pixels, and remembers the sizes of its batches."""

    def __init__(self) -> None:
        self.spec = InputSpec(scale=2, channels=1, overlap=0)
        self.batches: list[int] = []

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        self.batches.append(x.shape[0])
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def upscaler(network: Counting, batch: int) -> FrameUpscaler:
    source = Picture(width=8, height=6, format=GRAY, color=COLOR)
    target = replace(source, width=16, height=12)
    settings = Settings(batch=batch)
    return FrameUpscaler(lambda _: network, torch.device("cpu"), source, target, settings)


def test_no_batch_crosses_from_one_part_into_the_next() -> None:
    network = Counting()
    engine = upscaler(network, 4)
    engine.part = 6
    assert len(list(engine(frames(list(range(15)))))) == 15
    assert network.batches == [4, 2, 4, 2, 3]


def test_the_first_picture_of_a_part_is_always_computed() -> None:
    still = frames([7] * 7)
    assert [shot.new for shot in shots(still)] == [True] + [False] * 6
    assert [shot.new for shot in shots(still, 3)] == [True, False, False] * 2 + [True]
    assert [shot.part for shot in shots(still, 3)] == [0, 0, 0, 1, 1, 1, 2]


def test_what_remembers_pictures_is_told_when_a_part_begins() -> None:
    engine = upscaler(Counting(), 2)
    told: list[str] = []
    engine.part = 3
    engine.restart = lambda: told.append("part")
    engine.finish = lambda frame, planes: told.append(str(frame.pts)) or planes  # type: ignore[func-returns-value]
    list(engine(frames([1, 2, 3, 4, 5])))
    assert told == ["part", "0", "1", "2", "part", "3", "4"]


# ---- the same bytes, however the work is cut


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return media.clip(
        tmp_path_factory.mktemp("moving") / "in.mkv", frames=media.pictures(9, (56, 40))
    )


def planes(source: Path, scale: int, wishes: Wishes) -> list[np.ndarray]:
    with vsr.open_source(source) as reader:
        info = reader.info
        color = info.color.resolved(info.width, info.height, info.format.family)
        one = Picture(width=info.width, height=info.height, format=info.format, color=color)
        other = replace(one, width=scale * one.width, height=scale * one.height)
        model = find_model("auto", factor=Fraction(scale))
        made = frame_upscaler(model, one, other, wishes)
        return [plane.copy() for frame in made(reader) for plane in frame.planes]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "wishes",
    [{"batch": 2}, {"batch": 4}, {"workers": 2, "frames": 9}, {"workers": 1, "frames": 9}],
    ids=str,
)
def test_batches_and_workers_change_no_bit(
    moving: Path, precision: str, wishes: dict[str, int]
) -> None:
    plain = Wishes(device="cpu", precision=precision, batch=1)
    expected = planes(moving, 2, plain)
    found = planes(moving, 2, replace(plain, **wishes))  # type: ignore[arg-type]
    assert all(np.array_equal(p, q) for p, q in zip(expected, found, strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_number_of_threads_changes_no_bit(moving: Path, precision: str) -> None:
    wishes = Wishes(device="cpu", precision=precision)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = planes(moving, 2, wishes)
        torch.set_num_threads(2)
        found = planes(moving, 2, wishes)
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(p, q) for p, q in zip(expected, found, strict=True))


# ---- what tells whether something is the same


def test_a_model_is_told_by_its_weights() -> None:
    model = find_model("vsr-fast", factor=Fraction(2))
    again = find_model("vsr-fast", factor=Fraction(2))
    assert fingerprint(model) == fingerprint(again)
    assert again.module is not None
    with torch.no_grad():
        next(again.module.parameters()).view(-1)[0] += 1e-6
    assert fingerprint(model) != fingerprint(again)
    assert fingerprint(model) != fingerprint(find_model("vsr-fast", factor=Fraction(3)))
    assert fingerprint(find_model("bicubic")) != fingerprint(find_model("lanczos"))


def test_a_source_is_told_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 5000)
    before = identity(path)
    path.touch()
    (tmp_path / "b").write_bytes(path.read_bytes())
    assert identity(path) == identity(tmp_path / "b") == before
    path.write_bytes(b"x" * 4999 + b"y")
    assert identity(path) != before


def test_of_a_large_source_samples_and_the_time_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsr.io.identity._WHOLE", 1000)
    monkeypatch.setattr("vsr.io.identity._SAMPLE", 10)
    path = tmp_path / "a"
    path.write_bytes(bytes(100_000))
    before = identity(path)
    assert identity(path) == before
    with path.open("r+b") as file:  # the last byte, which is in a sample
        file.seek(-1, 2)
        file.write(b"x")
    assert identity(path) != before


def test_pictures_are_told_by_names_sizes_and_times(tmp_path: Path) -> None:
    paths = tuple(tmp_path / f"{n}.png" for n in range(3))
    for path in paths:
        path.write_bytes(b"1")
    film = Stills(paths=paths, rate=Fraction(24), name="film")
    before = identity(film)
    assert identity(film) == before
    assert identity(replace(film, rate=Fraction(25))) != before
    paths[1].write_bytes(b"12")
    assert identity(film) != before
