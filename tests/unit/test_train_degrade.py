"""Degradations: values of the published code, distributions, draws that repeat, real encodes."""

import io
import json
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.media import pictures
from vsr.errors import CheckpointError, EncoderError, UsageError
from vsr.io.codec_damage import CODECS, Encode, damaged
from vsr.resample import resize
from vsr.train.degrade import degradations, kernels, open_degradation, settings_of
from vsr.train.degrade.batch import RealEsrganBatch
from vsr.train.degrade.bsrgan import drawn_covariance, drawn_order, shifted_gaussian
from vsr.train.degrade.dasr import Dasr, DasrSettings
from vsr.train.degrade.isp import (
    camera_noise,
    demosaicked,
    drawn_camera,
    mosaicked,
    processed,
    unprocessed,
)
from vsr.train.degrade.jpeg import jpeg
from vsr.train.degrade.kernels import KernelSettings
from vsr.train.degrade.motion import Motion, moved
from vsr.train.degrade.noise import correlated_noise, gaussian_noise, poisson_noise
from vsr.train.degrade.realesrgan import RealEsrganSettings, StageSettings, degraded, drawn_factor
from vsr.train.degrade.resizes import matlab_reduced, resized, rounded
from vsr.train.degrade.sharpen import sharpened
from vsr.train.degrade.video import Video, VideoSettings, deinterlaced
from vsr.train.translators.translator import FAMILIES, HEADER

SELF_CONTAINED = [name for name in degradations() if name != "learned"]


def picture(width: int = 96, height: int = 96, seed: int = 0) -> Tensor:
    """(3, height, width) in [0, 1]."""
    shot = pictures(1, (width, height), seed)[0]
    return torch.from_numpy(shot).permute(2, 0, 1).float() / 255


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- the published code


def _computed(name: str) -> Tensor:
    """The kernel that a name of the table of values describes."""
    kind, parameters = name.split(".", 1)
    found = dict(re.findall(r"(ks|sx|sy|th|be|iso|wc|pad)(-?[\d.]+)", parameters))
    side = int(found["ks"])
    if kind == "sinc":
        kernel = kernels.sinc(side, float(found["wc"]))
        return kernels.padded(kernel, int(found["pad"]) or side)
    sigmas, angle = (float(found["sx"]), float(found["sy"])), float(found["th"])
    if found["iso"] == "1":
        sigmas, angle = (sigmas[0], sigmas[0]), 0.0
    if kind == "gaussian":
        return kernels.gaussian(side, sigmas, angle)
    make = kernels.generalised if kind == "generalized" else kernels.plateau
    return make(side, sigmas, float(found["be"]), angle)


@pytest.mark.shared
def test_kernels_are_those_of_the_published_code(shared: Path) -> None:
    table = load_file(shared / "data/golden/degradation_kernels.safetensors")
    assert len(table) == 77
    for name, expected in table.items():
        # cutoffs are rounded to six digits in the names
        tolerance = 3e-7 if name.startswith("sinc") else 1e-12
        torch.testing.assert_close(_computed(name), expected, rtol=0, atol=tolerance, msg=name)


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    path = request.getfixturevalue("shared") / "data/golden/degradation_ops.safetensors"
    return load_file(path)


@pytest.mark.shared
@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize(("kind", "source"), [("", "input_smooth"), ("_noise", "input")])
def test_jpeg_is_that_of_the_published_code(
    table: dict[str, Tensor], quality: int, kind: str, source: str
) -> None:
    result = jpeg(table[source], quality, as_published=True)
    expected = table[f"diffjpeg{kind}_q{quality}"]
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-6)


