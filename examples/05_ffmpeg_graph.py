"""Puts vsr into the middle of an ffmpeg graph.

    python examples/05_ffmpeg_graph.py film.mkv larger.mkv

ffmpeg denoises, vsr enlarges, ffmpeg sharpens and encodes; the sound goes past both filters.
"""

import argparse

import ffmpeg

from vsr.ffmpeg import through

parser = argparse.ArgumentParser()
parser.add_argument("source")
parser.add_argument("target")
parser.add_argument("--scale", default=2)
arguments = parser.parse_args()

film = ffmpeg.input(arguments.source, copyts=None)
chain = through(film.video.filter("hqdn3d", 1.5), scale=arguments.scale)
sharper = chain.video.filter("unsharp", 3, 3, 0.4)
how = {"acodec": "copy", "crf": 18, "fps_mode": "passthrough", "avoid_negative_ts": "disabled"}
chain.run(ffmpeg.output(sharper, film["a?"], arguments.target, **how))
