"""SRCNN, FSRCNN, ESPCN, VDSR, DRCN, DRRN, LapSRN: layouts, variants, fields, special vectors."""

import copy
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vsr.engine.color import rgb_to_ycc
from vsr.errors import CheckpointError
from vsr.models import architecture, build, detect
from vsr.models._blocks_luma import Bicubic, Colour, bicubic_weights, radius_before_bicubic
from vsr.models.drcn import DRCN, DRCNConfig
from vsr.models.drrn import DRRN, DRRNConfig
from vsr.models.espcn import ESPCN, ESPCNConfig
from vsr.models.fsrcnn import FSRCNN, FSRCNNConfig
from vsr.models.lapsrn import ARCH as LAPSRN
from vsr.models.lapsrn import LapSRNConfig, MSLapSRN
from vsr.models.srcnn import SRCNN, SRCNNConfig
from vsr.models.vdsr import VDSR, VDSRConfig
from vsr.resample import resize


def told(name: str, **config: Any) -> dict[str, str]:
    return {"architecture": name, "config": json.dumps(config)}


# the enlargement


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("size", [(2, 2), (2, 9), (13, 7)])
def test_the_enlargement_is_matlabs(scale: int, size: tuple[int, int]):
    x = torch.rand(2, 3, *size)
    expected = resize(x, size[0] * scale, size[1] * scale, "bicubic")
    torch.testing.assert_close(Bicubic(scale)(x), expected, rtol=0, atol=2e-6)


def test_the_enlargement_of_half_precision_is_computed_in_float32():
    x = torch.rand(1, 1, 6, 5).half()
    y = Bicubic(3)(x)
    assert y.dtype == torch.float16
    assert torch.equal(y, Bicubic(3)(x.float()).half())


@pytest.mark.parametrize("scale", range(1, 9))
def test_weights_of_the_enlargement_sum_to_one(scale: int):
    rows = bicubic_weights(scale)
    assert [sum(row) for row in rows] == pytest.approx([1] * scale)
    assert [row[::-1] for row in rows[::-1]] == [pytest.approx(row) for row in rows]


@pytest.mark.parametrize("scale", [0, 9, -2])
def test_other_scales_are_refused(scale: int):
    with pytest.raises(CheckpointError, match=f"1 to 8, got {scale}"):
        Bicubic(scale)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("radius", [0, 1, 6, 20, 52])
def test_radius_before_the_enlargement_is_exact(scale: int, radius: int):
    """Counted on the network of ones: the farthest input pixel with a gradient is the radius."""
    length = 2 * radius + 31
    x = torch.zeros(1, 1, 2, length, dtype=torch.float64, requires_grad=True)
    centre = length // 2
    wide = Bicubic(scale)(x)[0, 0, 0]
    reach = 0
    for position in range(centre * scale, (centre + 1) * scale):
        seen = wide[[position - radius, position + radius]].sum()
        (gradient,) = torch.autograd.grad(seen, x, retain_graph=True)
        used = gradient[0, 0].abs().amax(0).nonzero().flatten()
        reach = max(reach, centre - int(used.min()), int(used.max()) - centre)
    assert radius_before_bicubic(radius, scale) == reach


# receptive fields


@pytest.mark.parametrize(
    ("network", "radius"),
    [
        (SRCNNConfig(), 3),
        (SRCNNConfig(scale=2), 5),
        (ESPCNConfig(), 4),
        (VDSRConfig(), 7),
        (VDSRConfig(scale=2), 12),
        (DRRNConfig(), 15),
        (DRRNConfig(units=9), 7),
        (LapSRNConfig(), 17),
    ],
)
def test_radius_of_the_published_sizes(network: Any, radius: int):
    name = type(network).__name__.removesuffix("Config").lower()
    assert architecture(name).spec(network).overlap == radius


TINY: list[Any] = [
    *(SRCNNConfig(features=2, mapped=2, second=k, scale=s) for k in (1, 5) for s in (1, 2, 3)),
    *(FSRCNNConfig(features=2, mapped=2, convs=2, scale=s) for s in (2, 3, 4, 5)),
    *(FSRCNNConfig(features=2, mapped=2, convs=1, scale=s, kernel=s) for s in (2, 3, 4)),
    *(ESPCNConfig(features=2, mapped=2, scale=s) for s in (2, 3)),
    *(VDSRConfig(features=2, convs=2, scale=s) for s in (1, 2, 3, 4)),
    *(DRCNConfig(features=2, depth=2, scale=s, skip="concat") for s in (1, 2, 3)),
    *(DRRNConfig(features=2, blocks=b, units=2, norm=False) for b in (1, 2)),
    *(LapSRNConfig(features=2, depth=2, kernel=k, scale=s) for k in (3, 4) for s in (2, 4, 8)),
    *(LapSRNConfig(features=2, depth=1, shared=True, recursions=2, scale=s) for s in (2, 4, 8)),
]


def name_of(config: Any) -> str:
    return type(config).__name__.removesuffix("Config").lower()


