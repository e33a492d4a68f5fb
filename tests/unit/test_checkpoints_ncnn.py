"""Networks of ncnn: Real-ESRGAN's own files, ones written here, and hostile ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vsr
from vsr.checkpoints import read_checkpoint
from vsr.errors import CheckpointError
from vsr.models import build
from vsr.models.compact import Compact, CompactConfig
from vsr.models.rrdb import RRDBConfig, RRDBNet

FLOAT16, FLOAT32, INT8 = b"\x47\x6b\x30\x01", b"\x56\xc0\x02\x00", b"\x38\x4b\x0d\x00"
LEAKY = " 9=2 -23310=1,2.000000e-01"


class Writer:
    """A `.param` and its `.bin`, layer by layer, as a converter writes them."""

    def __init__(self, mark: bytes = FLOAT16) -> None:
        self.lines, self.data, self.mark = ["Input in 0 1 b0"], b"", mark

    def layer(self, kind: str, values: str = "", inputs: int = 1) -> None:
        blobs = " ".join(["b0"] * inputs)
        self.lines.append(f"{kind:16} l{len(self.lines)} {inputs} 1 {blobs} out {values}")

    def conv(self, conv: nn.Conv2d, extra: str = "") -> None:
        kernel, bias = conv.weight.detach().numpy(), conv.bias
        assert bias is not None
        values = f"0={kernel.shape[0]} 1=3 4=1 5=1 6={kernel.size}{extra}"
        self.layer("Convolution", values)
        half = self.mark == FLOAT16
        numbers = kernel.astype("<f2" if half else "<f4").tobytes()
        self.data += self.mark + numbers + bytes(-len(numbers) % 4)
        self.data += bias.detach().numpy().astype("<f4").tobytes()

    def save(self, path: Path) -> Path:
        text = "\n".join(["7767517", f"{len(self.lines)} {len(self.lines)}", *self.lines])
        path.write_text(text + "\n", "ascii")
        path.with_suffix(".bin").write_bytes(self.data)
        return path


def compact_file(network: Compact, path: Path, mark: bytes = FLOAT16) -> Path:
    writer = Writer(mark)
    for layer in network.body:
        if isinstance(layer, nn.Conv2d):
            writer.conv(layer)
        elif isinstance(layer, nn.PReLU):
            writer.layer("PReLU", f"0={layer.weight.numel()}")
            writer.data += layer.weight.detach().numpy().astype("<f4").tobytes()
        else:
            writer.layer("ReLU", "0=1.000000e-01" if isinstance(layer, nn.LeakyReLU) else "")
    writer.layer("PixelShuffle", f"0={network.scale}")
    writer.layer("Interp", f"0=1 1={network.scale}.0 2={network.scale}.0")
    writer.layer("BinaryOp", "0=0", inputs=2)
    return writer.save(path)


def rrdb_file(network: RRDBNet, path: Path) -> Path:
    writer = Writer()
    fifth = "0=1 -23301=2,2.000000e-01,1.000000e+00"
    writer.conv(network.conv_first)
    for block in network.body:
        for dense in block.children():
            for number, conv in enumerate(dense.children(), 1):
                writer.conv(conv, LEAKY if number < 5 else "")
                if number < 5:
                    writer.layer("Concat", "0=0", inputs=number + 1)
            writer.layer("Eltwise", fifth, inputs=2)
        writer.layer("Eltwise", fifth, inputs=2)
    writer.conv(network.conv_body)
    writer.layer("BinaryOp", "0=0", inputs=2)
    for name in network.up_names:
        writer.layer("Interp", "0=1 1=2.000000e+00 2=2.000000e+00")
        writer.conv(network.get_submodule(name), LEAKY)
    writer.conv(network.conv_hr, LEAKY)
    writer.conv(network.conv_last)
    return writer.save(path)


def rounded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Kernels as float16 keeps them."""
    return {k: v.half().float() if v.ndim == 4 else v for k, v in state.items()}


def cut(value: Tensor) -> Tensor:
    """Float16 as ncnn's older tools make it: rounded towards zero, without subnormal numbers."""
    ten_bits = (value.view(torch.int32) & ~0x1FFF).view(torch.float32)
    return torch.where(value.abs() < 2**-14, torch.zeros_like(value), ten_bits)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = Compact(CompactConfig(features=3, convs=1, scale=2))
    return compact_file(network, tmp_path / "net.param")


@pytest.mark.shared
@pytest.mark.parametrize("name", ["x2", "x3", "x4"])
def test_real_esrgans_anime_network(shared: Path, name: str):
    """Its kernels are PyTorch's as float16; biases and slopes are the same bits."""
    weights = shared / "data" / "weights"
    found = read_checkpoint(weights / "ncnn" / f"realesr-animevideov3-{name}.param")
    _, spec = build(found.state, found.metadata)
    assert (spec.scale, spec.channels) == (4, 3)
    truth = read_checkpoint(weights / "realesr-animevideov3.pth").state
    assert list(found.state) == list(truth)
    for key, value in found.state.items():
        assert torch.equal(value, cut(truth[key]) if value.ndim == 4 else truth[key]), key


