"""What the texts of options about pictures mean: rates and numbers of workers."""

import re
from fractions import Fraction
from typing import Any, override

import click

_NTSC = (24, 30, 48, 60, 120)
"""Rates that television slows by 1000/1001, and that people round."""


class RateType(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """`24`, `23.976` (which is 24000/1001), `30000/1001`, `12.5`, as an exact rate."""

    name = "rate"

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Fraction:
        if isinstance(value, Fraction):
            return value
        text = str(value).strip()
        if not re.fullmatch(r"\d{1,7}/[1-9]\d{0,6}|\d{1,4}(?:\.\d{1,6})?", text, re.ASCII):
            self.fail(f"{text!r} is no rate: write 24, 23.976 or 24000/1001", param, ctx)
        rate = Fraction(text)
        if not 0 < rate <= 1000:
            self.fail(f"a rate must be above 0 and at most 1000, got {text}", param, ctx)
        if "." in text:
            slowed = [Fraction(whole * 1000, 1001) for whole in _NTSC]
            rate = next((exact for exact in slowed if _rounds_to(exact, text)), rate)
        return rate


def _rounds_to(exact: Fraction, text: str) -> bool:
    """Whether a decimal is what remains of a rate, rounded or cut off; 23.98 is 24000/1001."""
    digits = len(text.partition(".")[2])
    return digits >= 2 and abs(exact - Fraction(text)) < Fraction(1, 10**digits)


class WorkersType(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """`load:proc:save` as realesrgan-ncnn-vulkan takes it, as numbers of readers and writers."""

    name = "load:proc:save"

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value[0], value[1]
        number = r"[1-9]\d?"
        match = re.fullmatch(rf"({number}):{number}(?:,{number})*:({number})", str(value), re.ASCII)
        if match is None:
            self.fail(f"{value!r} must look like 2:1:2, each from 1 to 99", param, ctx)
        return int(match[1]), int(match[2])
