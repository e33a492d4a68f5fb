"""Every engine that is installed against PyTorch in float32, and the bookkeeping of all of them."""

import importlib.util
import logging
import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vsr.engine.devices import cpu_has_bf16
from vsr.engine.engines import _packages
from vsr.engine.engines._shapes import Prepared, lanes
from vsr.engine.engines.probe import NEVER_PROBED, comparable_engines, engine_seconds
from vsr.engine.engines.registry import (
    ENGINES,
    available_engines,
    engine_precision,
    find_engine,
    open_network,
    resolve_engine,
)
from vsr.engine.network import Network
from vsr.engine.tiled import Padded, Tiled
from vsr.errors import DeviceError, UsageError
from vsr.models._base import InputSpec
from vsr.models.compact import ARCH as COMPACT
from vsr.models.compact import CompactConfig
from vsr.models.rrdb import ARCH as RRDB
from vsr.models.rrdb import RRDBConfig

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NETWORKS = {
    "compact": (COMPACT, CompactConfig(features=16, convs=2, scale=3)),
    "luma": (COMPACT, CompactConfig(channels=1, features=16, convs=3, activation="relu")),
    "rrdb": (RRDB, RRDBConfig(features=16, growth=8, blocks=1, ups=1)),
    "unshuffled": (RRDB, RRDBConfig(features=16, growth=8, blocks=1, unshuffle=2)),
}
KINDS = {("openvino", "fp32"): 1e-5, ("openvino", "bf16"): 8e-3, ("onnx", "fp32"): 1e-5}
"""Engines that run on the CPU, and how far any value may be from float32."""


def build(name):
    torch.manual_seed(3)
    architecture, config = NETWORKS[name]
    return architecture.build(config).eval(), architecture.spec(config)


def need(engine, precision="fp32"):
    if not ENGINES[engine].installed:
        pytest.skip(f"engine {engine} is not installed")
    if precision == "bf16" and not cpu_has_bf16():
        pytest.skip("this processor has no bf16")


def largest(a, b):
    return float((a - b).abs().max())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_an_engine_equals_the_network_at_any_size(engine, name):
    need(engine)
    module, spec = build(name)
    network = open_network(engine, module, spec, CPU, "fp32")
    assert network.spec == spec
    x = torch.rand(3, spec.channels, 34, 22)
    sizes = [(1, 16, 22), (3, 34, 8), (2, 16, 22), (1, 2, 2), (1, 16, 22)]
    with torch.inference_mode():
        for batch, height, width in sizes:
            part = x[:batch, :, :height, :width]
            y = network(part)
            assert y.dtype == torch.float32
            assert largest(y, module(part)) < 1e-5


@pytest.mark.parametrize(("engine", "precision"), KINDS)
def test_odd_sizes_types_and_layouts(engine, precision):
    need(engine, precision)
    module, spec = build("luma")
    network = open_network(engine, module, spec, CPU, precision)
    x = torch.rand(2, 1, 13, 27)
    with torch.inference_mode():
        expected = module(x)
        layouts = [x, x.contiguous(memory_format=torch.channels_last), x.mT.contiguous().mT]
        for given in layouts:
            assert largest(network(given), expected) < KINDS[engine, precision]
        half = network(x.half())
        assert half.dtype == torch.float16
        assert largest(half.float(), expected) < KINDS[engine, precision] + 1e-3
        assert network(x[..., :1, :1]).shape == (2, 1, 4, 4)


def test_openvino_keeps_the_picture_in_float32():
    """In bf16, values near one would otherwise move in steps of 1/256."""
    need("openvino", "bf16")
    module, spec = build("luma")
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    x = torch.linspace(0.9, 1.0, 64).view(1, 1, 8, 8)
    y = open_network("openvino", module, spec, CPU, "bf16")(x)
    assert torch.equal(y, x.repeat_interleave(4, 2).repeat_interleave(4, 3))


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_engines_compose_like_any_upscaler(engine):
    need(engine)
    module, spec = build("unshuffled")
    network = open_network(engine, module, spec, CPU, "fp32")
    x = torch.rand(1, 3, 53, 61)
    whole = Padded(Network(module, spec, CPU, "fp32"))
    with torch.inference_mode():
        assert largest(Padded(Tiled(network, 48, 8))(x), whole(x)) < 2e-2
        assert largest(Padded(network)(x), whole(x)) < 1e-5


