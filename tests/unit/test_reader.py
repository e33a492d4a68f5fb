"""The reader on real streams: choice of stream, times, damage, fields, rotation, colour, alpha."""

import logging
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests import media
from vsr.errors import (
    DamagedSourceError,
    DeviceError,
    SourceError,
    UnsupportedSourceError,
    UsageError,
)
from vsr.io.av_source import AvSource, SourceOptions, open_source
from vsr.types import Frame, PixelFormat


def read(path: Path, options: SourceOptions | None = None) -> tuple[AvSource, list[Frame]]:
    with open_source(path, options) as source:
        return source, list(source)


def raw(path: Path, pictures: Sequence[np.ndarray], fmt: str = "yuv420p", **options: str) -> bytes:
    return media.clip(path, frames=pictures, fmt=fmt, options=options).read_bytes()


# ---------------------------------------------------------------- which stream


def test_a_cover_is_never_the_film(tmp_path: Path):
    cover = media.clip(tmp_path / "c.png", codec="png", fmt="rgb24", frames=1, size=(300, 300))
    film = tmp_path / "x.mkv"
    with av.open(film, "w") as file:
        file.add_attachment("cover.png", "image/png", cover.read_bytes())
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for n in range(3):
            frame = av.VideoFrame(32, 24, "yuv420p")
            frame.pts = n
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    source, frames = read(film)
    assert (source.info.width, len(frames)) == (32, 3)


def test_sound_alone_is_refused(tmp_path: Path):
    path = tmp_path / "x.m4a"
    with av.open(path, "w", format="mp4") as file:
        sound = file.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 48000, 0
        file.mux(sound.encode(frame))
        file.mux(sound.encode())
    with pytest.raises(UnsupportedSourceError, match="no video stream"):
        open_source(path)


def two_videos(path: Path, flagged: int | None) -> Path:
    with av.open(path, "w") as file:
        streams = []
        for index, width in enumerate((32, 64, 48)):
            stream = file.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, 24, "yuv420p"
            stream.disposition = av.stream.Disposition(int(index == flagged))
            streams.append(stream)
        for stream in streams:
            frame = av.VideoFrame(stream.width, 24, "yuv420p")
            frame.pts = 0
            file.mux(stream.encode(frame))
            file.mux(stream.encode())
    return path


def test_the_default_flag_then_the_size_chooses(tmp_path: Path):
    path = two_videos(tmp_path / "x.mkv", flagged=2)
    assert read(path)[0].info.width == 48
    assert read(path, SourceOptions(stream=0))[0].info.width == 32
    with pytest.raises(UnsupportedSourceError, match=r"no video stream 7; .* 0, 1, 2"):
        open_source(path, SourceOptions(stream=7))


# ---------------------------------------------------------------- times


def test_absolute_starts_are_kept(tmp_path: Path):
    path = media.clip(
        tmp_path / "x.mkv", pts=range(1500, 1900, 40), frames=10, time_base=Fraction(1, 1000)
    )
    assert [frame.pts for frame in read(path)[1]] == list(range(1500, 1900, 40))


def test_a_jump_stays_a_jump(tmp_path: Path):
    stamps = [0, 40, 80, 100_080, 100_120]
    path = media.clip(tmp_path / "x.mkv", pts=stamps, frames=5, time_base=Fraction(1, 1000))
    assert [frame.pts for frame in read(path)[1]] == stamps


@pytest.mark.ffmpeg
def test_frames_outside_an_edit_list_are_not_given(tmp_path: Path):
    whole = media.clip(tmp_path / "a.mp4", frames=30, options={"g": "12", "bf": "2"})
    path = tmp_path / "b.mp4"
    command = ["ffmpeg", "-v", "error", "-ss", "0.6", "-i", whole, "-c", "copy", path]
    subprocess.run(command, check=True)
    frames = read(path)[1]
    assert [float(frame.seconds) for frame in frames] == pytest.approx(
        _ffprobe_times(path), abs=1e-6
    )
    assert len(frames) == 15


