"""SPAN, PLKSR and both DASR: foreign layouts, golden special cases, trained checkpoints."""

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from vsr.checkpoints import read_checkpoint
from vsr.engine.network import Network
from vsr.errors import CheckpointError
from vsr.metrics import luma, psnr
from vsr.models import build, detect
from vsr.models._base import Architecture
from vsr.models.dasr import ARCH as DASR_ARCH
from vsr.models.dasr import DASR, DASRConfig
from vsr.models.dasr_moe import ARCH as MOE_ARCH
from vsr.models.dasr_moe import DASRMoE, DASRMoEConfig
from vsr.models.plksr import ARCH as PLKSR_ARCH
from vsr.models.plksr import PLKSR, PLKSRConfig
from vsr.models.rrdb import RRDBConfig, RRDBNet
from vsr.models.span import ARCH as SPAN_ARCH
from vsr.models.span import SPAN, SPANConfig
from vsr.models.swinir import ARCH as SWINIR_ARCH
from vsr.models.swinir import SwinIRConfig


def golden(shared: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Pictures of a golden file, and its state dict."""
    with safe_open(shared / "data" / "golden" / f"{name}.safetensors", "pt") as file:
        given = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no iterator
    state = {key.removeprefix("sd."): v for key, v in given.items() if key.startswith("sd.")}
    return given, state


def set5(network: nn.Module, shared: Path, scale: int) -> float:
    """Mean PSNR of luma, as papers measure it."""
    found = []
    for path in sorted((shared / "data" / "images" / "set5" / "HR").glob("*.png")):
        low = path.parents[1] / "LR_bicubic" / f"X{scale}" / f"{path.stem}x{scale}.png"
        x, truth = (np.asarray(Image.open(file).convert("RGB")) for file in (low, path))
        with torch.inference_mode():
            y = network(torch.tensor(x).permute(2, 0, 1)[None] / 255)
        made = (y[0].clamp(0, 1) * 255).round().permute(1, 2, 0).byte().numpy()
        truth = truth[: made.shape[0], : made.shape[1]]
        found.append(psnr(luma(made), luma(truth), scale))
    return float(np.mean(found))


# SPAN


@pytest.mark.shared
def test_span_deployed_equals_the_official_bits(shared: Path):
    """The folded kernels as they are stored give the same bits; folding them here, 1e-6 of it."""
    given, state = golden(shared, "span_x4")
    deployed = {k: v for k, v in state.items() if ".sk." not in k and ".conv." not in k}
    assert len(deployed) == 2 * (1 + 18 + 1 + 1 + 1)
    folded, stored = build(state)[0].state_dict(), build(deployed)[0]
    for key, value in stored.state_dict().items():
        torch.testing.assert_close(folded[key], value, rtol=0, atol=2e-7)
    with torch.inference_mode():
        torch.testing.assert_close(stored(given["input"]), given["output"], rtol=0, atol=1e-5)


@pytest.mark.shared
def test_span_ignores_a_stale_fold(shared: Path):
    """The authors' network folds again whenever it runs."""
    given, state = golden(shared, "span_x4")
    stale = {k: torch.zeros_like(v) if ".eval_conv." in k else v for k, v in state.items()}
    none = {k: v for k, v in state.items() if ".eval_conv." not in k}
    with torch.inference_mode():
        expected = build(state)[0](given["input"])
        assert torch.equal(build(stale)[0](given["input"]), expected)
        assert torch.equal(build(none)[0](given["input"]), expected)


@pytest.mark.shared
@pytest.mark.parametrize("change", ["lost", "misshapen"])
def test_span_with_a_damaged_chain_is_refused(shared: Path, change: str):
    _, state = golden(shared, "span_x4")
    key = "block_3.c2_r.conv.1.weight"
    state[key] = state[key][:, :-1]
    if change == "lost":
        del state[key]
    with pytest.raises(CheckpointError, match=r"block_3\.c2_r\.weight"):
        build(state)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("norm", [True, False])
def test_span_configuration_from_the_state(scale: int, norm: bool):
    config = SPANConfig(features=6, scale=scale, norm=norm)
    state = SPAN(config).state_dict()
    assert ("no_norm" in state) != norm
    assert detect(state)[1] == config


def test_span_without_norm_sees_the_picture_itself():
    torch.manual_seed(0)
    plain = SPAN(SPANConfig(features=4, norm=False))
    normed = SPAN(SPANConfig(features=4))
    normed.load_state_dict({k: v for k, v in plain.state_dict().items() if k != "no_norm"})
    x = torch.rand(1, 3, 8, 8)
    mean = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)
    with torch.inference_mode():
        torch.testing.assert_close(plain((x - mean) * 255), normed(x))


