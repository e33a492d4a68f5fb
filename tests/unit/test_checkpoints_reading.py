"""Reading and writing checkpoints: honest ones load, hostile ones are refused without running."""

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from vsr.checkpoints import blend, containers, read_checkpoint, save_checkpoint
from vsr.errors import CheckpointError
from vsr.models import build
from vsr.models.compact import Compact, CompactConfig

CONFIG = CompactConfig(channels=1, features=4, convs=1, scale=2, activation="relu")


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(Compact(CONFIG).state_dict())


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert repr(path.name) in message
    return message


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        OrderedDict,
        lambda s: {"params": s},
        lambda s: {"params": {k: v * 0 for k, v in s.items()}, "params_ema": s},
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": {"state_dict": s}, "optimizer": {"lr": 0.1}},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {"params": {f"_orig_mod.{k}": v for k, v in s.items()}},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrappings_of_training_programs(
    tmp_path: Path, state: dict[str, Tensor], wrap: Callable[[Any], Any], zipped: bool
):
    path = tmp_path / "net.pth"
    torch.save(wrap(state), path, _use_new_zipfile_serialization=zipped)
    assert same(read_checkpoint(path).state, state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_become_float32(tmp_path: Path, state: dict[str, Tensor], dtype: torch.dtype):
    stored = {key: value.to(dtype) for key, value in state.items()}
    torch.save(stored, tmp_path / "net.pth")
    safetensors.torch.save_file(stored, tmp_path / "net.safetensors")
    expected = {key: value.float() for key, value in stored.items()}
    assert same(read_checkpoint(tmp_path / "net.pth").state, expected)
    assert same(read_checkpoint(tmp_path / "net.safetensors").state, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(
    tmp_path: Path, state: dict[str, Tensor], dtype: torch.dtype, value: float
):
    stored = {key: tensor.to(dtype).clone() for key, tensor in state.items()}
    stored["body.2.weight"][:2, 0, 0, 0] = value
    torch.save({"params": stored}, tmp_path / "net.pth")
    safetensors.torch.save_file(stored, tmp_path / "net.safetensors")
    for name in ("net.pth", "net.safetensors"):
        assert "2 of 144 values in 'body.2.weight' that are NaN" in refused(tmp_path / name)


def test_all_tensors_with_bad_numbers_are_counted(tmp_path: Path, state: dict[str, Tensor]):
    bad = {key: tensor.clone() for key, tensor in state.items()}
    bad["body.0.bias"][1] = float("nan")
    bad["body.2.weight"][0, 0, 0] = torch.tensor([1, -1, 0]) / 0  # +inf, -inf and NaN in one sum
    safetensors.torch.save_file(bad, tmp_path / "net.safetensors")
    said = refused(tmp_path / "net.safetensors")
    assert "1 of 4 values in 'body.0.bias' and 3 in 1 other tensors that are NaN" in said


def test_numbers_beyond_float32_are_refused(tmp_path: Path):
    torch.save({"weight": torch.tensor([1.0, 1e300], dtype=torch.float64)}, tmp_path / "net.pth")
    assert "1 of 2 values in 'weight'" in refused(tmp_path / "net.pth")


def test_large_numbers_whose_sum_overflows_pass(tmp_path: Path, state: dict[str, Tensor]):
    large = {**state, "body.0.bias": torch.full((4,), 3e38)}
    safetensors.torch.save_file(large, tmp_path / "net.safetensors")
    assert same(read_checkpoint(tmp_path / "net.safetensors").state, large)


def test_empty_tensors_pass(tmp_path: Path):
    torch.save({"weight": torch.zeros(0, 3)}, tmp_path / "net.pth")
    assert read_checkpoint(tmp_path / "net.pth").state["weight"].shape == (0, 3)


def test_content_decides_not_the_suffix(tmp_path: Path, state: dict[str, Tensor]):
    safetensors.torch.save_file(state, tmp_path / "net.pth")
    assert same(read_checkpoint(tmp_path / "net.pth").state, state)


def test_saved_checkpoints_build_again(tmp_path: Path):
    config = CompactConfig(channels=1, features=4, convs=1, scale=2, activation="leakyrelu")
    torch.manual_seed(0)
    network = Compact(config)
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, network.state_dict(), "compact", config, {"licence": "MIT"})
    checkpoint = read_checkpoint(path)
    x = torch.rand(1, 1, 5, 5)
    with torch.inference_mode():
        assert torch.equal(build(checkpoint.state, checkpoint.metadata)[0](x), network(x))
    assert checkpoint.metadata["licence"] == "MIT"
    assert json.loads(checkpoint.metadata["config"])["activation"] == "leakyrelu"
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


def test_saving_into_nowhere(tmp_path: Path, state: dict[str, Tensor]):
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(tmp_path / "no" / "net.safetensors", state, "compact", CONFIG)


class Evil:
    """Its pickle writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def torch_zip(path: Path, records: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return path


def test_pickled_code_never_runs(tmp_path: Path):
    mark = tmp_path / "PWNED"
    legacy, zipped = tmp_path / "legacy.pth", tmp_path / "zip.pth"
    program = pickle.dumps({"params": Evil(mark)}, 2)
    legacy.write_bytes(program)
    torch_zip(zipped, {"a/data.pkl": program, "a/version": b"3\n"})
    for path in (legacy, zipped):
        assert "exec" in refused(path)
    torch.save({"params": {"w": torch.zeros(1), "x": Evil(mark)}}, tmp_path / "both.pth")
    refused(tmp_path / "both.pth")
    assert not mark.exists()


def test_whole_modules_and_scripts_are_refused(tmp_path: Path):
    torch.save(Compact(CONFIG), tmp_path / "module.pth")
    assert "state_dict" in refused(tmp_path / "module.pth")
    path = torch_zip(
        tmp_path / "script.pt", {"a/data.pkl": b"", "a/constants.pkl": b"", "a/code/x.py": b""}
    )
    assert "TorchScript" in refused(path)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ({"../../PWNED": b"x"}, "points outside"),
        ({"/etc/x": b"x"}, "points outside"),
        ({"a/..\\x": b"x"}, "points outside"),
        ({"C:/x": b"x"}, "points outside"),
        ({"readme.txt": b"x"}, "not one that torch.save wrote"),
        ({"a/data.pkl": b"", "b/data/0": b""}, "not one that torch.save wrote"),
        ({"a/data.pkl": b"\x80\x02."}, "damaged"),
    ],
)
def test_odd_archives(tmp_path: Path, records: dict[str, bytes], said: str):
    assert said in refused(torch_zip(tmp_path / "odd.pth", records))


def test_compressed_records(tmp_path: Path, state: dict[str, Tensor]):
    torch.save(state, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    path = torch_zip(tmp_path / "deflated.pth", records, zipfile.ZIP_DEFLATED)
    assert "compressed" in refused(path)


@pytest.mark.shared
def test_the_deflated_official_checkpoint(shared: Path):
    message = refused(shared / "data" / "weights" / "realesr-animevideov3_deflated.pth")
    assert "compressed" in message


def test_cut_files(tmp_path: Path, state: dict[str, Tensor]):
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
        data = buffer.getvalue()
        for keep in (20, 200, len(data) // 2, len(data) - 1):
            (tmp_path / "cut.pth").write_bytes(data[:keep])
            refused(tmp_path / "cut.pth")
    data = safetensors.torch.save(state)
    for keep in (7, 20, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.safetensors").write_bytes(data[:keep])
        refused(tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><title>404</title>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\x7fELF" + bytes(60), "neither"),
        (b"PK\x03\x04" + bytes(100), "download it again"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, said: str):
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    assert said in refused(path)


def test_missing_file_and_folder(tmp_path: Path):
    assert "No such file" in refused(tmp_path / "none.pth")
    (tmp_path / "folder.pth").mkdir()
    assert "directory" in refused(tmp_path / "folder.pth")


def test_huge_files_are_not_read(tmp_path: Path):
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.truncate(containers.MOST_BYTES + 1)  # sparse
    assert "at most" in refused(path)


def header(tmp_path: Path, value: Any, data: bytes = bytes(16)) -> Path:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | changes


def test_header_helper_makes_valid_files(tmp_path: Path):
    assert read_checkpoint(header(tmp_path, {"w": entry()})).state["w"].shape == (4,)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"w": entry(data_offsets=[16, 32])}, "overlap or leave gaps"),
        ({"w": entry(), "v": entry()}, "overlap or leave gaps"),
        ({"w": entry(shape=[2], data_offsets=[0, 8])}, "should hold 8 bytes"),
        ({"w": entry(shape=[5], data_offsets=[0, 20])}, "should hold 20 bytes"),
        ({"w": entry(shape=[3])}, "do not fit its shape"),
        ({"w": entry(shape=[-4, -1])}, "no safetensors"),
        ({"w": entry(shape=[2**62, 4])}, "no safetensors"),
        ({"w": entry(shape=[1] * 9)}, "no safetensors"),
        ({"w": entry(shape=["4"])}, "no safetensors"),
        ({"w": entry(data_offsets=[16, 0])}, "do not fit its shape"),
        ({"w": entry(data_offsets=[-16, 0])}, "do not fit its shape"),
        ({"w": entry(dtype="F8_E4M3")}, "only plain numbers"),
        ({"w": [1]}, "no safetensors"),
        ({"__metadata__": {"a": 1}, "w": entry()}, "metadata"),
        (b'{"w": 1, "w": 2}', "not JSON"),
        (b"[" * 5000, "not JSON"),
        (b"{\xff}", "not JSON"),
        (b"{,}", "not JSON"),
    ],
)
def test_malformed_headers(tmp_path: Path, value: Any, said: str):
    path = header(tmp_path, value)
    message = refused(path)
    assert said in message or "neither" in message


def test_header_longer_than_the_file(tmp_path: Path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    assert "claims a header of 1152921504606846976 bytes" in refused(path)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.zeros(1).expand(1 << 20), "not dense"),
        (torch.eye(3).to_sparse(), "not dense"),
        (torch.zeros(3, dtype=torch.int64), "expected floating point"),
        (torch.zeros(3, dtype=torch.complex64), "expected floating point"),
        (torch.zeros(3, device="meta"), ""),
        ("text", "that is a str"),
        (3.5, "that is a float"),
    ],
)
def test_only_dense_floats(tmp_path: Path, state: dict[str, Tensor], value: Any, said: str):
    torch.save({**state, "odd": value}, tmp_path / "net.pth")
    assert said in refused(tmp_path / "net.pth")


def test_names_must_be_text(tmp_path: Path):
    torch.save({1: torch.zeros(1)}, tmp_path / "net.pth")
    assert "a int" in refused(tmp_path / "net.pth")


@pytest.mark.parametrize("value", [torch.zeros(3), [1, 2], 7, None])
def test_a_state_dict_is_expected(tmp_path: Path, value: Any):
    torch.save(value, tmp_path / "net.pth")
    assert "no state dict" in refused(tmp_path / "net.pth")


def test_known_integer_buffers_pass(tmp_path: Path, state: dict[str, Tensor]):
    state["bn.num_batches_tracked"] = torch.tensor(5)
    torch.save(state, tmp_path / "net.pth")
    read = read_checkpoint(tmp_path / "net.pth").state
    assert read["bn.num_batches_tracked"].dtype == torch.int64


def test_shared_storage_is_no_obstacle(tmp_path: Path):
    whole = torch.rand(8)
    torch.save({"a": whole[:4], "b": whole[4:], "c": whole}, tmp_path / "net.pth")
    assert torch.equal(read_checkpoint(tmp_path / "net.pth").state["b"], whole[4:])


def test_blend(state: dict[str, Tensor]):
    other = {key: value + 1 for key, value in state.items()}
    half = blend(state, other, 0.25)
    for key, value in state.items():
        torch.testing.assert_close(half[key], value + 0.25)
    assert same(blend(state, other, 0), state)
    assert same(blend(state, other, 1), other)


def test_blend_refuses_different_networks(state: dict[str, Tensor]):
    with pytest.raises(CheckpointError, match=r"'body\.0\.weight'"):
        blend(state, {**state, "body.0.weight": torch.zeros(1)}, 0.5)
    with pytest.raises(CheckpointError, match="'extra'"):
        blend(state, {**state, "extra": torch.zeros(1)}, 0.5)


@pytest.mark.parametrize("length", [0x80, 0x280, 0x380, 0x480, 0x580, 0x4B50])
def test_a_header_whose_length_looks_like_another_format(length):
    start = length.to_bytes(8, "little") + b'{"__meta'
    assert containers.recognise(start) == "safetensors"
