"""Several devices as one: order, bytes, shares, failures, NaN, memory, early ends."""

import itertools
import json
import logging
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit.test_engine_stream import (
    COLOR,
    CPU,
    FORMAT,
    Nearest,
    NeedsMemory,
    make_frames,
    repeated,
)
from vsr.engine import fleet as fleets
from vsr.engine.assembly import Wishes, frame_upscaler
from vsr.engine.color import Picture
from vsr.engine.dealing import Share
from vsr.engine.devices import described, resolve_devices
from vsr.engine.fleet import Fleet
from vsr.engine.ledger import Ledger
from vsr.engine.loading import find_model
from vsr.engine.repeats import Shot
from vsr.engine.stream import FrameUpscaler, Settings
from vsr.errors import DeviceError, NonFiniteError, OutOfMemoryError, UsageError

SOURCE = Picture(width=32, height=24, format=FORMAT, color=COLOR)
TARGET = Picture(width=64, height=48, format=FORMAT, color=COLOR)
AT_ONCE = Settings()


def one(make, settings=AT_ONCE):
    return FrameUpscaler(make, CPU, SOURCE, TARGET, settings)


def fleet(*makes, settings=AT_ONCE):
    """One member for each; each makes a network of settings."""
    return Fleet([one(make, settings) for make in makes], SOURCE, TARGET)


def slow(seconds, inner=None):
    def wait(x):
        time.sleep(seconds)
        return x if inner is None else inner(x)

    return lambda _: Nearest(fail=wait)


def failing(after, error=None):
    """A network that works so many times."""
    calls = itertools.count()

    def fail(x):
        if next(calls) >= after:
            raise error or RuntimeError("CUDA error: unspecified launch failure\nmore lines")
        time.sleep(0.002)
        return x

    return lambda _: Nearest(fail=fail)


def same(given, expected):
    given, expected = list(given), list(expected)
    assert [(f.pts, f.duration, f.time_base, f.format, f.color) for f in given] == [
        (f.pts, f.duration, f.time_base, f.format, f.color) for f in expected
    ]
    for a, b in zip(given, expected, strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(a.planes, b.planes, strict=True))
    return True


def plain(_):
    return Nearest()


@pytest.fixture(autouse=True)
def nothing_is_left():
    threads, cores = threading.enumerate(), torch.get_num_threads()
    yield
    assert threading.enumerate() == threads
    assert torch.get_num_threads() == cores


@pytest.mark.parametrize("members", [1, 2, 3])
@pytest.mark.parametrize(("batch", "workers"), [(1, 1), (3, 1), (2, 2)])
def test_frames_are_those_of_one_device_in_order(members, batch, workers):
    frames, settings = make_frames(23), Settings(batch=batch, workers=workers)
    run = fleet(*[plain] * members, settings=settings)
    assert same(run(frames), one(plain, settings)(frames))
    assert same(run(frames[:5]), one(plain, settings)(frames[:5]))  # and once more
    assert sum(run.dealt) == 28
    assert list(run([])) == []


@pytest.mark.parametrize("part", [None, 1, 4])
@pytest.mark.parametrize("pattern", [[0, 0, 1, 1, 2, 2, 0], [0] * 40 + [1], [0, 1, 1, 1, 2]])
def test_the_groups_are_those_of_one_device(pattern, part):
    """What shares a batch decides about the last bit, and a picture that stays is computed once."""

    def seen(made, shapes):
        made.part = part
        assert same(made(repeated(pattern)), one(plain)(repeated(pattern)))
        return sorted(shapes), made.reused

    settings, networks = Settings(batch=3), [Nearest(), Nearest(), Nearest()]
    alone = one(lambda _: networks[0], settings)
    both = fleet(lambda _: networks[1], lambda _: networks[2], settings=settings)
    expected = seen(alone, networks[0].shapes)
    shapes = networks[1].shapes
    networks[2].shapes = shapes
    assert seen(both, shapes) == expected


@pytest.mark.parametrize("sizes", [(1, 4), (4, 1)])
def test_a_member_of_smaller_batches_does_groups_in_parts(sizes):
    frames, members = make_frames(30), [one(slow(0.002), Settings(batch=size)) for size in sizes]
    run = Fleet(members, SOURCE, TARGET)
    assert run.settings.batch == 4
    assert same(run(frames), one(plain)(frames))
    assert all(run.dealt)


