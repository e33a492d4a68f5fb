"""Every option of `upscale` and `info`, section by section.

The words are those of Real-ESRGAN and its ncnn port; where video2x means something else by
a letter, the error says so. `_` and `-` are the same in long names.
"""

from pathlib import Path

import click

from vsr.cli.base import Option
from vsr.cli.device_options import device_options
from vsr.cli.faces import face_options
from vsr.cli.pictures import RateType, WorkersType
from vsr.cli.values import ModelType, PairType, SizeType, TimeType, foreign

_FILE = click.Path(path_type=Path)


def size_options() -> list[click.Parameter]:
    """What size the output gets."""
    section = "Size"
    return [
        Option(
            ["-s", "--scale", "--outscale", "size"],
            section=section,
            type=SizeType(),
            metavar="SIZE",
            help="Factor (4, 1.5), height (1080p, 4k) or size (1920x1080). Default: 4.",
        ),
        Option(
            ["--width"],
            section=section,
            type=click.IntRange(1, 65_536),
            metavar="PIXELS",
            help="Width in pixels; alone it keeps the aspect.",
        ),
        Option(
            ["--height"],
            section=section,
            type=click.IntRange(1, 65_536),
            metavar="PIXELS",
            help="Height in pixels; alone it keeps the aspect.",
        ),
    ]


def model_options() -> list[click.Parameter]:
    """Which network."""
    section = "Model"
    return [
        Option(
            ["-n", "--model", "--model-name", "model"],
            section=section,
            type=ModelType(),
            default="auto",
            show_default=True,
            help="Name from `vsr models`, such as bicubic, or a mixture such as 'A*0.8+B*0.2'. "
            "auto is vsr-video where a codec has left out detail, else vsr-fast.",
        ),
        Option(
            ["--model-path"],
            section=section,
            type=_FILE,
            metavar="FILE",
            help="A checkpoint of your own: .safetensors, .pth, ncnn's .param and others.",
        ),
        Option(
            ["-dn", "--denoise-strength", "denoise"],
            section=section,
            type=click.FloatRange(0, 1),
            metavar="STRENGTH",
            help="Denoising from 0 (weak) to 1 (strong), for models such as realesr-general-x4v3.",
        ),
        Option(
            ["-x", "--tta", "tta"],
            section=section,
            is_flag=True,
            help="Average over eight symmetries: eight times slower, a little better.",
        ),
        Option(
            ["--offline"],
            section=section,
            is_flag=True,
            help="Never download a model; only embedded and cached ones are used.",
        ),
        *face_options(),
    ]


def source_options() -> list[click.Parameter]:
    """How the input is read."""
    section = "Input"
    return [
        Option(
            ["-a", "--hwaccel"],
            section=section,
            type=click.Choice(["auto", "cuda", "none"]),
            default="auto",
            show_default=True,
            help="Decode in hardware; cuda also keeps the pictures on the card, for NVENC too.",
        ),
        Option(
            ["--start"],
            section=section,
            type=TimeType(),
            help="Begin this long after the first frame: seconds, mm:ss or hh:mm:ss.fff.",
        ),
        Option(["--end"], section=section, type=TimeType(), help="End before this time, likewise."),
        Option(
            ["--deinterlace"],
            section=section,
            type=click.Choice(["auto", "on", "off"]),
            default="auto",
            show_default=True,
            help="Woven fields: auto makes whole pictures of them, on does so always, off refuses.",
        ),
        Option(
            ["--verify/--no-verify"],
            section=section,
            default=True,
            help="Compare the output with its source before it gets its name. Default: yes.",
        ),
        Option(
            ["--strict"],
            section=section,
            is_flag=True,
            help="Fail on damaged frames instead of concealing and counting them.",
        ),
        Option(
            ["--stream", "stream"],
            section=section,
            type=click.IntRange(0),
            metavar="INDEX",
            help="Index of the video stream (see `vsr info`). Default: as players choose.",
        ),
        Option(
            ["--allow-url"],
            section=section,
            is_flag=True,
            help="Let INPUT be an address such as https://host/film.mp4, not only a file.",
        ),
    ]


