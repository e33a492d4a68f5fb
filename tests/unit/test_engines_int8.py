"""Eight bits: close to the network, in integers, always the same, and refused where they harm."""

import math
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from tests import media
from vsr.cli.main import run
from vsr.engine import loading
from vsr.engine.engines.registry import (
    ENGINES,
    engine_precision,
    open_network,
    resolve_engine,
)
from vsr.engine.leaves import leaves
from vsr.engine.loading import find_model, load_model
from vsr.engine.tiled import Tiled
from vsr.errors import DeviceError, UsageError
from vsr.models._base import InputSpec

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SPEC = InputSpec(scale=1, channels=1, overlap=2)
installed = pytest.mark.skipif(
    not ENGINES["openvino"].installed, reason="engine openvino is not installed"
)


def opened(scale):
    model = find_model("auto", factor=Fraction(scale), offline=True)
    return model, open_network("openvino", model.module, model.spec, CPU, "int8")


def decibels(a, b):
    return -10 * math.log10(float((a - b).square().mean()))


@installed
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_embedded_networks_stay_within_48_decibels_of_themselves(scale):
    model, network = opened(scale)
    x = leaves(3, 1, 56, 64, seed=9)
    with torch.inference_mode():
        found, expected = network(x), model.module(x)
    assert 48 < decibels(found, expected) < 70
    assert (found.shape, found.dtype) == (expected.shape, torch.float32)


@installed
def test_convolutions_are_computed_in_integers():
    _, network = opened(4)
    x = leaves(1, 1, 32, 32)
    network(x)
    compiled = network._compiled((tuple(x.shape), torch.get_num_threads()))
    nodes = compiled._model.get_runtime_model().get_ordered_ops()
    facts = [{key: str(value.value) for key, value in n.get_rt_info().items()} for n in nodes]
    used = [f["runtimePrecision"] for f in facts if f["layerType"] == "Convolution"]
    assert len(used) == sum(isinstance(m, nn.Conv2d) for m in network._module.modules())
    assert set(used) <= {"u8", "i8"}


@installed
def test_it_is_the_same_every_time_and_in_tiles():
    x = leaves(1, 1, 60, 52, seed=4)
    _, first = opened(2)
    _, second = opened(2)
    with torch.inference_mode():
        whole = first(x)
        assert torch.equal(whole, second(x))
        assert torch.equal(Tiled(second, 32)(x), whole)


class Cancelling(nn.Module):
    """What it gives is a small difference of large numbers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1)
        weights = ([[[[500.0]]], [[[501.0]]]], [[[[-1.0]], [[1.0]]]])
        for layer, values in zip((self.first, self.second), weights, strict=True):
            layer.weight.data, layer.bias.data[:] = torch.tensor(values), 0

    def forward(self, x):
        return self.second(self.first(x))


@installed
def test_a_network_that_eight_bits_harm_is_refused():
    x = leaves(1, 1, 16, 16)
    torch.testing.assert_close(Cancelling()(x), x, atol=1e-3, rtol=0)
    with pytest.raises(DeviceError, match=r"off its own by .* \(48 dB\) was expected: use --prec"):
        open_network("openvino", Cancelling(), SPEC, CPU, "int8")


@installed
def test_it_is_taken_only_where_it_is_asked_for():
    assert engine_precision("openvino", "auto", CPU, SPEC) != "int8"
    assert engine_precision("openvino", "int8", CPU, SPEC) == "int8"
    assert (resolve_engine("auto", "int8"), resolve_engine("auto")) == ("openvino", "torch")
    upscaler = load_model("auto", scale=2, device="cpu", precision="int8", offline=True)
    assert upscaler(leaves(1, 3, 16, 16)).shape == (1, 3, 32, 32)


def test_others_do_not_compute_it():
    for engine in ("torch", "compile", "openvino:GPU", "onnx"):
        if ENGINES[engine.partition(":")[0]].installed:
            with pytest.raises(DeviceError, match=f"engine {engine} does not compute int8"):
                engine_precision(engine, "int8", CPU, SPEC)
    with pytest.raises(DeviceError, match="engine torch does not compute int8: use --engine"):
        open_network("torch", nn.Conv2d(1, 1, 3), SPEC, CPU, "int8")
    with pytest.raises(DeviceError, match="int8 is for processors, not for cuda"):
        loading.resolve_precision("int8", CUDA, SPEC)


def test_without_openvino_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UsageError, match=r"pip install 'vsr\[openvino\]'"):
        resolve_engine("auto", "int8")


@installed
def test_a_film_in_eight_bits(tmp_path):
    film = media.clip(tmp_path / "in.mkv", size=(64, 48))
    made = []
    for precision in ("int8", "fp32"):
        target = tmp_path / f"{precision}.mkv"
        line = ["upscale", str(film), "-s", "2", "-d", "cpu", "--precision", precision, "-q"]
        assert run([*line, "-c", "ffv1", "-o", str(target)]) == 0
        made.append(np.stack([picture[0] for _, picture in media.decoded(target)]).astype(float))
    error = np.square(made[0] - made[1]).mean()
    assert 0 < error < 255**2 * 10**-4.6


def test_drawn_pictures_are_like_photographs():
    drawn = leaves(9, 3, 60, 48, seed=1)
    assert (drawn.shape, drawn.dtype) == ((9, 3, 60, 48), torch.float32)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert torch.equal(drawn, leaves(9, 3, 60, 48, seed=1))
    assert not torch.equal(drawn, leaves(9, 3, 60, 48))
    # of photographs: gradients of 0.06 to 0.08 at sizes that are enlarged, and a deviation of 0.2
    assert 0.05 < drawn.diff(dim=3).square().mean().sqrt() < 0.12
    assert 0.12 < drawn.std() < 0.3
