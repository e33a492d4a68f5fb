"""Weights of other programs: NumPy, TensorFlow and MATLAB files, honest and hostile."""

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vsr.checkpoints import read_checkpoint
from vsr.errors import CheckpointError
from vsr.models import build, detect
from vsr.models.drcn import DRCN, DRCNConfig
from vsr.models.espcn import ESPCN, ESPCNConfig
from vsr.models.fsrcnn import FSRCNN, FSRCNNConfig
from vsr.models.srcnn import SRCNN, SRCNNConfig

RANDOM = np.random.default_rng(0)


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert repr(path.name) in message
    return message


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# writers, as small as the readers


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def node(name: str, operation: str, value: np.ndarray | None = None) -> bytes:
    data = field(1, name.encode()) + field(2, operation.encode())
    if value is not None:
        shape = b"".join(field(2, field(1, side)) for side in value.shape)
        kind = 1 if value.dtype == np.float32 else 3
        tensor = field(1, kind) + field(2, shape) + field(4, value.tobytes())
        data += field(5, field(1, b"value") + field(2, field(8, tensor)))
    return field(1, data)


def espcn_graph(state: dict[str, Tensor], operations: list[str]) -> bytes:
    stems = ("first_part.0", "first_part.2", "last_part.0")
    data = node("order", "Const", np.array([0, 3, 1, 2], np.int32))
    for number, stem in enumerate(stems, 1):
        kernel = state[f"{stem}.weight"].permute(2, 3, 1, 0).contiguous().numpy()
        data += node(f"f{number}", "Const", kernel)
        data += node(f"b{number}", "Const", state[f"{stem}.bias"].numpy())
    operations = ["Conv2D"] * 3 + ["DepthToSpace", *operations]
    return data + b"".join(node(f"n{k}", name) for k, name in enumerate(operations))


def fsrcnn_graph(state: dict[str, Tensor], convs: int) -> bytes:
    stems = ["first_part.0"] + [f"mid_part.{2 * k}" for k in range(convs + 2)]
    data = b""
    for number, stem in enumerate(stems, 1):
        slope = stem[:-1] + "1" if number == 1 else f"mid_part.{2 * number - 3}"
        kernel = state[f"{stem}.weight"].permute(2, 3, 1, 0).contiguous().numpy()
        data += node(f"f{number}", "Const", kernel) + node(f"conv{number}", "Conv2D")
        data += node(f"b{number}", "Const", state[f"{stem}.bias"].numpy())
        data += node(f"alpha{number}", "Const", state[f"{slope}.weight"].numpy())
    last = state["last_part.weight"]
    number = len(stems) + 1
    data += node(f"f{number}", "Const", last.reshape(1, 1, len(last), -1).numpy())
    data += node(f"b{number}", "Const", state["last_part.bias"].numpy())
    return data + node("last", "Conv2D") + node("shuffle", "DepthToSpace")


def element(kind: int, content: bytes, order: str) -> bytes:
    if len(content) <= 4 and kind != 14:
        return struct.pack(f"{order}I", len(content) << 16 | kind) + content.ljust(4, b"\0")
    padded = content + b"\0" * (-len(content) % 8)
    return struct.pack(f"{order}II", kind, len(content)) + padded


def matrix(name: str, array: np.ndarray, order: str, kind: int = 6) -> bytes:
    code, number = {6: ("f8", 9), 7: ("f4", 7)}[kind]
    shape = np.array(array.shape, order + "i4").tobytes()
    values = array.astype(order + code).tobytes(order="F")
    parts = [(6, struct.pack(f"{order}II", kind, 0)), (5, shape), (1, name.encode())]
    body = b"".join(element(k, c, order) for k, c in [*parts, (number, values)])
    return element(14, body, order)


def matlab(arrays: dict[str, np.ndarray], order: str = "<", *, packed: bool = False) -> bytes:
    text = b"MATLAB 5.0 MAT-file, made by a test".ljust(124, b" ")
    header = text + struct.pack(f"{order}H", 0x0100) + (b"IM" if order == "<" else b"MI")
    body = b""
    for number, (name, array) in enumerate(arrays.items()):
        one = matrix(name, array, order, 6 + number % 2)
        if packed:
            squeezed = zlib.compress(one)
            one = struct.pack(f"{order}II", 15, len(squeezed)) + squeezed
        body += one
    return header + body


