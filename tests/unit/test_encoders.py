import os
import struct
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsr.errors import EncoderError
from vsr.io import encoders
from vsr.io.encoders import Encoder, Quality
from vsr.io.formats import ffmpeg_name, pixel_format
from vsr.types import ColorSpec, Hdr, PixelFormat, VideoInfo

MASTERING = struct.pack(
    "<22i",
    *(34000, 50000, 16000, 50000, 13250, 50000, 34500, 50000, 7500, 50000, 3000, 50000),
    *(15635, 50000, 16450, 50000, 1, 10000, 1000, 1, 1, 1),
)
HDR = Hdr(mastering=MASTERING, light_level=(1000, 400))
SOFTWARE = ("x264", "x265", "svtav1", "vp9", "ffv1", "prores")


def named(name: str) -> PixelFormat:
    form = pixel_format(name)
    assert form is not None
    return form


def picture(form: PixelFormat, width: int = 128, height: int = 96) -> VideoInfo:
    return VideoInfo(
        width=width,
        height=height,
        format=form,
        color=ColorSpec(matrix=1, primaries=1, transfer=1, full_range=False, siting=1),
        time_base=Fraction(1, 90000),
        frame_rate=Fraction(30000, 1001),
    )


def test_every_file_is_an_encoder_and_the_default_comes_first() -> None:
    assert encoders.names()[0] == "x264"
    assert set(SOFTWARE) < set(encoders.names())
    assert all(encoders.get(name).id == name for name in encoders.names())


@pytest.mark.parametrize(
    ("alias", "name"),
    [("libx264", "x264"), ("hevc", "x265"), ("libvpx-vp9", "vp9"), ("PRORES_KS", "prores")],
)
def test_ffmpeg_and_codec_names_find_the_encoder(alias: str, name: str) -> None:
    assert encoders.get(alias).id == name


def test_an_unknown_encoder_is_refused_with_the_known_ones() -> None:
    with pytest.raises(EncoderError, match=r"no encoder 'x266'.*svtav1"):
        encoders.get("x266")


@pytest.mark.parametrize("name", SOFTWARE)
def test_every_format_that_is_declared_opens(name: str) -> None:
    encoder = encoders.get(name)
    assert encoders.available(encoder)
    for form in encoder.formats:
        context = encoders.open_context(encoder, picture(form), Quality())
        assert context.time_base == Fraction(1, 90000), ffmpeg_name(form)
        assert context.is_open


def test_auto_takes_what_the_container_holds() -> None:
    assert encoders.choose("auto", "webm").id == "vp9"
    assert encoders.choose("auto", "matroska").id in ("x264", "h264_nvenc")
    for source, container, kept in (
        ("yuv420p10le", "matroska", "x264"),
        ("yuv422p12le", "mp4", "x265"),
        ("yuva420p", "matroska", "vp9"),
        ("yuva444p", "matroska", "prores"),
        ("yuva420p10le", "mov", "prores"),
        ("yuva420p", "mp4", "x264"),
        ("gbrap", "matroska", "x264"),
    ):
        assert encoders.choose("auto", container, named(source)).id == kept, source
    with pytest.raises(EncoderError, match="x264 does not go into webm; use one of"):
        encoders.choose("x264", "webm")