@pytest.mark.shared
def test_span_of_the_challenge_is_recognised_and_good(shared: Path):
    """No paper has its Set5; 31.74 is what it gives here, over 3 dB above bicubic's 28.42."""
    weights = shared / "data" / "weights" / "SPAN_x4_ch28_ntire2026_baseline.pth"
    network, spec = build(read_checkpoint(weights).state)
    assert spec.overlap == 21
    assert set5(network, shared, 4) == pytest.approx(31.74, abs=0.02)


# All of them


@pytest.mark.parametrize(
    ("arch", "config"),
    [
        (SPAN_ARCH, SPANConfig(features=4)),
        (PLKSR_ARCH, PLKSRConfig(features=8, blocks=1, kernel=5, partial=2, norm="group")),
        (DASR_ARCH, DASRConfig(features=8, groups=1, blocks=1, embedding=16)),
        (MOE_ARCH, DASRMoEConfig(features=4, blocks=1, predictor=4)),
        (SWINIR_ARCH, SwinIRConfig(embed=8, depths=(1,), heads=(2,), hidden=8)),
    ],
    ids=lambda value: getattr(value, "id", ""),
)
def test_odd_shapes_are_no_surprise(arch: Architecture[Any], config: object):
    """Whatever shape a tensor has: not claimed, built, or refused in one line."""
    state = dict(arch.build(config).state_dict())
    shapes = [(), (0, 0, 0, 0), (2, 1, 2, 2), (1, 1, 1, 1, 1)]
    for key in filter(lambda key: key.endswith("weight"), state):
        for shape in shapes:
            canonical = arch.canonicalise(state | {key: torch.zeros(shape)})
            found = arch.detect(canonical)
            if found is not None:
                with suppress(CheckpointError), torch.device("meta"):
                    arch.build(found)


# BSRGAN and BSRNet are RRDBNets under KAIR's names


@pytest.mark.parametrize(("scale", "ups"), [(4, 2), (2, 1)])
def test_kair_networks_are_rrdb(scale: int, ups: int):
    names = {"conv_body": "trunk_conv", "conv_hr": "HRconv"}
    names |= {f"conv_up{k}": f"upconv{k}" for k in (1, 2)}
    network = RRDBNet(RRDBConfig(features=8, growth=4, blocks=2, ups=ups)).eval()
    state: dict[str, Any] = {}
    for old, value in network.state_dict().items():
        key = re.sub(r"^body\.(\d)\.rdb(\d)", r"RRDB_trunk.\1.RDB\2", old)
        stem = key.partition(".")[0]
        state[key.replace(stem, names.get(stem, stem))] = value
    assert "RRDB_trunk.1.RDB3.conv5.weight" in state
    x = torch.rand(1, 3, 6, 5)
    made, spec = build(state)
    assert (detect(state)[0].id, spec.scale) == ("rrdb", scale)
    with torch.inference_mode():
        assert torch.equal(made(x), network(x))