def encoder_options() -> list[click.Parameter]:
    """How the picture is encoded."""
    section = "Encoding"
    return [
        Option(
            ["-c", "--encoder", "--codec", "encoder"],
            section=section,
            default="auto",
            show_default=True,
            metavar="NAME",
            help="x264, x265, svtav1, vp9, ffv1, prores, h264_nvenc, hevc_nvenc, av1_nvenc.",
        ),
        Option(
            ["--crf"],
            section=section,
            type=click.FloatRange(0, 63),
            metavar="NUMBER",
            help="Quality, lower is better. Default: the encoder's, 18 for x264.",
        ),
        Option(
            ["--preset"],
            section=section,
            metavar="NAME",
            help="Speed of the encoder, such as fast or slow.",
        ),
        Option(
            ["--pix-fmt"],
            section=section,
            metavar="NAME",
            help="FFmpeg's name of a pixel format. Default: the source's, at its full depth.",
        ),
        Option(
            ["-e", "--encoder-option", "extra"],
            section=section,
            type=PairType(),
            multiple=True,
            help="Another option of the encoder; may be repeated.",
        ),
        Option(
            ["--color"],
            section=section,
            type=click.Choice(["keep", "bt601", "bt709"]),
            default="keep",
            show_default=True,
            help="Keep the source's colour matrix, or convert to this one.",
        ),
    ]


def stream_options() -> list[click.Parameter]:
    """What happens to the other streams, and the container."""
    section = "Streams and container"
    return [
        Option(
            ["--no-audio", "--no-copy-audio-streams", "no_audio"],
            section=section,
            is_flag=True,
            help="Leave the sound out.",
        ),
        Option(
            ["--no-subs", "--no-subtitles", "--no-copy-subtitle-streams", "no_subs"],
            section=section,
            is_flag=True,
            help="Leave the subtitles out.",
        ),
        Option(
            ["--audio-codec"],
            section=section,
            metavar="NAME",
            help="Encode the sound anew, such as aac or opus. Default: copied bit by bit.",
        ),
        Option(
            ["--fragmented"],
            section=section,
            is_flag=True,
            help="MP4 in fragments, playable while it is being written.",
        ),
        Option(
            ["--no-faststart"],
            section=section,
            is_flag=True,
            help="Leave the index at the end of an MP4.",
        ),
        Option(
            ["--container"],
            section=section,
            metavar="NAME",
            help="mkv, mp4, mov or webm. Default: by the output's suffix.",
        ),
    ]


def picture_options() -> list[click.Parameter]:
    """What belongs to pictures and folders of them."""
    section = "Pictures"
    return [
        Option(
            ["--quality"],
            section=section,
            type=click.IntRange(1, 100),
            metavar="NUMBER",
            help="Of JPEG and WebP, 1 to 100; 100 makes WebP lossless. Default: 95.",
        ),
        Option(
            ["-r", "--recursive"],
            section=section,
            is_flag=True,
            help="Look into the folders of a folder too; the output has the same tree.",
        ),
        Option(
            ["--fps"],
            section=section,
            type=RateType(),
            help="Frames per second of a video made from pictures: 24, 23.976, 30000/1001.",
        ),
        Option(
            ["-j", "--jobs", "workers"],
            section=section,
            type=WorkersType(),
            help="Pictures read and written side by side. The device is one: proc is not used. "
            "Default: 2:1:2.",
        ),
    ]


def foreign_options() -> list[click.Parameter]:
    """Options of other programs that mean something else here: hidden, each with an explanation."""
    explained = {
        (
            "-m",
        ): "-m is not used here: a model is chosen by name with -n, or as a file with --model-path",
        (
            "-p",
            "--processor",
        ): "-p is not used here: a model is chosen by name with -n (see `vsr models`)",
    }
    return [
        Option(
            [*names, f"foreign_{names[0].strip('-')}"],
            hidden=True,
            expose_value=False,
            is_eager=True,
            callback=foreign(message),
            help=f"Explains: {message}.",
        )
        for names, message in explained.items()
    ]


def job_options() -> list[click.Parameter]:
    """All options that `upscale` and `info` share."""
    return [
        *size_options(),
        *model_options(),
        *device_options(),
        *source_options(),
        *encoder_options(),
        *stream_options(),
        *foreign_options(),
    ]
