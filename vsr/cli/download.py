"""Getting a model's file with a progress bar, and asking before an unverifiable download."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vsr.cli import console
from vsr.cli.tables import size

if TYPE_CHECKING:
    from fractions import Fraction

    from vsr.checkpoints import Remote


def fetch(entry: "Remote", *, offline: bool = False, yes: bool = False) -> Path:
    """Gives the verified local file of a model, downloading it where it is not here.

    Args:
        entry: From the catalogue.
        offline: Never download.
        yes: Do not ask before a file without a pinned digest is downloaded.

    Raises:
        DownloadError: It is not here and cannot or may not be downloaded.
    """
    from vsr.checkpoints import ensure  # noqa: PLC0415 - only when asked

    def confirm(question: str) -> bool:
        if yes:
            return True
        return sys.stdin is not None and sys.stdin.isatty() and click.confirm(question, err=True)

    with _bar(entry) as report:
        return ensure(entry, offline=offline, confirm=confirm, progress=report)


def fetch_for(name: str, scale: "Fraction | None", *, denoise: bool) -> None:
    """Downloads what a job will need, so that the user sees it come; nothing if it is all here.

    Args:
        name: Of a model, as typed.
        scale: Of the job; None if it follows from the source, which then decides.
        denoise: Whether the denoising twin is needed too.

    Raises:
        DownloadError: It cannot or may not be downloaded.
    """
    from vsr.checkpoints import cached_path  # noqa: PLC0415 - only when asked
    from vsr.checkpoints.blending import is_blend, is_file_name, parse_blend  # noqa: PLC0415
    from vsr.errors import UnknownModelError  # noqa: PLC0415
    from vsr.models import catalog  # noqa: PLC0415

    if is_blend(name):
        for share in parse_blend(name):
            if not is_file_name(share.name):
                fetch_for(share.name, scale, denoise=False)
        return
    try:
        family = catalog.variants(name)
    except UnknownModelError:  # `auto` and interpolations; the job refuses what is none
        return
    if scale is None and len(family) > 1:
        return
    entry = catalog.find(name, float(scale) if scale is not None else None)
    needed = [entry]
    if denoise and entry.denoise_twin:
        needed.append(catalog.find(entry.denoise_twin))
    for missing in needed:
        if not cached_path(missing).is_file():
            fetch(missing)


@contextmanager
def _bar(entry: "Remote") -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; elsewhere one line when the download begins."""
    if console.quiet() or sys.stderr is None or not sys.stderr.isatty():
        yield _line(entry)
        return
    from tqdm import tqdm  # noqa: PLC0415 - only when a bar is drawn

    tqdm.monitor_interval = 0
    with tqdm(
        desc=entry.name,
        total=entry.size,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        dynamic_ncols=True,
        leave=False,
        delay=0.5,
        file=sys.stderr,
    ) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total or bar.total
            bar.update(done - bar.n)

        yield report


def _line(entry: "Remote") -> Callable[[int, int], None]:
    said = False

    def report(_done: int, total: int) -> None:
        nonlocal said
        if not (said or console.quiet()):
            volume = f" ({size(total)})" if total else ""
            console.say(f"vsr: downloading {entry.name}{volume} from {entry.url}")
        said = True

    return report