# Networks without golden files: what the official code computes from weights that a formula makes.
# PLKSR at 20504e8 (dslisleedh/PLKSR), RealPLKSR of spandrel 0.4, DASR at b2269e4 (csjliang/DASR).


def waves(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights made of sines, one phase a tensor in the order of their names."""
    made = {}
    for phase, key in enumerate(sorted(state)):
        shape, count = state[key].shape, state[key].numel()
        wave = torch.sin(0.37 * torch.arange(count, dtype=torch.float64) + phase)
        scaled = (wave / state[key][0].numel() ** 0.5).reshape(shape).float()
        made[key] = state[key] if key.endswith("init_pos") else scaled
    return made


def computed(state: dict[str, Tensor]) -> list[float]:
    """First value, that at a third, last, mean and largest magnitude."""
    x = torch.sin(0.11 * torch.arange(2 * 3 * 7 * 9, dtype=torch.float64)) / 2 + 0.5
    network, spec = build(state)
    with torch.inference_mode():
        y = network(x.reshape(2, 3, 7, 9).float())
    assert y.shape == (2, 3, 7 * spec.scale, 9 * spec.scale)
    flat = y.flatten()
    picked = (flat[0], flat[len(flat) // 3], flat[-1], flat.mean(), flat.abs().max())
    return [float(value) for value in picked]


# PLKSR

SMALL = PLKSRConfig(features=8, blocks=2, kernel=5, partial=2, scale=2)
OFFICIAL = {
    "plksr": (SMALL, [-2.291904, 0.197328, 3.044538, 0.010999, 9.865558]),
    "ccm": (
        replace(SMALL, partial=4, leave=1, gate=False, scale=3),
        [-0.154666, 5.610641, 1.352569, 0.678483, 10.870446],
    ),
    "real": (
        replace(SMALL, norm="group"),
        [3.976885, 2.101279, -2.175239, 0.718479, 7.47437],
    ),
    "real with layer norm": (
        replace(SMALL, norm="layer"),
        [-0.267071, -1.235657, 0.583475, 0.577131, 7.450034],
    ),
    "real with dysample": (
        replace(SMALL, norm="group", dysample=True),
        [-3.215047, 2.608341, 1.978135, 0.051705, 3.719877],
    ),
}


def plksr_state(config: PLKSRConfig) -> dict[str, Tensor]:
    """In the layout of its publisher; the authors write `channe_mixer`."""
    state = dict(PLKSR(config).state_dict())
    if config.norm == "none":
        state = {key.replace("channel_mixer", "channe_mixer"): v for key, v in state.items()}
    return state


@pytest.mark.parametrize("name", OFFICIAL)
def test_plksr_computes_what_the_official_code_does(name: str):
    config, expected = OFFICIAL[name]
    state = waves(plksr_state(config))
    assert detect(state)[1] == config
    assert computed(state) == pytest.approx(expected, abs=2e-5)


def test_realplksr_counts_a_dropout():
    assert "feats.4.weight" in plksr_state(replace(SMALL, norm="group"))
    assert "feats.3.weight" in plksr_state(SMALL)


@pytest.mark.parametrize("scale", [1, 3, 4])
@pytest.mark.parametrize("dysample", [True, False])
def test_plksr_configuration_from_the_state(scale: int, dysample: bool):
    channels = 3 if dysample else 1
    config = replace(SMALL, scale=scale, dysample=dysample, norm="layer", channels=channels)
    network = PLKSR(replace(config, gate=False))
    assert detect(network.state_dict())[1] == replace(config, gate=False)
    with torch.inference_mode():
        y = network(torch.rand(1, channels, 5, 4))
    assert y.shape == (1, channels, 5 * scale, 4 * scale)


@pytest.mark.parametrize("leave", [1, 3])
@pytest.mark.parametrize("gate", [True, False])
def test_plksr_radius_is_exact(leave: int, gate: bool):
    """Positive weights let nothing cancel: the farthest input with a gradient is the radius."""
    config = replace(SMALL, channels=1, partial=8, leave=leave, gate=gate, scale=1)
    network, spec = PLKSR(config).double(), PLKSR_ARCH.spec(config)
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.01)
    side = 2 * spec.overlap + 3
    x = torch.rand(1, 1, side, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(x)[0, 0, side // 2].sum(), x)
    rows = gradient.abs().sum((1, 3)).flatten().nonzero().flatten()
    assert (int(rows.min()), int(rows.max())) == (1, side - 2)
    assert spec.tiling == "exact"


def test_plksr_says_which_tiles_are_exact():
    assert PLKSR_ARCH.spec(PLKSRConfig(blocks=12, kernel=13, gate=False)).overlap == 98
    assert PLKSR_ARCH.spec(PLKSRConfig()).tiling == "approximate"
    for change in ({"norm": "group"}, {"norm": "layer", "dysample": True}):
        spec = PLKSR_ARCH.spec(replace(SMALL, **change))
        assert (spec.tiling, spec.half) == ("approximate", False)


def test_plksr_norm_groups_come_from_a_header():
    state = waves(plksr_state(replace(SMALL, norm="group")))
    header = {"architecture": "plksr", "config": '{"norm_groups": 2}'}
    x = torch.rand(1, 3, 6, 6)
    with torch.inference_mode():
        assert not torch.allclose(build(state)[0](x), build(state, header)[0](x))
    for groups, said in ((0, "'norm_groups' = '0'"), (3, "8 channels .* 3 groups")):
        with pytest.raises(CheckpointError, match=said):
            build(state, header | {"config": f'{{"norm_groups": {groups}}}'})


# DASR of 2021


@pytest.mark.shared
def test_dasr_generator_equals_the_official_one(shared: Path):
    """In [0, 255], with the encoder's result given."""
    given, state = golden(shared, "dasr_wang_G_x2")
    network = DASR(DASRConfig(groups=2, blocks=1, scale=2)).eval()
    network.G.load_state_dict(state)
    with torch.inference_mode():
        output = network.G(given["input"], given["k_v"])
    torch.testing.assert_close(output, given["output"], rtol=0, atol=2e-3)


def dasr_release(config: DASRConfig) -> tuple[DASR, dict[str, Tensor]]:
    """A network, and a checkpoint of it as the authors save it: with all of MoCo."""
    torch.manual_seed(0)
    network = DASR(config).eval()
    state = dict(network.state_dict())
    state |= {f"E.encoder_q.mlp.{k}.weight": torch.rand(256, 256) for k in (0, 2)}
    state |= {f"E.encoder_q.mlp.{k}.bias": torch.rand(256) for k in (0, 2)}
    query = [key for key in state if "encoder_q" in key]
    state |= {
        key.replace("encoder_q", "encoder_k"): torch.rand_like(state[key])
        for key in query
        if state[key].is_floating_point()
    }
    state |= {"E.queue": torch.rand(256, 64), "E.queue_ptr": torch.zeros(1, dtype=torch.int64)}
    return network, state


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_dasr_reads_the_authors_checkpoints(scale: int):
    config = DASRConfig(features=16, groups=2, blocks=1, scale=scale)
    network, state = dasr_release(config)
    made, spec = build(state)
    assert detect(state)[1] == config
    assert (spec.scale, spec.tiling) == (scale, "approximate")
    x = torch.rand(2, 3, 9, 8)
    with torch.inference_mode():
        assert torch.equal(made(x), network(x))


def test_dasr_is_led_by_the_degradation():
    network = DASR(DASRConfig(features=16, groups=1, blocks=1, scale=2)).eval()
    x = torch.rand(2, 3, 12, 12)
    with torch.inference_mode():
        both = network(x)
        torch.testing.assert_close(both[1:], network(x[1:]))  # each picture by its own
        encoded = network.E["encoder_q"](x * 255)
        torch.testing.assert_close(both, network.G(x * 255, encoded) / 255)
        assert (both - network.G(x * 255, -20 * encoded) / 255).abs().max() > 1e-3


def test_dasr_encoder_is_the_published_one():
    with torch.device("meta"):
        encoder = DASR(DASRConfig()).E["encoder_q"]
    projection = 2 * (256 * 256 + 256)
    assert sum(p.numel() for p in encoder.parameters()) + projection == 1_278_784


# DASR of 2022


def moe_files(network: DASRMoE) -> dict[str, Tensor]:
    """What the authors' two files hold: kernels have five dimensions, the experts first."""
    experts = network.net_g.conv_first.bias.shape[0]
    state = {key.partition(".")[2]: v for key, v in network.state_dict().items()}
    mixed = [f"{key.removesuffix('.bias')}.weight" for key, v in state.items() if v.ndim == 2]
    kernels = [key for key in mixed if key in state and state[key].ndim == 4]
    return state | {key: state[key].unflatten(0, (experts, -1)) for key in kernels}


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (4, [-0.245663, 0.810432, 0.066606, 0.065053, 0.862113]),
        (2, [-0.265122, 0.830379, 0.058018, 0.053438, 0.857899]),
    ],
)
@pytest.mark.parametrize("prefixed", [True, False])
def test_dasr_moe_computes_what_the_official_code_does(scale: int, expected, prefixed: bool):
    config = DASRMoEConfig(
        features=8, blocks=2, experts=3, scale=scale, predictor=4, degradations=6
    )
    state = waves(moe_files(DASRMoE(config)))
    predictor = ("ConvNet", "MappingNet")
    if prefixed:
        state = {
            ("net_p." if k.startswith(predictor) else "net_g.") + k: v for k, v in state.items()
        }
    assert detect(state)[1] == config
    assert computed(state) == pytest.approx(expected, abs=2e-5)


