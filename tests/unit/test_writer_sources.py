"""What becomes of sources that hold more than a file can carry over, or hide it well."""

import functools
import http.server
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests import media
from tests.contract.test_sinks import described, doubled, frames
from tests.unit.test_encoders import named
from vsr.errors import ContainerError, UnsupportedSourceError
from vsr.io.av_sink import AvSink
from vsr.io.av_source import SourceOptions, open_source
from vsr.io.plan import SinkOptions, plan_output


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing on stderr."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a clip with sound and subtitles."""
    folder = tmp_path / "served"
    folder.mkdir()
    media.clip(folder / "a.mkv", audio="aac", subtitles=[(0.05, 0.2, "hello")])
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/a.mkv"
        server.shutdown()
        thread.join()


def test_an_address_gives_all_its_streams_where_that_is_asked_for(
    served: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.mkv"
    with open_source(served, SourceOptions(allow_url=True)) as source:
        plan = plan_output(out, source.info, served, SinkOptions(allow_url=True))
        sink = AvSink(plan, source.info, served, threads=1)
        for frame in source:
            sink.write(frame)
        sink.finish()
    local = tmp_path / "served" / "a.mkv"
    assert media.packets(out, "audio") == media.packets(local, "audio")
    assert media.packets(out, "subtitle") == media.packets(local, "subtitle")
    assert [time for time, _ in media.decoded(out)] == [time for time, _ in media.decoded(local)]


def test_an_address_is_refused_by_default(served: str, tmp_path: Path) -> None:
    picture = described(named("yuv420p"))
    with pytest.raises(UnsupportedSourceError, match="pass --allow-url"):
        plan_output(tmp_path / "out.mkv", picture, served, SinkOptions())


def test_payloads_of_pictures_that_get_lost_are_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture = described(named("yuv420p"))
    sink = AvSink(plan_output(tmp_path / "a.mkv", picture, None, SinkOptions()), picture, None)
    payloads = {"DYNAMIC_HDR_PLUS": b"a", "DOVI_RPU_BUFFER": b"b", "A53_CC": b"c"}
    with caplog.at_level(logging.WARNING):
        for frame in frames(picture):
            sink.write(replace(frame, side_data=payloads))
    sink.finish()
    said = sorted(record.message.split(" ")[0] for record in caplog.records)
    assert said == ["Dolby", "HDR10+", "closed"]


@pytest.mark.shared
def test_dolby_vision_without_a_compatible_picture_is_refused(tmp_path: Path) -> None:
    clip = media.SHARED / "data/clips/hev1_08_05.mkv"
    if not clip.exists():
        pytest.skip("no shared clips here")
    # profile 8, level 5, metadata and base layer present, compatible with Blu-ray (6); then profile
    # 5, compatible with nothing (0)
    profile_8, profile_5 = b"\x01\x00\x10\x2d\x60", b"\x01\x00\x0a\x2d\x00"
    data = clip.read_bytes()
    assert data.count(profile_8) == 1
    path = tmp_path / "five.mkv"
    path.write_bytes(data.replace(profile_8, profile_5))
    picture = described(named("yuv420p10le"))
    assert plan_output(tmp_path / "a.mkv", picture, clip, SinkOptions()).streams
    with pytest.raises(UnsupportedSourceError, match="Dolby Vision profile 5 without"):
        plan_output(tmp_path / "a.mkv", picture, path, SinkOptions())


def cut_by_edit_list(folder: Path) -> Path:
    """An mp4 whose sound begins 12 packets, a quarter of a second, before what is played."""
    whole = media.clip(folder / "whole.mp4", frames=12, audio="aac", audio_seconds=0.8)
    path = folder / "cut.mp4"
    with av.open(whole) as source, av.open(path, "w") as out:
        made = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.size and packet.pts is not None and packet.dts is not None:
                early = 12 * 1024 if packet.stream.type == "audio" else 0
                packet.pts, packet.dts = packet.pts - early, packet.dts - early
                packet.stream = made[packet.stream.index]
                out.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_sound_that_an_edit_list_hides_moves_nothing(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = cut_by_edit_list(tmp_path)
    before = media.packets(source, "audio")
    assert before[0][0] < Fraction(-1, 5)
    with caplog.at_level(logging.WARNING):
        out = doubled(source, tmp_path / f"out.{suffix}")
    assert not caplog.records
    after = media.packets(out, "audio")
    assert [data for _, data in after] == [data for _, data in before]
    gaps = [abs(a - b) for (a, _), (b, _) in zip(after, before, strict=True)]
    assert max(gaps) <= Fraction(3, 2000)
    assert media.decoded(out)[0][0] == media.decoded(source)[0][0] == 0


def transparent(folder: Path) -> Path:
    """A VP9 film with alpha, whose tag FFmpeg's muxer writes by itself."""
    return media.clip(folder / "alpha.webm", codec="libvpx-vp9", fmt="yuva420p", size=(64, 48))


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_alpha_stays_alpha_twice_over(tmp_path: Path, suffix: str) -> None:
    once = doubled(transparent(tmp_path), tmp_path / f"once.{suffix}")
    twice = doubled(once, tmp_path / f"twice.{suffix}")
    for path in (once, twice):
        with open_source(path) as source:
            assert source.info.format.alpha
            assert next(iter(source)).planes[3].min() == 255


@pytest.mark.parametrize("encoder", ["auto", "vp9"])
def test_alpha_is_dropped_aloud_where_the_container_cannot_hold_it(
    tmp_path: Path, encoder: str, caplog: pytest.LogCaptureFixture
) -> None:
    picture = described(named("yuva420p"))
    with caplog.at_level(logging.WARNING):
        plan = plan_output(tmp_path / "out.mp4", picture, None, SinkOptions(encoder=encoder))
    assert "alpha is dropped" in caplog.text
    assert not plan.format.alpha


@pytest.mark.parametrize("fmt", ["gray", "gray10le", "gray12le"])
def test_a_gray_film_keeps_its_tags(tmp_path: Path, fmt: str) -> None:
    color = replace(described(named(fmt)).color, matrix=6, full_range=True)
    picture = described(named(fmt), color=color)
    plan = plan_output(tmp_path / "a.mkv", picture, None, SinkOptions())
    sink = AvSink(plan, replace(picture, format=plan.format), None, threads=1)
    for frame in frames(replace(picture, format=plan.format, color=plan.color)):
        sink.write(frame)
    sink.finish()
    with open_source(tmp_path / "a.mkv") as source:
        assert source.info.color.matrix == 6
        assert source.info.color.full_range is True
        assert source.info.format.bits >= picture.format.bits


@pytest.mark.parametrize("codec", ["dvd_subtitle", "hdmv_pgs_subtitle"])
def test_bitmap_subtitles_are_refused_by_mp4(tmp_path: Path, codec: str) -> None:
    film, path = media.clip(tmp_path / "film.mkv"), tmp_path / "subs.mkv"
    with av.open(film) as source, av.open(path, "w") as out:
        video, text = out.add_stream_from_template(source.streams[0]), out.add_mux_stream(codec)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
        bitmap = av.Packet(bytes(32))
        bitmap.stream, bitmap.time_base, bitmap.pts, bitmap.dts = text, Fraction(1, 1000), 100, 100
        bitmap.duration = 100
        out.mux(bitmap)
    picture = described(named("yuv420p"))
    with pytest.raises(
        ContainerError, match=rf"stream #1 \(subtitle, {codec}\): use -o FILE.mkv or --no-subs"
    ):
        plan_output(tmp_path / "out.mp4", picture, path, SinkOptions())
    kept = plan_output(tmp_path / "out.mkv", picture, path, SinkOptions())
    assert [plan.action for plan in kept.streams] == ["encode", "copy"]


@pytest.mark.parametrize("codec", ["aac", "libopus", "flac", "ac3"])
def test_sound_whose_channels_have_no_places_can_be_encoded(tmp_path: Path, codec: str) -> None:
    source = media.clip(tmp_path / "a.avi", codec="mpeg4", audio="adpcm_ms")
    out = doubled(source, tmp_path / "out.mp4", SinkOptions(audio_codec=codec))
    with av.open(out) as file:
        assert file.streams.audio[0].codec_context.layout.name == "mono"
        assert sum(frame.samples for frame in file.decode(audio=0)) >= 8 * 48000 // 25
