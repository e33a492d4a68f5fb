from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import media
from vsr.errors import ContainerError
from vsr.io.containers import CONTAINERS, MATROSKA, container_of
from vsr.io.mov_text import Cue, OneAtATime
from vsr.io.plan import StreamPlan
from vsr.io.remux import Remuxer


def cue(start: int, end: int, text: str) -> Cue:
    return Cue(start=start, end=end, payload=len(text).to_bytes(2) + text.encode() + b"styl")


def shown(cues: list[Cue]) -> list[tuple[int, int, str]]:
    sequence = OneAtATime()
    out = [piece for one in cues for piece in sequence.push(one)] + list(sequence.flush())
    return [
        (c.start, c.end, c.payload[2 : 2 + int.from_bytes(c.payload[:2])].decode()) for c in out
    ]


def test_cues_apart_pass_untouched() -> None:
    sequence = OneAtATime()
    first, second = cue(0, 5, "a"), cue(7, 9, "b")
    assert [*sequence.push(first), *sequence.push(second), *sequence.flush()] == [first, second]


def test_overlapping_cues_are_shown_together() -> None:
    assert shown([cue(0, 10, "a"), cue(5, 8, "b")]) == [(0, 5, "a"), (5, 8, "a\nb"), (8, 10, "a")]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)), max_size=8))
def test_every_moment_shows_the_texts_of_that_moment(spans: list[tuple[int, int]]) -> None:
    cues = [
        cue(start, start + length, chr(97 + k)) for k, (start, length) in enumerate(sorted(spans))
    ]
    pieces = shown(cues)
    assert all(a[1] <= b[0] for a, b in pairwise(pieces))
    for moment in range(61):
        wanted = {chr(97 + k) for k, c in enumerate(cues) if c.start <= moment < c.end}
        found = {t for s, e, text in pieces if s <= moment < e for t in text.split("\n")}
        assert found == wanted


def test_containers_by_suffix_and_by_name() -> None:
    assert container_of(Path("a.MKV")) is MATROSKA
    assert container_of(Path("a.bin"), "mkv") is MATROSKA
    with pytest.raises(
        ContainerError, match=r"output type '\.xyz' of 'a\.xyz' .* use one of \.mkv"
    ):
        container_of(Path("a.xyz"))


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda c: c.name)
def test_the_table_of_codecs_agrees_with_the_muxer(container, tmp_path: Path) -> None:
    """What the table says is refused by the muxer, or copied under AVI's names (Matroska only)."""
    with av.open(tmp_path / "x", "w", format=container.name) as file:
        known = file.supported_codecs
    canonical = {av.codec.Codec(n, m).canonical_name for n in known for m in modes(n)}
    listed = container.audio | container.video
    riff = {
        "adpcm_ima_wav",
        "adpcm_ms",
        "cinepak",
        "flv1",
        "gsm_ms",
        "h263",
        "huffyuv",
        "msmpeg4v2",
        "pcm_alaw",
        "pcm_mulaw",
        "png",
        "utvideo",
        "vc1",
        "wmalossless",
        "wmapro",
        "wmav1",
        "wmav2",
        "wmv1",
        "wmv2",
        "wmv3",
    }
    assert listed - canonical - (riff if container is MATROSKA else set()) <= {"mp4als"}


def modes(name: str) -> str:
    found = ""
    for mode in "rw":
        try:
            av.codec.Codec(name, mode)
        except ValueError:
            continue
        found += mode
    return found


def test_streams_are_read_no_further_than_asked(film: Path) -> None:
    plans = (
        StreamPlan(index=0, kind="video", codec="h264", action="encode"),
        StreamPlan(index=1, kind="audio", codec="aac", action="copy"),
        StreamPlan(index=2, kind="subtitle", codec="subrip", action="copy"),
    )
    with (
        Remuxer(film, plans, (None, None)) as remuxer,
        av.open(film.parent / "copy.mkv", "w") as output,
    ):
        assert remuxer.first_times()[1] < 0
        for plan in plans:
            remuxer.add(plan, output, Fraction(1), Fraction(0))
        early = list(remuxer.until(Fraction(11, 10)))
        assert early
        assert all(p.dts * Fraction(p.time_base) <= Fraction(11, 10) for p in early)
        late = list(remuxer.rest())
        assert len([p for p in early + late if p.stream.index == 0]) == len(
            media.packets(film, "audio")
        )
