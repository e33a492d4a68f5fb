"""`vsr models show`, `blend`, `convert` and `export`; the catalogue's figures against counting."""

import hashlib
import importlib.util
import json
from pathlib import Path

import pytest
import torch

from vsr.checkpoints import read_checkpoint, save_checkpoint
from vsr.cli.main import run
from vsr.cli.models import thousands
from vsr.engine.model_facts import config_of_entry
from vsr.models import architecture, build
from vsr.models._counting import cost
from vsr.models.catalog import Published, published
from vsr.models.compact import ARCH, Compact, CompactConfig
from vsr.models.dasr_moe import ARCH as DASR
from vsr.models.dasr_moe import DASRMoEConfig
from vsr.models.espcn import ESPCN, ESPCNConfig


def saved(path: Path, seed: int = 0, **changes) -> Path:
    torch.manual_seed(seed)
    config = CompactConfig(**{"features": 4, "convs": 1, "scale": 2} | changes)
    save_checkpoint(path, Compact(config).state_dict(), "compact", config, {"licence": "MIT"})
    return path


def refused(capsys, *arguments, code: int) -> str:
    assert run(["models", *map(str, arguments)]) == code
    error = capsys.readouterr().err
    assert error.startswith("vsr: error: ")
    assert error.count("\n") == 1
    return error


def variants() -> list[Published]:
    """One published checkpoint of every network."""
    found = {}
    for entry in published():
        key = (entry.architecture, tuple(entry.network.items()), tuple(entry.config.items()))
        found.setdefault(key, entry)
    return list(found.values())


@pytest.mark.parametrize("entry", variants(), ids=lambda entry: entry.name)
def test_the_catalogue_counts_right(entry: Published):
    arch = architecture(entry.architecture)
    config = config_of_entry(arch, entry)
    spec = arch.spec(config)
    assert spec.scale == entry.scale
    with torch.device("meta"):
        network = arch.build(config)
    assert sum(p.numel() for p in network.parameters()) == entry.parameters
    # the large ones of these were counted alike, and take seconds each
    large = (entry.parameters or 0) >= 5_000_000
    if not (large and entry.architecture in {"swinir", "rrdb", "rcan", "san", "ignn", "rdn"}):
        assert cost(network, spec).flops == entry.flops


def test_the_catalogue_fits_the_sizes_of_the_files():
    """Every file has room for its weights in four bytes each, as all of them are stored."""
    for entry in published():
        if entry.size is not None:
            assert entry.parameters is not None
            assert entry.size > 4 * entry.parameters, entry.name


def test_the_published_arithmetic_of_the_field():
    """FLOP per input pixel as computed by hand: twice the multiply-adds of every convolution."""
    figures = {entry.name: entry.flops for entry in published()}
    assert figures["realesr-animevideov3"] == 1_238_400
    assert figures["realesr-general-x4v3"] == 2_418_048
    assert figures["RealESRGAN_x4plus"] == 35_853_696
    assert figures["RealESRGAN_x4plus_anime_6B"] == 11_412_864
    assert figures["RealESRGAN_x2plus"] == 8_966_016


def test_counting_leaves_the_network_alone():
    network = Compact(CompactConfig(features=4, convs=1, scale=2)).train()
    counted = cost(network, ARCH.spec(CompactConfig(features=4, convs=1, scale=2)))
    assert counted.flops == 2 * 9 * (3 * 4 + 4 * 4 + 4 * 12)
    assert dict(counted.layers) == {"Conv2d": 3, "PReLU": 2}
    assert network.training
    assert not next(network.parameters()).is_meta


def test_list_has_parameters_arithmetic_and_figures(capsys):
    assert run(["models", "list"]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert rows["edsr_x2"][3:7] == ["40.7M", "81.5M", "-", "38.11/33.92"]
    assert rows["realesr-animevideov3"][3:7] == ["621k", "1.24M", "-", "-"]
    assert run(["models", "list", "--json"]) == 0
    facts = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert facts["edsr_x2"]["parameters"] == 40_729_603
    assert facts["edsr_x2"]["psnr"]["Set5"] == 38.11


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "-"), (8, "8"), (999, "999"), (999_999, "1.00M"), (99_960, "100k"), (9_990, "9.99k")],
)
def test_counts_have_three_digits(count: int | None, text: str):
    assert thousands(count) == text


