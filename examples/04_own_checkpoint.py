"""Runs a checkpoint of your own: python examples/04_own_checkpoint.py [CHECKPOINT [INPUT]].

Architecture and size are recognised by the names and shapes of the weights; nothing needs to be
said. Files are read without running any code in them. Without a checkpoint, this makes an untrained
one, which gives the picture repeated plus a little noise.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import vsr
from vsr.models.compact import Compact, CompactConfig

checkpoint = Path(sys.argv[1] if len(sys.argv) > 1 else "untrained.safetensors")
source = sys.argv[2] if len(sys.argv) > 2 else "examples/clip.mkv"

if len(sys.argv) < 2:
    torch.manual_seed(0)
    save_file(Compact(CompactConfig(features=16, convs=2, scale=2)).state_dict(), checkpoint)

upscaler = vsr.load_model(checkpoint, device="cpu")
print(f"{checkpoint} enlarges {upscaler.spec.scale} times")

result = vsr.upscale(
    source, "own.mkv", scale=upscaler.spec.scale, model_path=checkpoint, device="cpu"
)
print(f"{result.target}: {result.frames} frames of {result.size[0]}×{result.size[1]}")
