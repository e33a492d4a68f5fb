"""What a picture that stays is worth: a film drawn on ones, on twos, and a film of stills.

    python scripts/bench/repeats.py [--clip examples/clip.mkv] [--frames 120]

The pictures of the clip are shown once, twice, or for two seconds each, and encoded without loss or
by x264 with loss. Only exactly equal pictures count: a lossy encoder may go on refining one that
stays. Prints frames per second of the job and how many frames were not computed again; writes
results/repeats-<processor>.json and .png.
"""

import argparse
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
from _report import machine, slug, table, write

import vsr
from vsr.cli.allocator import keep_freed_memory

SIZE = (320, 180)
WITHOUT_LOSS = {"qp": "0", "preset": "ultrafast"}
WITH_LOSS = {"crf": "20"}
CASES = (
    ("on ones, lossless", 1, WITHOUT_LOSS),
    ("on twos, lossless", 2, WITHOUT_LOSS),
    ("on twos, x264 crf 20", 2, WITH_LOSS),
    ("stills of 2 s, x264 crf 20", 48, WITH_LOSS),
)


def drawn_on(clip: Path, target: Path, times: int, frames: int, options: dict[str, str]) -> None:
    """Shows each picture of a clip several times."""
    with av.open(str(clip)) as source:
        pictures = [f.reformat(*SIZE, format="yuv420p") for f in source.decode(video=0)]
    with av.open(str(target), "w") as sink:
        stream = sink.add_stream("libx264", rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for n in range(frames):
            picture = pictures[n // times % len(pictures)]
            picture.pts, picture.time_base, picture.pict_type = n, Fraction(1, 24), 0
            sink.mux(stream.encode(picture))
        sink.mux(stream.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, default=Path("examples/clip.mkv"))
    parser.add_argument("--frames", type=int, default=120)
    arguments = parser.parse_args()
    keep_freed_memory()
    rows, facts = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, times, options) in enumerate(CASES):
            source, target = (Path(folder) / f"{kind}{number}.mkv" for kind in ("in", "out"))
            drawn_on(arguments.clip, source, times, arguments.frames, options)
            done = vsr.upscale(source, target, scale=4, device="cpu")
            fps, share = done.frames / done.seconds, done.reused / done.frames
            rows.append([name, f"{fps:.1f}", f"{share:.0%}", done.bottleneck])
            facts.append({"film": name, "fps": fps, "reused": share})
    sys.stdout.write(table(["film", "fps", "not computed again", "bounded by"], rows) + "\n")
    about = machine()
    write(f"repeats-{slug(about['processor'])}", {"machine": about, "rows": facts})


if __name__ == "__main__":
    main()
