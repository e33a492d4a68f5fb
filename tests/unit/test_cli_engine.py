"""`vsr engine`: building ahead, listing, deleting; and that what was built is used."""

import json

import pytest
import torch

from vsr.cli import group
from vsr.cli.main import run
from vsr.engine.engines import onnxruntime, openvino
from vsr.engine.engines.cache import EngineCache, EngineKey
from vsr.engine.engines.registry import ENGINES, open_network
from vsr.engine.loading import find_model

CPU = torch.device("cpu")


def need(name):
    if not ENGINES[name].installed:
        pytest.skip(f"{name} is not installed")


@pytest.fixture(autouse=True)
def _command(monkeypatch, tmp_path):
    monkeypatch.setattr(group, "_COMMANDS", (*group._COMMANDS, "engine"))
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))


def build(engine, *more):
    command = ["engine", "build", "vsr-fast", "-s", "2", "--size", "40x24", "--precision", "fp32"]
    return run([*command, "--engine", engine, "-d", "cpu", *more])


@pytest.mark.parametrize(
    ("engine", "library", "shown"),
    [("openvino", "openvino", "40x24"), ("onnx", "onnxruntime", "any size")],
)
def test_what_is_built_is_listed_used_and_deleted(engine, library, shown, capsys, monkeypatch):
    need(engine)
    assert build(engine) == 0
    built = capsys.readouterr().out
    assert run(["engine"]) == 0
    listed = capsys.readouterr().out
    assert listed == built
    head, row = listed.splitlines()
    assert head.split() == ["model", "engine", "for", "precision", "size", "device"]
    assert row.startswith("vsr-fast-x2 x2")
    assert f"  {library} " in row
    assert f"  {shown}  fp32  " in row
    assert run(["engine", "list", "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert facts["shape"] == ([] if engine == "onnx" else [1, 1, 24, 40])
    model = find_model("vsr-fast", factor=2)
    x = torch.rand(1, 1, 24, 40)
    with torch.inference_mode():
        wanted = model.module(x)

    def fail(*_):
        msg = "this work was done ahead"
        raise AssertionError(msg)

    for module in (openvino, onnxruntime):
        monkeypatch.setattr(module, "export_onnx", fail)
    ours = open_network(engine, model.module, model.spec, CPU, "fp32")(x)
    assert (ours - wanted).abs().max() < 1e-4
    assert run(["engine", "clear", "--engine", "tensorrt"]) == 0
    assert capsys.readouterr().out == "0 engines deleted, 0 B\n"
    assert run(["engine", "clear", "--engine", engine]) == 0
    assert capsys.readouterr().out.startswith("1 engine deleted, ")
    assert EngineCache().entries() == ()


def test_runs_keep_nothing_by_themselves():
    need("openvino")
    model = find_model("vsr-fast", factor=2)
    open_network("openvino", model.module, model.spec, CPU, "fp32")(torch.rand(1, 1, 8, 9))
    assert EngineCache().entries() == ()


def test_another_size_of_a_known_network_is_compiled():
    need("openvino")
    assert build("openvino", "-q") == 0
    model = find_model("vsr-fast", factor=2)
    x = torch.rand(1, 1, 10, 12)
    engine = open_network("openvino", model.module, model.spec, CPU, "fp32")
    assert engine.checked
    with torch.inference_mode():
        assert (engine(x) - model.module(x)).abs().max() < 1e-4


def test_tiles_and_batches_are_built_as_they_will_run(capsys):
    need("openvino")
    assert build("openvino", "--tile", "32", "--batch", "2") == 0
    assert "  32x24, batch 2  " in capsys.readouterr().out


def test_a_damaged_engine_is_said_and_made_again(caplog):
    need("openvino")
    assert build("openvino", "-q") == 0
    (entry,) = EngineCache().entries()
    entry.path.write_bytes(entry.path.read_bytes()[:-5])
    model = find_model("vsr-fast", factor=2)
    with caplog.at_level("WARNING", "vsr"), torch.inference_mode():
        x = torch.rand(1, 1, 24, 40)
        ours = open_network("openvino", model.module, model.spec, CPU, "fp32")(x)
        assert (ours - model.module(x)).abs().max() < 1e-4
    assert "is damaged" in caplog.text
    assert "vsr engine build" in caplog.text


def test_an_empty_cache_says_how_to_fill_it(capsys):
    assert run(["engine", "list"]) == 0
    assert "`vsr engine build` makes one" in capsys.readouterr().out
    assert run(["engine", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_damaged_and_half_written_files_are_listed_and_deleted(capsys):
    cache = EngineCache()
    key = EngineKey(
        model="ab" * 32, shape=(2, 3, 90, 160), precision="fp16", device="T4", library="tensorrt 9"
    )
    cache.store(key, b"plan")
    (cache.folder / "bad.engine").write_bytes(b"what")
    (cache.folder / ".x.engine.7.part").write_bytes(b"half")
    assert run(["engine"]) == 0
    out = capsys.readouterr().out
    assert "abababababab  tensorrt 9  160x90, batch 2" in out
    assert "damaged" in out
    assert run(["engine", "clear"]) == 0
    assert list(cache.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["vsr-fast", "--size", "1080p"], 2, "width and height"),
        (["vsr-fast", "--size", "64x48", "--engine", "torch"], 2, "keeps nothing on disk"),
        (["vsr-fast", "--size", "64x48", "--engine", "abacus"], 2, "unknown engine"),
        (["none.pth", "--size", "64x48"], 5, "none.pth"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_nonsense_is_one_line(more, code, said, capsys):
    assert run(["engine", "build", "-d", "cpu", *more]) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_clear_of_something_else_is_refused(capsys):
    assert run(["engine", "clear", "--engine", "torch"]) == 2
    assert "keeps nothing" in capsys.readouterr().err
