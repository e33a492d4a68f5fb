"""Losses, against BasicSR's values and their own formulas."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file

from vsr.errors import CheckpointError, UsageError
from vsr.train.losses import gan, pixel, vgg
from vsr.train.losses.contrast import info_nce
from vsr.train.losses.perceptual import FeatureDistance
from vsr.train.losses.random import LAYERS, RandomFeatures

KINDS = ("vanilla", "lsgan", "hinge", "wgan", "wgan_softplus")
WEIGHT = 0.1
"""Of the generator's values in the table."""


@pytest.fixture
def table(shared):
    return load_file(shared / "data" / "golden" / "gan_losses.safetensors")


def close(value, expected):
    torch.testing.assert_close(value, expected.reshape(()), rtol=1e-6, atol=1e-6)


@pytest.mark.shared
def test_pixel_losses_are_those_of_basicsr(shared):
    given = load_file(shared / "data" / "golden" / "pixel_losses.safetensors")
    pair = given["pred"], given["target"]
    close(pixel.l1(*pair), given["L1Loss.mean"])
    close(pixel.l2(*pair), given["MSELoss.mean"])
    close(pixel.charbonnier(*pair), given["CharbonnierLoss.mean"])
    close(pixel.total_variation(pair[0]), given["WeightedTVLoss.mean"])


@pytest.mark.shared
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["real", "fake"])
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("judge", [True, False])
def test_gan_losses_are_those_of_basicsr(kind, name, real, judge, table):
    value = gan.verdict(kind, table[name], real=real, judge=judge)
    close(value if judge else value * WEIGHT, table[f"{kind}.{name}.target_{real}.disc_{judge}"])


@pytest.mark.shared
@pytest.mark.parametrize("kind", KINDS)
def test_relativistic_losses_are_those_of_esrgan(kind, table):
    judge = gan.judge_loss(kind, table["real"], table["fake"], relativistic=True)
    maker = gan.maker_loss(kind, table["fake"], table["real"], relativistic=True)
    close(judge, table[f"{kind}.ragan.d_real"] + table[f"{kind}.ragan.d_fake"])
    close(maker * WEIGHT, table[f"{kind}.ragan.g"])


def test_relativistic_vanilla_is_the_papers_formula():
    """Equations 1 and 2 of ESRGAN, with D_Ra(a, b) = σ(C(a) − E[C(b)])."""
    real, made = torch.randn(2, 8, 1)
    ra = torch.sigmoid(real - made.mean()), torch.sigmoid(made - real.mean())
    judge = -ra[0].log().mean() - (1 - ra[1]).log().mean()
    maker = -(1 - ra[0]).log().mean() - ra[1].log().mean()
    close(2 * gan.judge_loss("vanilla", real, made, relativistic=True), judge)
    close(2 * gan.maker_loss("vanilla", made, real, relativistic=True), maker)


def test_plain_losses_add_both_halves():
    real, made = torch.randn(2, 8, 1)
    expected = F.softplus(-real).mean() + F.softplus(made).mean()
    close(gan.judge_loss("vanilla", real, made, relativistic=False), expected)
    close(gan.maker_loss("vanilla", made, None, relativistic=False), F.softplus(-made).mean())


def test_relativity_needs_both_kinds():
    with pytest.raises(ValueError, match="real pictures"):
        gan.maker_loss("vanilla", torch.zeros(2, 1), None, relativistic=True)


@pytest.mark.parametrize("slope", [1.0, 3.0])
def test_the_penalty_is_that_of_a_known_slope(slope):
    """D(x) = slope · x₀ has a gradient of this length everywhere."""
    factor = torch.tensor(slope, requires_grad=True)
    penalty = gan.gradient_penalty(
        lambda x: factor * x[:, 0, 0, :1], torch.rand(4, 1, 2, 2), torch.rand(4, 1, 2, 2)
    )
    close(penalty, torch.tensor((slope - 1) ** 2))
    penalty.backward()
    close(factor.grad, torch.tensor(2 * (slope - 1)))


def test_total_variation_of_a_ramp():
    ramp = torch.arange(5.0).view(1, 1, 1, 5).expand(1, 1, 4, 5)
    assert pixel.total_variation(ramp) == 1
    assert pixel.total_variation(ramp, torch.full_like(ramp, 0.25)) == 0.25


def test_charbonnier_is_smooth_at_zero():
    output = torch.zeros(2, 2, requires_grad=True)
    pixel.charbonnier(output, torch.zeros(2, 2), 1e-6).backward()
    assert output.grad is not None
    assert torch.equal(output.grad, torch.zeros(2, 2))


