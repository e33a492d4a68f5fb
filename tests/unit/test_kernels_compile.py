"""The kernels compile for the GPUs that they are meant for, on a machine without one.

The interpreter takes what the compiler refuses. What a kernel is written for is looked up in the
assembly: matrix units, copies that pass through the L1 cache, and separate multiplications and
additions where codes must equal those of torch.
"""

import collections
import importlib.util
import re
from dataclasses import replace

import pytest

from vsr.engine.kernels import interpreted
from vsr.engine.kernels.conv3x3 import Block, default_block

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no triton"),
    pytest.mark.skipif(interpreted(), reason="the interpreter does not compile"),
]

NUMBERS = {"leak", "alpha", "beta", "gamma", "span", "top", "inverse", "chroma_inverse"}
NUMBERS |= {"offset", "offset_in", "chroma_offset"} | {c + n for c in "rgbyuv" for n in "012"}
INDICES = {"columns": "i32", "rows": "i32", "across": "fp32", "down": "fp32", "lines": "fp32"}
FLOATS = {"bias": "fp32", "slope": "fp32", "health": "fp32"}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def compiled(kernel, constants, pointers, *, capability=90, warps=4, stages=3, fusion=False):
    """Instructions of a kernel for a compute capability, counted, all addresses aligned."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    pointers = INDICES | FLOATS | pointers
    signature, attributes = {}, {}
    for position, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in pointers:
            described = "[" in pointers[name]
            signature[name] = f"tensordesc<{pointers[name]}>" if described else f"*{pointers[name]}"
        else:
            signature[name] = "fp32" if name in NUMBERS else "i32"
        if signature[name][0] == "*" or name.endswith(("_image", "_row", "_pixel")):
            attributes[position,] = [["tt.divisibility", 16]]
    values = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    done = triton.compile(
        ASTSource(fn=kernel, signature=signature, constexprs=values, attrs=attributes),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": warps, "num_stages": stages, "enable_fp_fusion": fusion},
    )
    assert done.asm["cubin"]
    return collections.Counter(
        re.findall(r"^\s+(?:@%p\d+ )?([a-z_]+[\w.:]*)", done.asm["ptx"], re.MULTILINE)
    )


def amount(found, start):
    return sum(count for name, count in found.items() if name.startswith(start))


def convolution(cin, cout, block, dtype, **options):
    from vsr.engine.kernels._conv import conv

    constants = {"CIN": cin, "COUT": cout, "CIN_PAD": 128, "COUT_PAD": 128, "KH": 3, "KW": 3}
    constants |= {"PAD_Y": 1, "PAD_X": 1, "ACT": 3, "RESIDUALS": 2, "FLAT": cin < 16}
    constants |= {"UPCAST": False, "BH": block.height, "BW": block.width}
    constants |= {"TMA": block.tma, "BN": block.outputs, "BK": block.depth}
    pictures = dict.fromkeys(("x", "w", "first", "second", "out"), dtype)
    if block.tma:
        pictures["x"] = f"{dtype}[1,{block.height},{block.width},{block.depth}]"
    options |= {"warps": block.warps, "stages": block.stages, "fusion": True}
    return compiled(conv, constants, pictures, **options)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize(("tma", "copy"), [(False, "cp.async.ca"), (True, "cp.async.bulk.tensor")])
def test_the_convolution_on_hopper(dtype, tma, copy):
    found = convolution(64, 64, replace(default_block(64, 64), tma=tma), dtype)
    assert amount(found, "wgmma.mma_async") > 0
    assert amount(found, copy) > 0


def test_the_convolution_before_hopper():
    found = convolution(96, 32, default_block(96, 32), "fp16", capability=80)
    assert amount(found, "mma.sync") > 0
    assert amount(found, "cp.async.ca") > 0


def test_first_and_odd_layers():
    assert amount(convolution(3, 64, default_block(3, 64), "fp16"), "wgmma") > 0
    odd = Block(height=4, width=32, outputs=16, depth=16, warps=4, stages=2)
    assert amount(convolution(20, 3, odd, "bf16"), "wgmma") > 0


@pytest.mark.parametrize(
    ("name", "constants", "pointers"),
    [
        ("luma_in", {}, {"plane": "u16", "out": "fp16"}),
        (
            "luma_out",
            {"S": 4, "BASE": True},
            {"detail": "fp16", "plane": "u8", "out": "u8"},
        ),
        ("resample", {"TX": 4, "TY": 5}, {"plane": "u8", "out": "u16"}),
        (
            "rgb_in",
            {"FAMILY": 1, "TX": 4, "TY": 4},
            {"p": "u8", "q": "u8", "r": "u8", "out": "bf16"},
        ),
        (
            "rgb_out",
            {"S": 4, "BASE": True, "PLANES": 1},
            {"detail": "fp16", "base": "fp16", "p": "u8", "q": "u8", "r": "u8"},
        ),
        (
            "chroma_rows",
            {"S": 1, "BASE": False, "TX": 9},
            {"detail": "bf16", "base": "bf16", "out": "fp32"},
        ),
        ("chroma_columns", {"TY": 8}, {"out": "u16"}),
    ],
)
def test_the_ends(name, constants, pointers):
    from vsr.engine.kernels import _planes

    found = compiled(getattr(_planes, name), constants | {"BY": 4, "BX": 128}, pointers)
    assert amount(found, "st.global") > 0
    assert amount(found, "fma") == 0
