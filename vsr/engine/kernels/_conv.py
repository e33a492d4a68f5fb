"""Source of the convolution kernel; `conv3x3` launches it.

Implicit GEMM: the rows of the left matrix are the pixels of a tile of BH×BW, its columns the
channels under one tap, and the right matrix is that tap's weights. The loop goes over all taps of
one block of channels before the next block, because they read the same few lines of the picture:
these then come from the L1 cache (hence `.ca`), while nine reads from the L2 cache would hold an
H100 below half of its matrix rate at 64 channels. With TMA the copies cost no instructions, but
pass by that cache: which of the two wins is for `tuning` to say. Networks' first layers have fewer
channels than a matrix unit is deep: for them (FLAT) taps and channels are one axis.

All tensors have channels adjacent in memory and strides of their own for images, rows and pixels.
The sum, the bias, the activation and the residuals are float32; the result is rounded once.
"""
# The language is not Python: arguments have no types, and constants are capitals.
# ruff: noqa: ANN001, ANN202, N803
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, untyped-decorator"

from __future__ import annotations

from vsr.engine.kernels._language import constexpr, jit, tl


@jit
def _load(
    x, row_stride, pixel_stride, height, width, top, left, row, column, dy, dx, channel,
    CIN: constexpr, MASKED: constexpr,
):  # fmt: skip
    """Pixels of a tile × channels, displaced by (dy, dx); zero beyond the picture's borders."""
    y, across = top + row + dy, left + column + dx
    mask = (y >= 0) & (y < height) & (across >= 0) & (across < width)
    place = (row + dy) * row_stride + (column + dx) * pixel_stride
    if MASKED:
        mask = mask & (channel < CIN)
    return tl.load(x + place + channel, mask=mask, other=0.0, cache_modifier=".ca")


@jit
def _accumulate(acc, a, b, UPCAST: constexpr):
    """One product; the interpreter cannot multiply bfloat16, which UPCAST is for."""
    if UPCAST:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision="ieee")


