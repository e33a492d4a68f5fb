"""Order, times, memory failures and NaN in the steady state."""

import itertools
import logging
import threading
import time
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from vsr.engine.color import Picture
from vsr.engine.ensemble import Ensemble
from vsr.engine.repeats import same_picture
from vsr.engine.stream import FrameUpscaler, Settings
from vsr.engine.tiled import Chained, Padded, Tiled
from vsr.errors import NonFiniteError, OutOfMemoryError, UsageError
from vsr.models._base import InputSpec
from vsr.types import ColorSpec, Frame, PixelFormat

CPU = torch.device("cpu")
FORMAT = PixelFormat(family="yuv", chroma_w=1, chroma_h=1)
COLOR = ColorSpec(matrix=1, full_range=False, siting=1)


def make_frames(count, width=32, height=24):
    generator = np.random.default_rng(3)
    shapes = FORMAT.plane_shapes(width, height)
    return [
        Frame(
            planes=tuple(generator.integers(16, 236, s, dtype=np.uint8) for s in shapes),
            format=FORMAT,
            color=COLOR,
            pts=100 + 7 * n * n,
            duration=n,
            time_base=Fraction(1, 90),
        )
        for n in range(count)
    ]


class Nearest:
    """Repeats pixels; may fail on purpose."""

    def __init__(self, channels=3, *, fail=None, tiling="exact", overlap=0):
        self.spec = InputSpec(scale=2, channels=channels, overlap=overlap, tiling=tiling)
        self.fail = fail or (lambda x: x)
        self.shapes = []

    def __call__(self, x):
        self.shapes.append(tuple(x.shape))
        return self.fail(x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def upscaler(make, *, settings=Settings(), width=32, height=24):  # noqa: B008
    source = Picture(width=width, height=height, format=FORMAT, color=COLOR)
    target = Picture(width=2 * width, height=2 * height, format=FORMAT, color=COLOR)
    return FrameUpscaler(make, CPU, source, target, settings)


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("workers", [1, 3])
def test_frames_come_in_order_with_their_times(batch, channels, workers):
    frames = make_frames(7)
    settings = Settings(batch=batch, workers=workers)
    out = list(upscaler(lambda _: Nearest(channels), settings=settings)(frames))
    assert [(f.pts, f.duration, f.time_base) for f in out] == [
        (f.pts, f.duration, f.time_base) for f in frames
    ]
    alone = [next(iter(upscaler(lambda _: Nearest(channels))([f]))) for f in frames]
    for a, b in zip(out, alone, strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(a.planes, b.planes, strict=True))


def test_a_range_that_changes_midway_is_honoured():
    limited, full = make_frames(2)
    full = replace(full, planes=limited.planes, color=replace(COLOR, full_range=True))
    a, b = upscaler(lambda _: Nearest(1), settings=Settings(batch=2))([limited, full])
    assert a.color == b.color == COLOR
    expected = np.rint(full.planes[0] * (219 / 255) + 16).repeat(2, 0).repeat(2, 1)
    assert np.array_equal(b.planes[0], expected)
    assert np.array_equal(a.planes[0], limited.planes[0].repeat(2, 0).repeat(2, 1))


def test_luma_stays_exact_beside_the_network():
    (frame,) = make_frames(1)
    (out,) = upscaler(lambda _: Nearest(1))([frame])
    assert np.array_equal(out.planes[0], frame.planes[0].repeat(2, 0).repeat(2, 1))


def test_the_first_frame_leaves_before_the_second_is_needed():
    taken = []

    def source():
        for frame in make_frames(3):
            taken.append(frame.pts)
            yield frame

    next(upscaler(lambda _: Nearest())(source()))
    assert len(taken) <= 2


class NeedsMemory:
    """Fails above a number of pixels, as a device would."""

    def __init__(self, limit, error):
        self.limit, self.error = limit, error

    def __call__(self, x):
        if x.shape[0] * x.shape[2] * x.shape[3] > 4 * self.limit:
            raise self.error
        return x


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_out_of_memory_halves_and_redoes_the_same_frames(caplog, error, workers):
    frames = make_frames(9)

    def make(settings):
        network = Nearest(fail=NeedsMemory(2 * 32 * 24, error))
        return Tiled(network, settings.tile) if settings.tile else network

    with caplog.at_level(logging.WARNING, "vsr"):
        run = upscaler(make, settings=Settings(batch=8, workers=workers))
        out = list(run(frames))
    assert run.settings.batch == 2
    assert [f.pts for f in out] == [f.pts for f in frames]
    expected = list(upscaler(lambda _: Nearest())(frames))
    for a, b in zip(out, expected, strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(a.planes, b.planes, strict=True))
    assert sum("out of memory" in r.message for r in caplog.records) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_out_of_memory_then_tiles(caplog, workers):
    frames = make_frames(3, 64, 48)

    def make(settings):
        network = Nearest(fail=NeedsMemory(20 * 20, torch.OutOfMemoryError("no")), overlap=2)
        return Tiled(network, settings.tile) if settings.tile else network

    run = upscaler(make, settings=Settings(workers=workers), width=64, height=48)
    with caplog.at_level(logging.WARNING, "vsr"):
        out = list(run(frames))
    assert run.settings.tile == 16
    expected = list(upscaler(lambda _: Nearest(), width=64, height=48)(frames))
    assert len(out) == 3
    for a, b in zip(out, expected, strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(a.planes, b.planes, strict=True))


def test_out_of_memory_for_good_is_one_clear_error():
    network = Nearest(fail=NeedsMemory(0, torch.OutOfMemoryError("no")), overlap=2)
    run = upscaler(lambda s: Tiled(network, s.tile) if s.tile else network)
    with pytest.raises(OutOfMemoryError, match="smaller model"):
        list(run(make_frames(1)))


def test_other_runtime_errors_are_not_swallowed():
    def fail(_):
        msg = "shape mismatch"
        raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="shape mismatch"):
        list(upscaler(lambda _: Nearest(fail=fail))(make_frames(1)))


