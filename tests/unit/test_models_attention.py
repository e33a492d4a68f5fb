"""Networks that look at the whole picture: layouts, statistics, neighbours, the error of tiles."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from vsr.engine.tiled import Tiled
from vsr.models import architecture, build, detect
from vsr.models import san as san_module
from vsr.models._base import InputSpec
from vsr.models.ignn import IGNN, IGNNConfig, assemble, nearest, patches
from vsr.models.rcan import RCAN, RCANConfig
from vsr.models.san import SAN, SANConfig, SecondOrderAttention, covariance, matrix_root
from vsr.resample import resize

TINY = {
    "ignn": IGNNConfig(features=4, blocks=2),
    "rcan": RCANConfig(features=8, groups=2, blocks=2, squeezed=2),
    "san": SANConfig(features=8, groups=2, blocks=2, squeezed=2, embedded=2),
}


def picture(height: int, width: int) -> Tensor:
    """Waves of rising frequency on a gradient: its parts have unlike statistics."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    colours = [
        0.5 + 0.3 * torch.sin(x * (x + k) / 300 + y / (4.0 + k)) * y / height + 0.2 * x / width
        for k in range(3)
    ]
    return torch.stack(colours)[None].clamp(0, 1).contiguous()


class Upscaler:
    """A module with its spec, as the engine has them."""

    def __init__(self, network: nn.Module, spec: InputSpec) -> None:
        self.network, self.spec = network.eval(), spec

    def __call__(self, x: Tensor, /) -> Tensor:
        with torch.inference_mode():
            y: Tensor = self.network(x)
        return y


def assert_same(state: Mapping[str, Tensor], network: nn.Module, config: Any) -> None:
    x = torch.rand(2, 3, 13, 10)
    assert detect(state)[1] == config
    with torch.inference_mode():
        assert torch.equal(build(state)[0](x), network.eval()(x))


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_rcan_in_both_layouts(scale: int):
    config = RCANConfig(features=8, groups=2, blocks=3, squeezed=2, scale=scale)
    network = RCAN(config)
    state = network.state_dict()
    assert_same(state, network, config)
    basicsr = {}
    for old, value in state.items():
        key = re.sub(r"^body\.(\d)\.body\.3\.", r"body.\1.conv.", old)
        key = re.sub(r"^body\.(\d)\.body\.(\d)\.body\.", r"body.\1.residual_group.\2.rcab.", key)
        key = re.sub(r"\.conv_du\.(\d)", lambda m: f".attention.{int(m[1]) + 1}", key)
        key = re.sub(r"^body\.2\.", "conv_after_body.", key)
        key = re.sub(r"^tail\.0\.", "upsample.", key)
        key = re.sub(r"^tail\.1\.", "conv_last.", re.sub(r"^head\.0\.", "conv_first.", key))
        if "_mean" not in key:
            basicsr[key] = value
    assert "body.1.residual_group.2.rcab.3.attention.3.bias" in basicsr
    assert_same(basicsr, network, config)


@pytest.mark.parametrize("white", [1.0, 255.0])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_san_and_ignn_are_read_at_every_scale(scale: int, white: float):
    san = SANConfig(
        features=8, groups=2, blocks=3, squeezed=3, embedded=2, scale=scale, white=white
    )
    ignn = IGNNConfig(features=4, blocks=3, scale=scale, white=white)
    for network, config in ((SAN(san), san), (IGNN(ignn), ignn)):
        assert_same(network.state_dict(), network, config)


@pytest.mark.parametrize("name", TINY)
def test_tensors_of_no_dimension_are_no_accident(name: str):
    arch = architecture(name)
    state = arch.build(TINY[name]).state_dict()
    for key in state:
        found = arch.detect(arch.canonicalise({**state, key: torch.tensor(0.0)}))
        assert found is None or isinstance(found, arch.config)


