"""The loop: resuming, killing, several processes, bad gradients, full disks, every task."""

import errno
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
import warnings
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vsr
from vsr.checkpoints import read_checkpoint
from vsr.errors import (
    CancelledError,
    CheckpointError,
    NonFiniteError,
    SinkError,
    UsageError,
)
from vsr.models import build
from vsr.train import feed, state
from vsr.train.loop import TrainJob, train
from vsr.train.recipe import parse_recipe
from vsr.train.translators.translator import load_translator

TINY = {"features": 4, "convs": 1, "scale": 2}


@dataclass
class Pictures:
    """A stand-in: waves whose item depends on (seed, epoch, index) alone."""

    seed: int = 0
    scale: int = 2
    size: int = 16
    count: int = 6
    epoch: int = 0

    def fingerprint(self):
        return "0123"

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        random = np.random.default_rng((self.seed, self.epoch, index))
        y, x = np.mgrid[: self.size, : self.size] / self.size
        waves = [np.sin(random.normal(0, 9) * x + random.normal(0, 9) * y) for _ in range(3)]
        high = torch.from_numpy(np.stack(waves) / 2 + 0.5).float()
        low = torch.nn.functional.avg_pool2d(high[None], self.scale)[0]
        noise = torch.from_numpy(random.normal(0, 0.02, low.shape)).float()
        return SimpleNamespace(low=low + noise, high=high)


@pytest.fixture(autouse=True)
def _pictures(monkeypatch):
    def opened(table, scale, seed):
        return Pictures(seed, scale, **table)

    monkeypatch.setattr(feed, "open_dataset", opened)


def table(*stages, **changes):
    facts = {
        "version": 1,
        "title": "a recipe of the tests, of which nobody expects pictures",
        "scale": 2,
        "network": {"architecture": "compact", "config": dict(TINY)},
        "data": {},
        "stages": [
            {"name": f"s{k}", "steps": 4, "batch": 2, "losses": [{"kind": "l1"}], **stage}
            for k, stage in enumerate(stages or ({},))
        ],
        "workers": 0,
        "save_every": 2,
        "log_every": 1,
        "sample_every": 0,
    }
    return facts | changes


def job(folder, *stages, restart=False, **changes):
    made = table(*stages, **changes)
    return TrainJob(
        recipe=parse_recipe(made), table=made, folder=folder, device="cpu", restart=restart
    )


def same(a, b):
    first, second = load_file(a), load_file(b)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def stop_after(count):
    """A wish to stop after so many steps."""
    asked = []

    def stopping():
        asked.append(1)
        return len(asked) == count

    return stopping


