"""The engine `triton` on a real device: the whole way of a job, its memory, and its streams."""

import logging
import threading
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from vsr.engine.assembly import Wishes, frame_upscaler
from vsr.engine.color import Picture
from vsr.engine.engines import triton
from vsr.engine.engines.triton import TritonNetwork
from vsr.engine.kernels.graphs import CudaRecorder, Graphs
from vsr.engine.loading import find_model
from vsr.engine.network import Network
from vsr.engine.stream import FrameUpscaler, Settings
from vsr.engine.tiled import Padded, Tiled
from vsr.models.compact import ARCH as COMPACT
from vsr.models.compact import Compact, CompactConfig
from vsr.models.rrdb import ARCH as RRDB
from vsr.models.rrdb import RRDBConfig, RRDBNet
from vsr.types import ColorSpec, Frame, PixelFormat

pytestmark = pytest.mark.gpu

DEVICE = torch.device("cuda", 0)
COLOR = ColorSpec(matrix=1, full_range=False, siting=1)
NV = PixelFormat(family="yuv", chroma_w=1, chroma_h=1)
SIZE = (320, 180)


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))


def compact(channels=3, scale=4):
    torch.manual_seed(0)
    config = CompactConfig(channels=channels, features=64, convs=8, scale=scale)
    return Compact(config).eval(), COMPACT.spec(config)


def rrdb(unshuffle=1):
    torch.manual_seed(0)
    config = RRDBConfig(blocks=2, unshuffle=unshuffle)
    return RRDBNet(config).eval(), RRDB.spec(config)


def pictures(scale, fmt=NV, size=SIZE):
    source = Picture(width=size[0], height=size[1], format=fmt, color=COLOR)
    return source, replace(source, width=scale * size[0], height=scale * size[1])


def frames(count, fmt=NV, size=SIZE, seed=0):
    generator = np.random.default_rng(seed)
    shapes = fmt.plane_shapes(*size)
    most = 1 << fmt.bits
    return [
        Frame(
            planes=tuple(generator.integers(0, most, s, dtype=fmt.dtype) for s in shapes),
            format=fmt,
            color=COLOR,
            pts=n,
            time_base=Fraction(1, 25),
        )
        for n in range(count)
    ]


def stream(network, source, target, batch):
    settings = Settings(precision="fp16", batch=batch)
    return FrameUpscaler(lambda _: network, DEVICE, source, target, settings)


def assert_close(ours, theirs, bits=8):
    for a, b in zip(ours, theirs, strict=True):
        for p, q in zip(a.planes, b.planes, strict=True):
            difference = np.abs(p.astype(np.int64) - q.astype(np.int64)) / (1 << (bits - 8))
            assert difference.max() <= triton.MOST_CODES
            assert np.sqrt((difference**2).mean()) <= triton.RMS_CODES


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize(
    "made", [compact(1), compact(3), rrdb(), rrdb(2)], ids=["luma", "rgb", "rrdb", "rrdb x2"]
)
def test_every_frame_equals_the_eager_route(made, bits, caplog, monkeypatch):
    """Many frames, several batches under way, the last one smaller; without a fall-back.

    No clock: the own kernels are taken even where cuDNN is faster.
    """
    monkeypatch.setattr(TritonNetwork, "_clock", None)
    (module, spec), fmt = made, replace(NV, bits=bits)
    source, target = pictures(spec.scale, fmt)
    given = frames(23, fmt)
    network = TritonNetwork(module, spec, DEVICE, "fp16")
    with caplog.at_level(logging.WARNING, "vsr"):
        ours = list(stream(Padded(network), source, target, 3)(given))
    assert not caplog.records
    plain = Network(module, spec, DEVICE, "fp16")
    assert_close(ours, stream(plain, source, target, 3)(given), bits)


