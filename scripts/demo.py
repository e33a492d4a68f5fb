"""Sets up vsr and upscales the example clip with the embedded model: python3 scripts/demo.py."""

import subprocess
import sys

from prepare import REPO, prepare


def main() -> int:
    python = prepare(tools=False)
    source, target = REPO / "examples" / "clip.mkv", REPO / "out" / "clip_x4.mkv"
    target.parent.mkdir(exist_ok=True)
    command = [str(python), "-m", "vsr", "upscale", str(source), "-s", "4", "-o", str(target), "-y"]
    code = subprocess.run(command, check=False).returncode
    if code == 0:
        print(f"Look at {target} (1280×720) beside {source} (320×180).")
    return code


if __name__ == "__main__":
    sys.exit(main())
