"""Discriminators, translators and the replay buffer, against the official implementations."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from vsr.errors import UsageError
from vsr.train.discriminators import unet
from vsr.train.discriminators.patch import PatchDiscriminator
from vsr.train.discriminators.srgan import SrganDiscriminator
from vsr.train.discriminators.unet import UnetDiscriminator
from vsr.train.discriminators.vgg import VggDiscriminator
from vsr.train.translators.noise import NoiseConfig, build_noise
from vsr.train.translators.pool import ReplayPool
from vsr.train.translators.resnet import Resnet, ResnetConfig
from vsr.train.translators.unet import Unet, UnetConfig

OFFICIAL = {
    "vggstyle_discriminator_128": lambda: VggDiscriminator(features=6),
    "nlayer_discriminator_batch": lambda: PatchDiscriminator(6, 16, norm="batch"),
    "nlayer_discriminator_instance": lambda: PatchDiscriminator(3, 16, norm="instance"),
    "unet_discriminator_sn": lambda: UnetDiscriminator(features=16),
    "pix2pix_unet_d5": lambda: Unet(UnetConfig(features=8, depth=5)),
    "cyclegan_resnet9": lambda: Resnet(ResnetConfig(features=8)),
}
COUNTS = {
    14_499_401: VggDiscriminator,
    21_055_049: lambda: VggDiscriminator(size=256),
    2_768_705: lambda: PatchDiscriminator(6, norm="batch"),
    2_764_737: lambda: PatchDiscriminator(3, norm="instance"),
    4_376_897: UnetDiscriminator,
    11_378_179: lambda: Resnet(ResnetConfig()),
}


@pytest.mark.shared
@pytest.mark.parametrize("name", OFFICIAL)
def test_equals_the_official_implementation(name, shared):
    given = load_file(shared / "data" / "golden" / f"{name}.safetensors")
    state = {key.removeprefix("sd."): v for key, v in given.items() if key.startswith("sd.")}
    network = OFFICIAL[name]().eval()
    network.load_state_dict(unet.canonicalise(state) if "sn" in name else state)
    with torch.inference_mode():
        torch.testing.assert_close(network(given["input"]), given["output"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", COUNTS)
def test_has_as_many_parameters_as_published(count):
    with torch.device("meta"):
        network = COUNTS[count]()
    assert sum(p.numel() for p in network.parameters()) == count


def test_srgans_discriminator_is_the_papers():
    network = SrganDiscriminator(features=4, size=32)
    convs = [m for m in network.body if isinstance(m, torch.nn.Conv2d)]
    assert [c.out_channels // 4 for c in convs] == [1, 1, 2, 2, 4, 4, 8, 8]
    assert [c.stride[0] for c in convs] == [1, 2, 1, 2, 1, 2, 1, 2]
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 1)


@pytest.mark.parametrize(
    "network", [VggDiscriminator(features=2, size=32), SrganDiscriminator(features=2, size=32)]
)
def test_a_picture_of_another_size_is_refused(network):
    with pytest.raises(UsageError, match="32×32, got 48×32"):
        network(torch.rand(1, 3, 48, 32))


@pytest.mark.parametrize("made", [VggDiscriminator, SrganDiscriminator])
def test_an_impossible_size_is_refused(made):
    with pytest.raises(UsageError, match="got 100"):
        made(size=100)


def test_spectral_norm_bounds_every_middle_layer():
    network = UnetDiscriminator(features=4).train()
    for _ in range(30):
        network(torch.rand(1, 3, 16, 16))
    largest = [
        torch.linalg.matrix_norm(network.get_submodule(f"conv{k}").weight.flatten(1), 2).item()
        for k in range(1, 9)
    ]
    assert max(largest) < 1.05


@pytest.mark.parametrize("kind", ["dcgan", "conditional"])
def test_noise_depends_on_chance_and_level(kind):
    network = build_noise(NoiseConfig(kind=kind, features=4, size=16, amplitude=0.25)).eval()
    clean, level = torch.rand(2, 3, 16, 16), torch.tensor([0.1, 0.9])
    torch.manual_seed(1)
    first = network(clean, level)
    second = network(clean, level)
    torch.manual_seed(1)
    other = network(clean, level.flip(0))
    assert first.shape == clean.shape
    assert first.abs().max() <= 0.25
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_conditional_noise_serves_any_size():
    network = build_noise(NoiseConfig(features=4))
    assert network(torch.rand(1, 3, 19, 23), torch.zeros(1)).shape == (1, 3, 19, 23)


def test_the_pool_gives_old_pictures_for_half_of_the_new():
    pool = ReplayPool(10)
    numbered = [torch.full((1, 1, 1, 1), float(k)) for k in range(400)]
    given = [float(pool.exchange(picture)) for picture in numbered]
    assert given[:10] == [float(k) for k in range(10)]
    old = sum(value != k for k, value in enumerate(given))
    assert 150 < old < 240
    assert len(pool.kept) == 10


def test_the_pool_goes_on_where_it_was():
    pool, other = ReplayPool(4), ReplayPool(4)
    pool.exchange(torch.rand(6, 3, 2, 2))
    other.load_state_dict(pool.state_dict(), torch.device("cpu"))
    new = torch.rand(5, 3, 2, 2)
    torch.manual_seed(3)
    first = pool.exchange(new)
    torch.manual_seed(3)
    torch.testing.assert_close(other.exchange(new), first, rtol=0, atol=0)


def test_without_room_the_pool_passes_all_through():
    made = torch.rand(3, 1, 2, 2)
    assert ReplayPool(0).exchange(made) is made


@pytest.mark.parametrize(
    ("kind", "config"),
    [(Unet, UnetConfig(features=4, depth=5)), (Resnet, ResnetConfig(features=4, blocks=1))],
)
def test_a_residual_translator_adds_what_the_plain_one_makes(kind, config):
    torch.manual_seed(0)
    plain, added = kind(config).eval(), kind(replace(config, residual=True)).eval()
    added.load_state_dict(plain.state_dict())
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(added(x), x + plain(x))


@pytest.mark.parametrize("levels", [0, 1, 3])
def test_a_resnet_halves_as_often_as_it_is_told(levels):
    network = Resnet(ResnetConfig(features=2, blocks=1, norm="none", levels=levels)).eval()
    side = network.multiple_of * 4
    assert network.multiple_of == 2**levels
    seen = []
    network.model[4 + 3 * levels].register_forward_hook(lambda _m, x, _y: seen.append(x[0].shape))
    assert network(torch.rand(1, 3, side, side)).shape == (1, 3, side, side)
    assert seen == [(1, 2 * 2**levels, 4, 4)], "what the blocks see"


def test_without_norms_a_resnet_tells_contrasts_apart():
    torch.manual_seed(0)
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    answers = {}
    for norm in ("none", "instance"):
        network = Resnet(ResnetConfig(features=4, blocks=1, norm=norm, levels=0)).eval()
        with torch.no_grad():
            pair = [network(x * strength).std() for strength in (0.5, 1.0)]
        answers[norm] = float(pair[1] / pair[0])
    assert answers["instance"] == pytest.approx(1, abs=0.01)
    assert answers["none"] > 1.2
