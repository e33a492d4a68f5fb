"""What several CPU members give on one machine, where they share its cores: order and bytes, hardly
speed, since one member uses all cores already.

    python scripts/bench/fleet.py [--clip examples/clip.mkv] [--model bicubic] [--members 1 2]

Upscales a clip twofold with each number of members, and compares the files. On a machine with few
cores or other work the speeds say only what the second thread costs; several GPUs are the purpose.
Writes results/fleet-<processor>.json and .png.
"""

import argparse
import hashlib
import os
import sys
import tempfile
from pathlib import Path

from _report import machine, slug, table, write

import vsr
from vsr.cli.allocator import keep_freed_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, default=Path("examples/clip.mkv"))
    parser.add_argument("--model", default="auto")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    keep_freed_memory()
    rows, facts, digests = [], [], set()
    with tempfile.TemporaryDirectory() as folder:
        for members in arguments.members:
            target = Path(folder) / f"{members}.mkv"
            device = ",".join(["cpu"] * members)
            done = vsr.upscale(
                arguments.clip, target, scale=2, model=arguments.model, device=device, tune="off"
            )
            digests.add(hashlib.sha256(target.read_bytes()).hexdigest())
            fps = done.frames / done.seconds
            rows.append([members, f"{fps:.2f}", done.frames])
            facts.append({"members": members, "fps": fps, "frames": done.frames})
    sys.stdout.write(table(["members", "fps", "frames"], rows) + "\n")
    equal = len(digests) == 1
    sys.stdout.write(f"files {'equal' if equal else 'DIFFER'}; {os.cpu_count()} cores\n")
    about = machine()
    facts = {"machine": about, "model": arguments.model, "equal": equal, "rows": facts}
    write(f"fleet-{slug(about['processor'])}", facts)


if __name__ == "__main__":
    main()
