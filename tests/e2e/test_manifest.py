"""Records of jobs, and the same job once more."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import vsr
from tests import media
from vsr import jobs
from vsr.cli.main import run as vsr_command
from vsr.errors import SourceError, UsageError
from vsr.manifest import Content, Manifest
from vsr.planning import UpscaleJob
from vsr.reproducing import reproduce


@pytest.fixture
def record(tmp_path: Path) -> Path:
    source = media.clip(tmp_path / "in.mkv", audio="aac")
    job = UpscaleJob(
        source=source,
        target=tmp_path / "out.mkv",
        scale=2,
        model="bicubic",
        device="cpu",
        segment=3,
        keep_after=0,
        manifest=tmp_path / "run.json",
        sink=vsr.SinkOptions(crf=30),
    )
    jobs.run(job)
    assert job.manifest is not None
    return job.manifest


def test_a_record_says_what_was_made_of_what(record: Path) -> None:
    found = Manifest.load(record)
    folder = record.parent
    assert found.inputs == (Content.of(folder / "in.mkv"),)
    assert found.output == Content.of(folder / "out.mkv")
    assert found.frames == 8
    assert len(found.segments) == 3
    assert found.model.startswith("bicubic (")
    assert found.decided["encoder"] == "x264"
    assert found.decided["setting sink.crf"] == "30"
    assert found.computed["precision"] == "fp32"
    assert set(found.versions) == {"vsr", "torch", "av", "numpy", "python"}
    assert found.timing["seconds"] > 0
    assert found.job.manifest == record


def test_the_output_says_it_too_where_its_container_can(record: Path, tmp_path: Path) -> None:
    tags = media.probe(tmp_path / "out.mkv")["format"]["tags"]  # type: ignore[index]
    assert "model: bicubic" in tags["VSR_MANIFEST"]
    plain = replace(Manifest.load(record).job, target=tmp_path / "plain.mkv", manifest=None)
    jobs.run(plain)
    tags = media.probe(tmp_path / "plain.mkv")["format"]["tags"]  # type: ignore[index]
    assert "VSR_MANIFEST" not in tags


def test_a_recorded_job_gives_the_same_bytes_again(record: Path, tmp_path: Path) -> None:
    found = reproduce(record, tmp_path / "again.mkv")
    assert found.same
    assert (found.frames, found.segment, found.changes) == (8, None, ())
    assert (tmp_path / "again.mkv").read_bytes() == (tmp_path / "out.mkv").read_bytes()


def test_a_moved_input_may_be_named(record: Path, tmp_path: Path) -> None:
    shutil.move(tmp_path / "in.mkv", tmp_path / "moved.mkv")
    with pytest.raises(SourceError, match="is not there any more: name it with --input"):
        reproduce(record)
    assert reproduce(record, source=tmp_path / "moved.mkv").same


@pytest.mark.parametrize("change", ["flipped", "longer"])
def test_a_changed_input_is_refused(record: Path, tmp_path: Path, change: str) -> None:
    data = bytearray((tmp_path / "in.mkv").read_bytes())
    data[-1] ^= 1
    (tmp_path / "in.mkv").write_bytes(data + b"0" * (change == "longer"))
    with pytest.raises(SourceError, match="is not the recorded input"):
        reproduce(record)


def test_other_bytes_and_what_has_changed_are_told(
    record: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(record.read_text())
    told["versions"]["torch"] = "0.1"
    told["output"]["sha256"] = "0" * 64
    told["segments"][1] = "0" * 64
    record.write_text(json.dumps(told))
    assert vsr_command(["reproduce", str(record)]) == 8
    said = capfd.readouterr().err
    assert "vsr: torch was 0.1, now" in said
    assert "the output differs from segment 1 on" in said


def test_the_command_says_so_when_all_is_the_same(
    record: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.iterdir())
    assert vsr_command(["reproduce", str(record)]) == 0
    assert "the same bytes again (8 frames)" in capfd.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"format": 99}', '{"format": 1, "job": 3}', "[" * 9999]
)
def test_what_is_no_record_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UsageError, match="no record"):
        reproduce(tmp_path / "run.json")


def test_a_resumed_job_is_recorded_whole(
    tmp_path: Path, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted and resumed job has the segments and bytes of an undisturbed one."""
    from tests.e2e.test_resume import interrupted

    job = Manifest.load(record).job
    broken = replace(job, target=tmp_path / "broken.mkv", manifest=tmp_path / "broken.json")
    interrupted(broken, 5, monkeypatch)
    assert not (tmp_path / "broken.json").exists()
    jobs.run(broken)
    whole, again = Manifest.load(record), Manifest.load(tmp_path / "broken.json")
    assert again.segments == whole.segments
    assert again.output is not None
    assert whole.output is not None
    assert again.output.sha256 == whole.output.sha256
    assert again.timing["begun"] == 3
    assert "3 frames are there already" in " ".join(again.warnings)
