"""How a running job shows itself: a bar, a line now and then, JSON, or nothing.

A report never ends a job: if its reader goes away, reporting stops and the work goes on.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, override

from vsr.cli import console

if TYPE_CHECKING:
    from tqdm import tqdm

    from vsr.types import Progress

type Style = Literal["bar", "line", "json", "none"]

_LINE_SECONDS = 5.0


class Reporter(Protocol):
    """Shows the progress of one job after another."""

    def start(self, source: Path | str, target: Path) -> None:
        """A job begins."""
        ...

    def update(self, progress: "Progress") -> None:
        """A job goes on."""
        ...

    def finish(self, result: Any) -> None:
        """A job is done; `result` is its `JobResult`."""
        ...

    def fail(self, code: int, message: str) -> None:
        """A job has failed or was stopped."""
        ...


def reporter(style: Style | None) -> Reporter:
    """Makes a reporter.

    Args:
        style: None chooses a bar on a terminal, and otherwise only the summary at the end.
    """
    if style is None:
        style = (
            "bar"
            if sys.stderr is not None and sys.stderr.isatty() and not console.quiet()
            else "none"
        )
    kinds: dict[Style, Callable[[], Reporter]] = {
        "bar": Bar,
        "line": Lines,
        "json": Json,
        "none": Summary,
    }
    return kinds[style]()


def clock(seconds: float) -> str:
    """Writes a duration as `m:ss` or `h:mm:ss`.

    >>> clock(3725)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def remaining(progress: "Progress") -> float | None:
    """Estimates the seconds to go; None while nothing can be said."""
    if not progress.total or progress.fps <= 0:
        return None
    return max(0.0, (progress.total - progress.frames) / progress.fps)


class Summary:
    """Says one line when a job is done, unless only errors are wanted."""

    def __init__(self) -> None:
        self.name = ""

    def start(self, source: Path | str, target: Path) -> None:  # noqa: ARG002 - as all reporters
        """Remembers the name."""
        self.name = Path(source).name

    def update(self, progress: "Progress") -> None:
        """Shows nothing."""

    def finish(self, result: Any) -> None:
        """Says what was done."""
        if not console.quiet():
            console.say(f"vsr: {summary(result)}")
            if line := verdict(result):
                console.say(f"vsr: {line}")

    def fail(self, code: int, message: str) -> None:
        """Shows nothing: errors are printed elsewhere."""


def summary(result: Any) -> str:
    """One line about a finished job."""
    width, height = result.size
    rate = result.frames / result.seconds if result.seconds > 0 else 0.0
    text = f"{result.target}: {result.frames} frames of {width}x{height}"
    text += f" in {clock(result.seconds)}, {rate:.1f} fps"
    if result.damaged:
        text += f", {result.damaged} damaged frames concealed"
    if result.reused:
        text += f", {result.reused} repeated frames not computed again"
    return text


_FASTER = {
    "decode": "--hwaccel cuda may decode faster",
    "device": "a smaller model (-n) or a GPU would be faster",
    "encode": "a faster --preset, or -c hevc_nvenc on a GPU, would be faster",
}


def verdict(result: Any) -> str | None:
    """One line about what a finished job waited for, if it waited for anything."""
    if result.bottleneck is None:
        return None
    shares = ", ".join(f"{stage} {share:.0%}" for stage, share in result.busy.items())
    return f"busy: {shares}; {result.bottleneck} bounds it: {_FASTER[result.bottleneck]}"


