"""Samples to learn from, out of folders of pictures and videos.

    open_data(settings, scale, seed)   a `torch.utils.data.Dataset` of `Sample`
    fingerprint(settings)              sha256 of the files' names and contents

Item `i` of epoch `e` depends on the seed, `e` and `i` alone: `set_epoch(e)`, then `dataset[i]`. So
neither the number of workers nor where a run was interrupted changes what is learned from.
Importing this package does not import torch.
"""

from typing import TYPE_CHECKING, Any

from vsr.train.data.files import fingerprint
from vsr.train.data.settings import DataSettings

if TYPE_CHECKING:
    from vsr.train.data.dataset import Crops, open_data
    from vsr.train.data.sample import Sample

__all__ = ["Crops", "DataSettings", "Sample", "fingerprint", "open_data"]


def __getattr__(name: str) -> Any:
    if name in {"Crops", "open_data"}:
        from vsr.train.data import dataset as home  # noqa: PLC0415 - it needs torch
    elif name == "Sample":
        from vsr.train.data import sample as home  # type: ignore[no-redef]  # noqa: PLC0415
    else:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(home, name)
