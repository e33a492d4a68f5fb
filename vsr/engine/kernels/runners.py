"""Whole networks made of `TritonConv2d`: what the kernel's epilogue and strides are for.

A runner takes the torch module, leaves it as it is, and computes the same on its device. Nothing
is kept between calls, so that a runner may be captured in a CUDA graph; PyTorch's allocator hands
the same blocks out again.

In a dense block each convolution reads all channels before it in one wide buffer and writes its own
behind them. Three such buffers serve the whole trunk of RRDB: the three dense blocks of an RRDB go
from the first to the second to the third and back into the first, where the outer residual lies; a
program reads the residual of the very pixels that it writes, and no others.
"""

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsr.engine.kernels.conv3x3 import Epilogue, TritonConv2d
from vsr.engine.kernels.folds import check_foldable, phase_weights
from vsr.errors import UsageError
from vsr.models.compact import Compact
from vsr.models.rrdb import RRDB, DenseBlock, RRDBNet

_LEAKY = nn.LeakyReLU(0.2)


def _own(conv: nn.Conv2d, dtype: torch.dtype, activation: nn.Module | None = None) -> TritonConv2d:
    return TritonConv2d(copy.deepcopy(conv).to(dtype), activation)


def _pixels(n: int, height: int, width: int, channels: int, like: Tensor) -> Tensor:
    return like.new_empty(n, height, width, channels).permute(0, 3, 1, 2)


class StackRunner:
    """A compact network.

    Args:
        network: Of convolutions and activations in turn.
        dtype: Of the products.

    Raises:
        UsageError: A network that was changed, by fusing for instance.
    """

    def __init__(self, network: Compact, dtype: torch.dtype) -> None:
        self.scale, self.dtype = network.scale, dtype
        layers = [*network.body, None]
        convs = []
        for conv, activation in zip(layers[::2], layers[1::2], strict=True):
            if not isinstance(conv, nn.Conv2d):
                msg = f"expected convolutions and activations in turn, got {type(conv).__name__}"
                raise UsageError(msg)
            convs.append(_own(conv, dtype, activation))
        self.layers = tuple(convs)

    def detail(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C·s², H, W) in `dtype`, channels last: before the shuffle."""
        for conv in self.layers:
            x = conv(x)
        return x

    def __call__(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W), dtype of the input."""
        detail = F.pixel_shuffle(self.detail(x), self.scale).to(x.dtype)
        return detail + F.interpolate(x, scale_factor=self.scale, mode="nearest")


class DenseRunner:
    """A dense block of RRDB.

    Args:
        block: Five convolutions.
        dtype: Of the products and of what it passes on.
    """

    def __init__(self, block: DenseBlock, dtype: torch.dtype) -> None:
        grown = [block.conv1, block.conv2, block.conv3, block.conv4]
        self.dtype = dtype
        self.grow = tuple(_own(conv, dtype, _LEAKY) for conv in grown)
        self.join = _own(block.conv5, dtype)
        self.layers = (*self.grow, self.join)
        self.features, self.width = block.conv1.in_channels, block.conv5.in_channels

    def run(self, wide: Tensor, out: Tensor, epilogue: Epilogue) -> None:
        """Fills a wide buffer, whose first channels are the input, and writes the block's result.

        Args:
            wide: (N, `width`, H, W), channels adjacent; what follows the first `features` is
                overwritten.
            out: (N, `features`, H, W) elsewhere.
            epilogue: What becomes of the last convolution.
        """
        seen = self.features
        for conv in self.grow:
            conv.into(wide[:, :seen], wide[:, seen : seen + conv.cout])
            seen += conv.cout
        self.join.into(wide, out, epilogue)

    def __call__(self, x: Tensor) -> Tensor:
        """Maps (N, F, H, W) to the same in `dtype`, channels last."""
        n, _, height, width = x.shape
        wide = _pixels(n, height, width, self.width, x.to(self.dtype))
        wide[:, : self.features] = x
        out = _pixels(n, height, width, self.features, wide)
        self.run(wide, out, Epilogue(alpha=0.2, residuals=((1.0, wide[:, : self.features]),)))
        return out


