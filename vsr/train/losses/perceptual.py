"""Distances between features: perceptual losses.

Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution",
2016, arXiv:1603.08155. SRGAN compares behind the activation of VGG19's `conv5_4` by L2, ESRGAN
before it by L1, Real-ESRGAN five layers by L1.
"""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

type Criterion = Literal["l1", "l2"]


class FeatureDistance(nn.Module):
    """Weighted mean distance between the features of two pictures.

    Args:
        features: Maps (N, 3, H, W) in [0, 1] to features by layer name; frozen.
        weights: By layer name.
        criterion: How features are compared.
    """

    def __init__(
        self, features: nn.Module, weights: Mapping[str, float], criterion: Criterion = "l1"
    ) -> None:
        super().__init__()
        self.features, self.weights = features, dict(weights)
        self.criterion = criterion

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compares (N, C, H, W) in [0, 1] with the same shape; gray is repeated. A scalar."""
        if output.shape[1] == 1:
            output, target = output.expand(-1, 3, -1, -1), target.expand(-1, 3, -1, -1)
        distance = F.l1_loss if self.criterion == "l1" else F.mse_loss
        made = self.features(output)
        with torch.no_grad():
            true = self.features(target)
        total = output.new_zeros(())
        for name, weight in self.weights.items():
            total = total + weight * distance(made[name], true[name])
        return total
