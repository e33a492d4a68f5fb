"""Every architecture through the engine: the precisions, padding and tiles of a real run."""

from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vsr.engine.export import check_engine, export_onnx
from vsr.engine.exporting import _Graph
from vsr.engine.network import Network
from vsr.engine.tiled import Padded, Tiled
from vsr.errors import UsageError
from vsr.models import architecture, architectures
from vsr.models._base import InputSpec

NAMES = architectures()
CPU = torch.device("cpu")


@cache
def small(name: str) -> tuple[nn.Module, InputSpec]:
    """A network of the lightest published configuration, and what it accepts."""
    arch = architecture(name)
    config: Any = min(arch.parameters, key=lambda pair: pair[1])[0]
    torch.manual_seed(0)
    return arch.build(config).eval(), arch.spec(config)


def picture(name: str, height: int, width: int) -> Tensor:
    """A smooth picture with some noise."""
    _, spec = small(name)
    random = torch.Generator().manual_seed(2)
    coarse = torch.rand(1, spec.channels or 3, 3, 3, generator=random)
    x = nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return (x + 0.05 * torch.rand(x.shape, generator=random)).clamp(0, 1)


@cache
def through(name: str, precision: Any) -> Tensor:
    module, spec = small(name)
    return Padded(Network(module, spec, CPU, precision))(picture(name, 11, 14))


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_that_of_the_network(name: str):
    """Packed weights, fused activations and another memory format change nothing but rounding."""
    module, spec = small(name)
    got = through(name, "fp32")
    assert got.shape[2:] == (11 * spec.scale, 14 * spec.scale)
    assert got.dtype == torch.float32
    if spec.multiple_of == 1 and spec.minimum <= 11:
        with torch.inference_mode():
            expected = module(picture(name, 11, 14))
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_close_and_float32_at_its_end(name: str):
    exact, rounded = through(name, "fp32"), through(name, "bf16")
    assert rounded.shape == exact.shape
    assert rounded.dtype == torch.float32
    assert rounded.isfinite().all()
    difference = (rounded - exact).square().mean().sqrt()
    assert difference < 0.02 * max(1.0, float(exact.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_left_as_it_was(name: str):
    module, spec = small(name)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    Network(module, spec, CPU, "bf16")
    after = module.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert not any(hook for m in module.modules() for hook in m._forward_pre_hooks)


@pytest.mark.parametrize("name", NAMES)
def test_exact_tiles_give_the_whole_picture(name: str):
    module, spec = small(name)
    if spec.tiling != "exact" or spec.overlap > 20 or spec.scale > 4:
        pytest.skip("too wide to measure here; the architecture's own tests use small ones")
    tile = 2 * spec.overlap + 8
    tile += -tile % spec.multiple_of
    x = picture(name, 12, tile + 9)
    network = Network(module, spec, CPU, "fp32")
    whole = Padded(network)(x)
    torch.testing.assert_close(Padded(Tiled(network, tile))(x), whole, rtol=1e-4, atol=1e-4)


def shallow(name: str) -> tuple[nn.Module, InputSpec]:
    """Of the lightest published configuration two of what is stacked: tracing takes long."""
    arch = architecture(name)
    config: Any = min(arch.parameters, key=lambda pair: pair[1])[0]
    stacked = {field.name for field in fields(config)} & {"groups", "blocks"}
    config = replace(config, **{key: min(2, getattr(config, key)) for key in stacked})
    torch.manual_seed(0)
    return arch.build(config).eval(), arch.spec(config)


@pytest.mark.parametrize("name", NAMES)
def test_is_exported_as_a_graph_or_says_why_not(name: str, capfd: pytest.CaptureFixture[str]):
    """Compared at another size and batch than the trace's; a refusal is the architecture's own.

    Where the exporter itself fails, it prints the whole graph past Python.
    """
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    module, spec = shallow(name)
    graph, reason = tried(module, spec)
    if graph is None:
        assert isinstance(reason.__cause__, UsageError), reason
        assert "\n" not in str(reason)
    else:
        check_engine(_Graph(graph, spec, "fp32"), module, "fp32", CPU)
    assert capfd.readouterr().out == ""


def tried(module: nn.Module, spec: InputSpec) -> tuple[bytes | None, UsageError]:
    """A graph, or why there is none."""
    try:
        return export_onnx(module, spec), UsageError()
    except UsageError as error:
        return None, error
