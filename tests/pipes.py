"""Streams of bytes for tests of what reads from pipes."""

import os
import threading

from vsr.io.ends import ByteReader

OPEN: list[ByteReader] = []
"""Readers that the end of the test closes."""


def fed(data: bytes) -> ByteReader:
    """A reader of these bytes, which come from another thread through a real pipe."""
    read, write = os.pipe()

    def send() -> None:
        with os.fdopen(write, "wb") as file:
            try:
                file.write(data)
            except BrokenPipeError:
                return

    threading.Thread(target=send, daemon=True).start()
    OPEN.append(ByteReader(read, "standard input"))
    return OPEN[-1]