@pytest.mark.parametrize("share", [1, 2])
@pytest.mark.parametrize(("engine", "precision"), KINDS)
def test_several_threads_call_at_once(engine, precision, share):
    """Each with sizes and pictures of its own; none gets another's."""
    need(engine, precision)
    module, spec = build("compact")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        network = open_network(engine, module, spec, CPU, precision)
        pictures = [torch.rand(1, 3, 12 + n % 3, 20) for n in range(24)]
        with torch.inference_mode():
            expected = [module(x) for x in pictures]

        def work(x):
            torch.set_num_threads(share)
            with torch.inference_mode():
                return network(x)

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(work, pictures))
    finally:
        torch.set_num_threads(before)
    for y, e in zip(results, expected, strict=True):
        assert largest(y, e) < KINDS[engine, precision]


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_a_result_is_never_written_again(engine):
    need(engine)
    module, spec = build("luma")
    network = open_network(engine, module, spec, CPU, "fp32")
    first, second = torch.rand(2, 1, 1, 9, 9)
    one = network(first)
    kept = one.clone()
    network(second)
    assert torch.equal(one, kept)


class Frozen(nn.Module):
    """Computes from its size in Python, where no trace sees it."""

    def forward(self, x):
        return x * float(x.shape[3]) / 24


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_a_graph_frozen_to_one_size_is_refused(engine):
    need(engine)
    spec = InputSpec(scale=1, channels=1, overlap=0)
    with pytest.raises(DeviceError, match="--engine torch"):
        open_network(engine, Frozen(), spec, CPU, "fp32")


def test_torch_is_an_engine():
    module, spec = build("compact")
    assert isinstance(open_network("torch", module, spec, CPU, "fp32"), Network)
    assert resolve_engine("auto") == resolve_engine("torch") == "torch"
    assert available_engines(CPU)[0] == available_engines(CUDA)[0] == "torch"
    assert "tensorrt" not in available_engines(CPU)
    assert "openvino" not in available_engines(CUDA)


