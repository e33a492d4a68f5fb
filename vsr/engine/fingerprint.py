"""Tells whether networks are still the same."""

import hashlib

import torch
from torch import nn

from vsr.engine.loading import Model

_DIGITS = 16


def fingerprint(model: Model) -> str:
    """Describes what a model computes in a few words that change when it does."""
    digest = hashlib.sha256(f"{model.spec}\0{model.kernel}\0{model.passes}".encode())
    modules = [model.module]
    if model.faces is not None:
        modules += [model.faces.detector, model.faces.restorer]
    for module in modules:
        if module is not None:
            _update(digest, module)
    return f"{model.name} ({digest.hexdigest()[:_DIGITS]})"


def _update(digest: "hashlib._Hash", module: nn.Module) -> None:
    digest.update(type(module).__name__.encode())
    for name, value in module.state_dict().items():
        digest.update(f"{name}\0{tuple(value.shape)}\0{value.dtype}\0".encode())
        flat = value.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes())
