"""Measures of a run, validation on pictures not learned from, degradation on the device."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import vsr
from vsr.checkpoints import read_checkpoint
from vsr.errors import CancelledError, SourceError, UsageError
from vsr.metrics import luma, psnr, ssim
from vsr.train import loop, measures, onboard, state
from vsr.train.loop import TrainJob, train
from vsr.train.recipe import parse_recipe
from vsr.train.settings import ValidationSettings
from vsr.train.strict import structure
from vsr.train.tasks._base import Batch
from vsr.train.validation import Validation


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Soft noise with edges in it, three of 48 × 56."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for number in range(3):
        small = random.integers(0, 255, (12, 14, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((56, 48), Image.Resampling.BICUBIC)
        picture.paste((250, 20, 90), (8 * number, 10, 8 * number + 9, 30))
        picture.save(folder / f"{number}.png")
    return folder


def job(folder, photos, *, data=None, stage=None, restart=False, **changes):
    made = {
        "version": 1,
        "title": "of the tests",
        "scale": 2,
        "network": {
            "architecture": "compact",
            "config": {"features": 4, "convs": 1, "scale": 2, "activation": "relu"},
            "init": "identity",
        },
        "data": {"folders": [str(photos)], "patch": 16, **(data or {})},
        "stages": [
            {"name": "one", "steps": 6, "batch": 2, "losses": [{"kind": "l1"}], **(stage or {})}
        ],
        "workers": 0,
        "save_every": 2,
        "log_every": 1,
        "sample_every": 0,
        **changes,
    }
    return TrainJob(
        recipe=parse_recipe(made), table=made, folder=folder, device="cpu", restart=restart
    )


def stop_after(count):
    asked = []

    def stopping():
        asked.append(1)
        return len(asked) == count

    return stopping


def lines_of(folder, key):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line[key] for line in lines if key in line}


def opened(photos, *, multiple=1, scale=2, table=None, **settings):
    facts = {"folders": [str(photos)], **settings}
    made = structure(ValidationSettings, facts, "validation")
    return Validation(made, {"folders": [str(photos)], **(table or {})}, scale, multiple, 0)


def bicubic(batch):
    guess = torch.nn.functional.interpolate(batch.low, scale_factor=2, mode="bicubic")
    return guess.clamp(0, 1), guess.clamp(0, 1), batch.high


def test_figures_of_samples():
    random = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 16, 16, generator=random)
    found = measures.fidelity([target * 0 + 0.5, target, target])
    assert found["psnr"] == pytest.approx(100)
    assert found["features"] == 0
    assert found["features_before"] > 0.1
    assert found["psnr_before"] == pytest.approx(
        -10 * np.log10(float(((target - 0.5) ** 2).mean())), abs=1e-4
    )
    assert "spectrum" not in found


def test_the_spectral_gap_knows_strength_and_colour_of_noise_but_no_pixel():
    random = torch.Generator().manual_seed(1)
    first, second = (torch.randn(8, 3, 32, 32, generator=random) / 20 for _ in range(2))
    assert measures.spectral_gap(first, second) < 0.5
    assert measures.spectral_gap(2 * first, second) == pytest.approx(20 * np.log10(2), abs=0.5)
    soft = torch.nn.functional.avg_pool2d(first, 3, 1, 1) * 3
    assert measures.spectral_gap(soft, second) > 3
    assert measures.spectral_gap(first * 0, second) > 20


def test_what_is_measured_is_what_papers_measure(photos):
    found = opened(photos, degradation="bicubic", side=0).measure(bicubic, torch.device("cpu"))
    expected = []
    for path in sorted(photos.iterdir()):
        picture = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)
        from vsr.train.degrade.resizes import matlab_reduced

        low = matlab_reduced(picture.float() / 255, 2)[None]
        guess = torch.nn.functional.interpolate(low, scale_factor=2, mode="bicubic")
        made = (guess.clamp(0, 1)[0] * 255).round().permute(1, 2, 0).double().numpy()
        views = luma(made), luma(np.asarray(Image.open(path)))
        expected.append((psnr(*views, 2), ssim(*views, 2)))
    mean = np.mean(expected, axis=0)
    assert found["valid_psnr"] == pytest.approx(mean[0], abs=1e-3)
    assert found["valid_ssim"] == pytest.approx(mean[1], abs=1e-4)
    assert found["valid_psnr_before"] == found["valid_psnr"]


def test_the_middle_is_cut_to_what_the_network_takes(photos):
    sizes = []

    def look(batch):
        sizes.append((tuple(batch.low.shape[2:]), tuple(batch.high.shape[2:])))
        return bicubic(batch)

    opened(photos, side=40, multiple=4).measure(look, torch.device("cpu"))
    assert sizes == [((20, 20), (40, 40))] * 3
    sizes.clear()
    opened(photos, side=0, multiple=16, most=1).measure(look, torch.device("cpu"))
    assert sizes == [((16, 16), (32, 32))]


def test_random_damage_is_the_same_every_time(photos):
    table = {"degradation": "realesrgan"}
    figures = [
        opened(photos, table=table, side=32).measure(bicubic, torch.device("cpu")) for _ in range(2)
    ]
    assert figures[0] == figures[1]
    clean = opened(photos, degradation="bicubic", table=table, side=32)
    assert clean.measure(bicubic, torch.device("cpu")) != figures[0]


def test_pairs_and_luma(photos, tmp_path):
    for path in photos.iterdir():
        with Image.open(path) as picture:
            half = picture.size[0] // 2, picture.size[1] // 2
            picture.resize(half, Image.Resampling.BICUBIC).save(tmp_path / f"{path.stem}x2.png")
    validation = opened(photos, lows=str(tmp_path), table={"channels": "luma"})

    def look(batch):
        assert batch.low.shape[1] == batch.high.shape[1] == 1
        return bicubic(batch)

    assert validation.measure(look, torch.device("cpu"))["valid_psnr"] > 20
    (tmp_path / "1x2.png").unlink()
    with pytest.raises(SourceError, match="no counterpart"):
        opened(photos, lows=str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"folders": []}, "folders is empty"),
        ({"best": "lpips"}, "best"),
        ({"degradation": "none"}, "degradation is 'none'"),
        ({"degradation_settings": {"pool": 3}}, "name the degradation too"),
        ({"every": 0}, "every"),
        ({"degradation": "bicubc"}, "no degradation is called 'bicubc'"),
    ],
)
def test_settings_that_cannot_be_are_said(photos, settings, said):
    with pytest.raises(UsageError, match=said):
        opened(photos, **settings)


def test_a_run_is_validated_and_keeps_the_best(photos, tmp_path):
    validation = {"folders": [str(photos)], "every": 2, "side": 32}
    stage = {"optimiser": {"kind": "muon", "rate": 0.02}, "ema": 0.0, "steps": 8}
    result = train(job(tmp_path, photos, stage=stage, validation=validation))
    found = lines_of(tmp_path, "valid_psnr")
    assert list(found) == [0, 2, 4, 6, 8]
    assert max(found.values()) > found[0] + 1
    header = read_checkpoint(result.best).metadata
    best = max(found, key=lambda step: found[step])
    assert header["step"] == str(best)
    assert float(header["valid_psnr"]) == pytest.approx(found[best], abs=1e-3)
    assert vsr.load_model(result.best, device="cpu")(torch.rand(1, 3, 8, 8)).shape[2] == 16
    before = set(lines_of(tmp_path, "valid_psnr_before").values())
    assert len(before) == 1


def test_a_stopped_run_remembers_the_best(photos, tmp_path):
    # A loss that asks for flat pictures spoils a network that was better to begin with.
    muon = {"optimiser": {"kind": "muon", "rate": 0.02}, "ema": 0.0}
    start = train(job(tmp_path / "start", photos, stage=muon)).checkpoint
    stage = {"losses": [{"kind": "tv"}], "optimiser": {"rate": 0.2}, "ema": 0.0}
    validation = {"folders": [str(photos)], "every": 1, "side": 32, "best": "psnr"}
    config = {"features": 4, "convs": 1, "scale": 2, "activation": "relu"}
    network = {"architecture": "compact", "config": config, "start": str(start)}
    changes = {"stage": stage, "validation": validation, "save_every": 1, "network": network}
    whole = train(job(tmp_path / "a", photos, **changes))
    with pytest.raises(CancelledError):
        train(job(tmp_path / "b", photos, **changes), stopping=stop_after(5))
    parts = train(job(tmp_path / "b", photos, **changes))
    figures = [lines_of(tmp_path / name, "valid_psnr") for name in "ab"]
    assert figures[0] == figures[1]
    best = max(figures[0], key=lambda step: figures[0][step])
    assert best < 5
    assert read_checkpoint(parts.best).metadata["step"] == str(best)
    one, other = load_file(whole.best), load_file(parts.best)
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_what_learns_without_pairs_is_validated_on_pairs(photos, tmp_path):
    for path in photos.iterdir():
        Image.open(path).resize((64, 64)).save(tmp_path / path.name)
    judge = {"kind": "patch", "features": 2, "layers": 2, "norm": "instance"}
    changes = {
        "data": {"unpaired": True, "degradation": "dasr", "degradation_settings": {"side": 5}},
        "stage": {"task": "cycle", "losses": [], "gan": {"discriminator": judge}},
        "scale": 1,
        "network": {"architecture": "resnet", "config": {"features": 2, "blocks": 1}},
        "validation": {"folders": [str(tmp_path)], "every": 3},
        "sample_every": 3,
    }
    train(job(tmp_path / "run", tmp_path, **changes))
    for key in ("psnr", "psnr_before", "features", "spectrum"):
        assert list(lines_of(tmp_path / "run", f"valid_{key}")) == [0, 3, 6]
    assert not lines_of(tmp_path / "run", "psnr"), "nothing is nearer to another picture"
    assert (tmp_path / "run" / "samples" / "one-0000003.png").exists()


def test_validation_changes_nothing_that_is_learned(photos, tmp_path):
    plain = train(job(tmp_path / "a", photos))
    watched = train(
        job(tmp_path / "b", photos, validation={"folders": [str(photos)], "every": 1, "side": 32})
    )
    assert plain.best is None
    one, other = load_file(plain.checkpoint), load_file(watched.checkpoint)
    assert all(torch.equal(value, other[key]) for key, value in one.items())


DEVICE = {
    "degradation": "realesrgan",
    "degraded_on": "device",
    "spare": 8,
    "degradation_settings": {"pool": 4},
}


def test_batches_are_degraded_between_workers_and_step(photos, tmp_path):
    result = train(job(tmp_path, photos, data=DEVICE, sample_every=3))
    assert result.steps == 6
    queue = state.read_state(tmp_path)["tasks"][0]["queue"]
    assert queue["lows"].shape == (4, 3, 8, 8)
    assert queue["highs"].shape == (4, 3, 16, 16)
    with Image.open(tmp_path / "samples" / "one-0000000.png") as picture:
        assert picture.size == (3 * 20, 4 * 20)


def test_the_queue_survives_a_stop(photos, tmp_path):
    whole = train(job(tmp_path / "a", photos, data=DEVICE))
    with pytest.raises(CancelledError):
        train(job(tmp_path / "b", photos, data=DEVICE), stopping=stop_after(5))
    parts = train(job(tmp_path / "b", photos, data=DEVICE))
    one, other = load_file(whole.checkpoint), load_file(parts.checkpoint)
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    queues = [state.read_state(tmp_path / name)["tasks"][0]["queue"] for name in "ab"]
    assert torch.equal(queues[0]["lows"], queues[1]["lows"])


def test_samples_do_not_enter_the_queue():
    table = {"folders": ["x"], "patch": 16, **DEVICE}
    made = onboard.open_onboard(table, 2)
    clean = Batch(torch.empty(3, 3, 0, 0), torch.rand(3, 3, 24, 24))
    shown = [made.shown(clean, np.random.default_rng(7)) for _ in range(2)]
    assert shown[0].low.shape == (3, 3, 8, 8)
    assert torch.equal(shown[0].low, shown[1].low)
    assert made.state_dict() == {}
    made(clean, np.random.default_rng(0))
    assert len(made.state_dict()["lows"]) == 3
    assert onboard.open_onboard({"folders": ["x"]}, 2) is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"degraded_on": "device"}, "'realesrgan' alone is degraded there"),
        ({"spare": 8}, "0 is expected unless degraded_on"),
        (DEVICE | {"spare": 3}, "spare is 3: a multiple of the scale 2"),
        (DEVICE | {"lows": "low"}, "degraded_on is 'device' with lows"),
        (DEVICE | {"degradation_settings": {"pol": 4}}, "did you mean 'pool'"),
    ],
)
def test_what_the_device_cannot_do_is_said(photos, tmp_path, data, said):
    with pytest.raises(UsageError, match=said):
        train(job(tmp_path, photos, data=data))


def test_equal_data_of_several_stages_are_read_once(photos, tmp_path, monkeypatch):
    read = []
    real = loop.feed.open_dataset

    def opened(table, scale, seed):
        read.append(table)
        return real(table, scale, seed)

    monkeypatch.setattr(loop.feed, "open_dataset", opened)
    made = job(tmp_path, photos).table
    stages = [{**made["stages"][0], "steps": 1, "name": name} for name in ("a", "b", "c")]
    stages[2]["data"] = {"patch": 8}
    assert train(job(tmp_path, photos, stages=stages)).steps == 3
    assert [table["patch"] for table in read] == [16, 8]
