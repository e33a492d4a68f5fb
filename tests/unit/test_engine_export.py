"""Networks as ONNX graphs: equal at every size, refused where they are not."""

import pytest
import torch
from torch import nn

from vsr.engine.export import (
    INPUT,
    OPSET,
    OUTPUT,
    check_engine,
    check_result,
    export_onnx,
    model_digest,
    noise,
)
from vsr.errors import DeviceError, UsageError
from vsr.models._base import InputSpec
from vsr.models.compact import ARCH as COMPACT
from vsr.models.compact import CompactConfig
from vsr.models.rrdb import ARCH as RRDB
from vsr.models.rrdb import RRDBConfig

CPU = torch.device("cpu")
NETWORKS = {
    "compact": (COMPACT, CompactConfig(features=16, convs=2, scale=3)),
    "compact luma": (
        COMPACT,
        CompactConfig(channels=1, features=16, convs=2, scale=4, activation="leakyrelu"),
    ),
    "rrdb": (RRDB, RRDBConfig(features=16, growth=8, blocks=1, ups=1)),
    "rrdb unshuffled": (RRDB, RRDBConfig(features=16, growth=8, blocks=1, unshuffle=2)),
}


def build(name):
    torch.manual_seed(3)
    architecture, config = NETWORKS[name]
    return architecture.build(config).eval(), architecture.spec(config)


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request):
    pytest.importorskip("onnx")
    module, spec = build(request.param)
    return module, spec, export_onnx(module, spec)


def test_the_graph_is_of_any_batch_and_size(exported):
    import onnx

    _, spec, graph = exported
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == OPSET
    for end, name in ((model.graph.input, INPUT), (model.graph.output, OUTPUT)):
        assert [value.name for value in end] == [name]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [bool(dim.dim_param) for dim in dims] == [True, False, True, True]
    assert dims[1].dim_value == spec.channels


@pytest.mark.parametrize("size", [(1, 6, 8), (2, 11, 5), (1, 1, 1), (3, 7, 30)])
def test_the_graph_equals_the_network_by_its_definition(exported, size):
    """ONNX's own interpreter, slow and naive, is no engine's friend."""
    from onnx.reference import ReferenceEvaluator

    module, spec, graph = exported
    x = noise(spec, *size)
    (got,) = ReferenceEvaluator(graph).run(None, {INPUT: x.numpy()})
    with torch.inference_mode():
        assert torch.allclose(torch.from_numpy(got), module(x), atol=2e-6)


def test_exporting_again_gives_the_same_bytes_and_changes_nothing(exported):
    module, spec, graph = exported
    before = {key: value.clone() for key, value in module.state_dict().items()}
    assert export_onnx(module, spec) == graph
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_types_of_the_graph_are_those_of_the_arithmetic():
    onnx = pytest.importorskip("onnx")
    module, spec = build("compact")
    model = onnx.load_from_string(export_onnx(module, spec, "fp16"))
    half = onnx.TensorProto.FLOAT16
    assert model.graph.input[0].type.tensor_type.elem_type == half
    assert {weight.data_type for weight in model.graph.initializer} == {half}


class Inexpressible(nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x)


def test_what_onnx_cannot_express_is_refused_in_one_line(capsys):
    pytest.importorskip("onnx")
    with pytest.raises(UsageError, match=r"cannot be exported.*--engine torch") as caught:
        export_onnx(Inexpressible(), InputSpec(scale=1, channels=1, overlap=0))
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("vsr.engine.engines._packages.is_installed", lambda _: False)
    with pytest.raises(UsageError, match=r"not installed: pip install 'vsr\[onnx\]'"):
        export_onnx(*build("compact"))


class Wrapped:
    """An engine whose results are those of a function."""

    def __init__(self, spec, function):
        self.spec, self.function = spec, function

    def __call__(self, x, /):
        return self.function(x)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda y: y + 0.001, "off the network's by 0.001 in fp32"),
        (lambda y: y[..., :-1], "off the network's by inf"),
        (lambda y: y * float("nan"), "off the network's by nan"),
        (lambda _: 1 / 0, "cannot compute this network .division by zero"),
    ],
)
def test_a_wrong_engine_is_found_out(spoil, message):
    module, spec = build("compact")
    check_engine(Wrapped(spec, module), module, "fp32", CPU)
    with pytest.raises(DeviceError, match=message):
        check_engine(Wrapped(spec, lambda x: spoil(module(x))), module, "fp32", CPU)


def test_tolerances_grow_with_the_precision():
    expected = torch.rand(1, 1, 8, 8)
    for precision, good, bad in (("fp32", 5e-5, 5e-4), ("fp16", 5e-3, 5e-2), ("bf16", 0.02, 0.1)):
        assert check_result(expected + good, expected, precision) == pytest.approx(good, rel=1e-2)
        with pytest.raises(DeviceError):
            check_result(expected + bad, expected, precision)


def test_the_digest_knows_weights_structure_and_nothing_else():
    module, _ = build("compact")
    digest = model_digest(module)
    assert digest == model_digest(build("compact")[0].train().double().float())
    others = [build("compact luma")[0], build("rrdb")[0]]
    changed, _ = build("compact")
    with torch.no_grad():
        changed.body[0].bias[0] += 1e-6
    relu = CompactConfig(features=16, convs=2, scale=3, activation="relu")
    leaky = CompactConfig(features=16, convs=2, scale=3, activation="leakyrelu")
    for config in (relu, leaky):
        torch.manual_seed(3)
        others.append(COMPACT.build(config))
    scaled, _ = build("compact")
    scaled.scale = 2
    assert len({digest, *map(model_digest, [changed, scaled, *others])}) == 7


def test_the_digest_takes_any_buffer():
    """Batch norm counts its batches in a tensor without dimensions."""
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)).to(torch.bfloat16)
    before = model_digest(module)
    module[1].num_batches_tracked += 1
    assert model_digest(module) != before