def as_matlab(state: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """As the authors' `saveFilters.m` wrote Caffe's weights: every kernel is a column."""
    arrays: dict[str, np.ndarray] = {}
    for number in (1, 2, 3):
        kernel = state[f"conv{number}.weight"].numpy().astype(np.float64)
        columns = kernel.transpose(0, 1, 3, 2).reshape(*kernel.shape[:2], -1)
        key = f"weights_conv{number}"
        if number == 1:
            arrays[key] = columns[:, 0].T
        elif number == 2:
            arrays[key] = columns.transpose(1, 2, 0)
        else:
            arrays[key] = columns[0]
        arrays[f"biases_conv{number}"] = state[f"conv{number}.bias"].numpy()[:, None]
    return arrays


# honest files


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("second", [1, 5])
def test_srcnn_of_matlab(tmp_path: Path, order: str, packed: bool, second: int):
    network = SRCNN(SRCNNConfig(features=6, mapped=4, second=second, scale=3)).eval()
    path = tmp_path / "x3.mat"
    path.write_bytes(matlab(as_matlab(network.state_dict()), order, packed=packed))
    found = read_checkpoint(path)
    assert same(found.state, dict(network.state_dict()))
    assert found.metadata["architecture"] == "srcnn"
    x = torch.rand(1, 1, 8, 9)
    rebuilt, _ = build(found.state, {"architecture": "srcnn", "config": '{"scale": 3}'})
    with torch.inference_mode():
        assert torch.equal(rebuilt(x), network(x))


def test_kernels_of_matlab_are_applied_as_srcnn_m_does(tmp_path: Path):
    """`reshape` column by column, `imfilter` correlating with replicated edges, all by hand."""
    arrays = as_matlab(SRCNN(SRCNNConfig(features=2, mapped=2, first=3)).state_dict())
    path = tmp_path / "x.mat"
    path.write_bytes(matlab(arrays))
    picture = RANDOM.random((5, 6))
    framed = np.pad(picture, 1, mode="edge")
    flat = arrays["weights_conv1"][:, 1]
    kernel = np.array([[flat[row + 3 * column] for column in range(3)] for row in range(3)])
    expected = [
        [(framed[r : r + 3, c : c + 3] * kernel).sum() for c in range(6)] for r in range(5)
    ] + arrays["biases_conv1"][1]
    network, _ = build(read_checkpoint(path).state)
    x = torch.from_numpy(picture).float()[None, None]
    with torch.inference_mode():
        y = network.conv1(torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate"))[0, 1]
    torch.testing.assert_close(y.double(), torch.from_numpy(np.array(expected)), rtol=0, atol=1e-5)


def test_matlab_drops_a_last_dimension_of_one_and_holds_other_things(tmp_path: Path):
    network = SRCNN(SRCNNConfig(features=6, mapped=1))
    arrays = as_matlab(network.state_dict())
    arrays["weights_conv2"] = arrays["weights_conv2"][:, :, 0]
    data = matlab(arrays)
    text = element(
        14, b"".join(element(k, c, "<") for k, c in [(6, struct.pack("<II", 4, 0))]), "<"
    )
    (tmp_path / "x.mat").write_bytes(data + text)
    assert same(read_checkpoint(tmp_path / "x.mat").state, dict(network.state_dict()))


@pytest.mark.parametrize("squeeze", [np.savez, np.savez_compressed])
def test_any_state_dict_as_npz(tmp_path: Path, squeeze: Any):
    network = ESPCN(ESPCNConfig(features=4, mapped=3, scale=2))
    arrays = {key: value.numpy() for key, value in network.state_dict().items()}
    squeeze(tmp_path / "net.npz", **arrays)
    found = read_checkpoint(tmp_path / "net.npz")
    assert same(found.state, dict(network.state_dict()))
    assert found.metadata == {}


def test_drcn_of_tensorflow(tmp_path: Path):
    """The network of 0 to 255 as that program computes it, against ours of 0 to 1."""
    network = DRCN(DRCNConfig(features=3, depth=2, skip="concat", scale=2)).eval()
    state = {key: value.detach() for key, value in network.state_dict().items()}
    homes = {
        "embed.0": ("W-1_conv/conv_W_1", "W-1_conv/conv_B"),
        "embed.2": ("W0_conv/conv_W_1", "W0_conv/conv_B"),
        "recurse": ("W_conv", "B"),
        "reconstruct.0": ("WD1_conv_1", "BD1"),
        "reconstruct.1": ("WD2_conv_1", "BD2"),
    }
    arrays = {"LayerWeights": np.array([3.0, 1.0], np.float32)}
    for stem, (kernel, bias) in homes.items():
        arrays[kernel] = state[f"{stem}.weight"].permute(2, 3, 1, 0).contiguous().numpy()
        arrays[bias] = state[f"{stem}.bias"].numpy() * 255
    np.savez(tmp_path / "drcn.npz", **arrays)
    found = read_checkpoint(tmp_path / "drcn.npz")
    rebuilt, spec = build(found.state, found.metadata)
    assert spec.scale == 2
    x = torch.rand(1, 1, 6, 5)
    first, second = network.predictions(x)
    with torch.inference_mode():
        torch.testing.assert_close(rebuilt(x), 0.75 * first + 0.25 * second)


@pytest.mark.parametrize(
    ("operations", "config"),
    [
        (["Relu", "Relu", "Tanh"], {"activation": "relu", "bounded": True}),
        (["Relu", "Relu"], {"activation": "relu", "bounded": False}),
        (["Tanh", "Tanh"], {"activation": "tanh", "bounded": False}),
        (["Tanh", "Tanh", "Tanh"], {"activation": "tanh", "bounded": True}),
    ],
)
def test_espcn_of_tensorflow(tmp_path: Path, operations: list[str], config: dict[str, Any]):
    network = ESPCN(ESPCNConfig(features=4, mapped=3, scale=2, **config)).eval()
    path = tmp_path / "ESPCN_x2.pb"
    path.write_bytes(espcn_graph(network.state_dict(), operations))
    found = read_checkpoint(path)
    assert json.loads(found.metadata["config"]) == config | {"luma": "full"}
    x = torch.rand(1, 1, 5, 6)
    with torch.inference_mode():
        assert torch.equal(build(found.state, found.metadata)[0](x), network(x))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_fsrcnn_of_tensorflow(tmp_path: Path, scale: int):
    config = FSRCNNConfig(features=6, mapped=3, convs=2, kernel=scale, scale=scale)
    network = FSRCNN(config).eval()
    path = tmp_path / "FSRCNN.pb"
    path.write_bytes(fsrcnn_graph(network.state_dict(), 2))
    found = read_checkpoint(path)
    assert detect(found.state)[1] == config
    x = torch.rand(1, 1, 5, 6)
    with torch.inference_mode():
        y = build(found.state, found.metadata)[0](x)
        assert torch.equal(y, network(x))
        features = network.mid_part(network.first_part(x))
        kernel = network.last_part.weight.reshape(6, -1).t()[:, :, None, None]
        shuffled = torch.nn.functional.pixel_shuffle(torch.conv2d(features, kernel), scale)
        torch.testing.assert_close(y, shuffled + network.last_part.bias)


# hostile and damaged files


def test_objects_in_npz_are_never_read(tmp_path: Path):
    path = tmp_path / "bad.npz"
    np.savez(path, weights=np.array([{"a": 1}], dtype=object))
    assert "objects" in refused(path)


@pytest.mark.parametrize("kind", ["bomb", "integers", "cut", "lies"])
def test_npz_that_are_refused(tmp_path: Path, kind: str):
    path = tmp_path / "bad.npz"
    if kind == "bomb":
        np.savez_compressed(path, weights=np.zeros((2000, 2000), np.float32))
        assert "claims" in refused(path)
    elif kind == "integers":
        np.savez(path, weights=np.arange(10))
        assert "floating point" in refused(path)
    elif kind == "cut":
        np.savez(path, weights=np.ones(1000, np.float32))
        path.write_bytes(path.read_bytes()[:-60])
        assert "damaged" in refused(path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            header = io.BytesIO()
            shape = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
            np.lib.format.write_array_header_1_0(header, shape)
            archive.writestr("weights.npy", header.getvalue() + b"\0" * 64)
        refused(path)


def test_graphs_that_are_refused(tmp_path: Path):
    state = ESPCN(ESPCNConfig(features=4, mapped=3, scale=2)).state_dict()
    whole = espcn_graph(state, ["Relu"])
    path = tmp_path / "bad.pb"
    path.write_bytes(whole[:-3])
    assert "cut or damaged" in refused(path)
    path.write_bytes(whole.replace(b"f2", b"g2"))
    assert "lacks the array 'f2'" in refused(path)
    path.write_bytes(node("input", "Placeholder") + node("a", "Conv2D"))
    assert "1 convolutions" in refused(path)
    colour = ESPCN(ESPCNConfig(features=4, mapped=3, channels=3)).state_dict()
    path.write_bytes(espcn_graph(colour, ["Relu"]))
    assert "for 3 channels" in refused(path)
    short = np.zeros(3, np.float32)
    lie = node("f1", "Const", short).replace(short.tobytes(), b"\0" * 8)
    path.write_bytes(lie)
    refused(path)


@pytest.mark.parametrize("cut", [100, 140, 300, 1000])
def test_cut_matlab_files_are_refused(tmp_path: Path, cut: int):
    data = matlab(as_matlab(SRCNN(SRCNNConfig(features=6, mapped=4)).state_dict()))
    (tmp_path / "bad.mat").write_bytes(data[:cut])
    refused(tmp_path / "bad.mat")


def test_matlab_files_that_are_refused(tmp_path: Path):
    path = tmp_path / "bad.mat"
    path.write_bytes(matlab({"other": RANDOM.random((3, 3))}))
    assert "'other'" in refused(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(200))
    assert "save -v7" in refused(path)
    arrays = as_matlab(SRCNN(SRCNNConfig(features=6, mapped=4)).state_dict())
    path.write_bytes(matlab(arrays | {"weights_conv1": RANDOM.random((80, 6))}))
    assert "not a square" in refused(path)
    path.write_bytes(matlab({k: v for k, v in arrays.items() if k != "biases_conv2"}))
    assert "lacks the array 'biases_conv2'" in refused(path)
    bomb = zlib.compress(b"\0" * (1 << 22))
    path.write_bytes(matlab({}) + struct.pack("<II", 15, len(bomb)) + bomb)
    assert "unpacks" in refused(path)


def test_arrays_that_fit_no_network_are_told_apart_later(tmp_path: Path):
    np.savez(tmp_path / "x.npz", mean=np.ones(3), covariance=np.ones((3, 3)))
    found = read_checkpoint(tmp_path / "x.npz")
    with pytest.raises(CheckpointError, match="fits no known architecture"):
        build(found.state, found.metadata)
