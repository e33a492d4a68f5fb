"""Residual networks: layouts, variants, receptive fields, the trained SRGAN."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from vsr.checkpoints import read_checkpoint
from vsr.errors import CheckpointError
from vsr.metrics import luma, psnr
from vsr.models import architecture, build, detect
from vsr.models.edsr import EDSR, EDSRConfig
from vsr.models.mdsr import MDSR, MDSRConfig
from vsr.models.msrresnet import MSRResNetConfig
from vsr.models.rdn import RDN, RDNConfig
from vsr.models.srresnet import SRResNet, SRResNetConfig
from vsr.models.wdsr import WDSR, WDSRConfig

TINY = {
    "edsr": EDSRConfig(features=4, blocks=2),
    "mdsr": MDSRConfig(features=4, blocks=1),
    "msrresnet": MSRResNetConfig(features=4, blocks=2),
    "rdn": RDNConfig(features=4, growth=3, blocks=2, convs=2),
    "srresnet": SRResNetConfig(features=4, blocks=2),
    "wdsr": WDSRConfig(features=4, expanded=8, blocks=2),
}


def renamed(state: Mapping[str, Tensor], *pairs: tuple[str, str]) -> dict[str, Tensor]:
    """Applies regular expressions to all keys, one after another."""
    result = {}
    for old, value in state.items():
        key = old
        for pattern, new in pairs:
            key = re.sub(pattern, new, key)
        result[key] = value
    return result


def assert_same(state: Mapping[str, Tensor], network: nn.Module, config: Any) -> None:
    x = torch.rand(2, 3, 9, 7)
    assert detect(state)[1] == config
    with torch.inference_mode():
        assert torch.equal(build(state)[0](x), network.eval()(x))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_edsr_in_both_layouts(scale: int):
    config = EDSRConfig(features=4, blocks=2, scale=scale)
    network = EDSR(config)
    state = network.state_dict()
    assert_same(state, network, config)
    basicsr = renamed(
        {key: value for key, value in state.items() if "_mean" not in key},
        (r"^body\.2\.", "conv_after_body."),
        (r"^head\.0\.", "conv_first."),
        (r"^tail\.1\.", "conv_last."),
        (r"^tail\.0\.", "upsample."),
        (r"\.body\.0\.", ".conv1."),
        (r"\.body\.2\.", ".conv2."),
    )
    assert "conv_after_body.weight" in basicsr
    assert_same(basicsr, network, config)


def test_edsr_trained_on_values_up_to_one():
    config = EDSRConfig(features=4, blocks=1, white=1.0)
    network = EDSR(config)
    assert float(network.sub_mean.bias[0]) == pytest.approx(-0.4488)
    assert_same(network.state_dict(), network, config)


def test_wide_edsr_scales_its_residuals():
    with torch.device("meta"):
        state = EDSR(EDSRConfig(features=256, blocks=1)).state_dict()
    assert detect(state)[1].residual_scale == 0.1


def test_mmsr_layout_of_msrresnet():
    arch, config = architecture("msrresnet"), TINY["msrresnet"]
    network = arch.build(config)
    old = renamed(network.state_dict(), (r"^body\.", "recon_trunk."), (r"^conv_hr\.", "HRconv."))
    assert_same(old, network, config)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_variants_of_msrresnet(channels: int, scale: int):
    config = MSRResNetConfig(channels=channels, features=4, blocks=1, scale=scale)
    arch = architecture("msrresnet")
    assert detect(arch.build(config).state_dict())[1] == config
    assert arch.spec(config).channels == channels


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_yjn870_layout_of_rdn(scale: int):
    config = RDNConfig(features=4, growth=4, blocks=2, convs=3, scale=scale)
    network = RDN(config)
    last = {2: 2, 3: 2, 4: 4}[scale]
    old = renamed(
        network.state_dict(),
        (r"^SFENet(\d)\.", r"sfe\1."),
        (r"^RDBs\.(\d)\.convs\.(\d)\.conv\.0\.", r"rdbs.\1.layers.\2.conv."),
        (r"^RDBs\.(\d)\.LFF\.", r"rdbs.\1.lff."),
        (r"^GFF\.", "gff."),
        (rf"^UPNet\.{last}\.", "output."),
        (r"^UPNet\.", "upscale." if scale == 3 else "upscale.0."),
    )
    assert_same(old, network, config)


def test_rdn_of_another_range_needs_a_header():
    network = RDN(RDNConfig(features=4, growth=4, blocks=1, convs=1, white=255.0)).eval()
    header = {"architecture": "rdn", "config": json.dumps({"white": 255.0})}
    x = torch.rand(1, 3, 6, 6)
    with torch.inference_mode():
        assert torch.equal(build(network.state_dict(), header)[0](x), network(x))
        assert not torch.equal(build(network.state_dict())[0](x), network(x))


@pytest.mark.parametrize("low_rank", [0, 3])
@pytest.mark.parametrize("newer", [False, True])
def test_wdsr_folds_its_weight_norm(low_rank: int, newer: bool):
    config = WDSRConfig(features=4, expanded=8, low_rank=low_rank, blocks=2, scale=3)
    network = WDSR(config).eval()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            weight_norm(layer).parametrizations.weight.original0.data *= -1.7
    state = network.state_dict()
    if not newer:
        mark = r"\.parametrizations\.weight\.original"
        state = renamed(state, (mark + "0$", ".weight_g"), (mark + "1$", ".weight_v"))
    assert sum("weight" in key for key in state) > len(list(network.named_modules())) / 4
    assert detect(state)[1] == config
    x = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(build(state)[0](x), network(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (WDSRConfig(scale=2), 1_190_100),
        (WDSRConfig(scale=3), 1_195_605),
        (WDSRConfig(scale=4), 1_203_312),
        (WDSRConfig(expanded=192, scale=2), 1_781_972),
        (WDSRConfig(expanded=192, scale=3), 1_787_477),
        (WDSRConfig(expanded=192, scale=4), 1_795_184),
    ],
)
def test_wdsr_has_the_published_parameters_before_folding(config: WDSRConfig, published: int):
    with torch.device("meta"):
        network = WDSR(config)
    lengths = sum(m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d))
    assert sum(p.numel() for p in network.parameters()) + lengths == published


def golden(shared: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    with safe_open(shared / "data" / "golden" / f"{name}.safetensors", "pt") as file:
        given = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no iterator
    state = {key.removeprefix("sd."): v for key, v in given.items() if key.startswith("sd.")}
    return given, state


@pytest.mark.shared
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_mdsr_equals_the_authors_at_every_scale(scale: int, shared: Path):
    given, state = golden(shared, "mdsr_torch_x2x3x4")
    header = {"architecture": "mdsr", "config": json.dumps({"scale": scale})}
    network, spec = build(state, header)
    with torch.inference_mode():
        output = network(given["input"] / 255)
    assert spec.scale == scale
    torch.testing.assert_close(output, given[f"output_x{scale}"] / 255, rtol=0, atol=1e-5)


def test_mdsr_has_only_the_scales_that_it_was_made_for():
    state = MDSR(MDSRConfig(features=4, blocks=1, scales="3,2", scale=2)).state_dict()
    assert detect(state)[1] == MDSRConfig(features=4, blocks=1, scales="3,2", scale=3)
    header = {"architecture": "mdsr", "config": json.dumps({"scale": 4})}
    with pytest.raises(CheckpointError, match="no scale 4: take one of 3,2"):
        build(state, header)


@pytest.mark.parametrize(
    ("arch", "config", "radius"),
    [
        ("edsr", EDSRConfig(), 36),
        ("edsr", EDSRConfig(blocks=32), 68),
        ("srresnet", SRResNetConfig(), 40),
        ("rdn", RDNConfig(), 133),
        ("rdn", RDNConfig(blocks=20, convs=6), 125),
    ],
)
def test_receptive_radius_of_the_published_sizes(arch: str, config: Any, radius: int):
    spec = architecture(arch).spec(config)
    assert spec.overlap == radius
    assert spec.tiling == "exact"


@pytest.mark.parametrize(
    ("arch", "config"),
    [
        *(("edsr", EDSRConfig(features=1, blocks=1, scale=s)) for s in (2, 3, 4, 8)),
        *(("srresnet", SRResNetConfig(features=1, blocks=1, scale=s)) for s in (2, 3, 4)),
        *(("msrresnet", MSRResNetConfig(features=1, blocks=1, scale=s)) for s in (2, 3, 4)),
        *(("rdn", RDNConfig(features=1, growth=1, blocks=2, convs=2, scale=s)) for s in (2, 3, 4)),
        *(("mdsr", MDSRConfig(features=1, blocks=1, scale=s)) for s in (2, 3, 4)),
        ("wdsr", WDSRConfig(features=1, expanded=2, blocks=2, scale=2)),
        ("wdsr", WDSRConfig(features=1, expanded=2, low_rank=1, blocks=3, scale=3)),
    ],
    ids=lambda value: value if isinstance(value, str) else f"x{value.scale}",
)
def test_receptive_radius_is_exact(arch: str, config: Any):
    """Positive weights let nothing cancel: the farthest input with a gradient is the radius."""
    spec = architecture(arch).spec(config)
    network = architecture(arch).build(config).double().eval()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.1)
            nn.init.zeros_(layer.bias)
    middle = spec.overlap + 3
    x = torch.ones(1, 3, 2 * middle, 1, dtype=torch.float64, requires_grad=True)
    y = network(x).sum((1, 3)).flatten()
    farthest = 0
    for offset in range(config.scale):  # every position of an output pixel within an input pixel
        (gradient,) = torch.autograd.grad(y[middle * config.scale + offset], x, retain_graph=True)
        rows = gradient.sum((1, 3)).flatten().nonzero().flatten()
        farthest = max(farthest, middle - int(rows.min()), int(rows.max()) - middle)
    assert farthest == spec.overlap


@pytest.mark.parametrize("name", TINY)
def test_tensors_of_no_dimension_are_no_accident(name: str):
    arch = architecture(name)
    state = arch.build(TINY[name]).state_dict()
    for key in state:
        found = arch.detect(arch.canonicalise({**state, key: torch.tensor(0.0)}))
        assert found is None or isinstance(found, arch.config)


@pytest.mark.parametrize("arch", TINY)
def test_strict_loading_names_the_first_difference(arch: str):
    state = dict(architecture(arch).build(TINY[arch]).state_dict())
    key = next(key for key in state if key.startswith(("body", "RDBs")) and "bias" in key)
    del state[key]
    with pytest.raises(CheckpointError, match=f"lacks the tensor '{re.escape(key)}'"):
        build(state)


def test_later_leftthomas_networks_end_in_tanh_too():
    """Since 2019 a norm closes their trunk, as in the paper, and no counter is missing."""
    config = SRResNetConfig(features=4, blocks=2, scale=2, output="tanh")
    network = SRResNet(config)
    state = network.state_dict()
    old = renamed(
        {key: value for key, value in state.items() if key != "middle"},
        (r"^body\.(\d)\.", lambda m: f"block{int(m[1]) + 2}."),
        (r"\.norm([12])\.", r".bn\1."),
        (r"\.act\.", ".prelu."),
        (r"^head\.", "block1."),
        (r"^merge\.", "block4."),
        (r"^tail\.", "block5.1."),
        (r"^upsample\.0\.0\.", "block5.0.conv."),
        (r"^upsample\.0\.2\.", "block5.0.prelu."),
    )
    assert_same(old, network, config)


def test_instance_norm_wants_the_whole_picture():
    config = SRResNetConfig(norm="instance", activation="leakyrelu", bias=False)
    assert architecture("srresnet").spec(config).tiling == "none"


def srgan(state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """leftthomas' generator at commit b0323c6 in functions, by its checkpoint's own names."""

    def conv(name: str, x: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        return functional.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[2] // 2)

    def norm(name: str, x: Tensor) -> Tensor:
        kinds = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(state[f"{name}.{kind}"] for kind in kinds))

    first = y = functional.prelu(conv("block1.0", x), state["block1.1.weight"])
    for k in range(2, 7):
        z = norm(f"block{k}.bn1", conv(f"block{k}.conv1", y))
        z = conv(f"block{k}.conv2", functional.prelu(z, state[f"block{k}.prelu.weight"]))
        y = y + norm(f"block{k}.bn2", z)
    y = first + functional.prelu(conv("block7.0", y), state["block7.1.weight"])
    for k in range(2):
        y = functional.pixel_shuffle(conv(f"block8.{k}.conv", y), 2)
        y = functional.prelu(y, state[f"block8.{k}.prelu.weight"])
    return (torch.tanh(conv("block8.2", y)) + 1) / 2


@pytest.mark.shared
def test_trained_srgan(shared: Path):
    """Its authors published no figure for Set5; bicubic has 28.43 dB, the paper's SRGAN 29.40."""
    state = read_checkpoint(shared / "data" / "weights" / "SRGAN_netG_x4_leftthomas.pth").state
    network, spec = build(state)
    assert (spec.scale, spec.overlap, spec.tiling) == (4, 18, "exact")
    folder, figures = shared / "data" / "images" / "set5", []
    for path in sorted((folder / "LR_bicubic" / "X4").iterdir()):
        small = np.asarray(Image.open(path).convert("RGB"))
        large = np.asarray(Image.open(folder / "HR" / path.name.replace("x4", "")).convert("RGB"))
        large = large[: 4 * small.shape[0], : 4 * small.shape[1]]
        x = torch.tensor(small).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            y = network(x)
        if path.name == "womanx4.png":
            torch.testing.assert_close(y, srgan(state, x), rtol=0, atol=1e-5)
        picture = y[0].mul(255).round().permute(1, 2, 0).numpy().astype(np.float64)
        figures.append(psnr(luma(picture), luma(large), crop=4))
    assert np.mean(figures) == pytest.approx(30.65, abs=0.05)