@pytest.mark.shared
def test_real_esrgans_general_network(shared: Path):
    weights = shared / "data" / "weights"
    found = read_checkpoint(weights / "ncnn" / "realesr-general-x4v3.param")
    truth = read_checkpoint(weights / "realesr-general-x4v3_from-ncnn-fp16.pth")
    assert same(found.state, truth.state)
    x = torch.rand(1, 3, 9, 7)
    ours, theirs = (
        vsr.load_model(weights / name, device="cpu", precision="fp32")(x)
        for name in ("ncnn/realesr-general-x4v3.param", "realesr-general-x4v3_from-ncnn-fp16.pth")
    )
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("activation", ["prelu", "relu", "leakyrelu"])
@pytest.mark.parametrize("mark", [FLOAT16, FLOAT32, bytes(4)])
def test_compact_comes_back(tmp_path: Path, activation, mark: bytes):
    torch.manual_seed(0)
    network = Compact(CompactConfig(features=5, convs=2, scale=3, activation=activation))
    path = compact_file(network, tmp_path / "net.param", mark)
    found = read_checkpoint(path)
    truth = network.state_dict()
    assert same(found.state, rounded(truth) if mark == FLOAT16 else truth)
    rebuilt, _ = build(found.state, found.metadata)
    network.load_state_dict(found.state)
    x = torch.rand(1, 3, 6, 5)
    with torch.inference_mode():
        assert torch.equal(rebuilt(x), network(x))


@pytest.mark.parametrize("ups", [1, 2])
def test_rrdb_comes_back(tmp_path: Path, ups: int):
    torch.manual_seed(0)
    network = RRDBNet(RRDBConfig(features=6, growth=3, blocks=2, ups=ups))
    found = read_checkpoint(rrdb_file(network, tmp_path / "net.param"))
    assert same(found.state, rounded(network.state_dict()))
    assert build(found.state, found.metadata)[1].scale == 2**ups


def test_files_of_three_scales_share_their_weights(small: Path):
    alone = small.rename(small.with_name("net-x3.param"))
    assert read_checkpoint(alone).state.keys() >= {"body.0.weight"}
    small.with_suffix(".bin").unlink()
    with pytest.raises(CheckpointError, match=r"'net-x3.bin' or 'net.bin'"):
        read_checkpoint(alone)


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert repr(path.name) in message
    assert len(message) < 400
    return message


def edit(path: Path, old: str, new: str) -> Path:
    text = path.read_text("ascii")
    assert old in text
    path.write_text(text.replace(old, new, 1), "ascii")
    return path


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("7767517\n", "7767517\nno numbers\n", "damaged ncnn network"),
        ("9 9", "99 9", "claims 99 layers and has 9"),
        ("0=3 1=3", "0=3 1=5", "neither compact nor RRDB"),
        ("5=1", "5=0", "neither compact nor RRDB"),
        ("PReLU", "Sigmoid", "neither compact nor RRDB"),
        ("0=1 1=2.0 2=2.0", "0=2 1=2.0 2=2.0", "neither compact nor RRDB"),
        ("0=1 1=2.0 2=2.0", "0=1 1=4.0 2=4.0", "enlarged by 4"),
        ("6=81", "6=80", "80 weights for 3 outputs"),
        ("6=81", "6=999999999999", "needs 2000000000000 bytes"),
        ("6=81", f"6={27 * 10**9}", "its .bin has"),
        ("0=3 1=3", "0=-3 1=3", "outputs"),
        ("0=3 1=3", "0=x 1=3", "parameter 0"),
        ("1 1 b0 out", "900 1 b0 out", "is no layer"),
        (
            "PReLU            l2 1 1 b0 out 0=3",
            "PReLU            l2 1 1 b0 out 0=2",
            "palette or unknown",
        ),
    ],
)
def test_damaged_text_is_refused(small: Path, old: str, new: str, words: str):
    assert words in refused(edit(small, old, new))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-1], "left"),
        (lambda data: data + b"\0", "another network"),
        (lambda data: data[:0], "left"),
        (lambda data: INT8 + data[4:], "int8"),
        (lambda data: b"\1\2\3\4" + data[4:], "palette"),
    ],
)
def test_damaged_numbers_are_refused(small: Path, change, words: str):
    weights = small.with_suffix(".bin")
    weights.write_bytes(change(weights.read_bytes()))
    assert words in refused(small)


def test_the_half_without_names_is_told_apart(small: Path):
    assert "name the .param file" in refused(small.with_suffix(".bin"))


def test_endless_text_is_refused(small: Path):
    small.write_bytes(small.read_bytes() + b" " * (5 << 20))
    assert "too large" in refused(small)


def test_random_bytes_after_the_mark_are_refused(tmp_path: Path):
    random = np.random.default_rng(0)
    path = tmp_path / "net.param"
    path.with_suffix(".bin").write_bytes(b"")
    for size in (0, 5, 100, 5000):
        path.write_bytes(b"7767517\n" + random.bytes(size))
        refused(path)
