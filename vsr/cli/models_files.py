"""What the subcommands of `vsr models` share: where a model's file is, and where a new one goes."""

from pathlib import Path
from typing import TYPE_CHECKING

from vsr.cli.base import Option

if TYPE_CHECKING:
    from vsr.models.catalog import Published

OFFLINE = Option(["--offline"], is_flag=True, help="Never download; only say what is missing.")
TRUST = Option(["--yes"], is_flag=True, help="Trust files whose digest is not known beforehand.")
OVERWRITE = Option(["-y", "--overwrite"], is_flag=True, help="Replace the output if it exists.")


def output(suffix: str) -> Option:
    """The option that names the file to write."""
    return Option(
        ["-o", "--output"],
        required=True,
        metavar=f"FILE{suffix}",
        help=f"What to write; must end in {suffix}.",
    )


def located(name: str, *, offline: bool = False, yes: bool = False) -> Path:
    """The file of a model, downloaded if need be.

    Args:
        name: Of the catalogue, or a path with a checkpoint's suffix.
        offline: Never download.
        yes: Do not ask before a file without a pinned digest is downloaded.

    Raises:
        ModelError: There is no such model or file.
    """
    from vsr.checkpoints.blending import is_file_name  # noqa: PLC0415 - only when asked
    from vsr.cli.download import fetch  # noqa: PLC0415
    from vsr.models.catalog import find  # noqa: PLC0415

    return Path(name) if is_file_name(name) else fetch(find(name), offline=offline, yes=yes)


def named(name: str) -> "tuple[Published, ...]":
    """The checkpoints of a name or family; empty if it is a file's."""
    from vsr.checkpoints.blending import is_file_name  # noqa: PLC0415 - only when asked
    from vsr.models.catalog import variants  # noqa: PLC0415

    return () if is_file_name(name) else variants(name)


def checked_output(text: str, suffix: str, *, overwrite: bool, sources: tuple[Path, ...]) -> Path:
    """The file to write, refused before any work where that could not end well.

    Raises:
        UsageError: It has another suffix.
        SinkError: It exists, is one of the sources, or cannot be written.
    """
    from vsr.errors import UsageError  # noqa: PLC0415 - only when asked
    from vsr.io.atomic import check_target  # noqa: PLC0415

    path = Path(text)
    if path.suffix.lower() != suffix:
        msg = f"the output {text!r} must end in {suffix}"
        raise UsageError(msg)
    for source in sources:
        check_target(path, overwrite=overwrite, source=source)
    return path
