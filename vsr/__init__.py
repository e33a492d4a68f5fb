"""Video super-resolution as a stream: exact timing, every stream, true colour.

The house, from the street to the cellar:

    vsr.cli          the command line; one file a command
    vsr.vapoursynth  the filter for VapourSynth scripts
    vsr.ffmpeg       ffmpeg → vsr → ffmpeg, built with ffmpeg-python
    vsr.api          files, frames and tensors for Python programs (its names are here too)
    vsr.train        recipes, data, degradations, losses; vsr.judging: how good a result is
    vsr.piping       one pipe in, one pipe out; vsr.folders: many pictures
    vsr.jobs         one file in, one file out; vsr.outputs: where to, and who judges it
    vsr.resuming     what makes an interrupted job the same job; vsr.manifest: records of jobs
    vsr.planning     what a job is, and what is decided before its first frame
    vsr.flow         source, device and sink side by side
    vsr.io           frames in and out of files, streams copied beside them (PyAV, no torch);
                     vsr.io.journal: the segments of a long job
    vsr.engine       frames to upscaled frames on a device (torch, no PyAV)
    vsr.models       one readable file per architecture, and the catalogue of checkpoints
    vsr.checkpoints  safe reading, download and interpolation of weights
    vsr.pipeline     prefetching threads; vsr.tiling: geometry; vsr.metrics: PSNR, SSIM
    vsr.types        Frame, PixelFormat, ColorSpec, VideoInfo
    vsr.errors       the tree of errors

Names are imported on first use, so that `import vsr` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vsr.api import to_rgb, upscale, upscale_frames
    from vsr.engine.base import Upscaler
    from vsr.engine.loading import load_model
    from vsr.errors import VsrError
    from vsr.faces.options import FaceOptions
    from vsr.io.av_source import SourceOptions, open_source
    from vsr.io.plan import SinkOptions
    from vsr.jobs import JobResult
    from vsr.planning import UpscaleJob
    from vsr.types import ColorSpec, Frame, PixelFormat, Progress, VideoInfo

_HOMES = {
    "ColorSpec": "vsr.types",
    "FaceOptions": "vsr.faces.options",
    "Frame": "vsr.types",
    "JobResult": "vsr.jobs",
    "PixelFormat": "vsr.types",
    "Progress": "vsr.types",
    "SinkOptions": "vsr.io.plan",
    "SourceOptions": "vsr.io.av_source",
    "UpscaleJob": "vsr.planning",
    "Upscaler": "vsr.engine.base",
    "VideoInfo": "vsr.types",
    "VsrError": "vsr.errors",
    "load_model": "vsr.engine.loading",
    "open_source": "vsr.io.av_source",
    "to_rgb": "vsr.api",
    "upscale": "vsr.api",
    "upscale_frames": "vsr.api",
}

__all__ = [
    "ColorSpec",
    "FaceOptions",
    "Frame",
    "JobResult",
    "PixelFormat",
    "Progress",
    "SinkOptions",
    "SourceOptions",
    "UpscaleJob",
    "Upscaler",
    "VideoInfo",
    "VsrError",
    "__version__",
    "load_model",
    "open_source",
    "to_rgb",
    "upscale",
    "upscale_frames",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'vsr' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