@pytest.mark.parametrize("name", ["", "tenserflow", "torch:0", "openvino:", "auto", "tensorrt:1"])
def test_unknown_engines_are_refused(name):
    with pytest.raises(UsageError, match=r"unknown engine .*use auto, torch, openvino, onnx"):
        find_engine(name)


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_a_signal_is_received_after_a_network_has_gone(engine):
    """In a process of its own, which it would end: the handler's stack must not have gone too."""
    need(engine)
    code = f"""
        import gc, signal, threading, torch
        from vsr.engine.engines.registry import open_network
        from vsr.models.compact import ARCH, CompactConfig
        torch.set_grad_enabled(False)
        config = CompactConfig(features=8, convs=1, scale=2)
        built = ARCH.build(config).eval(), ARCH.spec(config)
        networks = [open_network({engine!r}, *built, torch.device("cpu"), "fp32")]
        networks[0](torch.zeros(1, 3, 16, 16))
        other = threading.Thread(target=lambda: (networks.clear(), gc.collect()))
        other.start(), other.join()
        signal.signal(signal.SIGTERM, lambda *_: print("received"))
        signal.raise_signal(signal.SIGTERM)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "received\n"


@pytest.mark.parametrize("name", ["openvino", "onnx", "tensorrt"])
def test_a_missing_package_is_one_clear_line(name, monkeypatch):
    monkeypatch.setattr(_packages, "is_installed", lambda _: False)
    with pytest.raises(UsageError) as caught:
        open_network(name, *build("compact"), CUDA if name == "tensorrt" else CPU, "fp32")
    assert str(caught.value) == (
        f"engine {name} is not installed: pip install 'vsr[{name}]' or use --engine torch"
    )


def test_a_broken_package_is_told_from_a_missing_one(tmp_path, monkeypatch):
    (tmp_path / "brokenengine.py").write_text("raise ImportError('libx.so is missing\\nmore')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DeviceError, match=r"does not start \(libx.so is missing\): reinstall"):
        _packages.load_package("openvino", "brokenengine", "openvino")


def test_engines_refuse_devices_that_they_cannot_use():
    module, spec = build("compact")
    for name, device, message in (
        ("openvino", CUDA, "does not run on cuda: use --device cpu"),
        ("openvino:GPU.7", CPU, "has no device GPU.7 here, only CPU"),
        ("onnx:tpu", CPU, "has no target 'tpu': use one of cpu, cuda"),
        ("onnx:cuda", CPU, "cannot take tensors on cpu"),
    ):
        need(name.partition(":")[0])
        with pytest.raises(DeviceError, match=message):
            open_network(name, module, spec, device, "fp32")


def test_engines_refuse_precisions_that_they_lack():
    module, spec = build("compact")
    need("onnx")
    for precision in ("bf16", "fp16"):
        with pytest.raises(DeviceError, match=f"does not compute {precision} on cpu"):
            open_network("onnx", module, spec, CPU, precision)
    need("openvino")
    with pytest.raises(DeviceError, match="fp16 slowly or not at all on CPU"):
        open_network("openvino", module, spec, CPU, "fp16")


@pytest.fixture
def every_engine(monkeypatch):
    """All packages are there, as names."""
    monkeypatch.setattr(
        "vsr.engine.engines.registry.load_package", lambda *_: SimpleNamespace(__version__="1")
    )


@pytest.mark.usefixtures("every_engine")
def test_the_precision_follows_the_engine():
    _, spec = build("compact")
    unsafe = replace(spec, half=False)
    own = "bf16" if cpu_has_bf16() else "fp32"
    assert engine_precision("torch", "auto", CPU, spec) == own
    assert engine_precision("openvino", "auto", CPU, spec) == own
    assert engine_precision("openvino:GPU", "auto", CPU, spec) == "fp16"
    assert engine_precision("onnx", "auto", CPU, spec) == "fp32"
    assert engine_precision("onnx", "auto", CUDA, spec) == "fp16"
    assert engine_precision("onnx:directml", "auto", CPU, unsafe) == "fp32"
    assert engine_precision("tensorrt", "auto", CUDA, spec) == "fp16"
    assert engine_precision("tensorrt", "auto", CUDA, unsafe) == "fp32"
    for name, precision, error, message in (
        ("onnx", "bf16", DeviceError, "does not compute bf16 here: use --precision fp32"),
        ("tensorrt", "bf16", DeviceError, "does not compute bf16"),
        ("onnx", "int3", UsageError, "unknown precision 'int3'"),
        ("openvino", "fp16", DeviceError, "bf16 or fp32"),
    ):
        with pytest.raises(error, match=message):
            engine_precision(name, precision, CPU, spec)
    with pytest.raises(UsageError, match="overflows"):
        engine_precision("tensorrt", "fp16", CUDA, unsafe)


def test_engines_of_one_precision_are_compared(caplog):
    module, spec = build("unshuffled")
    engines = comparable_engines(module, spec, CPU, "fp32")
    assert list(engines) == [n for n in available_engines(CPU) if n not in NEVER_PROBED]
    seconds = engine_seconds(engines, (21, 9), CPU, 0.0)
    assert set(seconds) == set(engines)
    assert min(seconds.values()) > 0
    assert list(seconds.values()) == sorted(seconds.values())
    if cpu_has_bf16() and ENGINES["onnx"].installed:
        with caplog.at_level(logging.INFO, "vsr"):
            assert "onnx" not in comparable_engines(module, spec, CPU)
        assert "engine onnx is not considered: engine onnx does not compute bf16" in caplog.text
    with pytest.raises(DeviceError, match="bf16 or fp32"):
        comparable_engines(module, spec, CPU, "fp16")


class Sluggish:
    def __init__(self, spec, seconds):
        self.spec, self.seconds, self.shapes = spec, seconds, []

    def __call__(self, x, /):
        self.shapes.append(tuple(x.shape))
        time.sleep(self.seconds)
        return x


def test_the_fastest_comes_first_and_the_budget_is_kept():
    spec = InputSpec(scale=1, channels=1, multiple_of=4, minimum=8, overlap=0)
    engines = {"slow": Sluggish(spec, 0.06), "fast": Sluggish(spec, 0.001)}
    assert list(engine_seconds(engines, (13, 5), CPU, 0.18)) == ["fast", "slow"]
    assert set(engines["slow"].shapes) == {(1, 1, 8, 16)}
    assert 2 <= len(engines["slow"].shapes) == len(engines["fast"].shapes) <= 4
    engines["slow"].shapes.clear()
    engine_seconds(engines, (13, 5), CPU, 0.0)
    assert len(engines["slow"].shapes) == 2


def test_what_is_prepared_is_made_once_and_the_oldest_forgotten():
    made = []
    prepared = Prepared(lambda key: made.append(key) or f"made {key}", keep=2)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(prepared, ["a"] * 20)) == {"made a"}
    prepared("b")
    prepared("a")
    prepared("c")
    prepared("a")
    assert made == ["a", "b", "c"]
    prepared("b")
    assert made == ["a", "b", "c", "b"]


@pytest.mark.parametrize(
    ("threads", "share", "expected"), [(8, 8, 1), (8, 4, 2), (8, 1, 8), (8, 3, 2), (2, 16, 1)]
)
def test_threads_are_shared_out(threads, share, expected):
    assert lanes(threads, share) == expected


def test_engines_are_not_imported_before_they_are_asked_for():
    """They are slow to import, and most people have none of them."""
    import subprocess

    names = [package for engine in ENGINES.values() for package in engine.packages]
    code = (
        "import sys, vsr.engine.engines.registry as r, torch; "
        "r.available_engines(torch.device('cpu')); "
        f"sys.exit(str(set({names!r}) & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_the_packages_found_are_those_that_import():
    for engine in ENGINES.values():
        found = all(importlib.util.find_spec(package) for package in engine.packages)
        assert engine.installed == found
