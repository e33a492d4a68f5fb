"""Options for where and how the network runs."""

from pathlib import Path

import click

from vsr.cli.base import Option
from vsr.cli.values import BytesType, DeviceType, GpuType, TileType

_FILE = click.Path(path_type=Path)
_SPEED = "Speed and memory"


def device_options() -> list[click.Parameter]:
    """Where and how the network runs."""
    return [*_place_options(), *_memory_options(), *_trial_options()]


def _place_options() -> list[click.Parameter]:
    section = _SPEED
    return [
        Option(
            ["-d", "--device"],
            section=section,
            type=DeviceType(several=True),
            help="auto, cpu, cuda or cuda:N (see `vsr devices`), or several that share the frames: "
            "cuda:0,cuda:1. Default: auto.",
        ),
        Option(
            ["-g", "--gpu-id"],
            section=section,
            type=GpuType(),
            help="The same by number: 0 is cuda:0, -1 the processor, 0,1 two GPUs.",
        ),
        Option(
            ["--precision"],
            section=section,
            type=click.Choice(["auto", "fp32", "fp16", "bf16", "int8"]),
            help="Arithmetic of the network. Default: auto, the fastest that is safe. int8, by "
            "OpenVINO, is faster on processors and loses a little.",
        ),
        Option(["--fp32"], section=section, is_flag=True, help="Short for --precision fp32."),
        Option(["--half"], section=section, is_flag=True, help="Short for --precision fp16."),
    ]


def _memory_options() -> list[click.Parameter]:
    section = _SPEED
    return [
        Option(
            ["-t", "--tile"],
            section=section,
            type=TileType(),
            help="Side of a tile in input pixels, 0 for the whole picture. Default: what fits.",
        ),
        Option(
            ["--tile-pad"],
            section=section,
            type=click.IntRange(0, 4096),
            metavar="PIXELS",
            help="Overlap of tiles. Default: what the network can see, so that no seam exists.",
        ),
        Option(
            ["--pre-pad"],
            section=section,
            type=click.IntRange(0, 4096),
            metavar="PIXELS",
            help="Understood, without effect: borders are handled exactly anyway.",
        ),
        Option(
            ["--batch"],
            section=section,
            type=click.IntRange(1, 256),
            metavar="FRAMES",
            help="Frames computed together. Default: what the device likes.",
        ),
        Option(
            ["--max-memory"],
            section=section,
            type=BytesType(),
            help="Most memory for the network, of the device, such as 6G or 800M: bounds frames at "
            "a time and tiles.",
        ),
    ]


def _trial_options() -> list[click.Parameter]:
    section = _SPEED
    return [
        Option(
            ["--engine"],
            section=section,
            default="auto",
            show_default=True,
            metavar="NAME",
            help="torch, triton, compile, openvino, onnx or tensorrt, where installed; auto: the "
            "fastest as good.",
        ),
        Option(["--compile"], section=section, is_flag=True, help="Short for --engine compile."),
        Option(
            ["--tune"],
            section=section,
            type=click.Choice(["auto", "full", "off"]),
            default="auto",
            show_default=True,
            help="Find the fastest way by trying: where engines differ, always (full), or never.",
        ),
        Option(
            ["--profile"],
            section=section,
            type=_FILE,
            metavar="FILE",
            help="Write what each stage did when, as JSON for ui.perfetto.dev.",
        ),
    ]
