"""MS-SSIM, SSIM of colour, LPIPS and DISTS."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from safetensors.torch import save_file

from vsr.errors import CheckpointError, UsageError
from vsr.judging.perceptual import Dists, Lpips, backbone
from vsr.judging.similarity import SCALES, ms_ssim, ssim_rgb
from vsr.metrics import ssim


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_ms_ssim_bounds():
    a, b = noise((192, 200)), noise((192, 200), 1)
    assert ms_ssim(a, a) == pytest.approx(1)
    assert 0 <= ms_ssim(a, b) < 0.3
    assert ms_ssim(a, b) == pytest.approx(ms_ssim(b, a))


def test_ms_ssim_of_flat_pictures_is_the_luminance_of_the_coarsest_scale():
    a, b = np.full((176, 176), 50.0), np.full((176, 176), 80.0)
    c1 = (0.01 * 255) ** 2
    luminance = (2 * 50 * 80 + c1) / (50**2 + 80**2 + c1)
    assert ms_ssim(a, b) == pytest.approx(luminance ** SCALES[-1])


def test_ms_ssim_equals_the_product_of_its_scales():
    """Written out with the SSIM of the papers on 2×2 means (Wang et al. 2003, eq. 7)."""
    a = noise((176, 192), 2).astype(float)
    b = (a + np.random.default_rng(3).normal(0, 20, a.shape)).clip(0, 255)
    expected, x, y = 1.0, a, b
    for weight in SCALES[:-1]:
        expected *= contrast(x, y) ** weight
        x, y = (p.reshape(p.shape[0] // 2, 2, -1, 2).mean((1, 3)) for p in (x, y))
    assert ms_ssim(a, b) == pytest.approx(expected * ssim(x, y) ** SCALES[-1])


def contrast(x, y):
    """Contrast and structure alone, by two-dimensional windows."""
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2

    def mean(plane):
        windows = np.lib.stride_tricks.sliding_window_view(plane, (11, 11))
        return np.einsum("ijkl,kl->ij", windows, window)

    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c2 = (0.03 * 255) ** 2
    return ((2 * both + c2) / (vx + vy + c2)).mean()


def test_ms_ssim_refuses_small_pictures_in_one_line():
    with pytest.raises(UsageError, match="at least 176 pixels a side, got 176x175"):
        ms_ssim(noise((175, 176)), noise((175, 176)))
    with pytest.raises(ValueError, match="single planes"):
        ms_ssim(noise((200, 200, 3)), noise((200, 200, 3)))


def test_ssim_rgb_is_the_mean_of_channels():
    a, b = noise((20, 24, 3)), noise((20, 24, 3), 1)
    b[..., 1] = a[..., 1]
    channels = [ssim(a[..., c], b[..., c]) for c in range(3)]
    assert channels[1] == pytest.approx(1)
    assert ssim_rgb(a, b) == pytest.approx(np.mean(channels))


VGG_PLACES = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
VGG_WIDTHS = [4, 4, 6, 6, 8, 8, 8, 10, 10, 10, 10, 10, 10]
ALEX = {0: (4, 11), 3: (6, 5), 6: (8, 3), 8: (7, 3), 10: (5, 3)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Small stand-ins in the published layouts."""
    folder = tmp_path_factory.mktemp("weights")
    random = torch.Generator().manual_seed(0)

    def conv(state, place, entering, width, side):
        fan = entering * side * side
        shape = (width, entering, side, side)
        state[f"features.{place}.weight"] = torch.randn(shape, generator=random) * (2 / fan) ** 0.5
        state[f"features.{place}.bias"] = torch.randn(width, generator=random) * 0.1

    vgg, alex = {"classifier.6.bias": torch.zeros(3)}, {}
    for place, entering, width in zip(VGG_PLACES, [3, *VGG_WIDTHS[:-1]], VGG_WIDTHS, strict=True):
        conv(vgg, place, entering, width, 3)
    entering = 3
    for place, (width, side) in ALEX.items():
        conv(alex, place, entering, width, side)
        entering = width
    save_file(vgg, folder / "vgg.safetensors")
    torch.save(alex, folder / "alex.pth")
    for name, widths in (("vgg", [4, 6, 8, 10, 10]), ("alex", [4, 6, 8, 7, 5])):
        heads = {
            f"lin{i}.model.1.weight": torch.rand(1, w, 1, 1, generator=random)
            for i, w in enumerate(widths)
        }
        torch.save(heads, folder / f"lpips_{name}.pth")
    pair = {k: torch.rand(1, 3 + 38, 1, 1, generator=random) for k in ("alpha", "beta")}
    torch.save(pair, folder / "dists.pt")
    return folder


CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["vgg", "alex"])
def test_backbones_equal_torchvision_s_layers(weights, name):
    """The networks written as torchvision's `features` lists them, places and pooling alike."""
    path = weights / ("vgg.safetensors" if name == "vgg" else "alex.pth")
    net = backbone(path, CPU)
    x = torch.randn(2, 3, 70, 66, generator=torch.Generator().manual_seed(1))
    found = net.features(x)
    convs = iter([pair for stage in net.stages for pair in stage])
    if name == "vgg":
        plan = "CCtPCCtPCCCtPCCCtPCCCt"
        steps = {}
    else:
        plan, steps = "CtPCtPCtCtCt", {0: (4, 2), 1: (1, 2)}
    expected, number = [], 0
    for step in plan:
        if step == "C":
            stride, padding = steps.get(number, (1, 1))
            x = F.relu(F.conv2d(x, *next(convs), stride=stride, padding=padding))
            number += 1
        elif step == "P":
            x = F.max_pool2d(x, 2, 2) if name == "vgg" else F.max_pool2d(x, 3, 2)
        else:
            expected.append(x)
    assert len(found) == len(expected) == 5
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["vgg", "alex"])
def test_lpips_equals_its_definition(weights, name):
    path = weights / ("vgg.safetensors" if name == "vgg" else "alex.pth")
    compare = Lpips(path, weights / f"lpips_{name}.pth", CPU)
    a, b = noise((64, 72, 3)), noise((64, 72, 3), 1)
    net = backbone(path, CPU)
    heads = torch.load(weights / f"lpips_{name}.pth", weights_only=True)
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
    one, two = (
        net.features((torch.from_numpy(p).permute(2, 0, 1)[None] / 127.5 - 1 - shift) / scale)
        for p in (a, b)
    )
    expected = 0.0
    for i, (x, y) in enumerate(zip(one, two, strict=True)):
        apart = (F.normalize(x, dim=1) - F.normalize(y, dim=1)) ** 2
        expected += float((apart * heads[f"lin{i}.model.1.weight"]).sum(1).mean())
    assert compare(a, b) == pytest.approx(expected, rel=1e-4)
    assert compare(a, a) == 0
    assert compare(a, b) == pytest.approx(compare(b, a), rel=1e-5)


def test_dists_is_zero_for_equal_pictures_and_grows_with_noise(weights):
    compare = Dists(weights / "vgg.safetensors", weights / "dists.pt", CPU)
    ramp = np.broadcast_to(np.linspace(0, 255, 80)[:, None, None], (80, 96, 3))
    random = np.random.default_rng(0).normal(0, 1, ramp.shape)
    clean, little, much = (
        (ramp + strength * random).clip(0, 255).astype(np.uint8) for strength in (0, 8, 40)
    )
    assert compare(clean, clean) == pytest.approx(0, abs=1e-5)
    assert 0 < compare(clean, little) < compare(clean, much) < 1


def test_weights_that_do_not_belong_are_refused_in_one_line(weights):
    vgg, alex = weights / "vgg.safetensors", weights / "alex.pth"
    with pytest.raises(CheckpointError, match="does not belong to"):
        Lpips(vgg, weights / "lpips_alex.pth", CPU)
    with pytest.raises(CheckpointError, match="DISTS takes VGG16 with alpha and beta"):
        Dists(alex, weights / "dists.pt", CPU)
    with pytest.raises(CheckpointError, match="a torchvision state dict of VGG16 or AlexNet"):
        backbone(weights / "dists.pt", CPU)
    with pytest.raises(UsageError, match="at least 64 pixels a side, got 64x63"):
        Lpips(vgg, weights / "lpips_vgg.pth", CPU)(noise((63, 64, 3)), noise((63, 64, 3)))


def test_ms_ssim_never_is_a_complex_number():
    a = noise((176, 176))
    assert not math.isnan(ms_ssim(a, 255 - a))
    assert ms_ssim(a, 255 - a) == 0