def test_a_fast_member_does_more_than_a_slow_one():
    run = fleet(slow(0.04), slow(0.01))
    assert same(run(frames := make_frames(60)), one(plain)(frames))
    assert sum(run.dealt) == 60
    assert run.dealt[1] > 1.7 * run.dealt[0] > 0


def test_one_network_of_the_catalogue_gives_the_same_bytes_on_every_number_of_members():
    model = find_model("auto", factor=2)
    frames = make_frames(10)
    source = replace(SOURCE)
    given = {}
    for devices in ("cpu", "cpu,cpu", "cpu, cpu,cpu"):
        wishes = Wishes(device=devices, precision="fp32", frames=10)
        given[devices] = list(frame_upscaler(model, source, TARGET, wishes)(frames))
    assert same(given["cpu,cpu"], given["cpu"])
    assert same(given["cpu, cpu,cpu"], given["cpu"])


def test_members_share_the_threads_of_the_machine():
    cores, seen = torch.get_num_threads(), set()

    def look(x):
        seen.add((threading.current_thread().name, torch.get_num_threads()))
        time.sleep(0.01)
        return x

    torch.set_num_threads(4)
    try:
        run = fleet(*[lambda _: Nearest(fail=look)] * 2)
        list(run(make_frames(12)))
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(cores)
    assert seen == {("vsr-device-0", 2), ("vsr-device-1", 2)}


@pytest.mark.parametrize("after", [0, 1, 5])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_member_that_fails_is_left_out_and_its_work_redone(after, workers, caplog):
    frames, settings = make_frames(40), Settings(batch=2, workers=workers)
    run = fleet(slow(0.002), failing(after), settings=settings)
    assert run.where == "cpu,cpu"
    with caplog.at_level(logging.WARNING, "vsr"):
        assert same(run(frames), one(plain)(frames))
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert "cpu (number 2) failed" in record.getMessage()
    assert "unspecified launch failure" in record.getMessage()
    assert run.where == "cpu"
    assert run.dealt[0] + 2 * after >= 40
    assert same(run(frames), one(plain)(frames))  # and stays out


class Broken:
    """A lane whose batches fail when they are collected, or when the lane is entered."""

    depth = 1

    def __init__(self, inner, *, collects=0, enters=True):
        self.inner, self.collects, self.enters = inner, collects, enters

    def __enter__(self):
        if not self.enters:
            msg = "no kernel image"
            raise RuntimeError(msg)
        self.inner.__enter__()

    def __exit__(self, *error):
        self.inner.__exit__(*error)

    def submit(self, frames, kernel):
        ticket, lane = self.inner.submit(frames, kernel), self

        class Late:
            def collect(self):
                lane.collects -= 1
                if lane.collects < 0:
                    msg = "illegal memory access"
                    raise RuntimeError(msg)
                return ticket.collect()

        return Late()


@pytest.mark.parametrize("how", [{"collects": 0}, {"collects": 3}, {"enters": False}])
def test_a_failure_that_shows_at_another_moment_is_the_same(how, caplog):
    frames, members = make_frames(30), [one(plain), one(slow(0.002))]
    members[0]._lane = Broken(members[0]._lane, **how)
    with caplog.at_level(logging.WARNING, "vsr"):
        assert same(Fleet(members, SOURCE, TARGET)(frames), one(plain)(frames))
    assert len(caplog.records) == 1


def test_the_last_failure_is_the_jobs_after_what_was_done(caplog):
    run = fleet(failing(2, RuntimeError("first")), failing(4, RuntimeError("second")))
    out = []
    with (
        caplog.at_level(logging.WARNING, "vsr"),
        pytest.raises(RuntimeError, match=r"first|second"),
    ):
        out.extend(run(make_frames(20)))
    assert len(caplog.records) == 1
    with pytest.raises(RuntimeError, match=r"first|second"):  # the next stream says so too
        list(run(make_frames(2)))


