"""Brings a face upright into a square, and the square back into the picture.

The place of a face is a similarity, turned, scaled and moved but not sheared, that takes its five
landmarks to those of FFHQ's faces best in the least squares' sense: Umeyama, "Least-squares
estimation of transformation parameters between two point patterns", IEEE TPAMI 13(4), 1991.

Pixel centres lie at whole numbers, (x, y). A map is a (2, 3) matrix in float64 on the CPU.

Deviations from the authors' program (facexlib's `FaceRestoreHelper` in GFPGAN): it fits by a least
median, which leaves landmarks out and jumps in a video. It samples bilinearly in both directions
and aliases where a face gets smaller; here what gets smaller is low-passed first. It moves a face
by half of a target pixel when it pastes; here the maps are exact.
"""

import math
from typing import Final, Literal

import torch
from torch import Tensor

from vsr.errors import UsageError
from vsr.resample import resize

TEMPLATE_SIDE: Final = 512
TEMPLATE: Final = (
    (192.98138, 239.94708),
    (318.90277, 240.1936),
    (256.63416, 314.01935),
    (201.26117, 371.41043),
    (313.08905, 371.15118),
)
"""Mean landmarks of FFHQ's faces (Karras et al., 2018, arXiv:1812.04948) in a square of 512, as
facexlib measured them."""
FEATHER: Final = 0.1
"""Part of the square's side in which a face fades out at each edge: what the erosion and the blur
of the authors' program, a 20th each, come to."""
_GREY: Final = (132 / 255, 133 / 255, 135 / 255)
"""What the authors' program puts where a face reaches out of the picture."""

_RIM = 2
"""New pixels beyond the picture's edge that repeat it."""

type Filter = Literal["bilinear", "bicubic"]


def template(side: int) -> Tensor:
    """The landmarks of an upright face in a square: (5, 2), float64.

    Args:
        side: Of the square, in pixels.
    """
    points = torch.tensor(TEMPLATE, dtype=torch.float64)
    return (points + 0.5) * (side / TEMPLATE_SIDE) - 0.5


def similarity(source: Tensor, target: Tensor) -> Tensor:
    """The similarity that takes points to others with the least sum of squared distances.

    In the plane Umeyama's solution is a quotient: with points as complex numbers, less their means,
    the factor is Σ conj(p)·q / Σ |p|². It never mirrors.

    Args:
        source: (…, K, 2) with K of at least 2.
        target: Likewise, or (K, 2).

    Returns:
        Matrices from source to target: (…, 2, 3), float64.

    Raises:
        UsageError: The source's points are one point, or not finite.
    """
    source, target = source.double(), target.double()
    centre, aim = source.mean(-2, keepdim=True), target.mean(-2, keepdim=True)
    p, q = source - centre, target - aim
    spread = p.square().sum((-2, -1))
    if not bool((spread > 0).all()) or not bool(spread.isfinite().all()):
        msg = "landmarks must be finite and not all in one place to align a face by them"
        raise UsageError(msg)
    real = (p * q).sum((-2, -1)) / spread
    imaginary = (p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]).sum(-1) / spread
    rows = [torch.stack([real, -imaginary], -1), torch.stack([imaginary, real], -1)]
    linear = torch.stack(rows, -2)
    shift = aim.squeeze(-2) - (linear @ centre.squeeze(-2)[..., None]).squeeze(-1)
    return torch.cat([linear, shift[..., None]], -1)


def inverse(matrix: Tensor) -> Tensor:
    """The map back: (…, 2, 3)."""
    linear = torch.linalg.inv(matrix[..., :2])
    return torch.cat([linear, -linear @ matrix[..., 2:]], -1)


def chained(first: Tensor, then: Tensor) -> Tensor:
    """One map after another: (2, 3)."""
    shift = then[:, :2] @ first[:, 2:] + then[:, 2:]
    return torch.cat([then[:, :2] @ first[:, :2], shift], 1)


