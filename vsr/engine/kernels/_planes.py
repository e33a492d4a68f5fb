"""Sources of the kernels between integer planes and a network; `ends` launches them.

The arithmetic is that of `vsr.engine.color`, step by step in float32, and is launched without
fused multiply-add, so that codes are equal. A program makes a tile of BY × BX outputs of one image.
Rounding is to nearest, ties to even, as torch rounds: adding 1.5 · 2²³ to a number below 2²² leaves
no bits behind the point.
"""
# The language is not Python: arguments have no types, and constants are capitals.
# ruff: noqa: ANN001, ANN202, N803
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, untyped-decorator"

from __future__ import annotations

from vsr.engine.kernels._language import constexpr, jit, tl


@jit
def _tile(height, width, BY: constexpr, BX: constexpr):
    """(image, rows (BY, 1), columns (1, BX), which of them exist) of this program."""
    across = tl.cdiv(width, BX)
    tiles = across * tl.cdiv(height, BY)
    image = (tl.program_id(0) // tiles).to(tl.int64)
    within = tl.program_id(0) % tiles
    y = (within // across * BY + tl.arange(0, BY))[:, None]
    x = (within % across * BX + tl.arange(0, BX))[None, :]
    return image, y, x, (y < height) & (x < width)


@jit
def _store_codes(plane, place, value, span, offset, top, mask):
    """Rounds and clamps to the codes of a plane."""
    codes = tl.clamp(value * span + offset, 0.0, top)
    rounded = (codes + 12582912.0) - 12582912.0
    tl.store(plane + place, rounded.to(tl.int32).to(plane.dtype.element_ty), mask=mask)


@jit
def _load_codes(plane, place, offset, inverse, mask):
    """Normalised samples."""
    return (tl.load(plane + place, mask=mask, other=0).to(tl.float32) - offset) * inverse


@jit
def _filtered(
    plane, base, source_width, offset, inverse, columns, across, rows, down,
    height, width, y, x, mask, TX: constexpr, TY: constexpr,
):  # fmt: skip
    """Resampled samples of an integer plane: along rows first, then along columns."""
    inside_y, inside_x = y < height, x < width
    total = tl.zeros(mask.shape, tl.float32)
    for j in tl.static_range(TY):
        row = tl.load(rows + j * height + y, mask=inside_y, other=0)
        line = tl.zeros(mask.shape, tl.float32)
        for i in tl.static_range(TX):
            column = tl.load(columns + i * width + x, mask=inside_x, other=0)
            weight = tl.load(across + i * width + x, mask=inside_x, other=0.0)
            place = base + row * source_width + column
            line += _load_codes(plane, place, offset, inverse, mask) * weight
        total += line * tl.load(down + j * height + y, mask=inside_y, other=0.0)
    return total


@jit
def _network(
    detail, image_stride, row_stride, pixel_stride, image, y, x, channel, mask, S: constexpr
):  # fmt: skip
    """Pixels of a channel of a network's output before its pixel shuffle."""
    sub = channel * (S * S) + y % S * S + x % S
    place = image * image_stride + y // S * row_stride + x // S * pixel_stride + sub
    return tl.load(detail + place, mask=mask, other=0.0).to(tl.float32)


@jit
def luma_in(plane, out, height, width, offset, inverse, BY: constexpr, BX: constexpr):
    """Integer luma to (N, 1, H, W) in the network's precision."""
    image, y, x, mask = _tile(height, width, BY, BX)
    place = image * height * width + y * width + x
    luma = _load_codes(plane, place, offset, inverse, mask)
    tl.store(out + place, luma.to(out.dtype.element_ty), mask=mask)


@jit
def luma_out(
    detail, detail_image, detail_row, detail_pixel, plane, out, health,
    height, width, offset_in, inverse, span, offset, top,
    S: constexpr, BASE: constexpr, BY: constexpr, BX: constexpr,
):  # fmt: skip
    """Shuffles, adds the nearest sample of the source's luma, and rounds to integer luma."""
    image, y, x, mask = _tile(height, width, BY, BX)
    luma = _network(
        detail, detail_image, detail_row, detail_pixel, image, y, x, 0, mask, S
    )  # fmt: skip
    if BASE:
        small = image * (height // S) * (width // S) + y // S * (width // S) + x // S
        luma += _load_codes(plane, small, offset_in, inverse, mask)
    tl.store(health + tl.program_id(0), tl.sum(tl.sum(luma - luma, 1), 0))
    _store_codes(out, image * height * width + y * width + x, luma, span, offset, top, mask)


@jit
def resample(
    plane, out, source_height, source_width, height, width, columns, across, rows, down,
    offset_in, inverse, span, offset, top,
    TX: constexpr, TY: constexpr, BY: constexpr, BX: constexpr,
):  # fmt: skip
    """An integer plane to an integer plane of another grid."""
    image, y, x, mask = _tile(height, width, BY, BX)
    value = _filtered(
        plane, image * source_height * source_width, source_width, offset_in, inverse,
        columns, across, rows, down, height, width, y, x, mask, TX, TY,
    )  # fmt: skip
    _store_codes(out, image * height * width + y * width + x, value, span, offset, top, mask)


@jit
def rgb_in(
    p, q, r, out, chroma_height, chroma_width, height, width, columns, across, rows, down,
    offset, inverse, chroma_offset, chroma_inverse,
    r0, r1, r2, g0, g1, g2, b0, b1, b2,
    FAMILY: constexpr, TX: constexpr, TY: constexpr, BY: constexpr, BX: constexpr,
):  # fmt: skip
    """Integer planes (0 gray, 1 YUV, 2 GBR) to clamped RGB, channels adjacent."""
    image, y, x, mask = _tile(height, width, BY, BX)
    place = image * height * width + y * width + x
    first = _load_codes(p, place, offset, inverse, mask)
    red, green, blue = first, first, first
    if FAMILY == 2:
        blue = _load_codes(q, place, offset, inverse, mask)
        red = _load_codes(r, place, offset, inverse, mask)
    if FAMILY == 1:
        start = image * chroma_height * chroma_width
        cb = _filtered(
            q, start, chroma_width, chroma_offset, chroma_inverse,
            columns, across, rows, down, height, width, y, x, mask, TX, TY,
        )  # fmt: skip
        cr = _filtered(
            r, start, chroma_width, chroma_offset, chroma_inverse,
            columns, across, rows, down, height, width, y, x, mask, TX, TY,
        )  # fmt: skip
        red = r0 * first + r1 * cb + r2 * cr
        green = g0 * first + g1 * cb + g2 * cr
        blue = b0 * first + b1 * cb + b2 * cr
    dtype = out.dtype.element_ty
    tl.store(out + 3 * place, tl.clamp(red, 0.0, 1.0).to(dtype), mask=mask)
    tl.store(out + 3 * place + 1, tl.clamp(green, 0.0, 1.0).to(dtype), mask=mask)
    tl.store(out + 3 * place + 2, tl.clamp(blue, 0.0, 1.0).to(dtype), mask=mask)


@jit
def _rgb(
    detail, detail_image, detail_row, detail_pixel, base, image, height, width, y, x, mask,
    S: constexpr, BASE: constexpr,
):  # fmt: skip
    """(R, G, B) of the output, not clamped."""
    red = _network(detail, detail_image, detail_row, detail_pixel, image, y, x, 0, mask, S)
    green = _network(detail, detail_image, detail_row, detail_pixel, image, y, x, 1, mask, S)
    blue = _network(detail, detail_image, detail_row, detail_pixel, image, y, x, 2, mask, S)
    if BASE:
        small = image * (height // S) * (width // S) + y // S * (width // S) + x // S
        red += tl.load(base + 3 * small, mask=mask, other=0.0).to(tl.float32)
        green += tl.load(base + 3 * small + 1, mask=mask, other=0.0).to(tl.float32)
        blue += tl.load(base + 3 * small + 2, mask=mask, other=0.0).to(tl.float32)
    return red, green, blue


@jit
def rgb_out(
    detail, detail_image, detail_row, detail_pixel, base, p, q, r, health, height, width,
    y0, y1, y2, span, offset, top,
    S: constexpr, BASE: constexpr, PLANES: constexpr, BY: constexpr, BX: constexpr,
):  # fmt: skip
    """A network's output to the planes G, B, R (PLANES = 3) or to luma alone."""
    image, y, x, mask = _tile(height, width, BY, BX)
    red, green, blue = _rgb(
        detail, detail_image, detail_row, detail_pixel, base, image, height, width, y, x, mask,
        S, BASE,
    )  # fmt: skip
    gone = (red - red) + (green - green) + (blue - blue)
    tl.store(health + tl.program_id(0), tl.sum(tl.sum(gone, 1), 0))
    red, green = tl.clamp(red, 0.0, 1.0), tl.clamp(green, 0.0, 1.0)
    blue = tl.clamp(blue, 0.0, 1.0)
    place = image * height * width + y * width + x
    if PLANES == 3:
        _store_codes(p, place, green, span, offset, top, mask)
        _store_codes(q, place, blue, span, offset, top, mask)
        _store_codes(r, place, red, span, offset, top, mask)
    else:
        luma = y0 * red + y1 * green + y2 * blue
        _store_codes(p, place, luma, span, offset, top, mask)


@jit
def chroma_rows(
    detail, detail_image, detail_row, detail_pixel, base, out, height, width, chroma_width,
    columns, across, u0, u1, u2, v0, v1, v2,
    S: constexpr, BASE: constexpr, TX: constexpr, BY: constexpr, BX: constexpr,
):  # fmt: skip
    """A network's output to float32 chroma (2, N, H, w), resampled along rows."""
    image, y, x, mask = _tile(height, chroma_width, BY, BX)
    cb = tl.zeros((BY, BX), tl.float32)
    cr = tl.zeros((BY, BX), tl.float32)
    for i in tl.static_range(TX):
        column = tl.load(columns + i * chroma_width + x, mask=x < chroma_width, other=0)
        weight = tl.load(across + i * chroma_width + x, mask=x < chroma_width, other=0.0)
        red, green, blue = _rgb(
            detail, detail_image, detail_row, detail_pixel, base, image, height, width,
            y, column, mask, S, BASE,
        )  # fmt: skip
        red, green = tl.clamp(red, 0.0, 1.0), tl.clamp(green, 0.0, 1.0)
        blue = tl.clamp(blue, 0.0, 1.0)
        cb += (u0 * red + u1 * green + u2 * blue) * weight
        cr += (v0 * red + v1 * green + v2 * blue) * weight
    images = tl.num_programs(0) // (tl.cdiv(height, BY) * tl.cdiv(chroma_width, BX))
    place = y * chroma_width + x
    tl.store(out + image * height * chroma_width + place, cb, mask=mask)
    tl.store(out + (images + image) * height * chroma_width + place, cr, mask=mask)


@jit
def chroma_columns(
    lines, out, source_height, height, width, rows, down, span, offset, top,
    TY: constexpr, BY: constexpr, BX: constexpr,
):  # fmt: skip
    """Float32 chroma (N, H, w) to an integer plane, resampled along columns."""
    image, y, x, mask = _tile(height, width, BY, BX)
    value = tl.zeros((BY, BX), tl.float32)
    for j in tl.static_range(TY):
        row = tl.load(rows + j * height + y, mask=y < height, other=0)
        weight = tl.load(down + j * height + y, mask=y < height, other=0.0)
        place = (image * source_height + row) * width + x
        value += tl.load(lines + place, mask=mask, other=0.0) * weight
    _store_codes(out, image * height * width + y * width + x, value, span, offset, top, mask)
