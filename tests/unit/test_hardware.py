"""Pictures on a device, by stand-ins in the host's memory: who gets them, and who a copy.

What only a GPU can show is in tests/gpu/test_hardware.py.
"""

import gc
import logging
import weakref
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests import media
from vsr.errors import EncoderError
from vsr.io import decoder as decoding
from vsr.io import hardware
from vsr.io.av_source import SourceOptions, open_source
from vsr.io.decoder import Decoder, DecoderOptions
from vsr.io.journal import JobFolder
from vsr.io.plan import SinkOptions, plan_output
from vsr.io.segmenting import PartEncoder, SegmentEncoder, takes_from_device
from vsr.io.segments import read_pieces
from vsr.types import ColorSpec, DevicePlanes, Frame, PixelFormat, VideoInfo

COLOR = ColorSpec(matrix=1, primaries=1, transfer=1, full_range=False, siting=1)
EIGHT, TEN = (PixelFormat(family="yuv", bits=bits, chroma_w=1, chroma_h=1) for bits in (8, 10))


class OnDevice:
    """A frame as PyAV's decoder leaves it on a device; the memory is the host's."""

    class Format:
        name, is_rgb = "cuda", False

    def __init__(self, frame: av.VideoFrame, name: str):
        self.real = frame if frame.format.name == name else frame.reformat(format=name)
        self.format, self.downloads = self.Format, 0

    def __getattr__(self, name: str):
        return getattr(self.real, name)

    @property
    def sw_format(self):
        return self.real.format

    def reformat(self, **options):
        self.downloads += 1
        return self.real.reformat(**options)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return media.clip(tmp_path / "film.mkv", frames=6)


def leaving(monkeypatch: pytest.MonkeyPatch) -> list[OnDevice]:
    """Lets every decoder leave its frames on a device."""
    frames, found = Decoder.frames, []

    def left(self: Decoder) -> Iterator[OnDevice]:
        for frame in frames(self):
            deep = "10" in frame.format.name
            found.append(OnDevice(frame, "p010le" if deep else "nv12"))
            yield found[-1]

    monkeypatch.setattr(Decoder, "frames", left)
    return found


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[OnDevice]:
    return leaving(monkeypatch)


def read(path: Path, **options) -> list[Frame]:
    with open_source(path, SourceOptions(**options)) as source:
        return list(source)


def joined(surface: DevicePlanes) -> np.ndarray:
    luma, chroma = (np.from_dlpack(array) for array in (surface.luma, surface.chroma))
    return np.concatenate([luma.ravel(), chroma[..., 0].ravel(), chroma[..., 1].ravel()])


# ---------------------------------------------------------------- from the decoder


@pytest.mark.parametrize("form", ["yuv420p", "yuv420p10le"])
def test_frames_stay_where_they_are_decoded(tmp_path: Path, monkeypatch, form: str):
    path = media.clip(tmp_path / "f.mkv", frames=4, codec="ffv1", fmt=form)
    expected = read(path)
    frames = leaving(monkeypatch)
    with open_source(path) as source:
        ours, info = list(source), source.info
    shift = 0 if form == "yuv420p" else 6
    assert (info.width, info.height, info.format) == (64, 48, expected[0].format)
    for frame, other in zip(ours, expected, strict=True):
        assert (frame.planes, frame.pts, frame.color) == ((), other.pts, other.color)
        flat = np.concatenate([plane.ravel() for plane in other.planes])
        np.testing.assert_array_equal(joined(frame.surface), flat << shift)
    assert len(frames) == 4
    assert not any(frame.downloads for frame in frames)