class Lines(Summary):
    """Says a line every five seconds, for logs."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    @override
    def start(self, source: Path | str, target: Path) -> None:
        super().start(source, target)
        self._next = time.monotonic() + _LINE_SECONDS

    @override
    def update(self, progress: "Progress") -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LINE_SECONDS
        console.say(f"vsr: {self.name}: {describe(progress)}")


def describe(progress: "Progress") -> str:
    """One line about a running job: frames, fps, time to go, output size, bottleneck."""
    parts = [f"{progress.frames} frames"]
    if progress.total:
        share = min(100, 100 * progress.frames // progress.total)
        parts = [f"{progress.frames}/{progress.total} frames ({share} %)"]
    parts.append(f"{progress.fps:.1f} fps")
    left = remaining(progress)
    if left is not None:
        parts.append(f"ETA {clock(left)}")
    parts.append(f"{progress.size[0]}x{progress.size[1]}")
    if progress.bottleneck:
        parts.append(f"bounded by {progress.bottleneck}")
    return ", ".join(parts)


class Bar(Summary):
    """Draws a bar with frames, fps, time to go, output size and the current bottleneck."""

    _KNOWN = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {elapsed}{postfix}"
    _UNKNOWN = "{desc}: {n_fmt} frames {elapsed}{postfix}"

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm[Any] | None = None
        self._dead = False

    @override
    def start(self, source: Path | str, target: Path) -> None:
        super().start(source, target)
        self._close()

    @override
    def update(self, progress: "Progress") -> None:
        if self._dead:
            return
        try:
            self._draw(self._bar or self._open(), progress)
        except OSError:  # the terminal has gone; the work goes on
            self._dead = True

    def _draw(self, bar: "tqdm[Any]", progress: "Progress") -> None:
        bar.total = max(progress.total, progress.frames) if progress.total else None
        bar.bar_format = self._KNOWN if bar.total else self._UNKNOWN
        bar.n = progress.frames
        left = remaining(progress)
        facts = [f"{progress.fps:.1f} fps", f"{progress.size[0]}x{progress.size[1]}"]
        facts[1:1] = [f"ETA {clock(left)}"] if left is not None else []
        facts += [progress.bottleneck] if progress.bottleneck else []
        bar.set_postfix_str(", ".join(facts), refresh=True)

    def _open(self) -> "tqdm[Any]":
        from tqdm import tqdm  # noqa: PLC0415 - only when a bar is drawn

        tqdm.monitor_interval = 0  # no helper thread: every update is drawn at once
        name = console.one_line(self.name)
        self._bar = tqdm(
            desc=name if len(name) <= 32 else f"{name[:29]}...",
            dynamic_ncols=True,
            leave=False,
            file=sys.stderr,
            bar_format=self._UNKNOWN,
        )
        return self._bar

    def _close(self) -> None:
        if self._bar is None:
            return
        bar, self._bar = self._bar, None
        try:
            bar.close()
        except OSError:
            self._dead = True

    @override
    def finish(self, result: Any) -> None:
        self._close()
        super().finish(result)

    @override
    def fail(self, code: int, message: str) -> None:
        self._close()


class Json:
    """Writes one JSON object per line to stdout: `start`, `progress` …, `done` or `failed`.

    stdout is free for it, since the picture goes to a file.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._open = True

    def start(self, source: Path | str, target: Path) -> None:
        """Writes the names."""
        self._names = {"source": str(source), "target": str(target)}
        self._write("start", {})

    def update(self, progress: "Progress") -> None:
        """Writes where the job is; times in seconds."""
        left = remaining(progress)
        self._write(
            "progress",
            {
                "frames": progress.frames,
                "total": progress.total,
                "seconds": round(progress.seconds, 3),
                "fps": round(progress.fps, 3),
                "eta": None if left is None else round(left, 1),
                "width": progress.size[0],
                "height": progress.size[1],
                "bottleneck": progress.bottleneck,
            },
        )

    def finish(self, result: Any) -> None:
        """Writes what was done."""
        self._write(
            "done",
            {
                "frames": result.frames,
                "seconds": round(result.seconds, 3),
                "width": result.size[0],
                "height": result.size[1],
                "bottleneck": result.bottleneck,
                "damaged": result.damaged,
                "reused": result.reused,
                "busy": {stage: round(share, 3) for stage, share in result.busy.items()},
                "skipped": getattr(result, "skipped", 0),
                "failed": len(getattr(result, "failed", ())),
                "peak_host_bytes": result.peak_host_bytes,
            },
        )

    def fail(self, code: int, message: str) -> None:
        """Writes the error."""
        self._write("failed", {"exit_code": code, "error": message})

    def _write(self, event: str, facts: dict[str, Any]) -> None:
        if not self._open:
            return
        try:
            sys.stdout.write(json.dumps({"event": event, **self._names, **facts}) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            self._open = False
