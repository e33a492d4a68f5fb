"""Layouts of video engines to the last bit, whose memory lives how long, and the CUDA lane's order.

The lane's streams and events are stood in for by ones that do everything at once and take notes.
"""

import gc
import logging
import weakref
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vsr.engine.color import Picture
from vsr.engine.route import Route
from vsr.engine.staging import CudaLane, HostLane
from vsr.engine.stream import FrameUpscaler, Settings
from vsr.engine.surfaces import SurfacePool, fits, host_planes, taken_apart, upload
from vsr.errors import UsageError
from vsr.models._base import InputSpec
from vsr.models.interpolation import Interpolation
from vsr.types import ColorSpec, DevicePlanes, Frame, PixelFormat

CPU = torch.device("cpu")
COLOR = ColorSpec(matrix=1, full_range=False, siting=1)
NAMES = {8: "nv12", 10: "p010le", 16: "p016le"}


def layout(bits: int) -> PixelFormat:
    return PixelFormat(family="yuv", bits=bits, chroma_w=1, chroma_h=1)


def picture(bits: int, width: int = 64, height: int = 64) -> Picture:
    return Picture(width=width, height=height, format=layout(bits), color=COLOR)


def planes_of(bits: int, width: int, height: int, seed: int) -> tuple[np.ndarray, ...]:
    form = layout(bits)
    generator = np.random.default_rng(seed)
    shapes = form.plane_shapes(width, height)
    return tuple(generator.integers(0, 1 << bits, s, dtype=form.dtype) for s in shapes)


class Array(np.ndarray):
    """An array that a weak reference can point at, and that tells when it is gone."""


