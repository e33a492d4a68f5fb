"""Downloads what a job needs before its work begins, so that the user sees it come."""

import os
from fractions import Fraction
from typing import TYPE_CHECKING

from vsr.cli.download import fetch_for
from vsr.cli.faces import fetch_faces

if TYPE_CHECKING:
    from vsr.planning import UpscaleJob


def fetch_all(job: "UpscaleJob") -> None:
    """Downloads published networks with a bar, where that is allowed.

    Raises:
        DownloadError: One cannot or may not be downloaded.
    """
    if job.offline or os.environ.get("VSR_OFFLINE"):
        return
    if job.model_path is None:
        scale = None if job.scale is None else Fraction(job.scale)
        fetch_for(job.model, scale, denoise=job.denoise is not None)
    fetch_faces(job.faces)
