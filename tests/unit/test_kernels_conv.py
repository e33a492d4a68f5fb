"""The convolution kernel against torch's, in Triton's interpreter.

Triton decides at its import whether it interprets, so that these tests run in a process of their
own: the outer run collects one test that starts it, and what needs no kernel.
"""

import copy
import importlib.util
import os
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

from tests.interpreter import interpreted_run
from vsr.engine.kernels import available, interpreted
from vsr.engine.kernels.conv3x3 import (
    Block,
    Epilogue,
    TritonConv2d,
    candidates,
    default_block,
    pack,
    shared_bytes,
    tma_fits,
)
from vsr.engine.kernels.runners import DenseRunner, PhaseRunner, RRDBRunner, StackRunner
from vsr.engine.kernels.tuning import tune, tune_runner
from vsr.errors import DeviceError, UsageError
from vsr.models.compact import Compact, CompactConfig
from vsr.models.rrdb import DenseBlock, RRDBConfig, RRDBNet

INSIDE = os.environ.get("TRITON_INTERPRET") == "1"
TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
HALF = torch.float16
SMALL = Block(height=4, width=8, outputs=16, depth=16)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no triton")
@pytest.mark.skipif(INSIDE, reason="is inside")
def test_in_the_interpreter():
    done = interpreted_run(__file__)
    assert done.returncode == 0, done.stdout + done.stderr


def made(cin, cout, activation=None, dtype=torch.float16, kernel=3, **options):
    conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, **options)
    if isinstance(activation, nn.PReLU):
        nn.init.uniform_(activation.weight, -0.3, 0.5)
    return conv.to(dtype).requires_grad_(requires_grad=False), activation


def expected(conv, activation, x):
    """In float32, from the weights as they were rounded."""
    y = copy.deepcopy(conv).float()(x.float())
    return y if activation is None else copy.deepcopy(activation).float()(y)


def picture(n, channels, height, width, dtype=torch.float16):
    x = torch.randn(n, channels, height, width).to(dtype)
    return x.contiguous(memory_format=torch.channels_last)