@pytest.mark.parametrize(
    ("scale", "published"), [(2, 15_712_800), (3, 15_897_440), (4, 15_860_512)]
)
def test_san_with_what_its_authors_never_use_has_the_published_parameters(
    scale: int, published: int
):
    with torch.device("meta"):
        network = SAN(SANConfig(scale=scale))
        unused = [*(torch.empty(1) for _ in range(20)), *nn.Conv2d(64, 64, 3).parameters()]
        unused += [*nn.Conv2d(64, 8, 1).parameters(), *nn.Conv2d(8, 64, 1).parameters()]
    counted = (*network.parameters(), *network.buffers(), *unused)
    assert sum(tensor.numel() for tensor in counted) == published


@pytest.mark.parametrize(("scale", "published"), [(2, 47_152_233), (4, 49_512_553)])
def test_ignn_with_vgg_has_the_published_parameters(scale: int, published: int):
    with torch.device("meta"):
        network = IGNN(IGNNConfig(scale=scale))
    counted = (*network.parameters(), *network.buffers())
    assert sum(tensor.numel() for tensor in counted) == published


def test_covariance_is_that_of_the_definition():
    """x (I - 1/M) x' / M with the matrix of M² elements, as the authors write it."""
    x = torch.randn(2, 5, 4, 3, dtype=torch.float64)
    centring = torch.eye(12, dtype=torch.float64) / 12 - 1 / 144
    rows = x.flatten(2)
    torch.testing.assert_close(covariance(x), rows @ centring @ rows.transpose(1, 2))


