"""Networks of spandrel: stand-in descriptors always, real ones where the package is installed."""

import copy
import importlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vsr.checkpoints import read_checkpoint
from vsr.cli.main import run
from vsr.engine.network import Network
from vsr.engine.tiled import Padded, Tiled
from vsr.errors import CheckpointError
from vsr.models import _spandrel, build
from vsr.models._base import InputSpec
from vsr.models._spandrel import Foreign, claim

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


def loaded(
    descriptor: StandIn, state: dict[str, Tensor] | None = None
) -> tuple[nn.Module, InputSpec]:
    state: dict[str, Tensor] = {}
    found = claim(state, lambda _: descriptor)
    assert found is not None
    arch, config = found
    assert arch.realise is not None
    return arch.realise(config, state), arch.spec(config)


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
    assert loaded(StandIn(**changes))[1] == expected


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
        claim({}, lambda _: StandIn(**changes))
    assert "\n" not in str(caught.value)


def test_an_unknown_one_stays_unknown():
    assert claim({}, lambda _: None) is None


def test_the_engine_gives_what_the_descriptor_gives():
    """Also where a network looks into its own layers, which the engine must not have replaced."""
    descriptor = StandIn()
    module, spec = loaded(descriptor)
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
        results[able] = Network(module, loaded(StandIn())[1], CPU, "bf16")(x)
        assert results[able].dtype == torch.float32
    torch.testing.assert_close(results[False], exact, rtol=0, atol=1e-6)
    assert 1e-5 < (results[True] - exact).abs().max() < 2e-2


def test_tiles_and_sizes_are_taken_from_the_descriptor():
    descriptor = StandIn(size_requirements=sizes(minimum=8, multiple_of=8))
    module, spec = loaded(descriptor)
    x = torch.rand(1, 3, 90, 83)
    network = Network(module, spec, CPU, "fp32")
    assert Padded(network)(x[:, :, :5, :3]).shape == (1, 3, 10, 6)
    # Nosy sees two pixels far: an overlap of 32 makes its tiles exact
    whole, tiled = Padded(network)(x), Padded(Tiled(network, 80))(x)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that nobody but the stand-in for spandrel knows."""

    def describe(state: Mapping[str, Tensor]) -> StandIn | None:
        if "strange.0.weight" not in state:
            return None
        found = StandIn()
        found.model.load_state_dict(dict(state))
        return found

    monkeypatch.setattr(_spandrel, "_describe", describe)
    torch.manual_seed(3)
    path = tmp_path / "odd.pth"
    torch.save({"params": Nosy().state_dict()}, path)
    return path


def output(path: Path) -> Tensor:
    found = read_checkpoint(path)
    module, _ = build(found.state, found.metadata)
    return module(torch.arange(3 * 8 * 9).reshape(1, 3, 8, 9) / 216)


def test_show_describes_it(checkpoint: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["models", "show", str(checkpoint), "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert facts["architecture"] == "spandrel/Nosy"
    assert facts["config"]["network"] == "Nosy"
    assert facts["cost"]["parameters"] == sum(p.numel() for p in Nosy().parameters())
    assert facts["cost"]["flops"] == 2 * 9 * (3 * 8 + 8 * 12)
    assert run(["models", "show", str(checkpoint)]) == 0
    out = capsys.readouterr().out
    assert "approximate: tiles overlap by 32 pixels" in out
    assert "has not been measured" in out


def test_convert_keeps_names_and_says_what_it_is(checkpoint: Path, tmp_path: Path):
    target = tmp_path / "odd.safetensors"
    settings = ["--set", "overlap=2", "--set", "tiling=exact"]
    assert run(["models", "convert", str(checkpoint), "-o", str(target), *settings]) == 0
    found = read_checkpoint(target)
    assert found.metadata["architecture"] == "spandrel/Nosy"
    assert found.state.keys() == Nosy().state_dict().keys()
    _, spec = build(found.state, found.metadata)
    assert (spec.tiling, spec.overlap, spec.scale) == ("exact", 2, 2)
    assert torch.equal(output(target), output(checkpoint))


@pytest.mark.parametrize("setting", ["scale=4", "tiling=somehow", "overlap=-1", "luma=full"])
def test_convert_refuses_what_is_not_so(
    setting: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    target = tmp_path / "odd.safetensors"
    arguments = ["models", "convert", str(checkpoint), "-o", str(target), "--set", setting]
    assert run(arguments) == 5
    assert capsys.readouterr().err.count("\n") == 1
    assert not target.exists()


def test_export_is_compared_with_it(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    target = tmp_path / "odd.onnx"
    assert run(["models", "export", str(checkpoint), "-o", str(target)]) == 0
    assert "off the network by" in capsys.readouterr().out
    assert target.stat().st_size > 1000


def test_mixtures_are_of_one_network(checkpoint: Path, tmp_path: Path):
    torch.manual_seed(4)
    other = tmp_path / "other.pth"
    torch.save(Nosy().state_dict(), other)
    target = tmp_path / "mixed.safetensors"
    arguments = [str(checkpoint), str(other), "--alpha", "0.25", "-o", str(target)]
    assert run(["models", "blend", *arguments]) == 0
    expected = [read_checkpoint(path).state["last.weight"] for path in (checkpoint, other)]
    mixed = read_checkpoint(target).state["last.weight"]
    torch.testing.assert_close(mixed, expected[0].lerp(expected[1], 0.25))
    assert not torch.equal(output(target), output(checkpoint))


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
