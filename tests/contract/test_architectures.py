"""What holds for every architecture in the directory; a new file is picked up by itself."""

import copy
import inspect
import re
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vsr.errors import CheckpointError
from vsr.models import architecture, architectures, build, detect
from vsr.models._base import Architecture
from vsr.models._detection import realise

NAMES = architectures()


@cache
def small(name: str) -> tuple[Architecture[Any], Any, nn.Module]:
    """An architecture with its lightest published configuration, and a network of it."""
    arch = architecture(name)
    config, _ = min(arch.parameters, key=lambda pair: pair[1])
    torch.manual_seed(0)
    return arch, config, arch.build(config).eval()


def picture(name: str, height: int = 24, width: int = 16) -> Tensor:
    arch, config, _ = small(name)
    spec = arch.spec(config)
    random = torch.Generator().manual_seed(1)
    sides = (side + -side % spec.multiple_of for side in (height, width))
    return torch.rand(1, spec.channels or 3, *sides, generator=random)


def to_bfloat16(network: nn.Module) -> nn.Module:
    """As the engine does: all convolutions but the named ones, each casting its own input."""
    kept = network.full_precision
    for name, layer in network.named_modules():
        if next(layer.children(), None) is None and name not in kept:
            layer.bfloat16()
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(lambda m, args: (args[0].to(m.weight.dtype),))
    return network


def test_there_are_architectures():
    assert {"compact", "rrdb"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_is_described(name: str):
    arch, config, network = small(name)
    assert arch.id == name
    assert "arXiv" in arch.paper
    module = inspect.getmodule(arch.build)
    assert module is not None
    assert "arXiv" in (module.__doc__ or "")
    assert isinstance(config, arch.config)
    assert set(network.full_precision) <= {n for n, _ in network.named_modules()}


@pytest.mark.parametrize("name", NAMES)
def test_has_the_published_parameter_counts(name: str):
    arch, _, _ = small(name)
    assert arch.parameters
    for config, published in arch.parameters:
        with torch.device("meta"):
            network = arch.build(config)
        assert sum(p.numel() for p in network.parameters()) == published, config


@pytest.mark.parametrize("name", NAMES)
def test_output_is_scale_times_the_input(name: str):
    arch, config, network = small(name)
    spec = arch.spec(config)
    x = picture(name, 10, 17)
    with torch.inference_mode():
        y = network(x)
    assert y.shape == (1, x.shape[1], x.shape[2] * spec.scale, x.shape[3] * spec.scale)
    assert y.dtype == x.dtype


@pytest.mark.parametrize("name", NAMES)
def test_smallest_picture(name: str):
    arch, config, network = small(name)
    spec = arch.spec(config)
    side = spec.minimum + -spec.minimum % spec.multiple_of
    with torch.inference_mode():
        y = network(torch.zeros(1, spec.channels or 3, side, side))
    assert y.shape[2:] == (side * spec.scale, side * spec.scale)


@pytest.mark.parametrize("name", NAMES)
def test_is_deterministic_and_leaves_its_input_alone(name: str):
    _, _, network = small(name)
    x = picture(name)
    before = x.clone()
    with torch.inference_mode():
        assert torch.equal(network(x), network(x))
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_close(name: str):
    _, _, network = small(name)
    x = picture(name)
    with torch.inference_mode():
        exact = network(x)
        rounded = to_bfloat16(copy.deepcopy(network))(x)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().max() < 0.02 * max(1.0, float(exact.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_parameter(name: str):
    _, _, network = small(name)
    network = copy.deepcopy(network)
    network(picture(name, 8, 8)).square().mean().backward()
    unreached = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unreached


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("other", NAMES)
def test_exactly_one_architecture_claims_a_state(name: str, other: str):
    state = small(name)[2].state_dict()
    arch = architecture(other)
    claimed = arch.detect(arch.canonicalise(state)) is not None
    assert claimed == (name == other)


@pytest.mark.parametrize("name", NAMES)
def test_configuration_is_read_from_the_state(name: str):
    arch, _, _ = small(name)
    for config, _ in arch.parameters:
        with torch.device("meta"):
            state = arch.build(config).state_dict()
        assert detect(state)[1] == config


@pytest.mark.parametrize("name", NAMES)
def test_rebuilt_network_computes_the_same_bits(name: str):
    arch, config, network = small(name)
    rebuilt, spec = build(network.state_dict())
    x = picture(name)
    with torch.inference_mode():
        assert torch.equal(rebuilt(x), network(x))
    assert spec == arch.spec(config)
    assert not rebuilt.training
    assert not any(p.is_meta for p in (*rebuilt.parameters(), *rebuilt.buffers()))
    assert not isinstance(rebuilt, torch.jit.ScriptModule)


@pytest.mark.parametrize("name", NAMES)
def test_float16_is_close_or_refused(name: str):
    """`half` says whether float16 is safe; what says so must be near float32."""
    arch, config, network = small(name)
    if not arch.spec(config).half:
        pytest.skip("declared as unsafe in float16")
    x = picture(name, 8, 8)
    with torch.inference_mode():
        exact = network(x)
        rounded = copy.deepcopy(network).half()(x.half()).float()
    assert rounded.isfinite().all()
    assert (rounded - exact).abs().max() < 0.01 * max(1.0, float(exact.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_loading_is_strict_and_names_the_first_difference(name: str):
    arch, config, network = small(name)
    state = network.state_dict()
    key = next(reversed([key for key, value in state.items() if value.ndim > 0]))
    shape = "×".join(map(str, state[key].shape))
    cases = {
        f"lacks the tensor '{key}' of shape {shape}": {k: v for k, v in state.items() if k != key},
        f"'{key}' has shape 7×3, expected {shape}": {**state, key: torch.zeros(7, 3)},
        "unexpected tensor 'surplus.weight'": {**state, "surplus.weight": torch.zeros(2)},
    }
    for words, tensors in cases.items():
        with pytest.raises(CheckpointError, match=re.escape(words)) as caught:
            realise(arch, config, tensors)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_declared_field_is_enough_and_needed(name: str):
    """Exact tiling: what lies beyond the overlap must not matter, to the last bit of float64.

    The row before it must, above or below: more overlap than needed is computed for nothing.
    """
    arch, config, network = small(name)
    spec = arch.spec(config)
    if spec.tiling != "exact" or spec.overlap > 40:
        pytest.skip("too wide to measure here; the architecture's own tests use small ones")
    network = copy.deepcopy(network).double()
    side = 2 * spec.overlap + 8
    x = torch.rand(1, spec.channels or 3, side, 8, dtype=torch.float64)

    def unmoved(distance: int) -> tuple[bool, bool]:
        """Whether rows so far above leave the lower half alone, and those below the upper one."""
        above, below = x.clone(), x.clone()
        above[:, :, : side // 2 - distance] += 1
        below[:, :, side // 2 + distance :] += 1
        half = side // 2 * spec.scale
        with torch.inference_mode():
            a, b, c = (network(t).split(half, 2) for t in (x, above, below))
        return torch.equal(a[1], b[1]), torch.equal(a[0], c[0])

    assert unmoved(spec.overlap) == (True, True)
    assert not all(unmoved(spec.overlap - 1))
