"""Mixtures: how they are written, what they are made of, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

import vsr
from vsr.checkpoints import blend, read_checkpoint, save_checkpoint
from vsr.checkpoints.blending import Share, check_shares, is_blend, is_file_name, mix, parse_blend
from vsr.engine.blends import join_checkpoints, load_blend
from vsr.engine.loading import find_model
from vsr.errors import CheckpointError, UnknownModelError, UsageError
from vsr.models.compact import Compact, CompactConfig
from vsr.models.espcn import ESPCN, ESPCNConfig


def saved(path: Path, seed: int, header: dict[str, str] | None = None, **changes) -> Path:
    torch.manual_seed(seed)
    config = CompactConfig(**{"features": 4, "convs": 1, "scale": 2} | changes)
    save_checkpoint(path, Compact(config).state_dict(), "compact", config, header)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return (
        saved(tmp_path / "a.safetensors", 1, {"licence": "MIT"}),
        saved(tmp_path / "b.safetensors", 2, {"licence": "BSD-3-Clause"}),
    )


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("A*0.8+B*0.2", [("A", 0.8), ("B", 0.2)]),
        (" A * .5 + B * 0.25 + C*0.25 ", [("A", 0.5), ("B", 0.25), ("C", 0.25)]),
        ("dir/a+b.pth*0.5+c d.pth*.5", [("dir/a+b.pth", 0.5), ("c d.pth", 0.5)]),
        ("A*1", [("A", 1.0)]),
    ],
)
def test_what_is_written(text: str, shares: list[tuple[str, float]]):
    assert is_blend(text)
    assert parse_blend(text) == tuple(Share(*share) for share in shares)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A*0.8+B*0.3", r"0\.8 \+ 0\.3 = 1\.1"),
        ("A*0.8", "sum to 1"),
        ("A*2+B*-1", "not understood"),
        ("A*0.5+B", "not understood"),
        ("A*0.5+B*0.5+", "not understood"),
        ("*0.5+B*0.5", "not understood"),
        ("A*", "not understood"),
        ("+".join(["A*0.01"] * 100), "not understood"),
    ],
)
def test_what_is_no_mixture(text: str, words: str):
    with pytest.raises(UsageError, match=words) as caught:
        parse_blend(text)
    assert "\n" not in str(caught.value)


def test_names_and_files():
    assert not is_blend("realesr-animevideov3")
    assert is_file_name("net.PARAM")
    assert not is_file_name("realesr-general-x4v3")
    assert str(Share("A", 0.25)) == "A*0.25"


def test_a_mixture_is_the_weighted_sum():
    torch.manual_seed(0)
    states = [{"w": torch.rand(3, 4), "n.num_batches_tracked": torch.tensor(k)} for k in range(3)]
    shares = check_shares([Share("a", 0.5), Share("b", 0.3), Share("c", 0.2)])
    mixed = mix(states, shares)
    expected = 0.5 * states[0]["w"] + 0.3 * states[1]["w"] + 0.2 * states[2]["w"]
    torch.testing.assert_close(mixed["w"], expected, rtol=1e-6, atol=0)
    assert mixed["n.num_batches_tracked"] == 0
    two = mix(states[:2], [Share("a", 0.2), Share("b", 0.8)])
    torch.testing.assert_close(two["w"], blend(states[0], states[1], 0.8)["w"])


def test_the_ends_of_a_mixture_are_its_parts(pair):
    a = read_checkpoint(pair[0]).state
    mixed = load_blend(
        [Share("a", 1.0), Share("b", 0.0)], dict(zip("ab", pair, strict=True)).__getitem__
    )
    assert all(torch.equal(mixed.state[key], value) for key, value in a.items())


def test_provenance_and_licences_are_kept(pair):
    loaded = load_blend(
        [Share("some/a", 0.75), Share("b", 0.25)], {"some/a": pair[0], "b": pair[1]}.__getitem__
    )
    made_of = json.loads(loaded.metadata["blend"])
    assert [(part["name"], part["weight"]) for part in made_of] == [("a", 0.75), ("b", 0.25)]
    assert all(len(part["sha256"]) == 64 for part in made_of)
    assert loaded.metadata["licence"] == "MIT AND BSD-3-Clause"


def test_other_layouts_are_brought_to_one_before_they_are_mixed(tmp_path: Path, pair):
    state = read_checkpoint(pair[1]).state
    torch.save({"params_ema": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "b.pth")
    shares = [Share("a", 0.5), Share("b", 0.5)]
    mixed, expected = (
        load_blend(shares, {"a": pair[0], "b": b}.__getitem__).state
        for b in (tmp_path / "b.pth", pair[1])
    )
    assert all(torch.equal(mixed[key], value) for key, value in expected.items())


def test_a_mixture_runs_by_its_name(pair):
    name = f"{pair[0]}*0.25+{pair[1]}*0.75"
    x = torch.rand(1, 3, 6, 5)
    got = vsr.load_model(name, device="cpu", precision="fp32")(x)
    a, b = (read_checkpoint(path).state for path in pair)
    network = Compact(CompactConfig(features=4, convs=1, scale=2))
    network.load_state_dict(blend(a, b, 0.75))
    with torch.inference_mode():
        torch.testing.assert_close(got, network(x).clamp(0, 1), rtol=0, atol=1e-5)
    assert find_model(name).name == name


def test_names_of_the_catalogue_can_be_mixed():
    found = find_model("vsr-fast-x2*0.5+vsr-fast*0.5", factor=2)
    assert found.spec == find_model("vsr-fast-x2").spec


def test_networks_that_differ_are_refused(tmp_path: Path, pair):
    other = saved(tmp_path / "c.safetensors", 3, convs=2)
    config = ESPCNConfig()
    espcn = tmp_path / "espcn.safetensors"
    save_checkpoint(espcn, ESPCN(config).state_dict(), "espcn", config)
    for path, words in (
        (other, "convs is 1 in the first, 2 in the other"),
        (espcn, "compact and espcn"),
    ):
        with pytest.raises(CheckpointError, match=words) as caught:
            vsr.load_model(f"{pair[0]}*0.5+{path}*0.5")
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match=r"'w' has shape \(2,\) in the first and None"):
        mix([{"w": torch.zeros(2)}, {}], [Share("a", 0.5), Share("b", 0.5)])


def test_unknown_names_and_strengths_are_refused(pair):
    with pytest.raises(UnknownModelError, match="no-such"):
        find_model("no-such*0.5+vsr-fast*0.5")
    with pytest.raises(UsageError, match="itself a mixture"):
        find_model(f"{pair[0]}*0.5+{pair[1]}*0.5", denoise=0.5)


def test_parts_are_joined_and_doubles_refused(tmp_path: Path, pair):
    state = read_checkpoint(pair[0]).state
    keys = list(state)
    for name, part in (("p.pth", keys[:2]), ("q.pth", keys[2:])):
        torch.save({key: state[key] for key in part}, tmp_path / name)
    loaded = join_checkpoints([tmp_path / "p.pth", tmp_path / "q.pth"])
    assert loaded.arch.id == "compact"
    assert loaded.state.keys() == state.keys()
    assert loaded.digest.count("+") == 1
    with pytest.raises(CheckpointError, match="both have a tensor"):
        join_checkpoints([tmp_path / "p.pth", pair[0]])


def test_hints_tell_what_tensors_cannot(tmp_path: Path):
    torch.manual_seed(0)
    torch.save(ESPCN(ESPCNConfig()).state_dict(), tmp_path / "espcn.pth")
    assert join_checkpoints([tmp_path / "espcn.pth"], {"luma": "full"}).config.luma == "full"
    for hints, words in (({"nothing": 1}, "unusable setting"), ({"features": 3}, "tensors say 64")):
        with pytest.raises(CheckpointError, match=words):
            join_checkpoints([tmp_path / "espcn.pth"], hints)
