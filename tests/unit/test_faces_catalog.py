"""The catalogue of what `--face-enhance` needs."""

import re
import subprocess
import sys

import pytest

from vsr.checkpoints import cached_path, ensure, verify
from vsr.errors import DownloadError, UnknownModelError
from vsr.faces.catalog import face_checkpoints, find_face_checkpoint
from vsr.models.catalog import published


def test_entries_are_pinned_and_official():
    for entry in face_checkpoints():
        assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256 or "")
        assert entry.url.startswith(
            ("https://github.com/TencentARC/", "https://github.com/xinntao/")
        )
        assert entry.url.endswith(f"/{entry.filename}")
    names = [
        n.casefold() for e in (*face_checkpoints(), *published()) for n in (e.name, *e.aliases)
    ]
    assert len(names) == len(set(names))
    assert len({entry.sha256 for entry in face_checkpoints()}) == len(face_checkpoints())


@pytest.mark.parametrize("name", ["GFPGANv1.4", "gfpganv1.4.pth", "GFPGAN", "gfpgan_1.4"])
def test_names_people_type(name):
    assert find_face_checkpoint(name, "restorer").name == "GFPGANv1.4"


def test_unknown_names_are_answered():
    with pytest.raises(UnknownModelError, match=r"did you mean GFPGANv1\.3\?"):
        find_face_checkpoint("GFPGANv13", "restorer")
    with pytest.raises(UnknownModelError, match=r"there is GFPGANv1\.4 or GFPGANv1\.3"):
        find_face_checkpoint("retinaface", "restorer")


def test_the_cache_takes_them(tmp_path, monkeypatch):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path))
    entry = find_face_checkpoint("gfpgan")
    assert cached_path(entry) == tmp_path / "models" / "GFPGANv1.4.pth"
    assert verify(entry) == "absent"
    with pytest.raises(DownloadError, match="offline mode forbids"):
        ensure(entry, offline=True)
    cached_path(entry).parent.mkdir()
    cached_path(entry).write_bytes(b"something else")
    assert verify(entry) == "damaged"


def test_is_free_of_torch():
    code = "import sys, vsr.faces.catalog, vsr.faces.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
