"""Engines on disk: kept, refused when stale or damaged, never half-written; TensorRT on a fake."""

import json
import logging
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from vsr.engine.engines import _packages
from vsr.engine.engines.cache import EngineCache, EngineKey
from vsr.engine.engines.tensorrt import TensorRtNetwork, build_plan
from vsr.errors import DeviceError, UsageError
from vsr.models.compact import ARCH, CompactConfig

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def build(features):
    torch.manual_seed(3)
    config = CompactConfig(features=features, convs=2, scale=3)
    return ARCH.build(config).eval(), ARCH.spec(config)


KEY = EngineKey(
    model="0123456789abcdef" * 4,
    shape=(1, 3, 180, 320),
    precision="fp16",
    device="NVIDIA H200",
    library="tensorrt 11.4.0",
)


def test_an_engine_is_kept_and_read(tmp_path, caplog):
    cache = EngineCache(tmp_path / "engines")
    built = []

    def make():
        built.append(1)
        return b"a plan\n\x00\xff"

    with caplog.at_level(logging.WARNING, "vsr"):
        assert cache.obtain(KEY, make) == cache.obtain(KEY, make) == b"a plan\n\x00\xff"
    assert (len(built), len(caplog.records)) == (1, 1)
    (entry,) = cache.entries()
    assert entry.path.name == "0123456789abcdef-1x3x180x320-fp16-tensorrt-nvidia-h200.engine"
    assert (entry.key, entry.size) == (KEY, entry.path.stat().st_size)
    assert list(cache.folder.iterdir()) == [entry.path]


@pytest.mark.parametrize(
    "change",
    [
        {"library": "tensorrt 10.9.0"},
        {"model": KEY.model[:32] + "f" * 32},
        {"device": "NVIDIA (H200)"},
    ],
)
def test_a_stale_engine_is_refused_and_rebuilt(change, tmp_path, caplog):
    cache = EngineCache(tmp_path)
    old = replace(KEY, **change)
    assert cache.store(old, b"old") == cache.path(KEY)
    ((field, value),) = change.items()
    with pytest.raises(DeviceError, match="is stale") as caught:
        cache.load(KEY)
    assert f"{field} {value}, not {getattr(KEY, field)}" in str(caught.value)
    with caplog.at_level(logging.WARNING, "vsr"):
        assert cache.obtain(KEY, lambda: b"new") == b"new"
    assert [r.message.endswith("it is rebuilt now") for r in caplog.records] == [True]
    assert cache.load(KEY) == b"new"


@pytest.mark.parametrize(
    "change", [{"shape": (1, 3, 180, 321)}, {"precision": "fp32"}, {"device": "NVIDIA L4"}]
)
def test_other_shapes_precisions_and_devices_lie_beside(change, tmp_path):
    cache = EngineCache(tmp_path)
    cache.store(KEY, b"one")
    cache.store(replace(KEY, **change), b"other")
    assert cache.load(KEY) == b"one"
    assert cache.load(replace(KEY, **change)) == b"other"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: data[:-1] + b"?",
        lambda _: b"",
        lambda data: b"x" + data,
        lambda data: data.replace(b'"shape"', b'"shade"'),
        lambda data: data.replace(b'"precision"', b'"provision"'),
        lambda data: data[:40],
    ],
)
def test_a_damaged_engine_is_refused_and_rebuilt(spoil, tmp_path):
    cache = EngineCache(tmp_path)
    path = cache.store(KEY, b"a plan")
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DeviceError, match="is damaged"):
        cache.load(KEY)
    assert cache.obtain(KEY, lambda: b"a plan") == b"a plan" == cache.load(KEY)


def test_half_an_engine_is_never_seen(tmp_path, monkeypatch):
    cache = EngineCache(tmp_path)
    cache.store(KEY, b"good")

    def full(self, data):  # noqa: ARG001
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        cache.store(KEY, b"better")
    monkeypatch.undo()
    assert cache.load(KEY) == b"good"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(DeviceError, match=r"no engine .* is cached"):
        cache.load(replace(KEY, precision="fp32"))
    assert EngineCache(tmp_path / "none").entries() == ()


class FakeTensorRt:
    """As much of TensorRT's interface as a build uses; the plan tells what was asked for."""

    __version__ = "11.4.0"
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)

    class Logger:
        ERROR = 1

        def __init__(self, level):
            self.level = level

    class Runtime:
        def __init__(self, logger):
            pass

    class OnnxParser:
        num_errors = 1

        def __init__(self, network, logger):
            pass

        def parse(self, graph):
            return graph.startswith(b"good")

        def get_error(self, index):
            return SimpleNamespace(desc=lambda: f"bad node {index}")

    class Builder:
        def __init__(self, _):
            self.asked = {}

        def create_network(self, flags):
            self.asked["flags"] = flags

        def create_builder_config(self):
            return SimpleNamespace(add_optimization_profile=lambda _: None)

        def create_optimization_profile(self):
            def set_shape(name, *shapes):
                self.asked[name] = shapes

            return SimpleNamespace(set_shape=set_shape)

        def build_serialized_network(self, *_):
            return None if self.asked["x"][0][0] > 8 else json.dumps(self.asked).encode()


def test_a_plan_is_typed_and_of_one_shape():
    plan = json.loads(build_plan(FakeTensorRt, None, b"good", (1, 3, 4, 5)))
    assert plan == {"flags": 2, "x": [[1, 3, 4, 5]] * 3}
    with pytest.raises(UsageError, match=r"does not take this network \(bad node 0\)"):
        build_plan(FakeTensorRt, None, b"strange", (1, 3, 4, 5))
    with pytest.raises(DeviceError, match="built no engine for"):
        build_plan(FakeTensorRt, None, b"good", (9, 3, 4, 5))


def test_tensorrt_keys_its_engines_by_all_that_they_depend_on(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt)
    monkeypatch.setattr(_packages, "is_installed", lambda _: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU")
    module, spec = build(16)
    key = TensorRtNetwork(module, spec, CUDA, "fp16", tmp_path).key((1, 3, 4, 5))
    assert (key.precision, key.device, key.library) == ("fp16", "Some GPU", "tensorrt 11.4.0")
    other = TensorRtNetwork(build(8)[0], spec, CUDA, "fp16", tmp_path).key((1, 3, 4, 5))
    assert other.model != key.model
    with pytest.raises(DeviceError, match="needs an NVIDIA GPU, not cpu"):
        TensorRtNetwork(module, spec, CPU, "fp16", tmp_path)
    with pytest.raises(DeviceError, match="not bf16"):
        TensorRtNetwork(module, spec, CUDA, "bf16", tmp_path)