def test_newton_schulz_approaches_the_root():
    wide = torch.randn(1, 4, 30, dtype=torch.float64)
    matrix = wide @ wide.transpose(1, 2)
    errors = [
        float((matrix_root(matrix, steps).matrix_power(2) - matrix).abs().max())
        for steps in (2, 5, 20)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-9
    assert torch.equal(matrix_root(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4))


def test_second_order_attention_of_a_large_picture_sees_its_middle(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(san_module, "_LARGEST", 4)
    attention = SecondOrderAttention(6, 3)
    nn.init.normal_(attention.conv_du[0].weight)
    x = torch.randn(1, 6, 9, 3)
    middle = x[:, :, 2:6]
    torch.testing.assert_close(attention(x)[:, :, 2:6], attention(middle))


def test_black_pictures_stay_finite():
    for name, config in TINY.items():
        network = architecture(name).build(config).eval()
        with torch.inference_mode():
            assert network(torch.zeros(1, 3, 8, 8)).isfinite().all()


def load(shared: Path) -> tuple[IGNN, dict[str, Tensor]]:
    with safe_open(shared / "data" / "golden" / "ignn_x4.safetensors", "pt") as file:
        given = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no iterator
    state = {key.removeprefix("sd."): v for key, v in given.items() if key.startswith("sd.")}
    network, _ = build(state)
    assert isinstance(network, IGNN)
    return network, given


@pytest.mark.shared
def test_ignn_equals_the_authors(shared: Path):
    """The vector's reduced picture was made without mirrored edges, so it is given."""
    network, given = load(shared)
    x, son = given["input"] / 255, given["x_son"] / 255
    with torch.inference_mode():
        index, _ = nearest(network.vggnet(x), network.vggnet(son), network.config)
        output = network.refine(x, son)
        inside = (network.reduced(x) - son)[..., 3:-3, 3:-3]
    assert torch.equal(index, given["graph_idx"])
    torch.testing.assert_close(output, given["output"] / 255, rtol=0, atol=1e-5)
    torch.testing.assert_close(inside, torch.zeros_like(inside), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width", "scale"), [(9, 12, 2), (11, 9, 3), (6, 7, 4)])
def test_reduced_picture_is_that_of_the_cropped_one(height: int, width: int, scale: int):
    step = 3 if scale == 3 else 2
    network = IGNN(IGNNConfig(features=4, blocks=2, scale=scale)).eval()
    x = torch.rand(1, 3, height, width)
    even = x[:, :, : height // step * step, : width // step * step]
    expected = resize(even, height // step, width // step).clamp(0, 1)
    assert torch.equal(network.reduced(x), expected)
    with torch.inference_mode():
        assert network(x).shape == (1, 3, height * scale, width * scale)


@pytest.mark.parametrize(("height", "width"), [(7, 8), (4, 5), (2, 3)])
def test_patches_cover_a_picture_and_assemble_to_it(height: int, width: int):
    x = torch.rand(2, 3, height, width)
    torch.testing.assert_close(assemble(patches(x), height, width), x)


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("held", [1, 10**9])
def test_neighbours_lie_in_their_window(scale: int, held: int, monkeypatch: pytest.MonkeyPatch):
    """By loops over every pair, with the authors' rule for where a window begins."""
    monkeypatch.setattr("vsr.models.ignn._DISTANCES", held)
    config = IGNNConfig(features=4, blocks=2, scale=scale, neighbours=2, window=3)
    x, son = torch.randn(1, 2, 22, 18), torch.randn(1, 2, 22 // scale, 18 // scale)
    index, _ = nearest(x, son, config)
    (rows, columns), (high, wide) = (
        ((t.shape[2] - 2) // 2 + 1, (t.shape[3] - 2) // 2 + 1) for t in (x, son)
    )
    queries, known = patches(x)[0].T, patches(son)[0].T
    side = min(3, high, wide)
    for i in range(rows):
        for j in range(columns):
            top = min(max(i // 2 - side // scale, 0), high - side)
            left = min(max(j // 2 - side // scale, 0), wide - side)
            inside = [(top + a) * wide + left + b for a in range(side) for b in range(side)]
            query = queries[i * columns + j]
            wanted = sorted(inside, key=lambda n, q=query: float((known[n] - q).square().sum()))
            assert index[0, i * columns + j].tolist() == wanted[:2]


def test_few_patches_make_few_neighbours():
    x, son = torch.randn(1, 2, 8, 4), torch.randn(1, 2, 4, 2)
    index, difference = nearest(x, son, IGNNConfig(features=4, blocks=2))
    assert index.shape == (1, 8, 2)
    assert difference.shape == (1, 2, 2, 8, 4)


@pytest.mark.parametrize(
    ("config", "bound"),
    [
        (RCANConfig(features=16, groups=2, blocks=2, squeezed=4, scale=2), 0.5),
        (SANConfig(features=16, groups=2, blocks=2, squeezed=4, embedded=4, scale=2), 1.0),
        (IGNNConfig(features=8, blocks=4, scale=2), 2.0),
    ],
    ids=["rcan", "san", "ignn"],
)
def test_error_of_tiles_is_small_but_not_none(config: Any, bound: float):
    """In 255ths, at half the usual overlap, with attention that varies as if it were trained."""
    name = type(config).__name__.removesuffix("Config").lower()
    arch = architecture(name)
    spec = arch.spec(config)
    assert spec.tiling == "approximate"
    network = arch.build(config)
    for key, layer in network.named_modules():
        if key.endswith("conv_du.0"):
            nn.init.normal_(layer.weight, std=0.1)
    upscaler = Upscaler(network, spec)
    x = picture(72, 120)
    error = (Tiled(upscaler, 80, overlap=32)(x) - upscaler(x)).abs() * 255
    assert 0 < error.max() < bound
    assert spec.tile_error is not None
    assert error.max() / 255 < spec.tile_error  # it was measured of trained weights


def test_tiles_of_ignn_that_hold_its_windows_give_the_whole_picture():
    """The search is bounded by its window; a small one keeps this quick."""
    config = IGNNConfig(features=4, blocks=2, scale=2, window=8)
    network = IGNN(config)
    upscaler = Upscaler(network, architecture("ignn").spec(config))
    x = picture(24, 160)
    whole = upscaler(x)
    near, far = (
        float((Tiled(upscaler, 104, overlap=overlap)(x) - whole).abs().max()) for overlap in (4, 40)
    )
    assert far < 1e-5
    assert near > 10 * far
