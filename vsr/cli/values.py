"""What the texts of options mean: sizes, times, `key=value`, devices, foreign words."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, override

import click

_LINES = {"4k": 2160, "uhd": 2160, "8k": 4320}
_LARGEST_SCALE = 16
_LARGEST_SIDE = 65_536
_TIME = re.compile(
    r"(?:(?:(?P<hours>\d+):)?(?P<minutes>\d+):)?(?P<seconds>\d+(?:\.\d+)?|\.\d+)", re.ASCII
)
_FOREIGN_PROCESSORS = ("realesrgan", "realcugan", "anime4k", "libplacebo", "rife")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A wanted output size; exactly one way of saying it is set.

    Attributes:
        text: As typed, for file names: `x4`, `1080p`, `640x360`.
        scale: Output pixels per input pixel, exact.
        width: In pixels, only together with `height`.
        height: In pixels.
    """

    text: str
    scale: Fraction | None = None
    width: int | None = None
    height: int | None = None


class SizeType(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """`4`, `1.5`, `x2`, `3/2`, `1080p`, `4k`, `640x360`."""

    name = "factor|1080p|WxH"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Size:
        if isinstance(value, Size):
            return value
        text = str(value).strip().lower().replace("×", "x")
        if text in _LINES:
            return Size(text=text, height=_LINES[text])
        if match := re.fullmatch(r"(\d{1,6})p", text, re.ASCII):
            return Size(text=text, height=self._side(match[1], param, ctx))
        if match := re.fullmatch(r"(\d{1,6})x(\d{1,6})", text, re.ASCII):
            width, height = (self._side(side, param, ctx) for side in match.groups())
            return Size(text=text, width=width, height=height)
        return self._factor(text, param, ctx)

    def _side(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if not 1 <= int(text) <= _LARGEST_SIDE:
            self.fail(f"a side must be 1 to {_LARGEST_SIDE} pixels, got {text}", param, ctx)
        return int(text)

    def _factor(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> Size:
        number = r"\d{1,6}(?:\.\d{0,9})?|\.\d{1,9}|\d{1,6}/[1-9]\d{0,5}"
        match = re.fullmatch(rf"x?({number})x?", text, re.ASCII)
        if match is None:
            self.fail(
                f"{text!r} is no factor (4, 1.5), height (1080p, 4k) or size (1920x1080)",
                param,
                ctx,
            )
        scale = Fraction(match[1])
        if not 0 < scale <= _LARGEST_SCALE:
            self.fail(
                f"the factor must be above 0 and at most {_LARGEST_SCALE}, got {match[1]}",
                param,
                ctx,
            )
        shown = str(scale) if scale.denominator == 1 else f"{float(scale):.4g}"
        return Size(text=f"x{shown}", scale=scale)


class BytesType(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """`6G`, `800M`, `1.5g`, `500MiB`: bytes in powers of 1024; a bare number is MiB."""

    name = "size"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip().lower()
        match = re.fullmatch(r"(\d{1,7}(?:\.\d{1,3})?)([kmgt]?)(?:i?b)?", text, re.ASCII)
        if match is None or not float(match[1]):
            self.fail(f"{value!r} is no amount of memory: use 6G or 800M", param, ctx)
        return int(Fraction(match[1]) * 1024 ** " kmgt".index(match[2] or "m"))


class TimeType(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """`90`, `90.25`, `1:30`, `00:01:30.250`, as an exact number of seconds."""

    name = "time"

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Fraction:
        if isinstance(value, Fraction):
            return value
        match = _TIME.fullmatch(str(value).strip())
        if match is None:
            self.fail(
                f"{value!r} is no time: write seconds (90.5), mm:ss or hh:mm:ss.fff", param, ctx
            )
        seconds, minutes = Fraction(match["seconds"]), int(match["minutes"] or 0)
        if (match["minutes"] and seconds >= 60) or (match["hours"] and minutes >= 60):
            self.fail(f"{value!r} is no time: minutes and seconds end at 59", param, ctx)
        return int(match["hours"] or 0) * 3600 + minutes * 60 + seconds


class PairType(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """`key=value`, as a pair."""

    name = "key=value"

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value[0], value[1]
        key, equals, text = str(value).partition("=")
        if not (key.strip() and equals):
            self.fail(f"{value!r} must look like key=value, such as tune=animation", param, ctx)
        return key.strip(), text


class ModelType(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """A model's name; a bare number is what other programs mean by `-n`."""

    name = "model"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        if re.fullmatch(r"-?[\d.]+", text):
            self.fail(
                f"{text!r} is no model: here -n names the model, -s is the scale and -dn the "
                "denoising strength (see `vsr models`)",
                param,
                ctx,
            )
        if not text:
            self.fail("the name is empty (see `vsr models`)", param, ctx)
        return text


class TileType(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """Side of a tile in pixels; `auto` chooses, and `None` means that."""

    name = "pixels"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip().lower()
        if text in _FOREIGN_PROCESSORS:
            self.fail(
                f"{value!r} is no tile size: here -t is the tile's side and -n names the model",
                param,
                ctx,
            )
        if not re.fullmatch(r"\d{1,6}", text, re.ASCII):
            self.fail(
                f"{value!r} is no tile size: use a number of pixels, or 0 for the whole picture",
                param,
                ctx,
            )
        side = int(text)
        if 0 < side < 16:
            self.fail(
                f"a tile must be at least 16 pixels wide, or 0 for the whole picture, got {side}",
                param,
                ctx,
            )
        return side


class DeviceType(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """`auto`, `cpu`, `cuda` or `cuda:N`.

    Args:
        several: Whether a list may be given, such as `cuda:0,cuda:1,cpu`.
    """

    name = "device"

    def __init__(self, *, several: bool = False) -> None:
        self._several = several

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip().lower()
        names = [name.strip() for name in text.split(",")] if self._several else [text]
        for name in names:
            self._check(name, str(value), param, ctx)
        if len(names) > 1 and "auto" in names:
            self.fail(f"auto cannot be one of several devices, got {value!r}", param, ctx)
        for name in {_numbered(name) for name in names} - {"cpu"}:
            if [_numbered(each) for each in names].count(name) > 1:
                self.fail(f"{name} is named twice in {value!r}: name each GPU once", param, ctx)
        return ",".join(names)

    def _check(
        self, name: str, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> None:
        if self._several and not name:
            place = "is no device" if not value.strip() else "names no device in one place"
            self.fail(f"{value!r} {place}: write for example cuda:0,cuda:1", param, ctx)
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name, re.ASCII):
            shown = value if name == value.strip().lower() else f"{name} in {value}"
            self.fail(
                f"{shown!r} is no device: use auto, cpu, cuda or cuda:N (see `vsr devices`)",
                param,
                ctx,
            )


def _numbered(name: str) -> str:
    """The first GPU by its full name, and without leading zeros."""
    kind, _, number = name.partition(":")
    return f"cuda:{int(number or 0)}" if kind == "cuda" else name


class GpuType(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """`0`, `0,1` or `-1` for the processor, as the text that `DeviceType` takes."""

    name = "number"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        numbers = [number.strip() for number in str(value).split(",")]
        for number in numbers:
            if not re.fullmatch(r"-1|\d{1,3}", number, re.ASCII):
                self.fail(
                    f"{value!r} is no list of GPUs: use 0 or 0,1 (see `vsr devices`); -1 is the "
                    "processor",
                    param,
                    ctx,
                )
        names = ["cpu" if number == "-1" else f"cuda:{int(number)}" for number in numbers]
        return DeviceType(several=True).convert(",".join(names), param, ctx)


def foreign(message: str) -> Any:
    """A callback for options of other programs: explains what to use here."""

    def refuse(ctx: click.Context, _param: click.Parameter, value: object) -> None:
        if value is not None and value is not False and not ctx.resilient_parsing:
            raise click.UsageError(message, ctx)

    return refuse