def enlargement(source: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """From the pixels of a picture to those of the same picture in another size.

    Args:
        source: Width and height.
        target: Likewise.
    """
    x, y = (new / old for new, old in zip(target, source, strict=True))
    rows = [[x, 0.0, x / 2 - 0.5], [0.0, y, y / 2 - 0.5]]
    return torch.tensor(rows, dtype=torch.float64)


def quarter_turns(turns: int, width: int, height: int) -> Tensor:
    """From the pixels of a picture to those of the same picture turned: (2, 3), float64.

    Args:
        turns: Quarters of a turn, anticlockwise, as `torch.rot90` takes them.
        width: Of the picture before.
        height: Likewise.
    """
    right, bottom = width - 1.0, height - 1.0
    matrices = (
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        [[0.0, 1.0, 0.0], [-1.0, 0.0, right]],
        [[-1.0, 0.0, right], [0.0, -1.0, bottom]],
        [[0.0, -1.0, bottom], [1.0, 0.0, 0.0]],
    )
    return torch.tensor(matrices[turns % 4], dtype=torch.float64)


def apply(matrix: Tensor, points: Tensor) -> Tensor:
    """Where points (…, 2) go to, in float64."""
    return points.double() @ matrix[:, :2].T + matrix[:, 2]


def sample(
    x: Tensor,
    matrix: Tensor,
    height: int,
    width: int,
    *,
    kernel: Filter = "bilinear",
    fill: Tensor | None = None,
) -> Tensor:
    """Reads a picture at the places that a map names for each pixel of a new one.

    Only the part that is needed is touched. Where the new pixels lie further apart than the
    picture's, that part is made smaller first, low-passed as `vsr.resample` does.

    Args:
        x: (1, C, H, W), floating point.
        matrix: From the new picture's pixels to those of `x`.
        height: Of the new picture.
        width: Likewise.
        kernel: Between pixels; `bicubic` is sharper and may overshoot.
        fill: Colour (C,) of what lies outside, but for a rim that repeats the edge so that nothing
            of the colour gets mixed into the picture on the way back; None repeats the edge.

    Returns:
        (1, C, height, width), same dtype and device.
    """
    x, matrix = _part(x, matrix, height, width)
    places = _places(matrix, height, width, x.device)
    radius, weigh = (1, _triangle) if kernel == "bilinear" else (2, _cubic)
    steps = torch.arange(1 - radius, radius + 1, device=x.device)
    index = places.floor().long()[..., None] + steps
    weight = weigh(places[..., None] - index)
    last = torch.tensor([x.shape[3] - 1, x.shape[2] - 1], device=x.device)
    index, weight = index.clamp_min(0).minimum(last[:, None]), weight.to(x.dtype)
    result = x.new_zeros(1, x.shape[1], height, width)
    for down in range(2 * radius):
        for across in range(2 * radius):
            read = x[:, :, index[..., 1, down], index[..., 0, across]]
            result.addcmul_(read, weight[..., 1, down] * weight[..., 0, across])
    if fill is None:
        return result
    beyond = torch.maximum(-places, places - last).amax(-1) / _step(matrix)
    return torch.lerp(result, fill.to(x).view(1, -1, 1, 1), (beyond - _RIM).clamp(0, 1).to(x.dtype))


def _step(matrix: Tensor) -> float:
    """Pixels that are read for each new one, along an axis."""
    return math.sqrt(abs(float(torch.linalg.det(matrix[:, :2]))))


def _places(matrix: Tensor, height: int, width: int, device: torch.device) -> Tensor:
    """Where the pixels of a picture lie: (height, width, 2), float64."""
    linear, shift = matrix[:, :2].to(device), matrix[:, 2].to(device)
    rows = torch.arange(height, dtype=torch.float64, device=device)[:, None, None]
    columns = torch.arange(width, dtype=torch.float64, device=device)[None, :, None]
    return columns * linear[:, 0] + rows * linear[:, 1] + shift


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp_min(0)


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic with a = -1/2, as in `vsr.resample`: it keeps ramps, PyTorch's -3/4 does not."""
    x = x.abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _part(x: Tensor, matrix: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The part of a picture that a map reads, made smaller if the map does, and the map to it."""
    reduction = _step(matrix)
    margin = 2 + math.ceil(2 * max(1.0, reduction))
    ends = torch.tensor([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]])
    seen = apply(matrix, ends)
    limits = (x.shape[3], x.shape[2])
    low = [_bounded(float(v) - margin, n) for v, n in zip(seen.amin(0), limits, strict=True)]
    high = [_bounded(float(v) + margin + 1, n) for v, n in zip(seen.amax(0), limits, strict=True)]
    left, top = (min(v, n - 1) for v, n in zip(low, limits, strict=True))
    right, bottom = max(left + 1, high[0]), max(top + 1, high[1])
    matrix = matrix - torch.tensor([[0, 0, left], [0, 0, top]], dtype=torch.float64)
    x = x[:, :, top:bottom, left:right]
    if reduction > 1:
        old = (x.shape[3], x.shape[2])
        new = (max(1, round(old[0] / reduction)), max(1, round(old[1] / reduction)))
        x = resize(x, new[1], new[0], "bicubic")
        matrix = chained(matrix, enlargement(old, new))
    return x, matrix


def _bounded(value: float, length: int) -> int:
    return int(min(max(math.floor(value), 0), length))


def crop(x: Tensor, matrix: Tensor, side: int) -> Tensor:
    """Takes an upright face out of a picture.

    Args:
        x: RGB (1, 3, H, W) in [0, 1].
        matrix: From the picture's pixels to the square's.
        side: Of the square.

    Returns:
        (1, 3, side, side) in [0, 1], grey where the picture ends.
    """
    grey = torch.tensor(_GREY)
    return sample(x, inverse(matrix), side, side, fill=grey).clamp(0, 1)


def mask(matrix: Tensor, height: int, width: int, side: int, device: torch.device) -> Tensor:
    """How much of a face each pixel gets: 1 inside, 0 at the square's edge and beyond.

    In between it is, along each side of the square, a cubic with a flat start and end (smoothstep):
    neither the mask nor its first derivative jumps, so no seam can be seen.

    Args:
        matrix: From the pixels of a picture to those of the square.
        height: Of the picture.
        width: Likewise.
        side: Of the square.
        device: Where the result shall be.

    Returns:
        (1, 1, height, width), float32.
    """
    places = _places(matrix, height, width, device)
    inside = torch.minimum(places + 0.5, side - 0.5 - places)
    ramps = (inside / (FEATHER * side)).clamp(0, 1)
    return (ramps.square() * (3 - 2 * ramps)).prod(-1).float()[None, None]


def region(matrix: Tensor, height: int, width: int, side: int) -> tuple[int, int, int, int] | None:
    """Rows and columns of a picture outside of which the mask of a face is zero.

    Args:
        matrix: From the picture's pixels to the square's.
        height: Of the picture.
        width: Likewise.
        side: Of the square.

    Returns:
        (top, bottom, left, right), the ends excluded; None if the square lies beside the picture.
    """
    ends = torch.tensor([[0, 0], [side, 0], [0, side], [side, side]]) - 0.5
    seen = apply(inverse(matrix), ends)
    left, top = (_bounded(float(v), n) for v, n in zip(seen.amin(0), (width, height), strict=True))
    right, bottom = (
        _bounded(float(v) + 1, n) for v, n in zip(seen.amax(0), (width, height), strict=True)
    )
    return (top, bottom, left, right) if bottom > top and right > left else None


def placed(face: Tensor, matrix: Tensor, area: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Puts a square back into its place, in a part of a picture.

    Args:
        face: (1, C, S, S) in [0, 1].
        matrix: From the picture's pixels to the square's.
        area: Rows and columns of the picture as `region` gives them.

    Returns:
        The part, (1, C, h, w) in [0, 1], and its mask, (1, 1, h, w).
    """
    top, bottom, left, right = area
    height, width = bottom - top, right - left
    corner = torch.tensor([[1, 0, left], [0, 1, top]], dtype=torch.float64)
    matrix = chained(corner, matrix)
    part = sample(face, matrix, height, width, kernel="bicubic").clamp(0, 1)
    return part, mask(matrix, height, width, face.shape[3], face.device).to(face.dtype)


def paste(x: Tensor, face: Tensor, matrix: Tensor, weight: float = 1.0) -> Tensor:
    """Blends a face into a picture.

    Args:
        x: (1, C, H, W) in [0, 1].
        face: (1, C, S, S) likewise.
        matrix: From the picture's pixels to the square's.
        weight: From 0, the picture as it is, to 1, the face in full.

    Returns:
        Like `x`, which stays; where the mask is zero, its bits.
    """
    area = region(matrix, x.shape[2], x.shape[3], face.shape[3])
    if area is None or weight <= 0:
        return x
    part, soft = placed(face.to(x.dtype), matrix, area)
    top, bottom, left, right = area
    result = x.clone()
    old = result[:, :, top:bottom, left:right]
    old.copy_(torch.where(soft > 0, torch.lerp(old, part, soft * weight), old))
    return result
