"""Own kernels on a real device: sizes of real pictures, all blocks, graphs over several frames."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

from vsr.engine.color import Picture, torch_dtype
from vsr.engine.kernels import available
from vsr.engine.kernels.conv3x3 import Epilogue, TritonConv2d, candidates, launch, tma_fits
from vsr.engine.kernels.ends import FusedRoute, LumaEnds, RgbEnds
from vsr.engine.kernels.folds import PhaseConv2d
from vsr.engine.kernels.graphs import Graphs
from vsr.engine.kernels.runners import DenseRunner, PhaseRunner, RRDBRunner, StackRunner
from vsr.engine.kernels.tuning import tune
from vsr.engine.network import Network
from vsr.engine.route import Route
from vsr.models.compact import ARCH, Compact, CompactConfig
from vsr.models.rrdb import DenseBlock, RRDBConfig, RRDBNet
from vsr.types import ColorSpec, PixelFormat

pytestmark = pytest.mark.gpu

HALVES = [torch.float16, torch.bfloat16]
TOLERANCE = {torch.float16: 4e-3, torch.bfloat16: 3e-2}


@pytest.fixture(autouse=True)
def _exact():
    """The reference in true float32, without gradients."""
    kept = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    with torch.inference_mode():
        yield
    torch.backends.cudnn.allow_tf32 = kept


def on_gpu(module):
    return module.cuda().eval().requires_grad_(requires_grad=False)


def loud(network):
    """As initialised, dense blocks add so little that their residuals could be left out."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return network


def picture(n, channels, height, width, dtype):
    x = torch.randn(n, channels, height, width, device="cuda").to(dtype)
    return x.contiguous(memory_format=torch.channels_last)


def reference(conv, activation, x):
    """In float32, from weights and pictures as they were rounded."""
    weight, bias = conv.weight.to(x.dtype).float(), conv.bias.to(x.dtype).float()
    y = F.conv2d(x.float(), weight, bias, padding=conv.padding)
    return y if activation is None else activation(y)


def assert_close(ours, theirs, dtype, layers=1):
    limit = layers * TOLERANCE[dtype]
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=limit, atol=limit)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(
    ("cin", "cout", "size"),
    [
        (64, 64, (540, 960)),
        (64, 64, (67, 129)),
        (3, 64, (270, 481)),
        (1, 32, (270, 481)),
        (64, 48, (135, 240)),
        (192, 64, (135, 241)),
        (160, 32, (135, 241)),
        (50, 70, (33, 31)),
    ],
)
def test_the_convolution_equals_float32(cin, cout, size, dtype):
    conv, activation = on_gpu(nn.Conv2d(cin, cout, 3, padding=1)), on_gpu(nn.PReLU(cout))
    x = picture(2, cin, *size, dtype)
    own = TritonConv2d(conv.to(dtype), activation)
    assert_close(own(x), reference(conv, activation, x), dtype)


@pytest.mark.parametrize(("cin", "cout"), [(3, 64), (64, 64), (96, 32)])
def test_every_block_gives_the_same(cin, cout):
    """A choice of them: compiling one takes a second or two."""
    conv = on_gpu(nn.Conv2d(cin, cout, 3, padding=1)).half()
    own, x = TritonConv2d(conv, nn.LeakyReLU(0.2)), picture(1, cin, 37, 53, torch.float16)
    wanted = reference(conv, nn.LeakyReLU(0.2), x)
    for block in candidates(cin, cout, tma=tma_fits(own, x))[::5]:
        out = torch.full_like(own(x), float("nan"))
        assert_close(launch(own, x, out, Epilogue(), block), wanted, torch.float16)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_dense_block_equals_eager(dtype):
    block = loud(on_gpu(DenseBlock(64, 32)))
    x = picture(1, 64, 270, 480, dtype)
    wanted = block(x.float())
    assert_close(DenseRunner(block, dtype)(x), wanted, dtype)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_rrdb_equals_the_network(dtype):
    network = loud(on_gpu(RRDBNet(RRDBConfig(blocks=3))))
    x = torch.rand(1, 3, 90, 161, device="cuda")
    assert_close(RRDBRunner(network, dtype)(x), network(x), dtype, layers=3)


