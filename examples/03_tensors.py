"""Uses a network on tensors: python examples/03_tensors.py.

A model maps (N, C, H, W) with values from 0 to 1 to (N, C, scale·H, scale·W), on the same device
and with the same type. It is a plain callable: padding, tiling and precision are its own business.
"""

import torch

import vsr

upscaler = vsr.load_model("vsr-fast", scale=2, device="cpu", precision="fp32")

x = torch.rand(1, 3, 90, 160)
y = upscaler(x)
print(f"{tuple(x.shape)} → {tuple(y.shape)}, from {y.min():.2f} to {y.max():.2f}")

spec = upscaler.spec
print(f"an output pixel sees {spec.overlap} input pixels to each side, so tiles that overlap by")
tiled = vsr.load_model("vsr-fast", scale=2, device="cpu", precision="fp32", tile=64)
print(f"as much change nothing: the largest difference is {(tiled(x) - y).abs().max():.0e}")
