"""Recipes: strictly read, changed by --set, and all that ship."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
import torch

from vsr.errors import SourceNotFoundError, UsageError
from vsr.train import networks
from vsr.train.data import DataSettings
from vsr.train.degrade import settings_of
from vsr.train.recipe import find_recipe, parse_recipe, read_recipe, shipped
from vsr.train.settings import PixelLoss, VggLoss
from vsr.train.strict import Within, override, structure

NAMES = {
    *("bicubic-l1", "srgan", "esrgan", "realesrgan", "bsrgan", "dasr"),
    *("pix2pix", "cyclegan", "noise-gan", "noise-dcgan"),
}


def table(**changes):
    stage = {"name": "one", "steps": 10, "losses": [{"kind": "l1"}]}
    facts = {
        "version": 1,
        "title": "t",
        "scale": 2,
        "network": {"architecture": "compact", "config": {"scale": 2}},
        "data": {"folders": ["x"]},
        "stages": [stage],
    }
    return facts | changes


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "stages[0].losses[0].weigth=1.0",
            r"^stages\[0\]\.losses\[0\]\.weigth is unknown, did you mean 'weight'\?",
        ),
        ("stagse=1", r"^stagse is unknown, did you mean 'stages'\?"),
        ("network.confg={}", r"^network\.confg is unknown, did you mean 'config'\?"),
        ("zzz=1", r"^zzz is unknown; known there are data, "),
        ('stages[0].losses=[{kind="vg"}]', r"kind is 'vg', did you mean 'vgg'\?: one of l1, l2"),
        ("stages[0].losses=[{}]", r"losses\[0\]\.kind is None: one of l1"),
        ("stages[0].steps=0", r"^stages\[0\]\.steps is 0: a number at least 1 is expected"),
        ("stages[0].steps=1.5", r"^stages\[0\]\.steps is 1\.5: a whole number is expected"),
        ("stages[0].steps=true", r"steps is True: a whole number is expected"),
        ("stages[0].precision=fp8", r"precision is 'fp8': one of 'fp32', 'bf16', 'fp16'"),
        ("stages[0].ema=1.0", r"ema is 1: a number from 0 to 0\.999999 is expected"),
        ("stages[0].ema=nan", r"ema is nan: a number from 0"),
        ("stages[0].optimiser.betas=[0.9]", r"betas has 1 values: 2 are expected"),
        ("stages[0].optimiser.betas=[0.9,1.5]", r"betas\[1\] is 1\.5"),
        ("stages[0].optimiser=3", r"stages\[0\]\.optimiser is 3: a table is expected"),
        ('stages[0].gan={kind="lsgn"}', r"stages\[0\]\.gan\.kind is 'lsgn': one of 'vanilla'"),
        ("stages[0].losses=[]", r"^stages\[0\]: a stage needs losses or a gan"),
        ("stages[0].task=cycle", r"^stages\[0\]: the task 'cycle' needs a gan"),
        ("stages[0].name='a/b'", r"^stages\[0\]: a stage's name becomes a file's"),
        ("stages[0].schedule={kind='steps'}", r"schedule: a schedule of kind 'steps' needs"),
        ("stages[0].schedule.milestones=[3,2]", r"schedule: milestones must rise"),
        ("stages=[]", r"needs stages with different names, got none"),
        ("interpolate=0.5", r"interpolate mixes the networks of two stages"),
        ("version=2", r"^has version 2: this program reads version 1"),
        ("version=true", r"^has version True"),
        ("seed=-1", r"^seed is -1: a number from 0 to"),
    ],
)
def test_what_is_not_understood_is_an_error_with_its_path(line, said):
    changed = table()
    override(changed, [line])
    with pytest.raises(UsageError, match=said) as caught:
        parse_recipe(changed)
    assert "\n" not in str(caught.value)


def test_a_recipe_needs_its_version_and_parts():
    changed = table()
    del changed["version"]
    with pytest.raises(UsageError, match="has no version: this program reads version 1"):
        parse_recipe(changed)
    changed = table()
    del changed["stages"][0]["steps"]
    with pytest.raises(UsageError, match=r"stages\[0\]\.steps is missing: a whole number"):
        parse_recipe(changed)


def test_values_take_their_types():
    changed = table()
    override(
        changed,
        [
            "stages[0].losses=[{kind='charbonnier',weight=2},{kind='vgg',weights='a.pth'}]",
            "stages[0].clip=1",
            "stages[0].gan.discriminator.kind=patch",
            "title=a plain text",
        ],
    )
    recipe = parse_recipe(changed)
    first, second = recipe.stages[0].losses
    assert first == PixelLoss(kind="charbonnier", weight=2.0)
    assert isinstance(second, VggLoss)
    assert second.weights == Path("a.pth")
    assert recipe.stages[0].clip == 1.0
    assert recipe.title == "a plain text"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("stages[1].steps=3", r"no entry \[1\], the recipe has 1 there"),
        ("title.x=3", "'x' would lie within something that is no table"),
        ("steps", "--set takes PATH=VALUE"),
        ("a..b=3", "--set takes PATH=VALUE"),
        ("=3", "--set takes PATH=VALUE"),
        ("title[0]=3", r"no entry \[0\], the recipe has 0 there"),
    ],
)
def test_changes_that_lead_nowhere(line, said):
    with pytest.raises(UsageError, match=said):
        override(table(), [line])


def test_a_star_means_every_entry():
    changed = {"stages": [{"steps": 1}, {"steps": 2}]}
    override(changed, ["stages[*].steps=7", "stages[1].steps=8", "new.table.x=[1, 2]"])
    assert changed["stages"] == [{"steps": 7}, {"steps": 8}]
    assert changed["new"] == {"table": {"x": [1, 2]}}


@dataclass(frozen=True, kw_only=True)
class Odd:
    pair: tuple[int, str] = (1, "a")
    either: Annotated[int, Within(high=3)] | Literal["auto"] = "auto"
    table: dict[str, int] = field(default_factory=dict)


def test_unions_and_fixed_tuples():
    assert structure(Odd, {"pair": [2, "b"], "either": 3}) == Odd(pair=(2, "b"), either=3)
    assert structure(Odd, {"either": "auto"}).either == "auto"
    with pytest.raises(UsageError, match=r"x\.pair\[1\] is 2: a text"):
        structure(Odd, {"pair": [2, 2]}, "x")
    with pytest.raises(UsageError, match="either is 'off': one of 'auto'"):
        structure(Odd, {"either": "off"})


def test_files_that_are_no_recipes(tmp_path):
    with pytest.raises(SourceNotFoundError, match="there is no recipe"):
        read_recipe(tmp_path / "none.toml")
    with pytest.raises(SourceNotFoundError, match="no recipe 'esrgn': give a"):
        find_recipe("esrgn")
    for content in (b"version = ", b"\xff\xfe", b"version = 3"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(UsageError, match=r"bad\.toml"):
            read_recipe(tmp_path / "bad.toml")


def test_every_paper_ships_with_a_small_version():
    own = {f"vsr-{name}-x{scale}" for name in ("quality", "video") for scale in (2, 4)}
    assert {name for name in shipped() if not name.endswith("-small")} == NAMES | own
    small = {f"{name}-small" for name in (*NAMES, "vsr-video")}
    assert {name for name in shipped() if name.endswith("-small")} == small


@pytest.mark.parametrize("name", sorted(shipped()))
def test_what_ships_is_understood_to_the_last_key(name):
    recipe, _ = read_recipe(find_recipe(name))
    for stage in recipe.stages:
        settings = structure(DataSettings, {**recipe.data, **stage.data}, "data")
        settings_of(settings.degradation, settings.degradation_settings)
        assert settings.patch % recipe.scale == 0
        if stage.gan and stage.gan.discriminator.kind in {"vgg", "srgan"}:
            assert stage.gan.discriminator.size == settings.patch
    with torch.device("meta"):
        plan = networks.plan(recipe)
    if name.endswith("-small"):
        assert sum(p.numel() for p in plan.build().parameters()) < 400_000
        assert sum(stage.steps for stage in recipe.stages) <= 2000
        assert not any(isinstance(loss, VggLoss) for s in recipe.stages for loss in s.losses)


def test_esrgans_settings_are_the_papers():
    recipe, _ = read_recipe(find_recipe("esrgan"))
    psnr, gan = recipe.stages
    assert (psnr.optimiser.rate, gan.optimiser.rate) == (2e-4, 1e-4)
    assert psnr.schedule.milestones[0] == 200_000
    assert gan.schedule.milestones == (50_000, 100_000, 200_000, 300_000)
    assert [loss.weight for loss in gan.losses] == [1e-2, 1.0]
    assert not gan.losses[1].after_activation
    assert gan.gan.relativistic
    assert gan.gan.weight == 5e-3
    assert (recipe.interpolate, recipe.network.init, recipe.data["patch"]) == (0.8, "small", 128)


def test_small_initialisation_is_a_tenth():
    changed = table(network={"architecture": "rrdb", "config": {"blocks": 1, "ups": 1}})
    stds = {}
    for init in ("small", "default"):
        changed["network"]["init"] = init
        conv = networks.plan(parse_recipe(changed)).build().body[0].rdb1.conv1
        stds[init] = conv.weight.std().item()
    assert stds["small"] == pytest.approx(0.1 * (2 / (64 * 9)) ** 0.5, rel=0.03)
    assert stds["default"] > 2 * stds["small"]


def test_reading_recipes_does_not_import_torch():
    code = (
        "import sys; from vsr.train import recipe; recipe.read_recipe(recipe.find_recipe('esrgan'))"
    )
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
