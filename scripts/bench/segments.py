"""What the cutting into segments costs: bytes, time, and quality, encoder by encoder.

    python scripts/bench/segments.py CLIP [CLIP ...] [--height 272] [--frames 1000]

The clips follow each other as one film of equal size, which is encoded once in one segment and once
in segments of the usual length. Quality is the PSNR of luma against what was given to the encoder.
Writes results/segments.json and .png.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from _report import machine, table, write

import vsr
from vsr.io.av_sink import AvSink
from vsr.io.journal import FRAMES, JobFolder
from vsr.io.plan import plan_output
from vsr.types import ColorSpec, Frame, PixelFormat, VideoInfo

FORMAT = PixelFormat(family="yuv", chroma_w=1, chroma_h=1)
COLOR = ColorSpec(matrix=1, primaries=1, transfer=1, full_range=False, siting=1)
BASE = Fraction(1, 25)
ENCODERS = (
    ("x264", {}),
    ("x264", {"preset": "slow"}),
    ("x265", {"preset": "veryfast"}),
    ("svtav1", {"preset": "10"}),
    ("vp9", {"preset": "5"}),
)


def film(clips: list[Path], width: int, height: int, most: int) -> Iterator[Frame]:
    """The pictures of all clips, one after another, at one size."""
    number = 0
    for clip in clips:
        with av.open(str(clip)) as source:
            for picture in source.decode(video=0):
                if number == most:
                    return
                made = picture.reformat(width, height, "yuv420p")
                rows = made.to_ndarray()
                quarter = rows[height:].reshape(2, height // 2, width // 2)
                yield Frame(
                    planes=(rows[:height], quarter[0], quarter[1]),
                    format=FORMAT,
                    color=COLOR,
                    pts=number,
                    duration=1,
                    time_base=BASE,
                )
                number += 1


def encoded(
    frames: list[Frame], path: Path, encoder: str, options: dict[str, str], segment: int
) -> tuple[int, float]:
    """Bytes of the file and seconds that it took."""
    first = frames[0]
    picture = VideoInfo(
        width=first.width,
        height=first.height,
        format=FORMAT,
        color=COLOR,
        time_base=BASE,
        frame_rate=Fraction(25),
    )
    asked = vsr.SinkOptions(encoder=encoder, **options)
    sink = AvSink(
        plan_output(path, picture, None, asked),
        picture,
        None,
        folder=JobFolder(path, frames=segment),
    )
    began = time.perf_counter()
    try:
        for frame in frames:
            sink.write(frame)
        sink.finish()
    finally:
        sink.abort()
    return path.stat().st_size, time.perf_counter() - began


def quality(frames: list[Frame], path: Path) -> float:
    """PSNR of luma over the whole film, dB."""
    with vsr.open_source(path) as reader:
        squares = [
            np.mean((a.planes[0].astype(np.float32) - b.planes[0]) ** 2, dtype=np.float64)
            for a, b in zip(frames, reader, strict=True)
        ]
    return float(10 * np.log10(255**2 / np.mean(squares)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--height", type=int, default=272)
    parser.add_argument("--frames", type=int, default=1000)
    arguments = parser.parse_args()
    height = arguments.height // 2 * 2
    frames = list(film(arguments.clips, height * 16 // 9 // 2 * 2, height, arguments.frames))
    rows, facts = [], []
    with tempfile.TemporaryDirectory() as folder:
        for encoder, options in ENCODERS:
            path = Path(folder) / "film.mkv"
            found = {}
            for segment in (len(frames), FRAMES):
                path.unlink(missing_ok=True)
                size, seconds = encoded(frames, path, encoder, options, segment)
                found[segment] = (size, seconds, quality(frames, path))
            (size, seconds, one), (cut, longer, other) = found.values()
            name = " ".join([encoder, *options.values()])
            rows.append(
                (
                    name,
                    f"{cut / size - 1:+.2%}",
                    f"{other - one:+.3f} dB",
                    f"{longer / seconds - 1:+.1%}",
                )
            )
            facts.append(
                {
                    "encoder": name,
                    "bytes": [size, cut],
                    "seconds": [round(seconds, 2), round(longer, 2)],
                    "psnr": [round(one, 3), round(other, 3)],
                }
            )
            print(*rows[-1], flush=True)
    film_facts = {
        "frames": len(frames),
        "size": [frames[0].width, frames[0].height],
        "clips": [clip.name for clip in arguments.clips],
    }
    write("segments", {"machine": machine(), "segment": FRAMES, "film": film_facts, "runs": facts})
    print(table(("encoder", "bytes", "PSNR", "time"), rows))


if __name__ == "__main__":
    main()