@jit
def _by_pointers(
    acc, x, x_row, x_pixel, w, height, width, top, left, row, column, n,
    CIN: constexpr, CIN_PAD: constexpr, COUT_PAD: constexpr,
    KH: constexpr, KW: constexpr, PAD_Y: constexpr, PAD_X: constexpr,
    FLAT: constexpr, UPCAST: constexpr, BK: constexpr,
):  # fmt: skip
    """The sum over taps and channels, with an address for each sixteen bytes."""
    k = tl.arange(0, BK)
    if FLAT:
        for start in range(0, KH * KW * CIN, BK):
            flat = start + k
            dy, dx = flat // CIN // KW - PAD_Y, flat // CIN % KW - PAD_X
            a = _load(
                x, x_row, x_pixel, height, width, top, left, row, column,
                dy[None, :], dx[None, :],
                tl.where(flat < KH * KW * CIN, flat % CIN, CIN)[None, :], CIN, True,
            )  # fmt: skip
            b = tl.load(w + flat[:, None] * COUT_PAD + n[None, :])
            acc = _accumulate(acc, a, b, UPCAST)
    else:
        for step in range(KH * KW * ((CIN + BK - 1) // BK)):
            tap, channel = step % (KH * KW), step // (KH * KW) * BK + k
            a = _load(
                x, x_row, x_pixel, height, width, top, left, row, column,
                tap // KW - PAD_Y, tap % KW - PAD_X, channel[None, :], CIN, CIN % BK != 0,
            )  # fmt: skip
            b = tl.load(w + (tap * CIN_PAD + channel)[:, None] * COUT_PAD + n[None, :])
            acc = _accumulate(acc, a, b, UPCAST)
    return acc


@jit
def _by_tensor(
    acc, x, w, image, top, left, n,
    CIN: constexpr, CIN_PAD: constexpr, COUT_PAD: constexpr,
    KH: constexpr, KW: constexpr, PAD_Y: constexpr, PAD_X: constexpr,
    UPCAST: constexpr, BH: constexpr, BW: constexpr, BK: constexpr,
):  # fmt: skip
    """The same with one descriptor of the picture, whose hardware makes the border's zeros."""
    k = tl.arange(0, BK)
    for step in range(KH * KW * ((CIN + BK - 1) // BK)):
        tap, channel = step % (KH * KW), step // (KH * KW) * BK
        y, across = top + tap // KW - PAD_Y, left + tap % KW - PAD_X
        a = x.load([image.to(tl.int32), y, across, channel]).reshape(BH * BW, BK)
        b = tl.load(w + (tap * CIN_PAD + channel + k)[:, None] * COUT_PAD + n[None, :])
        acc = _accumulate(acc, a, b, UPCAST)
    return acc


@jit
def _activate(acc, slope, n, leak, ACT: constexpr):
    """0 none, 1 ReLU, 2 LeakyReLU, 3 PReLU; comparisons let NaN through."""
    if ACT == 1:
        acc = tl.where(acc < 0, 0.0, acc)
    if ACT == 2:
        acc = tl.where(acc < 0, acc * leak, acc)
    if ACT == 3:
        acc = tl.where(acc < 0, acc * tl.load(slope + n)[None, :], acc)
    return acc


@jit
def conv(
    x, x_image, x_row, x_pixel, w, bias, slope,
    first, first_image, first_row, first_pixel,
    second, second_image, second_row, second_pixel,
    out, out_image, out_row, out_pixel,
    height, width, leak, alpha, beta, gamma,
    CIN: constexpr, COUT: constexpr, CIN_PAD: constexpr, COUT_PAD: constexpr,
    KH: constexpr, KW: constexpr, PAD_Y: constexpr, PAD_X: constexpr,
    ACT: constexpr, RESIDUALS: constexpr, FLAT: constexpr, TMA: constexpr, UPCAST: constexpr,
    BH: constexpr, BW: constexpr, BN: constexpr, BK: constexpr,
):  # fmt: skip
    """Makes alpha · act(conv(x) + bias) + beta · first + gamma · second, one tile a program."""
    across = tl.cdiv(width, BW)
    tiles = across * tl.cdiv(height, BH)
    image = (tl.program_id(0) // tiles).to(tl.int64)
    within = tl.program_id(0) % tiles
    top, left = within // across * BH, within % across * BW
    m = tl.arange(0, BH * BW)
    row, column = (m // BW)[:, None], (m % BW)[:, None]
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BH * BW, BN), tl.float32)
    if TMA:
        acc = _by_tensor(
            acc, x, w, image, top, left, n,
            CIN, CIN_PAD, COUT_PAD, KH, KW, PAD_Y, PAD_X, UPCAST, BH, BW, BK,
        )  # fmt: skip
    else:
        x += image * x_image + top.to(tl.int64) * x_row + left.to(tl.int64) * x_pixel
        acc = _by_pointers(
            acc, x, x_row, x_pixel, w, height, width, top, left, row, column, n,
            CIN, CIN_PAD, COUT_PAD, KH, KW, PAD_Y, PAD_X, FLAT, UPCAST, BK,
        )  # fmt: skip
    acc = alpha * _activate(acc + tl.load(bias + n)[None, :], slope, n, leak, ACT)
    mask = (top + row < height) & (left + column < width) & (n < COUT)[None, :]
    if RESIDUALS > 0:
        first += image * first_image + top.to(tl.int64) * first_row
        first += left.to(tl.int64) * first_pixel
        place = row * first_row + column * first_pixel + n[None, :]
        acc += beta * tl.load(first + place, mask=mask, other=0.0).to(tl.float32)
    if RESIDUALS > 1:
        second += image * second_image + top.to(tl.int64) * second_row
        second += left.to(tl.int64) * second_pixel
        place = row * second_row + column * second_pixel + n[None, :]
        acc += gamma * tl.load(second + place, mask=mask, other=0.0).to(tl.float32)
    out += image * out_image + top.to(tl.int64) * out_row + left.to(tl.int64) * out_pixel
    place = row * out_row + column * out_pixel + n[None, :]
    tl.store(out + place, acc.to(out.dtype.element_ty), mask=mask)
