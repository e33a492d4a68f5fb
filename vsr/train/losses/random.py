"""Features that need no weights: fixed random filters at several scales.

Whoever has no VGG at hand gets a stand-in with two of its properties that matter to a perceptual
loss: features of neighbouring pixels are judged together, and pooling forgives small shifts, so
that texture need not be averaged away. Liu, Chen, Chen, "A Generic Perceptual Loss for Modeling
Structured Output Dependencies", 2021, arXiv:2103.10571, show that a VGG's structure with random
weights does most of the work of a trained one; what it lacks is any notion of objects. Chosen over
losses on gradients or wavelets because these are fidelity losses: linear in the difference, they
still ask for the mean of all plausible textures.

The filters are orthogonal 3×3 ones, the first without a response to flat areas, drawn by a fixed
seed of a generator of their own, so that every run compares alike.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

_SEED = 20210327
LAYERS = ("scale1", "scale2", "scale3")


class RandomFeatures(nn.Module):
    """Three levels of two 3×3 convolutions each, halved in between; frozen.

    Args:
        width: Features of the first level; doubled at each further one.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(_SEED)
        self.convs = nn.ModuleDict()
        into = 3
        for level, name in enumerate(LAYERS):
            out = width * 2**level
            self.convs[name] = nn.Sequential(
                _filters(into, out, generator, balanced=level == 0),
                nn.LeakyReLU(0.2),
                _filters(out, out, generator, balanced=False),
            )
            into = out
        self.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Maps (N, 3, H, W) in [0, 1] to features before activation, by level."""
        found: dict[str, Tensor] = {}
        for name, conv in self.convs.items():
            found[name] = y = conv(x)
            x = F.avg_pool2d(F.leaky_relu(y, 0.2), 2)
        return found


def _filters(into: int, out: int, generator: torch.Generator, *, balanced: bool) -> nn.Conv2d:
    """A convolution that keeps the energy of its input; balanced filters do not see flat areas."""
    conv = nn.Conv2d(into, out, 3, padding=1, padding_mode="replicate", bias=False)
    nn.init.orthogonal_(conv.weight, 2.0**0.5, generator=generator)
    if balanced:
        weight = conv.weight.data
        weight -= weight.mean((2, 3), keepdim=True)
    return conv