GAN = {
    "gan": {
        "kind": "vanilla",
        "relativistic": True,
        "discriminator": {"kind": "vgg", "features": 2, "size": 16},
    },
    "losses": [{"kind": "l1"}, {"kind": "random", "weight": 0.1}],
}
TRANSLATOR = {
    "scale": 1,
    "network": {"architecture": "resnet", "config": {"features": 2, "blocks": 1}},
}
PATCH = {"kind": "patch", "features": 2, "layers": 2}
TASKS = {
    "adam": ([{}], {}),
    "muon": ([{"optimiser": {"kind": "muon", "rate": 0.01, "decay": 0.01}, "clip": 1.0}], {}),
    "bf16": ([{"precision": "bf16", "schedule": {"kind": "cosine", "warmup": 2}}], {}),
    "fp16": ([{"precision": "fp16"}], {}),
    "gan": ([{}, GAN], {"interpolate": 0.8}),
    "unet": ([{"gan": {"discriminator": {"features": 2}}, "ema": 0.0}], {}),
    "penalty": (
        [
            {
                "gan": {
                    "kind": "wgan",
                    "penalty": 10.0,
                    "judge_steps": 2,
                    "discriminator": PATCH | {"norm": "instance"},
                }
            }
        ],
        {},
    ),
    "dasr": (
        [
            {"task": "contrast", "losses": [], "contrast": {"queue": 6}},
            {"task": "contrast", "contrast": {"queue": 6}},
        ],
        {
            "network": {
                "architecture": "dasr",
                "config": {"features": 8, "groups": 1, "blocks": 1, "embedding": 8, "scale": 2},
            }
        },
    ),
    "pix2pix": ([{"task": "translate", "gan": {"discriminator": PATCH}}], TRANSLATOR),
    "pix2pix-unet": (
        [{"task": "translate", "gan": {"discriminator": PATCH}}],
        {
            "scale": 1,
            "data": {"size": 64},
            "network": {"architecture": "unet", "config": {"features": 2, "depth": 6}},
        },
    ),
    "cyclegan": (
        [
            {
                "task": "cycle",
                "losses": [],
                "gan": {"kind": "lsgan", "discriminator": PATCH | {"norm": "instance"}},
                "cycle": {"pool": 3},
            }
        ],
        TRANSLATOR,
    ),
    "noise": (
        [{"task": "noise", "gan": {"discriminator": PATCH}, "losses": []}],
        {"scale": 1, "network": {"architecture": "noise", "config": {"features": 4, "blocks": 1}}},
    ),
    "dcgan": (
        [{"task": "noise", "gan": {"discriminator": PATCH}, "losses": []}],
        {
            "scale": 1,
            "network": {
                "architecture": "noise",
                "config": {"kind": "dcgan", "features": 4, "size": 16},
            },
        },
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_stopped_run_goes_on_to_the_same_bits(name, tmp_path):
    stages, changes = TASKS[name]
    whole = train(job(tmp_path / "whole", *stages, **changes))
    with pytest.raises(CancelledError, match="stopped at step 3"):
        train(job(tmp_path / "parts", *stages, **changes), stopping=stop_after(3))
    parts = train(job(tmp_path / "parts", *stages, **changes))
    assert whole.steps == parts.steps + 3 == 4 * len(stages)
    same(whole.checkpoint, parts.checkpoint)
    states = [state.read_state(tmp_path / part) for part in ("whole", "parts")]
    for network, weights in states[0]["networks"].items():
        for key, value in weights.items():
            assert torch.equal(value, states[1]["networks"][network][key]), (network, key)


def test_seeds_differ_and_steps_count(tmp_path):
    one = train(job(tmp_path / "a"))
    other = train(job(tmp_path / "b", seed=1))
    assert any(
        not torch.equal(v, load_file(other.checkpoint)[k])
        for k, v in load_file(one.checkpoint).items()
    )


def test_workers_change_nothing(tmp_path):
    one = train(job(tmp_path / "a", workers=0))
    other = train(job(tmp_path / "b", workers=1))
    same(one.checkpoint, other.checkpoint)


def test_the_checkpoint_upscales_at_once(tmp_path):
    result = train(job(tmp_path))
    header = read_checkpoint(result.checkpoint).metadata
    assert header["architecture"] == "compact"
    assert json.loads(header["config"])["features"] == 4
    assert json.loads(header["recipe"])["stages"][0]["steps"] == 4
    assert header["data_sha256"] == "0123"
    upscaler = vsr.load_model(result.checkpoint, device="cpu")
    assert upscaler(torch.rand(1, 3, 8, 8)).shape == (1, 3, 16, 16)


def test_translators_damage_pictures_of_any_size(tmp_path):
    for name in ("pix2pix", "noise", "dcgan"):
        stages, changes = TASKS[name]
        result = train(job(tmp_path / name, *stages, **changes))
        damage = load_translator(result.checkpoint)
        clean = torch.rand(2, 3, 21, 35)
        damaged = damage(clean)
        assert damaged.shape == clean.shape
        assert damaged.min() >= 0
        assert damaged.max() <= 1
        assert not torch.equal(damaged, clean)
    with pytest.raises(CheckpointError, match="holds no translator"):
        load_translator(train(job(tmp_path / "other")).checkpoint)


def test_learning_lifts_psnr_and_shows_it(tmp_path):
    stage = {"steps": 60, "batch": 4, "optimiser": {"rate": 5e-3}, "ema": 0.9}
    train(job(tmp_path, stage, sample_every=5, save_every=60))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    found = [line["psnr"] for line in lines if "psnr" in line]
    assert found[-1] > found[0] + 0.5
    from PIL import Image

    with Image.open(tmp_path / "samples" / "s0-0000060.png") as picture:
        assert picture.size == (3 * 20, 4 * 20)


def test_the_luma_of_a_luma_network_is_learned(tmp_path):
    config = TINY | {"channels": 1}
    result = train(job(tmp_path, network={"architecture": "compact", "config": config}))
    assert build(read_checkpoint(result.checkpoint).state)[1].channels == 1


def test_a_run_begins_with_given_weights(tmp_path):
    first = train(job(tmp_path / "a"))
    network = {"architecture": "compact", "config": dict(TINY), "start": str(first.checkpoint)}
    frozen = {"optimiser": {"rate": 0.0}, "steps": 1}
    second = train(job(tmp_path / "b", frozen, network=network))
    same(first.checkpoint, second.checkpoint)
    network["config"] = TINY | {"features": 5}
    with pytest.raises(CheckpointError, match=r"no start for this network: 'body\.0\.weight'"):
        train(job(tmp_path / "c", frozen, network=network))


def test_bad_batches_are_skipped_counted_and_leave_no_trace(tmp_path, monkeypatch):
    item = Pictures.__getitem__

    def spoilt(self, index):
        sample = item(self, index)
        if index == 3:
            sample.low[0, 0, 0] = float("nan")
        return sample

    monkeypatch.setattr(Pictures, "__getitem__", spoilt)
    result = train(job(tmp_path, {"batch": 1, "steps": 12}, most_skipped=1))
    assert result.skipped == 2
    assert all(torch.isfinite(v).all() for v in load_file(result.checkpoint).values())
    with pytest.raises(NonFiniteError, match="2 times in a row at step 1"):
        train(job(tmp_path / "n", {"batch": 6, "steps": 12}, most_skipped=1))


def test_statistics_of_a_bad_batch_are_put_back(tmp_path, monkeypatch):
    item = Pictures.__getitem__

    def spoilt(self, index):
        sample = item(self, index)
        sample.low[0, 0, 0] = float("inf") if index % 2 else sample.low[0, 0, 0]
        return sample

    monkeypatch.setattr(Pictures, "__getitem__", spoilt)
    network = {"architecture": "srresnet", "config": {"features": 4, "blocks": 1, "scale": 2}}
    result = train(job(tmp_path, {"batch": 1, "steps": 6}, network=network))
    assert result.skipped == 3
    assert all(torch.isfinite(v).all() for v in load_file(result.checkpoint).values())


def test_a_full_disk_leaves_the_old_state_whole(tmp_path, monkeypatch):
    train(job(tmp_path / "whole"))
    real = os.write
    full = []

    def writing(fd, data):
        if full and len(data) > 2000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    def fill(progress):
        if progress.step == 3:
            full.append(1)

    monkeypatch.setattr(os, "write", writing)
    with pytest.raises(SinkError, match="disk full"):
        train(job(tmp_path / "full"), fill)
    assert not list((tmp_path / "full").glob(".*"))
    full.clear()
    assert state.read_state(tmp_path / "full")["step"] == 2
    result = train(job(tmp_path / "full"))
    assert result.steps == 2
    same(tmp_path / "whole" / "s0.safetensors", result.checkpoint)


def test_a_full_disk_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch):
    def fill(progress):
        if progress.step == 3:
            monkeypatch.setattr(os, "fsync", fails)

    def fails(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(CheckpointError, match="No space left"):
        train(job(tmp_path), fill)
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / "s0.safetensors").metadata["step"] == "2"
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_state_is_told(tmp_path):
    train(job(tmp_path))
    (tmp_path / "state.pt").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(CheckpointError, match=r"state\.pt is damaged: pass --restart"):
        train(job(tmp_path))
    assert train(job(tmp_path, restart=True)).steps == 4


def test_another_recipe_does_not_go_on(tmp_path):
    train(job(tmp_path))
    with pytest.raises(UsageError, match=r"another recipe \(stages\[0\]\.batch differs\)"):
        train(job(tmp_path, {"batch": 4}))
    assert train(job(tmp_path, log_every=7)).steps == 0
    assert train(job(tmp_path, {"batch": 4}, restart=True)).steps == 4


def test_the_log_forgets_lost_work(tmp_path):
    with pytest.raises(CancelledError):
        train(job(tmp_path, save_every=100), stopping=stop_after(2))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"stage": 0, "step": 3, "loss_l1": 9.0}\n{"stage": 0, "st')
    train(job(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[2]["loss_l1"] < 9


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"network": {"architecture": "compct"}}, "network.architecture is 'compct'"),
        (
            {"network": {"architecture": "compact", "config": {"feature": 3}}},
            "did you mean 'features'",
        ),
        ({"scale": 3}, "the recipe's scale is 3, the network's 2"),
        (
            {"network": {"architecture": "compact", "config": TINY, "start": "no.pth"}},
            "cannot be read",
        ),
    ],
)
def test_what_does_not_fit_is_said(changes, said, tmp_path):
    with pytest.raises(vsr.VsrError, match=said):
        train(job(tmp_path, **changes))


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (
            {"losses": [{"kind": "vgg"}]},
            "needs VGG19's weights in torchvision's layout: pass --vgg",
        ),
        ({"losses": [{"kind": "vgg", "weights": "none.pth"}]}, "none.pth' cannot be read"),
        ({"losses": [{"kind": "random", "layers": {"scale9": 1}}]}, "use some of scale1"),
        ({"gan": {"discriminator": {"kind": "vgg", "size": 32}}}, "made for 32×32, got 16×16"),
        ({"task": "cycle", "gan": {}}, "network.architecture is 'compact'"),
        ({"task": "contrast"}, "trains the architecture 'dasr'"),
    ],
)
def test_what_a_stage_cannot_do_is_said(stage, said, tmp_path):
    with pytest.raises(vsr.VsrError, match=said):
        train(job(tmp_path, stage))