@pytest.mark.parametrize("config", TINY, ids=str)
def test_declared_field_is_the_measured_one(config: Any):
    """Positive weights let nothing cancel: the farthest input with a gradient is the radius."""
    arch = architecture(name_of(config))
    spec = arch.spec(config)
    network = arch.build(config).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)
    side, s = 2 * spec.overlap + 5, spec.scale
    x = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    centre = side // 2
    block = network(x)[..., centre * s : (centre + 1) * s, centre * s : (centre + 1) * s]
    (gradient,) = torch.autograd.grad(block.sum(), x)
    used = gradient[0, 0].abs().amax(0).nonzero().flatten()
    reach = max(centre - int(used.min()), int(used.max()) - centre)
    assert reach == spec.overlap


# layouts


def renamed(state: Mapping[str, Tensor], homes: Mapping[str, str]) -> dict[str, Tensor]:
    """Each key by the first pattern that it matches entirely."""
    result = {}
    for key, value in state.items():
        match = next(((p, h) for p, h in homes.items() if re.fullmatch(p, key)), None)
        result[re.sub(*match, key) if match else key] = value
    return result


LAYOUTS: list[tuple[Callable[..., nn.Module], Any, dict[str, str]]] = [
    (SRCNN, SRCNNConfig(features=4, mapped=3), {r"conv(\d)(.*)": r"generator.conv\1\2"}),
    (
        SRCNN,
        SRCNNConfig(features=4, mapped=3, second=5),
        {
            r"conv1(.*)": r"features.0\1",
            r"conv2(.*)": r"map.0\1",
            r"conv3(.*)": r"reconstruction\1",
        },
    ),
    (
        ESPCN,
        ESPCNConfig(features=4, mapped=3),
        {r"first_part(.*)": r"feature_maps\1", r"last_part(.*)": r"sub_pixel\1"},
    ),
    (
        FSRCNN,
        FSRCNNConfig(features=6, mapped=3, convs=2),
        {
            r"first_part(.*)": r"feature_extraction\1",
            r"mid_part\.([01])\.(.*)": r"shrink.\1.\2",
            r"mid_part\.2\.(.*)": r"map.0.\1",
            r"mid_part\.3\.(.*)": r"map.1.\1",
            r"mid_part\.4\.(.*)": r"map.2.\1",
            r"mid_part\.5\.(.*)": r"map.3.\1",
            r"mid_part\.6\.(.*)": r"expand.0.\1",
            r"mid_part\.7\.(.*)": r"expand.1.\1",
            r"last_part(.*)": r"deconv\1",
        },
    ),
    (
        VDSR,
        VDSRConfig(features=4, convs=2),
        {
            r"input(.*)": r"conv1.0\1",
            r"output(.*)": r"conv2\1",
            r"residual_layer(.*)": r"trunk\1",
        },
    ),
    (
        DRRN,
        DRRNConfig(features=4, units=9, norm=False),
        {
            r"rbs\.0\.h0.*": "input.weight",
            r"rbs\.0\.ru\.module\.0.*": "conv1.weight",
            r"rbs\.0\.ru\.module\.1.*": "conv2.weight",
            r"rec.*": "output.weight",
        },
    ),
]


@pytest.mark.parametrize(("make", "config", "homes"), LAYOUTS)
def test_foreign_layouts(make: Callable[..., nn.Module], config: Any, homes: dict[str, str]):
    network = make(config).eval()
    state = renamed(network.state_dict(), homes)
    assert not set(state) & set(network.state_dict())
    assert detect(state)[1] == config
    x = torch.rand(1, 1, 7, 8)
    with torch.inference_mode():
        assert torch.equal(build(state)[0](x), network(x))


@pytest.mark.parametrize("config", TINY, ids=str)
def test_configuration_from_the_state(config: Any):
    arch = architecture(name_of(config))
    found = detect(arch.build(config).state_dict())[1]
    hints = {key: getattr(config, key) for key in arch.hinted}
    rebuilt, spec = build(arch.build(config).state_dict(), told(arch.id, **hints))
    assert spec == arch.spec(config)
    assert rebuilt(torch.rand(1, 1, 4, 4)).shape[2] == 4 * spec.scale
    shown = {key: v for key, v in vars_of(found).items() if key not in arch.hinted}
    assert shown == {key: v for key, v in vars_of(config).items() if key not in arch.hinted}


def vars_of(config: Any) -> dict[str, Any]:
    return {name: getattr(config, name) for name in type(config).__slots__}


@pytest.mark.parametrize(
    ("state", "header", "said"),
    [
        (SRCNN(SRCNNConfig()).state_dict(), told("srcnn", scale=9), "1 to 8, got 9"),
        (
            FSRCNN(FSRCNNConfig()).state_dict(),
            told("fsrcnn", scale=10),
            "cannot make a scale of 10",
        ),
        (ESPCN(ESPCNConfig()).state_dict(), told("espcn", activation="gelu"), "'gelu'"),
        (ESPCN(ESPCNConfig()).state_dict(), told("espcn", colour="ycc"), "three channels"),
        (MSLapSRN(LapSRNConfig(shared=True)).state_dict(), told("lapsrn", scale=3), "2, 4 and 8"),
    ],
)
def test_impossible_headers_are_refused(state: dict[str, Tensor], header: Any, said: str):
    with pytest.raises(CheckpointError, match=said):
        build(state, header)


