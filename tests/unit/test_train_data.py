"""Data sets: what is read, what is left out, and that an item is the same wherever it is made."""

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from tests.media import clip, pictures
from vsr.errors import SourceError, SourceNotFoundError, UsageError
from vsr.train.data import DataSettings, fingerprint, open_data
from vsr.train.data.crops import Window, drawn_window, luma, turned
from vsr.train.data.files import media_in
from vsr.train.degrade.resizes import matlab_reduced
from vsr.train.strict import structure


@pytest.fixture
def stills(tmp_path: Path) -> Path:
    """Four pictures in a folder and one in it."""
    root = tmp_path / "stills"
    for number, shot in enumerate(pictures(4, (80, 64))):
        path = root / ("3" if number == 3 else "") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(shot).save(path)
    return root


def opened(folder: Path, scale: int = 2, seed: int = 0, **settings: object) -> object:
    return open_data(DataSettings(folders=(folder,), patch=24, **settings), scale, seed)


def tensor(path: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float() / 255


def place_of(crop: Tensor, whole: Tensor) -> tuple[int, int] | None:
    """Where a crop lies in a picture, to the bit."""
    height, width = crop.shape[-2:]
    windows = whole.unfold(-2, height, 1).unfold(-2, width, 1)
    corner = (windows[..., 0, 0] == crop[:, None, None, 0, 0]).all(0).nonzero().tolist()
    for top, left in corner:
        if torch.equal(windows[:, top, left], crop):
            return top, left
    return None


def test_a_low_crop_is_the_crop_of_the_reduced_picture(stills: Path) -> None:
    data = opened(stills, augment=False)
    assert len(data) == 4
    names = ["0.png", "1.png", "2.png", "3/3.png"]
    for index, name in enumerate(names):
        sample, whole = data[index], tensor(stills / name)
        assert sample.low.shape == (3, 12, 12)
        assert sample.high.shape == (3, 24, 24)
        assert sample.low.dtype == sample.high.dtype == torch.float32
        found = place_of(sample.high, whole)
        assert found is not None, "cut to the bit"
        low_place = place_of(sample.low, matlab_reduced(whole, 2))
        assert low_place == (found[0] // 2, found[1] // 2), "no borders from cutting first"


def test_items_follow_from_seed_epoch_and_index(stills: Path) -> None:
    data, again = opened(stills, degradation="bsrgan"), opened(stills, degradation="bsrgan")
    data.set_epoch(3)
    first = [data[index] for index in range(4)]
    again.set_epoch(1)
    again[2]
    again.set_epoch(3)
    for index in (3, 1, 0, 2):  # in any order, after anything else
        assert torch.equal(again[index].low, first[index].low)
        assert torch.equal(again[index].high, first[index].high)
    data.set_epoch(4)
    assert not torch.equal(data[0].low, first[0].low)
    other = opened(stills, degradation="bsrgan", seed=1)
    other.set_epoch(3)
    assert not torch.equal(other[0].low, first[0].low)
    with pytest.raises(IndexError, match="from 0 to 3, got 4"):
        data[4]
    with pytest.raises(IndexError):
        data[-1]


def test_workers_change_nothing(stills: Path) -> None:
    data = opened(stills, degradation="realesrgan", crops=2)
    data.set_epoch(5)
    here = [data[index] for index in range(8)]
    loader = DataLoader(data, None, num_workers=2)
    there = list(loader)
    assert len(there) == 8
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a.low, b.low)
        assert torch.equal(a.high, b.high)


def test_the_cache_changes_nothing_and_stays_behind(stills: Path) -> None:
    kept, read = opened(stills), opened(stills, cache=0)
    for index in range(4):
        assert torch.equal(kept[index].low, read[index].low)
    sent = pickle.dumps(kept)
    assert len(sent) < 64 * 80 * 3, "pictures are not sent to workers"
    assert torch.equal(pickle.loads(sent)[2].high, kept[2].high)  # noqa: S301 - our own


def test_crops_differ_and_cover_the_picture(stills: Path) -> None:
    data = opened(stills, augment=False, crops=60)
    assert len(data) == 240
    whole = tensor(stills / "0.png")
    tops, lefts = zip(*(place_of(data[i].high, whole) for i in range(60)), strict=True)
    assert min(tops) == 0
    assert max(tops) == 40
    assert min(lefts) <= 4
    assert max(lefts) >= 52
    assert all(place % 2 == 0 for place in (*tops, *lefts)), "on the low resolution's grid"


def test_augmentation_gives_all_eight_ways_alike() -> None:
    x = torch.rand(3, 5, 7)
    ways = {
        turned(x, turns, flip).numpy().tobytes() for turns in range(4) for flip in (False, True)
    }
    assert len(ways) == 8
    window = Window(x, 1, 3, 2)
    crop = window.out_of(x)
    for turns in range(4):
        for flip in (False, True):
            moved = window.turned(turns, flip)
            assert torch.equal(moved.out_of(moved.picture), turned(crop, turns, flip))


def test_augmented_pairs_stay_pairs(stills: Path) -> None:
    data = opened(stills, crops=16)
    plain, seen = tensor(stills / "0.png"), set()
    for index in range(16):
        sample = data[index]
        for way in range(8):
            flip, turns = bool(way % 2), way // 2
            back = turned(turned(sample.high, 0, flip), -turns % 4, flip=False)
            if place_of(back, plain) is not None:
                seen.add(way)
        error = (matlab_reduced(sample.high, 2) - sample.low)[:, 3:-3, 3:-3].abs().max()
        assert float(error) < 3 / 255, "columns and rows are rounded in another order when turned"
    assert len(seen) >= 6


def test_channels_change_places_together(stills: Path) -> None:
    plain = opened(stills, augment=False)
    mixed = opened(stills, augment=False, shuffle=1.0, crops=1)
    orders = set()
    for epoch in range(12):
        plain.set_epoch(epoch)
        mixed.set_epoch(epoch)
        a, b = plain[0], mixed[0]
        found = [[torch.equal(x, y) for y in a.high].index(True) for x in b.high]
        assert torch.equal(a.low[found], b.low)
        orders.add(tuple(found))
    assert len(orders) >= 4


def test_luma_is_that_of_both_pictures(stills: Path) -> None:
    rgb, gray = opened(stills), opened(stills, channels="luma")
    assert gray[1].low.shape == (1, 12, 12)
    assert torch.equal(gray[1].high, luma(rgb[1].high))
    assert torch.equal(gray[1].low, luma(rgb[1].low))
    assert float(luma(torch.ones(3, 1, 1))) == pytest.approx(1)


def test_pictures_are_taken_at_several_sizes(stills: Path) -> None:
    data = opened(stills, augment=False, sizes=(1.0, 2.0), crops=40)
    whole = tensor(stills / "0.png")
    full = [place_of(data[i].high, whole) is not None for i in range(40)]
    assert 8 < sum(full) < 32
    halved = data[full.index(False)].high
    assert halved.shape == (3, 24, 24)
    # half the size: neighbours differ by twice as much
    assert float(halved.diff(dim=2).abs().mean()) > float(whole.diff(dim=2).abs().mean())


def test_flat_crops_are_drawn_again(tmp_path: Path) -> None:
    shot = np.full((64, 256, 3), 128, np.uint8)
    shot[:, :96] = pictures(1, (96, 64))[0]
    Image.fromarray(shot).save(tmp_path / "half.png")
    flat, lively = (opened(tmp_path, contrast=least, crops=60) for least in (0.0, 0.02))
    shares = [
        np.mean([float(luma(d[i].high).std()) < 0.02 for i in range(60)]) for d in (flat, lively)
    ]
    assert shares[0] > 0.3
    assert shares[1] < 0.1


def test_a_crop_of_the_whole_picture_and_margins_at_its_edges() -> None:
    picture = torch.randint(0, 256, (3, 24, 26), dtype=torch.uint8)
    window = drawn_window(picture, 24, 4, 8, 1.0, np.random.default_rng(0))
    assert (window.top, window.left) == (0, 0)
    assert window.picture.shape == (3, 24, 24), "cut to a multiple of the scale"


# ---- what is read


def test_frames_of_videos_are_taken_by_time(tmp_path: Path) -> None:
    shots = pictures(20, (64, 48))
    clip(tmp_path / "film.mkv", frames=shots, codec="ffv1", fmt="bgr0", color=None, rate=10)
    data = opened(tmp_path, augment=False, video_every=0.5, video_frames=3, cache=0)
    assert len(data) == 3
    for index, frame in enumerate((0, 5, 10)):
        whole = torch.from_numpy(shots[frame]).permute(2, 0, 1).float() / 255
        assert place_of(data[index].high, whole) is not None, "the exact frame, read anew"


def test_what_is_broken_or_small_is_told_of_in_one_line_and_left_out(
    stills: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (stills / "empty.png").touch()
    (stills / "text.jpg").write_text("no picture")
    whole = (stills / "1.png").read_bytes()
    (stills / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(pictures(1, (80, 23))[0]).save(stills / "low.png")
    (stills / "notes.txt").write_text("not looked at")
    (stills / ".hidden.png").touch()
    (stills / "film.mp4").write_bytes(b"\0" * 100)
    with caplog.at_level(logging.WARNING):
        data = opened(stills)
    assert len(data) == 4
    lines = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    told = [
        name
        for name in sorted(p.name for p in stills.iterdir() if p.is_file())
        if any(name in line for line in lines)
    ]
    assert told == ["cut.png", "empty.png", "film.mp4", "low.png", "text.jpg"]
    assert len(lines) == 5
    assert not any("\n" in line for line in lines)
    assert any("80x23, below 24" in line for line in lines)


def test_nothing_to_learn_from_is_an_error(tmp_path: Path, stills: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no pictures or videos"):
        opened(tmp_path / "empty")
    with pytest.raises(SourceNotFoundError, match="does not exist"):
        opened(tmp_path / "absent")
    with pytest.raises(SourceError, match="no picture of 96 pixels or more"):
        open_data(DataSettings(folders=(stills,), patch=96), 2, 0)
    with pytest.raises(UsageError, match="a multiple of the scale 5"):
        opened(stills, scale=5)


def test_a_picture_that_changes_during_a_run_is_noticed(stills: Path) -> None:
    data = opened(stills, cache=0)
    Image.fromarray(pictures(1, (40, 40))[0]).save(stills / "0.png")
    with pytest.raises(SourceError, match="has changed since the run began"):
        data[0]


def test_gray_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    shot = pictures(1, (64, 48))[0]
    Image.fromarray(shot[..., 0]).save(tmp_path / "gray.png")
    Image.fromarray(shot).convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(shot).quantize(64).save(tmp_path / "palette.png")
    data = opened(tmp_path)
    assert len(data) == 3
    assert all(data[i].high.shape == (3, 24, 24) for i in range(3))
    gray = data[1].high
    assert torch.equal(gray[0], gray[2])


def test_order_does_not_depend_on_the_file_system(stills: Path) -> None:
    (stills / "10.png").write_bytes((stills / "0.png").read_bytes())
    names = [name for name, _ in media_in(stills)]
    assert names == ["0.png", "1.png", "2.png", "3/3.png", "10.png"]
    assert media_in(stills / "2.png") == [("2.png", stills / "2.png")]


def test_the_fingerprint_is_of_names_and_contents(stills: Path, tmp_path: Path) -> None:
    settings = DataSettings(folders=(stills,))
    first = fingerprint(settings)
    assert len(first) == 64
    assert opened(stills).fingerprint() == first
    moved = stills.rename(tmp_path / "elsewhere")
    settings = DataSettings(folders=(moved,))
    assert fingerprint(settings) == first, "wherever it lies"
    (moved / "0.png").rename(moved / "7.png")
    renamed = fingerprint(settings)
    assert renamed != first
    with (moved / "7.png").open("ab") as file:
        file.write(b"\0")
    assert fingerprint(settings) != renamed


# ---- pairs


def test_pairs_are_found_by_name_and_cut_alike(stills: Path, tmp_path: Path) -> None:
    lows = tmp_path / "lows"
    for name, stored in (("0", "0x2"), ("1", "1"), ("2", "2x2"), ("3/3", "3/3")):
        low = matlab_reduced(tensor(stills / f"{name}.png"), 2)
        path = lows / f"{stored}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((low * 255).round().byte().permute(1, 2, 0).numpy()).save(path)
    paired = opened(stills, lows=lows, crops=4)
    for index in range(16):
        sample = paired[index]
        error = (matlab_reduced(sample.high, 2) - sample.low)[:, 3:-3, 3:-3].abs().max()
        assert float(error) < 3 / 255
    plain = opened(stills, lows=lows, augment=False)[0]
    low, high = (tensor(folder / name) for folder, name in ((lows, "0x2.png"), (stills, "0.png")))
    top, left = place_of(plain.low, low) or (-1, -1)
    assert place_of(plain.high, high) == (2 * top, 2 * left)


def test_pairs_that_do_not_fit_are_refused(stills: Path, tmp_path: Path) -> None:
    lows = tmp_path / "lows"
    (lows / "3").mkdir(parents=True)
    for name in ("0", "1", "2"):
        Image.fromarray(pictures(1, (40, 32))[0]).save(lows / f"{name}.png")
    with pytest.raises(SourceError, match=r"3\.png has no counterpart"):
        opened(stills, lows=lows)
    Image.fromarray(pictures(1, (41, 32))[0]).save(lows / "3/3.png")
    with pytest.raises(SourceError, match=r"41x32 for 80x64: 40x32 is expected"):
        opened(stills, lows=lows)


def test_unpaired_crops_have_nothing_to_do_with_each_other(stills: Path, tmp_path: Path) -> None:
    lows = tmp_path / "lows"
    lows.mkdir()
    for number, shot in enumerate(pictures(2, (40, 32), seed=9)):
        Image.fromarray(shot).save(lows / f"other{number}.png")
    data = opened(stills, lows=lows, unpaired=True, augment=False, crops=12)
    assert len(data) == 48
    places = {
        (name, place)
        for index in range(12)
        for name in ("other0.png", "other1.png")
        if (place := place_of(data[index].low, tensor(lows / name))) is not None
    }
    assert len({name for name, _ in places}) == 2, "any low picture beside the first high one"
    assert len(places) > 6
    assert torch.equal(data[3].low, data[3].low)


def test_unpaired_crops_without_lows_are_degraded_of_other_pictures(stills: Path) -> None:
    settings = {"degradation": "dasr", "degradation_settings": {"noise": [0.0, 0.0]}}
    pair = {**settings, "augment": False, "crops": 8}
    alike, apart = opened(stills, **pair), opened(stills, **pair, unpaired=True)

    def far(index: int) -> tuple[float, float]:
        samples = alike[index], apart[index]
        reduced = matlab_reduced(samples[0].high, 2)
        return tuple(float((sample.low - reduced).square().mean()) for sample in samples)

    assert sum(own < other for own, other in map(far, range(32))) > 28
    for one, other in zip((alike[k] for k in range(4)), (apart[k] for k in range(4)), strict=True):
        assert torch.equal(one.high, other.high)
        assert one.low.shape == other.low.shape
    assert torch.equal(apart[3].low, apart[3].low)


def test_without_a_degradation_the_batch_is_degraded_later(stills: Path) -> None:
    sample = opened(stills, degradation="none")[0]
    assert sample.low.shape == (3, 0, 0)
    assert sample.high.shape == (3, 24, 24)


# ---- settings


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "data.folders is missing"),
        ({"folders": []}, "folders is empty"),
        ({"folders": ["a"], "patchsize": 3}, "data.patchsize is unknown"),
        ({"folders": ["a"], "patch": 0}, "data.patch is 0"),
        ({"folders": ["a"], "unpaired": True, "degradation": "none"}, "needs lows"),
        (
            {
                "folders": ["a"],
                "unpaired": True,
                "degradation": "realesrgan",
                "degraded_on": "device",
            },
            "needs lows",
        ),
        ({"folders": ["a"], "sizes": [0.5]}, r"data.sizes\[0\] is 0.5"),
        ({"folders": ["a"], "lows": "b", "sizes": [1, 2]}, "pairs come from two folders"),
        ({"folders": ["a"], "channels": "yuv"}, "data.channels is 'yuv'"),
    ],
)
def test_settings_are_strict(table: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        structure(DataSettings, table, "data")


def test_a_table_of_a_recipe_opens_data(stills: Path) -> None:
    table = {
        "folders": [str(stills)],
        "patch": 24,
        "degradation": "realesrgan",
        "degradation_settings": {"sharpen": False, "first": {"jpeg": [40, 60]}},
    }
    data = open_data(structure(DataSettings, table, "data"), 4, 0)
    assert data[0].low.shape == (3, 6, 6)
    with pytest.raises(UsageError, match=r"degradation realesrgan\.sharp is unknown"):
        opened(stills, degradation="realesrgan", degradation_settings={"sharp": True})
