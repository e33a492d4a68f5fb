"""From parsed options to an `UpscaleJob`; contradictions are refused before any work."""

import logging
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsr.cli.faces import faces_from
from vsr.cli.values import Size
from vsr.errors import UsageError

if TYPE_CHECKING:
    from vsr.io.av_source import SourceOptions
    from vsr.io.folder import Stills
    from vsr.io.plan import SinkOptions
    from vsr.planning import UpscaleJob

_log = logging.getLogger(__name__)


def wanted_size(values: Mapping[str, Any]) -> Size:
    """The output's size from `-s`, `--width` and `--height`, or the default factor.

    Raises:
        UsageError: Both a factor and a width or height.
    """
    size: Size | None = values["size"]
    width, height = values["width"], values["height"]
    if size is None and width is None and height is None:
        from vsr.planning import own_scale  # noqa: PLC0415 - only where no size is given

        scale = own_scale(values["model"], _model_path(values))
        return Size(text=f"x{scale}", scale=Fraction(scale))
    if size is not None:
        if width is not None or height is not None:
            msg = "give either -s or --width and --height, not both"
            raise UsageError(msg)
        return size
    text = f"{width}x{height}" if width and height else f"{width}w" if width else f"{height}p"
    return Size(text=text, width=width, height=height)


def job_from(
    values: Mapping[str, Any], source: "Path | str | Stills", target: Path
) -> "UpscaleJob":
    """Makes the job that the options describe.

    Args:
        values: Parsed options by parameter name.
        source: Input; an address stays a text, since a `Path` would fold its slashes.
        target: Output.

    Raises:
        UsageError: Options that contradict each other.
    """
    from vsr.planning import UpscaleJob  # noqa: PLC0415 - only when a job is made

    size = wanted_size(values)
    if values["pre_pad"]:
        _log.warning("--pre-pad has no effect: borders are handled exactly without it")
    return UpscaleJob(
        source=source,
        target=target,
        scale=size.scale,
        width=size.width,
        height=size.height,
        model=values["model"],
        model_path=_model_path(values),
        denoise=values["denoise"],
        device=_device(values),
        engine=_engine(values),
        max_memory=values["max_memory"],
        precision=_precision(values),
        tile=values["tile"],
        tile_pad=values["tile_pad"],
        batch=values["batch"],
        tta=values["tta"],
        faces=faces_from(values),
        color=values["color"],
        options=_source_options(values),
        sink=_sink_options(values),
        offline=values["offline"],
        profile=_profile(values["profile"]),
        verify=values["verify"],
        tune=values["tune"],
        **_upscale_options(values),
    )


def _upscale_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that only `upscale` has; what was not given keeps its default."""
    workers = values.get("workers")
    given: dict[str, Any] = {"quality": values.get("quality")}
    given |= {"restart": values.get("restart", False), "manifest": values.get("manifest")}
    for name in ("segment", "keep_after"):
        if values.get(name) is not None:
            given[name] = values[name]
    return given if workers is None else given | {"readers": workers[0], "writers": workers[1]}


def _profile(path: Path | None) -> Path | None:
    if path is not None and not path.parent.is_dir():
        msg = f"folder {path.parent} of --profile {path.name} does not exist; make it first"
        raise UsageError(msg)
    return path


def _model_path(values: Mapping[str, Any]) -> Path | None:
    path: Path | None = values["model_path"]
    if path is not None and values["model"] != "auto":
        msg = f"give either --model {values['model']} or --model-path {path}, not both"
        raise UsageError(msg)
    if path is not None and not path.is_file():
        msg = f"--model-path {path} is no file: expected a checkpoint such as .safetensors or .pth"
        raise UsageError(msg)
    return path


def _device(values: Mapping[str, Any]) -> str:
    device: str | None = values["device"]
    numbered: str | None = values["gpu_id"]
    if numbered is None:
        return device or "auto"
    if device not in (None, "auto", numbered):
        msg = f"-d {device} and -g for {numbered} contradict each other: leave one out"
        raise UsageError(msg)
    return numbered


def _engine(values: Mapping[str, Any]) -> str:
    engine: str = values["engine"]
    if values["compile"] and engine not in ("auto", "compile"):
        msg = f"--compile and --engine {engine} contradict each other: leave one out"
        raise UsageError(msg)
    return "compile" if values["compile"] else engine


def _precision(values: Mapping[str, Any]) -> Any:
    asked = {values["precision"]} if values["precision"] else set()
    asked |= {"fp32"} if values["fp32"] else set()
    asked |= {"fp16"} if values["half"] else set()
    if len(asked) > 1:
        msg = f"choose one precision, not {' and '.join(sorted(asked))}"
        raise UsageError(msg)
    return asked.pop() if asked else "auto"


def _source_options(values: Mapping[str, Any]) -> "SourceOptions":
    from vsr.io.av_source import SourceOptions  # noqa: PLC0415 - only when a job is made

    start, end = values["start"], values["end"]
    if end is not None and end <= (start or 0):
        msg = f"--end ({float(end):g} s) must come after --start ({float(start or 0):g} s)"
        raise UsageError(msg)
    return SourceOptions(
        hwaccel=values["hwaccel"],
        start=start,
        end=end,
        deinterlace=values["deinterlace"],
        strict=values["strict"],
        stream=values["stream"],
        allow_url=values["allow_url"],
    )


def _sink_options(values: Mapping[str, Any]) -> "SinkOptions":
    from vsr.io.plan import SinkOptions  # noqa: PLC0415 - only when a job is made

    if values["no_audio"] and values["audio_codec"]:
        msg = f"--no-audio and --audio-codec {values['audio_codec']} contradict: leave one out"
        raise UsageError(msg)
    return SinkOptions(
        encoder=values["encoder"],
        crf=values["crf"],
        preset=values["preset"],
        pix_fmt=values["pix_fmt"],
        extra=dict(values["extra"]),
        overwrite=values.get("overwrite", False),
        audio=not values["no_audio"],
        subtitles=not values["no_subs"],
        audio_codec=values["audio_codec"],
        fragmented=values["fragmented"],
        faststart=not values["no_faststart"],
        container=values["container"],
    )
