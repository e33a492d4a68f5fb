"""Versions of `vsr` and its libraries, read from what is installed, without importing any of it."""

import importlib.util
import platform
import re
from importlib import metadata
from pathlib import Path

_LIBRARIES = ("torch", "av", "numpy", "vapoursynth", "safetensors", "click", "tqdm")
_FFMPEG_FILE = re.compile(r"(?:lib)?(avcodec|avformat|avutil|avfilter|swscale|swresample)\b")
_NUMBER = re.compile(r"(?:\.so\.|\.|-)(\d+(?:\.\d+)*)(?=\.(?:dylib|dll)$|-[0-9a-f]{8,}\.dll$|$)")


def lines() -> list[str]:
    """One line each: program, Python, libraries, FFmpeg's parts, CUDA."""
    system = f"{platform.system()} {platform.machine()}"
    found = [f"vsr {_version('vsr')}", f"Python {platform.python_version()} ({system})"]
    for name in _LIBRARIES:
        extra = {"torch": _cuda(), "av": _ffmpeg()}.get(name, "")
        found.append(f"{name} {_version(name)}{f' ({extra})' if extra else ''}")
    return found


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cuda() -> str:
    """CUDA version that torch was built with; its version file is read, not run."""
    found = importlib.util.find_spec("torch")  # finds a top-level package without importing it
    if found is None or not found.submodule_search_locations:
        return ""
    file = Path(found.submodule_search_locations[0]) / "version.py"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    match = re.search(r"^cuda\b[^=]*= *['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return f"CUDA {match[1]}" if match else "no CUDA"


def _ffmpeg() -> str:
    """FFmpeg library versions from the names of the files inside PyAV's wheel."""
    try:
        files = metadata.files("av") or []
    except metadata.PackageNotFoundError:
        return ""
    found = {}
    for file in files:
        library, number = _FFMPEG_FILE.match(file.name), _NUMBER.search(file.name)
        if library and number and "av" not in file.parts:
            found[library[1]] = number[1]
    return ", ".join(f"{name} {found[name]}" for name in sorted(found)) or "FFmpeg of the system"
