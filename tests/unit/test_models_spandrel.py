"""Networks of spandrel: stand-in descriptors always, real ones where the package is installed."""

import copy
import importlib
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vsr.engine.network import Network
from vsr.engine.tiled import Padded, Tiled
from vsr.errors import CheckpointError
from vsr.models import _spandrel, build
from vsr.models._base import InputSpec
from vsr.models._spandrel import Foreign, foreign_spec, load_foreign

CPU = torch.device("cpu")


class Nosy(nn.Module):
    """A network of somebody else: it reads the weights of its layers itself."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.strange = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU())
        self.norm = nn.LayerNorm(8)
        self.last = nn.Conv2d(8, channels * 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu(
            nn.functional.conv2d(x, self.strange[0].weight, self.strange[0].bias, padding=1)
        )
        y = self.norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return nn.functional.pixel_shuffle(self.last(y), 2)


class StandIn:
    """As spandrel's `ImageModelDescriptor`: it clamps, and runs the network that it holds."""

    def __init__(self, model: nn.Module | None = None, **changes: Any) -> None:
        torch.manual_seed(0)
        self.model = model or Nosy()
        self.architecture = SimpleNamespace(name="Nosy")
        self.purpose, self.scale = "SR", 2
        self.input_channels = self.output_channels = 3
        self.supports_half, self.supports_bfloat16 = True, True
        self.size_requirements = SimpleNamespace(minimum=0, multiple_of=1, square=False)
        self.tiling = SimpleNamespace(name="SUPPORTED")
        vars(self).update(changes)

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        result: Tensor = self.model(image)
        return result.clamp(0, 1)


def sizes(**changes: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"minimum": 0, "multiple_of": 1, "square": False} | changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, InputSpec(scale=2, overlap=32, tiling="approximate")),
        (
            {"size_requirements": sizes(minimum=16, multiple_of=8), "supports_half": False},
            InputSpec(
                scale=2, overlap=32, tiling="approximate", multiple_of=8, minimum=16, half=False
            ),
        ),
        (
            {"tiling": SimpleNamespace(name="DISCOURAGED"), "scale": 4},
            InputSpec(scale=4, overlap=64, tiling="approximate"),
        ),
        (
            {"tiling": SimpleNamespace(name="INTERNAL"), "input_channels": 1, "output_channels": 1},
            InputSpec(scale=2, overlap=0, tiling="none", channels=1),
        ),
    ],
)
def test_a_descriptor_becomes_a_spec(changes: dict[str, Any], expected: InputSpec):
    assert foreign_spec(StandIn(**changes)) == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"purpose": "Inpainting"}, "purpose is Inpainting"),
        ({"purpose": "FaceSR"}, "purpose is FaceSR"),
        ({"input_channels": 4}, "4 channels to 3"),
        ({"output_channels": 1}, "3 channels to 1"),
        ({"size_requirements": sizes(square=True)}, "square"),
    ],
)
def test_what_cannot_upscale_video_is_refused(changes: dict[str, Any], words: str):
    with pytest.raises(CheckpointError, match=words) as caught:
        load_foreign({}, lambda _: StandIn(**changes))
    assert "\n" not in str(caught.value)


def test_an_unknown_one_stays_unknown():
    assert load_foreign({}, lambda _: None) is None


def test_the_engine_gives_what_the_descriptor_gives():
    """Also where a network looks into its own layers, which the engine must not have replaced."""
    descriptor = StandIn()
    found = load_foreign({}, lambda _: descriptor)
    assert found is not None
    module, spec = found
    x = torch.rand(2, 3, 13, 10)
    expected = descriptor(x)
    got = Padded(Network(module, spec, CPU, "fp32"))(x)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    assert got.min() >= 0
    assert got.max() <= 1


def test_a_copy_has_a_network_of_its_own():
    module = Foreign(StandIn())
    x = torch.rand(1, 3, 8, 8)
    other = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in other.network.parameters():
            parameter.zero_()
    assert other(x).abs().max() == 0
    assert module(x).abs().max() > 0


def test_bfloat16_rounds_where_the_network_can_bear_it():
    x = torch.rand(1, 3, 16, 16)
    exact = StandIn()(x)
    results = {}
    for able in (True, False):
        module = Foreign(StandIn(supports_bfloat16=able))
        results[able] = Network(module, foreign_spec(StandIn()), CPU, "bf16")(x)
        assert results[able].dtype == torch.float32
    torch.testing.assert_close(results[False], exact, rtol=0, atol=1e-6)
    assert 1e-5 < (results[True] - exact).abs().max() < 2e-2


def test_tiles_and_sizes_are_taken_from_the_descriptor():
    descriptor = StandIn(size_requirements=sizes(minimum=8, multiple_of=8))
    found = load_foreign({}, lambda _: descriptor)
    assert found is not None
    module, spec = found
    x = torch.rand(1, 3, 90, 83)
    network = Network(module, spec, CPU, "fp32")
    assert Padded(network)(x[:, :, :5, :3]).shape == (1, 3, 10, 6)
    # Nosy sees two pixels far: an overlap of 32 makes its tiles exact
    whole, tiled = Padded(network)(x), Padded(Tiled(network, 80))(x)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


def test_own_architectures_go_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_spandrel, "_describe", lambda _: pytest.fail("spandrel was asked"))
    state = {
        "body.0.weight": torch.zeros(4, 3, 3, 3),
        "body.0.bias": torch.zeros(4),
        "body.2.weight": torch.zeros(12, 4, 3, 3),
        "body.2.bias": torch.zeros(12),
    }
    assert build(state)[1].scale == 2


def test_what_nobody_knows_names_the_nearest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_spandrel, "_describe", lambda _: None)
    with pytest.raises(CheckpointError, match="fits no known architecture"):
        build({"odd.weight": torch.zeros(2, 2)})
    monkeypatch.setattr(_spandrel, "_describe", lambda _: StandIn())
    assert isinstance(build({"odd.weight": torch.zeros(2, 2)})[0], Foreign)


def real(name: str, **settings: Any) -> nn.Module:
    """A network of spandrel's with random weights."""
    if not _spandrel.is_installed():
        pytest.skip("the optional package spandrel is not installed")
    torch.manual_seed(0)
    home = importlib.import_module(f"spandrel.architectures.{name}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about PyTorch's future
        network: nn.Module = getattr(home, name)(**settings)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("SAFMN", {"dim": 16, "n_blocks": 1, "upscaling_factor": 2}),
        ("MoSR", {"upscale": 2, "n_block": 2, "dim": 16}),
    ],
)
def test_real_networks(name: str, settings: dict[str, Any]):
    state = real(name, **settings).state_dict()
    module, spec = build(state)
    descriptor = _spandrel._describe(state)
    assert descriptor is not None
    x = torch.rand(1, 3, 33, 26)
    got = Padded(Network(module, spec, CPU, "fp32"))(x)
    assert got.shape[2:] == (33 * spec.scale, 26 * spec.scale)
    assert got.isfinite().all()
    if spec.multiple_of == 1:
        torch.testing.assert_close(got, descriptor(x), rtol=0, atol=1e-5)
    low = Padded(Network(module, spec, CPU, "bf16"))(x)
    assert (low - got).abs().mean() < 0.02
