"""Opens media files safely: a local file stays a local file, whatever its name or content says.

libavformat reads `a:b` as a protocol, `%03d` as a number pattern, and some formats are lists of
other files to open. So a path is given to it with the `file:` protocol and made absolute, no other
protocol is allowed, and only formats that hold their media themselves are.
"""

import re
import stat
import struct
from pathlib import Path
from typing import BinaryIO, Final

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from vsr.errors import SourceError, SourceNotFoundError, UnsupportedSourceError

_VIDEO_FORMATS: Final = """
    matroska webm mov mp4 m4a 3gp 3g2 mj2 avi mpegts mpeg mpegvideo h264 hevc vvc av1 obu ivf m4v
    h261 h263 vc1 vc1test dirac dnxhd cavsvideo avs2 avs3 evc apv flv live_flv kux asf asf_o ogg nut
    nuv nsv mxf gxf dv rm ivr mjpeg mjpeg_2000 yuv4mpegpipe wtv ty pva swf roq smk bink flic lxf
    cine mlv lmlm4 viv vivo film_cpk r3d ifv pmp moflex filmstrip dhav luodat
"""
_IMAGE_FORMATS: Final = """
    image2 gif gif_pipe apng webp_anim webp_pipe jpegxl_anim jpegxl_pipe png_pipe jpeg_pipe
    jpegls_pipe jpegxs_pipe bmp_pipe tiff_pipe dpx_pipe exr_pipe hdr_pipe dds_pipe j2k_pipe pam_pipe
    pbm_pipe pfm_pipe pgm_pipe pgmyuv_pipe pgx_pipe phm_pipe ppm_pipe pcx_pipe psd_pipe qoi_pipe
    sgi_pipe sunrast_pipe xbm_pipe xpm_pipe xwd_pipe cri_pipe vbn_pipe gem_pipe ico
"""
_SOUND_FORMATS: Final = (
    "wav w64 flac mp3 aac ac3 eac3 aiff caf au ape wv tta amr dts truehd mlp mpc"
)
WHITELIST: Final = ",".join(f"{_VIDEO_FORMATS} {_IMAGE_FORMATS} {_SOUND_FORMATS}".split())
"""Demuxers that may run. Sound is among them so that "no video" can be said about it."""

_NETWORK: Final = "http,https,tls,tcp,udp,rtmp,rtmps,rtmpt,rtsp,srt,ftp,sftp,crypto,httpproxy"
_STREAMED: Final = ",hls,rtsp,sdp,rtp"
_MAX_PIXELS: Final = 1 << 27
_Y4M_SIZE: Final = re.compile(rb"YUV4MPEG2 W(\d+) H(\d+)")


def is_url(path: str | Path) -> bool:
    """Whether a text looks like a network address and no such local file exists."""
    scheme, separator, rest = str(path).partition("://")
    known = scheme.lower() in _NETWORK.split(",")
    return bool(isinstance(path, str) and known and separator and rest) and not _exists(path)


def _exists(path: str | Path) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def open_input(
    path: str | Path,
    *,
    allow_url: bool = False,
    hwaccel: HWAccel | None = None,
    max_pixels: int = _MAX_PIXELS,
) -> InputContainer:
    """Opens a media file for reading, probing its content and not its name.

    Args:
        path: A local file, or an address if `allow_url`.
        allow_url: Whether the user asked for addresses to be opened.
        hwaccel: Decodes on a device.
        max_pixels: Pictures with more pixels are not decoded while probing.

    Raises:
        SourceNotFoundError: There is no such file.
        UnsupportedSourceError: Empty, a folder, or of no known or allowed format.
        SourceError: The file cannot be read.
    """
    # Without a callback FFmpeg's threads cannot wait for Python's lock (PyAV issue 751).
    av.logging.set_level(None)
    if is_url(path):
        if not allow_url:
            msg = f"{path} is an address; pass --allow-url to open it"
            raise UnsupportedSourceError(msg)
        return _open(str(path), str(path), _network_options(), hwaccel, max_pixels)
    local = _checked(path, max_pixels)
    options = {"protocol_whitelist": "file", "format_whitelist": WHITELIST, "pattern_type": "none"}
    return _open(f"file:{local}", str(path), options, hwaccel, max_pixels)


def _network_options() -> dict[str, str]:
    return {
        "protocol_whitelist": _NETWORK,
        "format_whitelist": WHITELIST + _STREAMED,
        "rw_timeout": "30000000",
    }


def _checked(path: str | Path, max_pixels: int) -> Path:
    """The absolute path of a file that can be read and is not empty."""
    try:
        local = Path(path).absolute()
        facts = local.stat()
        if stat.S_ISDIR(facts.st_mode):
            msg = f"{path} is a folder; a media file was expected"
            raise UnsupportedSourceError(msg)
        if not stat.S_ISREG(facts.st_mode):
            msg = f"{path} is not a regular file; to read a pipe use vsr pipe"
            raise UnsupportedSourceError(msg)
        with local.open("rb") as file:
            _refuse_hopeless(path, file, max_pixels)
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = f"{path} does not exist; check the name"
        raise SourceNotFoundError(msg) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        msg = f"{path} cannot be read: {reason}"
        raise SourceError(msg) from error
    return local


def _refuse_hopeless(path: str | Path, file: BinaryIO, max_pixels: int) -> None:
    """Says clearly what libav would only call invalid."""
    head = file.read(128)
    if not head:
        msg = f"{path} is empty (0 bytes); a media file was expected"
        raise UnsupportedSourceError(msg)
    if head.startswith(b"#EXTM3U"):
        msg = f"{path} is a playlist that names other files or addresses; give those themselves"
        raise UnsupportedSourceError(msg)
    # These two write the size of a picture at a fixed place, before any data.
    size = _Y4M_SIZE.match(head)
    width, height = (int(size[1]), int(size[2])) if size else (0, 0)
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        width, height = struct.unpack(">II", head[16:24])
    if width * height > max_pixels:
        raise UnsupportedSourceError(too_large(path, width, height, max_pixels))


def too_large(path: str | Path, width: int, height: int, max_pixels: int) -> str:
    """The message about a picture beyond the pixel limit."""
    return (
        f"{path} claims {width}x{height} pixels, more than the limit of {max_pixels}; "
        "raise it with --max-pixels if that is meant"
    )


def _open(
    url: str, shown: str, options: dict[str, str], hwaccel: HWAccel | None, max_pixels: int
) -> InputContainer:
    try:
        # `options` reaches the decoders of the probe too, where a huge picture would be decoded.
        return av.open(
            url, "r", options={**options, "max_pixels": str(max_pixels)}, hwaccel=hwaccel
        )
    except av.error.EOFError as error:
        msg = f"{shown} ends before its first frame: it is cut off or holds none"
        raise UnsupportedSourceError(msg) from error
    except av.error.InvalidDataError as error:
        msg = f"{shown} is not a media file that can be read, or its header is missing or cut off"
        raise UnsupportedSourceError(msg) from error
    except (av.error.ArgumentError, av.error.ProtocolNotFoundError) as error:
        msg = f"{shown} is of a format that is not read; convert it with ffmpeg first"
        raise UnsupportedSourceError(msg) from error
    except av.error.FFmpegError as error:
        msg = f"{shown} cannot be opened: {error.strerror or error}"
        raise SourceError(msg) from error
