"""What a run leaves for people: a log of numbers, and pictures of samples."""

import json
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vsr.errors import SinkError, UsageError

LOG = "log.jsonl"
_GAP = 4


class Log:
    """Lines of JSON in `log.jsonl`, and TensorBoard's file where it is asked for.

    Args:
        folder: Of the run.
        until: (stage, step) that the run goes on from; later lines are of work that was lost, and
            are removed.
        tensorboard: Whether to write TensorBoard's file.

    Raises:
        UsageError: TensorBoard is not installed.
        SinkError: The log cannot be written.
    """

    def __init__(self, folder: Path, until: tuple[int, int], *, tensorboard: bool) -> None:
        self._path = folder / LOG
        self._board = _board(folder / "tensorboard") if tensorboard else None
        try:
            kept = [line for line in self._lines() if (line["stage"], line["step"]) <= until]
            partial = self._path.with_suffix(".part")
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
            partial.replace(self._path)
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise self._failed(error) from error

    def _lines(self) -> list[dict[str, Any]]:
        """Whole lines; a process that was killed may have left half of one."""
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text("utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def write(self, stage: int, step: int, facts: Mapping[str, Any]) -> None:
        """Adds a line.

        Args:
            stage: From 0.
            step: Done in this stage.
            facts: Numbers and texts; numbers also go to TensorBoard.
        """
        try:
            self._file.write(json.dumps({"stage": stage, "step": step, **facts}) + "\n")
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from error
        if self._board is not None:
            for name, value in facts.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"stage{stage}/{name}", value, step)

    def _failed(self, error: OSError) -> SinkError:
        return SinkError(f"{self._path} cannot be written: {error.strerror or error}")

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - optional
    except ImportError as error:
        msg = "tensorboard = true needs the package tensorboard: install vsr[train], or leave it"
        raise UsageError(msg) from error
    return SummaryWriter(str(folder))


def write_samples(path: Path, columns: Sequence[Tensor]) -> None:
    """Writes a PNG with a row for every sample.

    Args:
        path: Where to; appears complete.
        columns: Each (N, C, H, W) in [0, 1] of one size; C is 1 or 3.

    Raises:
        SinkError: It cannot be written.
    """
    shown = [column.expand(-1, 3, -1, -1) if column.shape[1] == 1 else column for column in columns]
    framed = [torch.nn.functional.pad(x.cpu().float(), (0, _GAP, 0, _GAP), value=1) for x in shown]
    whole = torch.cat([torch.cat(list(x), 1) for x in framed], 2)
    pixels = (whole * 255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(exist_ok=True)
        partial.write_bytes(png(pixels))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise SinkError(msg) from error


def png(pixels: "np.ndarray[Any, np.dtype[np.uint8]]") -> bytes:
    """Encodes (H, W, 3) bytes as PNG (ISO/IEC 15948), unfiltered."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 6))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")
