"""Small honest files, one of every kind that is read; larger ones may be given beside."""
# ruff: noqa: PLC0415 - a target imports what it needs, and torch takes seconds

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from scripts.fuzzing.targets import SPLIT, Target
from tests import media

_SIZE = (16, 16)
_VIDEOS = (
    ("a.mkv", "libx264", "yuv420p"),
    ("b.mp4", "libx264", "yuv420p"),
    ("c.mov", "mpeg4", "yuv420p"),
    ("d.avi", "mpeg4", "yuv420p"),
    ("e.ts", "libx264", "yuv420p"),
    ("f.mpg", "mpeg2video", "yuv420p"),
    ("g.webm", "libvpx-vp9", "yuv420p"),
    ("h.nut", "ffv1", "yuv420p"),
    ("i.flv", "flv", "yuv420p"),
    ("j.gif", "gif", "rgb8"),
    ("k.mkv", "ffv1", "bgr0"),
    ("l.apng", "apng", "rgb24"),
    ("m.h264", "libx264", "yuv420p"),
    ("n.mov", "prores_ks", "yuv422p10le"),
    ("o.mkv", "mjpeg", "yuvj420p"),
    ("p.ogg", "libtheora", "yuv420p"),
    ("q.mov", "qtrle", "rgb24"),
    ("r.avi", "huffyuv", "yuv422p"),
)
_PICTURES = (
    ("a.png", "png", "rgb24"),
    ("b.jpg", "mjpeg", "yuvj420p"),
    ("c.webp", "libwebp", "yuv420p"),
    ("d.tiff", "tiff", "rgb24"),
    ("e.bmp", "bmp", "bgr24"),
    ("f.ppm", "ppm", "rgb24"),
    ("g.pam", "pam", "rgba"),
    ("h.sgi", "sgi", "rgb24"),
    ("i.qoi", "qoi", "rgb24"),
    ("j.dpx", "dpx", "rgb48be"),
    ("k.exr", "exr", "gbrpf32le"),
    ("l.pcx", "pcx", "rgb24"),
    ("m.gif", "gif", "rgb8"),
    ("n.png", "png", "ya8"),
    ("o.png", "png", "rgb48be"),
    ("p.tiff", "tiff", "yuv420p"),
    ("q.hdr", "hdr", "gbrpf32le"),
    ("r.ras", "sunrast", "bgr24"),
)
_SEEKABLE = (
    ("a.mkv", "ffv1", "yuv420p"),
    ("b.mp4", "libx264", "yuv420p"),
    ("c.nut", "ffv1", "yuv420p"),
)
_STREAMS = (
    ("a.mkv", "ffv1", "yuv420p"),
    ("b.nut", "ffv1", "yuv420p"),
    ("c.nut", "rawvideo", "rgb24"),
    ("d.mkv", "libx264", "yuv420p"),
)


def seeds(target: Target, clips: Path | None = None) -> list[bytes]:
    """The files that fuzzing of a target begins with.

    Args:
        target: What will read them.
        clips: A folder of further media; those of the target's kind and length are taken.
    """
    made = list(_MAKERS[target.name]())
    if clips is not None and target.name in {"video", "verify", "stream", "picture"}:
        files = sorted(p for p in clips.iterdir() if p.is_file())
        made += [p.read_bytes() for p in files if 0 < p.stat().st_size <= target.longest]
    return [data for data in made if len(data) <= target.longest]


def _clips(
    kinds: tuple[tuple[str, str, str], ...], frames: int, rate: Fraction = Fraction(25)
) -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as name:
        for file, codec, fmt in kinds:
            path = Path(name) / file
            if codec not in av.codecs_available:
                continue
            rich = path.suffix == ".mkv" and codec == "libx264"
            media.clip(
                path,
                codec=codec,
                fmt=fmt,
                frames=frames,
                rate=rate,
                size=(48, 48) if codec == "prores_ks" else _SIZE,
                subtitles=[(0.0, 0.04, "a")] if rich else (),
                audio="aac" if rich else None,
                tags={"title": "A"},
                options={"crf": "40"} if codec == "libx264" else None,
            )
            yield path.read_bytes()


def _videos() -> Iterator[bytes]:
    yield from _clips(_VIDEOS, 3)
    yield b"YUV4MPEG2 W8 H8 F25:1 C420jpeg\n" + 2 * (b"FRAME\n" + bytes(96))


def _long_videos() -> Iterator[bytes]:
    """Also some whose frames are seconds apart, so that an excerpt is sought."""
    yield from _videos()
    yield from _clips(_SEEKABLE, 4, Fraction(1, 4))


def _pictures() -> Iterator[bytes]:
    yield from _clips(_PICTURES, 1)
    yield from _tagged()