def overflowing(settings, calls):
    """Gives infinity in half precision from the third batch on."""

    def fail(x):
        calls.append(settings.precision)
        broken = settings.precision != "fp32" and len(calls) > 2
        return x.index_fill(3, torch.tensor([3]), float("inf")) if broken else x

    return Nearest(fail=fail)


def test_overflow_redoes_in_fp32_and_stays_there(caplog):
    calls = []
    run = upscaler(lambda s: overflowing(s, calls), settings=Settings(precision="fp16"))
    frames = make_frames(6)
    with caplog.at_level(logging.WARNING, "vsr"):
        out = list(run(frames))
    assert [f.pts for f in out] == [f.pts for f in frames]
    assert calls == ["fp16"] * 3 + ["fp32"] * 4
    assert run.settings.precision == "fp32"
    assert len(caplog.records) == 1
    expected = list(upscaler(lambda _: Nearest())(frames))
    for a, b in zip(out, expected, strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(a.planes, b.planes, strict=True))


def test_not_a_number_in_fp32_is_an_error():
    run = upscaler(lambda _: Nearest(fail=lambda x: x * float("nan")))
    with pytest.raises(NonFiniteError, match="checkpoint"):
        list(run(make_frames(1)))


def test_padding_meets_the_networks_demands():
    class Picky(Nearest):
        def __init__(self):
            super().__init__()
            self.spec = InputSpec(scale=2, overlap=0, multiple_of=4, minimum=16)

        def __call__(self, x):
            assert x.shape[2] % 4 == x.shape[3] % 4 == 0
            assert min(x.shape[2:]) >= 16
            return super().__call__(x)

    for height, width in ((1, 1), (1, 90), (3, 5), (16, 16), (31, 17)):
        x = torch.rand(1, 3, height, width)
        assert torch.equal(Padded(Picky())(x), Nearest()(x))


def test_every_tile_has_one_shape():
    network = Nearest(overlap=3)
    x = torch.rand(2, 3, 50, 41)
    assert torch.equal(Tiled(network, 16)(x), Nearest()(x))
    assert set(network.shapes) == {(2, 3, 16, 16)}


def test_a_tile_that_keeps_nothing_is_refused():
    with pytest.raises(UsageError, match="at least 41"):
        Tiled(Nearest(overlap=20), 32)


def test_an_untileable_network_is_refused():
    with pytest.raises(UsageError, match="whole picture"):
        Tiled(Nearest(tiling="none"), 64)


def test_chaining_multiplies_scales():
    chain = Chained(Nearest(), Nearest())
    assert chain.spec.scale == 4
    assert chain(torch.rand(1, 3, 4, 5)).shape == (1, 3, 16, 20)


def test_ensemble_is_equivariant():
    """The mean over the symmetries commutes with each of them, whatever the network."""
    weight = torch.rand(3, 1, 3, 3)

    class Skewed(Nearest):
        def __call__(self, x):
            y = torch.nn.functional.conv2d(x, weight, padding=1, groups=3)
            return super().__call__(y)

    ensemble, x = Ensemble(Skewed()), torch.rand(1, 3, 6, 9)
    assert torch.allclose(ensemble(x.flip(3)), ensemble(x).flip(3), atol=1e-6)
    turned = torch.rot90(x, 1, (2, 3))
    assert torch.allclose(ensemble(turned), torch.rot90(ensemble(x), 1, (2, 3)), atol=1e-6)
    assert not torch.allclose(Skewed()(x.flip(3)), Skewed()(x).flip(3), atol=1e-3)


class Deep:
    """A lane that computes at once and lets two batches be under way, as a GPU's does."""

    depth = 2

    def __init__(self, inner):
        self.inner = inner

    def __enter__(self):
        self.inner.__enter__()

    def __exit__(self, *error):
        self.inner.__exit__(*error)

    def submit(self, frames, kernel):
        return self.inner.submit(frames, kernel)