@pytest.mark.shared
def test_other_operations_are_those_of_the_published_code(table: dict[str, Tensor]) -> None:
    odd = jpeg(table["input_odd"], 50, as_published=True)
    torch.testing.assert_close(odd, table["diffjpeg_q50_odd"], rtol=0, atol=2e-6)
    x = table["input"]
    close = {"rtol": 0, "atol": 3e-6}
    torch.testing.assert_close(sharpened(x), table["usm.r50_s0"], **close)
    torch.testing.assert_close(sharpened(x, weight=1, threshold=5), table["usm.w1_t5"], **close)
    torch.testing.assert_close(sharpened(table["input_smooth"]), table["usm_smooth"], **close)
    torch.testing.assert_close(kernels.filtered(x, table["f2d_kernel"]), table["filter2D"], **close)
    # the other two are told the factor there, the size here, which keeps the corners in place
    torch.testing.assert_close(resized(x, 23, 20, "area"), table["interp_area_0.37"], **close)


# ---- what they are made of


def _libjpeg(x: Tensor, quality: int) -> Tensor:
    """What Pillow's JPEG makes of (1, H, W) or (3, H, W)."""
    levels = (x * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(levels.squeeze()).save(file, "jpeg", quality=quality, subsampling=2)
    back = np.array(Image.open(file))
    return torch.from_numpy(back).reshape(*levels.shape).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("quality", [30, 60, 90])
def test_jpeg_does_what_libjpeg_does(quality: int) -> None:
    x = rounded(picture(93, 61))
    gray = x[1:2]
    real, ours = _libjpeg(gray, quality), rounded(jpeg(gray[None], quality))[0]
    assert float((ours - real).abs().mean()) < 0.5 / 255
    swapped = rounded(jpeg(gray[None], quality, as_published=True))[0]
    assert psnr(ours, real) > psnr(swapped, real) + 6
    # in colour, libjpeg interpolates the chroma smoothly
    assert psnr(jpeg(x[None], quality)[0], _libjpeg(x, quality)) > 30


def test_each_picture_of_a_batch_has_its_own_quality() -> None:
    x = picture()[None]
    both = jpeg(torch.cat([x, x]), torch.tensor([20.0, 90.0]))
    torch.testing.assert_close(both[:1], jpeg(x, 20), rtol=0, atol=1e-6)
    torch.testing.assert_close(both[1:], jpeg(x, 90), rtol=0, atol=1e-6)
    assert jpeg(x[:, :1], 50).shape == x[:, :1].shape
    with pytest.raises(UsageError, match="got 2"):
        jpeg(x[:, :2], 50)


def test_differentiable_jpeg_has_a_slope() -> None:
    x = picture(32, 32)[None].requires_grad_()
    plain = torch.autograd.grad(jpeg(x, 50).square().sum(), x)[0]
    soft = torch.autograd.grad(jpeg(x, 50, differentiable=True).square().sum(), x)[0]
    assert torch.isfinite(soft).all()
    assert plain.abs().max() == 0
    assert soft.abs().max() > 1e-3


def test_filters_reflect_even_what_is_smaller_than_they_are() -> None:
    x = torch.full((1, 3, 4, 5), 0.5)
    torch.testing.assert_close(kernels.filtered(x, kernels.gaussian(21, (3, 3))[None]), x)
    torch.testing.assert_close(
        kernels.filtered(x[..., :1, :], kernels.pulse(21)[None]), x[..., :1, :]
    )


def test_gaussian_noise_is_as_strong_as_said_and_gray_where_said() -> None:
    x = torch.full((2, 3, 128, 128), 0.5)
    sigma, gray = torch.tensor([20.0, 5.0]), torch.tensor([False, True])
    noise = (gaussian_noise(x, sigma, gray, generator()) - x) * 255
    assert noise.std((1, 2, 3)).tolist() == pytest.approx([20, 5], rel=0.05)
    assert torch.equal(noise[1, 0], noise[1, 1])
    correlation = torch.corrcoef(noise[0].flatten(1))
    assert float(correlation[0, 1].abs()) < 0.05


def test_poisson_noise_grows_with_light() -> None:
    ramp = torch.linspace(0, 1, 256).repeat(256, 1)[None, None].expand(1, 3, -1, -1)
    noise = poisson_noise(ramp, torch.tensor([2.0]), torch.tensor([False]), generator()) - ramp
    dark, bright = noise[..., :32].std(), noise[..., -32:].std()
    # 256 values, so 256 photons in white: a standard deviation of 1/16, times the scale
    assert float(bright) == pytest.approx(2 / 16, rel=0.06)
    assert float(dark) < 0.4 * float(bright)
    gray = poisson_noise(ramp, torch.tensor([1.0]), torch.tensor([True]), generator()) - ramp
    torch.testing.assert_close(gray[:, 0], gray[:, 2], rtol=0, atol=1e-6)


def test_correlated_noise_has_the_covariance() -> None:
    covariance = drawn_covariance(0.1, np.random.default_rng(3))
    covariance = covariance @ covariance.T  # positive definite whatever was drawn
    noise = correlated_noise(torch.zeros(1, 3, 200, 200), covariance, generator())
    torch.testing.assert_close(
        torch.cov(noise.flatten(2)[0].double()), covariance, rtol=0.1, atol=2e-6
    )


def test_sharpening_leaves_flat_parts_alone_and_keeps_the_range() -> None:
    x = torch.full((1, 1, 64, 64), 0.4)
    torch.testing.assert_close(sharpened(x), x)
    x[..., 32:] = 0.9
    y = sharpened(x)
    assert y.min() >= 0
    assert y.max() <= 1
    assert float((y[..., 31] - x[..., 31]).mean()) < -0.02, "the dark side of an edge gets darker"


def test_the_reduction_rounds_between_the_axes_as_matlab() -> None:
    x = rounded(picture(40, 36, seed=2))
    flat = resize(x * 255, 18, 40, "bicubic").round().clamp(0, 255)
    expected = resize(flat, 18, 20, "bicubic").round().clamp(0, 255) / 255
    assert torch.equal(matlab_reduced(x, 2), expected)
    assert not torch.equal(matlab_reduced(x, 2), rounded(resize(x, 18, 20, "bicubic")))
    assert torch.equal(matlab_reduced(x, 1), x)


def test_a_camera_is_undone_by_itself_and_its_noise_is_its_own() -> None:
    x = picture(64, 64) * 0.6 + 0.2
    camera = drawn_camera(np.random.default_rng(0))
    torch.testing.assert_close(processed(unprocessed(x, camera), camera), x, rtol=0, atol=0.02)
    noisy = camera_noise(x, camera, np.random.default_rng(1))
    assert noisy.shape == x.shape
    assert 12 < psnr(noisy, x) < 60
    assert torch.equal(noisy, camera_noise(x, camera, np.random.default_rng(1)))
    assert camera_noise(x[:, :31, :45], camera, np.random.default_rng(1)).shape == (3, 31, 45)


def test_demosaicking_is_exact_on_flat_colours_and_good_on_ramps() -> None:
    flat = torch.tensor([0.2, 0.5, 0.8])[:, None, None].expand(3, 16, 18).contiguous()
    torch.testing.assert_close(demosaicked(mosaicked(flat)), flat)
    ramp = torch.linspace(0.1, 0.9, 32).expand(3, 32, 32).contiguous()
    inner = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(demosaicked(mosaicked(ramp))[inner], ramp[inner], rtol=0, atol=1e-5)


def test_motion_is_none_at_its_moment_and_as_far_as_said() -> None:
    x = picture(64, 48)
    clip = moved(x, Motion(right=3, down=-2), [0, 1, -1])
    assert torch.equal(clip[0], x)
    torch.testing.assert_close(clip[1, :, 4:40, 8:50], x[:, 6:42, 5:47], rtol=0, atol=1e-4)
    torch.testing.assert_close(clip[2, :, 4:40, 8:50], x[:, 2:38, 11:53], rtol=0, atol=1e-4)
    turned = moved(x, Motion(turn=math.pi / 2), [1])[0]
    square = moved(x[..., :48], Motion(turn=math.pi / 2), [1])[0]
    assert turned.shape == x.shape
    torch.testing.assert_close(square, torch.rot90(x[..., :48], 1, (1, 2)), rtol=0, atol=1e-4)


# ---- distributions


def test_kernels_are_drawn_as_often_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: Counter[str] = Counter()
    for name in ("gaussian", "generalised", "plateau", "sinc"):
        real = getattr(kernels, name)

        def counted(*arguments: object, name: str = name, real: object = real) -> Tensor:
            sigmas = arguments[1]
            round_one = name == "sinc" or sigmas[0] == sigmas[1]
            drawn[f"{name} {'iso' if round_one else 'aniso'}"] += 1
            return real(*arguments)

        monkeypatch.setattr(kernels, name, counted)
    random, count = np.random.default_rng(0), 3000
    for _ in range(count):
        kernel = kernels.drawn(KernelSettings(), random)
        assert kernel.shape == (21, 21)
        assert float(kernel.sum()) == pytest.approx(1)
    shares = {name: number / count for name, number in drawn.items()}
    expected = {
        "sinc iso": 0.1,
        "gaussian iso": 0.9 * 0.45,
        "gaussian aniso": 0.9 * 0.25,
        "generalised iso": 0.9 * 0.12,
        "generalised aniso": 0.9 * 0.03,
        "plateau iso": 0.9 * 0.12,
        "plateau aniso": 0.9 * 0.03,
    }
    assert shares.keys() == expected.keys()
    for name, share in expected.items():
        assert shares[name] == pytest.approx(share, abs=0.025), name


def test_sides_of_kernels_are_odd_and_equally_likely() -> None:
    random = np.random.default_rng(0)
    sides = Counter(kernels.drawn_side((7, 21), random) for _ in range(4000))
    assert sorted(sides) == list(range(7, 22, 2))
    assert max(sides.values()) < 1.3 * min(sides.values())


@pytest.mark.parametrize("stage", [RealEsrganSettings().first, RealEsrganSettings().second])
def test_sizes_are_drawn_as_often_as_said(stage: StageSettings) -> None:
    random = np.random.default_rng(0)
    factors = np.array([drawn_factor(stage, random) for _ in range(4000)])
    shares = [np.mean(factors > 1), np.mean(factors < 1), np.mean(factors == 1)]
    assert shares == pytest.approx(stage.resize, abs=0.03)
    assert factors.min() >= stage.factors[0]
    assert factors.max() <= stage.factors[1]
    assert factors.min() < stage.factors[0] + 0.02
    assert factors.max() > stage.factors[1] - 0.02


def test_real_esrgans_defaults_are_those_of_the_paper() -> None:
    settings = RealEsrganSettings()
    first, second = settings.first, settings.second
    assert (first.sigma, second.sigma) == ((1, 30), (1, 25))
    assert (first.poisson, second.poisson) == ((0.05, 3), (0.05, 2.5))
    assert (first.jpeg, second.jpeg) == ((30, 95), (30, 95))
    assert (first.kernel.sigma, second.kernel.sigma) == ((0.2, 3), (0.2, 1.5))
    assert (first.blur, second.blur, settings.final_sinc, settings.pool) == (1, 0.8, 0.8, 180)
    assert (first.factors, second.factors) == ((0.15, 1.5), (0.3, 1.2))
    assert (first.resize, second.resize) == ((0.2, 0.7, 0.1), (0.3, 0.4, 0.3))


def test_the_last_sinc_and_the_last_jpeg_change_places() -> None:
    x = picture(64, 64)[None]
    quiet = {"resize": (0.0, 0.0, 1.0), "sigma": (0.0, 0.0), "gaussian": 1.0, "jpeg": (30.0, 30.0)}
    stage = StageSettings(blur=0, **quiet)

    def run(sinc_first: float) -> Tensor:
        settings = RealEsrganSettings(
            first=stage, second=stage, sinc_first=sinc_first, final_sinc=1
        )
        return degraded(x, settings, 1, np.random.default_rng(0))

    ended_by_jpeg, ended_by_sinc = run(1), run(0)
    assert not torch.equal(ended_by_jpeg, ended_by_sinc)
    again = (rounded(jpeg(ended_by_jpeg, 30)) - ended_by_jpeg).abs().mean()
    other = (rounded(jpeg(ended_by_sinc, 30)) - ended_by_sinc).abs().mean()
    assert again < other / 2, "a picture that ended by JPEG hardly changes by the same JPEG"


def test_bsrgans_order_is_shuffled_and_its_resizes_are_in_order() -> None:
    random = np.random.default_rng(0)
    orders = [drawn_order(random) for _ in range(2000)]
    for order in orders:
        assert order.index("first resize") < order.index("second resize")
    first = Counter(order[0] for order in orders)
    assert first["first resize"] / 2000 == pytest.approx(2 / 7, abs=0.03)
    assert "second resize" not in first
    for step in ("blur", "blur again", "noise", "jpeg", "camera"):
        assert first[step] / 2000 == pytest.approx(1 / 7, abs=0.03)


def test_a_shifted_kernel_keeps_the_picture_in_place() -> None:
    x = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    low = kernels.filtered(x, shifted_gaussian(25, 1.5, 1.5)[None])[..., ::4, ::4]
    expected = torch.nn.functional.avg_pool2d(x, 4)
    torch.testing.assert_close(low[..., 4:-4], expected[..., 4:-4], rtol=0, atol=1e-4)


def test_dasr_draws_blurs_and_noise_within_the_papers_ranges() -> None:
    source, random = Dasr(DasrSettings(round=0.3), 4), np.random.default_rng(0)
    steps = torch.arange(21, dtype=torch.float64) - 10
    round_ones, variances = 0, []
    for _ in range(400):
        kernel = source.drawn(random)
        across, down = (float((kernel.sum(axis) * steps**2).sum()) for axis in (0, 1))
        both = float((kernel * steps[:, None] * steps).sum())
        round_ones += abs(across - down) < 1e-9 and abs(both) < 1e-9
        variances += np.linalg.eigvalsh([[across, both], [both, down]]).tolist()
    assert round_ones / 400 == pytest.approx(0.3, abs=0.07)
    assert min(variances) > 0
    assert max(variances) <= 16
    flat = torch.full((3, 256, 256), 0.5)
    noises = [float(source(flat, np.random.default_rng(k)).std()) * 255 for k in range(60)]
    assert 0 <= min(noises) < 2
    assert 23 < max(noises) < 26
    silent = Dasr(DasrSettings(noise=(0, 0)), 4)(flat, random)
    torch.testing.assert_close(silent, rounded(flat)[:, :64, :64])


def test_codecs_and_bit_rates_are_drawn_as_often_as_said() -> None:
    settings = VideoSettings()
    source, random = Video(settings, 2), np.random.default_rng(0)
    drawn = [source.drawn(64 * 64, random) for _ in range(3000)]
    codecs = Counter(encode.codec for encode in drawn)
    for codec, share in zip(CODECS, settings.codecs, strict=True):
        assert codecs[codec] / 3000 == pytest.approx(share, abs=0.03)
        crfs = [encode.crf for encode in drawn if encode.codec == codec and encode.crf is not None]
        low, high = getattr(settings, codec)
        assert low - 0.1 <= min(crfs) < low + 2
        assert high - 2 < max(crfs) <= high + 0.1
    assert np.mean([e.bit_rate is not None for e in drawn]) == pytest.approx(0.25, abs=0.03)
    fields = [e.interlaced for e in drawn if e.codec in {"h264", "mpeg2"}]
    assert np.mean(fields) == pytest.approx(0.15, abs=0.03)
    assert not any(e.interlaced for e in drawn if e.codec in {"h265", "vp9"})


# ---- whole degradations


@pytest.mark.parametrize("name", SELF_CONTAINED)
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_a_degradation_follows_from_its_seed(name: str, scale: int) -> None:
    side = 72 // scale * scale
    clean = picture(side, side - 2 * scale)
    kept = clean.clone()
    degrade = open_degradation(name, {}, scale)
    seen = []
    for seed in range(4):
        low = degrade(clean, np.random.default_rng(seed))
        assert low.shape == (3, side // scale - 2, side // scale)
        assert low.dtype == torch.float32
        assert 0 <= low.min() <= low.max() <= 1
        torch.testing.assert_close(low, rounded(low), rtol=0, atol=1e-6)
        torch.manual_seed(seed + 99)  # nothing comes from the default generator
        assert torch.equal(low, degrade(clean, np.random.default_rng(seed)))
        seen.append(low)
    assert torch.equal(clean, kept)
    if name != "bicubic":
        assert not any(torch.equal(seen[0], other) for other in seen[1:])


@pytest.mark.parametrize("name", SELF_CONTAINED)
def test_a_degraded_picture_lies_over_the_clean_one(name: str) -> None:
    """Its mean over many draws is nearest to the clean one without a shift."""
    clean = picture(96, 96, seed=4)
    degrade = open_degradation(name, {}, 2)
    low = torch.stack([degrade(clean, np.random.default_rng(k)) for k in range(24)]).mean(0)
    reduced = matlab_reduced(degrade.target(clean), 2)
    inner = reduced[:, 8:-8, 8:-8]
    errors = {
        (dy, dx): float((low.roll((dy, dx), (1, 2))[:, 8:-8, 8:-8] - inner).square().mean())
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    }
    assert min(errors, key=errors.__getitem__) == (0, 0)


def test_only_real_esrgan_sharpens_its_targets() -> None:
    clean = picture(64, 64)
    for name in SELF_CONTAINED:
        target = open_degradation(name, {}, 2).target(clean)
        assert torch.equal(target, clean) == (name != "realesrgan")
    blunt = open_degradation("realesrgan", {"sharpen": False}, 2)
    assert torch.equal(blunt.target(clean), clean)


def test_the_pool_gives_what_came_before_and_loses_nothing() -> None:
    settings = RealEsrganSettings(pool=8, sharpen=False)
    batches = RealEsrganBatch(settings, 2, crop=32)
    random, steps = np.random.default_rng(0), 6
    came, left = [], []
    for step in range(steps):
        clean = torch.stack([torch.full((3, 48, 48), (step * 4 + k) / 64) for k in range(4)])
        came += clean[:, 0, 0, 0].tolist()
        low, high = batches(clean, random)
        assert low.shape == (4, 3, 16, 16)
        assert high.shape == (4, 3, 32, 32)
        left.append(high[:, 0, 0, 0].tolist())
        # whatever order they leave in, low and high belong together
        for a, b in zip(low, high, strict=True):
            assert float(a.mean() - b.mean()) == pytest.approx(0, abs=0.12)
    assert left[:2] == [came[:4], came[4:8]], "until it is full, it only fills"
    later = [value for batch in left[2:] for value in batch]
    assert len(set(later)) == len(later)
    assert set(later) <= set(came)
    assert later != came[8:]
    kept = batches.state_dict()
    assert set(later) | set(kept["highs"][:, 0, 0, 0].tolist()) == set(came)
    other = RealEsrganBatch(settings, 2, crop=32)
    other.load_state_dict(kept, torch.device("cpu"))
    clean = picture(48, 48).expand(4, -1, -1, -1)
    first = batches(clean, np.random.default_rng(5))
    again = other(clean, np.random.default_rng(5))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.gpu
def test_batches_are_degraded_on_the_device() -> None:
    batches = RealEsrganBatch(RealEsrganSettings(), 4, crop=64)
    clean = torch.stack([picture(96, 96, seed=k) for k in range(4)]).cuda()
    low, high = batches(clean, np.random.default_rng(0))
    assert low.device.type == high.device.type == "cuda"
    assert low.shape == (4, 3, 16, 16)
    assert torch.isfinite(low).all()


# ---- real encodes


def _damage(encode: Encode, size: tuple[int, int] = (96, 80)) -> tuple[float, float]:
    """PSNR to the source and mean shift of luma, over a moving clip."""
    shots = pictures(5, size)
    back = damaged(shots, encode)
    assert [b.shape for b in back] == [s.shape for s in shots]
    before, after = np.stack(shots).astype(float), np.stack(back).astype(float)
    error = np.mean((before - after) ** 2)
    return float(10 * np.log10(255**2 / error)), float((after - before).mean())


@pytest.mark.parametrize(
    ("codec", "mild", "strong"),
    [
        ("h264", 10, 42),
        ("h265", 10, 42),
        ("vp9", 10, 60),
        ("mpeg2", 2, 28),
    ],
)
def test_a_codec_damages_more_the_lower_its_quality(codec: str, mild: int, strong: int) -> None:
    little, shift = _damage(Encode(codec=codec, crf=mild))
    much, _ = _damage(Encode(codec=codec, crf=strong))
    assert little > much + 2
    assert abs(shift) < 0.7, "no drift of colour"
    poor, _ = _damage(Encode(codec=codec, bit_rate=8000))
    assert little > poor + 1


@pytest.mark.parametrize("codec", CODECS)
def test_an_encode_repeats_to_the_bit_at_any_size(codec: str) -> None:
    for size in ((96, 80), (5, 7), (1, 1), (67, 33)):
        shots = pictures(3, size)
        first, again = (damaged(shots, Encode(codec=codec, crf=24)) for _ in range(2))
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        assert first[0].shape == shots[0].shape


def test_chroma_goes_through_a_quarter_of_the_samples() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (200, 60, 60), (60, 110, 200)
    back = damaged([stripes] * 2, Encode(codec="h264", crf=1))[0].astype(float)
    assert np.abs(back[:, ::2].mean((0, 1)) - back[:, 1::2].mean((0, 1))).max() < 60
    assert back.mean((0, 1)) == pytest.approx(stripes.mean((0, 1)), abs=3)


@pytest.mark.parametrize("codec", ["h264", "mpeg2"])
def test_fields_survive_an_interlaced_encode(codec: str) -> None:
    x = picture(96, 96)
    early, late = moved(x, Motion(right=8), [0, 0.5])
    woven = early.clone()
    woven[:, 1::2] = late[:, 1::2]
    shot = (woven * 255).byte().permute(1, 2, 0).contiguous().numpy()
    back = damaged([shot] * 3, Encode(codec=codec, crf=4, interlaced=True))[1]
    low = torch.from_numpy(back.copy()).permute(2, 0, 1).float() / 255
    kept, mixed = (psnr(low[:, ::2], field[:, ::2]) for field in (early, late))
    assert kept > mixed + 4, "the even rows are those of the first moment, chroma included"
    bob = deinterlaced(low, "bob")
    assert torch.equal(bob[:, ::2], low[:, ::2])
    assert psnr(bob, early) > psnr(low, early)
    blend = deinterlaced(low, "blend")
    assert float(blend.diff(dim=1).abs().mean()) < float(low.diff(dim=1).abs().mean())
    assert torch.equal(deinterlaced(low, "weave"), low)


def test_a_clip_that_cannot_be_encoded_says_why() -> None:
    with pytest.raises(UsageError, match="crf None, bit_rate None"):
        Encode(codec="h264")
    with pytest.raises(UsageError, match="'xvid'"):
        Encode(codec="xvid", crf=3)
    with pytest.raises(UsageError, match="one shape"):
        damaged([], Encode(codec="h264", crf=20))
    with pytest.raises(UsageError, match="one shape"):
        damaged([*pictures(1, (8, 8)), *pictures(1, (8, 10))], Encode(codec="h264", crf=20))
    with pytest.raises(EncoderError, match="h264 failed at 16x16"):
        damaged(pictures(2, (16, 16)), Encode(codec="h264", crf=20, preset="warp"))


# ---- settings


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("bokeh", {}, "no degradation is called 'bokeh'"),
        ("bicubic", {"sigma": 3}, "degradation bicubic.sigma is unknown"),
        ("realesrgan", {"first": {"jpg": [30, 95]}}, "first.jpg is unknown.*did you mean 'jpeg'"),
        ("realesrgan", {"first": {"jpeg": [95, 30]}}, "jpeg is"),
        ("realesrgan", {"final_sinc": 1.5}, "final_sinc is 1.5"),
        ("realesrgan", {"first": {"kernel": {"sides": [8, 21]}}}, "kernel sides"),
        ("bsrgan", {"jpeg": [30]}, "jpeg has 1 values"),
        ("dasr", {"side": 20}, "side is 20"),
        ("video", {"codecs": [0, 0, 0, 0]}, "not all 0"),
        ("video", {"h264": [18, 60]}, "from 0 to 51"),
        ("video", {"presets": []}, "presets is empty"),
        ("learned", {}, "checkpoint is missing"),
    ],
)
def test_settings_are_strict(name: str, values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        settings_of(name, values)
    assert "\n" not in str(caught.value)


def test_settings_of_recipes_reach_the_degradation() -> None:
    settings = settings_of("realesrgan", {"first": {"jpeg": [40, 50]}, "pool": 12})
    assert settings.first.jpeg == (40, 50)
    assert settings.second == RealEsrganSettings().second
    assert settings.pool == 12


# ---- learned


def test_a_learned_degradation_needs_its_network(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no\.safetensors"):
        open_degradation("learned", {"checkpoint": str(tmp_path / "no.safetensors")}, 2)


def _stored(path: Path, family: str, **config: object) -> Path:
    torch.manual_seed(0)
    kind, build = FAMILIES[family]
    network = build(kind(**config))
    header = {"architecture": HEADER + family, "config": json.dumps(config)}
    save_file(network.state_dict(), path, metadata=header)
    return path


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("unet", {"features": 4, "depth": 5}),
        ("resnet", {"features": 4, "blocks": 1}),
        ("noise", {"kind": "conditional", "features": 4, "blocks": 1}),
        ("noise", {"kind": "dcgan", "features": 4, "size": 16}),
    ],
)
def test_a_learned_degradation_runs_its_network(
    family: str, config: dict[str, object], tmp_path: Path
) -> None:
    path = _stored(tmp_path / "network.safetensors", family, **config)
    clean = picture(90, 74)
    degrade = open_degradation("learned", {"checkpoint": str(path)}, 2)
    first = degrade(clean, np.random.default_rng(0))
    assert first.shape == (3, 37, 45)
    assert 0 <= first.min() <= first.max() <= 1
    assert not torch.equal(first, matlab_reduced(clean, 2))
    state = torch.get_rng_state()
    assert torch.equal(first, degrade(clean, np.random.default_rng(0)))
    assert torch.equal(state, torch.get_rng_state()), "nobody else's draws are disturbed"
    if family == "noise":
        assert not torch.equal(first, degrade(clean, np.random.default_rng(1)))
    never = open_degradation("learned", {"checkpoint": str(path), "share": 0.0}, 2)
    assert torch.equal(never(clean, np.random.default_rng(0)), matlab_reduced(clean, 2))


def test_a_network_for_luma_cannot_degrade_colour(tmp_path: Path) -> None:
    path = _stored(tmp_path / "luma.safetensors", "resnet", features=4, blocks=1, channels=1)
    with pytest.raises(UsageError, match="1 channels"):
        open_degradation("learned", {"checkpoint": str(path)}, 2)