def test_compact_equals_the_network():
    network = on_gpu(Compact(CompactConfig()))
    x = torch.rand(2, 3, 181, 320, device="cuda")
    assert_close(StackRunner(network, torch.float16)(x), network(x), torch.float16)


def test_phases_equal_nearest_and_convolution():
    conv, activation = on_gpu(nn.Conv2d(64, 64, 3, padding=1)), nn.LeakyReLU(0.2)
    x = picture(1, 64, 135, 241, torch.float16)
    wanted = activation(conv(F.interpolate(x.float(), scale_factor=2, mode="nearest")))
    assert_close(PhaseRunner(conv, torch.float16, activation)(x), wanted, torch.float16)
    assert_close(activation(PhaseConv2d(conv.half())(x)), wanted, torch.float16)


def test_tuning_finds_a_block_and_times_cudnn():
    conv = on_gpu(nn.Conv2d(32, 32, 3, padding=1)).half()
    conv = conv.to(memory_format=torch.channels_last)
    own, x = TritonConv2d(conv, nn.ReLU()), picture(1, 32, 270, 480, torch.float16)
    verdict = tune(own, x, reference=lambda x: conv(x).relu_(), budget=10)
    assert verdict.tried >= 1
    assert verdict.reference is not None
    assert own.block == verdict.block
    assert_close(own(x), reference(conv, nn.ReLU(), x), torch.float16)


def planes_of(picture):
    fmt = picture.format
    return tuple(
        torch.randint(0, 1 << fmt.bits, (2, h, w), dtype=torch.int32).to(torch_dtype(fmt)).cuda()
        for h, w in fmt.plane_shapes(picture.width, picture.height)
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("siting", [1, 2, 3])
def test_the_fused_ends_equal_the_route(channels, bits, siting):
    fmt = PixelFormat(family="yuv", bits=bits, chroma_w=1, chroma_h=1)
    color = ColorSpec(matrix=1, full_range=False, siting=siting)
    source = Picture(width=321, height=181, format=fmt, color=color)
    target = Picture(width=642, height=362, format=fmt, color=color)
    config = CompactConfig(channels=channels, features=32, convs=2, scale=2)
    network, device = on_gpu(Compact(config)), torch.device("cuda")
    ends = (LumaEnds if channels == 1 else RgbEnds)(source, target, device=device)
    runner = StackRunner(network, torch.float16)
    planes = planes_of(source)
    ours, health = FusedRoute(runner.detail, ends)(planes)
    plain = Network(network, ARCH.spec(config), device, "fp32")
    theirs, _ = Route(plain, source, target)(planes)
    assert torch.isfinite(health)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.int() - b.int()).abs().max() <= 2 << (bits - 8)


@pytest.mark.parametrize("own", [False, True])
def test_a_graph_equals_eager_on_different_frames(own):
    network = on_gpu(Compact(CompactConfig(features=32, convs=4))).half()
    network = network.to(memory_format=torch.channels_last)
    function = StackRunner(network, torch.float16) if own else network
    graphs = Graphs(function)
    frames = [picture(1, 3, 90, 160, torch.float16).sigmoid() for _ in range(5)]
    for x in (*frames, picture(1, 3, 64, 64, torch.float16), *frames):
        torch.testing.assert_close(graphs(x), function(x), rtol=1e-3, atol=1e-3)
    assert len(graphs) == 2


def test_replaying_does_not_synchronise():
    network = on_gpu(Compact(CompactConfig(features=16, convs=1))).half()
    graphs, x = Graphs(network), picture(1, 3, 32, 32, torch.float16)
    assert graphs.prepare(x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(4):
            graphs(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_what_waits_for_the_host_stays_eager(caplog):
    graphs = Graphs(lambda x: x * float(x.sum()))
    x = torch.ones(4, device="cuda")
    with caplog.at_level("WARNING", "vsr"):
        assert torch.equal(graphs(x), 4 * x)
        assert torch.equal(graphs(2 * x), 16 * x)
    assert len(caplog.records) == 1
    assert available()