# variants


def test_drrn_units_share_convolutions_and_not_norms():
    network = DRRN(DRRNConfig(features=4, units=3, scale=2)).eval()
    keys = set(network.state_dict())
    assert sum(key.endswith("running_mean") for key in keys) == 2 * 3 + 2
    assert sum(key.endswith("module.1.weight") for key in keys) == 4
    x = torch.rand(1, 1, 6, 6)
    before = network(x)
    with torch.no_grad():
        network.rbs[0].norms[5].bias += 1
    assert not torch.equal(network(x), before)
    assert detect(network.state_dict())[1].units == 3


def test_drrn_norms_stay_float32_in_bfloat16():
    network = DRRN(DRRNConfig(features=4, units=2, scale=2)).eval()
    assert len(network.full_precision) == 6
    rounded = copy.deepcopy(network)
    for name, layer in rounded.named_modules():
        if not list(layer.children()) and name not in network.full_precision:
            layer.bfloat16()
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(lambda m, args: (args[0].to(m.weight.dtype),))
    x = torch.rand(1, 1, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(rounded(x), network(x), rtol=0, atol=0.05)


def test_drcn_supervises_every_recursion():
    for skip in ("add", "concat"):
        network = DRCN(DRCNConfig(features=4, depth=3, skip=skip, scale=2))
        x = torch.rand(1, 1, 6, 6)
        pictures = list(network.predictions(x))
        assert len(pictures) == 3
        torch.testing.assert_close(network(x), sum(pictures) / 3)


def test_lapsrn_supervises_every_level():
    for shared in (False, True):
        network = LAPSRN.build(LapSRNConfig(features=4, depth=1, shared=shared, scale=8))
        pictures = list(network.predictions(torch.rand(1, 1, 5, 6)))
        assert [tuple(p.shape[2:]) for p in pictures] == [(10, 12), (20, 24), (40, 48)]


def test_lapsrn_begins_as_bilinear_enlargement():
    network = LAPSRN.build(LapSRNConfig(features=2, depth=1, channels=3, scale=2))
    with torch.no_grad():
        network.convt_R1.weight.zero_()
        network.convt_R1.bias.zero_()
    x = torch.rand(1, 3, 6, 7)
    expected = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    with torch.inference_mode():
        inner = (..., slice(1, -1), slice(1, -1))
        torch.testing.assert_close(network(x)[inner], expected[inner])


def test_fsrcnn_output_lies_on_the_input():
    """A kernel that only has its centre puts input pixel i at output s·i."""
    network = FSRCNN(FSRCNNConfig(features=1, mapped=1, convs=1, scale=3)).eval()
    with torch.no_grad():
        network.last_part.weight.zero_()
        network.last_part.bias.zero_()
        network.last_part.weight[0, 0, 4, 4] = 1
        x = torch.rand(1, 1, 4, 5)
        features = network.mid_part(network.first_part(x))
        assert torch.equal(network(x)[..., ::3, ::3], features)


def test_luma_and_chroma_of_colour_are_full_range_bt601():
    x = torch.rand(2, 3, 5, 4)
    colour = Colour("ycc", 3)
    expected = rgb_to_ycc(x, 6)
    expected[:, 1:] += 0.5
    torch.testing.assert_close(colour.enter(x), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(colour.leave(colour.enter(x)), x, rtol=0, atol=1e-6)
    assert Colour("rgb", 3).enter(x) is x


# official vectors that clip, or lose their border


def golden(shared: Path, name: str) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    given = load_file(shared / "data" / "golden" / f"{name}.safetensors")
    state = {key.removeprefix("sd."): v for key, v in given.items() if key.startswith("sd.")}
    return state, given["input"], given["output"]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "id_", "hints"),
    [
        ("espcn_x2_nhatthanh", "espcn", {}),
        ("fsrcnn_x3_nhatthanh", "fsrcnn", {}),
        ("srcnn_915_nhatthanh", "srcnn", {"scale": 1}),
        ("srcnn_955_nhatthanh", "srcnn", {"scale": 1}),
    ],
)
def test_equals_versions_that_clip_and_convolve_the_valid_area(
    name: str, id_: str, hints: dict[str, Any], shared: Path
):
    state, x, expected = golden(shared, name)
    network, spec = build(state, told(id_, **hints))
    with torch.inference_mode():
        y = network(x)
    assert detect(state)[0].id == id_
    lost = [(a - b) // 2 for a, b in zip(y.shape[2:], expected.shape[2:], strict=True)]
    assert lost == [spec.overlap] * 2 if id_ == "srcnn" else lost == [0, 0]
    inner = y[..., lost[0] : y.shape[2] - lost[0], lost[1] : y.shape[3] - lost[1]]
    torch.testing.assert_close(inner.clamp(0, 1), expected, rtol=0, atol=1e-5)
