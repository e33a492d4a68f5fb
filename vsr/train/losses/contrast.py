"""Contrast: views of one picture should be told from those of all others.

He, Fan, Wu, Xie, Girshick 2019 (MoCo), arXiv:1911.05722; used by DASR (Wang et al. 2021,
arXiv:2104.00416, equation 3) to learn what degradation a patch suffered: two patches of one
low-resolution picture share it, patches of others do not.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float = 0.07) -> Tensor:
    """Cross entropy of finding each query's own key among the queue.

    Args:
        query: (N, D), of unit length.
        key: (N, D), of unit length, treated as constant.
        queue: (K, D), keys of earlier pictures, of unit length.
        temperature: By which similarities are divided; above 0.

    Returns:
        A scalar; log(K + 1) where nothing is known.
    """
    own = (query * key.detach()).sum(1, keepdim=True)
    others = query @ queue.detach().t()
    logits = torch.cat([own, others], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))
