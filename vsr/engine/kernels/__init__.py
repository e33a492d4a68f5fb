"""Own kernels for CUDA: convolutions with their epilogue, planes to networks and back, graphs.

Everything here is an option beside plain PyTorch, which stays the reference and the fallback: no
other part of `vsr` needs Triton, and it is imported only when a kernel is first launched (its
import takes seconds). With `TRITON_INTERPRET=1` in the environment the kernels run on the CPU, line
by line in numpy, for the tests.

    conv3x3   convolution with bias, activation and scaled residuals, in and out of strided views
    tuning    the fastest tile of a convolution on this device, and whether cuDNN beats it
    runners   a compact network and RRDB made of these convolutions
    ends      integer planes → half pictures; network output → shuffled, rounded integer planes
    folds     nearest ×2 or an area reduction folded into the weights of a convolution
    graphs    CUDA graphs, one for each shape
"""

import contextlib
import importlib.util
import os

import torch


def interpreted() -> bool:
    """Whether Triton runs in its interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "") == "1"


def available() -> bool:
    """Whether kernels can run here: Triton is installed, and a CUDA device or the interpreter."""
    if importlib.util.find_spec("triton") is None:
        return False
    if interpreted():
        return True
    return torch.cuda.is_available() and torch.version.cuda is not None


def runs_on(device: torch.device) -> bool:
    """Whether kernels can run on tensors of a device."""
    return available() and (device.type == "cuda" or interpreted())


def launching(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Makes a device the current one, which is where Triton launches."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    return torch.cuda.device(device)