def blank_pictures() -> dict[str, bytes]:
    """One file of each kind that tags are put into."""
    kinds = _PICTURES[:5]
    return dict(zip(("png", "jpg", "webp", "tiff", "bmp"), _clips(kinds, 1), strict=True))


def _tagged() -> Iterator[bytes]:
    from vsr.io import tiff
    from vsr.io.chunks import PictureTags, put_tags

    inside = {0xA002: tiff.short(16), 0xA003: tiff.short(16), 0x9000: tiff.Entry(7, b"0232")}
    directory = {
        tiff.ORIENTATION: tiff.short(6),
        0x010F: tiff.Entry(2, b"maker of it\0"),
        tiff.X_RESOLUTION: tiff.rational(Fraction(72)),
        tiff.EXIF: tiff.Entry(tiff.LONG, bytes(4), inside),
    }
    icc = bytes(16) + b"RGB " + bytes(108)
    tags = PictureTags(
        icc=icc, exif=tiff.payload(directory), density=(Fraction(300), Fraction(150))
    )
    for data in blank_pictures().values():
        yield put_tags(data, tags)[0]


def _y4m() -> Iterator[bytes]:
    yield b"YUV4MPEG2 W4 H4 F25:1 Ip A1:1 C420jpeg XYSCSS=420JPEG XCOLORRANGE=LIMITED\n" + 2 * (
        b"FRAME\n" + bytes(24)
    )
    yield b"YUV4MPEG2 W4 H4 F30000:1001 It C422p10\n" + 3 * (b"FRAME Ip\n" + bytes(64))
    yield b"YUV4MPEG2 H3 W5 Cmono16\nFRAME\n" + bytes(30)


def _raw() -> Iterator[bytes]:
    for spec, size in (
        (b"4x4:yuv420p:25", 24),
        (b"4x4:rgb24", 48),
        (b"5x3:nv12:30000/1001", 27),
        (b"4x2:gray16le", 16),
        (b"4x2:yuyv422", 16),
        (b"4x4:p010le:24", 48),
        (b"4x2:ya8", 16),
    ):
        yield spec + b"\n" + bytes(range(size)) * 2


def _patterns() -> Iterator[bytes]:
    yield b"f%03d.png\nf001.png\nf002.png\nf10.png"
    yield b"%d.jpg\n1.jpg\n2.jpg\n.hidden.jpg"
    yield b"a %5d b.tif\na     7 b.tif"


def _recipes() -> Iterator[bytes]:
    from vsr.train.recipe import shipped

    for path in shipped().values():
        yield path.read_bytes()
    yield (
        b"version = 1\ntitle = ''\n#set stages[0].steps=2\n[network]\narchitecture = 'compact'\n"
        b"[data]\nfolders = ['a']\n[[stages]]\nname = 'a'\nsteps = 1\nlosses = [{ kind = 'l1' }]\n"
    )


def _caches() -> Iterator[bytes]:
    choice = {"engine": "torch", "precision": "fp32", "batch": 1, "workers": 1}
    yield json.dumps({"key": choice}).encode()
    key = {
        "model": "a" * 64,
        "shape": [1, 3, 8, 8],
        "precision": "fp16",
        "device": "d",
        "library": "l",
    }
    yield b"vsr engine 1\n" + json.dumps({"key": key, "sha256": "b" * 64}).encode() + b"\nplan"


# ---- checkpoints


_TINY: dict[str, dict[str, object]] = {
    "compact": {"features": 3, "convs": 1, "scale": 2},
    "drcn": {"features": 3, "depth": 2},
    "drrn": {"features": 3, "units": 2},
    "edsr": {"features": 4, "blocks": 1},
    "espcn": {"features": 3, "mapped": 2},
    "fsrcnn": {"features": 4, "mapped": 2},
    "lapsrn": {"features": 3, "depth": 2, "recursions": 2},
    "mdsr": {"features": 3, "blocks": 1},
    "msrresnet": {"features": 4, "blocks": 1},
    "plksr": {"features": 4, "blocks": 1, "kernel": 3, "partial": 2, "norm_groups": 2},
    "rdn": {"features": 4, "growth": 2, "blocks": 1, "convs": 1},
    "rrdb": {"features": 4, "growth": 2, "blocks": 1, "ups": 1},
    "span": {"features": 4},
    "srcnn": {"features": 3, "mapped": 2, "first": 3, "third": 3},
    "srresnet": {"features": 4, "blocks": 1},
    "vdsr": {"features": 3, "convs": 3},
    "wdsr": {"features": 4, "expanded": 6, "blocks": 1},
}
"""Sizes of the smallest network of an architecture."""


