"""What every sink does with frames, times, tags and failures, whatever its container or encoder."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests import media
from tests.unit.test_encoders import HDR, named
from vsr.errors import ContainerError, EncoderError, SinkError, SinkExistsError
from vsr.io.av_sink import AvSink
from vsr.io.av_source import open_source
from vsr.io.base import FrameSink
from vsr.io.image_sink import ImageSink
from vsr.io.plan import SinkOptions, plan_output
from vsr.types import ColorSpec, Frame, PixelFormat, VideoInfo

BT709 = ColorSpec(matrix=1, primaries=1, transfer=1, full_range=False, siting=1)
PAIRS = [
    ("mkv", "x264"),
    ("mkv", "x265"),
    ("mkv", "svtav1"),
    ("mkv", "vp9"),
    ("mkv", "ffv1"),
    ("mkv", "prores"),
    ("mp4", "x264"),
    ("mp4", "x265"),
    ("mp4", "svtav1"),
    ("mp4", "vp9"),
    ("mp4", "ffv1"),
    ("mov", "x264"),
    ("mov", "prores"),
    ("webm", "vp9"),
    ("webm", "svtav1"),
]
VFR = (0, 33, 67, 100, 167, 168, 250, 500, 501, 900)


def described(form: PixelFormat, *, size: tuple[int, int] = (96, 64), **more: object) -> VideoInfo:
    plain = VideoInfo(
        width=size[0],
        height=size[1],
        format=form,
        color=BT709,
        time_base=Fraction(1, 1000),
        frame_rate=Fraction(25),
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def frames(picture: VideoInfo, times: Sequence[int] = VFR) -> list[Frame]:
    """Smooth pictures, each a little brighter than the one before."""
    made = []
    form = picture.format
    for number, time in enumerate(times):
        planes = []
        for index, (height, width) in enumerate(form.plane_shapes(picture.width, picture.height)):
            ramp = np.linspace(60, 90, width)[None] + np.linspace(0, 30, height)[:, None]
            level = ramp + 4 * number if index == 0 else ramp
            planes.append((level * (1 << form.bits - 8)).astype(form.dtype))
        made.append(
            Frame(
                planes=tuple(planes),
                format=form,
                color=picture.color,
                pts=time,
                duration=40,
                time_base=picture.time_base,
            )
        )
    return made


def save(
    path: Path,
    picture: VideoInfo,
    shots: Iterable[Frame],
    options: SinkOptions | None = None,
    source: Path | None = None,
    trim: tuple[Fraction | None, Fraction | None] = (None, None),
) -> Path:
    plan = plan_output(path, picture, source, options or SinkOptions(encoder="auto"))
    sink = AvSink(plan, picture, source, trim=trim, threads=1)
    try:
        for frame in shots:
            sink.write(replace(frame, color=plan.color))
        sink.finish()
    finally:
        sink.abort()
    return path


def doubled(source: Path, path: Path, options: SinkOptions | None = None) -> Path:
    """Twice the size, by repeating samples: what a job does, without an engine."""
    with open_source(source) as reader:
        info = reader.info
        picture = replace(
            info,
            width=2 * info.width,
            height=2 * info.height,
            color=info.color.resolved(info.width, info.height, info.format.family),
        )
        shots = (
            replace(f, planes=tuple(p.repeat(2, 0).repeat(2, 1) for p in f.planes)) for f in reader
        )
        return save(path, picture, shots, options, source)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- frames and times


@pytest.mark.parametrize(("suffix", "encoder"), PAIRS)
def test_every_frame_comes_back_at_its_time_with_its_tags(
    tmp_path: Path, suffix: str, encoder: str
) -> None:
    form = named("yuv422p10le" if encoder == "prores" else "yuv420p")
    picture = described(form, sample_aspect=Fraction(4, 3), rotation=90)
    path = save(tmp_path / f"a.{suffix}", picture, frames(picture), SinkOptions(encoder=encoder))
    assert names(tmp_path) == [path.name]
    with open_source(path) as reader:
        info, got = reader.info, list(reader)
    assert [frame.seconds for frame in got] == [Fraction(time, 1000) for time in VFR]
    assert (info.width, info.height, info.format) == (96, 64, form)
    assert info.sample_aspect == Fraction(4, 3)
    assert info.rotation == 90
    assert (info.color.matrix, info.color.primaries, info.color.transfer) == (1, 1, 1)
    assert info.color.full_range is False
    for sent, back in zip(frames(picture), got, strict=True):
        error = np.abs(sent.planes[0].astype(int) - back.planes[0]).mean()
        assert error / (1 << form.bits - 8) < 2


@pytest.mark.parametrize(("suffix", "encoder"), PAIRS)
def test_two_runs_give_the_same_bytes(tmp_path: Path, suffix: str, encoder: str) -> None:
    picture = described(named("yuv422p10le" if encoder == "prores" else "yuv420p"))
    first, second = (
        save(
            tmp_path / f"{n}.{suffix}", picture, frames(picture), SinkOptions(encoder=encoder)
        ).read_bytes()
        for n in "ab"
    )
    assert first == second


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov", "webm"])
@pytest.mark.parametrize("start", [1501, 86_400_000])
def test_the_absolute_start_is_kept(tmp_path: Path, suffix: str, start: int) -> None:
    picture = described(named("yuv420p"))
    path = save(tmp_path / f"a.{suffix}", picture, frames(picture, [start + t for t in VFR]))
    with open_source(path) as reader:
        assert [frame.seconds * 1000 for frame in reader] == [start + t for t in VFR]


@pytest.mark.parametrize("fragmented", [False, True])
def test_any_time_base_is_exact_in_mp4(tmp_path: Path, *, fragmented: bool) -> None:
    picture = described(named("yuv420p"), time_base=Fraction(1001, 30000))
    times = [7, 8, 9, 11, 12]
    path = save(
        tmp_path / "a.mp4", picture, frames(picture, times), SinkOptions(fragmented=fragmented)
    )
    with open_source(path) as reader:
        assert [f.seconds for f in reader] == [t * Fraction(1001, 30000) for t in times]
    assert (b"moof" in path.read_bytes()) == fragmented


def test_the_index_of_an_mp4_is_in_front_unless_not_wanted(tmp_path: Path) -> None:
    picture = described(named("yuv420p"))
    front = save(tmp_path / "a.mp4", picture, frames(picture)).read_bytes()
    back = save(
        tmp_path / "b.mp4", picture, frames(picture), SinkOptions(faststart=False)
    ).read_bytes()
    assert front.index(b"moov") < front.index(b"mdat")
    assert back.index(b"moov") > back.index(b"mdat")


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_start_before_zero_moves_everything_once(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    picture = described(named("yuv420p"))
    with caplog.at_level(logging.WARNING):
        path = save(tmp_path / f"a.{suffix}", picture, frames(picture, [t - 500 for t in VFR]))
    assert "all streams move by 0.500 s" in caplog.text
    with open_source(path) as reader:
        assert [frame.seconds * 1000 for frame in reader] == list(VFR)


def test_one_frame_keeps_its_duration(tmp_path: Path) -> None:
    picture = described(named("yuv420p"))
    path = save(tmp_path / "a.mp4", picture, frames(picture, [0]))
    with av.open(path) as file:
        assert [p.duration * Fraction(p.time_base) for p in file.demux(video=0) if p.size] == [
            Fraction(1, 25)
        ]


# ---- formats and HDR


@pytest.mark.parametrize(
    ("suffix", "encoder", "name"),
    [
        ("mkv", "ffv1", "gbrp"),
        ("mkv", "ffv1", "gbrap"),
        ("mkv", "ffv1", "gbrap16le"),
        ("mkv", "ffv1", "yuva444p16le"),
        ("mkv", "ffv1", "gray12le"),
        ("mp4", "ffv1", "yuv420p9le"),
    ],
)
def test_lossless_is_lossless(tmp_path: Path, suffix: str, encoder: str, name: str) -> None:
    form = named(name)
    color = replace(BT709, matrix=0, full_range=True) if form.family == "rgb" else BT709
    picture = described(form, size=(31, 17), color=color)
    shots = frames(picture, [0, 40])
    path = save(tmp_path / f"a.{suffix}", picture, shots, SinkOptions(encoder=encoder))
    with open_source(path) as reader:
        for sent, back in zip(shots, reader, strict=True):
            assert back.format == form
            for left, right in zip(sent.planes, back.planes, strict=True):
                np.testing.assert_array_equal(left, right)


def test_alpha_survives_vp9(tmp_path: Path) -> None:
    picture = described(named("yuva420p"))
    path = save(tmp_path / "a.webm", picture, frames(picture, [0, 40, 80]))
    with open_source(path) as reader:
        back = next(iter(reader))
    assert back.format.alpha
    assert np.abs(back.planes[3].astype(int) - frames(picture)[0].planes[3]).mean() < 3


@pytest.mark.parametrize(
    ("suffix", "encoder"),
    [("mkv", e) for e in ("x264", "x265", "svtav1", "ffv1", "vp9")]
    + [("mp4", e) for e in ("x264", "x265", "svtav1")],
)
def test_hdr_metadata_comes_back(tmp_path: Path, suffix: str, encoder: str) -> None:
    form = named("yuv420p" if encoder == "vp9" else "yuv420p10le")
    pq = ColorSpec(matrix=9, primaries=9, transfer=16, full_range=False, siting=3)
    picture = described(form, hdr=HDR, color=pq)
    path = save(
        tmp_path / f"a.{suffix}", picture, frames(picture, [0, 40]), SinkOptions(encoder=encoder)
    )
    with open_source(path) as reader:
        hdr, color = reader.info.hdr, reader.info.color
    assert hdr is not None
    assert hdr.light_level == (1000, 400)
    assert hdr.mastering is not None
    values = np.frombuffer(hdr.mastering, "<i4")[:20].reshape(-1, 2)
    expected = [0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.0001, 1000]
    np.testing.assert_allclose(values[:, 0] / values[:, 1], expected, rtol=2e-3, atol=6e-5)
    assert (color.matrix, color.transfer) == (9, 16)


def test_losses_are_said_before_any_work(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture = described(named("yuva444p16le"), hdr=HDR)
    with caplog.at_level(logging.WARNING):
        plan = plan_output(tmp_path / "a.webm", picture, None, SinkOptions())
    assert plan.format == named("yuva420p")
    assert "16 bits become 8" in caplog.text
    assert "4:4:4 16 bit with alpha becomes 4:2:0" in caplog.text


def test_rgb_for_a_yuv_encoder_becomes_bt709_limited(tmp_path: Path) -> None:
    rgb = ColorSpec(matrix=0, primaries=1, transfer=13, full_range=True)
    plan = plan_output(
        tmp_path / "a.mkv", described(named("gbrp"), color=rgb), None, SinkOptions(encoder="x264")
    )
    assert plan.format == named("yuv444p")
    assert (plan.color.matrix, plan.color.full_range, plan.color.transfer) == (1, False, 13)


# ---- other streams


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_sound_and_words_come_along(film: Path, tmp_path: Path, suffix: str) -> None:
    path = doubled(film, tmp_path / f"a.{suffix}")
    before, after = media.packets(film, "audio"), media.packets(path, "audio")
    assert [data for _, data in after] == [data for _, data in before]
    assert all(
        abs(a - b) <= Fraction(1, 1000) for (a, _), (b, _) in zip(after, before, strict=True)
    )
    with av.open(path) as file:
        assert [s.type for s in file.streams] == ["video", "audio", "subtitle"]
        assert file.metadata["title"] == "A film"
    texts = [(t, d) for t, d in media.packets(path, "subtitle") if d.strip(b"\0")]
    assert [t for t, _ in texts] == [0, Fraction(1, 5)]
    assert [b"Hello" in texts[0][1], b"there" in texts[1][1]] == [True, True]
    assert [t for t, _ in media.decoded(path)] == [t for t, _ in media.decoded(film)]


def rich(path: Path) -> Path:
    """Sound first, then the picture, a font, a cover, chapters, tags and dispositions."""
    with av.open(path, "w", options={"fflags": "+bitexact"}) as file:
        file.metadata.update({"title": "Tïtle", "SHELF": "7b"})
        sound = file.add_stream("flac", rate=8000)
        sound.metadata.update({"language": "jpn", "title": "Kommentar"})
        sound.disposition = av.stream.Disposition.comment
        video = file.add_stream("libx264", rate=25)
        video.width, video.height, video.metadata["title"] = 64, 48, "Main"
        file.add_attachment("a.ttf", "font/ttf", b"\0\1font")
        cover = av.CodecContext.create("png", "w")
        cover.width, cover.height, cover.pix_fmt, cover.time_base = 8, 8, "rgb24", Fraction(1, 25)
        shot = av.VideoFrame(8, 8, "rgb24")
        data = b"".join(bytes(p) for p in [*cover.encode(shot), *cover.encode(None)])
        file.add_attachment("cover.png", "image/png", data)
        file.set_chapters(
            [
                {
                    "id": 1,
                    "start": 0,
                    "end": 120,
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": "One"},
                },
                {
                    "id": 2,
                    "start": 120,
                    "end": 400,
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": "Two"},
                },
            ]
        )
        for time in range(10):
            frame = av.VideoFrame(64, 48, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([90 + time]) * plane.buffer_size)
            frame.pts = time
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        wave = av.AudioFrame.from_ndarray(np.zeros((1, 8000), "i2"), "s16", "mono")
        wave.sample_rate, wave.pts = 8000, 0
        resampler = av.AudioResampler("s16", "stereo", 8000, frame_size=1024)
        for piece in resampler.resample(wave) + resampler.resample(None):
            file.mux(sound.encode(piece))
        file.mux(sound.encode(None))
    return path


def test_matroska_keeps_everything_in_order(tmp_path: Path) -> None:
    source = rich(tmp_path / "in.mkv")
    path = doubled(source, tmp_path / "out.mkv")
    with av.open(source) as before, av.open(path) as after:
        for old, new in zip(before.streams, after.streams, strict=True):
            assert (old.type, old.disposition) == (new.type, new.disposition)
            for key in ("language", "title", "filename", "mimetype"):
                assert old.metadata.get(key) == new.metadata.get(key)
            if old.type == "attachment":
                assert old.data == new.data
        tags = {key: value for key, value in before.metadata.items() if key != "ENCODER"}
        assert tags.items() <= after.metadata.items()
        assert before.chapters() == after.chapters()
    assert media.packets(path, "audio") == media.packets(source, "audio")
    # a second of sound for 0.4 s of picture
    assert media.packets(path, "audio")[-1][0] > Fraction(9, 10)


def test_mp4_keeps_the_cover_as_a_picture_and_says_what_it_drops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = rich(tmp_path / "in.mkv")
    with caplog.at_level(logging.WARNING):
        path = doubled(source, tmp_path / "out.mp4")
    assert "attachment, a.ttf) is dropped" in caplog.text
    assert "SHELF" in caplog.text
    with av.open(path) as file:
        covers = [s for s in file.streams.video if s.disposition & 1024]
        assert [s.codec_context.name for s in covers] == ["png"]
        assert [c["metadata"]["title"] for c in file.chapters()] == ["One", "Two"]


def test_mp4_keeps_unusual_tags_where_no_cover_stands_against_it(tmp_path: Path) -> None:
    source = media.clip(tmp_path / "in.mkv", tags={"title": "T", "SHELF": "7b"})
    with av.open(doubled(source, tmp_path / "out.mp4")) as file:
        assert file.metadata["SHELF"] == "7b"
        assert file.metadata["title"] == "T"


def test_sound_can_be_encoded_anew_or_left_out(film: Path, tmp_path: Path) -> None:
    path = doubled(film, tmp_path / "a.webm", SinkOptions(audio_codec="libopus"))
    with av.open(path) as file:
        assert [s.codec_context.name for s in file.streams] == ["vp9", "opus", "webvtt"]
        sound = list(file.decode(audio=0))
        assert abs(sum(f.samples for f in sound) / 48000 - 0.4) < 0.05
    bare = doubled(film, tmp_path / "b.webm", SinkOptions(audio=False, subtitles=False))
    with av.open(bare) as file:
        assert len(file.streams) == 1


def test_streams_that_a_container_cannot_hold_are_refused_with_a_remedy(
    film: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        ContainerError, match=r"webm cannot hold stream #1 \(audio, aac\): use .*--no-audio"
    ):
        doubled(film, tmp_path / "a.webm")
    with pytest.raises(ContainerError, match="holds no libopus audio"):
        doubled(film, tmp_path / "a.mov", SinkOptions(audio_codec="libopus"))
    with pytest.raises(EncoderError, match="no audio encoder 'nope'"):
        doubled(film, tmp_path / "a.mkv", SinkOptions(audio_codec="nope"))
    assert names(tmp_path) == []


def test_a_trim_cuts_the_other_streams_too(film: Path, tmp_path: Path) -> None:
    with open_source(film) as reader:
        picture = replace(reader.info, color=BT709)
        shots = [frame for frame in reader if Fraction(1, 5) <= frame.seconds < Fraction(3, 10)]
    trim = (Fraction(1, 5), Fraction(3, 10))
    path = save(tmp_path / "a.mkv", picture, shots, source=film, trim=trim)
    times = [t for t, _ in media.packets(path, "audio")]
    assert Fraction(1, 5) - Fraction(1, 40) < times[0] <= Fraction(1, 5) < times[-1] < trim[1]
    assert [t for t, _ in media.packets(path, "subtitle")] == [Fraction(1, 5)]
    assert [t for t, _ in media.decoded(path)] == [frame.seconds for frame in shots]


# ---- refusals and failures


def test_a_frame_of_another_size_or_format_is_refused(tmp_path: Path) -> None:
    picture = described(named("yuv420p"))
    for other in (described(named("yuv420p"), size=(98, 64)), described(named("yuv444p"))):
        with pytest.raises(SinkError, match=r"frame 0 is .*, the output was opened for 96x64"):
            save(tmp_path / "a.mkv", picture, frames(other))
    assert names(tmp_path) == []


def test_no_frame_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="no frame came"):
        save(tmp_path / "a.mkv", described(named("yuv420p")), [])
    with pytest.raises(SinkError, match="no frame came"):
        ImageSink(tmp_path / "a.png", described(named("gbrp"))).finish()
    assert names(tmp_path) == []


def test_an_aborted_file_leaves_the_older_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    path.write_bytes(b"precious")
    picture = described(named("yuv420p"))
    with pytest.raises(SinkExistsError, match="pass -y"):
        save(path, picture, frames(picture))
    plan = plan_output(path, picture, None, SinkOptions(overwrite=True))
    sink: FrameSink = AvSink(plan, picture, None)
    for frame in frames(picture):
        sink.write(frame)
    sink.abort()
    sink.abort()
    assert path.read_bytes() == b"precious"
    assert names(tmp_path) == ["a.mkv"]


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    from vsr.io import atomic

    real = atomic.os.write

    def full(fd: int, data: bytes) -> int:
        if atomic.os.lseek(fd, 0, 1) > 1500:
            raise OSError(28, "No space left on device")
        return real(fd, bytes(data)[:1000])

    monkeypatch.setattr(atomic.os, "write", full)
    picture = described(named("yuv420p"))
    with pytest.raises(SinkError, match="disk full while writing"):
        save(tmp_path / f"a.{suffix}", picture, frames(picture), SinkOptions(crf=1))
    assert names(tmp_path) == []


# ---- pictures


@pytest.mark.parametrize(
    ("suffix", "name"),
    [
        ("png", "gbrp"),
        ("png", "gbrap"),
        ("png", "gbrp16le"),
        ("png", "gbrap16le"),
        ("png", "gray"),
        ("png", "gray16le"),
        ("png", "ya8"),
        ("tiff", "gbrap16le"),
        ("tiff", "gray16le"),
        ("bmp", "gbrp"),
    ],
)
def test_lossless_pictures_are_lossless(tmp_path: Path, suffix: str, name: str) -> None:
    form = named(name)
    picture = described(form, color=ColorSpec(matrix=0, full_range=True), size=(31, 17))
    (shot,) = frames(picture, [0])
    sink = ImageSink(tmp_path / f"a.{suffix}", picture)
    assert sink.format == form
    sink.write(shot)
    sink.finish()
    with open_source(tmp_path / f"a.{suffix}") as reader:
        back = next(iter(reader))
    assert back.format == form
    for left, right in zip(shot.planes, back.planes, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_pictures_are_near(tmp_path: Path, suffix: str) -> None:
    picture = described(named("gbrp"), color=ColorSpec(matrix=0, full_range=True))
    sink = ImageSink(tmp_path / f"a.{suffix}", picture)
    made = replace(picture, format=sink.format, color=sink.color)
    (shot,) = frames(made, [0])
    sink.write(shot)
    sink.finish()
    with open_source(tmp_path / f"a.{suffix}") as reader:
        back = next(iter(reader))
    if back.format == sink.format:
        assert np.abs(back.planes[0].astype(int) - shot.planes[0]).mean() < 3
    assert names(tmp_path) == [f"a.{suffix}"]


def test_a_second_picture_is_refused(tmp_path: Path) -> None:
    picture = described(named("gbrp"), color=ColorSpec(matrix=0, full_range=True))
    sink = ImageSink(tmp_path / "a.png", picture)
    first, second = frames(picture, [0, 40])
    sink.write(first)
    with pytest.raises(SinkError, match=r"holds one picture.*use -o FILE\.mkv or a folder"):
        sink.write(second)
    assert names(tmp_path) == []
    with pytest.raises(ContainerError, match=r"'\.xyz' of 'a\.xyz' is not known"):
        ImageSink(tmp_path / "a.xyz", picture)


@pytest.mark.ffmpeg
@pytest.mark.parametrize(("suffix", "encoder"), PAIRS)
def test_an_independent_program_agrees(tmp_path: Path, suffix: str, encoder: str) -> None:
    form = named("yuv422p10le" if encoder == "prores" else "yuv420p")
    picture = described(form, sample_aspect=Fraction(4, 3), rotation=90)
    path = save(tmp_path / f"a.{suffix}", picture, frames(picture), SinkOptions(encoder=encoder))
    (stream,) = media.probe(path)["streams"]
    assert int(stream["nb_read_frames"]) == len(VFR)
    assert (stream["width"], stream["height"]) == (96, 64)
    assert stream["sample_aspect_ratio"] == "4:3"
    assert {side.get("rotation") for side in stream["side_data_list"]} >= {90}
    if encoder != "ffv1" or suffix == "mkv":
        assert stream["color_space"] == "bt709"
