"""Runs tests in a process of their own, in which Triton interprets its kernels."""

import os
import subprocess
import sys

from tests.media import REPO


def interpreted_run(file: str) -> "subprocess.CompletedProcess[str]":
    """Runs the tests of a file whose names hold `TestInterpreted`."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return subprocess.run(
        [*command, "-k", "TestInterpreted", file],
        cwd=REPO,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
