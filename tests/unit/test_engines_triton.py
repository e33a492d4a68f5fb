"""The engine `triton`: fused ends, own convolutions and graphs beside the eager route.

Kernels run in Triton's interpreter, in a process of their own (see `test_kernels_ends`); graphs are
captured by a recorder that behaves as CUDA's does: one buffer for every result.
"""

import importlib.util
import logging
import os
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from tests.interpreter import interpreted_run
from vsr.engine import assembly, staging
from vsr.engine.color import Picture
from vsr.engine.engines import triton
from vsr.engine.engines.registry import engine_precision
from vsr.engine.engines.triton import TritonNetwork, planes_differ, samples, suits
from vsr.engine.kernels.graphs import Recording
from vsr.engine.kernels.remembered import searching, set_blocks
from vsr.engine.loading import find_model
from vsr.engine.network import Network
from vsr.engine.route import Route, route_for
from vsr.engine.stream import FrameUpscaler, Settings
from vsr.engine.tiled import Padded, Tiled
from vsr.errors import DeviceError, UsageError
from vsr.models import espcn
from vsr.models.compact import ARCH as COMPACT
from vsr.models.compact import Compact, CompactConfig
from vsr.models.rrdb import ARCH as RRDB
from vsr.models.rrdb import RRDBConfig, RRDBNet
from vsr.types import ColorSpec, Frame, PixelFormat

INSIDE = os.environ.get("TRITON_INTERPRET") == "1"
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
NV = PixelFormat(family="yuv", chroma_w=1, chroma_h=1)
BT709 = ColorSpec(matrix=1, full_range=False, siting=1)
SIZE = (10, 4)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no triton")
@pytest.mark.skipif(INSIDE, reason="is inside")
def test_in_the_interpreter():
    done = interpreted_run(__file__)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))


class OneBuffer:
    """Captures by calling: as CUDA's graphs do, a replay reads and writes what it did at capture.

    Between replays the result is spoilt, so that whoever keeps it instead of copying it fails.
    """

    def __init__(self):
        self.captured, self.replayed = [], 0

    def __call__(self, function, inputs):
        self.captured.append(tuple(inputs[0].shape))
        static = tuple(x.clone() for x in inputs)
        output = function(*static)
        flat = [output] if isinstance(output, torch.Tensor) else [*output[0], output[1]]

        def replay():
            self.replayed += 1
            fresh = function(*static)
            again = [fresh] if isinstance(fresh, torch.Tensor) else [*fresh[0], fresh[1]]
            for buffer, value in zip(flat, again, strict=True):
                buffer.copy_(value)

        return Recording(static, output, replay)


def compact(channels=3, scale=2):
    torch.manual_seed(1)
    config = CompactConfig(channels=channels, features=16, convs=1, scale=scale)
    return Compact(config).eval(), COMPACT.spec(config)


def rrdb(unshuffle=1):
    torch.manual_seed(1)
    config = RRDBConfig(features=16, growth=16, blocks=1, ups=1, unshuffle=unshuffle)
    return RRDBNet(config).eval(), RRDB.spec(config)


def ends(scale=2, size=SIZE, fmt=NV):
    source = Picture(width=size[0], height=size[1], format=fmt, color=BT709)
    return source, replace(source, width=scale * size[0], height=scale * size[1])


def frames(count, size=SIZE, fmt=NV):
    generator = np.random.default_rng(4)
    shapes = fmt.plane_shapes(*size)
    return [
        Frame(
            planes=tuple(generator.integers(16, 236, s, dtype=np.uint8) for s in shapes),
            format=fmt,
            color=BT709,
            pts=n,
            time_base=Fraction(1, 25),
        )
        for n in range(count)
    ]


def stream(make, settings, source, target):
    return FrameUpscaler(make, CPU, source, target, settings)


class Event:
    def record(self):
        pass

    def synchronize(self):
        pass


class Stream:
    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def wait_event(self, _):
        pass

    def synchronize(self):
        pass


@pytest.fixture
def gpu(monkeypatch):
    """The CUDA lane on the CPU: streams that run everything at once."""
    real = torch.empty, torch.zeros

    def unpinned(make):
        def made(*args, **more):
            more.pop("pin_memory", None)
            return make(*args, **more)

        return made

    for name, make in zip(("empty", "zeros"), real, strict=True):
        monkeypatch.setattr(staging.torch, name, unpinned(make))
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    return lambda source, target, batch: staging.CudaLane(CPU, source, target, batch)


def assert_close(ours, theirs):
    """Half precision against float32: a code or two, rarely."""
    for a, b in zip(ours, theirs, strict=True):
        for p, q in zip(a.planes, b.planes, strict=True):
            difference = np.abs(p.astype(int) - q.astype(int))
            assert difference.max() <= 2
            assert difference.mean() < 0.15


