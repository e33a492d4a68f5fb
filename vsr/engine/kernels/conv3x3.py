"""Own convolution for channels_last pictures, with everything that follows it in one pass.

y = alpha · act(conv(x) + bias) + beta · first + gamma · second

Inputs, residuals and output are views whose channels are adjacent in memory, with any strides
between pixels, rows and images. So a dense block writes what it grows into one wide buffer and
concatenates nothing, and the four phases of a folded upsampling write into one picture. Borders are
zeros, as in PyTorch; sizes and channel counts are free. Multiplication is that of the tensor cores
(fp16 or bf16 in, fp32 sum); bias, activation and residuals are fp32, and the result is rounded
once, where plain PyTorch rounds after every step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from vsr.engine.kernels import interpreted, launching, runs_on
from vsr.errors import DeviceError, UsageError

type Activation = Literal["none", "relu", "leaky", "prelu"]

_CODES: Final[dict[str, int]] = {"none": 0, "relu": 1, "leaky": 2, "prelu": 3}
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_UNIT = 16
"""Depth and smallest width of a matrix product."""
_PADDED = 128
"""Weights are padded with zeros to multiples of this, the largest block, so that they load without
a mask."""
_TILES = ((8, 16, 4), (16, 16, 8), (8, 32, 8), (4, 32, 4), (8, 16, 8), (8, 8, 4))
"""Rows and columns of pixels, and warps for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """How the work of one convolution is cut.

    Attributes:
        height: Rows of a tile of pixels; a power of two.
        width: Columns of it; a power of two. A tile has at least 16 pixels.
        outputs: Output channels of a program; a power of two from 16 to 128.
        depth: Input channels of one product; a power of two from 16 to 128.
        warps: Warps of a program; four make one warp group, whose product has 64 rows.
        stages: Loads under way.
        tma: Whether pictures are loaded through the tensor memory accelerator of compute capability
            9.0 and later; see `tma_fits`.
    """

    height: int = 8
    width: int = 16
    outputs: int = 64
    depth: int = 64
    warps: int = 4
    stages: int = 3
    tma: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Epilogue:
    """What follows the sum of a convolution.

    Attributes:
        alpha: Factor of the activated sum.
        residuals: At most two pairs (factor, picture of the output's shape), added afterwards.
    """

    alpha: float = 1.0
    residuals: tuple[tuple[float, Tensor], ...] = ()


