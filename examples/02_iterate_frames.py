"""Upscales frame by frame, without writing a video: python examples/02_iterate_frames.py [INPUT].

A frame keeps its exact time as a fraction, never as a float, and its planes as the source had
them. `vsr.to_rgb` turns them into RGB with the matrix, range and chroma siting of the frame's tags.
"""

import itertools
import sys

import vsr

path = sys.argv[1] if len(sys.argv) > 1 else "examples/clip.mkv"

with vsr.open_source(path) as source:
    print(f"{source.info.width}×{source.info.height}, {source.info.frame_rate} frames a second")
    for frame in itertools.islice(vsr.upscale_frames(source, scale=2), 10):
        brightness = vsr.to_rgb(frame).mean()
        print(f"at {frame.seconds} s: {frame.width}×{frame.height}, mean {brightness:.1f}")