def test_tensorboard_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="needs the package tensorboard"):
        train(job(tmp_path, tensorboard=True))


FORK = multiprocessing.get_context("fork") if hasattr(os, "fork") else None
LONG = {"steps": 12, "batch": 2}


def aside(folder, environment, slow):
    """Starts a process that trains; a fork, for a new one would import torch for seconds."""

    def work():
        os.environ.update(environment)
        train(job(folder, LONG, save_every=3), lambda _: time.sleep(slow))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks in processes with threads; these are idle
        process = FORK.Process(target=work)
        process.start()
    return process


@pytest.mark.skipif(FORK is None, reason="no fork")
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path):
    process = aside(tmp_path / "killed", {}, 0.1)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.25)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    reached = state.read_state(tmp_path / "killed")["step"]
    assert reached in (3, 6, 9)
    parts = train(job(tmp_path / "killed", LONG, save_every=3))
    assert parts.steps == 12 - reached
    whole = train(job(tmp_path / "whole", LONG, save_every=3))
    same(whole.checkpoint, parts.checkpoint)


@pytest.mark.skipif(FORK is None, reason="no fork")
def test_two_processes_learn_what_one_does(tmp_path):
    """Each takes half of every batch; gradients are averaged, so only the rounding differs."""
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port = plug.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        aside(tmp_path / "two", address | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, 0)
        for rank in range(2)
    ]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    one = train(job(tmp_path / "one", LONG, save_every=3))
    found, expected = load_file(tmp_path / "two" / "s0.safetensors"), load_file(one.checkpoint)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="begun by 2 processes, now there are 1"):
        train(job(tmp_path / "two", LONG, save_every=3))