class TritonConv2d(nn.Module):
    """A convolution and its activation, weights packed once.

    Args:
        conv: Stride 1, no dilation, one group, zero padding that keeps the size: 3×3 with padding 1
            and 1×1 with padding 0 are the usual ones. Its dtype is that of the products.
        activation: ReLU, LeakyReLU, PReLU or None.
        origin: (rows, columns) that the first tap lies above and to the left of the output's pixel;
            the convolution's padding if None. Even kernels need it.

    Raises:
        UsageError: A convolution or activation that the kernel does not know.
    """

    weight: Tensor
    bias: Tensor
    slope: Tensor

    def __init__(
        self,
        conv: nn.Conv2d,
        activation: nn.Module | None = None,
        origin: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        _check_conv(conv, origin)
        self.cout, self.cin, *kernel = conv.weight.shape
        self.kernel = (kernel[0], kernel[1])
        self.origin = origin or (int(conv.padding[0]), int(conv.padding[1]))
        self.flat = self.cin < _UNIT
        self.register_buffer("weight", pack(conv.weight.detach(), flat=self.flat))
        self.activation, self.leak, slope = _activation(activation, self.cout)
        bias = torch.zeros(self.cout) if conv.bias is None else conv.bias.detach()
        for name, values in (("bias", bias), ("slope", slope)):
            padded = torch.zeros(self.weight.shape[1], device=conv.weight.device)
            padded[: self.cout] = values.float()
            self.register_buffer(name, padded)
        self.block = default_block(self.cin, self.cout)
        self._seen: dict[TritonConv2d, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, Cin, H, W) to (N, Cout, H, W), channels last, in the weight's dtype."""
        x = x.to(self.weight.dtype)
        if x.stride(1) != 1 and x.shape[1] > 1:
            x = x.contiguous(memory_format=torch.channels_last)
        n, _, height, width = x.shape
        out = x.new_empty(n, height, width, self.cout).permute(0, 3, 1, 2)
        return self.into(x, out)

    def into(self, x: Tensor, out: Tensor, epilogue: Epilogue | None = None) -> Tensor:
        """Writes the result into a view.

        Args:
            x: (N, Cin, H, W), channels adjacent, dtype and device of the weights.
            out: (N, Cout, H, W), channels adjacent, any floating dtype. It may be one of the
                residuals, but not overlap what the convolution reads.
            epilogue: Factor and residuals.

        Returns:
            `out`.

        Raises:
            UsageError: Shapes, strides, dtypes or devices that do not fit.
            DeviceError: Neither a CUDA device nor Triton's interpreter.
        """
        if self._seen is not None:
            self._seen[self] = x
        return launch(self, x, out, epilogue or Epilogue(), self.block)

    def observe(self, seen: "dict[TritonConv2d, Tensor]") -> Callable[[], None]:
        """Notes what the convolution gets under itself in `seen`, until the result is called."""
        self._seen = seen
        return lambda: setattr(self, "_seen", None)


def pack(weight: Tensor, *, flat: bool) -> Tensor:
    """Lays weights out as the kernel reads them.

    Args:
        weight: (Cout, Cin, KH, KW).
        flat: Whether taps and channels are padded together, as for few channels, or channels alone.

    Returns:
        (rows, outputs): rows in order of tap, then channel, outputs adjacent; zeros where padded.
    """
    cout, cin, high, wide = weight.shape
    taps = weight.permute(2, 3, 1, 0).reshape(high * wide, cin, cout)
    columns = cout + -cout % _PADDED
    if flat:
        rows = high * wide * cin
        packed = taps.new_zeros(rows + -rows % _PADDED, columns)
        packed[:rows, :cout] = taps.reshape(rows, cout)
        return packed
    packed = taps.new_zeros(high * wide, cin + -cin % _PADDED, columns)
    packed[:, :cin, :cout] = taps
    return packed.flatten(0, 1)


def default_block(cin: int, cout: int) -> Block:
    """What is likely good on an H100: measured by nobody, `tuning` finds the best.

    128 pixels keep one warp group busy and leave half of an SM's memory to the L1 cache, with two
    programs on it.
    """
    outputs = min(64, max(_UNIT, _power(cout)))
    return Block(outputs=outputs, depth=32 if cin < _UNIT else min(64, _power(cin, down=True)))


def candidates(
    cin: int, cout: int, *, tma: bool = False, shared: int = 99 << 10
) -> tuple[Block, ...]:
    """Blocks worth trying for a number of channels: the default, then other tiles, then the rest.

    Left out is what is deeper or wider than the channels.

    Args:
        cin: Input channels.
        cout: Output channels.
        tma: Whether every other one shall load through the tensor memory accelerator.
        shared: Bytes of shared memory that a program may have: 99 KB on the least device since
            Ampere, 227 KB on Hopper. Samples take two bytes.
    """
    default = default_block(cin, cout)
    widths = sorted({default.outputs, min(128, max(_UNIT, _power(cout)))})
    depths = {default.depth} if cin < _UNIT else {default.depth, min(32, _power(cin, down=True))}
    found: dict[Block, None] = dict.fromkeys((default, replace(default, tma=tma)))
    for stages in (3, 4):
        for depth in sorted(depths, reverse=True):
            for outputs in widths:
                for height, width, warps in _TILES:
                    block = Block(
                        height=height,
                        width=width,
                        outputs=outputs,
                        depth=depth,
                        warps=warps,
                        stages=stages,
                    )
                    if shared_bytes(block) <= shared:
                        found |= dict.fromkeys((block, replace(block, tma=tma)))
    return tuple(found)


def shared_bytes(block: Block) -> int:
    """Shared memory of a program with samples of two bytes."""
    return 2 * block.stages * block.depth * (block.height * block.width + block.outputs)


def _power(number: int, *, down: bool = False) -> int:
    """The power of two that is not below a number, or not above it."""
    return 1 << (number.bit_length() - 1 if down else (number - 1).bit_length())


def launch(conv: TritonConv2d, x: Tensor, out: Tensor, epilogue: Epilogue, block: Block) -> Tensor:
    """Runs a convolution with a given block; see `TritonConv2d.into`."""
    _check(conv, x, out, epilogue)
    from vsr.engine.kernels._conv import conv as kernel  # noqa: PLC0415 - imports Triton

    n, _, height, width = out.shape
    tiles = -(-height // block.height) * -(-width // block.width)
    if block.tma and not tma_fits(conv, x):
        msg = (
            f"{block} needs aligned pictures of 16 channels or more and compute capability 9.0, "
            f"got strides {x.stride()} on {x.device}: use a block without tma"
        )
        raise UsageError(msg)
    views = [*(view for _, view in epilogue.residuals), out, out][:2]
    factors = [*(factor for factor, _ in epilogue.residuals), 0.0, 0.0][:2]
    with launching(x.device):
        kernel[n * tiles, -(-conv.cout // block.outputs)](
            _described(x, block) if block.tma else x,
            *_strides(x),
            conv.weight,
            conv.bias,
            conv.slope,
            views[0],
            *_strides(views[0]),
            views[1],
            *_strides(views[1]),
            out,
            *_strides(out),
            height,
            width,
            conv.leak,
            epilogue.alpha,
            *factors,
            CIN=conv.cin,
            COUT=conv.cout,
            CIN_PAD=conv.cin + -conv.cin % _PADDED,
            COUT_PAD=conv.weight.shape[1],
            KH=conv.kernel[0],
            KW=conv.kernel[1],
            PAD_Y=conv.origin[0],
            PAD_X=conv.origin[1],
            ACT=_CODES[conv.activation],
            RESIDUALS=len(epilogue.residuals),
            FLAT=conv.flat,
            TMA=block.tma,
            UPCAST=interpreted() and x.dtype == torch.bfloat16,
            BH=block.height,
            BW=block.width,
            BN=block.outputs,
            BK=block.depth,
            num_warps=block.warps,
            num_stages=block.stages,
            enable_fp_fusion=True,
        )
    return out


def tma_fits(conv: TritonConv2d, x: Tensor) -> bool:
    """Whether the tensor memory accelerator can load a picture: alignment, and the device."""
    if conv.flat or (x.is_cuda and torch.cuda.get_device_capability(x.device) < (9, 0)):
        return False
    aligned = all(stride * x.element_size() % 16 == 0 for stride in _strides(x))
    return aligned and x.data_ptr() % 16 == 0


def _described(x: Tensor, block: Block) -> Any:
    from vsr.engine.kernels._language import TensorDescriptor  # noqa: PLC0415 - imports Triton

    n, channels, height, width = x.shape
    box = [1, block.height, block.width, block.depth]
    return TensorDescriptor(x, [n, height, width, channels], [*_strides(x), 1], box)


def _strides(view: Tensor) -> tuple[int, int, int]:
    return view.stride(0), view.stride(2), view.stride(3)


def _activation(module: nn.Module | None, cout: int) -> tuple[Activation, float, Tensor]:
    match module:
        case None | nn.Identity():
            return "none", 0.0, torch.zeros(cout)
        case nn.ReLU():
            return "relu", 0.0, torch.zeros(cout)
        case nn.LeakyReLU():
            return "leaky", float(module.negative_slope), torch.zeros(cout)
        case nn.PReLU() if module.num_parameters in (1, cout):
            return "prelu", 0.0, module.weight.detach().expand(cout)
        case _:
            msg = (
                f"the convolution kernel has no activation {type(module).__name__} for {cout} "
                "channels: apply it afterwards, or use ReLU, LeakyReLU or PReLU"
            )
            raise UsageError(msg)


def _check_conv(conv: nn.Conv2d, origin: tuple[int, int] | None) -> None:
    plain = (conv.stride, conv.dilation, conv.groups) == ((1, 1), (1, 1), 1)
    kept = tuple((side - 1) / 2 for side in conv.kernel_size)
    same = origin is not None or conv.padding == kept
    if not plain or not same or conv.padding_mode != "zeros" or conv.weight.dtype not in _DTYPES:
        msg = (
            f"the convolution kernel cannot run {conv} in {conv.weight.dtype}: it needs stride 1, "
            "one group, zero padding that keeps the size, and fp16, bf16 or fp32; use cuDNN"
        )
        raise UsageError(msg)


def _check(conv: TritonConv2d, x: Tensor, out: Tensor, epilogue: Epilogue) -> None:
    views: Sequence[Tensor] = [view for _, view in epilogue.residuals]
    shape = (x.shape[0], conv.cout, *x.shape[2:])
    if x.ndim != 4 or x.shape[1] != conv.cin or out.shape != shape:
        msg = (
            f"got an input {tuple(x.shape)} and an output {tuple(out.shape)}, expected "
            f"(N, {conv.cin}, H, W) and (N, {conv.cout}, H, W)"
        )
        raise UsageError(msg)
    if len(views) > 2 or any(view.shape != shape for view in views):
        shapes = [tuple(view.shape) for view in views]
        msg = f"got residuals {shapes}, expected at most two of the output's shape {tuple(shape)}"
        raise UsageError(msg)
    for view in (x, out, *views):
        if view.stride(1) != 1 and view.shape[1] > 1:
            msg = f"got strides {view.stride()}, expected adjacent channels: make it channels_last"
            raise UsageError(msg)
        if view.device != conv.weight.device:
            msg = f"the weights are on {conv.weight.device}, a picture on {view.device}: move one"
            raise UsageError(msg)
    if x.dtype != conv.weight.dtype:
        msg = f"the weights are {conv.weight.dtype}, the input is {x.dtype}: convert one of them"
        raise UsageError(msg)
    if not runs_on(x.device):
        msg = f"Triton cannot run on {x.device}: it needs its package and a CUDA device; use cuDNN"
        raise DeviceError(msg)
