"""Pictures keep depth, alpha, ICC profile, EXIF and dots per inch; Pillow is the other opinion."""

import struct
import zlib
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageCms

import vsr
from vsr.io import tiff
from vsr.io.av_source import SourceOptions
from vsr.io.chunks import PictureTags, find_tags
from vsr.io.picture_encoders import PictureEncoder
from vsr.io.picture_tags import read_tags, tags_for
from vsr.io.stills import PictureSource, read_still
from vsr.types import ColorSpec, PixelFormat, VideoInfo

KINDS = ("png", "jpg", "webp", "tif", "bmp")
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MAKER, DATE = 0x010F, 0x9003


def same(source: Path, target: Path, **settings: object) -> None:
    settings = {"scale": 2, "model": "bicubic", "device": "cpu"} | settings
    vsr.upscale(source, target, **settings)


def noise(height: int = 20, width: int = 30, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def exif(orientation: int = 6) -> Image.Exif:
    made = Image.Exif()
    made[0x0112], made[MAKER] = orientation, "a maker of cameras"
    inner = made.get_ifd(0x8769)
    inner[DATE], inner[0xA002], inner[0xA003] = "2026:01:02 03:04:05", 30, 20
    return made


@pytest.mark.parametrize(("before", "after"), list(product(KINDS, repeat=2)))
def test_tags_survive(before, after, tmp_path):
    source, target = tmp_path / f"a.{before}", tmp_path / f"b.{after}"
    settings = {"dpi": (300, 200)}
    if before != "bmp":
        settings |= {"icc_profile": PROFILE, "exif": exif()}
    Image.fromarray(noise()).save(source, **settings)
    same(source, target)
    with Image.open(target) as made:
        made.load()
        turned = before != "bmp"
        assert made.size == ((40, 60) if turned else (60, 40)), "EXIF's orientation is baked"
        if before != "bmp" and after != "bmp":
            assert made.info["icc_profile"] == PROFILE
            assert made.getexif()[MAKER] == "a maker of cameras"
            assert made.getexif().get(0x0112, 1) == 1, "baked and kept would turn it twice"
        if before not in {"bmp", "tif"} and after != "bmp":
            inner = made.getexif().get_ifd(0x8769)
            assert (inner[DATE], inner[0xA002], inner[0xA003]) == ("2026:01:02 03:04:05", 40, 60)
        if before != "webp" and after != "webp":
            expected = (200, 300) if turned else (300, 200)
            assert made.info["dpi"] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_every_orientation_is_baked_once(orientation, kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    Image.fromarray(noise()).resize((90, 60)).save(path, exif=exif(orientation), quality=100)
    same(path, tmp_path / "b.png", scale=1)
    with Image.open(path) as stored, Image.open(tmp_path / "b.png") as made:
        from PIL import ImageOps

        upright = np.asarray(ImageOps.exif_transpose(stored).convert("RGB")).astype(int)
        difference = np.abs(upright - np.asarray(made.convert("RGB")))
    assert difference.mean() < (0.01 if kind == "png" else 6)


LAYOUTS = {
    "gray": ("L", noise()[..., 0]),
    "gray alpha": ("LA", noise(channels=2)),
    "rgb": ("RGB", noise()),
    "rgba": ("RGBA", noise(channels=4)),
    "gray 16": ("I;16", noise()[..., 0].astype(np.uint16) * 257 + 3),
}


@pytest.mark.parametrize("kind", ["png", "tif"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_depth_alpha_and_gray_stay(name, kind, tmp_path):
    mode, samples = LAYOUTS[name]
    source, target = tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"
    Image.fromarray(samples).save(source)
    same(source, target, scale=1)
    with Image.open(target) as made:
        assert made.mode == mode
        assert np.array_equal(np.asarray(made), samples)


def test_sixteen_bits_with_alpha_stay(tmp_path):
    rgba = noise(channels=4).astype(np.uint16) * 257 + 5
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgba)
    head = struct.pack(">IIBBBBB", 30, 20, 16, 6, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path = tmp_path / "a.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
    same(path, tmp_path / "b.png", scale=1)
    made = read_still(tmp_path / "b.png").frame
    assert made.format == PixelFormat(family="rgb", bits=16, alpha=True)
    for channel, plane in zip((1, 2, 0, 3), made.planes, strict=True):
        assert np.array_equal(plane, rgba[..., channel])


@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_become_rgb(transparent, tmp_path):
    image = Image.fromarray(noise()).quantize(16)
    image.save(tmp_path / "a.png", **({"transparency": 3} if transparent else {}))
    same(tmp_path / "a.png", tmp_path / "b.png", scale=1)
    with Image.open(tmp_path / "a.png") as before, Image.open(tmp_path / "b.png") as after:
        expected, got = (np.asarray(i.convert("RGBA")) for i in (before, after))
    shown = expected[..., 3] > 0
    assert np.array_equal(expected[shown], got[shown])
    assert np.array_equal(expected[..., 3], got[..., 3])


def test_quality_of_jpeg_and_webp(tmp_path):
    x = np.linspace(0, 6, 96)
    wave = (127 + 120 * np.sin(x[:, None] * x[None])).astype(np.uint8)
    Image.fromarray(np.stack([wave, wave[::-1], wave.T], -1)).save(tmp_path / "a.png")
    for kind in ("jpg", "webp"):
        sizes = []
        for quality in (30, 80, None, 100):
            target = tmp_path / f"{quality}.{kind}"
            same(tmp_path / "a.png", target, quality=quality, scale=1)
            sizes.append(target.stat().st_size)
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[2]
    with Image.open(tmp_path / "100.webp") as made, Image.open(tmp_path / "a.png") as source:
        assert np.array_equal(np.asarray(made), np.asarray(source)), "100 is lossless"


def test_a_profile_of_another_colour_space_is_dropped_with_a_warning():
    cmyk = PROFILE[:16] + b"CMYK" + PROFILE[20:]
    told: list[str] = []
    made = tags_for(PictureTags(icc=cmyk), (2, 2), "rgb", told.append)
    assert made.icc is None
    assert told == ["a CMYK colour profile does not fit a rgb picture: it is dropped"]


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_of_both_byte_orders_is_turned_upright_in_place(order):
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, 8, 0)
    payload = mark + struct.pack(order + "IH", 8, 1) + entry + struct.pack(order + "I", 0)
    assert tiff.orientation(payload) == 8
    made = tiff.upright(payload, (4, 4))
    assert tiff.orientation(made) == 1
    assert len(made) == len(payload)


def test_density_in_centimetres():
    found = {tiff.X_RESOLUTION: tiff.rational(Fraction(100)), tiff.RESOLUTION_UNIT: tiff.short(3)}
    found[tiff.Y_RESOLUTION] = tiff.rational(Fraction(50))
    assert tiff.density(tiff.read(tiff.payload(found))) == (254, 127)


DAMAGED = (b"II*\0\xff\xff\xff\x7f", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\xff\0\0\0\0")


@pytest.mark.parametrize("payload", DAMAGED)
def test_damaged_exif_is_dropped_with_one_warning(payload, tmp_path, caplog):
    path = tmp_path / "a.webp"
    Image.fromarray(noise()).save(path, exif=b"Exif\0\0" + payload)
    assert read_tags(path) == PictureTags()
    assert [r.levelname for r in caplog.records] == ["WARNING"]


def test_a_profile_that_unpacks_without_end_is_refused():
    bomb = zlib.compress(bytes(17 << 20))
    contents = b"x\0\0" + bomb
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(contents)) + b"iCCP" + contents + bytes(4)
    with pytest.raises(ValueError, match="too large"):
        find_tags(data)


def test_any_bytes_behind_a_signature_are_survived():
    rng = np.random.default_rng(3)
    heads = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1", b"RIFF\x99\0\0\0WEBP", b"MM\0*", b"BM")
    for head in heads:
        for length in (0, 5, 40, 200):
            for _ in range(20):
                try:
                    find_tags(head + rng.bytes(length))
                except ValueError:
                    continue


def test_a_picture_with_a_second_view_is_one_picture(tmp_path):
    views = [Image.fromarray(noise(seed=k)) for k in (1, 2)]
    path = tmp_path / "a.jpg"
    views[0].save(path, format="MPO", save_all=True, append_images=[views[1].resize((10, 8))])
    same(path, tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as made:
        assert made.size == (60, 40)


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_an_animation_is_no_picture(kind, tmp_path):
    views = [Image.fromarray(noise(seed=k)) for k in (1, 2)]
    path = tmp_path / f"a.{kind}"
    views[0].save(path, save_all=True, append_images=views[1:])
    with pytest.raises(vsr.VsrError, match="animation"):
        read_still(path)


def test_encoders_name_what_is_lost():
    form = PixelFormat(family="rgb", bits=16, alpha=True)
    color = ColorSpec(matrix=0, full_range=True)
    info = VideoInfo(width=8, height=8, format=form, color=color, time_base=Fraction(1, 25))
    assert PictureEncoder(".png", info).losses == ()
    assert len(PictureEncoder(".jpg", info).losses) == 2


def test_a_png_with_a_named_profile_is_read_again_and_again(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(noise()).save(path, icc_profile=PROFILE)
    for _ in range(5):
        with PictureSource(path, SourceOptions()) as source:
            (frame,) = source
            assert frame.width == 30


def encoded(path: Path, codec: str, fmt: str, samples: np.ndarray) -> Path:
    """A file that Pillow cannot write; samples as planes G, B, R."""
    height, width = samples.shape[1:]
    frame = av.VideoFrame(width, height, fmt)
    for plane, values in zip(frame.planes, samples, strict=True):
        stride = plane.line_size // values.itemsize
        rows = np.zeros((height, stride), values.dtype)
        rows[:, :width] = values
        plane.update(rows.tobytes())
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = width, height, fmt
    context.time_base = Fraction(1, 25)
    frame.pts = 0
    path.write_bytes(b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)]))
    return path


def test_dpx_keeps_ten_bits(tmp_path):
    samples = np.random.default_rng(0).integers(0, 1024, (3, 12, 16)).astype(np.uint16)
    path = encoded(tmp_path / "a.dpx", "dpx", "gbrp10le", samples)
    for name in ("b.dpx", "b.png"):
        same(path, tmp_path / name, scale=1)
    assert read_still(tmp_path / "b.dpx").frame.format.bits == 10
    assert np.array_equal(np.stack(read_still(tmp_path / "b.dpx").frame.planes), samples)
    wide = np.stack(read_still(tmp_path / "b.png").frame.planes)
    assert np.abs(wide / 65535 - samples / 1023).max() < 2e-4


def test_floating_point_becomes_sixteen_bits_with_a_warning(tmp_path, caplog):
    samples = np.random.default_rng(0).random((3, 12, 16)).astype(np.float32)
    path = encoded(tmp_path / "a.exr", "exr", "gbrpf32le", samples)
    same(path, tmp_path / "b.png", scale=1)
    assert [r.message for r in caplog.records if "floating-point" in r.message]
    made = read_still(tmp_path / "b.png").frame
    assert made.format.bits == 16
    assert np.abs(np.stack(made.planes) / 65535 - samples).max() < 1e-3


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (17, 5)])
def test_palettes_of_any_size(size, tmp_path):
    width, height = size
    indices = (np.arange(width * height, dtype=np.uint8) % 5).reshape(height, width)
    picture = Image.fromarray(indices).convert("P")
    colours = [0, 0, 255, 255, 0, 0, 10, 200, 30, 7, 8, 9, 250, 251, 252]
    picture.putpalette(colours)
    picture.putdata(indices.ravel().tolist())
    picture.save(tmp_path / "in.png")
    expected = np.array(colours, np.uint8).reshape(-1, 3)[indices]
    with vsr.open_source(tmp_path / "in.png") as source:
        (frame,) = source
    green, blue, red, *_ = frame.planes
    assert np.array_equal(np.stack([red, green, blue], 2), expected)
