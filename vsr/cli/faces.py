"""`--face-enhance`: its options, what they ask for, and the download of what they need."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.base import Option
from vsr.cli.download import fetch
from vsr.errors import UsageError

if TYPE_CHECKING:
    from vsr.faces.options import FaceOptions


def face_options() -> list[click.Parameter]:
    """Whether and how faces are restored."""
    section = "Faces"
    return [
        Option(
            ["--face-enhance"],
            section=section,
            is_flag=True,
            help="Find faces and restore them with GFPGAN.",
        ),
        Option(
            ["--face-model"],
            section=section,
            metavar="NAME|FILE",
            help="GFPGANv1.4, GFPGANv1.3 or a checkpoint of it. Default: GFPGANv1.4.",
        ),
        Option(
            ["--face-weight"],
            section=section,
            type=click.FloatRange(0, 1),
            metavar="WEIGHT",
            help="How much of a restored face is taken, from 0 to 1. Default: 1.",
        ),
        Option(
            ["--only-center-face"],
            section=section,
            is_flag=True,
            help="Restore only the face that is nearest to the middle.",
        ),
    ]


def faces_from(values: Mapping[str, Any]) -> "FaceOptions | None":
    """What the options ask for; None without `--face-enhance`.

    Raises:
        UsageError: The others without it.
    """
    from vsr.faces.options import DEFAULT_FACE_MODEL, FaceOptions  # noqa: PLC0415 - when asked

    model, weight = values["face_model"], values["face_weight"]
    centre = values["only_center_face"]
    if not values["face_enhance"]:
        given = {"--face-model": model, "--face-weight": weight, "--only-center-face": centre}
        for name, value in given.items():
            if value is not None and value is not False:
                msg = f"{name} has no meaning without --face-enhance: add it"
                raise UsageError(msg)
        return None
    path = Path(model) if model and Path(model).is_file() else None
    return FaceOptions(
        model=DEFAULT_FACE_MODEL if model is None or path else model,
        path=path,
        weight=1.0 if weight is None else weight,
        which="centre" if centre else "all",
    )


def fetch_faces(faces: "FaceOptions | None") -> None:
    """Downloads what a job will need, so that the user sees it come; nothing if it is all here.

    Raises:
        ModelError: No such model, or it cannot or may not be downloaded.
    """
    if faces is None:
        return
    from vsr.checkpoints import cached_path  # noqa: PLC0415 - only when asked
    from vsr.faces.catalog import find_face_checkpoint  # noqa: PLC0415

    needed = [find_face_checkpoint("retinaface", "detector")]
    if faces.path is None:
        needed.append(find_face_checkpoint(faces.model, "restorer"))
    for missing in needed:
        if not cached_path(missing).is_file():
            fetch(missing)
