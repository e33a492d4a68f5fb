"""Makes .venv with vsr and the developers' tools in it, as pinned in constraints.txt.

    python3 scripts/prepare.py

`demo.py` and `test.py` call it, so nobody needs to. It needs nothing but Python and pip, costs a
moment when nothing has changed, and keeps a PyTorch that is already in .venv if its version fits.
"""

import sys

if sys.version_info < (3, 12):  # noqa: UP036 - an older one is what this line is for
    found = ".".join(map(str, sys.version_info[:3]))
    sys.exit(f"vsr needs Python 3.12 or newer, this is {found}: call this script with a newer one")

import hashlib
import importlib.util
import os
import subprocess
import tomllib
import venv
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
VENV = REPO / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def prepare(*, tools: bool) -> Path:
    """Returns the interpreter of .venv, which has vsr and, if asked for, the developers' tools."""
    stamp = VENV / ("prepared-for-tests" if tools else "prepared")
    wanted = hashlib.sha256(
        (REPO / "pyproject.toml").read_bytes() + (REPO / "constraints.txt").read_bytes()
    ).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return PYTHON
    if not PYTHON.exists():
        print(f"making {VENV}", flush=True)
        venv.create(VENV, symlinks=os.name != "nt", with_pip=not _has_pip())
    _install(["--editable", str(REPO), *(_developers_tools() if tools else [])])
    stamp.write_text(wanted)
    return PYTHON


def _has_pip() -> bool:
    return importlib.util.find_spec("pip") is not None


def _developers_tools() -> list[str]:
    """The group `dev`; read here because older versions of pip do not know groups."""
    return tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["dependency-groups"]["dev"]


def _install(what: list[str]) -> None:
    # A pip from outside serves where Debian's Python cannot put one inside (no ensurepip).
    pip = [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    if not _has_pip():
        pip = [str(PYTHON), "-m", "pip"]
    command = [*pip, "install", "--disable-pip-version-check", "-c", str(REPO / "constraints.txt")]
    done = subprocess.run([*command, *what], check=False)
    if done.returncode:
        sys.exit(f"pip could not install what vsr needs (exit code {done.returncode}), see above")


if __name__ == "__main__":
    prepare(tools=True)