def test_both_middles_pass_and_the_faster_one_is_taken(caplog):
    module, spec = compact()
    source, target = pictures(spec.scale)
    network = TritonNetwork(module, spec, DEVICE, "fp16")
    with caplog.at_level(logging.INFO, "vsr"):
        list(stream(network, source, target, 2)(frames(8)))
    (line,) = [r.message for r in caplog.records if r.message.startswith("taking ")]
    for name in ("own kernels", "cuDNN in a graph", "plain"):
        assert name in line
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_the_steady_state_does_not_synchronise(monkeypatch):
    monkeypatch.setattr(TritonNetwork, "_clock", None)
    module, spec = compact(1)
    network = TritonNetwork(module, spec, DEVICE, "fp16")
    results = stream(network, *pictures(spec.scale), 2)(frames(40))
    for _ in range(12):
        next(results)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert sum(1 for _ in results) == 28
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_frames_are_right_while_others_use_the_device(monkeypatch):
    """Allocations and copies of another thread must not touch what a graph reads or writes."""
    monkeypatch.setattr(TritonNetwork, "_clock", None)
    module, spec = compact(1)
    source, target = pictures(spec.scale)
    given = frames(48, seed=7)
    ended = threading.Event()

    def disturb():
        with torch.cuda.stream(torch.cuda.Stream()):
            while not ended.is_set():
                blocks = [torch.full((1 << 20,), float("nan"), device=DEVICE) for _ in range(8)]
                torch.empty(1 << 16, pin_memory=True)
                del blocks

    other = threading.Thread(target=disturb)
    other.start()
    try:
        network = TritonNetwork(module, spec, DEVICE, "fp16")
        ours = list(stream(network, source, target, 2)(given))
    finally:
        ended.set()
        other.join()
    plain = Network(module, spec, DEVICE, "fp16")
    assert_close(ours, stream(plain, source, target, 2)(given))


def test_tiles_share_one_graph(monkeypatch):
    monkeypatch.setattr(TritonNetwork, "_clock", None)
    module, spec = compact()
    network = TritonNetwork(module, spec, DEVICE, "fp16")
    x = torch.rand(2, 3, 200, 330, device=DEVICE)
    with torch.inference_mode():
        wanted = Network(module, spec, DEVICE, "fp16")(x)
        for _ in range(3):
            assert (Tiled(network, 96)(x) - wanted).abs().max() < 2e-2
    assert len(network._whole._fast["own kernels"]) == 1


def test_a_job_takes_it_by_itself_and_gives_its_memory_back():
    model = find_model("vsr-fast", factor=Fraction(2))
    source, target = pictures(2)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    upscaler = frame_upscaler(model, source, target, Wishes(device="cuda", frames=None))
    assert isinstance(upscaler._upscaler.inner, TritonNetwork)
    ours = list(upscaler(frames(9)))
    plain = frame_upscaler(
        model, source, target, Wishes(device="cuda", engine="torch", frames=None)
    )
    assert_close(ours, plain(frames(9)))
    del upscaler, plain
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() - before < 4 << 20


def test_graphs_can_be_captured_again_after_all_are_gone():
    """A pool of memory whose graphs are all gone must not be used again."""
    recorder = CudaRecorder()
    graphs = Graphs(lambda x: 2 * x + 1, recorder=recorder)
    x = torch.rand(64, device=DEVICE)
    kept = graphs(x)
    graphs.clear()
    assert torch.equal(graphs(x), 2 * x + 1)
    assert torch.equal(graphs(x[:32].clone()), 2 * x[:32] + 1)
    assert kept.shape == x.shape


def test_the_stream_is_restored_after_a_capture_that_fails(caplog):
    current = torch.cuda.current_stream()
    graphs = Graphs(lambda x: x * x.sum().item())
    x = torch.ones(4, device=DEVICE)
    with caplog.at_level(logging.WARNING, "vsr"):
        assert torch.equal(graphs(x), 4 * x)
    assert torch.cuda.current_stream() == current
    assert torch.equal(Graphs(lambda x: x + 1)(x), x + 1)


def test_no_memory_for_graphs_is_no_obstacle():
    """The allocator is capped so that the eager route fits and little else."""
    module, spec = compact(1)
    source, target = pictures(spec.scale, size=(960, 540))
    given = frames(6, size=(960, 540))
    plain = list(stream(Network(module, spec, DEVICE, "fp16"), source, target, 2)(given))
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    used = torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction((used + 450e6) / total)
    try:

        def make(settings):
            inner = TritonNetwork(module, spec, DEVICE, settings.precision)
            return Padded(Tiled(inner, settings.tile) if settings.tile else inner)

        settings = Settings(precision="fp16", batch=2)
        ours = list(FrameUpscaler(make, DEVICE, source, target, settings)(given))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert_close(ours, plain)