def test_dasr_moe_needs_both_files():
    network = DASRMoE(DASRMoEConfig(features=8, blocks=1, predictor=4))
    files = moe_files(network)
    for predictor in (True, False):
        part = {k: v for k, v in files.items() if (k[0] in "CM") == predictor}
        canonical = MOE_ARCH.canonicalise(part)
        assert canonical
        assert all(network.state_dict()[key].shape == v.shape for key, v in canonical.items())
        assert MOE_ARCH.detect(canonical) is None


def test_dasr_moe_runs_in_the_engine():
    """It puts all tensors of four dimensions into channels-last, and could not those of five."""
    network = DASRMoE(DASRMoEConfig(features=8, blocks=1, predictor=4)).eval()
    made = Network(network, MOE_ARCH.spec(DASRMoEConfig()), torch.device("cpu"), "fp32")
    x = torch.rand(1, 3, 8, 9)
    with torch.inference_mode():
        torch.testing.assert_close(made(x), network(x))


def test_dasr_moe_mixes_for_each_picture():
    network = DASRMoE(DASRMoEConfig(features=8, blocks=1, predictor=4)).eval()
    x = torch.rand(3, 3, 8, 9)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), torch.cat([network(one[None]) for one in x]))
        torch.testing.assert_close(network.net_g(x, torch.eye(5)[:3]), one_by_one(network, x))


def one_by_one(network: DASRMoE, x: Tensor) -> Tensor:
    """A pure mixture is one expert's network."""
    results = []
    for k, picture in enumerate(x):
        expert = DASRMoE(DASRMoEConfig(features=8, blocks=1, predictor=4, experts=1))
        state = {}
        for key, stacked in network.net_g.state_dict().items():
            own = stacked.unflatten(0, (5, -1))[k]
            state[key] = own.reshape(1, -1) if key.endswith("bias") else own
        expert.net_g.load_state_dict(state)
        results.append(expert.net_g(picture[None], torch.ones(1, 1)))
    return torch.cat(results)
