"""What video went through: a moving clip, reduced, and really encoded and decoded.

A still becomes a clip by a camera that pans, zooms and turns, since codecs damage what moves in
other ways than what stands: skipped blocks, drift between key frames, B-frames of lower quality.
The clip is encoded by H.264, H.265, MPEG-2 or VP9 at a drawn quality or bit rate, and one of its
frames, drawn as well, is the result; it lies over the clean picture to the pixel. The idea is that
of RealBasicVSR (Chan, Zhou, Xu, Loy 2022, arXiv:2111.12704, section 3.2), whose clips were films.

Old films came in fields: some clips are woven of two moments, coded so, and deinterlaced badly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from vsr.errors import UsageError
from vsr.io.codec_damage import Codec, Encode, damaged
from vsr.train.degrade import kernels
from vsr.train.degrade._base import check_range, check_share
from vsr.train.degrade.kernels import KernelSettings
from vsr.train.degrade.motion import Motion, moved
from vsr.train.degrade.noise import gaussian_noise, generator_for
from vsr.train.degrade.resizes import drawn_mode, matlab_reduced, resized, rounded

type Deinterlacing = Literal["weave", "blend", "bob"]

_CODECS: Final[tuple[Codec, ...]] = ("h264", "h265", "mpeg2", "vp9")
_FIELDS: Final = frozenset({"h264", "mpeg2"})
"""Codecs that code fields."""
_RATE: Final = Fraction(25)


def _soft() -> KernelSettings:
    return KernelSettings(sinc=0.05, sigma=(0.2, 1.5), sides=(7, 13))


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSettings:
    """What clips are made of and how they are encoded.

    Attributes:
        codecs: Weights of H.264, H.265, MPEG-2 and VP9.
        h264: Range of its crf.
        h265: Range of its crf.
        mpeg2: Range of its quantiser.
        vp9: Range of its crf.
        presets: Of x264 and x265, equally likely.
        bit_rate: Probability of a bit rate instead of a quality.
        bits: Range of the bit rate in bits per pixel, drawn evenly in its logarithm.
        again: Probability that the result is encoded once more, as uploads are.
        frames: Fewest and most frames of a clip.
        still: Probability that nothing moves.
        pan: Most pixels of the low resolution per frame.
        zoom: Largest growth or shrinkage per frame.
        turn: Most degrees per frame.
        blur: Probability of a blur before the reduction.
        kernel: How that blur is drawn.
        matlab: Probability of the antialiased reduction instead of one of the three aliased ones.
        noise: Probability of noise before the encoding.
        sigma: Range of its standard deviation in 255ths.
        interlaced: Probability of fields, for H.264 and MPEG-2.
        deinterlacing: Weights of fields left woven, blended, and of one field interpolated.

    Raises:
        UsageError: A range or probability that cannot be.
    """

    codecs: tuple[float, float, float, float] = (0.5, 0.2, 0.2, 0.1)
    h264: tuple[float, float] = (18.0, 36.0)
    h265: tuple[float, float] = (18.0, 38.0)
    mpeg2: tuple[float, float] = (2.0, 14.0)
    vp9: tuple[float, float] = (20.0, 56.0)
    presets: tuple[str, ...] = ("ultrafast", "veryfast", "fast", "medium")
    bit_rate: float = 0.25
    bits: tuple[float, float] = (0.04, 0.5)
    again: float = 0.15
    frames: tuple[int, int] = (3, 7)
    still: float = 0.25
    pan: float = 3.0
    zoom: float = 0.01
    turn: float = 0.5
    blur: float = 0.3
    kernel: KernelSettings = field(default_factory=_soft)
    matlab: float = 0.5
    noise: float = 0.3
    sigma: tuple[float, float] = (1.0, 8.0)
    interlaced: float = 0.15
    deinterlacing: tuple[float, float, float] = (0.2, 0.4, 0.4)

    def __post_init__(self) -> None:
        for name in ("bit_rate", "again", "still", "blur", "matlab", "noise", "interlaced"):
            check_share(name, getattr(self, name))
        for name, low, high in (("h264", 0, 51), ("h265", 0, 51), ("mpeg2", 1, 31), ("vp9", 0, 63)):
            check_range(name, getattr(self, name), low, high)
        check_range("bits", self.bits, 0.001, 24)
        check_range("sigma", self.sigma, 0, 255)
        check_range("frames", self.frames, 1, 100)
        for name in ("codecs", "deinterlacing"):
            weights = getattr(self, name)
            if min(weights) < 0 or sum(weights) <= 0:
                msg = f"{name} is {weights}: weights of at least 0 were expected, not all 0"
                raise UsageError(msg)
        if not self.presets:
            msg = "presets is empty: at least one of x264's was expected, such as medium"
            raise UsageError(msg)


class Video:
    """Degrades a picture by a real encode."""

    def __init__(self, settings: VideoSettings, scale: int) -> None:
        self.settings, self.scale = settings, scale
        self.margin = 8

    def __call__(self, clean: Tensor, random: np.random.Generator) -> Tensor:
        """Degrades (3, s·h, s·w) in [0, 1] to (3, h, w), multiples of 1/255.

        Raises:
            EncoderError: An encoder is missing or refused what was drawn.
        """
        count = int(random.integers(self.settings.frames[0], self.settings.frames[1] + 1))
        chosen = int(random.integers(count))
        pixels = clean.shape[-1] * clean.shape[-2] // self.scale**2
        encode = self.drawn(pixels, random)
        clip = self._clip(clean, range(-chosen, count - chosen), encode, random)
        pictures = damaged(list(clip.permute(0, 2, 3, 1).contiguous().numpy()), encode)
        if random.random() < self.settings.again:
            second = self.drawn(pixels, random)
            fields = encode.interlaced and second.codec in _FIELDS
            pictures = damaged(pictures, replace(second, interlaced=fields))
        low = torch.from_numpy(pictures[chosen].copy()).permute(2, 0, 1).float() / 255
        return self._deinterlaced(low, random) if encode.interlaced else low

    def target(self, clean: Tensor) -> Tensor:
        """The clean picture."""
        return clean

    def drawn(self, pixels: int, random: np.random.Generator) -> Encode:
        """Draws an encode.

        Args:
            pixels: Of a frame.
            random: Where all draws come from.
        """
        settings = self.settings
        codec = _CODECS[_weighted(settings.codecs, random)]
        preset = str(random.choice(settings.presets)) if codec in {"h264", "h265"} else None
        gop = int(random.integers(6, 30))
        interlaced = bool(random.random() < settings.interlaced) and codec in _FIELDS
        options = {"bf": "2"} if codec == "mpeg2" else {}
        shared = Encode(
            codec=codec,
            crf=20,
            gop=gop,
            rate=_RATE,
            preset=preset,
            options=options,
            interlaced=interlaced,
        )
        if random.random() < settings.bit_rate:
            bits = float(np.exp(random.uniform(*np.log(settings.bits))))
            return replace(shared, crf=None, bit_rate=max(1000, int(bits * pixels * _RATE)))
        return replace(shared, crf=round(float(random.uniform(*getattr(settings, codec))), 1))

    def _clip(
        self, clean: Tensor, numbers: Sequence[int], encode: Encode, random: np.random.Generator
    ) -> Tensor:
        """The clip before encoding: uint8 (frames, 3, h, w)."""
        motion = self._motion(random)
        kernel = kernels.drawn(self.settings.kernel, random)[None]
        blur = kernel if random.random() < self.settings.blur else None
        antialiased, mode = random.random() < self.settings.matlab, drawn_mode(random)
        height, width = (side // self.scale for side in clean.shape[-2:])

        def shot(moments: Sequence[float]) -> Tensor:
            x = moved(clean, motion, moments)
            x = x if blur is None else kernels.filtered(x, blur)
            return matlab_reduced(x, self.scale) if antialiased else resized(x, height, width, mode)

        clip = shot(numbers)
        if encode.interlaced:
            clip[..., 1::2, :] = shot([number + 0.5 for number in numbers])[..., 1::2, :]
        if random.random() < self.settings.noise:
            sigma = torch.full((len(clip),), float(random.uniform(*self.settings.sigma)))
            gray = torch.full((len(clip),), fill_value=bool(random.random() < 0.5))
            clip = gaussian_noise(clip, sigma, gray, generator_for(random, clip.device))
        return (clip * 255).round().clamp(0, 255).to(torch.uint8)

    def _motion(self, random: np.random.Generator) -> Motion:
        right, down, zoom, turn = random.uniform(-1, 1, 4)
        if random.random() < self.settings.still:
            return Motion()
        pan = self.settings.pan * self.scale
        return Motion(
            right=float(right * pan),
            down=float(down * pan),
            zoom=float(zoom * np.log1p(self.settings.zoom)),
            turn=float(np.radians(turn * self.settings.turn)),
        )

    def _deinterlaced(self, woven: Tensor, random: np.random.Generator) -> Tensor:
        kinds: tuple[Deinterlacing, ...] = ("weave", "blend", "bob")
        return rounded(deinterlaced(woven, kinds[_weighted(self.settings.deinterlacing, random)]))


def deinterlaced(woven: Tensor, kind: Deinterlacing) -> Tensor:
    """Makes a picture of two fields, as cheap players did.

    Args:
        woven: (C, H, W), even rows of one moment, odd rows of a later one.
        kind: `weave` leaves it, `blend` mixes each row with its neighbours, `bob` interpolates the
            odd rows from the even ones.
    """
    if kind == "weave" or woven.shape[-2] < 2:
        return woven
    above = torch.cat([woven[..., 1:2, :], woven[..., :-1, :]], -2)
    below = torch.cat([woven[..., 1:, :], woven[..., -2:-1, :]], -2)
    if kind == "blend":
        return woven / 2 + (above + below) / 4
    result = woven.clone()
    result[..., 1::2, :] = ((above + below) / 2)[..., 1::2, :]
    return result


def _weighted(weights: Sequence[float], random: np.random.Generator) -> int:
    total = sum(weights)
    return int(random.choice(len(weights), p=[weight / total for weight in weights]))
