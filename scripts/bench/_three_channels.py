"""The measure of Nhat-Thanh's repositories, which publish figures of their checkpoints by it.

PSNR in dB over luma and chroma together, of values in [0, 1] that are not rounded: MATLAB's low
resolution, blurred a little and rounded; full-range BT.601 cut to 16…235 and 16…240 and rounded
down; no border but what SRCNN's convolutions without padding leave out, and two pixels more. Gray
pictures are three equal channels. Read from `test.py` and `utils/common.py` of the repositories
SRCNN-Pytorch and ESPCN-Pytorch of github.com/Nhat-Thanh.
"""

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from quality import Score, pairs
from torch import Tensor, nn
from torch.nn import functional

from vsr.checkpoints import read_checkpoint
from vsr.metrics import ssim
from vsr.models import build, detect

MARGIN = 4
"""Pixels beyond those that SRCNN's inner and last convolutions leave out: its first one's four."""


def score_three_channels(path: Path, folder: Path, scale: int) -> Score:
    """Evaluates a checkpoint on a set; its SSIM is that of luma.

    Args:
        path: A checkpoint of SRCNN or ESPCN for luma and chroma.
        folder: Of the set.
        scale: To measure at.
    """
    network, enlarges, border = opened_network(path)
    found = []
    for low, high in pairs(folder, scale):
        x, truth = blurred(planes(low), 0.3 if scale == 2 else 0.2), planes(high)
        if not enlarges:
            x = functional.interpolate(x, scale_factor=scale, mode="bicubic").round().clamp(0, 255)
        with torch.inference_mode():
            y = network(converted(x)).clamp(0, 1)
        ours, theirs = (cropped(t, border).double().numpy() for t in (y, converted(truth)))
        error = np.mean((ours.astype(np.float32) - theirs.astype(np.float32)) ** 2)
        found.append((-10 * np.log10(error), ssim(*(t[0, 0] * 255 for t in (ours, theirs)))))
    mean = np.mean(found, axis=0)
    return Score(round(float(mean[0]), 3), round(float(mean[1]), 4))


def opened_network(path: Path) -> tuple[nn.Module, bool, int]:
    """The network on three planes as they are; whether it enlarges; the border to leave out."""
    state = read_checkpoint(path).state
    arch, config, _ = detect(state)
    hints: dict[str, object] = {"colour": "rgb"}
    border = 0
    if arch.id == "srcnn":
        hints["scale"] = 1
        border = MARGIN + config.second // 2 + config.third // 2
    header = {"architecture": arch.id, "config": json.dumps(hints)}
    return build(state, header)[0], arch.id != "srcnn", border


def planes(picture: NDArray[np.uint8]) -> Tensor:
    """Shape (1, 3, H, W), values up to 255."""
    x = torch.from_numpy(picture.astype(np.float32))
    return (x if x.ndim == 3 else x[..., None].expand(-1, -1, 3)).permute(2, 0, 1)[None]


def blurred(x: Tensor, deviation: float) -> Tensor:
    """A Gaussian of three taps each way, rounded."""
    taps = torch.exp(-0.5 * (torch.tensor([-1.0, 0.0, 1.0]) / deviation) ** 2)
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    padded = functional.pad(x, (1, 1, 1, 1), mode="reflect")
    return functional.conv2d(padded, kernel.expand(3, 1, 3, 3), groups=3).round()


def converted(x: Tensor) -> Tensor:
    """RGB up to 255 as luma and chroma up to 1, in steps of 1/255."""
    r, g, b = x.unbind(1)
    y = (0.299 * r + 0.587 * g + 0.114 * b).clamp(16, 235)
    u = (-0.16874 * r - 0.33126 * g + 0.5 * b + 128).clamp(16, 240)
    v = (0.5 * r - 0.41869 * g - 0.08131 * b + 128).clamp(16, 240)
    return torch.stack([y, u, v], 1).floor() / 255


def cropped(x: Tensor, border: int) -> Tensor:
    """Without so many pixels along each side."""
    height, width = x.shape[2:]
    return x[:, :, border : height - border, border : width - border]
