"""Puts `vsr` in the middle of an ffmpeg graph, built with ffmpeg-python.

ffmpeg decodes and filters, `vsr pipe` enlarges, ffmpeg filters and encodes: three processes, two
pipes, nothing on the disk between them.

    import ffmpeg
    from vsr.ffmpeg import through

    film = ffmpeg.input("film.mkv")
    chain = through(film.video.filter("bwdif"), scale=2)
    chain.run(ffmpeg.output(chain.video, film["a?"], "larger.mkv", acodec="copy", crf=18))

`upscale` is the ready-made chain for a whole file. Frames travel as NUT, which keeps their times;
it has no words for colour, so `upscale` tags the output as the source was tagged.

ffmpeg comes from the system's path, or from the package imageio-ffmpeg (`vsr[ffmpeg]`).
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final

import ffmpeg

from vsr.errors import ToolError, UnsupportedSourceError
from vsr.io.atomic import PartialFile, check_target
from vsr.io.color import matrix_name, primaries_name, range_name, siting_name, transfer_name
from vsr.io.containers import container_of
from vsr.io.probe import StreamFacts, probe
from vsr.types import ColorSpec

_STEPS: Final = ("ffmpeg (decode)", "vsr pipe", "ffmpeg (encode)")
_QUIET: Final = ("-nostdin", "-hide_banner", "-loglevel", "error")
_EXACT: Final = {"fps_mode": "passthrough"}
_TOLD_MATRICES: Final = frozenset({1, 4, 5, 6, 7, 9})
_TICK: Final = Fraction(1, 90_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Decoding and enlarging, as far as they are decided before the output is.

    Attributes:
        decode: The ffmpeg-python node that writes the frames to enlarge to `pipe:`.
        options: Arguments of `vsr pipe`.
        shift: Seconds by which times are later in the pipes; NUT has none before zero.
    """

    decode: Any
    options: tuple[str, ...]
    shift: int = 0

    @property
    def video(self) -> Any:
        """The enlarged video: a stream for the filters and outputs of ffmpeg-python."""
        return ffmpeg.input("pipe:", format="nut", copyts=None, itsoffset=-self.shift).video

    def commands(self, output: Any) -> tuple[list[str], list[str], list[str]]:
        """The arguments of the three processes.

        Args:
            output: An output node of ffmpeg-python that uses `video`.

        Raises:
            ToolError: There is no ffmpeg.
        """
        program = ffmpeg_program()
        first = ffmpeg.compile(self.decode.global_args(*_QUIET), cmd=program)
        last = ffmpeg.compile(output.global_args(*_QUIET), cmd=program)
        return first, [sys.executable, "-m", "vsr", "pipe", *self.options], last

    def run(self, output: Any) -> None:
        """Runs the three processes to their end.

        What `output` names is written by ffmpeg itself: after an error it may be there, cut short.

        Args:
            output: As in `commands`.

        Raises:
            ToolError: There is no ffmpeg, or a process failed; what each said is in the message.
        """
        run_connected(self.commands(output))


def through(
    video: Any,
    *,
    time_base: Fraction = _TICK,
    start: Fraction = Fraction(0),
    **settings: str | float | Path | None,
) -> Chain:
    """Enlarges a video stream of ffmpeg-python.

    Args:
        video: A stream, filtered or as it comes from `ffmpeg.input`.
        time_base: Unit of the times in the pipe. The default rounds them to 11 µs; the source's
            own keeps them exactly.
        start: The earliest time in seconds, if it may be before zero.
        **settings: Long options of `vsr pipe` and their values, such as `scale=2` or
            `model="realesr-animevideov3"`; True for one that takes no value.
    """
    shift = max(0, -floor(start))
    decode = ffmpeg.output(
        video,
        "pipe:",
        format="nut",
        vcodec="rawvideo",
        enc_time_base=f"{time_base.numerator}:{time_base.denominator}",
        output_ts_offset=shift,
        **_EXACT,
    )
    return Chain(decode=decode, options=tuple(_arguments(settings)), shift=shift)


