"""Weights: safe reading, the cache, verified downloads, and interpolation.

    read_checkpoint(path)            tensors and header of a .safetensors or .pth file; runs no code
    save_checkpoint(path, …)         writes a .safetensors file with the header that `build` reads
    blend(a, b, alpha)               between the weights of two networks; `blending`: of any number
    ensure(entry, …)                 the local file of a published checkpoint, downloaded if need be
    verify(entry)                    whether that file is there and what it should be
    cache_dir(), cached_path(entry)  where downloads lie

Importing this package does not import torch; the first three names do when they are used.
"""

from typing import TYPE_CHECKING, Any

from vsr.checkpoints.cache import Remote, Status, cache_dir, cached_path, ensure, verify

if TYPE_CHECKING:
    from vsr.checkpoints.reading import Checkpoint, read_checkpoint
    from vsr.checkpoints.weights import blend, save_checkpoint

__all__ = [
    "Checkpoint",
    "Remote",
    "Status",
    "blend",
    "cache_dir",
    "cached_path",
    "ensure",
    "read_checkpoint",
    "save_checkpoint",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in {"Checkpoint", "read_checkpoint"}:
        from vsr.checkpoints import reading as home  # noqa: PLC0415 - it needs torch
    elif name in {"blend", "save_checkpoint"}:
        from vsr.checkpoints import weights as home  # type: ignore[no-redef]  # noqa: PLC0415
    else:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(home, name)