def test_show_a_file(capsys, tmp_path: Path):
    path = saved(tmp_path / "net.safetensors")
    assert run(["models", "show", str(path), "--size", "640x360"]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["architecture"] == "compact"
    assert rows["parameters"] == f"{sum(v.numel() for v in read_checkpoint(path).state.values())}"
    assert rows["layers"] == "5: 3 Conv2d, 2 PReLU"
    assert "1,368 per input pixel" in rows["FLOP"]
    assert "overlap by 3 pixels" in rows["tiling"]
    assert "640x360" in rows["memory"]
    assert rows["licence"] == "MIT"


def test_show_what_is_not_downloaded(capsys, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path))
    assert run(["models", "show", "realesr-general-x4v3", "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert facts["cost"]["parameters"] == 1_213_296
    assert facts["spec"]["overlap"] == 34
    assert facts["licence"] == "BSD-3-Clause"
    assert not facts["weights"]
    assert run(["models", "show", "realesr-animevideov3"]) == 0
    assert "run `vsr models get" in capsys.readouterr().out


def test_show_a_family(capsys):
    assert run(["models", "show", "vsr-fast"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[1] for line in lines if line.startswith("name")]
    assert names == ["vsr-fast-x2", "vsr-fast-x3", "vsr-fast-x4"]


def test_show_refuses(capsys, tmp_path: Path):
    (tmp_path / "bad.pth").write_bytes(b"nothing")
    assert "neither" in refused(capsys, "show", tmp_path / "bad.pth", code=5)
    assert "no-such" in refused(capsys, "show", "no-such", code=5)
    assert "WxH" in refused(capsys, "show", "vsr-fast", "--size", "4k", code=2)


def test_blend_writes_what_it_says(capsys, tmp_path: Path):
    a, b = saved(tmp_path / "a.safetensors", 1), saved(tmp_path / "b.safetensors", 2)
    target = tmp_path / "c.safetensors"
    assert run(["models", "blend", str(a), str(b), "--alpha", "0.8", "-o", str(target)]) == 0
    assert "0.2 " in capsys.readouterr().out
    found, first, second = (read_checkpoint(path) for path in (target, a, b))
    for key, value in found.state.items():
        expected = first.state[key] * 0.2 + second.state[key] * 0.8
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)
    assert found.metadata["licence"] == "MIT"
    parts = json.loads(found.metadata["blend"])
    assert [part["name"] for part in parts] == ["a.safetensors", "b.safetensors"]
    assert parts[0]["sha256"] == hashlib.sha256(a.read_bytes()).hexdigest()
    other = tmp_path / "d.safetensors"
    assert run(["models", "blend", f"{a}*0.2+{b}*0.8", "-o", str(other)]) == 0
    assert all(torch.equal(v, found.state[k]) for k, v in read_checkpoint(other).state.items())


def test_blend_refuses(capsys, tmp_path: Path):
    a, b = saved(tmp_path / "a.safetensors", 1), saved(tmp_path / "b.safetensors", 2, convs=3)
    out = tmp_path / "c.safetensors"
    assert "--alpha" in refused(capsys, "blend", a, b, "-o", out, code=2)
    assert "sum to 1" in refused(capsys, "blend", f"{a}*0.2+{b}*0.7", "-o", out, code=2)
    assert "convs" in refused(capsys, "blend", a, b, "--alpha", "0.5", "-o", out, code=5)
    assert ".safetensors" in refused(capsys, "blend", a, a, "--alpha", "1", "-o", "x.pth", code=2)
    assert "the input itself" in refused(
        capsys, "blend", a, a, "--alpha", "1", "-o", a, "-y", code=4
    )
    assert not out.exists()


def test_convert_says_what_it_is_and_where_it_came_from(capsys, tmp_path: Path):
    torch.manual_seed(0)
    config = CompactConfig(features=4, convs=1, scale=2)
    state = {f"module.{k}": v.half() for k, v in Compact(config).state_dict().items()}
    source, target = tmp_path / "net.pth", tmp_path / "net.safetensors"
    torch.save({"params_ema": state}, source)
    assert run(["models", "convert", str(source), "-o", str(target), "--licence", "MIT"]) == 0
    found = read_checkpoint(target)
    header = found.metadata
    assert header["architecture"] == "compact"
    assert json.loads(header["config"])["features"] == 4
    assert (header["source"], header["licence"]) == ("net.pth", "MIT")
    assert header["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert all(torch.equal(v, state[f"module.{k}"].float()) for k, v in found.state.items())
    before = target.read_bytes()
    assert "-y" in refused(capsys, "convert", source, "-o", target, code=4)
    assert target.read_bytes() == before
    assert run(["models", "convert", str(source), "-o", str(target), "-y"]) == 0
    assert "licence" not in read_checkpoint(target).metadata


def test_convert_takes_settings_that_tensors_cannot_tell(capsys, tmp_path: Path):
    source, target = tmp_path / "espcn.pth", tmp_path / "espcn.safetensors"
    torch.save(ESPCN(ESPCNConfig()).state_dict(), source)
    options = ["--set", "luma=full", "--set", "bounded=true"]
    assert run(["models", "convert", str(source), *options, "-o", str(target)]) == 0
    found = read_checkpoint(target)
    assert build(found.state, found.metadata)[1].luma == "full"
    assert json.loads(found.metadata["config"])["bounded"] is True
    capsys.readouterr()
    for setting, code in (("luma", 2), ("nothing=1", 5), ("features=9", 5)):
        refused(capsys, "convert", source, "--set", setting, "-o", target, "-y", code=code)


def test_convert_joins_the_parts_of_one_network(capsys, tmp_path: Path):
    config = DASRMoEConfig(features=8, blocks=2, predictor=8, scale=2)
    torch.manual_seed(0)
    state = DASR.build(config).state_dict()
    keys = list(state)
    parts = [tmp_path / "net_g.pth", tmp_path / "net_p.pth"]
    for path, names in zip(parts, (keys[::2], keys[1::2]), strict=True):
        torch.save({"params": {key: state[key] for key in names}}, path)
    target = tmp_path / "dasr.safetensors"
    assert run(["models", "convert", *map(str, parts), "-o", str(target)]) == 0
    found = read_checkpoint(target)
    assert found.metadata["source"] == "net_g.pth + net_p.pth"
    assert all(torch.equal(found.state[key], value) for key, value in state.items())
    capsys.readouterr()
    half = tmp_path / "half.safetensors"
    refused(capsys, "convert", parts[0], "-o", half, code=5)
    assert "both have a tensor" in refused(
        capsys, "convert", parts[0], parts[0], "-o", half, code=5
    )
    assert not half.exists()


@pytest.mark.shared
def test_convert_reads_ncnn(tmp_path: Path, shared: Path):
    source = shared / "data" / "weights" / "ncnn" / "realesr-general-x4v3.param"
    target = tmp_path / "general.safetensors"
    assert run(["models", "convert", str(source), "-o", str(target)]) == 0
    truth = shared / "data" / "weights" / "realesr-general-x4v3_from-ncnn-fp16.pth"
    ours, theirs = read_checkpoint(target).state, read_checkpoint(truth).state
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


def test_export_is_compared_with_the_network(capsys, tmp_path: Path):
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the optional package {package} is not installed")
    source, target = saved(tmp_path / "net.safetensors"), tmp_path / "net.onnx"
    assert run(["models", "export", str(source), "-o", str(target)]) == 0
    said = capsys.readouterr().out
    assert "RGB in [0, 1] as (N, 3, H, W), x2" in said
    assert float(said.partition("off the network by ")[2].split()[0]) < 1e-5
    assert "-y" in refused(capsys, "export", source, "-o", target, code=4)
    assert ".onnx" in refused(capsys, "export", source, "-o", tmp_path / "net.pth", code=2)


def test_export_without_onnx_says_so(capsys, tmp_path: Path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "onnx" else found(n))
    source = saved(tmp_path / "net.safetensors")
    said = refused(capsys, "export", source, "-o", tmp_path / "net.onnx", code=2)
    assert "pip install" in said
    assert not (tmp_path / "net.onnx").exists()
