"""Upscales a file: python examples/01_upscale_file.py [INPUT [OUTPUT]].

Sound, subtitles, chapters, tags, colour and every time stamp come along unchanged. The output
appears under its name only when it is complete.
"""

import sys
from pathlib import Path

import vsr

source = Path(sys.argv[1] if len(sys.argv) > 1 else "examples/clip.mkv")
target = Path(sys.argv[2] if len(sys.argv) > 2 else "clip_x2.mkv")


def show(progress: vsr.Progress) -> None:
    """Called a few times a second."""
    print(f"{progress.frames} of {progress.total or '?'} frames, {progress.fps:.1f} a second")


result = vsr.upscale(source, target, scale=2, report=show)
print(f"{result.target}: {result.size[0]}×{result.size[1]}, {result.frames} frames")