def surface_of(planes: tuple[np.ndarray, ...], bits: int, pitch: int = 0) -> DevicePlanes:
    """What a decoder would leave, made with numpy alone; rows padded to `pitch` samples."""
    luma, u, v = (plane << (0 if bits == 8 else 16 - bits) for plane in planes)
    (height, width), dtype = luma.shape, luma.dtype
    pitch = max(pitch, width)
    block = np.full((height + height // 2, pitch), 0xAB, dtype).view(Array)
    block[:height, :width] = luma
    chroma = block[height:, :width].reshape(height // 2, width // 2, 2, copy=False)
    chroma[..., 0], chroma[..., 1] = u, v
    return DevicePlanes(luma=block[:height, :width], chroma=chroma, width=width, height=height)


def frame_of(surface: DevicePlanes, bits: int, pts: int = 0) -> Frame:
    return Frame(
        planes=(),
        surface=surface,
        format=layout(bits),
        color=COLOR,
        pts=pts,
        time_base=Fraction(1, 25),
    )


def frames(count: int, bits: int = 8, *, left: bool, size: tuple[int, int] = (64, 64)):
    made = []
    for n in range(count):
        planes = planes_of(bits, *size, n)
        frame = frame_of(surface_of(planes, bits, size[0] + 10), bits, n)
        host = Frame(
            planes=planes, format=layout(bits), color=COLOR, pts=n, time_base=Fraction(1, 25)
        )
        made.append(frame if left else host)
    return made


sides = st.integers(1, 24).map(lambda half: 2 * half)


@given(sides, sides, st.sampled_from([8, 10, 12, 16]), st.integers(0, 9))
def test_a_surface_is_taken_apart_exactly(width: int, height: int, bits: int, padding: int):
    planes = planes_of(bits, width, height, padding)
    surface = surface_of(planes, bits, width + padding)
    for ours, expected in zip(taken_apart(surface, bits), planes, strict=True):
        np.testing.assert_array_equal(ours.numpy(), expected)
    for ours, expected in zip(host_planes(frame_of(surface, bits)), planes, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_eight_bits_are_not_copied():
    surface = surface_of(planes_of(8, 32, 16, 0), 8)
    luma, u, v = taken_apart(surface, 8)
    assert luma.data_ptr() == surface.luma.ctypes.data
    assert (u.data_ptr(), v.data_ptr()) == tuple(surface.chroma.ctypes.data + k for k in (0, 1))


@given(sides, sides, st.sampled_from([8, 10]), st.integers(0, 9))
def test_what_the_pool_lays_out_is_what_ffmpeg_reads(width: int, height: int, bits: int, seed: int):
    planes = planes_of(bits, width, height, seed)
    pool = SurfacePool(CPU, picture(bits, width, height))
    surface = pool.put([torch.from_numpy(plane) for plane in planes])
    for ours, expected in zip(taken_apart(surface, bits), planes, strict=True):
        np.testing.assert_array_equal(ours.numpy(), expected)
    if height < 4:  # DLPack has no stride for one row of chroma
        return
    seen = av.VideoFrame.from_dlpack((surface.luma, surface.chroma), format=NAMES[bits])
    luma, chroma = (
        np.frombuffer(plane, planes[0].dtype).reshape(plane.height, -1)[:, :width]
        for plane in seen.planes
    )
    shift = 0 if bits == 8 else 16 - bits
    for ours, expected in zip((luma, chroma[:, ::2], chroma[:, 1::2]), planes, strict=True):
        np.testing.assert_array_equal(ours >> shift, expected)


@pytest.mark.parametrize("bits", [8, 10])
def test_chroma_lies_right_behind_luma(bits: int):
    """NVENC is told only where luma begins, and how long a row is."""
    pool = SurfacePool(CPU, picture(bits, 100, 70))
    surface = pool.put([torch.from_numpy(p) for p in planes_of(bits, 100, 70, 0)])
    luma, chroma = (torch.from_dlpack(a.__dlpack__()) for a in (surface.luma, surface.chroma))
    row = luma.stride(0) * luma.element_size()
    assert row % 256 == 0
    assert chroma.stride(0) == luma.stride(0)
    assert chroma.data_ptr() == luma.data_ptr() + 70 * row


def test_memory_is_used_again_only_when_nobody_holds_it():
    pool = SurfacePool(CPU, picture(8))
    planes = [torch.from_numpy(p) for p in planes_of(8, 64, 64, 0)]
    others = [torch.from_numpy(p) for p in planes_of(8, 64, 64, 1)]
    held = pool.put(planes)
    taken = av.VideoFrame.from_dlpack((held.luma, held.chroma), format="nv12")
    second = pool.put(others)
    assert pool.size == 2
    del held, second  # the encoder still reads the first
    for _ in range(5):
        pool.put(others)
    assert pool.size == 2
    np.testing.assert_array_equal(taken.to_ndarray()[:64], planes[0].numpy())
    capsule = pool.put(planes).chroma.__dlpack__()
    for _ in range(3):
        pool.put(others)
    assert pool.size == 3  # the encoder's, the capsule's, and one that is free again
    del taken, capsule
    gc.collect()
    kept = [pool.put(planes) for _ in range(3)]
    assert pool.size == 3
    kept.append(pool.put(planes))
    assert pool.size == 4


@pytest.mark.parametrize(
    ("form", "size", "expected"),
    [
        (layout(8), (64, 64), True),
        (layout(10), (640, 360), True),
        (layout(12), (64, 64), False),
        (layout(8), (65, 64), False),
        (layout(8), (64, 62), False),
        (PixelFormat(family="yuv"), (64, 64), False),
        (PixelFormat(family="yuv", chroma_w=1, chroma_h=1, alpha=True), (64, 64), False),
        (PixelFormat(family="rgb"), (64, 64), False),
        (PixelFormat(family="gray"), (64, 64), False),
    ],
)
def test_which_pictures_are_left_on_a_device(form, size, expected):
    assert fits(Picture(width=size[0], height=size[1], format=form, color=COLOR)) is expected


def test_a_frame_has_one_picture():
    planes = planes_of(8, 4, 4, 0)
    frame = frame_of(surface_of(planes, 8), 8)
    assert (frame.width, frame.height, frame.nbytes) == (4, 4, 24)
    with pytest.raises(UsageError, match="got both"):
        Frame(
            planes=planes,
            surface=frame.surface,
            format=layout(8),
            color=COLOR,
            pts=0,
            time_base=Fraction(1),
        )


# ---------------------------------------------------------------- lanes


class Event:
    notes: list = []  # noqa: RUF012

    def __init__(self, **_):
        self.id = id(self)

    def record(self, stream=None):
        self.notes.append(("record", self.id, getattr(stream, "name", None)))

    def synchronize(self):
        self.notes.append(("synchronize", self.id))


class Stream:
    def __init__(self, name="side"):
        self.name = name

    def wait_event(self, event):
        Event.notes.append(("wait", event.id))

    def synchronize(self):
        Event.notes.append(("synchronize stream",))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def no_gpu(monkeypatch):
    """Lets a `CudaLane` run on the processor, in order."""
    monkeypatch.setattr(Event, "notes", [])
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: Stream())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: Stream())
    monkeypatch.setattr(torch.cuda, "default_stream", lambda *_: Stream("default"))
    for name in ("empty", "zeros"):
        real = getattr(torch, name)

        def pageable(*sizes, real=real, **options):
            options.pop("pin_memory", None)
            return real(*sizes, **options)

        monkeypatch.setattr(torch, name, pageable)
    return Event


def kernel(source: Picture, target: Picture) -> Route:
    return Route(Interpolation("bicubic", 2), source, target)


def doubled(bits: int) -> Picture:
    return picture(bits, 128, 128)


def run(lane, given, bits):
    tickets = []
    with torch.inference_mode():
        for start in range(0, len(given), 2):
            ticket = lane.submit(given[start : start + 2], kernel(picture(bits), doubled(bits)))
            tickets += ticket.collect()[0]
    return tickets


def assert_alike(ours, expected):
    assert len(ours) == len(expected)
    for a, b in zip(ours, expected, strict=True):
        for p, q in zip(a, b, strict=True):
            np.testing.assert_array_equal(p, q)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("bits", [8, 10])
def test_every_lane_takes_surfaces_and_planes_alike(bits):
    expected = run(HostLane(picture(bits), 2), frames(5, bits, left=False), bits)
    left = frames(5, bits, left=True)
    mixed = [*left[:1], *frames(5, bits, left=False)[1:4], left[4]]
    for some in (left, mixed):
        assert_alike(run(HostLane(picture(bits), 2), some, bits), expected)
        lane = CudaLane(CPU, picture(bits), doubled(bits), 2)
        assert_alike(run(lane, some, bits), expected)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("bits", [8, 10])
def test_results_left_on_the_device_are_the_same(bits):
    expected = run(HostLane(picture(bits), 2), frames(5, bits, left=False), bits)
    lane = CudaLane(CPU, picture(bits), doubled(bits), 2)
    assert lane.leave_results()
    ours = run(lane, frames(5, bits, left=False), bits)
    assert all(isinstance(made, DevicePlanes) for made in ours)
    assert_alike([host_planes(frame_of(made, bits)) for made in ours], expected)
    assert not HostLane(picture(bits), 2).leave_results()


@pytest.mark.usefixtures("no_gpu")
def test_a_picture_that_no_engine_takes_is_not_left():
    target = Picture(width=128, height=128, format=PixelFormat(family="rgb"), color=COLOR)
    assert not CudaLane(CPU, picture(8), target, 1).leave_results()


def gone(references):
    gc.collect()
    return [reference() is None for reference in references]


@pytest.mark.usefixtures("no_gpu")
def test_the_decoder_gets_its_memory_back_after_the_upload():
    """Not before: it would write the next picture over one that is being read."""
    lane = CudaLane(CPU, picture(8), doubled(8), 2)
    given = frames(2, left=True)
    references = [weakref.ref(frame.surface.luma.base) for frame in given]
    ticket = lane.submit(given, kernel(picture(8), doubled(8)))
    del given
    assert gone(references) == [False, False]
    results, finite = ticket.collect()
    assert finite
    assert len(results) == 2
    assert gone(references) == [True, True]


def test_uploads_wait_for_the_decoder(no_gpu):
    lane = CudaLane(CPU, picture(8), doubled(8), 1)
    no_gpu.notes.clear()
    lane.submit(frames(1, left=False), kernel(picture(8), doubled(8))).collect()
    assert not [note for note in no_gpu.notes if note[-1] == "default"]
    no_gpu.notes.clear()
    lane.submit(frames(1, left=True), kernel(picture(8), doubled(8))).collect()
    (recorded,) = [n for n, note in enumerate(no_gpu.notes) if note[-1] == "default"]
    assert no_gpu.notes[recorded + 1] == ("wait", no_gpu.notes[recorded][1])


def test_a_batch_that_fails_lets_go(no_gpu):
    lane = CudaLane(CPU, picture(8), doubled(8), 2)
    given = frames(1, left=True)
    references = [weakref.ref(given[0].surface.luma.base)]

    def failing(_):
        raise torch.OutOfMemoryError

    for _ in range(5):  # more often than there are slots
        with pytest.raises(torch.OutOfMemoryError):
            lane.submit(given, failing)
    assert ("synchronize stream",) in no_gpu.notes
    del given
    assert gone(references) == [True]
    assert len(run(lane, frames(3, left=True), 8)) == 3


def test_upload_gives_back_what_must_be_kept():
    given = [*frames(1, left=False), *frames(2, left=True)]
    views = tuple(torch.zeros(3, *s, dtype=torch.uint8) for s in layout(8).plane_shapes(64, 64))
    kept = upload(given, views)
    assert [id(surface) for surface in kept] == [id(frame.surface) for frame in given[1:]]
    assert not views[0][0].any()
    np.testing.assert_array_equal(views[1][2].numpy(), planes_of(8, 64, 64, 1)[1])


# ---------------------------------------------------------------- streams


class Nearest:
    spec = InputSpec(scale=2, channels=1, overlap=0)

    def __call__(self, x):
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def streamed(given, bits=8):
    upscaler = FrameUpscaler(
        lambda _: Nearest(), CPU, picture(bits), doubled(bits), Settings(batch=2)
    )
    return upscaler, list(upscaler(given))


@pytest.mark.parametrize("bits", [8, 10])
def test_a_stream_of_surfaces_gives_what_planes_give(bits, caplog):
    _, expected = streamed(frames(5, bits, left=False), bits)
    with caplog.at_level(logging.INFO, "vsr"):
        _, ours = streamed(frames(5, bits, left=True), bits)
    assert [frame.pts for frame in ours] == [0, 1, 2, 3, 4]
    assert_alike([f.planes for f in ours], [f.planes for f in expected])
    assert all(frame.surface is None for frame in ours)
    assert caplog.text.count("repeated pictures are not looked for") == 1


def test_surfaces_are_never_taken_for_repeats():
    """Their planes are empty, and all empty ones are alike."""
    upscaler, ours = streamed([frames(1, left=True)[0]] * 3 + frames(3, left=True))
    assert upscaler.reused == 0
    assert len({frame.planes[0].tobytes() for frame in ours}) == 3
