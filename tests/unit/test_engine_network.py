"""Precisions and fused convolutions against the plain float32 module."""

import pytest
import torch
from torch import nn

from vsr.engine.devices import devices, resolve_device, resolve_precision
from vsr.engine.fused import FusedConv2d, fuse
from vsr.engine.memory import activation_bytes, automatic
from vsr.engine.network import Network
from vsr.errors import DeviceError, UsageError
from vsr.models._base import InputSpec
from vsr.models.compact import ARCH, Compact, CompactConfig

CPU = torch.device("cpu")


def compact(**config):
    torch.manual_seed(5)
    cfg = CompactConfig(**{"features": 32, "convs": 3, "scale": 2} | config)
    return Compact(cfg).eval(), ARCH.spec(cfg)


@pytest.mark.parametrize("activation", ["relu", "prelu", "leakyrelu"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 4e-3)])
def test_a_network_equals_its_module(activation, channels, precision, tolerance):
    module, spec = compact(activation=activation, channels=channels)
    network = Network(module, spec, CPU, precision)
    with torch.inference_mode():
        for size in ((17, 23), (8, 8), (1, 40)):
            x = torch.rand(2, channels, *size)
            y = network(x)
            assert y.dtype == torch.float32
            assert torch.allclose(y, module(x), atol=tolerance)


def test_the_module_itself_is_never_changed():
    module, spec = compact()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    Network(module, spec, CPU, "bf16")
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert not any(isinstance(layer, FusedConv2d) for layer in module.modules())


def test_bf16_final_addition_is_float32():
    """Without it, values near one would move in steps of 1/256."""
    module, spec = compact(channels=1)
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    x = torch.linspace(0.9, 1.0, 64).view(1, 1, 8, 8)
    y = Network(module, spec, CPU, "bf16")(x)
    assert torch.equal(y, x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_modules_named_full_precision_stay_float32():
    class Net(nn.Module):
        full_precision = ("last",)

        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 1, 3, padding=1)

        def forward(self, x):
            return self.last(torch.relu(self.first(x)))

    network = Network(Net(), InputSpec(scale=1, channels=1, overlap=2), CPU, "bf16")
    convs = [m for m in network._module.modules() if hasattr(m, "weight")]
    assert [c.weight.dtype for c in convs] == [torch.bfloat16, torch.float32]


def test_fusing_reaches_nested_and_lone_convolutions():
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU(), nn.Sigmoid()),
        nn.Conv2d(16, 4, 3, stride=2, padding=1, groups=2, bias=False),
    ).eval()
    x = torch.rand(1, 3, 12, 10)
    with torch.inference_mode():
        expected = plain(x)
        fused = fuse(plain)
        assert sum(isinstance(m, FusedConv2d) for m in fused.modules()) == 3
        assert torch.allclose(fused(x), expected, atol=1e-5)


def test_devices_lists_the_cpu_last():
    assert devices()[-1].name == "cpu"
    assert devices()[-1].memory_bytes > 0


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1x", ""])
def test_nonsense_devices_are_refused(name):
    with pytest.raises(UsageError, match="vsr devices"):
        resolve_device(name)


def test_a_missing_device_is_named():
    with pytest.raises(DeviceError, match="cuda:99"):
        resolve_device("cuda:99")


def test_fp16_is_refused_where_it_is_unsafe_or_slow():
    spec = InputSpec(scale=2, overlap=1)
    with pytest.raises(DeviceError, match="bf16"):
        resolve_precision("fp16", CPU, spec)
    with pytest.raises(UsageError, match="overflows"):
        resolve_precision("fp16", CPU, InputSpec(scale=2, overlap=1, half=False))
    with pytest.raises(UsageError, match="int3"):
        resolve_precision("int3", CPU, spec)


def test_a_small_budget_gives_tiles_that_fit(monkeypatch):
    module, spec = compact(features=64)
    per_pixel = activation_bytes(module, spec, "fp32")
    assert 200 < per_pixel < 20_000
    monkeypatch.setattr("vsr.engine.memory.free_memory", lambda _: int(per_pixel * 4 * 200**2))
    settings = automatic(spec, per_pixel, CPU, "fp32", (1920, 1080))
    assert settings.tile == 192
    assert automatic(spec, per_pixel, CPU, "fp32", (160, 120)).tile == 0
