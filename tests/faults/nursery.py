"""Child of the tests: has imported the whole program, and forks a fresh one for every command line.

    python nursery.py REQUESTS ANSWERS      two descriptors; one JSON object a line

A fork costs milliseconds where a start costs seconds, so faults can be injected by the hundred, and
each of them into a whole program: its signals, its threads, its exit code, its end.
"""

import faulthandler
import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
from typing import Any

MODULES = (
    "PIL.PngImagePlugin",
    "av",
    "torch",
    "vsr.cli.door",
    "vsr.cli.group",
    "vsr.cli.pipe",
    "vsr.cli.upscale",
    "vsr.engine.assembly",
    "vsr.folders",
    "vsr.jobs",
    "vsr.piping",
    "vsr.verification",
)


def serve(requests: int, answers: int) -> None:
    """Answers requests until there are no more; a forked child returns from here as well."""
    for name in MODULES:
        importlib.import_module(name)
    gc.freeze()  # a fork ends quickly, for it need not look through all of this
    with os.fdopen(requests) as lines, os.fdopen(answers, "w") as out:
        for line in lines:
            request = json.loads(line)
            pid = os.fork()
            if not pid:
                prepare(request)
                return
            print(json.dumps({"pid": pid}), file=out, flush=True)
            print(json.dumps({"code": ended(pid, request["patience"])}), file=out, flush=True)
    os._exit(0)


def ended(pid: int, patience: float) -> int | None:
    """Waits for a child; its exit code, minus the signal that killed it, or None if it hung."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def connected(name: str) -> int:
    """A descriptor of a connection to a port of this machine."""
    return socket.create_connection(("127.0.0.1", int(name.removeprefix("tcp:")))).detach()


def prepare(request: dict[str, Any]) -> None:
    """Makes this process the program that a request describes, with its fault in it."""
    os.chdir(request["folder"])
    for number, (name, flags) in enumerate(request["standard"]):
        fd = connected(name) if name.startswith("tcp:") else os.open(name, flags, 0o666)
        os.dup2(fd, number)
        os.close(fd)
    # those of the nursery know whether its own streams can seek
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, closefd=False)  # noqa: SIM115 - descriptors
        for number, mode in enumerate(("r", "w", "w"))
    )
    faulthandler.dump_traceback_later(request["patience"] - 1)  # where it hangs, if it does
    sys.argv[:] = ["vsr", *request["arguments"]]
    if request["fault"]:
        from tests.faults import injections

        getattr(injections, request["fault"])(**request["given"])


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
    from vsr.cli.main import main

    main()
