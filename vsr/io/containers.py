"""The output containers: what each can hold and say, as measured with FFmpeg 9.

container   suffixes         text subtitles   fonts   cover        rotation   times
matroska    mkv              as they are      yes     attachment   yes        1 ms
mp4         mp4 m4v          mov_text         -       picture      yes        the source's
mov         mov qt           mov_text         -       picture      yes        the source's
webm        webm             webvtt           -       -            yes        1 ms
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from vsr.errors import ContainerError


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


_MILLISECOND: Final = Fraction(1, 1000)
_PCM_MP4: Final = """
    pcm_f32be pcm_f32le pcm_f64be pcm_f64le pcm_s16be pcm_s16le pcm_s24be pcm_s24le pcm_s32be
    pcm_s32le
"""
_TEXT: Final = _set(
    """
    subrip ass webvtt mov_text text microdvd mpl2 jacosub sami realtext subviewer subviewer1 stl
    vplayer pjs
    """
)
"""Subtitle codecs that libavcodec decodes to text, so that they can be converted into each
other.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What a muxer can hold, by FFmpeg's codec names.

    Attributes:
        name: FFmpeg's name of the muxer.
        suffixes: Of file names, the usual one first.
        audio: Audio codecs that are copied.
        subtitles: Subtitle codecs that are copied.
        video: Codecs of further video streams that are copied.
        text: Codec that other text subtitles are converted to.
        attachments: Whether files (fonts) can be attached.
        cover: How cover art is kept: as an attached file, as a picture stream, or not at all.
        hdr: Whether it says HDR mastering metadata by itself, for encoders that cannot.
        rotation: Whether it says by how much a player must turn the picture.
        tags: Container tags it has words for, in lower case; None if it takes any.
        tick: Unit of its times; None if it takes over that of each stream.
    """

    name: str
    suffixes: tuple[str, ...]
    audio: frozenset[str]
    subtitles: frozenset[str]
    video: frozenset[str]
    text: str
    attachments: bool = False
    cover: str | None = None
    hdr: bool = False
    rotation: bool = True
    tags: frozenset[str] | None = None
    tick: Fraction | None = None

    def holds(self, kind: str, codec: str) -> bool:
        """Whether a stream of a kind (`audio`, `subtitle`, `video`) and codec can be copied."""
        held = {"audio": self.audio, "subtitle": self.subtitles, "video": self.video}
        return codec in held.get(kind, frozenset())

    def converts(self, codec: str) -> bool:
        """Whether a subtitle codec that it cannot hold is text, and so can become `text`."""
        return codec in _TEXT


_ISO_TAGS: Final = _set(
    """
    title artist album_artist composer album date comment genre copyright grouping lyrics
    description synopsis show episode_id network keywords episode_sort season_number media_type
    hd_video gapless_playback compilation track disc tmpo performer author creation_time location
    location-eng
    """
)

MATROSKA: Final = Container(
    name="matroska",
    suffixes=("mkv",),
    audio=_set(
        """
        aac ac3 alac atrac1 atrac3 cook dts eac3 flac mlp mp1 mp2 mp3 opus pcm_f32le pcm_f64le
        pcm_s16be pcm_s16le pcm_s24be pcm_s24le pcm_s32be pcm_s32le pcm_u8 pcm_alaw pcm_mulaw qdm2
        ra_144 ra_288 sipr truehd tta vorbis wavpack adpcm_ms adpcm_ima_wav wmav1 wmav2 wmapro
        wmalossless gsm_ms
        """
    ),
    subtitles=_set(
        """
        arib_caption ass dvb_subtitle dvd_subtitle hdmv_pgs_subtitle hdmv_text_subtitle subrip text
        webvtt
        """
    ),
    video=_set(
        """
        av1 dirac ffv1 h264 hevc mjpeg mpeg1video mpeg2video mpeg4 msmpeg4v2 msmpeg4v3 prores
        rawvideo rv10 rv20 rv30 rv40 snow theora vp8 vp9 vvc wmv1 wmv2 wmv3 vc1 png h263 flv1
        cinepak huffyuv utvideo jpeg2000
        """
    ),
    text="subrip",
    attachments=True,
    cover="attachment",
    hdr=True,
    tick=_MILLISECOND,
)

MP4: Final = Container(
    name="mp4",
    suffixes=("mp4", "m4v"),
    audio=_set(
        f"aac ac3 alac dts eac3 flac mp2 mp3 mp4als opus truehd vorbis evrc qcelp {_PCM_MP4}"
    ),
    subtitles=_set("mov_text ttml"),
    video=_set(
        "av1 dirac ffv1 h264 hevc jpeg2000 mjpeg mpeg1video mpeg2video mpeg4 png vc1 vp9 vvc"
    ),
    text="mov_text",
    cover="stream",
    tags=_ISO_TAGS,
)

MOV: Final = Container(
    name="mov",
    suffixes=("mov", "qt"),
    audio=_set(
        f"""
        aac ac3 adpcm_ima_qt alac amr_nb amr_wb dts eac3 evrc gsm ilbc mace3 mace6 mp1 mp2 mp3
        pcm_alaw pcm_mulaw
        pcm_s8 pcm_u8 qcelp qdm2 qdmc speex truehd {_PCM_MP4}
        """
    ),
    subtitles=_set("mov_text eia_608"),
    video=_set(
        """
        apv av1 cfhd cinepak dirac dnxhd dvvideo flic gif h263 h264 hap hevc jpeg2000 magicyuv mjpeg
        mpeg1video mpeg2video mpeg4 msmpeg4v3 msrle png prores qtrle rawvideo rpza smc svq1 svq3
        tiff v210 vc1 vp3 vp8 vp9 vvc
        """
    ),
    text="mov_text",
    cover="stream",
    tags=_ISO_TAGS,
)

WEBM: Final = Container(
    name="webm",
    suffixes=("webm",),
    audio=_set("opus vorbis"),
    subtitles=_set("webvtt"),
    video=_set("av1 vp8 vp9"),
    text="webvtt",
    hdr=True,
    tick=_MILLISECOND,
)

CONTAINERS: Final = (MATROSKA, MP4, MOV, WEBM)


def container_of(path: Path, name: str | None = None) -> Container:
    """Chooses the container by the suffix of a file name, or by its own name.

    Args:
        path: Of the output.
        name: `matroska`, `mkv`, `mp4`, …; wins over the suffix.

    Raises:
        ContainerError: Neither is known.
    """
    wanted = (name or path.suffix.removeprefix(".")).lower()
    for container in CONTAINERS:
        if wanted == container.name or wanted in container.suffixes:
            return container
    known = ", ".join(f".{suffix}" for c in CONTAINERS for suffix in c.suffixes)
    what = f"container {name!r}" if name else f"output type {path.suffix!r} of {path.name!r}"
    msg = f"{what} is not known; use one of {known}"
    raise ContainerError(msg)
