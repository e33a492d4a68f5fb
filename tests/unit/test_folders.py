"""A folder's job: every picture once, each complete or absent, in spite of its neighbours."""

import errno
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vsr
from vsr import folders
from vsr.errors import CancelledError, SinkError, UsageError
from vsr.folders import FolderJob
from vsr.io.plan import SinkOptions
from vsr.io.stills import read_still
from vsr.planning import UpscaleJob


def fill(folder: Path, **sizes: tuple[int, int]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed, (name, (width, height)) in enumerate(sizes.items()):
        samples = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        paths.append(folder / f"{name}.png")
        Image.fromarray(samples).save(paths[-1])
    return paths


def job_for(paths, out: Path, *, overwrite=False, **settings) -> FolderJob:
    settings = {"scale": 2, "model": "bicubic", "device": "cpu"} | settings
    how = UpscaleJob(
        source=Path(), target=Path(), sink=SinkOptions(overwrite=overwrite), **settings
    )
    return FolderJob(pairs=[(p, out / f"{p.stem}.png") for p in paths], target=out, how=how)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("model", ["bicubic", "vsr-fast"])
def test_pixels_equal_those_of_upscale_frames(model, tmp_path):
    paths = fill(tmp_path / "in", a=(30, 20), b=(17, 23), c=(30, 20), d=(1, 3))
    result = folders.run(job_for(paths, tmp_path / "out", model=model))
    assert (result.frames, result.skipped, result.failed) == (4, 0, {})
    for path in paths:
        (expected,) = vsr.upscale_frames(path, scale=2, model=model, device="cpu")
        got = read_still(tmp_path / "out" / path.name).frame
        assert got.format == expected.format
        for p, q in zip(got.planes, expected.planes, strict=True):
            assert np.array_equal(p, q)


def test_sizes_that_alternate_share_two_networks(tmp_path, monkeypatch):
    made = []
    original = folders.upscaler_for

    def counted(*args, **how):
        made.append(args[2][0].width)
        return original(*args, **how)

    monkeypatch.setattr(folders, "upscaler_for", counted)
    sizes = {f"p{k}": ((20, 10) if k % 2 else (10, 20)) for k in range(12)}
    paths = fill(tmp_path / "in", **sizes)
    result = folders.run(job_for(paths, tmp_path / "out", batch=4))
    assert result.frames == 12
    assert sorted(made) == [10, 20]
    for path in paths:
        width, height = sizes[path.stem]
        with Image.open(tmp_path / "out" / path.name) as picture:
            assert picture.size == (2 * width, 2 * height)


def test_networks_on_the_device_are_few(tmp_path):
    paths = fill(tmp_path / "in", **{f"p{k}": (8 + k, 8) for k in range(9)})
    assert folders.run(job_for(paths, tmp_path / "out")).frames == 9


def test_finished_pictures_are_skipped(tmp_path):
    paths = fill(tmp_path / "in", a=(8, 8), b=(8, 8))
    out = tmp_path / "out"
    folders.run(job_for(paths[:1], out))
    (out / "a.png").write_bytes(b"mine")
    result = folders.run(job_for(paths, out))
    assert (result.frames, result.skipped) == (1, 1)
    assert (out / "a.png").read_bytes() == b"mine"
    result = folders.run(job_for(paths, out, overwrite=True))
    assert (result.frames, result.skipped) == (2, 0)
    assert (out / "a.png").read_bytes() != b"mine"
    assert folders.run(job_for(paths, out)).frames == 0


def test_a_broken_picture_does_not_stop_the_others(tmp_path):
    paths = fill(tmp_path / "in", a=(8, 8), b=(40, 40), c=(8, 8), d=(8, 8))
    paths[0].write_bytes(b"")
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    result = folders.run(job_for(paths, tmp_path / "out"))
    assert result.frames == 2
    assert set(result.failed) == set(paths[:2])
    assert names(tmp_path / "out") == ["c.png", "d.png"]


def test_where_all_fail_no_folder_is_made(tmp_path):
    paths = fill(tmp_path / "in", a=(8, 8))
    paths[0].write_bytes(b"nothing")
    result = folders.run(job_for(paths, tmp_path / "out"))
    assert (result.frames, len(result.failed)) == (0, 1)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_stops_the_job_and_leaves_whole_files_only(tmp_path, monkeypatch):
    paths = fill(tmp_path / "in", **{f"p{k}": (8, 8) for k in range(8)})
    original = folders.write_whole

    def full(path, data, **how):
        if path.stem == "p3":
            error = OSError(errno.ENOSPC, "No space left on device")
            msg = "disk full"
            raise SinkError(msg) from error
        original(path, data, **how)

    monkeypatch.setattr(folders, "write_whole", full)
    with pytest.raises(SinkError, match="disk full"):
        folders.run(job_for(paths, tmp_path / "out"))
    assert all(read_still(p).info.width == 16 for p in (tmp_path / "out").iterdir())
    assert "p3.png" not in names(tmp_path / "out")


def test_stopping_leaves_whole_files_only(tmp_path):
    paths = fill(tmp_path / "in", **{f"p{k}": (64, 64) for k in range(30)})

    def stop(_progress):
        raise CancelledError

    with pytest.raises(CancelledError):
        folders.run(job_for(paths, tmp_path / "out", scale=8), stop)
    made = list((tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else []
    assert all(read_still(p).info.width == 512 for p in made)
    assert not [p for p in made if p.name.startswith(".")]
    assert folders.run(job_for(paths, tmp_path / "out", scale=8)).skipped == len(made)


def test_names_that_clash_are_refused_before_work(tmp_path):
    paths = fill(tmp_path / "in", a=(8, 8))
    Image.open(paths[0]).save(tmp_path / "in" / "a.jpg")
    with pytest.raises(UsageError, match="would both become"):
        job_for([*paths, tmp_path / "in" / "a.jpg"], tmp_path / "out")
    with pytest.raises(UsageError, match="one of the inputs"):
        job_for(paths, tmp_path / "in")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(UsageError, match="one of the inputs"):
        job_for(paths, tmp_path / "link")


def test_a_folder_in_a_missing_folder_is_refused(tmp_path):
    paths = fill(tmp_path / "in", a=(8, 8))
    with pytest.raises(SinkError, match="does not exist"):
        folders.run(job_for(paths, tmp_path / "x" / "y"))


def test_tags_and_settings_reach_the_files(tmp_path):
    paths = fill(tmp_path / "in", a=(8, 8))
    Image.open(paths[0]).save(paths[0], dpi=(300, 300))
    folders.run(job_for(paths, tmp_path / "out", scale=Fraction(3, 2), readers=3, writers=1))
    with Image.open(tmp_path / "out" / "a.png") as made:
        assert made.size == (12, 12)
        assert made.info["dpi"] == pytest.approx((300, 300), abs=0.01)
