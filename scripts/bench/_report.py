"""What the benchmarks share: a description of the machine, tables, result files, pictures."""

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from _charts import charts
from _drawing import paint, told

import vsr

RESULTS = Path(__file__).resolve().parent / "results"


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
    """Writes results/<name>.json, and its picture where its kind has one."""
    return save(RESULTS / f"{name}.json", facts)


def save(path: Path, facts: Mapping[str, Any], kind: str | None = None) -> Path:
    """Writes a result file, and its picture beside it.

    Args:
        path: Of the file.
        facts: What was measured, as JSON has it.
        kind: Of the benchmark; None takes it from the file's name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, "utf-8")
    # drawn of what the file says, as later from the file alone
    draw(path.with_suffix(".png"), kind or kind_of(path), json.loads(text))
    return path


def kind_of(path: Path) -> str:
    """The benchmark that a result file is of: what its name begins with."""
    return path.stem.partition("-")[0]


def draw(path: Path, kind: str, facts: Mapping[str, Any]) -> None:
    """Draws the picture of a result, if its kind has one."""
    if parts := charts(kind, facts):
        paint(path, parts, measured_on(facts))


def picture_of(kind: str, facts: Mapping[str, Any]) -> str | None:
    """What `draw` would draw, in words: None if nothing."""
    parts = charts(kind, facts)
    return told(parts, measured_on(facts)) if parts else None


def measured_on(facts: Mapping[str, Any]) -> str:
    """The machines of a result, short: product and cores."""
    names = [", ".join(name.split(", ")[:2]) for name in machines(facts)]
    return f"measured on {'; '.join(dict.fromkeys(names))}"


def machines(facts: Mapping[str, Any]) -> list[str]:
    """In words: the machines that a file names, wherever it does; each once."""
    found = [_told(facts)] if {"processor", "device", "python"} & facts.keys() else []
    parts: list[Any] = [facts]
    while parts:
        part = parts.pop(0)
        if isinstance(part, dict):
            load = {"load_at_start": part.get("load_at_start")}
            found += [_told(part["machine"] | load)] if "machine" in part else []
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    return list(dict.fromkeys(found))


def _told(machine: Mapping[str, Any]) -> str:
    device = machine.get("device", "cpu")
    cores = machine.get("cores") or machine.get("threads")
    versions = machine.get("versions", {}) | {
        name: machine[name] for name in ("python", "torch", "triton", "vsr") if name in machine
    }
    load = machine.get("load_at_start")
    parts = [
        device if device != "cpu" else "",
        machine.get("processor") or machine.get("host") or "",
        f"{cores} cores" if cores else "",
        " ".join(machine.get("features", ())),
        machine.get("system", ""),
        *(f"{name} {version}" for name, version in versions.items()),
        f"load {load} at the start" if load is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
