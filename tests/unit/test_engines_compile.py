"""`torch.compile` as an engine: equal to the eager network, and eager where it fails."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from vsr.engine import assembly
from vsr.engine.assembly import Wishes, frame_upscaler, tune
from vsr.engine.color import Picture
from vsr.engine.engines.compiled import CompiledNetwork
from vsr.engine.engines.registry import engine_precision, open_network
from vsr.engine.loading import find_model
from vsr.engine.network import Network
from vsr.engine.tiled import FixedBatch
from vsr.engine.tuning import Trial
from vsr.models.compact import ARCH, CompactConfig
from vsr.types import ColorSpec, PixelFormat

CPU = torch.device("cpu")
SOURCE = Picture(
    width=32,
    height=24,
    format=PixelFormat(family="yuv", chroma_w=1, chroma_h=1),
    color=ColorSpec(matrix=1, full_range=False, siting=1),
)
TARGET = replace(SOURCE, width=64, height=48)


def network():
    torch.manual_seed(0)
    config = CompactConfig(features=8, convs=1, scale=2, channels=1)
    return ARCH.build(config).eval(), ARCH.spec(config)


@pytest.fixture
def compiler(monkeypatch):
    """Stands in for the compiler: what it makes, and which calls it got."""
    seen = []

    def pretend(function, *, dynamic, backend):
        assert not dynamic
        assert backend == "inductor"

        def compiled(x):
            seen.append((tuple(x.shape), threading.get_ident()))
            y = function(x)
            return y + pretend.off

        return compiled

    pretend.off, pretend.seen = 0.0, seen
    monkeypatch.setattr(torch, "compile", pretend)
    return pretend


def test_it_equals_the_eager_network(compiler, caplog):
    module, spec = network()
    engine = open_network("compile", module, spec, CPU, "fp32")
    x = torch.rand(2, 1, 6, 7)
    with torch.inference_mode():
        for _ in range(3):
            assert torch.allclose(engine(x), Network(module, spec, CPU, "fp32")(x), atol=1e-6)
    assert len(compiler.seen) == 4  # one to compare
    assert not caplog.records


def test_a_wrong_result_is_said_and_not_used(compiler, caplog):
    module, spec = network()
    compiler.off = 0.01
    x = torch.rand(1, 1, 6, 7)
    with torch.inference_mode(), caplog.at_level(logging.WARNING, "vsr"):
        engine = CompiledNetwork(module, spec, CPU, "fp32")
        for _ in range(2):
            assert torch.equal(engine(x), Network(module, spec, CPU, "fp32")(x))
    (record,) = caplog.records
    assert record.message.startswith("torch.compile not used for (1, 1, 6, 7): it is off by 0.01,")


def test_a_missing_compiler_is_said_and_the_job_goes_on(monkeypatch, caplog):
    def fail(*_, **__):
        msg = "InvalidCxxCompiler: no working C++ compiler\nsearched:"
        raise RuntimeError(msg)

    monkeypatch.setattr(torch, "compile", fail)
    module, spec = network()
    with torch.inference_mode(), caplog.at_level(logging.WARNING, "vsr"):
        engine, x = CompiledNetwork(module, spec, CPU, "fp32"), torch.rand(1, 1, 6, 7)
        assert torch.equal(engine(x), Network(module, spec, CPU, "fp32")(x))
    (record,) = caplog.records
    assert record.message.endswith("no working C++ compiler)")


def test_workers_compile_one_after_another(compiler):
    module, spec = network()
    engine = CompiledNetwork(module, spec, CPU, "fp32")
    x = torch.rand(1, 1, 6, 7)

    def work(_):
        with torch.inference_mode():
            return engine(x)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(8)))
    assert all(torch.equal(y, results[0]) for y in results)
    assert len(compiler.seen) == 9


def test_a_job_takes_one_size_of_batch(compiler):
    model = find_model(factor=Fraction(2))
    wishes = Wishes(device="cpu", engine="compile", precision="fp32", batch=3)
    upscaler = frame_upscaler(model, SOURCE, TARGET, wishes)
    assert isinstance(upscaler._upscaler, FixedBatch)
    x = torch.rand(1, 1, 24, 32)
    with torch.inference_mode():
        upscaler._upscaler(x)
    assert {shape[0] for shape, _ in compiler.seen} == {3}


@pytest.mark.parametrize(("how", "tried"), [("full", True), ("auto", False)])
def test_only_a_full_trial_waits_for_the_compiler(how, tried, monkeypatch, tmp_path):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path))
    seen = []

    def pretend(choices, *_):
        seen.extend(choices)
        return [Trial(choice, 1.0) for choice in choices]

    monkeypatch.setattr(assembly, "try_all", pretend)
    monkeypatch.setattr(assembly, "comparable_engines", lambda *_: {"torch": None})
    wishes = Wishes(device="cpu", precision="fp32", frames=None, tune=how)
    tune(find_model(factor=Fraction(2)), SOURCE, TARGET, wishes)
    assert ("compile" in {choice.engine for choice in seen}) == tried


def test_its_precision_is_pytorchs():
    _, spec = network()
    assert engine_precision("compile", "fp32", CPU, spec) == "fp32"


@pytest.mark.slow
def test_the_network_can_be_traced(caplog):
    """By the compiler's own front; its back needs a C++ compiler and a minute."""
    module, spec = network()
    x = torch.rand(1, 1, 24, 40)
    with torch.inference_mode():
        engine = CompiledNetwork(module, spec, CPU, "bf16", backend="eager")
        assert torch.allclose(engine(x), Network(module, spec, CPU, "bf16")(x), atol=1e-2)
    assert engine._ways.names == ["torch.compile"]
    assert not [r for r in caplog.records if r.name.startswith("vsr")]