def _ffprobe_times(path: Path) -> list[float]:
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries"]
    command += ["frame=best_effort_timestamp_time", "-of", "csv=p=0", str(path)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [float(line.split(",")[0]) for line in text.split()]


@pytest.mark.parametrize("name", ["x.mp4", "x.ts", "x.mov", "x.mkv", "x.nut"])
@pytest.mark.ffmpeg
def test_another_program_sees_the_same_times(name: str, tmp_path: Path):
    path = media.clip(tmp_path / name, frames=12, codec="mpeg4", options={"bf": "2"})
    assert [float(frame.seconds) for frame in read(path)[1]] == pytest.approx(
        _ffprobe_times(path), abs=1e-6
    )


@pytest.mark.parametrize("count", [1, 12])
def test_avi_which_has_no_presentation_times(count: int, tmp_path: Path):
    path = media.clip(tmp_path / "x.avi", frames=count, codec="mpeg4", options={"bf": "2"})
    times = [frame.seconds for frame in read(path)[1]]
    assert [time - times[0] for time in times] == [Fraction(n, 25) for n in range(count)]


# ---------------------------------------------------------------- excerpts


@pytest.mark.parametrize("start", [Fraction(0), Fraction(31, 10), Fraction(6), Fraction(79, 10)])
def test_excerpts_equal_a_part_of_the_whole(start: Fraction, tmp_path: Path):
    path = media.clip(
        tmp_path / "x.mkv", frames=80, size=(32, 24), rate=10, options={"g": "12", "bf": "3"}
    )
    whole = read(path)[1]
    source, part = read(path, SourceOptions(start=start, end=start + 1))
    expected = [frame for frame in whole if start <= frame.seconds < start + 1]
    assert [frame.pts for frame in part] == [frame.pts for frame in expected]
    for frame, other in zip(part, expected, strict=True):
        np.testing.assert_array_equal(frame.planes[0], other.planes[0])
    assert source.first_pts == 0
    assert source.info.frame_count == pytest.approx(len(part), abs=1)


def test_excerpts_count_from_the_first_frame(tmp_path: Path):
    path = media.clip(tmp_path / "x.mkv", pts=range(100, 110), frames=10)
    part = read(path, SourceOptions(start=Fraction(2, 25), end=Fraction(4, 25)))[1]
    assert [frame.seconds for frame in part] == [Fraction(102, 25), Fraction(103, 25)]


def test_empty_excerpts_are_refused(film: Path):
    with pytest.raises(UsageError, match="no frame in the excerpt"):
        read(film, SourceOptions(start=Fraction(3)))
    with pytest.raises(UsageError, match="later end"):
        SourceOptions(start=Fraction(3), end=Fraction(3))
    with pytest.raises(UsageError, match="0 or more"):
        SourceOptions(start=Fraction(-1))


# ---------------------------------------------------------------- damage


def hurt(path: Path, packets: Sequence[int], size: int = 60) -> Path:
    """Overwrites bytes inside some packets of the video."""
    data = bytearray(path.read_bytes())
    with av.open(path) as file:
        places = [(p.pos, p.size) for p in file.demux(video=0) if p.size]
    for index in packets:
        at, length = places[index]
        start = at + min(40, length // 3)
        for place in range(start, min(start + size, at + length - 4)):
            data[place] = (data[place] * 7 + 13) & 255
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_damage_is_concealed_counted_and_later_times_stay(
    suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    shots = media.pictures(30, (160, 120))
    path = media.clip(tmp_path / f"x.{suffix}", frames=shots, options={"g": "10", "bf": "0"})
    clean = [frame.pts for frame in read(path)[1]]
    hurt(path, [4, 5, 17])
    with caplog.at_level(logging.WARNING):
        source, frames = read(path)
    pts = [frame.pts for frame in frames]
    assert len(pts) >= 25
    assert set(pts) <= set(clean)
    assert pts[-8:] == clean[-8:]
    assert source.damage
    warnings = [r.getMessage() for r in caplog.records if "damaged" in r.getMessage()]
    assert len(warnings) == 1
    with pytest.raises(DamagedSourceError, match="--strict"):
        read(path, SourceOptions(strict=True))


def test_a_cut_tail_is_read_to_its_end_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = media.clip(tmp_path / "x.mkv", frames=30, audio="aac")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with caplog.at_level(logging.WARNING):
        source, frames = read(path)
    assert 5 < len(frames) < 30
    assert source.damage.truncated
    assert "cut short" in caplog.text
    with pytest.raises(DamagedSourceError, match="cut short"):
        open_source(path, SourceOptions(strict=True))


def test_whole_files_do_not_warn(film: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    longer = media.clip(tmp_path / "x.mp4", audio="aac", audio_seconds=2.0)
    shorter = media.clip(tmp_path / "x.mkv", frames=30, audio="aac", audio_seconds=0.2)
    for path in (film, longer, shorter):
        with caplog.at_level(logging.WARNING):
            source, _ = read(path, SourceOptions(strict=True))
        assert not source.damage
    assert not caplog.records


@pytest.mark.shared
@pytest.mark.parametrize("threads", [None, 1, 8, 16])
def test_an_error_while_draining_loses_no_frame(threads: int | None, shared: Path):
    path = shared / "data/clips/sample_with_invalid_nalu.mp4"
    source, frames = read(path, SourceOptions(threads=threads))
    assert len(frames) == 29  # as many as ffmpeg's own tool
    assert source.damage


@pytest.mark.shared
@pytest.mark.parametrize("name", ["invalid-bitstream.webm", "sample_audio_only.mp4"])
def test_films_without_a_frame_are_refused(name: str, shared: Path):
    with pytest.raises(UnsupportedSourceError):
        open_source(shared / "data/clips" / name)


def test_another_size_midway_is_refused(tmp_path: Path):
    first = raw(tmp_path / "a.h264", media.pictures(3, (64, 48)))
    second = raw(tmp_path / "b.h264", media.pictures(3, (96, 64)))
    path = tmp_path / "x.h264"
    path.write_bytes(first + second)
    with open_source(path) as source:
        assert source.info.width == 64
        with pytest.raises(SourceError, match=r"64x48 to 96x64 at 0\.120 s.*--start"):
            list(source)


def test_another_format_midway_is_converted_back(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    first = raw(tmp_path / "a.h264", media.pictures(3))
    second = raw(tmp_path / "b.h264", media.pictures(3), "yuv444p")
    path = tmp_path / "x.h264"
    path.write_bytes(first + second)
    with caplog.at_level(logging.WARNING):
        frames = read(path)[1]
    assert len(frames) == 6
    assert {frame.format for frame in frames} == {frames[0].format}
    assert caplog.text.count("pixel format changes from yuv420p to yuv444p") == 1


# ---------------------------------------------------------------- fields


def interlaced(
    path: Path, *, top: bool = True, frames: int = 12, codec: str = "mpeg2video"
) -> Path:
    """Two fields of a moving edge, 20 columns apart."""
    width, height = 64, 48
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=width, height=height, format="yuv420p", time_base=Fraction(1, 25)
    )
    flag, sink = graph.add("setfield", "tff" if top else "bff"), graph.add("buffersink")
    graph.link_nodes(source, flag, sink).configure()
    with av.open(path, "w") as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.options = {"flags": "+ildct+ilme", "qscale": "2"}
        stream.codec_context.color_range, stream.codec_context.colorspace = 1, 6
        for n in range(frames):
            frame = av.VideoFrame(width, height, "yuv420p")
            for index, plane in enumerate(frame.planes):
                samples = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
                samples[:] = 128
                if index == 0:
                    samples[:] = 40
                    samples[0 if top else 1 :: 2, 2 * n + 20 :] = 200
                    samples[1 if top else 0 :: 2, 2 * n + 21 :] = 200
                    samples[:, 40:] = 200
            frame.pts, frame.time_base = n, Fraction(1, 25)
            source.push(frame)
            made = sink.pull()
            made.pts, made.time_base = n, Fraction(1, 25)
            file.mux(stream.encode(made))
        file.mux(stream.encode())
    return path


@pytest.mark.parametrize("top", [True, False])
@pytest.mark.parametrize("frames", [1, 2, 12])
def test_fields_become_pictures_one_for_one(top: bool, frames: int, tmp_path: Path):
    path = interlaced(tmp_path / "x.mpg", top=top, frames=frames)
    with av.open(path) as file:
        expected = [frame.pts for frame in file.decode(video=0)]
    source, made = read(path)
    assert source.interlaced
    assert [frame.pts for frame in made] == expected
    assert {(frame.color.matrix, frame.color.full_range) for frame in made} == {(6, False)}
    assert {frame.time_base for frame in made} == {source.info.time_base}


def test_woven_fields_are_gone(tmp_path: Path):
    path = interlaced(tmp_path / "x.mpg")
    with av.open(path) as file:
        woven = [frame.to_ndarray()[:48] for frame in file.decode(video=0)]
    made = [frame.planes[0] for frame in read(path)[1]]

    def comb(picture: np.ndarray) -> float:
        rows = picture.astype(int)
        return float(np.abs(rows[1:-1] * 2 - rows[:-2] - rows[2:]).mean())

    assert np.mean([comb(p) for p in made[2:-2]]) < 0.5 * np.mean([comb(p) for p in woven[2:-2]])


def test_fields_can_be_refused(tmp_path: Path):
    path = interlaced(tmp_path / "x.mpg")
    with pytest.raises(UnsupportedSourceError, match="--deinterlace auto"):
        open_source(path, SourceOptions(deinterlace="off"))


def test_progressive_pictures_pass_untouched_unless_forced(film: Path):
    auto = read(film)[1]
    off = read(film, SourceOptions(deinterlace="off"))[1]
    forced = read(film, SourceOptions(deinterlace="on"))[1]
    assert [frame.pts for frame in forced] == [frame.pts for frame in auto]
    for frame, other in zip(auto, off, strict=True):
        np.testing.assert_array_equal(frame.planes[0], other.planes[0])
    assert any((f.planes[0] != g.planes[0]).any() for f, g in zip(auto, forced, strict=True))


@pytest.mark.parametrize("fmt", ["yuv420p10le", "gray10le", "gbrp10le", "yuv444p"])
def test_forced_filtering_keeps_the_format(fmt: str, tmp_path: Path):
    path = media.clip(tmp_path / "x.mkv", codec="ffv1", fmt=fmt, frames=3)
    plain, forced = read(path)[1], read(path, SourceOptions(deinterlace="on"))[1]
    assert {frame.format for frame in forced} == {plain[0].format}
    # One field of each picture is kept, bit for bit.
    kept = plain[1].planes[0][0::2] == forced[1].planes[0][0::2]
    assert kept.mean() > 0.95


def test_pictures_too_small_for_the_filter_say_so(tmp_path: Path):
    path = media.clip(tmp_path / "x.mkv", codec="ffv1", fmt="yuv444p", frames=2, size=(2, 2))
    with pytest.raises(UnsupportedSourceError, match="too small to deinterlace"):
        read(path, SourceOptions(deinterlace="on"))


# ---------------------------------------------------------------- geometry


def turned(path: Path, degrees: float = 90, **flips: bool) -> Path:
    with av.open(path, "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(degrees, **flips)
        for n, shot in enumerate(media.pictures(3)):
            frame = av.VideoFrame.from_ndarray(shot, format="rgb24")
            frame.pts = n
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def test_rotation_is_told_or_baked(tmp_path: Path):
    path = turned(tmp_path / "x.mp4")
    told, plain = read(path)
    assert (told.info.rotation, told.info.width, told.info.height) == (90, 64, 48)
    baked, upright = read(path, SourceOptions(bake_rotation=True))
    assert (baked.info.rotation, baked.info.width, baked.info.height) == (0, 48, 64)
    assert baked.info.sample_aspect == 1 / told.info.sample_aspect == Fraction(3, 4)
    np.testing.assert_array_equal(upright[1].planes[0], np.rot90(plain[1].planes[0]))
    assert upright[1].planes[1].shape == (32, 24)


def test_mirrors_are_always_baked(tmp_path: Path):
    path = turned(tmp_path / "x.mp4", 90, hflip=True)
    with av.open(path) as file:
        stored = next(file.decode(video=0)).to_ndarray()[:48]
    source, frames = read(path)
    assert source.info.rotation in {90, 270}
    np.testing.assert_array_equal(frames[0].planes[0], stored[:, ::-1])


def test_shape_of_pixels(tmp_path: Path):
    path = media.clip(tmp_path / "x.mkv", aspect=Fraction(64, 45))
    assert read(path)[0].info.sample_aspect == Fraction(64, 45)
    assert read(media.clip(tmp_path / "y.mkv"))[0].info.sample_aspect == 1


# ---------------------------------------------------------------- formats, colour, side data


@pytest.mark.parametrize(
    ("codec", "fmt", "layout"),
    [
        ("libx264", "yuvj420p", PixelFormat(family="yuv", chroma_w=1, chroma_h=1)),
        ("libx264", "nv12", PixelFormat(family="yuv", chroma_w=1, chroma_h=1)),
        ("libx264rgb", "rgb24", PixelFormat(family="rgb")),
        ("ffv1", "gray", PixelFormat(family="gray")),
        ("ffv1", "gray16le", PixelFormat(family="gray", bits=16)),
        ("ffv1", "gbrap16le", PixelFormat(family="rgb", bits=16, alpha=True)),
        ("ffv1", "yuv410p", PixelFormat(family="yuv", chroma_w=2, chroma_h=2)),
        ("ffv1", "bgra", PixelFormat(family="rgb", alpha=True)),
        ("libx265", "yuv444p12le", PixelFormat(family="yuv", bits=12)),
    ],
)
def test_layouts(codec: str, fmt: str, layout: PixelFormat, tmp_path: Path):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = media.clip(tmp_path / "x.mkv", codec=codec, fmt=fmt, frames=2, options=options)
    source, frames = read(path)
    assert source.info.format == layout
    assert frames[1].format == layout


@pytest.mark.parametrize("full", [False, True])
def test_colour_tags(full: bool, tmp_path: Path):
    path = media.clip(tmp_path / "x.mkv", color=(9, 9, 16), full_range=full)
    color = read(path)[0].info.color
    assert (color.matrix, color.primaries, color.transfer) == (9, 9, 16)
    assert color.full_range is full
    assert read(media.clip(tmp_path / "y.mkv", color=None))[0].info.color.matrix == 2


def test_hdr10_metadata(tmp_path: Path):
    params = (
        "hdr10=1:repeat-headers=1:log-level=none:max-cll=1000,400:master-display="
        "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    )
    path = media.clip(
        tmp_path / "x.mkv",
        codec="libx265",
        fmt="yuv420p10le",
        color=(9, 9, 16),
        options={"x265-params": params},
    )
    hdr = read(path)[0].info.hdr
    assert hdr is not None
    assert hdr.light_level == (1000, 400)
    assert hdr.mastering is not None
    values = np.frombuffer(hdr.mastering, "<i4")
    assert values[0] / values[1] == pytest.approx(0.68)  # red x
    assert read(media.clip(tmp_path / "y.mkv"))[0].info.hdr is None


@pytest.mark.parametrize("codec", ["libvpx-vp9", "libvpx"])
def test_vp8_and_vp9_keep_alpha(codec: str, tmp_path: Path):
    path = tmp_path / "x.webm"
    with av.open(path, "w") as file:
        stream = file.add_stream(codec, rate=25, options={"auto-alt-ref": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuva420p"
        for n in range(4):
            frame = av.VideoFrame(64, 48, "yuva420p")
            for plane, value in zip(frame.planes, (90, 128, 128, 60 * n), strict=True):
                np.frombuffer(plane, np.uint8)[:] = value
            frame.pts = n
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    source, frames = read(path)
    assert source.info.format.alpha
    assert [float(f.planes[3].mean()) for f in frames] == pytest.approx([0, 60, 120, 180], abs=6)
    assert [frame.pts for frame in frames] == [0, 40, 80, 120]


def gif(path: Path) -> Path:
    with av.open(path, "w") as file:
        stream = file.add_stream("gif", rate=100)
        stream.width, stream.height, stream.pix_fmt = 16, 12, "pal8"
        stream.codec_context.time_base = Fraction(1, 100)
        for n, stamp in enumerate((0, 5, 25, 28)):
            frame = av.VideoFrame(16, 12, "pal8")
            np.frombuffer(frame.planes[0], np.uint8)[:] = n
            np.frombuffer(frame.planes[1], np.uint32)[:4] = [0xFF0A0B0C, 0xFF640000, 0, 0xFF00FF00]
            frame.pts, frame.time_base = stamp, Fraction(1, 100)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def test_gif_delays_and_transparency(tmp_path: Path):
    source, frames = read(gif(tmp_path / "x.gif"))
    assert source.info.format == PixelFormat(family="rgb", alpha=True)
    assert [frame.seconds * 100 for frame in frames] == [0, 5, 25, 28]
    assert [int(plane[3, 3]) for plane in frames[0].planes] == [0x0B, 0x0C, 0x0A, 255]


@pytest.mark.parametrize(
    ("codec", "suffix", "fmt"),
    [
        ("png", "png", "rgba"),
        ("mjpeg", "jpg", "yuvj420p"),
        ("libwebp", "webp", "yuv420p"),
        ("tiff", "tiff", "rgb48le"),
        ("bmp", "bmp", "bgr24"),
    ],
)
def test_still_pictures_are_films_of_one_frame(codec: str, suffix: str, fmt: str, tmp_path: Path):
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = 30, 20, fmt
    context.time_base = Fraction(1, 25)
    frame = av.VideoFrame(30, 20, fmt)
    frame.pts = 0
    data = b"".join(bytes(packet) for packet in context.encode(frame) + context.encode(None))
    for name in (f"x.{suffix}", "wrong.mkv"):  # content, not the name, tells what it is
        (tmp_path / name).write_bytes(data)
        source, frames = read(tmp_path / name)
        assert (len(frames), source.info.width, source.info.height) == (1, 30, 20)


# ---------------------------------------------------------------- devices, limits, life


def test_a_missing_device_is_said_or_replaced(film: Path, caplog: pytest.LogCaptureFixture):
    try:
        av.codec.hwaccel.HWDevice("cuda")
    except (OSError, ValueError):
        with pytest.raises(DeviceError, match="--hwaccel"):
            open_source(film, SourceOptions(hwaccel="cuda"))
    with caplog.at_level(logging.INFO):
        source, frames = read(film, SourceOptions(hwaccel="auto"))
    assert len(frames) == 10
    assert source.hardware or "the processor decodes" in caplog.text


@pytest.mark.gpu
def test_the_device_decodes_the_same_samples(film: Path):
    source, frames = read(film, SourceOptions(hwaccel="cuda"))
    assert source.hardware
    for frame, other in zip(frames, read(film)[1], strict=True):
        assert frame.pts == other.pts
        np.testing.assert_array_equal(frame.planes[1], other.planes[1])


def test_the_pixel_limit(film: Path):
    with pytest.raises(UnsupportedSourceError, match=r"64x48.*limit of 3000.*--max-pixels"):
        open_source(film, SourceOptions(max_pixels=3000))


def test_a_source_is_read_once(film: Path):
    with open_source(film) as source:
        assert len(list(source)) == 10
        with pytest.raises(SourceError, match="open it again"):
            iter(source)
    with pytest.raises(SourceError):
        iter(source)


def test_facts_for_the_writer(film: Path):
    source, _ = read(film)
    assert (source.format_name, source.stream_index) == ("matroska,webm", 0)
    assert (source.codec_name, source.decoder_name) == ("h264", "h264")
    assert source.info.frame_rate == 25
    assert source.info.frame_count == 10


@pytest.mark.shared
@pytest.mark.ffmpeg
@pytest.mark.parametrize(
    "name",
    [
        "bbb_2500ms.ts",
        "bear-vp9-odd-dimensions.webm",
        "nasa_13013_vfr.mp4",
        "no_duration.webm",
        "sample_fragmented.mp4",
        "sample_with_chapters.mp4",
        "test_non_zero_start.mp4",
        "unordered.mov",
        "var_fps_video.mp4",
        "video_desks.3gp",
    ],
)
def test_ffprobe_agrees_about_real_files(name: str, shared: Path):
    path = shared / "data/clips" / name
    times = [float(frame.seconds) for frame in read(path)[1]]
    assert times == pytest.approx(_ffprobe_times(path), abs=1e-6)
