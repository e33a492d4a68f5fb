"""What the benchmarks share: a description of the machine, tables, result files, bars."""

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

import vsr

RESULTS = Path(__file__).resolve().parent / "results"
_INK, _BAR, _PAPER = "#1c2733", "#3f7cac", "#ffffff"


def processor() -> str:
    """Product name of the CPU, by /proc/cpuinfo where there is one."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def machine(device: torch.device | None = None) -> dict[str, Any]:
    """Describes what the figures were measured on."""
    flags = torch.cpu.get_capabilities()
    useful = [name for name in ("avx512_bf16", "amx_bf16", "avx512_vnni") if flags.get(name)]
    gpu = device is not None and device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else "cpu",
        "processor": processor(),
        "features": useful,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vsr": vsr.__version__,
    }


def slug(text: str) -> str:
    """A name as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def write(name: str, facts: Mapping[str, Any]) -> Path:
    """Writes results/<name>.json."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def bars(path: Path, title: str, rows: Sequence[tuple[str, float]], unit: str) -> None:
    """Draws a bar for every figure."""
    font = ImageFont.load_default(15)
    height, left, width = 30, 330, 900
    picture = Image.new("RGB", (width, 50 + height * len(rows)), _PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((12, 12), title, _INK, font)
    most = max(value for _, value in rows)
    for number, (label, value) in enumerate(rows):
        top = 44 + number * height
        length = (width - left - 130) * value / most
        draw.text((12, top), label, _INK, font)
        draw.rectangle((left, top, left + length, top + height - 10), _BAR)
        draw.text((left + length + 8, top), f"{value:.1f} {unit}", _INK, font)
    picture.save(path)
