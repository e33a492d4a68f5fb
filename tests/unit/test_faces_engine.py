"""Faces in finished frames: every format, untouched samples outside, order and resets."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from vsr.engine import faces as home
from vsr.engine.color import Picture
from vsr.engine.convert import frame_to_rgb
from vsr.engine.faces import FaceFinish, FaceModel, find_faces
from vsr.errors import CheckpointError
from vsr.faces.alignment import (
    apply,
    chained,
    enlargement,
    inverse,
    mask,
    quarter_turns,
    template,
)
from vsr.faces.base import Faces
from vsr.faces.enhance import FaceEnhancer
from vsr.faces.gfpgan import GFPGANClean, GFPGANConfig
from vsr.faces.options import FaceOptions
from vsr.faces.retinaface import RetinaFace, RetinaFaceConfig
from vsr.faces.tracking import Calm
from vsr.types import ColorSpec, Frame, PixelFormat

CPU = torch.device("cpu")
SIDE, WIDTH, HEIGHT = 32, 90, 70
YUV = ColorSpec(matrix=1, full_range=False, siting=1)
RGB = ColorSpec(matrix=0, full_range=True)
FORMATS = {
    "yuv420p": (PixelFormat(family="yuv", chroma_w=1, chroma_h=1), YUV),
    "yuv410p": (PixelFormat(family="yuv", chroma_w=2, chroma_h=2), replace(YUV, full_range=True)),
    "yuv422p10": (PixelFormat(family="yuv", bits=10, chroma_w=1), replace(YUV, matrix=9)),
    "yuva444p": (PixelFormat(family="yuv", alpha=True), replace(YUV, matrix=6)),
    "gray": (PixelFormat(family="gray"), YUV),
    "gray16": (PixelFormat(family="gray", bits=16), YUV),
    "gbrp": (PixelFormat(family="rgb"), RGB),
    "gbrap12": (PixelFormat(family="rgb", bits=12, alpha=True), RGB),
    "gbrpf32": (PixelFormat(family="rgb", bits=32, floating=True), RGB),
    "yuv420ph": (PixelFormat(family="yuv", bits=16, chroma_w=1, chroma_h=1, floating=True), YUV),
}  # fmt: skip
PLACE = torch.tensor([[1.2, -0.3, 31], [0.3, 1.2, 7]], dtype=torch.float64)
COLOUR = (0.9, 0.3, 0.1)


def picture(name: str, factor: Fraction = Fraction(1)) -> Picture:
    fmt, color = FORMATS[name]
    width, height = round(WIDTH * factor), round(HEIGHT * factor)
    return Picture(width=width, height=height, format=fmt, color=color)


def frame(end: Picture, pts: int = 0, seed: int = 1) -> Frame:
    """Noise of a narrow range, legal in every format."""
    rng = np.random.default_rng(seed)
    planes = []
    for shape in end.format.plane_shapes(end.width, end.height):
        if end.format.floating:
            planes.append(rng.uniform(0.1, 0.4, shape).astype(end.format.dtype))
        else:
            top = 1 << end.format.bits
            planes.append(rng.integers(top * 3 // 8, top // 2, shape).astype(end.format.dtype))
    return Frame(
        planes=tuple(planes),
        format=end.format,
        color=end.color,
        pts=pts,
        time_base=Fraction(1, 25),
    )


def face() -> Faces:
    corners = apply(PLACE, torch.tensor([[8.0, 8], [24, 8], [8, 28], [24, 28]]))
    return Faces(
        boxes=torch.cat([corners.amin(0), corners.amax(0)])[None],
        scores=torch.tensor([0.999]).double(),
        landmarks=apply(PLACE, template(SIDE))[None],
    )


class Told:
    """A detector that always finds the same, and keeps what it saw."""

    def __init__(self, faces: Faces) -> None:
        self.faces, self.seen = faces, []

    def __call__(self, x: Tensor, /) -> list[Faces]:
        self.seen.append(x)
        return [self.faces for _ in x]


def painter(x: Tensor) -> Tensor:
    return (torch.tensor(COLOUR).to(x).view(1, 3, 1, 1) * 2 - 1).expand_as(x).clone()


def finish(
    name: str,
    factor: Fraction,
    faces: Faces,
    options: FaceOptions | None = None,
    device: torch.device = CPU,
) -> tuple[FaceFinish, Told]:
    told = Told(faces)
    enhancer = FaceEnhancer(told, painter, SIDE, options, calm=Calm())
    return FaceFinish(enhancer, device, picture(name), picture(name, factor)), told


def soft_mask(end: Picture) -> np.ndarray:
    to_source = enlargement((end.width, end.height), (WIDTH, HEIGHT))
    whole = chained(to_source, inverse(PLACE))
    return mask(whole, end.height, end.width, SIDE, CPU)[0, 0].numpy()


@pytest.mark.parametrize("name", FORMATS)
def test_no_face_leaves_the_very_planes(name):
    done, told = finish(name, Fraction(2), Faces.none())
    source, result = frame(picture(name)), frame(picture(name, Fraction(2))).planes
    assert done(source, result) is result
    rgb = frame_to_rgb(source)
    if not source.format.floating:
        np.testing.assert_allclose(told.seen[0][0].permute(1, 2, 0).numpy() * 255, rgb, atol=0.51)


@pytest.mark.parametrize("factor", [Fraction(1), Fraction(2), Fraction(17, 10)])
@pytest.mark.parametrize("name", FORMATS)
def test_a_face_is_blended_and_the_rest_keeps_its_bits(name, factor):
    done, _ = finish(name, factor, face())
    end = picture(name, factor)
    given = frame(end, seed=2)
    before = [plane.copy() for plane in given.planes]
    result = done(frame(picture(name)), given.planes)
    for a, b in zip(before, given.planes, strict=True):
        np.testing.assert_array_equal(a, b)
    soft = soft_mask(end)
    full = soft == 1
    assert full.sum() > 400
    if end.format.alpha:
        np.testing.assert_array_equal(result[-1], before[-1])
    np.testing.assert_array_equal(result[0][soft == 0], before[0][soft == 0])
    down, across = end.format.chroma_h, end.format.chroma_w
    for a, b in zip(result[1:3], before[1:3], strict=True):
        assert a.dtype == b.dtype
        coarse = np.zeros(b.shape)
        rows, columns = np.nonzero(soft)
        np.maximum.at(coarse, (rows >> down, columns >> across), 1)
        near = np.pad(coarse, 1)  # chroma is sited between samples
        near = sum(near[i : i + b.shape[0], j : j + b.shape[1]] for i in range(3) for j in range(3))
        np.testing.assert_array_equal(a[near == 0], b[near == 0])


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10", "yuva444p", "gbrp", "gbrap12"])
def test_a_face_has_its_colours_and_fades_as_the_mask_says(name):
    done, _ = finish(name, Fraction(2), face())
    end = picture(name, Fraction(2))
    given = frame(end, seed=2)
    result = frame_to_rgb(replace(given, planes=done(frame(picture(name)), given.planes)))
    soft = soft_mask(end)[..., None]
    expected = (1 - soft) * frame_to_rgb(given) + soft * 255 * np.array(COLOUR)
    deep = soft[..., 0] == 1
    deep[1:-1, 1:-1] &= deep[:-2, 1:-1] & deep[2:, 1:-1] & deep[1:-1, :-2] & deep[1:-1, 2:]
    assert np.abs(result - expected)[deep].max() <= (9 if end.format.subsampled else 2)
    assert np.abs(result - expected).mean() < 1.5


def test_gray_gets_the_luma_of_the_face():
    done, _ = finish("gray", Fraction(2), face())
    end = picture("gray", Fraction(2))
    (plane,) = done(frame(picture("gray")), frame(end).planes)
    luma = 16 + 219 * (0.2126 * COLOUR[0] + 0.7152 * COLOUR[1] + 0.0722 * COLOUR[2])
    assert np.abs(plane[soft_mask(end) == 1] - luma).max() <= 0.5 + 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10", "gbrap12", "gray16"])
def test_a_gpu_gives_the_same(name):
    source, given = frame(picture(name)), frame(picture(name, Fraction(2)), seed=2).planes
    here, _ = finish(name, Fraction(2), face())
    there, _ = finish(name, Fraction(2), face(), device=torch.device("cuda"))
    for a, b in zip(here(source, given), there(source, given), strict=True):
        assert np.abs(a.astype(int) - b.astype(int)).max() <= 1


def turned(planes: Sequence[np.ndarray], turns: int) -> tuple[np.ndarray, ...]:
    return tuple(np.ascontiguousarray(np.rot90(plane, turns)) for plane in planes)


def sideways(end: Picture, turns: int) -> Picture:
    if turns % 2 == 0:
        return end
    return replace(end, width=end.height, height=end.width)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("name", ["gbrp", "gbrap12", "yuva444p", "gray16"])
def test_a_picture_that_a_player_turns_is_turned_for_the_detector(name, rotation):
    """The result is that of the upright picture, turned back: same faces, same bits elsewhere."""
    turns, factor = rotation // 90, Fraction(2)
    ends = picture(name), picture(name, factor)
    upright, large = frame(ends[0]), frame(ends[1], seed=2).planes
    done, told = finish(name, factor, face())
    expected = turned(done(upright, large), -turns)

    there = Told(face())
    enhancer = FaceEnhancer(there, painter, SIDE, None, calm=Calm())
    stored = (sideways(end, turns) for end in ends)
    lying = FaceFinish(enhancer, CPU, *stored, rotation)
    source = replace(upright, planes=turned(upright.planes, -turns))
    result = lying(source, turned(large, -turns))

    torch.testing.assert_close(there.seen[0], told.seen[0], rtol=0, atol=1e-6)
    changed = 0
    for got, wanted, before in zip(result, expected, turned(large, -turns), strict=True):
        assert got.shape == wanted.shape
        assert np.abs(got.astype(int) - wanted.astype(int)).max() <= 1
        changed += int((got != before).sum())
    assert changed > 400


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_quarter_turns_are_those_of_rot90(turns):
    marks = torch.arange(5 * 7.0).view(5, 7)
    matrix = quarter_turns(turns, 7, 5)
    result = marks.rot90(turns, (0, 1))
    for y in range(5):
        for x in range(7):
            across, down = (int(v) for v in apply(matrix, torch.tensor([[x, y]]))[0])
            assert result[down, across] == marks[y, x]


def test_weight_of_nothing_looks_for_nothing():
    done, told = finish("gbrp", Fraction(1), face(), FaceOptions(weight=0))
    planes = frame(picture("gbrp")).planes
    assert done(frame(picture("gbrp")), planes) is planes
    assert not told.seen


def test_frames_that_do_not_follow_each_other_begin_anew(monkeypatch):
    resets = []
    done, _ = finish("gbrp", Fraction(1), Faces.none())
    monkeypatch.setattr(done._enhancer, "reset", lambda: resets.append(at))
    planes = frame(picture("gbrp")).planes
    for at in (10, 11, 13, 12, 13, 38, 64, 64):
        done(frame(picture("gbrp"), pts=at), planes)
    assert resets == [10, 12, 64, 64]


def test_networks_are_found_and_put_to_work(tmp_path, monkeypatch):
    torch.manual_seed(0)
    restorer = GFPGANClean(GFPGANConfig(unet=(4, 4, 2), decoder=(8, 8, 4), style=6, latents=6))
    detector = RetinaFace(RetinaFaceConfig(stem=4, blocks=(1, 1, 1, 1), channels=8))
    torch.save({"params_ema": restorer.state_dict()}, tmp_path / "faces.pth")
    torch.save(detector.state_dict(), tmp_path / "detector.pth")
    asked = []

    def local(entry, **how):
        asked.append((entry.name, how["offline"]))
        return tmp_path / ("detector.pth" if entry.kind == "detector" else "faces.pth")

    monkeypatch.setattr(home, "ensure", local)
    own = find_faces(FaceOptions(path=tmp_path / "faces.pth"), offline=True)
    named = find_faces(FaceOptions(model="gfpgan-1.3"))
    assert asked == [("detection_Resnet50_Final", True), ("GFPGANv1.3", False),
                     ("detection_Resnet50_Final", False)]  # fmt: skip
    assert isinstance(own, FaceModel)
    end = picture("yuv420p", Fraction(2))
    done = named.on(CPU, picture("yuv420p"), end)
    planes = frame(end).planes
    assert len(done(frame(picture("yuv420p")), planes)) == 3
    with pytest.raises(CheckpointError, match="not GFPGAN"):
        find_faces(FaceOptions(path=tmp_path / "detector.pth"))