def loud(network):
    """As initialised, dense blocks add so little that their residuals could be left out."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return network.eval()


def close(a, b, dtype, layers=1):
    limit = layers * TOLERANCE[dtype]
    return torch.allclose(a.float(), b.float(), rtol=limit, atol=limit)


class TestInterpreted:
    __test__ = INSIDE

    def test_it_is(self):
        assert interpreted()
        assert available()

    @pytest.mark.parametrize(
        ("cin", "cout", "activation", "kernel", "dtype"),
        [
            (1, 16, nn.ReLU(), 3, torch.float32),
            (3, 20, nn.PReLU(20), 3, torch.float16),
            (3, 5, nn.PReLU(5), 3, torch.bfloat16),
            (12, 5, nn.PReLU(1), 3, torch.float16),
            (16, 33, nn.LeakyReLU(0.2), 3, torch.float32),
            (24, 16, nn.LeakyReLU(0.2), 3, torch.bfloat16),
            (40, 3, None, 3, torch.float16),
            (24, 16, nn.Identity(), 1, torch.float16),
        ],
        ids=str,
    )
    def test_equals_torch(self, cin, cout, activation, kernel, dtype):
        conv, activation = made(cin, cout, activation, dtype, kernel)
        x = picture(1, cin, 5, 7, dtype)
        with torch.inference_mode():
            y = TritonConv2d(conv, activation)(x)
            assert y.dtype == dtype
            assert y.is_contiguous(memory_format=torch.channels_last)
            assert close(y, expected(conv, activation, x), dtype)

    @pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 8)])
    @pytest.mark.parametrize("cin", [2, 17])
    def test_any_size_in_tiles_smaller_than_it(self, size, cin):
        conv, _ = made(cin, 17, bias=False)
        own = TritonConv2d(conv)
        own.block = SMALL
        x = picture(2, cin, *size)  # channels need two programs, too
        assert close(own(x), expected(conv, None, x), torch.float16)

    @pytest.mark.parametrize("cin", [16, 24])
    def test_loads_through_a_tensor_descriptor(self, cin):
        conv, act = made(cin, 17, nn.ReLU())
        own, wide = TritonConv2d(conv, act), picture(2, 64, 5, 11)
        own.block = replace(SMALL, tma=True)
        x = wide[:, 8 : 8 + cin]
        assert close(own.into(x, torch.empty_like(wide)[:, :17]), expected(conv, act, x), x.dtype)

    def test_other_layouts_and_dtypes_are_converted(self):
        conv, _ = made(16, 16)
        x = torch.randn(1, 16, 4, 5)
        assert close(TritonConv2d(conv)(x), expected(conv, None, x), torch.float16)

    def test_reads_and_writes_views_and_touches_nothing_else(self):
        conv, act = made(16, 16, nn.LeakyReLU(0.2))
        wide = picture(2, 64, 3, 5)
        before, x = wide.clone(), wide[:, 16:32]
        TritonConv2d(conv, act).into(x, wide[:, 32:48])
        assert close(wide[:, 32:48], expected(conv, act, x), torch.float16)
        rest = [*range(32), *range(48, 64)]
        assert torch.equal(wide[:, rest], before[:, rest])

    def test_a_window_of_a_picture_has_its_own_borders(self):
        conv, _ = made(16, 4)
        x = picture(1, 16, 9, 9)[:, :, 2:7, 3:8]
        out = torch.zeros(1, 10, 10, 4).half().permute(0, 3, 1, 2)
        TritonConv2d(conv).into(x, out[:, :, ::2, 1::2])
        assert close(out[:, :, ::2, 1::2], expected(conv, None, x), torch.float16)
        assert out[:, :, 1::2].count_nonzero() == 0
        assert out[:, :, :, ::2].count_nonzero() == 0

    def test_the_epilogue_scales_and_adds(self):
        conv, act = made(16, 20, nn.ReLU())
        x, first, second = picture(1, 16, 4, 6), picture(1, 40, 4, 6)[:, :20], picture(1, 20, 4, 6)
        wanted = 0.2 * expected(conv, act, x) + 0.5 * first.float() - 2 * second.float()
        own = TritonConv2d(conv, act)
        epilogue = Epilogue(alpha=0.2, residuals=((0.5, first), (-2.0, second)))
        out = torch.empty_like(second, dtype=torch.float32)
        own.into(x, out, epilogue)
        assert torch.allclose(out, wanted, atol=1e-4)  # float32 out: rounded nowhere
        own.into(x, second, epilogue)  # onto a residual
        assert close(second, wanted, torch.float16)

    @pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.1), nn.PReLU(16)])
    def test_nan_and_infinity_come_out_as_they_do_of_torch(self, activation):
        conv, activation = made(16, 16, activation)
        x = picture(1, 16, 1, 9)
        x[0, 0, 0, 1], x[0, 0, 0, 6] = float("nan"), float("inf")
        ours, theirs = TritonConv2d(conv, activation)(x), expected(conv, activation, x).half()
        assert torch.equal(ours.isnan(), theirs.isnan())
        assert torch.equal(ours.isinf(), theirs.isinf())

    def test_what_is_beyond_the_channels_is_not_read(self):
        """Neighbouring channels of a wide buffer may hold anything."""
        conv, _ = made(20, 16)
        wide = picture(1, 64, 3, 4)
        wide[:, 20:] = float("nan")
        x = wide[:, :20]
        assert close(TritonConv2d(conv)(x), expected(conv, None, x), torch.float16)

    def test_a_compact_network(self):
        network = Compact(CompactConfig(channels=1, features=16, convs=2, scale=3)).eval()
        x = torch.rand(1, 1, 5, 6)
        with torch.inference_mode():
            y = StackRunner(network, torch.float16)(x)
            assert torch.allclose(y, network(x), atol=4e-3)
        assert next(network.parameters()).dtype == torch.float32

    def test_a_dense_block_in_one_buffer(self):
        block = loud(DenseBlock(16, 16))
        x = torch.randn(1, 16, 4, 5)
        with torch.inference_mode():
            y = DenseRunner(block, torch.float32)(x)
            assert close(y, block(x), torch.float32)

    def test_nearest_and_convolution_in_phases(self):
        conv, act = made(16, 17, nn.LeakyReLU(0.2))
        x = picture(1, 16, 3, 4)
        y = PhaseRunner(conv, torch.float16, act)(x)
        large = F.interpolate(x, scale_factor=2, mode="nearest")
        assert close(y, expected(conv, act, large), torch.float16)

    @pytest.mark.parametrize(
        ("blocks", "unshuffle", "dtype"), [(2, 1, torch.float16), (1, 2, torch.bfloat16)]
    )
    def test_rrdb(self, blocks, unshuffle, dtype, monkeypatch):
        """Two blocks: the outer residual of the second is what the first left in the buffer."""
        small = Block(height=4, width=4, outputs=16, depth=32)  # the interpreter's time is its size
        monkeypatch.setattr("vsr.engine.kernels.conv3x3.default_block", lambda *_: small)
        config = RRDBConfig(features=16, growth=16, blocks=blocks, ups=1, unshuffle=unshuffle)
        network = loud(RRDBNet(config))
        x = torch.rand(1, 3, 2 * unshuffle, 3 * unshuffle)
        with torch.inference_mode():
            y = RRDBRunner(network, dtype)(x)
            assert y.dtype == torch.float32
            assert close(y, network(x), dtype, layers=3)

    def test_a_descriptor_that_cannot_be_is_refused(self):
        own = TritonConv2d(made(16, 8)[0])
        own.block = replace(SMALL, tma=True)
        with pytest.raises(UsageError, match="without tma"):
            own(picture(1, 64, 4, 4)[:, 1:17])

    def test_a_runner_is_tuned_for_what_its_layers_get(self):
        runner = RRDBRunner(RRDBNet(RRDBConfig(features=16, growth=16, blocks=1, ups=1)), HALF)
        got = []

        def clock(work):
            got.append(work)
            return 1.0

        verdicts = tune_runner(runner, torch.rand(1, 3, 2, 2), clock=clock, budget=0)
        assert len(verdicts) == len(runner.layers) == 1 + 15 + 1 + 4 + 1 + 1
        assert len(got) == len(set(map(id, verdicts))) == 10  # equal layers are tried once

    def test_tuning_launches_what_it_times(self):
        conv, _ = made(16, 16)
        own, x = TritonConv2d(conv), picture(1, 16, 2, 3)
        verdict = tune(own, x, clock=lambda work: float(work() is None), budget=0)
        assert verdict.tried == 1


@pytest.mark.skipif(INSIDE, reason="needs no kernel")
class TestWithoutKernels:
    @pytest.mark.parametrize(("cin", "cout"), [(3, 64), (64, 64), (192, 32), (1, 4), (20, 100)])
    def test_blocks_worth_trying(self, cin, cout):
        found = candidates(cin, cout)
        assert found[0] == default_block(cin, cout)
        assert len(set(found)) == len(found) > 5
        assert {block.tma for block in candidates(64, 64, tma=True)} == {False, True}
        assert len(candidates(64, 64, shared=200 << 10)) > len(candidates(64, 64))
        for block in found:
            assert shared_bytes(block) <= 99 << 10
            for side in (block.height, block.width, block.outputs, block.depth, block.warps):
                assert side & (side - 1) == 0
            assert 16 <= block.depth <= 128
            assert 16 <= block.outputs <= 128
            assert block.height * block.width >= 16 * block.warps

    def test_weights_are_padded_with_zeros(self):
        weight = torch.randn(5, 20, 3, 3)
        packed = pack(weight, flat=False)
        assert packed.shape == (9 * 128, 128)
        assert torch.equal(packed.view(3, 3, 128, 128)[1, 2, :20, :5], weight[:, :, 1, 2].t())
        assert packed.count_nonzero() == weight.count_nonzero()
        flat = pack(weight[:, :3], flat=True)
        assert flat.shape == (128, 128)
        assert torch.equal(flat[(1 * 3 + 2) * 3 + 1, :5], weight[:, 1, 1, 2])

    @pytest.mark.parametrize(
        "conv",
        [
            nn.Conv2d(4, 4, 3),
            nn.Conv2d(4, 4, 2, padding=1),
            nn.Conv2d(4, 4, 3, padding=1, stride=2),
            nn.Conv2d(4, 4, 3, padding=2, dilation=2),
            nn.Conv2d(4, 4, 3, padding=1, groups=2),
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
            nn.Conv2d(4, 4, 3, padding=1).double(),
        ],
        ids=str,
    )
    def test_what_the_kernel_does_not_do_is_refused(self, conv):
        with pytest.raises(UsageError, match="use cuDNN"):
            TritonConv2d(conv)

    def test_an_unknown_activation_is_refused(self):
        with pytest.raises(UsageError, match="no activation SiLU"):
            TritonConv2d(nn.Conv2d(4, 4, 3, padding=1), nn.SiLU())

    def test_what_does_not_fit_is_named(self):
        own = TritonConv2d(made(16, 8)[0])
        x, out = picture(1, 16, 4, 4), picture(1, 8, 4, 4)
        for a, b in ((x[:, :8], out), (x, out[:, :, 1:]), (x[0], out)):
            with pytest.raises(UsageError, match=r"expected \(N, 16, H, W\)"):
                own.into(a, b)
        with pytest.raises(UsageError, match="channels_last"):
            own.into(x.contiguous(), out)
        with pytest.raises(UsageError, match="convert one"):
            own.into(x.float(), out)
        with pytest.raises(UsageError, match="at most two"):
            own.into(x, out, Epilogue(residuals=((1.0, x),)))
        with pytest.raises(UsageError, match="at most two"):
            own.into(x, out, Epilogue(residuals=((1.0, out),) * 3))

    def test_a_tensor_descriptor_needs_alignment(self):
        own, wide = TritonConv2d(made(16, 8)[0]), picture(1, 64, 4, 4)
        assert tma_fits(own, wide[:, 16:32])
        assert not tma_fits(own, wide[:, 1:17])
        assert not tma_fits(own, picture(1, 20, 4, 4)[:, :16])
        assert not tma_fits(TritonConv2d(made(8, 8)[0]), wide[:, :8])

    @pytest.mark.skipif(interpreted(), reason="the interpreter runs on the CPU")
    def test_the_cpu_has_no_kernels(self):
        own = TritonConv2d(made(16, 8)[0])
        with pytest.raises(DeviceError, match="cpu"):
            own(picture(1, 16, 4, 4))

    def test_tuning_takes_the_fastest_and_survives_what_fails(self):
        own, x = TritonConv2d(made(16, 8)[0]), picture(1, 16, 4, 4)
        times = iter([3.0, None, 1.0, 2.0])

        def clock(_):
            seconds = next(times, 5.0)
            if seconds is None:
                msg = "out of resource"
                raise RuntimeError(msg)
            return seconds

        verdict = tune(own, x, clock=clock, reference=lambda x: x)
        blocks = candidates(16, 8, tma=True)
        assert own.block == verdict.block == blocks[2]
        assert (verdict.seconds, verdict.reference, verdict.tried) == (1.0, 5.0, len(blocks) - 1)
        assert verdict.worthwhile
        twin = TritonConv2d(made(16, 8)[0])
        assert tune(twin, x, clock=pytest.fail) is verdict  # known by now
        assert twin.block == own.block

    def test_tuning_says_when_nothing_runs(self):
        own = TritonConv2d(made(16, 8)[0])

        def clock(_):
            msg = "no kernel image"
            raise RuntimeError(msg)

        with pytest.raises(RuntimeError, match="no kernel image"):
            tune(own, picture(1, 16, 5, 4), clock=clock)