def _networks() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """(architecture, configuration, tensors) of small networks of many kinds."""
    import torch

    from vsr.models import architecture

    torch.manual_seed(0)
    for name, sizes in _TINY.items():
        arch = architecture(name)
        config = replace(min(arch.parameters, key=lambda pair: pair[1])[0], **sizes)
        yield name, config, dict(arch.build(config).state_dict())


def _safetensors() -> Iterator[bytes]:
    from vsr.checkpoints import save_checkpoint

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.safetensors"
        for architecture, config, state in _networks():
            save_checkpoint(path, state, architecture, config, {"licence": "MIT"})
            yield path.read_bytes()


def _torch() -> Iterator[bytes]:
    import torch

    state = {
        "body.0.weight": torch.zeros(2, 3, 3, 3),
        "body.0.bias": torch.zeros(2, dtype=torch.float16),
    }
    for wrapped in (
        state,
        {"params": state, "epoch": 3},
        {"state_dict": {f"module.{k}": v for k, v in state.items()}},
    ):
        for zipped in (True, False):
            buffer = io.BytesIO()
            torch.save(wrapped, buffer, _use_new_zipfile_serialization=zipped)
            yield buffer.getvalue()
    for _, _, network in _networks():
        buffer = io.BytesIO()
        torch.save({"params_ema": network}, buffer)
        yield buffer.getvalue()


def _numpy() -> Iterator[bytes]:
    arrays = {"body.0.weight": np.zeros((2, 3, 3, 3), "f4"), "a": np.arange(4, dtype="f8")}
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, **arrays)
        yield buffer.getvalue()
    drcn = {
        "W-1_conv/conv_W_1": (3, 3, 1, 2),
        "W-1_conv/conv_B": (2,),
        "W0_conv/conv_W_1": (3, 3, 2, 2),
        "W0_conv/conv_B": (2,),
        "W_conv": (3, 3, 2, 2),
        "B": (2,),
        "WD1_conv_1": (3, 3, 2, 2),
        "BD1": (2,),
        "WD2_conv_1": (3, 3, 2, 1),
        "BD2": (1,),
        "LayerWeights": (3,),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for key, shape in drcn.items():
            with archive.open(f"{key}.npy", "w") as record:
                np.lib.format.write_array(record, np.ones(shape, "f4"))
    yield buffer.getvalue()


def _matlab() -> Iterator[bytes]:
    from tests.unit.test_checkpoints_foreign import matlab

    shapes = {
        "weights_conv1": (9, 2),
        "biases_conv1": (2, 1),
        "weights_conv2": (2, 1, 2),
        "biases_conv2": (2, 1),
        "weights_conv3": (2, 9),
        "biases_conv3": (1, 1),
    }
    arrays = {key: np.ones(shape) for key, shape in shapes.items()}
    for order in ("<", ">"):
        for packed in (False, True):
            yield matlab(arrays, order, packed=packed)


def _tensorflow() -> Iterator[bytes]:
    from tests.unit.test_checkpoints_foreign import espcn_graph, fsrcnn_graph
    from vsr.models.espcn import ESPCN, ESPCNConfig
    from vsr.models.fsrcnn import FSRCNN, FSRCNNConfig

    yield espcn_graph(
        dict(ESPCN(ESPCNConfig(features=3, mapped=2, scale=2, luma="full")).state_dict()), ["Relu"]
    )
    config = FSRCNNConfig(features=3, mapped=2, convs=1, scale=2, kernel=2, luma="full")
    yield fsrcnn_graph(dict(FSRCNN(config).state_dict()), config.convs)


def _ncnn() -> Iterator[bytes]:
    from tests.unit.test_checkpoints_ncnn import compact_file, rrdb_file
    from vsr.models.compact import Compact, CompactConfig
    from vsr.models.rrdb import RRDBConfig, RRDBNet

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.param"
        for activation in ("prelu", "relu", "leakyrelu"):
            compact_file(
                Compact(CompactConfig(features=3, convs=1, scale=2, activation=activation)), path
            )
            yield path.read_bytes() + SPLIT + path.with_suffix(".bin").read_bytes()
        rrdb_file(RRDBNet(RRDBConfig(features=4, growth=2, blocks=1)), path)
        yield path.read_bytes() + SPLIT + path.with_suffix(".bin").read_bytes()


_MAKERS: dict[str, Callable[[], Iterator[bytes]]] = {
    "video": _videos,
    "verify": _long_videos,
    "picture": _pictures,
    "tags": _tagged,
    "y4m": _y4m,
    "raw": _raw,
    "stream": lambda: _clips(_STREAMS, 3),
    "pattern": _patterns,
    "recipe": _recipes,
    "cache": _caches,
    "safetensors": _safetensors,
    "pickle": _torch,
    "numpy": _numpy,
    "matlab": _matlab,
    "tensorflow": _tensorflow,
    "ncnn": _ncnn,
}
