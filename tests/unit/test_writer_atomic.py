import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vsr.errors import SinkError, SinkExistsError
from vsr.io.atomic import PartialFile, check_target, sink_error


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_has_the_final_name_before_commit(tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    with PartialFile(target) as file:
        file.write(b"abc")
        file.seek(1)
        file.write(b"X")
        assert not target.exists()
        assert names(tmp_path)[0].startswith(".out.mkv.")
        file.commit()
    assert target.read_bytes() == b"aXc"
    assert names(tmp_path) == ["out.mkv"]


def test_leaving_without_commit_leaves_nothing(tmp_path: Path) -> None:
    with PartialFile(tmp_path / "out.mkv") as file:
        file.write(b"abc")
    file.discard()
    assert names(tmp_path) == []


def test_the_longest_name_works(tmp_path: Path) -> None:
    target = tmp_path / ("ü" * 120 + ".mkv")
    with PartialFile(target) as file:
        file.commit()
    assert target.exists()


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    with PartialFile(target) as file:
        target.write_bytes(b"theirs")
        with pytest.raises(SinkExistsError, match="pass -y"):
            file.commit()
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out.mkv"]


def test_overwriting_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.mkv", tmp_path / "link.mkv"
    real.write_bytes(b"old")
    link.symlink_to(real)
    with PartialFile(link, overwrite=True) as file:
        file.write(b"new")
        file.commit()
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_the_leftover_of_a_killed_process_is_removed_and_a_living_ones_is_kept(
    tmp_path: Path,
) -> None:
    target = tmp_path / "out.mkv"
    code = (
        "import os, sys; from pathlib import Path; from vsr.io.atomic import PartialFile; "
        "PartialFile(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    left = set(names(tmp_path))
    assert len(left) == 1
    with PartialFile(target) as first:
        assert left.isdisjoint(names(tmp_path))
        with PartialFile(target):
            assert len(names(tmp_path)) == 2
        assert names(tmp_path) == [Path(first.name).name]


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with PartialFile(tmp_path / "out.mkv") as file:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(OSError, match="space"):
                file.write(b"abc")
        with pytest.raises(SinkError, match=r"disk full while writing .*out\.mkv"):
            file.commit()
    assert names(tmp_path) == []
    assert "cannot be written: Permission" in str(
        sink_error(tmp_path, PermissionError(errno.EACCES, "Permission denied"))
    )


def test_targets_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    old = tmp_path / "old.mkv"
    old.write_bytes(b"old")
    link = tmp_path / "link.mkv"
    link.symlink_to(old)
    with pytest.raises(SinkExistsError, match="pass -y"):
        check_target(old, overwrite=False)
    check_target(old, overwrite=True)
    for same in (old, link, tmp_path / "." / "old.mkv"):
        with pytest.raises(SinkError, match="is the input itself"):
            check_target(same, overwrite=True, source=old)
    with pytest.raises(SinkError, match="does not exist; make it first"):
        check_target(tmp_path / "no" / "out.mkv", overwrite=False)
    with pytest.raises(SinkError, match="is a folder"):
        check_target(tmp_path, overwrite=True)
    with pytest.raises(SinkError):
        check_target(tmp_path / ("x" * 300), overwrite=False)