def test_out_of_memory_is_a_members_own_business(caplog):
    frames = make_frames(48)
    tight = NeedsMemory(2 * 32 * 24, torch.OutOfMemoryError("CUDA out of memory"))
    small, large = Nearest(fail=tight), Nearest(fail=lambda x: time.sleep(0.01) or x)
    run = fleet(lambda _: small, lambda _: large, settings=Settings(batch=8))
    with caplog.at_level(logging.WARNING, "vsr"):
        assert same(run(frames), one(plain)(frames))
    assert max(shape[0] for shape in small.shapes[2:]) == 2
    assert {shape[0] for shape in large.shapes} == {8}
    assert run.where == "cpu,cpu"


def test_out_of_memory_for_good_takes_a_member_out():
    never = NeedsMemory(0, torch.OutOfMemoryError("no"))
    frames = make_frames(10)
    run = fleet(lambda _: Nearest(fail=never, tiling="none"), slow(0.002))
    assert same(run(frames), one(plain)(frames))
    assert run.where == "cpu"
    run = fleet(*[lambda _: Nearest(fail=never, tiling="none")] * 2)
    with pytest.raises(OutOfMemoryError, match="smaller model"):
        list(run(frames))


def test_overflow_is_redone_in_fp32_with_all_that_follows(caplog):
    """Whoever computed it, and whatever others had done already."""
    frames = make_frames(20)
    bad = frames[7].planes[0][0, 0] = 255
    for n, frame in enumerate(frames):
        frame.planes[0][0, 0] = bad if n == 7 else 20

    def make(settings):
        def fail(x):
            time.sleep(0.003)
            half = settings.precision == "fp16"
            x = x.clamp(max=0.5) if half else x  # half precision shows
            broken = half and bool((x[:, :, 0, 0] > 0.49).any())
            return x.index_fill(3, torch.tensor([3]), float("inf")) if broken else x

        return Nearest(1, fail=fail)

    for members in (1, 2, 3):
        caplog.clear()
        run = fleet(*[make] * members, settings=Settings(precision="fp16"))
        with caplog.at_level(logging.WARNING, "vsr"):
            out = list(run(frames))
        assert ["fp16 overflowed" in r.message for r in caplog.records] == [True]
        for workers in (1, 3):  # on one device too, what was under way is done again
            assert same(out, one(make, Settings(precision="fp16", workers=workers))(frames))
        assert not np.array_equal(out[6].planes[0], frames[6].planes[0].repeat(2, 0).repeat(2, 1))
        assert np.array_equal(out[7].planes[0], frames[7].planes[0].repeat(2, 0).repeat(2, 1))
        assert np.array_equal(out[8].planes[0], frames[8].planes[0].repeat(2, 0).repeat(2, 1))
        assert run.settings.precision == run.way["precision"] == "fp32"


def test_what_is_redone_comes_first_and_nothing_is_begun_beyond_the_window():
    shares = [Share(room=9, parallel=9), Share(room=9, parallel=9)]
    ledger = Ledger(shares, ahead=9, window=4, clock=lambda: 0.0)
    for frame in make_frames(8):
        assert ledger.offer([Shot(frame, new=True)])
    first, second = (ledger.work(share) for share in shares)
    held = [next(first), next(first)]
    assert [next(second).number, *(task.number for task in held)] == [2, 0, 1]
    assert ledger.leave(shares[0], held, RuntimeError("gone"))
    assert [next(second).number for _ in range(3)] == [0, 1, 3]
    assert next(second) is None
    assert shares[0].dealt == 0


def test_not_a_number_in_fp32_is_the_jobs_error():
    run = fleet(*[lambda _: Nearest(fail=lambda x: x * float("nan"))] * 2)
    with pytest.raises(NonFiniteError, match="checkpoint"):
        list(run(make_frames(6)))


def test_a_consumer_may_stop_early():
    for count in (0, 1, 6):
        out = fleet(slow(0.002), slow(0.002))(iter(make_frames(30)))
        for _ in range(count):
            next(out)
        out.close()


def test_an_error_of_the_source_comes_after_the_frames_before_it():
    def source():
        yield from make_frames(5)
        msg = "the cable"
        raise OSError(msg)

    out = []
    with pytest.raises(OSError, match="the cable"):
        out.extend(fleet(slow(0.01), plain)(source()))
    assert len(out) == 5