class PhaseRunner:
    """Nearest ×2 and a 3×3 convolution as four 2×2 convolutions that write into one picture.

    Args:
        conv: The 3×3 convolution.
        dtype: Of the products.
        activation: What follows it.

    Raises:
        UsageError: A convolution that does not fold.
    """

    def __init__(
        self, conv: nn.Conv2d, dtype: torch.dtype, activation: nn.Module | None = None
    ) -> None:
        check_foldable(conv)
        weights = phase_weights(conv.weight.detach())
        self.cout = conv.out_channels
        phases = []
        for p in (0, 1):
            for q in (0, 1):
                one = nn.Conv2d(conv.in_channels, self.cout, 2, bias=conv.bias is not None)
                one.weight, one.bias = nn.Parameter(weights[p, q]), copy.deepcopy(conv.bias)
                phases.append(TritonConv2d(one.to(dtype), activation, origin=(1 - p, 1 - q)))
        self.layers = tuple(phases)

    def __call__(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W), channels last, to (N, K, 2·H, 2·W), same dtype, channels last."""
        n, _, height, width = x.shape
        out = _pixels(n, 2 * height, 2 * width, self.cout, x)
        for index, phase in enumerate(self.layers):
            p, q = divmod(index, 2)
            phase.into(x, out[:, :, p::2, q::2])
        return out


class RRDBRunner:
    """RRDBNet.

    In bfloat16 the last convolution stays in float32 by cuDNN, as `RRDBNet.full_precision` asks.

    Args:
        network: In float32.
        dtype: Of the products.
    """

    def __init__(self, network: RRDBNet, dtype: torch.dtype) -> None:
        self.unshuffle, self.dtype = network.unshuffle, dtype
        self.conv_first = _own(network.conv_first, dtype)
        blocks = [block for rrdb in network.body for block in _dense(rrdb)]
        self.body = tuple(DenseRunner(block, dtype) for block in blocks)
        self.conv_body = _own(network.conv_body, dtype)
        ups = (network.get_submodule(name) for name in network.up_names)
        self.ups = tuple(
            PhaseRunner(conv, dtype, _LEAKY) for conv in ups if isinstance(conv, nn.Conv2d)
        )
        self.conv_hr = _own(network.conv_hr, dtype, _LEAKY)
        self.conv_last: nn.Module = (
            copy.deepcopy(network.conv_last).float().requires_grad_(requires_grad=False)
            if dtype == torch.bfloat16
            else _own(network.conv_last, dtype)
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, C, s·H, s·W), dtype of the input."""
        y = F.pixel_unshuffle(x, self.unshuffle) if self.unshuffle > 1 else x
        y = self._trunk(self.conv_first(y))
        for up in self.ups:
            y = up(y)
        y = self.conv_hr(y)
        y = self.conv_last(y.float() if self.dtype == torch.bfloat16 else y)
        out: Tensor = y.to(x.dtype)
        return out

    @property
    def layers(self) -> tuple[TritonConv2d, ...]:
        """All convolutions by the own kernel."""
        last = [self.conv_last] if isinstance(self.conv_last, TritonConv2d) else []
        body = [layer for block in self.body for layer in block.layers]
        ups = [layer for up in self.ups for layer in up.layers]
        return (self.conv_first, *body, self.conv_body, *ups, self.conv_hr, *last)

    def _trunk(self, first: Tensor) -> Tensor:
        n, features, height, width = first.shape
        wide = max((block.width for block in self.body), default=features)
        a, b, c = (_pixels(n, height, width, wide, first) for _ in range(3))
        start, middle, end = (buffer[:, :features] for buffer in (a, b, c))
        start.copy_(first)
        blocks = iter(self.body)
        for one, two, three in zip(blocks, blocks, blocks, strict=True):
            one.run(a, middle, Epilogue(alpha=0.2, residuals=((1.0, start),)))
            two.run(b, end, Epilogue(alpha=0.2, residuals=((1.0, middle),)))
            three.run(c, start, Epilogue(alpha=0.04, residuals=((0.2, end), (1.0, start))))
        out = _pixels(n, height, width, features, first)
        return self.conv_body.into(start, out, Epilogue(residuals=((1.0, first),)))


def _dense(rrdb: nn.Module) -> Iterator[DenseBlock]:
    if not isinstance(rrdb, RRDB):
        msg = f"expected blocks of RRDB, got {type(rrdb).__name__}: use the plain network"
        raise UsageError(msg)
    yield from (rrdb.rdb1, rrdb.rdb2, rrdb.rdb3)
