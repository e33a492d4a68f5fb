"""The comparison with peers: its judge sees every loss, and its dataflows are what they say."""

import argparse
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest

from tests.media import REPO, clip, decoded, pictures

BENCH = REPO / "scripts" / "bench"
OPTIONS = argparse.Namespace(scale=2, preset="ultrafast", crf=18)


@pytest.fixture(name="bench", autouse=True)
def among_the_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.fixture(name="fidelity")
def judge() -> ModuleType:
    import _fidelity

    return _fidelity


@pytest.fixture(name="flows")
def dataflows() -> ModuleType:
    import _flows

    return _flows


def twice(picture: np.ndarray) -> np.ndarray:
    return picture.repeat(2, axis=0).repeat(2, axis=1)


def larger(count: int = 8) -> list[np.ndarray]:
    return [twice(picture) for picture in pictures(count)]


def test_a_film_that_is_only_larger_has_lost_nothing(fidelity: ModuleType, folder: Path) -> None:
    facts = {"audio": "aac", "subtitles": [(0.0, 0.1, "one")], "tags": {"title": "a film"}}
    one = clip(folder / "one.mkv", **facts)
    assert fidelity.losses(one, one) == []
    assert fidelity.losses(one, clip(folder / "two.mkv", frames=larger(), **facts)) == []


@pytest.mark.parametrize(
    ("source", "output", "loss"),
    [
        ({}, {"frames": larger(7)}, "7 frames for 8"),
        (
            {"pts": [0, 40, 80, 300, 310, 320, 360, 400], "time_base": Fraction(1, 1000)},
            {},
            "times up to 180 ms off",
        ),
        ({"audio": "aac"}, {}, "audio 0 of 1"),
        ({"audio": "aac"}, {"audio": "libmp3lame"}, "audio changed"),
        ({"subtitles": [(0.0, 0.1, "one")]}, {}, "subtitle 0 of 1"),
        ({"tags": {"title": "a film"}}, {}, "titles and languages (a film)"),
        ({"fmt": "yuv420p10le"}, {}, "8 bits for 10"),
        ({"fmt": "yuv444p"}, {}, "half of the chroma"),
        ({"aspect": Fraction(64, 45)}, {}, "aspect 1.33 for 1.90"),
        ({}, {"color": None}, "colour tags"),
    ],
)
def test_a_loss_is_named(
    source: dict, output: dict, loss: str, fidelity: ModuleType, folder: Path
) -> None:
    made = clip(folder / "two.mkv", **({"frames": larger()} | output))
    assert loss in fidelity.losses(clip(folder / "one.mkv", **source), made)


def test_untagged_hd_is_seen_as_a_player_shows_it(fidelity: ModuleType, folder: Path) -> None:
    shots = [twice(twice(picture)) for picture in pictures(1, (320, 180))]
    one = clip(folder / "one.mkv", frames=1, size=(320, 180))
    made = clip(folder / "two.mkv", frames=shots, color=None)
    first, second = fidelity.losses(one, made)
    assert first == "colour tags"
    assert second.startswith("colours ")
    assert fidelity.losses(one, clip(folder / "three.mkv", frames=shots)) == []


@pytest.mark.ffmpeg
@pytest.mark.parametrize("flow", ["script", "pictures"])
def test_a_flow_carries_every_picture(flow: str, flows: ModuleType, folder: Path) -> None:
    source = clip(folder / "one.mkv", audio="flac")
    flows.FLOWS[flow](source, folder / "two.mkv", twice, OPTIONS)
    before, after = decoded(source), decoded(folder / "two.mkv")
    assert len(after) == len(before)
    with av.open(folder / "two.mkv") as file:
        assert [stream.type for stream in file.streams] == ["video", "audio"]
    for (_, small), (_, large) in zip(before, after, strict=True):
        assert large.shape == (96, 128, 3)
        apart = np.abs(large[::2, ::2].astype(int) - small)
        assert apart.mean() < 6, "x264 and two conversions alter less"


@pytest.mark.ffmpeg
def test_the_scripts_flow_flattens_uneven_times(
    flows: ModuleType, fidelity: ModuleType, folder: Path
) -> None:
    uneven = [0, 40, 80, 310, 320, 360, 900, 940]
    source = clip(folder / "one.mkv", pts=uneven, time_base=Fraction(1, 1000))
    flows.script(source, folder / "two.mp4", twice, OPTIONS)
    assert any(
        "frames for" in loss or "times" in loss
        for loss in fidelity.losses(source, folder / "two.mp4")
    )


def test_the_rebuilt_way_is_the_network_itself(flows: ModuleType) -> None:
    import torch

    from vsr.engine.loading import find_model

    enlarge = flows.rebuilt(2, None)
    gray = np.repeat(np.random.default_rng(0).integers(0, 256, (12, 16, 1), np.uint8), 3, axis=2)
    made = enlarge(gray)
    module = find_model(factor=Fraction(2)).module
    assert module is not None
    with torch.no_grad():
        luma = module(torch.from_numpy(gray[..., 0] / np.float32(255))[None, None])
    expected = (luma.clamp(0, 1)[0, 0] * 255).round().numpy()
    assert made.shape == (24, 32, 3)
    assert np.abs(made - expected[..., None]).max() <= 1, "float32 sums of the colour matrix"


def test_peers_that_are_not_installed_are_named() -> None:
    import peers

    found, absent = peers.present(peers.PEERS, [sys.executable])
    assert {"vsr", "vsr --fp32"} <= {peer.name for peer in found}
    assert {peer.package for peer in peers.PEERS} - {""} == {p.package for p in found} - {""} | {
        *absent
    }


def test_a_job_that_fails_is_an_error_and_one_that_works_tells_its_memory() -> None:
    import peers

    with pytest.raises(RuntimeError, match="no such thing"):
        peers.run([sys.executable, "-c", "raise SystemExit('no such thing')"])
    spent, peak = peers.run(
        [sys.executable, "-c", "import time; x = b'1' * 99_000_000; time.sleep(0.4)"]
    )
    assert spent > 0.4
    assert peak is None or peak > 90


def test_a_row_is_the_best_round_without_the_start(
    folder: Path, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peers

    spent = {"vsr": iter([9.0, 3.0, 2.0, 2.5, 1.0]), "theirs": iter([9.0, 8.0, 2.0, 7.0, 4.0])}
    monkeypatch.setattr(peers, "command", lambda peer, *_: peer.name)
    monkeypatch.setattr(peers, "run", lambda name: (next(spent[name]), 100.4))
    two = [peers.Peer(name=name, origin="vsr", work=()) for name in spent]
    case = peers.Case(network="n", size=(32, 32), scale=2)
    options = argparse.Namespace(frames=8, rounds=2, clip=film)
    rows = peers.speed(case, two, None, folder, options)
    assert [row["seconds"] for row in rows] == [2.5, 7.0]
    assert [row["fps"] for row in rows] == [3.2, 1.14]
    assert [row["steady_fps"] for row in rows] == [4.0, 1.2], "6 frames in 1.5 s and in 5 s"
    assert [row["peak_mb"] for row in rows] == [100, 100]
