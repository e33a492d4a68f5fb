"""The directory as registry, detection across architectures, and the catalogue."""

import subprocess
import sys
import tomllib
from fractions import Fraction
from importlib.metadata import EntryPoint, EntryPoints

import pytest
import torch

import vsr.models
from tests.media import REPO
from vsr.errors import CheckpointError, UnknownModelError
from vsr.models import architecture, architectures, build, catalog, detect
from vsr.models.compact import ARCH as COMPACT
from vsr.models.compact import Compact, CompactConfig
from vsr.models.vdsr import VDSRConfig


def test_listing_needs_no_torch():
    program = (
        "import sys, vsr.models, vsr.checkpoints\n"
        "from vsr.models.catalog import find, published\n"
        "assert 'compact' in vsr.models.architectures() and published() and find('bsrgan')\n"
        "vsr.checkpoints.cached_path(find('bsrgan'))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_only_networks_are_listed():
    assert "interpolation" not in architectures()
    assert "catalog" not in architectures()
    assert not any(name.startswith("_") for name in architectures())


def test_unknown_architecture():
    with pytest.raises(UnknownModelError, match=r"'nonet'.*compact"):
        architecture("nonet")


def test_other_packages_add_architectures(monkeypatch: pytest.MonkeyPatch):
    entries = EntryPoints([EntryPoint("theirs", f"{__name__}:COMPACT", "vsr.models")])
    monkeypatch.setattr(vsr.models, "entry_points", lambda group: entries.select(group=group))
    monkeypatch.setattr(EntryPoint, "load", lambda _: COMPACT)
    assert "theirs" in architectures()
    assert architecture("theirs") is COMPACT
    with pytest.raises(CheckpointError, match="compact and compact alike"):
        detect(Compact(CompactConfig(features=4, convs=1)).state_dict())


def test_an_entry_point_must_be_an_architecture(monkeypatch: pytest.MonkeyPatch):
    entries = EntryPoints([EntryPoint("theirs", "math:pi", "vsr.models")])
    monkeypatch.setattr(vsr.models, "entry_points", lambda group: entries.select(group=group))
    with pytest.raises(UnknownModelError, match="defines no ARCH"):
        architecture("theirs")


def test_unclaimed_states_name_the_nearest_architecture():
    state = dict(Compact(CompactConfig(features=4, convs=1)).state_dict())
    state["tail.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"nearest is compact.*'body\.5\.weight'"):
        build(state)
    with pytest.raises(CheckpointError, match=r"compact.*rrdb.*first tensor is 'encoder'"):
        build({"encoder": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="no tensors"):
        build({})


def test_building_does_not_keep_the_given_tensors():
    state = Compact(CompactConfig(features=4, convs=1)).half().state_dict()
    network, _ = build(state)
    assert all(p.dtype == torch.float32 for p in network.parameters())
    before = network.state_dict()["body.0.weight"].clone()
    state["body.0.weight"].zero_()
    assert torch.equal(network.state_dict()["body.0.weight"], before)


def test_networks_built_in_inference_mode_can_be_trained():
    state = Compact(CompactConfig(features=4, convs=1)).state_dict()
    with torch.inference_mode():
        network, _ = build(state)
    network(torch.rand(1, 3, 4, 4)).sum().backward()


def test_every_architecture_has_a_published_checkpoint():
    assert {entry.architecture for entry in catalog.published()} == set(architectures())


def test_names_are_unambiguous():
    plain = [n for e in catalog.published() for n in {_plain(e.name), *map(_plain, e.aliases)}]
    assert len(plain) == len(set(plain))


def _plain(name: str) -> str:
    return name.casefold().replace("_", "-")


@pytest.mark.parametrize("entry", catalog.published(), ids=lambda entry: entry.name)
def test_catalogue_entries_are_sound(entry: catalog.Published):
    assert entry.architecture in architectures()
    assert 1 <= entry.scale <= 8
    assert entry.licence
    origins = [entry.url, entry.page, entry.embedded]
    assert len([origin for origin in origins if origin is not None]) == 1
    assert (entry.url or entry.page or "https://").startswith("https://")
    assert entry.sha256 is None or entry.url is not None
    assert entry.sha256 is None or len(bytes.fromhex(entry.sha256)) == 32
    assert "/" not in entry.filename
    if entry.denoise_twin:
        assert catalog.find(entry.denoise_twin).architecture == entry.architecture


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("RealESRGAN_x4plus", "RealESRGAN_x4plus"),
        ("realesrgan-x4plus", "RealESRGAN_x4plus"),
        ("RealESRGAN_x4plus.pth", "RealESRGAN_x4plus"),
        ("realesrgan-x4plus-anime", "RealESRGAN_x4plus_anime_6B"),
        ("realesrnet-x4plus", "RealESRNet_x4plus"),
        ("realesr-animevideov3-x2", "realesr-animevideov3"),
        ("general-x4v3", "realesr-general-x4v3"),
        ("bsrgan", "BSRGAN"),
    ],
)
def test_names_that_people_type(typed: str, name: str):
    assert catalog.find(typed).name == name


def test_families_are_chosen_by_scale():
    assert [entry.scale for entry in catalog.variants("vsr-fast")] == [2, 3, 4]
    assert catalog.find("vsr-fast").scale == 4
    assert catalog.find("vsr-fast", 1.5).scale == 2
    assert catalog.find("vsr-fast", 3).scale == 3
    assert catalog.find("vsr-fast", 6).scale == 4
    assert catalog.find("vsr-fast-x3").scale == 3
    assert catalog.find("vsr-fast").embedded == "vsr-fast-x4.safetensors"


def test_unknown_names_get_suggestions():
    with pytest.raises(UnknownModelError, match=r"did you mean .*RealESRGAN_x4plus"):
        catalog.find("realesrgan-4xplus")
    with pytest.raises(UnknownModelError, match="vsr models"):
        catalog.find("qqq")


@pytest.mark.parametrize(
    ("factor", "scale"), [(None, 4), (Fraction(2), 2), (Fraction(5, 2), 3), (Fraction(9), 8)]
)
def test_weights_for_several_scales_are_used_at_the_wanted_one(factor, scale):
    state = architecture("vdsr").build(VDSRConfig(convs=1)).state_dict()
    assert build(state, None, factor)[1].scale == scale
    header = {"architecture": "vdsr", "config": '{"scale": 3}'}
    assert build(state, header, factor)[1].scale == 3


def test_weights_for_one_scale_stay_at_it():
    state = Compact(CompactConfig(features=4, convs=1, scale=2)).state_dict()
    assert build(state, None, Fraction(4))[1].scale == 2


def test_the_import_contract_names_every_architecture():
    contracts = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (named,) = (c["modules"] for c in contracts["contracts"] if c["type"] == "independence")
    assert set(named) == {f"vsr.models.{name}" for name in (*vsr.models._own(), "interpolation")}