def test_a_batch_is_shared_evenly_and_in_order():
    seen = []
    for rank in range(2):
        peers = SimpleNamespace(rank=rank, count=2)
        places = iter(feed.Places(5, 4, 7, 0, peers))
        seen.append([next(places) for _ in range(5)])
    alone = iter(feed.Places(5, 4, 7, 0, SimpleNamespace(rank=0, count=1)))
    steps = [next(alone) for _ in range(5)]
    for step, both in zip(steps, zip(*seen, strict=True), strict=True):
        assert sorted(step) == sorted(both[0] + both[1])
    flat = [place for step in steps for place in step]
    assert all(sorted(i for e, i in flat if e == epoch) == [0, 1, 2, 3, 4] for epoch in range(4))
    later = iter(feed.Places(5, 4, 7, 3, SimpleNamespace(rank=0, count=1)))
    assert next(later) == steps[3]


def test_an_uneven_batch_is_refused():
    peers = SimpleNamespace(rank=0, count=2, device=torch.device("cpu"))
    with pytest.raises(UsageError, match="3 cannot be shared by 2"):
        next(feed.feed(Pictures(), 3, 0, 0, peers, 0))


def test_odd_start_files_are_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    network = {"architecture": "compact", "config": TINY, "start": str(tmp_path / "x.safetensors")}
    with pytest.raises(CheckpointError, match="no start"):
        train(job(tmp_path / "r", network=network))