@pytest.mark.parametrize(
    ("quality", "message"),
    [
        (Quality(crf=99), "out of range: x264 takes 0 to 51"),
        (Quality(crf=float("nan")), "out of range"),
        (Quality(preset="quick"), "no preset 'quick'; choose from: .*veryfast"),
        (Quality(extra={"no_such": "1"}), "has no option no_such"),
        (Quality(extra={"bf": "many"}), "refuses 128x96 yuv420p with bf=many"),
    ],
)
def test_bad_settings_are_refused_before_any_work(quality: Quality, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        encoders.open_context(encoders.get("x264"), picture(named("yuv420p")), quality)


def test_crf_means_nothing_to_a_lossless_encoder() -> None:
    with pytest.raises(EncoderError, match="means nothing to ffv1"):
        encoders.get("ffv1").settings(Quality(crf=3), picture(named("yuv420p")))


def test_options_of_the_user_win_and_parameter_lists_are_joined() -> None:
    settings = encoders.get("x265").settings(
        Quality(crf=30, extra={"preset": "slow", "x265-params": "aq-mode=1"}),
        replace(picture(named("yuv420p10le")), hdr=HDR),
    )
    assert settings["crf"] == "30"
    assert settings["preset"] == "slow"
    assert settings["x265-params"].endswith(":aq-mode=1")
    assert settings["flags"] == "+bitexact"


def test_hdr_in_each_encoders_own_words() -> None:
    shown = replace(picture(named("yuv420p10le")), hdr=HDR)
    points = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    x265 = encoders.get("x265").settings(Quality(), shown)["x265-params"]
    assert f"master-display={points}:max-cll=1000,400" in x265
    x264 = encoders.get("x264").settings(Quality(), shown)["x264-params"]
    assert x264.startswith(f"mastering-display={points}:cll=1000,400")
    av1 = encoders.get("svtav1").settings(Quality(), shown)["svtav1-params"]
    assert "R(0.68,0.32)WP(0.3127,0.329)L(1000,0.0001):content-light=1000,400" in av1


@pytest.mark.parametrize(
    ("source", "encoder", "expected"),
    [
        ("yuv420p", "x264", "yuv420p"),
        ("yuv420p9le", "x264", "yuv420p10le"),
        ("yuv444p12le", "x264", "yuv444p10le"),
        ("gray", "x264", "yuv420p"),
        ("gray12le", "x265", "gray12le"),
        ("gray", "vp9", "yuv420p"),
        ("gbrp", "x264", "yuv444p"),
        ("gbrp", "ffv1", "gbrp"),
        ("gbrap16le", "ffv1", "gbrap16le"),
        ("yuva420p", "vp9", "yuva420p"),
        ("yuva420p", "x264", "yuv420p"),
        ("yuva444p10le", "prores", "yuva444p10le"),
        ("yuv420p", "prores", "yuv422p10le"),
        ("yuv411p", "x264", "yuv422p"),
        ("yuv440p", "x264", "yuv444p"),
    ],
)
def test_the_best_format(source: str, encoder: str, expected: str) -> None:
    chosen = encoders.match_format(named(source), encoders.get(encoder), 640, 360)
    assert ffmpeg_name(chosen) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [((101, 76), "yuv444p"), ((100, 75), "yuv422p"), ((100, 76), "yuv420p")],
)
def test_odd_sides_take_chroma_that_fits(size: tuple[int, int], expected: str) -> None:
    chosen = encoders.match_format(named("yuv420p"), encoders.get("x264"), *size)
    assert ffmpeg_name(chosen) == expected


def test_an_odd_size_that_an_encoder_cannot_do_names_the_remedy() -> None:
    with pytest.raises(EncoderError, match="no odd size such as 101x75: use -c x264"):
        encoders.match_format(named("yuv420p"), encoders.get("svtav1"), 101, 75)


FORMS = st.sampled_from(
    ["yuv420p", "yuv422p10le", "yuv444p16le", "yuva420p", "gray", "gray16le", "gbrp", "gbrap12le"]
)


@given(source=FORMS, name=st.sampled_from(SOFTWARE), even=st.booleans())
def test_a_match_never_invents_and_names_what_it_loses(
    source: str, name: str, *, even: bool
) -> None:
    form, encoder = named(source), encoders.get(name)
    if not even and name == "svtav1":
        return
    width, height = (64, 48) if even else (63, 47)
    chosen = encoders.match_format(form, encoder, width, height)
    assert chosen in encoder.formats
    assert chosen.alpha <= form.alpha
    lost = " ".join(encoders.losses(form, chosen))
    assert ("alpha is dropped" in lost) == (form.alpha and not chosen.alpha)
    assert ("bits" in lost) == (chosen.bits < form.bits)


def test_pixel_formats_are_chosen_by_name_with_or_without_byte_order() -> None:
    encoder: Encoder = encoders.get("x264")
    assert encoders.parse_format("yuv420p10", encoder) == named("yuv420p10le")
    with pytest.raises(EncoderError, match="does not take pixel format 'yuva420p'; choose from"):
        encoders.parse_format("yuva420p", encoder)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no such priorities here")
def test_opening_an_encoder_leaves_the_priority_of_the_thread_alone():
    """As root SVT-AV1 makes the thread that opens it a real-time one."""
    policy = os.sched_getscheduler(0)
    picture = VideoInfo(
        width=64,
        height=64,
        format=PixelFormat(family="yuv", chroma_w=1, chroma_h=1),
        color=ColorSpec(matrix=1, full_range=False),
        time_base=Fraction(1, 25),
    )
    encoders.open_context(encoders.get("svtav1"), picture, Quality())
    assert os.sched_getscheduler(0) == policy


def test_pictures_too_small_for_x265_are_refused_and_small_ones_get_small_units() -> None:
    x265, form = encoders.get("x265"), named("yuv420p")
    with pytest.raises(EncoderError, match=r"x265 takes no side under 50 pixels, .* 96x48: use"):
        encoders.open_context(x265, picture(form, 96, 48), Quality())
    encoders.open_context(x265, picture(form, 96, 50), Quality())
    small, large = (x265.settings(Quality(), picture(form, side)) for side in (64, 66))
    assert "ctu=32" in small["x265-params"]
    assert "ctu" not in large["x265-params"]
