"""The script that trains the embedded networks: how it grows them, and what it calls steady."""

import argparse
import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from tests import media
from vsr.models.compact import Compact, CompactConfig
from vsr.models.folded import Folded, FoldedConfig

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        return importlib.import_module("train_embedded")


@pytest.fixture(scope="module")
def crops(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> object:
    folder = tmp_path_factory.mktemp("pictures")
    for number, shot in enumerate(media.pictures(2, (220, 180))):
        Image.fromarray(shot).save(folder / f"{number}.png")
    return script.draw_crops(folder, 2, 24, 24, 220, 3, script.Damage(windows=1))


@pytest.mark.parametrize(("features", "convs"), [(12, 3), (8, 5), (12, 6)])
def test_a_grown_network_computes_the_same(script: ModuleType, features: int, convs: int) -> None:
    small = CompactConfig(channels=1, features=8, convs=3, scale=2, activation="relu")
    network = Compact(small)
    large = CompactConfig(channels=1, features=features, convs=convs, scale=2, activation="relu")
    low = torch.rand(2, 1, 17, 13)
    grown = script.grown(network, large)
    torch.testing.assert_close(grown(low), network(low), rtol=0, atol=1e-6)
    assert [p.shape for p in grown.parameters()] == [p.shape for p in Compact(large).parameters()]


def test_training_computes_what_the_network_does(script: ModuleType) -> None:
    low = torch.rand(1, 1, 16, 12)
    for network in (
        Compact(CompactConfig(channels=1, features=8, convs=1, scale=3, activation="relu")),
        Folded(FoldedConfig(features=8, convs=1, scale=3)),
    ):
        made = script.enlarged(network, low, bf16=False)
        torch.testing.assert_close(made, network(low), rtol=0, atol=1e-6)


def test_what_successive_frames_show_alike_is_laid_upon_each_other(
    script: ModuleType, crops: object
) -> None:
    """However a batch is turned, the originals agree, and what a codec left of them does not."""
    random = np.random.default_rng(1)
    seen = set()
    for _ in range(12):
        batch = crops.batch(random, 6)  # type: ignore[attr-defined]
        before, after = script.aligned(batch.highs, batch.moves)
        assert torch.equal(before, after)
        assert not torch.equal(*script.aligned(batch.highs, batch.moves + 1))
        seen |= {tuple(move) for move in batch.moves.tolist()}
    assert len(seen) > 6


def test_the_rate_stays_until_it_falls(script: ModuleType) -> None:
    shares = [script.share_of_rate(n / 10, 1000, 0.5) for n in range(11)]
    assert shares[:6] == [1.0] * 6
    assert shares[5:] == sorted(shares[5:], reverse=True)
    assert shares[-1] == pytest.approx(0.005)
    assert script.share_of_rate(1.0, 1000, 1.0) == 1.0
    assert script.share_of_rate(0.0, 2, 1.0) == pytest.approx(0.01)


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, object]:
    """The settings of a run that keeps its crops."""
    teacher = tmp_path / "teacher.safetensors"
    teacher.write_bytes(b"as it was")
    return {
        "pool": tmp_path / "pool.pt",
        "images": tmp_path,
        "data_sha256": "of the pictures",
        "scale": 2,
        "crops": 24,
        "patch": 24,
        "side": 220,
        "seed": 3,
        "video": True,
        "crf": [15, 34],
        "teacher": [teacher],
        "share": 0.8,
    }


@pytest.fixture
def kept(
    script: ModuleType,
    crops: object,
    asked: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> object:
    """The crops of a first run, after which none can be drawn."""
    monkeypatch.setattr(script, "draw_crops", lambda *_: crops)
    monkeypatch.setattr(script, "loaded", lambda _: None)
    monkeypatch.setattr(script, "taught", lambda crops, *_: crops)
    first, seed = script.pooled(argparse.Namespace(**asked))
    assert seed == 3
    monkeypatch.delattr(script, "draw_crops")
    return first


def test_kept_crops_are_taken_up_again(
    script: ModuleType, asked: dict[str, object], kept: object, tmp_path: Path
) -> None:
    """Another seed is another order of the same crops, which were drawn with their own."""
    again, seed = script.pooled(argparse.Namespace(**asked | {"seed": 8}))
    assert seed == 3
    for name in ("lows", "highs", "moves"):
        assert torch.equal(getattr(kept, name), getattr(again, name))
    assert {path.name for path in tmp_path.iterdir()} == {"pool.pt", "teacher.safetensors"}


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"scale": 4}, "scale 2 instead of 4"),
        ({"patch": 32}, "patch 24 instead of 32"),
        ({"data_sha256": "of others"}, "images of the pictures instead of of others"),
        ({"crf": [20, 34]}, r"crf \[15, 34\] instead of \[20, 34\]"),
        ({"video": False}, r"crf \[15, 34\] instead of None"),
        ({"share": 0.5}, "share 0.8 instead of 0.5"),
        ({"teacher": None}, r"teachers \['.*'\] instead of \[\], share 0.8 instead of None"),
    ],
)
def test_crops_that_were_kept_with_other_settings_are_refused(
    script: ModuleType, asked: dict[str, object], other: dict[str, object], said: str
) -> None:
    with pytest.raises(SystemExit, match=f"pool.pt was drawn with {said}: ask for that"):
        script.pooled(argparse.Namespace(**asked | other))


@pytest.mark.usefixtures("kept")
def test_a_teacher_that_has_changed_has_not_taught_the_kept_crops(
    script: ModuleType, asked: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "teacher.safetensors").write_bytes(b"another")
    with pytest.raises(SystemExit, match="teachers"):
        script.pooled(argparse.Namespace(**asked))
