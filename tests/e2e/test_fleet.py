"""A file upscaled by several devices: the bytes of one device, also after an interruption."""

from pathlib import Path
from typing import Any

import pytest

from tests import media
from vsr import jobs
from vsr.cli.main import run as vsr_command
from vsr.errors import CancelledError
from vsr.io.av_sink import AvSink
from vsr.planning import UpscaleJob


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "in.mkv"
    return media.clip(path, frames=media.pictures(18, (32, 24)), audio="aac")


def job_for(source: Path, target: Path, device: str) -> UpscaleJob:
    return UpscaleJob(
        source=source,
        target=target,
        device=device,
        model="bicubic",
        scale=2,
        segment=5,
        keep_after=0,
    )


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    target = tmp_path_factory.mktemp("expected") / "out.mkv"
    jobs.run(job_for(source, target, "cpu"))
    return target.read_bytes()


@pytest.mark.parametrize("devices", ["cpu,cpu", "cpu,cpu,cpu"])
def test_several_devices_write_the_bytes_of_one(
    source: Path, tmp_path: Path, expected: bytes, devices: str
) -> None:
    done = jobs.run(job_for(source, tmp_path / "out.mkv", devices))
    assert (done.frames, done.device) == (18, devices)
    assert (tmp_path / "out.mkv").read_bytes() == expected


@pytest.mark.parametrize(("before", "after"), [("cpu,cpu", "cpu"), ("cpu", "cpu,cpu,cpu")])
def test_more_or_fewer_equal_devices_go_on_with_a_job(
    source: Path,
    tmp_path: Path,
    expected: bytes,
    before: str,
    after: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, seen = AvSink.write, []

    def counted(self: AvSink, given: Any) -> None:
        seen.append(given)
        if len(seen) > 12:
            raise CancelledError
        write(self, given)

    target = tmp_path / "out.mkv"
    with monkeypatch.context() as patched:
        patched.setattr(AvSink, "write", counted)
        with pytest.raises(CancelledError):
            jobs.run(job_for(source, target, before))
    done = jobs.run(job_for(source, target, after))
    assert done.begun == 10
    assert target.read_bytes() == expected


def test_the_command_line_takes_a_list(
    source: Path, tmp_path: Path, expected: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.mkv"
    options = ["-n", "bicubic", "-s", "2", "-g", "-1,-1", "--segment", "5", "-o", str(target)]
    assert vsr_command(["upscale", str(source), *options]) == 0
    assert target.read_bytes() == expected
    assert vsr_command(["upscale", str(source), *options, "-d", "cpu"]) == 2
    assert "contradict" in capsys.readouterr().err