def test_what_is_done_leaves_though_the_next_frame_has_yet_to_come():
    more, frames = threading.Event(), make_frames(4)

    def source():
        yield from frames[:3]
        assert more.wait(20)
        yield frames[3]

    out = fleet(plain, plain, settings=Settings(batch=8))(source(), lambda: True)
    assert [next(out).pts for _ in range(3)] == [frame.pts for frame in frames[:3]]
    more.set()
    assert [frame.pts for frame in out] == [frames[3].pts]


def test_memory_is_bounded_while_one_member_takes_its_time(monkeypatch):
    monkeypatch.setattr(fleets, "_MOST_GROUPS", 6)
    gate, given = threading.Event(), []
    done = itertools.count()

    def hold(x):
        if next(done) == 0:
            assert gate.wait(20)
        return x

    def endless():
        (frame,) = make_frames(1)
        for n in itertools.count():
            given.append(n)
            planes = tuple(plane.copy() for plane in frame.planes)
            planes[0][0, 0] = 16 + n % 200
            yield replace(frame, pts=n, planes=planes)

    out = fleet(lambda _: Nearest(fail=hold), plain)(endless())
    time.sleep(0.01)
    taken = threading.Thread(target=lambda: next(out))
    taken.start()
    before = -1
    while len(given) != before:
        before = len(given)
        time.sleep(0.2)
    assert before < 20
    gate.set()
    taken.join()
    assert [next(out).pts for _ in range(50)] == list(range(1, 51))
    out.close()


def test_faces_and_restarts_come_in_order():
    run, told = fleet(slow(0.003), plain), []
    run.part = 4
    run.finish = lambda frame, planes: told.append(frame.pts) or planes
    run.restart = lambda: told.append("restart")
    frames = make_frames(8)
    list(run(frames))
    pts = [frame.pts for frame in frames]
    assert told == ["restart", *pts[:4], "restart", *pts[4:]]


@pytest.mark.parametrize(
    ("devices", "error", "words"),
    [
        ("", UsageError, "names no device"),
        ("cpu,", UsageError, "names no device"),
        ("cpu,auto", UsageError, "auto cannot be one"),
        ("cpu,gpu", UsageError, "unknown device 'gpu'"),
        ("cpu,cuda:99", DeviceError, "cuda:99"),
    ],
)
def test_a_list_that_cannot_be_used_is_one_line(devices, error, words):
    model = find_model("bicubic", factor=2)
    with pytest.raises(error, match=words) as caught:
        frame_upscaler(model, SOURCE, TARGET, Wishes(device=devices))
    assert "\n" not in str(caught.value)


def test_one_gpu_twice_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(d) for d in resolve_devices("cuda:1,cpu,cuda")] == ["cuda:1", "cpu", "cuda:0"]
    with pytest.raises(UsageError, match="cuda:0 is named twice"):
        resolve_devices("cuda,cpu,cuda:0")


def test_memory_and_workers_are_shared_and_the_way_goes_on():
    model, cores = find_model("bicubic", factor=2), torch.get_num_threads()
    wishes = Wishes(device="cpu,cpu", frames=None, max_memory=1 << 30)
    torch.set_num_threads(4)
    try:
        run = frame_upscaler(model, SOURCE, TARGET, wishes)
        alone = frame_upscaler(model, SOURCE, TARGET, replace(wishes, device="cpu"))
        again = frame_upscaler(model, SOURCE, TARGET, replace(wishes, **run.way))
        fewer = frame_upscaler(model, SOURCE, TARGET, replace(wishes, device="cpu", **run.way))
        more = frame_upscaler(model, SOURCE, TARGET, replace(wishes, **alone.way))
    finally:
        torch.set_num_threads(cores)
    assert isinstance(run, Fleet)
    assert run.settings.max_memory == 1 << 29
    assert (run.way["workers"], alone.way["workers"]) == (2, 4)
    assert run.way == again.way == more.way
    assert fewer.way == alone.way
    assert json.loads(json.dumps(run.way)) == run.way


def test_equal_devices_are_described_as_one():
    assert described("cpu,cpu") == described("cpu")
    assert described("cpu").startswith("cpu (")
