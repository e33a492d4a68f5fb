"""Triton for the kernels' sources, which can be read, but not run, where it is not installed."""
# mypy: disable-error-code="import-untyped, import-not-found"

from typing import Any

tl: Any = None
jit: Any = staticmethod
constexpr: Any = object
TensorDescriptor: Any = None
Failure: type[Exception] = RuntimeError  # of compiling, or for want of registers or shared memory

try:
    import triton
    import triton.language
    import triton.tools.tensor_descriptor
except ImportError:
    pass  # `kernels.available()` says so, and whoever launches a kernel asks there first
else:
    tl, jit, constexpr = triton.language, triton.jit, triton.language.constexpr
    TensorDescriptor = triton.tools.tensor_descriptor.TensorDescriptor
    Failure = triton.TritonError