def upscale(
    source: str | Path,
    target: str | Path,
    *,
    output: Mapping[str, object] = {},
    overwrite: bool = False,
    **settings: str | float | Path | None,
) -> None:
    """Enlarges a file with ffmpeg as reader and writer; everything but the video goes past `vsr`.

    Sound, subtitles, fonts, chapters and tags are copied, times and colour tags kept.

    Args:
        source: A file with a video stream.
        target: The file to write; it appears only when it is complete.
        output: Options of ffmpeg for the output: `{"vcodec": "libx265", "crf": 20}`.
        overwrite: Whether an existing target may be replaced.
        **settings: Long options of `vsr pipe`, as in `through`.

    Raises:
        SourceError: The source cannot be read.
        SinkError: The target cannot be written.
        ToolError: There is no ffmpeg, or a process failed.
    """
    source, target = Path(source), Path(target)
    film = ffmpeg.input(f"file:{source.absolute()}", copyts=None)
    stream = _main_video(source)
    check_target(target, overwrite=overwrite, source=source)
    muxer = container_of(target).name
    video, start = film[str(stream.index)], stream.start or Fraction(0)
    chain = through(video, time_base=stream.time_base, start=start, **{**_told(stream), **settings})
    with PartialFile(target, overwrite=overwrite) as file:
        options = {"c": "copy", "vcodec": "libx264", "map_metadata": 1, "map_chapters": 1}
        made = ffmpeg.output(
            chain.video,
            film["a?"],
            film["s?"],
            film["t?"],
            f"file:{file.name}",
            format=muxer,
            enc_time_base="-1",
            avoid_negative_ts="disabled",  # sound may begin before zero, and the picture stays
            **{**options, **_EXACT, **_tags(stream), **output},
        )
        chain.run(made.overwrite_output())
        file.commit()


def _main_video(source: Path) -> StreamFacts:
    info = probe(source)
    if info.main_video is None:
        msg = f"{source} has no video stream; a film was expected"
        raise UnsupportedSourceError(msg)
    return info.streams[info.main_video]


def _color(stream: StreamFacts) -> ColorSpec:
    """Of the video, untagged parts as players assume them."""
    if stream.video is None:
        return ColorSpec()
    return stream.video.color.resolved(stream.video.width, stream.video.height, "yuv")


def _told(stream: StreamFacts) -> dict[str, str | float | Path | None]:
    """What the first pipe does not carry, as options of `vsr pipe`."""
    color = _color(stream)
    known = color.matrix in _TOLD_MATRICES
    return {
        "matrix": matrix_name(color.matrix) if known else None,
        "range": range_name(color.full_range),
    }


def _tags(stream: StreamFacts) -> dict[str, str]:
    """What the pipes do not carry, as output options; the encoder takes the frames' own depth."""
    color = _color(stream)
    return {
        "colorspace": matrix_name(color.matrix),
        "color_primaries": primaries_name(color.primaries),
        "color_trc": transfer_name(color.transfer),
        "color_range": range_name(color.full_range),
        "chroma_sample_location": siting_name(color.siting),
    }


def ffmpeg_program() -> str:
    """Path of the ffmpeg to run.

    Raises:
        ToolError: There is none.
    """
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg  # noqa: PLC0415 - an extra
    except ImportError:
        msg = "no ffmpeg program: install ffmpeg, or `pip install vsr[ffmpeg]`"
        raise ToolError(msg) from None
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def _arguments(settings: Mapping[str, object]) -> list[str]:
    arguments = ["--progress", "none"]
    for name, value in settings.items():
        if value is None or value is False:
            continue
        arguments.append(f"--{name.replace('_', '-')}")
        if value is not True:
            arguments.append(str(value))
    return arguments


def run_connected(commands: Sequence[Sequence[str]], names: Sequence[str] = _STEPS) -> None:
    """Runs processes side by side, each reading what the one before it writes.

    Args:
        commands: Arguments of each, from the first to the last.
        names: What to call them in a message.

    Raises:
        ToolError: One cannot be started or fails.
    """
    processes: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        said = [stack.enter_context(TemporaryFile()) for _ in commands]
        try:
            for command, errors in zip(commands, said, strict=True):
                processes.append(_start(command, processes, errors, len(commands)))
            codes = [process.wait() for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        if any(codes):
            raise ToolError(_verdict(names, codes, [_last_line(errors) for errors in said]))


def _start(
    command: Sequence[str],
    before: Sequence[subprocess.Popen[bytes]],
    errors: IO[bytes],
    count: int,
) -> subprocess.Popen[bytes]:
    upstream = before[-1].stdout if before else None
    last = len(before) == count - 1
    try:
        process = subprocess.Popen(
            command,
            stdin=upstream or subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if last else subprocess.PIPE,
            stderr=errors,
        )
    except OSError as error:
        msg = f"{command[0]} cannot be started: {error.strerror}"
        raise ToolError(msg) from error
    if upstream is not None:
        upstream.close()  # else a reader that stops would not be noticed by its writer
    return process


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _verdict(names: Sequence[str], codes: Sequence[int], lines: Sequence[str]) -> str:
    """One line with what every failed process said; a bare broken pipe is only a consequence."""
    failed = [(n, c, line) for n, c, line in zip(names, codes, lines, strict=True) if c]
    telling = [(n, c, line) for n, c, line in failed if line] or failed
    return "; ".join(f"{n} failed ({c}): {line or 'no message'}" for n, c, line in telling)
