"""From names to networks that run, and networks on people's tensors."""

from fractions import Fraction

import pytest
import torch

import vsr
from tests.media import SHARED
from vsr.checkpoints import blend, read_checkpoint, save_checkpoint
from vsr.engine.loading import describe_model, find_model
from vsr.errors import CheckpointError, DeviceError, UnknownModelError, UsageError
from vsr.models import build
from vsr.models.compact import Compact, CompactConfig
from vsr.resample import resize

WEIGHTS = SHARED / "data" / "weights"


@pytest.mark.parametrize(
    ("factor", "scale", "passes"),
    [
        (Fraction(1, 2), 2, 1),
        (Fraction(2), 2, 1),
        (Fraction(21, 10), 3, 1),
        (Fraction(7, 2), 4, 1),
        (Fraction(5), 4, 2),
        (Fraction(16), 4, 2),
    ],
)
def test_the_nearest_larger_scale_is_taken(factor, scale, passes):
    model = find_model("auto", factor=factor)
    assert (model.spec.scale, model.passes) == (scale, passes)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("model", ["vsr-fast", "bicubic", "lanczos"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_any_tensor_of_a_picture(model, channels, dtype):
    up = vsr.load_model(model, scale=2, device="cpu", precision="fp32")
    x = torch.rand(2, channels, 9, 14).to(dtype)
    y = up(x)
    assert (y.shape, y.dtype) == ((2, channels, 18, 28), dtype)
    assert 0 <= float(y.min()) <= float(y.max()) <= 1


def test_gray_as_rgb_equals_gray():
    up = vsr.load_model("vsr-fast", scale=3, device="cpu", precision="fp32")
    x = torch.rand(1, 1, 12, 10) * 0.8 + 0.1
    assert torch.allclose(up(x.expand(-1, 3, -1, -1)), up(x).expand(-1, 3, -1, -1), atol=1e-5)


def test_tiles_are_exact():
    x = torch.rand(1, 1, 70, 90)
    whole = vsr.load_model("vsr-fast", scale=2, device="cpu", precision="fp32")
    tiled = vsr.load_model("vsr-fast", scale=2, device="cpu", precision="fp32", tile=48)
    assert torch.allclose(whole(x), tiled(x), atol=1e-6)


def test_bicubic_is_the_resampler():
    x = torch.rand(1, 3, 11, 7)
    y = vsr.load_model("bicubic", scale=4, device="cpu")(x)
    assert torch.equal(y, resize(x, 44, 28, "bicubic").clamp(0, 1))


@pytest.mark.parametrize(
    "x", [torch.rand(3, 8, 8), torch.rand(1, 2, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)]
)
def test_other_tensors_are_refused(x):
    with pytest.raises(UsageError, match="expected a float tensor"):
        vsr.load_model("bicubic", scale=2, device="cpu")(x)


def test_a_tensor_elsewhere_is_refused():
    with pytest.raises(UsageError, match="move one"):
        vsr.load_model("bicubic", scale=2, device="cpu")(torch.rand(1, 3, 8, 8, device="meta"))


def test_a_checkpoint_of_ones_own(tmp_path):
    torch.manual_seed(1)
    config = CompactConfig(features=16, convs=2, scale=2)
    network = Compact(config).eval()
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, network.state_dict(), "compact", config)
    x = torch.rand(1, 3, 10, 12)
    with torch.inference_mode():
        expected = network(x).clamp(0, 1)
    for model in (path, str(path)):
        y = vsr.load_model(model, device="cpu", precision="fp32")(x)
        assert torch.allclose(y, expected, atol=1e-5)
    assert find_model(path=path, factor=Fraction(3)).passes == 2


def test_refusals():
    with pytest.raises(UnknownModelError):
        vsr.load_model("nothing-of-this-name")
    with pytest.raises(CheckpointError):
        vsr.load_model("missing.safetensors")
    with pytest.raises(UsageError, match="denoising"):
        vsr.load_model("vsr-fast", scale=2, denoise=0.5)
    with pytest.raises(DeviceError):
        vsr.load_model("vsr-fast", scale=2, device="cuda:77")


def test_describing_downloads_nothing():
    rows = describe_model("RealESRGAN_x4plus", None, Fraction(4), "cpu", "auto")
    assert ("model", "RealESRGAN_x4plus", "downloaded once, then cached") in rows
    topics = [row[0] for row in describe_model("auto", None, Fraction(2), "cpu", "fp32")]
    assert topics == ["device", "model", "precision"]


@pytest.mark.shared
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_denoising_blends_with_the_twin(strength, monkeypatch):
    """Strength 1 is the denoising network, 0 its twin that keeps noise, as Real-ESRGAN's -dn."""
    files = {
        "realesr-general-x4v3": WEIGHTS / "realesr-general-x4v3_from-ncnn-fp16.pth",
        "realesr-general-wdn-x4v3": WEIGHTS / "realesr-general-wdn-x4v3_from-ncnn-fp16.pth",
    }
    monkeypatch.setattr("vsr.engine.loading.ensure", lambda entry, **_: files[entry.name])
    strong, weak = (read_checkpoint(path).state for path in files.values())
    expected, _ = build(blend(weak, strong, strength))
    x = torch.rand(1, 3, 8, 8)
    y = vsr.load_model("realesr-general-x4v3", device="cpu", precision="fp32", denoise=strength)(x)
    with torch.inference_mode():
        assert torch.allclose(y, expected(x).clamp(0, 1), atol=1e-5)
        own, _ = build(strong if strength == 1 else weak)
        assert torch.allclose(y, own(x).clamp(0, 1), atol=1e-5) == (strength in (0, 1))