def test_workers_have_one_thread_each_and_end_with_the_stream():
    before, cores = threading.enumerate(), torch.get_num_threads()
    torch.set_num_threads(2)
    seen = set()

    def look(y):
        seen.add((threading.current_thread().name, torch.get_num_threads()))
        time.sleep(0.05)
        return y

    try:
        stream = upscaler(lambda _: Nearest(fail=look), settings=Settings(workers=2))
        for count in (6, 1):  # a stream that was left, and the next one
            frames = stream(make_frames(6))
            for _ in range(count):
                next(frames)
            assert torch.get_num_threads() == 2
            frames.close()
            assert threading.enumerate() == before
    finally:
        torch.set_num_threads(cores)
    assert seen == {("vsr-worker_0", 1), ("vsr-worker_1", 1)}


def test_another_error_of_a_worker_is_raised_as_it_is():
    def fail(_):
        msg = "no such operator"
        raise RuntimeError(msg)

    stream = upscaler(lambda _: Nearest(fail=fail), settings=Settings(workers=2))
    with pytest.raises(RuntimeError, match="no such operator"):
        list(stream(make_frames(4)))


@pytest.mark.parametrize("batch", [1, 3])
def test_nothing_waits_for_a_frame_that_has_yet_to_come(batch):
    """Each frame is asked for only after all before it have been handed out."""
    stream = upscaler(lambda _: Nearest(), settings=Settings(batch=batch))
    stream._lane = Deep(stream._lane)
    given, taken = [], []

    def source():
        for frame in make_frames(4):
            assert len(taken) == len(given)
            given.append(frame.pts)
            yield frame

    for frame in stream(source(), lambda: True):
        taken.append(frame.pts)  # noqa: PERF401 - the source looks at it meanwhile
    assert taken == given
    assert len(taken) == 4


def test_what_waits_already_goes_in_full_batches_over_the_whole_depth():
    network = Nearest()
    stream = upscaler(lambda _: network, settings=Settings(batch=2))
    stream._lane = Deep(stream._lane)
    frames = make_frames(8)
    first = next(out := stream(iter(frames), lambda: False))
    assert first.pts == frames[0].pts
    assert [shape[0] for shape in network.shapes] == [2, 2, 2]
    assert len(list(out)) == 7


def repeated(pattern):
    """Frames whose pictures are those of these numbers, each a copy with its own time."""
    made = make_frames(max(pattern) + 1)
    return [
        replace(made[k], pts=n, planes=tuple(plane.copy() for plane in made[k].planes))
        for n, k in enumerate(pattern)
    ]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("pattern", [[0, 0, 1, 1, 2, 2, 0], [0] * 40 + [1], [0, 1, 1, 1, 2]])
def test_a_picture_that_stays_is_computed_once(pattern, batch, workers):
    network = Nearest()
    stream = upscaler(lambda _: network, settings=Settings(batch=batch, workers=workers))
    frames = repeated(pattern)
    out = list(stream(frames))
    changes = 1 + sum(a != b for a, b in itertools.pairwise(pattern))
    assert sum(shape[0] for shape in network.shapes) == changes
    assert stream.reused == len(pattern) - changes
    assert [frame.pts for frame in out] == list(range(len(pattern)))
    expected = [next(iter(upscaler(lambda _: Nearest())([frame]))) for frame in frames]
    for a, b in zip(out, expected, strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(a.planes, b.planes, strict=True))


def test_repeats_after_a_batch_that_is_redone():
    network = Nearest(fail=NeedsMemory(2 * 32 * 24, torch.OutOfMemoryError("no")))
    frames = repeated([0, 1, 2, 3, 3, 3, 4, 4, 5])
    out = list(upscaler(lambda _: network, settings=Settings(batch=6))(frames))
    expected = list(upscaler(lambda _: Nearest())(frames))
    for a, b in zip(out, expected, strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(a.planes, b.planes, strict=True))


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_one_other_sample_or_tag_is_another_picture(plane):
    (frame,) = make_frames(1)
    changed = [p.copy() for p in frame.planes]
    changed[plane][-1, -1] ^= 1
    assert same_picture(frame, replace(frame, pts=5, duration=9))
    assert not same_picture(frame, replace(frame, planes=tuple(changed)))
    assert not same_picture(frame, replace(frame, color=replace(COLOR, full_range=True)))


def test_a_still_scene_does_not_pile_up():
    """Frames come out while an endless still goes in."""
    stream = upscaler(lambda _: Nearest(), settings=Settings(batch=8))
    (frame,) = make_frames(1)
    given = []

    def still():
        for number in itertools.count():
            given.append(number)
            yield replace(frame, pts=number)

    out = stream(still())
    for expected in range(500):
        assert next(out).pts == expected
        assert len(given) - expected < 100
    out.close()