@pytest.mark.usefixtures("left")
def test_frames_that_must_be_turned_come_to_the_host(tmp_path: Path):
    path = tmp_path / "f.mp4"
    with av.open(path, "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(90)
        for number, shot in enumerate(media.pictures(3)):
            frame = av.VideoFrame.from_ndarray(shot, format="rgb24")
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    assert all(frame.surface is not None for frame in read(path))
    turned = read(path, bake_rotation=True)
    assert [(frame.width, frame.height) for frame in turned] == [(48, 64)] * 3
    assert all(frame.surface is None for frame in turned)


@pytest.mark.usefixtures("left")
def test_frames_that_are_deinterlaced_come_to_the_host(film: Path):
    frames = read(film, deinterlace="on")
    assert len(frames) == 6
    assert all(frame.surface is None and frame.planes for frame in frames)


@pytest.mark.usefixtures("left")
@pytest.mark.parametrize("size", [(63, 48), (64, 47)])
def test_odd_sizes_come_to_the_host(tmp_path: Path, size: tuple[int, int]):
    """PyAV's arrays round the size of chroma down."""
    path = media.clip(tmp_path / "f.mkv", frames=2, size=size, codec="ffv1")
    for frame in read(path):
        assert frame.surface is None
        assert [plane.shape for plane in frame.planes] == list(EIGHT.plane_shapes(*size))


def test_other_layouts_come_to_the_host():
    frame = av.VideoFrame(64, 48, "yuv444p")
    assert hardware.on_device(OnDevice(frame, "yuv444p")) is None
    assert hardware.on_device(av.VideoFrame(64, 48, "nv12")) is None
    assert hardware.on_host(frame) is frame
    copied = hardware.on_host(OnDevice(frame, "nv12"))
    assert copied.format.name == "yuv420p"


def test_a_frame_of_another_format_midway_is_converted_on_the_host(
    film: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    frames = Decoder.frames

    def changing(self: Decoder) -> Iterator[OnDevice]:
        for number, frame in enumerate(frames(self)):
            yield OnDevice(frame, "nv12" if number < 3 else "p010le")

    monkeypatch.setattr(Decoder, "frames", changing)
    made = read(film)
    assert [frame.surface is not None for frame in made] == [True] * 3 + [False] * 3
    assert {frame.format for frame in made} == {EIGHT}
    assert "changes from nv12 to p010le" in caplog.text


def test_who_does_not_ask_for_surfaces_gets_none(film: Path, monkeypatch: pytest.MonkeyPatch):
    """And nobody tries the device for him."""
    monkeypatch.setattr(decoding, "works", lambda *_: pytest.fail("tried"))
    monkeypatch.setattr(decoding, "HWDevice", lambda _: None)
    seen = []
    monkeypatch.setattr(decoding, "HWAccel", lambda *a, **k: seen.append((a, k)))
    assert all(frame.surface is None for frame in read(film, hwaccel="auto"))
    assert seen == [(("cuda",), {"allow_software_fallback": True})]


@pytest.mark.parametrize("able", [True, False])
def test_the_wish_reaches_the_decoder(film: Path, monkeypatch: pytest.MonkeyPatch, able: bool):
    asked, owned = [], []
    monkeypatch.setattr(decoding, "HWDevice", lambda _: None)
    monkeypatch.setattr(decoding, "works", lambda device: asked.append(device) or able)
    monkeypatch.setattr(decoding, "owning", owned.append)
    monkeypatch.setattr(decoding, "HWAccel", lambda *_, **__: None)
    assert len(read(film, hwaccel="auto", keep_on=3)) == 6
    assert asked == [3]
    assert owned == [3] * able
    asked.clear()
    assert DecoderOptions().keep_on is None
    assert len(read(film, hwaccel="none", keep_on=3)) == 6
    assert asked == []


# ---------------------------------------------------------------- the probe


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    cached = (hardware.fault, hardware._tell, hardware._context_options)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def test_without_a_device_one_line_says_so(monkeypatch, caplog):
    tried = []

    def missing(device: int):
        tried.append(device)
        raise PermissionError(1, "no driver\nand more")

    monkeypatch.setattr(hardware, "owning", missing)
    with caplog.at_level(logging.INFO, "vsr"):
        for _ in range(3):
            assert not hardware.works(0)
            assert not hardware.works(0, "h264_nvenc", EIGHT)
    lines = [record for record in caplog.records if record.name == "vsr.io.hardware"]
    (line,) = lines
    assert line.levelno == logging.WARNING
    assert "go through host memory: the device cannot decode into its memory" in line.message
    assert "no driver" in line.message
    assert "\n" not in line.message
    assert tried == [0, 0]  # once for the decoder, once for the encoder


@pytest.fixture
def device(monkeypatch):
    """A device that decodes well; its encoder is x264, fed from the host."""
    decoded, packets = hardware._decoded, hardware._packets

    def decode(film, accelerator):
        frames = decoded(film, None)
        if accelerator is None:
            return frames
        deep = "10" in frames[0].format.name
        return [OnDevice(frame, "p010le" if deep else "nv12") for frame in frames]

    def encode(frames, encoder, picture, _=None):
        name = {"h264_nvenc": "x264", "hevc_nvenc": "x265"}.get(encoder, encoder)
        form = "yuv420p" if picture.format.bits == 8 else "yuv420p10le"
        return packets([frame.reformat(format=form) for frame in frames], name, picture)

    monkeypatch.setattr(hardware, "_decoded", decode)
    monkeypatch.setattr(hardware, "_packets", encode)
    monkeypatch.setattr(hardware, "owning", lambda _: object())
    return monkeypatch


@pytest.mark.usefixtures("device")
def test_a_device_that_works(caplog):
    with caplog.at_level(logging.INFO, "vsr"):
        assert hardware.works(0)
        assert hardware.works(0, "h264_nvenc", EIGHT)
        assert hardware.works(0, "hevc_nvenc", TEN)
    assert not caplog.records


def test_a_device_that_decodes_something_else(device, caplog):
    real = hardware._samples

    def wrong(frame):
        planes = real(frame)
        if isinstance(frame, OnDevice):
            planes[2][-1, -1] ^= 1
        return planes

    device.setattr(hardware, "_samples", wrong)
    assert not hardware.works(0)
    assert "its samples differ from the processor's" in caplog.text


def test_a_device_whose_frames_come_to_the_host(device, caplog):
    device.setattr(OnDevice.Format, "name", "nv12")
    assert not hardware.works(0)
    assert "not 6 of format cuda" in caplog.text


@pytest.mark.parametrize("layout", [EIGHT, TEN])
def test_an_encoder_that_mixes_up_planes(device, caplog, layout):
    """As NVENC does if chroma does not lie where it expects it."""
    real = hardware._samples

    def by_turn(frame):
        by_turn.calls += 1
        y, u, v = real(frame)
        return (y, v, u) if by_turn.calls > 12 else (y, u, v)  # six of each decoder's come first

    by_turn.calls = 0
    device.setattr(hardware, "_samples", by_turn)
    assert not hardware.works(0, "hevc_nvenc", layout)
    assert "hevc_nvenc does not take pictures there: the picture is" in caplog.text


def test_an_encoder_that_loses_a_picture(device, caplog):
    packets = hardware._packets
    device.setattr(
        hardware,
        "_packets",
        lambda frames, encoder, *rest: packets(
            list(frames)[: 5 if encoder == "h264_nvenc" else 6], encoder, *rest
        ),
    )
    assert not hardware.works(0, "h264_nvenc", EIGHT)
    assert "it gave 5 frames of 6" in caplog.text
    assert hardware.works(0)


@pytest.mark.parametrize(
    "layout", [replace(EIGHT, bits=12), replace(EIGHT, chroma_h=0), replace(EIGHT, alpha=True)]
)
def test_layouts_without_a_place_are_not_tried(device, caplog, layout):
    device.setattr(hardware, "fault", lambda *_: pytest.fail("tried"))
    assert not hardware.works(0, "hevc_nvenc", layout)
    assert "no video engine takes yuv" in caplog.text


def test_the_context_is_the_primary_one_or_that_of_the_thread(monkeypatch):
    monkeypatch.setattr(hardware, "HWDevice", lambda *_: None)
    assert dict(hardware._context_options(0)) == {"primary_ctx": "1", "current_ctx": "0"}

    def refusing(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(hardware, "HWDevice", refusing)
    assert dict(hardware._context_options(1)) == {"primary_ctx": "0", "current_ctx": "1"}
    accelerator = hardware.owning(1)
    assert accelerator.is_hw_owned
    assert accelerator.device_id == 1
    assert accelerator.options == {"primary_ctx": "0", "current_ctx": "1"}


# ---------------------------------------------------------------- to the encoder


class Array(np.ndarray):
    """An array that tells when it is gone."""


SIZE = (96, 72)
HEIGHT = SIZE[1]


def both(count: int, form: PixelFormat) -> tuple[list[Frame], list[Frame]]:
    """The same pictures on the host, and as surfaces."""
    generator = np.random.default_rng(5)
    hosts, surfaces = [], []
    for number in range(count):
        base = [generator.integers(0, 1 << form.bits, (s[0] // 8 + 1, s[1] // 8 + 1))
                for s in form.plane_shapes(*SIZE)]  # fmt: skip
        planes = tuple(
            np.kron(b, np.ones((8, 8), int))[: s[0], : s[1]].astype(form.dtype)
            for b, s in zip(base, form.plane_shapes(*SIZE), strict=True)
        )
        shift = 0 if form.bits == 8 else 16 - form.bits
        block = np.zeros((HEIGHT * 3 // 2, 128), form.dtype).view(Array)
        block[:HEIGHT, :96] = planes[0] << shift
        chroma = block[HEIGHT:, :96].reshape(HEIGHT // 2, 48, 2, copy=False)
        chroma[..., 0], chroma[..., 1] = planes[1] << shift, planes[2] << shift
        surface = DevicePlanes(luma=block[:HEIGHT, :96], chroma=chroma, width=96, height=HEIGHT)
        host = Frame(planes=planes, format=form, color=COLOR, pts=number, time_base=Fraction(1, 25))
        hosts.append(host)
        surfaces.append(replace(host, planes=(), surface=surface))
    return hosts, surfaces


def encoded(folder: Path, frames: list[Frame], encoder: str) -> list[bytes]:
    picture = VideoInfo(
        width=96,
        height=HEIGHT,
        format=frames[0].format,
        color=COLOR,
        time_base=Fraction(1, 25),
        frame_rate=Fraction(25),
    )
    plan = plan_output(folder / "out.mkv", picture, None, SinkOptions(encoder=encoder))
    with_format = replace(picture, format=plan.format, color=plan.color)
    job = JobFolder(plan.path, frames=3)
    sink = SegmentEncoder(plan, with_format, job, threads=1)
    try:
        for frame in frames:
            sink.write(frame)
        sink.finish()
        return [piece.data for path in job.paths() for piece in read_pieces(path)]
    finally:
        sink.abort()
        job.close()


@pytest.mark.parametrize(("encoder", "form"), [("x264", EIGHT), ("x265", TEN), ("ffv1", EIGHT)])
def test_other_encoders_get_a_copy_and_give_the_same_bytes(tmp_path, encoder, form):
    hosts, surfaces = both(7, form)
    expected = encoded(tmp_path, hosts, encoder)
    assert len(expected) == 7
    assert encoded(tmp_path, surfaces, encoder) == expected
    mixed = [*surfaces[:2], *hosts[2:5], *surfaces[5:]]
    assert encoded(tmp_path, mixed, encoder) == expected


@pytest.mark.parametrize(("form", "name"), [(EIGHT, "nv12"), (TEN, "p010le")])
def test_ffmpeg_looks_at_the_surface_itself(form, name):
    (host,), (frame,) = both(1, form)
    made = hardware.from_surface(frame)
    assert (made.format.name, made.width, made.height) == (name, *SIZE)
    assert made.planes[0].buffer_ptr == frame.surface.luma.ctypes.data
    for plane, expected in zip(
        hardware.to_planes(made, form), host.planes, strict=True
    ):  # through swscale
        np.testing.assert_array_equal(plane, expected)


def test_a_surface_without_a_layout_is_refused():
    (host,), (frame,) = both(1, EIGHT)
    for wrong in (host, replace(frame, format=PixelFormat(family="rgb"))):
        with pytest.raises(EncoderError, match="lies on a device: give its planes"):
            hardware.from_surface(wrong)


def test_ffmpeg_keeps_the_memory_for_as_long_as_it_needs():
    _, (frame,) = both(1, EIGHT)
    reference = weakref.ref(frame.surface.luma.base)
    made = hardware.from_surface(frame)
    del frame
    gc.collect()
    assert reference() is not None
    del made
    gc.collect()
    assert reference() is None


def test_only_nvenc_takes_pictures_from_a_device(tmp_path: Path):
    _, (frame,) = both(1, EIGHT)
    picture = VideoInfo(width=96, height=64, format=EIGHT, color=COLOR, time_base=Fraction(1, 25))
    plan = plan_output(tmp_path / "o.mkv", picture, None, SinkOptions(encoder="x264"))

    class Cuda:
        def __dlpack_device__(self):
            return 2, 0

    there = replace(frame.surface, luma=Cuda())
    nvenc = replace(plan, encoder=hardware.get("hevc_nvenc"))
    assert takes_from_device(nvenc, there)
    assert not takes_from_device(plan, there)
    assert not takes_from_device(nvenc, frame.surface)


def test_an_encoder_on_a_device_opens_with_its_first_picture(tmp_path: Path):
    """Here it cannot: there is no device, and the picture does not lie on one."""
    (host,), _ = both(1, EIGHT)
    picture = VideoInfo(width=96, height=64, format=EIGHT, color=COLOR, time_base=Fraction(1, 25))
    plan = plan_output(tmp_path / "o.mkv", picture, None, SinkOptions(encoder="x264"))
    plan = replace(plan, encoder=hardware.get("h264_nvenc"))
    job = JobFolder(plan.path)
    try:
        part = PartEncoder(plan, picture, job.begin(0), 1, on_device=True)
        assert part._context.pix_fmt == "cuda"
        assert not part._context.is_open
        with pytest.raises(EncoderError, match="h264_nvenc failed at frame 1"):
            part.write(host)
        part.discard()
    finally:
        job.close()
