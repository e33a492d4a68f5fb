"""Sets up vsr and runs its tests: python3 scripts/test.py [arguments of pytest]."""

import os
import subprocess
import sys

from prepare import REPO, prepare


def main() -> int:
    python = prepare(tools=True)
    command = [str(python), "-m", "pytest", "-n", "auto", *sys.argv[1:]]
    one_thread_each = {"OMP_NUM_THREADS": "1"} | os.environ
    return subprocess.run(command, check=False, cwd=REPO, env=one_thread_each).returncode


if __name__ == "__main__":
    sys.exit(main())