def torchvision_state(kind, seed=0):
    """Random weights under torchvision's names; only the first two blocks are small enough."""
    torch.manual_seed(seed)
    state, place = {}, 0
    features = vgg.VggFeatures(kind, ["conv2_2"])
    for name, conv in features.convs.items():
        if name == "conv2_1":
            place += 1
        state[f"features.{place}.weight"] = torch.randn_like(conv.weight) * 0.05
        state[f"features.{place}.bias"] = torch.randn_like(conv.bias) * 0.05
        place += 2
    return state


def plain_vgg(state, x, *, after):
    """conv2_2 written out."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = (x - mean) / std
    for place in (0, 2, 5, 7):
        if place == 5:
            x = F.max_pool2d(x, 2)
        x = F.conv2d(
            x, state[f"features.{place}.weight"], state[f"features.{place}.bias"], padding=1
        )
        if place != 7 or after:
            x = x.relu()
    return x


@pytest.mark.parametrize("after", [True, False])
def test_vgg_features_are_torchvisions(after, tmp_path):
    state = torchvision_state("vgg19")
    save_file(state, tmp_path / "vgg19.safetensors")
    features = vgg.load_vgg(
        tmp_path / "vgg19.safetensors", "vgg19", ["conv2_2"], after_activation=after
    )
    x = torch.rand(1, 3, 12, 10)
    torch.testing.assert_close(features(x)["conv2_2"], plain_vgg(state, x, after=after))


def test_the_materials_network_is_read(tmp_path):
    ours = vgg.VggFeatures("vgg16", ["conv2_2"])
    state = {k.replace("_", "", 1): v for k, v in ours.convs.state_dict().items()}
    save_file(state, tmp_path / "minc.safetensors")
    loaded = vgg.load_vgg(tmp_path / "minc.safetensors", "vgg16", ["conv2_2"])
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(loaded(x)["conv2_2"], ours(x)["conv2_2"])


def test_names_of_layers():
    assert vgg.layer_names("vgg19")[-1] == "conv5_4"
    assert vgg.layer_names("vgg16")[-1] == "conv5_3"
    with pytest.raises(UsageError, match="no layer 'conv5_4'"):
        vgg.VggFeatures("vgg16", ["conv5_4"])


def test_foreign_weights_are_refused_by_name(tmp_path):
    state = torchvision_state("vgg19")
    state["features.2.weight"] = torch.zeros(64, 64, 1, 1)
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(
        CheckpointError, match=r"conv1_2\.weight should have 64×64×3×3, found 64×64×1×1"
    ):
        vgg.load_vgg(tmp_path / "odd.safetensors", "vgg19", ["conv2_2"])


def test_feature_distance_is_zero_only_between_equals():
    loss = FeatureDistance(RandomFeatures(), dict.fromkeys(LAYERS, 1.0))
    x = torch.rand(1, 3, 32, 32)
    assert loss(x, x) == 0
    assert loss(x, 1 - x) > 0.1
    assert loss(x[:, :1], x[:, 1:2]) > 0


def test_random_features_prefer_texture_to_blur():
    """The same texture a pixel aside is nearer to the truth than a flat mean; for L1 it is not."""
    torch.manual_seed(0)
    texture = torch.rand(1, 3, 64, 65)
    true, shifted = texture[..., :64], texture[..., 1:]
    flat = torch.full_like(true, 0.5)
    loss = FeatureDistance(RandomFeatures(), {"scale3": 1.0})
    assert loss(shifted, true) < loss(flat, true)
    assert pixel.l1(shifted, true) > pixel.l1(flat, true)


def test_random_features_are_the_same_in_every_run_and_do_not_see_brightness():
    torch.manual_seed(1)
    first = RandomFeatures()
    torch.manual_seed(2)
    second = RandomFeatures()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not a.requires_grad
    x = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(first(x)["scale1"], first(x + 0.3)["scale1"], rtol=0, atol=1e-5)


def test_contrast_of_known_similarities():
    query = F.normalize(torch.randn(4, 8), dim=1)
    queue = torch.zeros(16, 8)
    close(info_nce(torch.zeros(4, 8), query, queue), torch.tensor(math.log(17)))
    expected = -torch.log(torch.tensor(math.exp(2) / (math.exp(2) + 16)))
    close(info_nce(query, query, queue, temperature=0.5), expected)
