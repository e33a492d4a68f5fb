"""What a generator and a discriminator want of each other.

A discriminator gives logits of any shape, one for a picture or one for every pixel. The losses are:

    vanilla        Goodfellow et al. 2014, arXiv:1406.2661: cross entropy; the generator's version
                   is the non-saturating one
    lsgan          Mao et al. 2016, arXiv:1611.04076: squared distance to 1 and 0
    hinge          Lim, Ye 2017, arXiv:1705.02894
    wgan           Arjovsky et al. 2017, arXiv:1701.07875: the logits themselves
    wgan_softplus  StyleGAN's, Karras et al. 2018, arXiv:1812.04948: softplus of them

`relativistic` averages over the other kind first: Jolicoeur-Martineau 2018, arXiv:1807.00734.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

type GanKind = Literal["vanilla", "lsgan", "hinge", "wgan", "wgan_softplus"]


def verdict(kind: GanKind, logits: Tensor, *, real: bool, judge: bool) -> Tensor:
    """Loss of logits that should say `real`.

    Args:
        kind: Which loss.
        logits: Of a discriminator, any shape.
        real: Whether they should say "real" rather than "made".
        judge: Whether the discriminator is trained; the hinge differs for the generator.

    Returns:
        A scalar.
    """
    match kind:
        case "vanilla":
            return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))
        case "lsgan":
            return ((logits - float(real)) ** 2).mean()
        case "hinge":
            if not judge:
                return -logits.mean()
            return F.relu(1 - logits if real else 1 + logits).mean()
        case "wgan":
            return -logits.mean() if real else logits.mean()
        case "wgan_softplus":
            return F.softplus(-logits if real else logits).mean()


def judge_loss(kind: GanKind, real: Tensor, made: Tensor, *, relativistic: bool) -> Tensor:
    """The discriminator's loss.

    Args:
        kind: Which loss.
        real: Logits of real pictures.
        made: Logits of made pictures, which must not lead back to the generator.
        relativistic: Whether real ones should only look more real than made ones on average
            (ESRGAN's equation 1), and both halves count half.
    """
    if relativistic:
        first = verdict(kind, real - made.mean(), real=True, judge=True)
        return (first + verdict(kind, made - real.mean(), real=False, judge=True)) / 2
    first = verdict(kind, real, real=True, judge=True)
    return first + verdict(kind, made, real=False, judge=True)


def maker_loss(kind: GanKind, made: Tensor, real: Tensor | None, *, relativistic: bool) -> Tensor:
    """The generator's loss.

    Args:
        kind: Which loss.
        made: Logits of made pictures.
        real: Logits of real pictures, needed if `relativistic`; treated as constants.
        relativistic: Whether made ones should look more real than real ones on average
            (ESRGAN's equation 2).

    Raises:
        ValueError: Relativistic without the logits of real pictures.
    """
    if not relativistic:
        return verdict(kind, made, real=True, judge=False)
    if real is None:
        msg = "a relativistic loss needs the logits of real pictures, got none"
        raise ValueError(msg)
    real = real.detach()
    first = verdict(kind, real - made.mean(), real=False, judge=False)
    return (first + verdict(kind, made - real.mean(), real=True, judge=False)) / 2


def gradient_penalty(judge: Callable[[Tensor], Tensor], real: Tensor, made: Tensor) -> Tensor:
    """Mean of (‖gradient‖ − 1)² between real and made pictures.

    Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville 2017 (WGAN-GP), arXiv:1704.00028, equation 3;
    the paper's weight is 10.

    Args:
        judge: The discriminator.
        real: (N, C, H, W).
        made: The same shape, detached.

    Returns:
        A scalar through which the discriminator can be trained.
    """
    share = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
    between = torch.lerp(real.detach(), made.detach(), share).requires_grad_()
    logits = judge(between).flatten(1).mean(1)  # a discriminator of patches counts as their mean
    (gradient,) = torch.autograd.grad(logits.sum(), between, create_graph=True)
    lengths: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return (lengths - 1).square().mean()
