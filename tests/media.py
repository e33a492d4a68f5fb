"""Small synthetic media for everybody's tests, made with PyAV on the spot, and where things lie.

Every maker writes a few frames at a postage-stamp size, so a clip costs milliseconds. What a test
does not ask for is plain: H.264 4:2:0 8 bit, 25 fps from zero, BT.601 limited range, no other
stream.
"""

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.stream import Stream
from av.video.stream import VideoStream
from numpy.typing import NDArray

REPO = Path(__file__).resolve().parents[1]
SHARED = REPO.parent / "shared"

type Rgb = NDArray[np.uint8]
type Cue = tuple[float, float, str]


def pictures(count: int, size: tuple[int, int] = (64, 48), seed: int = 0) -> list[Rgb]:
    """Makes RGB pictures of shape (H, W, 3): smooth colours, a sharp moving box, a little noise.

    No two are equal, so a lost, doubled or swapped frame shows.
    """
    width, height = size
    random = np.random.default_rng(seed)
    x, y = np.linspace(0, 1, width), np.linspace(0, 1, height)[:, None]
    base = np.stack([x + 0 * y, 0 * x + y, 0.5 + 0.5 * np.sin(6 * x + 4 * y)], axis=2) * 200 + 20
    base = base + random.normal(0, 3, base.shape)
    made = []
    for index in range(count):
        picture = base.copy()
        left = index * 5 % max(1, width - 4)
        picture[height // 4 : height // 2 + 1, left : left + max(1, width // 5)] = (235, 40, 40)
        picture[-max(1, height // 8) :] = 30 + index * 17 % 200
        made.append(picture.clip(0, 255).astype(np.uint8))
    return made


def clip(
    path: Path,
    *,
    codec: str = "libx264",
    frames: int | Sequence[Rgb] = 8,
    size: tuple[int, int] = (64, 48),
    fmt: str = "yuv420p",
    rate: Fraction | int = 25,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    color: tuple[int, int, int] | None = (6, 6, 6),
    full_range: bool = False,
    aspect: Fraction | None = None,
    audio: str | None = None,
    audio_seconds: float | None = None,
    subtitles: Iterable[Cue] = (),
    tags: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    muxing: Mapping[str, str] | None = None,
) -> Path:
    """Writes a clip; the container follows the suffix of `path`.

    Args:
        path: Where to.
        codec: FFmpeg's name of the video encoder.
        frames: How many synthetic pictures, or the pictures themselves, uint8 of shape (H, W, 3).
        size: Width and height of synthetic pictures.
        fmt: FFmpeg's name of the pixel format to encode.
        rate: Frames per second where `pts` is not given, and the nominal rate.
        pts: Time of each frame in units of `time_base`.
        time_base: Seconds per tick; one over `rate` by default.
        color: H.273 matrix, primaries and transfer to tag, None for an untagged stream.
        full_range: Whether the samples are full range, and tagged so.
        aspect: Sample aspect ratio.
        audio: FFmpeg's name of an audio encoder for a mono sine of 440 Hz at 48 kHz.
        audio_seconds: Length of the sound; that of the video by default.
        subtitles: SRT cues: start and end in seconds, text. Matroska only.
        tags: Metadata of the container.
        options: Of the video encoder.
        muxing: Of the container.

    Returns:
        `path`.
    """
    shots = pictures(frames, size) if isinstance(frames, int) else list(frames)
    tick = time_base or 1 / Fraction(rate)
    times = list(pts) if pts is not None else list(range(len(shots)))
    with av.open(path, "w", options={"fflags": "+bitexact", **(muxing or {})}) as file:
        file.metadata.update(tags or {})
        video = file.add_stream(codec, rate=Fraction(rate), options=dict(options or {}))
        assert isinstance(video, VideoStream)
        context = video.codec_context
        context.height, context.width = shots[0].shape[:2]
        context.pix_fmt, context.time_base, context.thread_count = fmt, tick, 1
        if color is not None:
            context.colorspace, context.color_primaries, context.color_trc = color
            context.color_range = 2 if full_range or _is_rgb(fmt) else 1
            context.colorspace = 0 if _is_rgb(fmt) else context.colorspace
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        sound = file.add_stream(audio, rate=48000, layout="mono") if audio else None
        cues = list(subtitles)
        text = file.add_mux_stream("subrip") if cues else None
        for shot, time in zip(shots, times, strict=True):
            frame = _frame(shot, fmt, 1 if color and color[0] == 1 else 5, full_range=full_range)
            frame.pts, frame.time_base = time, tick
            file.mux(video.encode(frame))
        file.mux(video.encode())
        if sound is not None:
            length = (
                audio_seconds if audio_seconds is not None else float(len(shots) / Fraction(rate))
            )
            _sine(file, sound, length)
        if text is not None:
            _cues(file, text, cues)
    return path


def _is_rgb(fmt: str) -> bool:
    return fmt.startswith(("rgb", "gbr", "bgr", "pal"))


def _frame(shot: Rgb, fmt: str, matrix: int, *, full_range: bool) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(shot, format="rgb24")
    if _is_rgb(fmt):
        return frame.reformat(format=fmt) if fmt != "rgb24" else frame
    target = 2 if full_range else 1
    return frame.reformat(
        format=fmt, dst_colorspace=matrix, dst_color_range=target, src_color_range=2
    )


def _sine(file: OutputContainer, stream: Stream, seconds: float) -> None:
    wave = np.sin(2 * np.pi * 440 / 48000 * np.arange(round(seconds * 48000))) * 0.3
    context = stream.codec_context
    kind = context.format.name
    peak, dtype = {"s16": (2**15 - 1, "i2"), "s32": (2**31 - 1, "i4"), "flt": (1, "f4")}[
        kind.removesuffix("p")
    ]
    samples = (wave * peak).astype(dtype)[None]
    step = context.frame_size or 1024
    for start in range(0, len(wave), step):
        frame = av.AudioFrame.from_ndarray(samples[:, start : start + step], kind, "mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        file.mux(stream.encode(frame))
    file.mux(stream.encode())


def _cues(file: OutputContainer, stream: Stream, cues: Iterable[Cue]) -> None:
    for start, end, text in cues:
        packet = av.Packet(text.encode())
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = round(start * 1000)
        packet.duration = round((end - start) * 1000)
        file.mux(packet)


def decoded(path: Path) -> list[tuple[Fraction, Rgb]]:
    """Decodes the first video stream: exact time in seconds and RGB picture of every frame."""
    with av.open(path) as file:
        return [
            (frame.pts * Fraction(frame.time_base), frame.to_ndarray(format="rgb24"))
            for frame in file.decode(video=0)
        ]


def packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    """Reads the packets of the first stream of a kind (`audio`, `subtitle` …): time and payload."""
    with av.open(path) as file:
        stream = next(s for s in file.streams if s.type == kind)
        return [
            (packet.pts * Fraction(packet.time_base), bytes(packet))
            for packet in file.demux(stream)
            if packet.size
        ]


def probe(path: Path) -> dict[str, object]:
    """Asks ffprobe, an independent program, for format, streams and chapters (mark `ffmpeg`)."""
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_streams"]
    command += ["-show_chapters", "-count_frames", "-i", str(path)]
    answer = subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return json.loads(answer.stdout)