class TestInterpreted:
    __test__ = INSIDE

    @pytest.mark.parametrize(
        ("made", "batch", "count"),
        [(compact(1), 2, 7), (compact(3), 1, 3), (rrdb(), 1, 2)],
        ids=["luma", "rgb", "rrdb"],
    )
    def test_frames_through_graphs_equal_the_eager_route(
        self, made, batch, count, gpu, caplog, monkeypatch
    ):
        """In the CUDA lane, several batches under way, the last one smaller."""
        monkeypatch.setattr(triton, "samples", lambda given, _: iter([given]))  # it is slow
        (module, spec), recorder = made, OneBuffer()
        source, target = ends()
        network = TritonNetwork(module, spec, CPU, "fp16", recorder=recorder)
        settings = Settings(precision="fp16", batch=batch)
        fast = stream(lambda _: Padded(network), settings, source, target)
        fast._lane = gpu(source, target, batch)
        given = frames(count)
        ours = list(fast(given))
        plain = stream(lambda _: Network(module, spec, CPU, "fp32"), settings, source, target)
        assert_close(ours, plain(given))
        assert [f.pts for f in ours] == [f.pts for f in given]
        batches = [batch, count % batch] if count % batch else [batch]
        assert recorder.captured == [(size, SIZE[1], SIZE[0]) for size in batches]
        compared, computed = len(batches), -(-count // batch)
        assert recorder.replayed == compared + computed
        assert not [r for r in caplog.records if r.levelno >= logging.WARNING]

    def test_tiles_take_the_network_alone(self, caplog):
        module, spec = compact(3)
        recorder = OneBuffer()
        network = Padded(Tiled(TritonNetwork(module, spec, CPU, "fp16", recorder=recorder), 8))
        x = torch.rand(1, 3, 8, 14)
        wanted = Network(module, spec, CPU, "fp32")(x)
        for _ in range(2):
            assert (network(x) - wanted).abs().max() < 5e-3
        assert network.route(*ends(), "bicubic") is None
        assert recorder.captured == [(1, 3, 8, 8)]
        assert not caplog.records

    def test_the_result_is_the_callers(self):
        module, spec = compact(1)
        network = TritonNetwork(module, spec, CPU, "fp16", recorder=OneBuffer())
        a, b = torch.rand(1, 1, 5, 7).half(), torch.rand(1, 1, 5, 7).half()
        first = network(a)
        kept = first.clone()
        network(b)
        assert first.dtype == torch.float16
        assert torch.equal(first, kept)

    def test_a_wrong_kernel_is_refused_and_said(self, caplog):
        module, spec = compact(1)
        network = TritonNetwork(module, spec, CPU, "fp16")
        own = network._middles[0].detail._runner.layers[-1]
        own.bias += 0.1
        source, target = ends()
        way = network.route(source, target, "bicubic")
        given = planes(1)
        with caplog.at_level(logging.WARNING, "vsr"):
            ours, _ = way(given)
            way(given)
        theirs, _ = Route(Network(module, spec, CPU, "fp32"), source, target)(given)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        (record,) = caplog.records
        assert "own kernels not used" in record.message
        assert "steps of 8 bits" in record.message

    def test_a_compiler_that_fails_is_no_obstacle(self, caplog, monkeypatch):
        module, spec = compact(1)

        def fail(*_, **__):
            msg = "Failed to find C compiler\nmore"
            raise RuntimeError(msg)

        network = TritonNetwork(module, spec, CPU, "fp16")
        monkeypatch.setattr("vsr.engine.kernels.conv3x3.launch", fail)
        way = network.route(*ends(), "bicubic")
        with caplog.at_level(logging.WARNING, "vsr"):
            way(planes(1))
        (record,) = caplog.records
        assert record.message.endswith("it fails (RuntimeError: Failed to find C compiler)")

    def test_odd_sizes_of_an_unshuffled_network_take_the_plain_route(self):
        module, spec = rrdb(unshuffle=2)
        network = Padded(TritonNetwork(module, spec, CPU, "fp16"))
        source, target = ends(spec.scale, (7, 4))
        assert network.route(source, target, "bicubic") is None
        assert isinstance(route_for(network, source, target), Route)
        assert network.route(*ends(spec.scale, (8, 4)), "bicubic") is not None

    def test_other_precisions_are_eager(self):
        module, spec = compact(1)
        network = TritonNetwork(module, spec, CPU, "fp32")
        x = torch.rand(1, 1, 5, 6)
        assert torch.equal(network(x), Network(module, spec, CPU, "fp32")(x))
        assert network.route(*ends(), "bicubic") is None

    def test_blocks_that_were_found_are_taken_by_the_next_job(self):
        module, spec = compact(1)

        def runner():
            return TritonNetwork(module, spec, CPU, "fp16")._middles[0].detail._runner

        x = torch.rand(1, 1, 4, 5).half()
        assert set_blocks(runner(), x) == 0
        times = iter(range(1000, 0, -1))
        with searching(1e-9):  # so that the second block is the last one tried
            found = runner()
            assert set_blocks(found, x, clock=lambda work: work() is None or next(times)) == 3
        again = runner()
        assert set_blocks(again, x) == 3
        assert [c.block for c in again.layers] == [c.block for c in found.layers]
        assert set_blocks(runner(), torch.rand(1, 1, 4, 6).half()) == 0


def planes(count, size=SIZE, fmt=NV):
    torch.manual_seed(5)
    shapes = fmt.plane_shapes(*size)
    return tuple(torch.randint(16, 236, (count, *s), dtype=torch.uint8) for s in shapes)


@pytest.mark.skipif(INSIDE, reason="needs no kernel")
class TestWithoutKernels:
    def test_it_needs_a_gpu(self):
        module, spec = compact(1)
        with pytest.raises(DeviceError, match="NVIDIA GPU, got cpu: use --engine torch"):
            TritonNetwork(module, spec, CPU, "fp16")

    def test_other_networks_are_refused(self, monkeypatch):
        monkeypatch.setattr("vsr.engine.engines.triton.runs_on", lambda _: True)
        config = espcn.ARCH.config()
        module = espcn.ARCH.build(config)
        with pytest.raises(UsageError, match="no kernels for ESPCN: use --engine torch"):
            TritonNetwork(module, espcn.ARCH.spec(config), CPU, "fp16")

    def test_what_suits(self, monkeypatch):
        module, spec = compact(1)
        assert not suits(module, spec, CPU)
        monkeypatch.setattr("vsr.engine.engines.triton.available", lambda: True)
        assert suits(module, spec, CUDA)
        assert not suits(module, replace(spec, half=False), CUDA)
        assert not suits(torch.nn.Conv2d(1, 1, 3), spec, CUDA)

    @pytest.mark.parametrize(
        ("engine", "precision", "suiting", "taken"),
        [
            ("auto", "fp16", True, "triton"),
            ("auto", "bf16", True, "torch"),
            ("auto", "fp16", False, "torch"),
            ("torch", "fp16", True, "torch"),
        ],
    )
    def test_a_job_on_a_gpu_takes_it_by_itself(
        self, engine, precision, suiting, taken, monkeypatch
    ):
        monkeypatch.setattr(assembly, "engine_precision", lambda *_: precision)
        monkeypatch.setattr(
            assembly, "settings_for", lambda *_, **__: Settings(precision=precision, batch=2)
        )
        monkeypatch.setattr(assembly, "suits", lambda *_: suiting)
        wishes = assembly.Wishes(engine=engine)
        job = assembly._Job(find_model("vsr-fast"), *ends(), wishes, CUDA)
        assert job.choice().engine == taken

    def test_its_precision(self):
        _, spec = compact(1)
        assert engine_precision("triton", "auto", CUDA, spec) == "fp16"
        assert engine_precision("triton", "auto", CUDA, replace(spec, half=False)) == "fp32"
        with pytest.raises(DeviceError, match="use --precision fp16"):
            engine_precision("triton", "bf16", CUDA, spec)

    def test_samples_are_of_one_layout_and_differ(self):
        given = planes(2)
        made = list(samples(given, 255))
        assert made[0] is given
        for one in made:
            assert [(x.shape, x.stride(), x.dtype) for x in one] == [
                (x.shape, x.stride(), x.dtype) for x in given
            ]
        assert len({tuple(x[0].flatten().tolist()) for x in made}) == len(made) >= 4
        x = torch.rand(2, 3, 8, 8).half().contiguous(memory_format=torch.channels_last)
        for (one,) in samples((x,), 1):
            assert one.stride() == x.stride()
            assert 0 <= one.min() <= one.max() <= 1

    @pytest.mark.parametrize("bits", [8, 10, 16])
    def test_the_tolerance(self, bits):
        step = 1 << (bits - 8)
        base = torch.full((1, 20, 20), 100 * step, dtype=torch.int32).to(torch.uint16)
        fine, bad = torch.tensor(0.0), torch.tensor(float("nan"))

        def plus(steps, count=400):
            flat = base.int().flatten()
            flat[:count] += int(steps * step)
            return (flat.view_as(base).to(torch.uint16),)

        def differ(ours, health=fine, other=fine):
            return planes_differ((ours, health), ((base,), other), bits)

        assert differ((base,)) == ""
        assert differ(plus(1, 50)) == ""
        assert differ(plus(8, 1)) == ""
        assert "at most 9" in differ(plus(9, 1))
        assert "off by 1 steps" in differ(plus(1))
        assert "overflows" in differ((base,), bad)
        assert "overflows" in differ((base,), fine, bad)
        assert differ(plus(20), bad, bad) == ""
        assert "sizes" in differ((base[:, 1:],))
