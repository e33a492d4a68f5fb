"""Files of encoded pictures, their decoding times, and the journal over them."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsr.errors import JournalError, SinkError
from vsr.io.journal import (
    JobFolder,
    files_of,
    find_folders,
    folder_of,
    in_use,
    read_journal,
    remove_job,
)
from vsr.io.segments import Piece, Segment, SegmentWriter, dated, is_whole, read_pieces

FACTS = {"the model": "a", "the size": "2x2"}


def piece(pts: int, data: bytes = b"x") -> Piece:
    return Piece(pts, 1, pts == 0, data, b"")


def stored(folder: JobFolder, times: list[int]) -> Segment:
    writer = folder.begin(len(folder.journal.segments))
    for pts in times:
        writer.add(piece(pts))
    segment = writer.finish()
    folder.add(segment)
    return segment


@st.composite
def _films(draw: st.DrawFn) -> list[list[int]]:
    """Segments of rising times, each put in some order that an encoder may choose."""
    gaps = draw(st.lists(st.integers(1, 1000), min_size=1, max_size=40))
    size = draw(st.integers(1, 12))
    times = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    parts = [times[i : i + size] for i in range(0, len(times), size)]
    return [[part[0], *draw(st.permutations(part[1:]))] for part in parts]


@given(_films())
def test_decoding_times_rise_across_joints_and_never_pass_the_presentation(
    tmp_path_factory: pytest.TempPathFactory, film: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("film")
    paths, delays = [], []
    for number, part in enumerate(film):
        paths.append(folder / str(number))
        writer = SegmentWriter(paths[-1])
        for pts in part:
            writer.add(piece(pts))
        delays.append(writer.finish().delay)
    found = list(dated(paths, max(delays)))
    assert [p.pts for p, _ in found] == [pts for part in film for pts in part]
    decoding = [dts for _, dts in found]
    assert all(a < b for a, b in pairwise(decoding))
    assert all(dts <= p.pts for p, dts in found)


def test_packets_come_back_as_they_were(tmp_path: Path) -> None:
    pieces = [Piece(-5, 3, True, b"abc", b"12345678alpha"), Piece(7, 0, False, b"", b"")]
    writer = SegmentWriter(tmp_path / "s")
    for one in pieces:
        writer.add(one)
    segment = writer.finish()
    assert list(read_pieces(tmp_path / "s")) == pieces
    assert (segment.frames, segment.first, segment.delay) == (2, -5, 0)
    assert is_whole(tmp_path / "s", segment)


@pytest.mark.parametrize("change", ["shorter", "longer", "flipped", "gone"])
def test_a_changed_segment_is_not_whole(tmp_path: Path, change: str) -> None:
    path = tmp_path / "s"
    writer = SegmentWriter(path)
    writer.add(piece(0, b"data" * 10))
    segment = writer.finish()
    data = bytearray(path.read_bytes())
    data[20] ^= 1 if change == "flipped" else 0
    new = {"shorter": data[:-1], "longer": data + b"0"}.get(change, data)
    path.write_bytes(new)
    if change == "gone":
        path.unlink()
    assert not is_whole(path, segment)


def test_a_journal_is_gone_on_with(tmp_path: Path) -> None:
    target = tmp_path / "film.mkv"
    with JobFolder(target, facts=FACTS, frames=2) as folder:
        folder.note(job="how")
        segments = (stored(folder, [0, 1]), stored(folder, [2, 3]))
        folder.begin(2).discard()
        (folder_of(target) / "000002.packets").write_bytes(b"of a killed run")
    with JobFolder(target, facts=FACTS, frames=2) as folder:
        assert folder.journal.segments == segments
        assert folder.journal.frames == 4
        assert folder.journal.notes == {"job": "how"}
        assert [path.is_file() for path in folder.paths()] == [True, True]
        left = {path.name for path in folder_of(target).iterdir()}
        assert left == {"journal.json", "000000.packets", "000001.packets"}
        folder.complete()
    with JobFolder(target, facts=FACTS) as folder:
        assert folder.journal.complete
        folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_short_work_is_not_kept(tmp_path: Path) -> None:
    target = tmp_path / "film.mkv"
    with JobFolder(target, facts=FACTS, keep_after=1000) as folder:
        stored(folder, [0])
        stored(folder, [1])
        assert all(path.is_file() for path in folder.paths())
        assert not any(path.is_dir() for path in tmp_path.iterdir())
        assert in_use(folder_of(target))
        assert find_folders(tmp_path) == [folder_of(target)]
        with pytest.raises(JournalError, match="another process"):
            JobFolder(target, facts=FACTS)
        assert not folder.kept
    assert list(tmp_path.iterdir()) == []


def test_drafts_become_segments_once_there_is_enough_to_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, clock = tmp_path / "film.mkv", [100.0]
    monkeypatch.setattr("vsr.io.journal.time.monotonic", lambda: clock[0])
    with JobFolder(target, facts=FACTS, keep_after=60) as folder:
        drafts = [stored(folder, [0]), stored(folder, [1])]
        began_before = folder.begin(2)
        began_before.add(piece(2))
        clock[0] += 60
        third = began_before.finish()
        began_after = folder.begin(3)
        began_after.add(piece(3))
        folder.add(third)
        fourth = began_after.finish()
        folder.add(fourth)
        assert folder.kept
        assert [path.parent for path in folder.paths()] == [folder_of(target)] * 4
    assert [path.name for path in tmp_path.iterdir()] == [folder_of(target).name]
    with JobFolder(target, facts=FACTS, keep_after=60) as folder:
        assert folder.journal.segments == (*drafts, third, fourth)
        assert folder.kept
        folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_drafts_of_a_killed_job_are_removed_by_the_next(tmp_path: Path) -> None:
    target, lock = tmp_path / "film.mkv", folder_of(tmp_path / "film.mkv").with_suffix(".vsr-lock")
    with JobFolder(target, facts=FACTS, keep_after=60) as folder:
        stored(folder, [0])
        left = folder.paths()[0].read_bytes()
        name = folder.paths()[0].name
    other = tmp_path / f"{name}.of-somebody"
    other.write_bytes(b"")
    for path in (tmp_path / name, lock):
        path.write_bytes(left)
    assert not in_use(folder_of(target))
    assert find_folders(tmp_path) == [folder_of(target)]
    assert files_of(folder_of(target)) == [tmp_path / name]
    with JobFolder(target, facts=FACTS, keep_after=60) as folder:
        assert not (tmp_path / name).exists()
        assert folder.journal.frames == 0
    assert list(tmp_path.iterdir()) == [other]


def test_what_a_job_left_is_removed_unless_somebody_works_on_it(tmp_path: Path) -> None:
    target = tmp_path / "film.mkv"
    with JobFolder(target, facts=FACTS) as folder:
        stored(folder, [0])
        assert not remove_job(folder_of(target))
        assert folder.paths()[0].is_file()
    assert remove_job(folder_of(target))
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_whole_is_used(tmp_path: Path) -> None:
    target = tmp_path / "film.mkv"
    with JobFolder(target, facts=FACTS) as folder:
        first = stored(folder, [0])
        stored(folder, [1])
        stored(folder, [2])
        folder.complete()
        folder.paths()[1].write_bytes(b"torn")
    with JobFolder(target, facts=FACTS) as folder:
        assert folder.journal.segments == (first,)
        assert not folder.journal.complete


def test_a_job_without_a_finished_segment_leaves_nothing(tmp_path: Path) -> None:
    with JobFolder(tmp_path / "film.mkv", facts=FACTS) as folder:
        writer = folder.begin(0)
        writer.add(piece(0))
        writer.discard()
        assert find_folders(tmp_path) == [folder_of(tmp_path / "film.mkv")]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("facts", [{**FACTS, "the model": "b"}, {"the size": "2x2"}])
def test_another_job_is_refused_by_name_and_restart_begins_anew(
    tmp_path: Path, facts: dict[str, str]
) -> None:
    target = tmp_path / "film.mkv"
    with JobFolder(target, facts=FACTS) as folder:
        stored(folder, [0])
    with pytest.raises(JournalError, match=r"had the model a, now it is (b|not set).*--restart"):
        JobFolder(target, facts=facts)
    assert read_journal(folder_of(target)) is not None
    with JobFolder(target, facts=facts, restart=True) as folder:
        assert folder.journal.frames == 0


def test_a_job_that_cannot_go_on_does_not_take_the_place_of_one_that_can(tmp_path: Path) -> None:
    target = tmp_path / "film.mkv"
    with JobFolder(target, facts=FACTS) as folder:
        stored(folder, [0])
    with pytest.raises(JournalError, match="vsr jobs"):
        JobFolder(target)
    assert read_journal(folder_of(target)) is not None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 99}', "[" * 9999], ids=range(6))
def test_a_journal_that_cannot_be_understood_is_none(tmp_path: Path, text: str) -> None:
    target = tmp_path / "film.mkv"
    with JobFolder(target, facts=FACTS) as folder:
        stored(folder, [0])
    (folder_of(target) / "journal.json").write_text(text)
    with JobFolder(target, facts=FACTS) as folder:
        assert folder.journal.frames == 0


def test_the_journal_is_readable_and_replaced_in_one_step(tmp_path: Path) -> None:
    with JobFolder(tmp_path / "film.mkv", facts=FACTS) as folder:
        stored(folder, [0, 1, 2])
        place = folder_of(tmp_path / "film.mkv")
        told = json.loads((place / "journal.json").read_text())
        assert told["facts"] == FACTS
        assert told["segments"][0]["frames"] == 3
        assert not (place / "journal.json.new").exists()


def test_two_processes_do_not_write_one_target(tmp_path: Path) -> None:
    target = tmp_path / "film.mkv"
    with JobFolder(target, facts=FACTS) as folder:
        assert in_use(folder_of(target))
        with pytest.raises(JournalError, match="another process"):
            JobFolder(target, facts=FACTS)
        stored(folder, [0])
    assert not in_use(folder_of(target))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot be written"):
        JobFolder(tmp_path / "missing" / "film.mkv", facts=FACTS)
