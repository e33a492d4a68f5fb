"""The VapourSynth filter in this process: pixels, properties, orders of access, refusals."""

import gc
import os
import random
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

import vsr
from vsr.checkpoints import save_checkpoint
from vsr.errors import DeviceError, UnknownModelError, UnsupportedSourceError, UsageError, VsrError
from vsr.models.compact import Compact, CompactConfig
from vsr.models.vdsr import VDSR, VDSRConfig
from vsr.types import ColorSpec, Frame, VideoInfo

vs = pytest.importorskip("vapoursynth")
pytestmark = pytest.mark.vapoursynth
core = vs.core
WIDTH, HEIGHT = 24, 16
TAGS = {"_Matrix": 1, "_Primaries": 1, "_Transfer": 1, "_Range": 0, "_ChromaLocation": 0}
TAGGED = ColorSpec(matrix=1, primaries=1, transfer=1, full_range=False, siting=1)
FORMATS = [
    *("YUV420P8", "YUV422P10", "YUV444P16", "YUV410P8", "YUV440P8", "GRAY8", "GRAY16"),
    *("RGB24", "RGB30", "RGB48", "RGBH", "RGBS", "YUV420PH", "YUV444PS", "GRAYH", "GRAYS"),
]


@pytest.fixture(scope="module", autouse=True)
def _threads():
    kept = core.num_threads
    yield
    core.num_threads = kept


@pytest.fixture(scope="session")
def rgb_model(tmp_path_factory):
    """A small network on RGB."""
    torch.manual_seed(3)
    config = CompactConfig(features=16, convs=1, scale=2)
    path = tmp_path_factory.mktemp("models") / "rgb.safetensors"
    save_checkpoint(path, Compact(config).state_dict(), "compact", config)
    return path


def upscale(clip, **settings):
    from vsr.vapoursynth import upscale as function

    return function(clip, **{"scale": 2, "device": "cpu"} | settings)


def pictures(number, form):
    """Planes in VapourSynth's order; no two frames are alike."""
    generator = np.random.default_rng(number)
    planes = []
    for k, (h, w) in enumerate(form.plane_shapes(WIDTH, HEIGHT)):
        values = generator.random((h, w))
        if not form.floating:
            planes.append((values * ((1 << form.bits) - 1)).astype(form.dtype))
        else:
            offset = 0.5 if form.family == "yuv" and k else 0
            planes.append((values * 1.2 - 0.1 - offset).astype(form.dtype))
    return planes


def form_of(name):
    from vsr.vapoursynth._clip import pixel_format

    return pixel_format(core.get_video_format(getattr(vs, name)))


def drawn(name="YUV420P8", count=6, asked=None, size=(WIDTH, HEIGHT), **props):
    """A clip of noise; `asked` collects the numbers of the frames that were asked for."""
    form = form_of(name)
    blank = core.std.BlankClip(
        width=size[0], height=size[1], format=getattr(vs, name), length=count, fpsnum=24000,
        fpsden=1001,
    )  # fmt: skip

    def draw(n, f):
        if asked is not None:
            asked.append(n)
        frame = f.copy()
        if size == (WIDTH, HEIGHT):
            for p, plane in enumerate(pictures(n, form)):
                np.copyto(np.asarray(frame[p]), plane)
        return frame

    clip = core.std.ModifyFrame(blank, [blank], draw)
    return core.std.SetFrameProps(clip, **props) if props else clip


def planes_of(frame):
    return [np.asarray(frame[p]).copy() for p in range(frame.format.num_planes)]


class Listed:
    """A source of the same planes for the other door."""

    def __init__(self, name, count, color):
        form = form_of(name)
        order = (1, 2, 0) if form.family == "rgb" else range(3)
        self.info = VideoInfo(
            width=WIDTH, height=HEIGHT, format=form, color=color, time_base=Fraction(1)
        )
        self.frames = []
        for n in range(count):
            made = pictures(n, form)
            planes = tuple(made[k] for k in order if k < len(made))
            frame = Frame(planes=planes, format=form, color=color, pts=n, time_base=Fraction(1))
            self.frames.append(frame)

    def __iter__(self):
        return iter(self.frames)

    def close(self):
        pass


def expected(name, count, color=TAGGED, **settings):
    settings = {"scale": 2, "device": "cpu"} | settings
    order = (2, 0, 1) if form_of(name).family == "rgb" else (0, 1, 2)
    return [
        [frame.planes[k] for k in order if k < len(frame.planes)]
        for frame in vsr.upscale_frames(Listed(name, count, color), **settings)
    ]


def assert_equal(clip, wanted):
    assert clip.num_frames == len(wanted)
    for n, frame in enumerate(clip.frames()):
        for ours, theirs in zip(planes_of(frame), wanted[n], strict=True):
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs), f"frame {n} differs"


@pytest.mark.parametrize("learned", ["luma", "rgb"])
@pytest.mark.parametrize("name", FORMATS)
def test_pixels_are_those_of_the_other_doors(name, learned, rgb_model):
    form = form_of(name)
    settings = {"model_path": rgb_model} if learned == "rgb" else {}
    tags = TAGS if form.family != "rgb" else {"_Matrix": 0, "_Range": 1}
    color = TAGGED if form.family != "rgb" else ColorSpec(matrix=0, full_range=True)
    result = upscale(drawn(name, 2, **tags), **settings)
    assert (result.width, result.height, result.format.id) == (48, 32, getattr(vs, name))
    assert result.fps == Fraction(24000, 1001)
    assert_equal(result, expected(name, 2, color, **settings))


def test_half_and_single_precision_agree_with_sixteen_bits(rgb_model):
    deep = upscale(drawn("RGB48", 1), model_path=rgb_model).get_frame(0)
    for name, tolerance in (("RGBS", 1e-4), ("RGBH", 2e-3)):
        clip = core.resize.Point(drawn("RGB48", 1), format=getattr(vs, name))
        real = upscale(clip, model_path=rgb_model).get_frame(0)
        for a, b in zip(planes_of(deep), planes_of(real), strict=True):
            assert np.abs(a / 65535 - b.astype(np.float64)).max() < tolerance


@pytest.mark.parametrize("name", ["YUV420P8", "YUV444P16", "YUV420PS", "GRAY8", "RGB24"])
@pytest.mark.parametrize("model", ["auto", "bicubic"])
def test_rgb_on_request(name, model):
    tags = TAGS if form_of(name).family != "rgb" else {"_Matrix": 0, "_Range": 1}
    frame = upscale(drawn(name, 1, **tags), format=vs.RGBS, model=model).get_frame(0)
    assert (frame.props["_Matrix"], frame.props["_Range"]) == (0, 1)
    assert "_ChromaLocation" not in frame.props or not form_of(name).subsampled
    for plane in planes_of(frame):
        assert plane.dtype == np.float32
        assert 0 <= plane.min() <= plane.max() <= 1


def test_rgb_on_request_is_zimgs():
    clip = drawn("YUV444P16", 1, **TAGS)
    ours = upscale(clip, format=vs.RGBS, model="bicubic").get_frame(0)
    settings = {"format": vs.RGBS, "filter_param_a": 0, "filter_param_b": 0.5}
    theirs = core.resize.Bicubic(clip, 2 * WIDTH, 2 * HEIGHT, **settings).get_frame(0)
    for a, b in zip(planes_of(ours), planes_of(theirs), strict=True):
        assert np.abs(a - b.clip(0, 1)).max() < 1e-3


def test_luma_keeps_its_overshoot_and_rgb_does_not():
    luma = planes_of(upscale(drawn("GRAYS", 1), model="nearest").get_frame(0))[0]
    assert luma.min() < -0.05
    assert luma.max() > 1.05
    for plane in planes_of(upscale(drawn("RGBS", 1), model="nearest").get_frame(0)):
        assert (plane.min(), plane.max()) == (0, 1)


def test_properties_are_kept():
    kept = {"_SARNum": 4, "_SARDen": 3, "_FieldBased": 0, "_PictType": "B", "words": ["a", "b"]}
    kept |= {"number": 1.5, "numbers": [1, 2, 3], "_Primaries": 9, "_Transfer": 16}
    clip = drawn("YUV420P10", 2, **kept, _Matrix=9, _Range=1, _ChromaLocation=2)
    clip = core.std.AssumeFPS(clip, fpsnum=30000, fpsden=1001)
    before, after = clip.get_frame(1).props, upscale(clip).get_frame(1).props
    assert dict(after) == dict(before)
    assert (after["_DurationNum"], after["_DurationDen"]) == (1001, 30000)


@pytest.mark.parametrize(
    ("name", "size", "matrix"),
    [("YUV420P8", (24, 16), 6), ("YUV420P8", (1280, 16), 1), ("YUV444PS", (24, 16), 6)],
)
def test_an_untagged_clip_is_tagged_with_what_was_assumed(name, size, matrix):
    props = upscale(drawn(name, 1, size=size), model="nearest").get_frame(0).props
    assert (props["_Matrix"], props["_Range"]) == (matrix, 0)
    assert props.get("_ChromaLocation") == (0 if name == "YUV420P8" else None)
    assert "_Primaries" not in props


def test_frames_of_other_tags_keep_their_own():
    first, second = drawn(count=3, **TAGS), drawn(count=3, **TAGS | {"_Matrix": 6, "_Range": 1})
    clip = upscale(first + second, batch_size=4)
    found = [(f.props["_Matrix"], f.props["_Range"]) for f in clip.frames()]
    assert found == [(1, 0)] * 3 + [(6, 1)] * 3
    limited = expected("YUV420P8", 3)
    for n in (0, 2):
        assert np.array_equal(planes_of(clip.get_frame(n))[0], limited[n][0])


def test_alpha_grows_with_its_picture():
    alpha = core.std.SetFrameProps(drawn("GRAY8", 2), mine=5)
    clip = core.std.ClipToProp(drawn(count=2, **TAGS), alpha)
    result = upscale(clip, model="nearest", batch_size=2)
    for n in (0, 1):
        grown = result.get_frame(n).props["_Alpha"]
        before = planes_of(alpha.get_frame(n))[0]
        assert np.array_equal(planes_of(grown)[0], before.repeat(2, 0).repeat(2, 1))
        assert grown.props["mine"] == 5
    wrong = core.std.ClipToProp(drawn(count=1), drawn("GRAY16", 1))
    with pytest.raises(vs.Error, match="_Alpha of frame 0"):
        upscale(wrong).get_frame(0)


@pytest.mark.parametrize("threads", [1, 2, 6])
@pytest.mark.parametrize(("batch", "streams"), [(1, 1), (1, 3), (3, 1), (3, 2), (20, 2)])
def test_any_order_gives_the_same_frames(threads, batch, streams):
    core.num_threads = threads
    clip = upscale(drawn(count=8, **TAGS), batch_size=batch, num_streams=streams)
    wanted = expected("YUV420P8", 8, batch=min(batch, 8))
    assert_equal(clip, wanted)
    for order in (range(7, -1, -1), random.Random(1).choices(range(8), k=12)):
        clip.clear_cache()
        for n in order:
            assert np.array_equal(planes_of(clip.get_frame(n))[0], wanted[n][0]), f"frame {n}"


@pytest.mark.parametrize("threads", [1, 4])
def test_many_threads_may_ask_at_once(threads):
    core.num_threads = threads
    clip = upscale(drawn(count=12, **TAGS), batch_size=2, num_streams=2)
    wanted = expected("YUV420P8", 12)
    numbers = random.Random(2).choices(range(12), k=60)
    with ThreadPoolExecutor(6) as pool:
        frames = list(pool.map(clip.get_frame, numbers))
    for n, frame in zip(numbers, frames, strict=True):
        assert np.array_equal(planes_of(frame)[1], wanted[n][1])


def test_a_batch_is_computed_once(monkeypatch):
    from vsr.vapoursynth import _inference

    groups = []
    call = _inference.Inference.__call__

    def counted(self, frames):
        groups.append([frame.pts for frame in frames])
        return call(self, frames)

    monkeypatch.setattr(_inference.Inference, "__call__", counted)
    asked = []
    clip = upscale(drawn(count=8, asked=asked, **TAGS), batch_size=3)
    assert sum(1 for _ in clip.frames()) == 8
    assert sorted(groups) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert set(asked) == set(range(8))


def test_evaluating_a_script_asks_for_no_frame():
    asked = []
    clip = upscale(drawn(count=4, asked=asked), batch_size=1)
    assert not asked
    clip.get_frame(2)
    assert asked == [2]


def test_a_network_runs_in_one_thread_that_ends_with_its_filter():
    before = set(threading.enumerate())
    clip = upscale(drawn(count=8), num_streams=2)
    for _ in clip.frames():
        pass
    (thread,) = set(threading.enumerate()) - before
    assert thread.name.startswith("vsr-vapoursynth")
    del clip, _
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_two_models_and_a_chain_in_one_script(rgb_model):
    source = drawn(count=4, **TAGS)
    a, b = upscale(source, num_streams=2), upscale(source, model_path=rgb_model)
    both = core.std.Interleave([a, b])
    wanted = [expected("YUV420P8", 4), expected("YUV420P8", 4, model_path=rgb_model)]
    for n, frame in enumerate(both.frames()):
        assert np.array_equal(planes_of(frame)[0], wanted[n % 2][n // 2][0])
    chain = upscale(upscale(source, batch_size=2), batch_size=3)
    assert (chain.get_frame(3).width, chain.num_frames) == (4 * WIDTH, 4)


def _state():
    backends = torch.backends
    return {
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "dtype": torch.get_default_dtype(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "precision": torch.get_float32_matmul_precision(),
        "cudnn": (backends.cudnn.enabled, backends.cudnn.benchmark, backends.cudnn.deterministic),
        "tf32": (backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32),
        "onednn": backends.mkldnn.enabled,
        "seed": torch.initial_seed(),
        "random": torch.get_rng_state().tolist(),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
        "floats": torch.tensor([1e-40]).mul(1).item(),
    }


def test_nothing_of_the_host_is_touched(rgb_model):
    import vsr.vapoursynth  # noqa: F401

    before = _state()
    for settings in ({}, {"model_path": rgb_model, "precision": "bf16", "batch_size": 2}):
        for _ in upscale(drawn(count=3, **TAGS), **settings).frames():
            assert _state() == before
    assert _state() == before


def test_sizes():
    clip = drawn("YUV444P8", 1)
    assert upscale(clip, scale=1.5, model="bicubic").width == 36
    for settings in ({"width": 60}, {"height": 40}, {"width": 60, "height": 40}):
        made = upscale(clip, scale=None, **settings)
        assert (made.width, made.height) == (60, 40)
        assert made.get_frame(0).width == 60
    assert upscale(clip, scale=None).width == 4 * WIDTH, "the model's own scale"


def test_tiles_do_not_show():
    clip = core.resize.Bicubic(drawn(count=1, **TAGS), 64, 48)
    whole = planes_of(upscale(clip, tile=0, precision="fp32").get_frame(0))
    for tile in (32, [32, 64], (0, 40)):
        tiled = planes_of(upscale(clip, tile=tile, precision="fp32").get_frame(0))
        for a, b in zip(whole, tiled, strict=True):
            assert np.abs(a.astype(int) - b).max() <= 1
    with pytest.raises(UsageError, match="tile of 8 pixels"):
        upscale(clip, tile=[64, 8])


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"scale": 99}, UsageError, "at most 16"),
        ({"model": "nope"}, UnknownModelError, "nope"),
        ({"device": "gpu"}, UsageError, "unknown device"),
        ({"device": "cuda:77"}, DeviceError, "not there"),
        ({"device": "auto", "device_index": 77}, DeviceError, "cuda:77"),
        ({"device": "cpu", "device_index": 0}, UsageError, "not both"),
        ({"precision": "fp8"}, UsageError, "precision"),
        ({"tile": [1, 2, 3]}, UsageError, "pair"),
        ({"num_streams": 0}, UsageError, "num_streams"),
        ({"batch_size": 0}, UsageError, "batch_size"),
        ({"denoise_strength": 0.5}, UsageError, "denoising twin"),
        ({"format": vs.YUV444P8}, UsageError, "own family"),
        ({"format": vs.GRAY32}, UnsupportedSourceError, "Gray32"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_the_script(settings, error, said):
    with pytest.raises(error, match=said) as caught:
        upscale(drawn("RGB24", 1), **settings)
    assert "\n" not in str(caught.value)


def test_a_size_that_the_chroma_does_not_divide_is_refused():
    clip = drawn(count=1, size=(30, 20))
    with pytest.raises(UsageError, match="63×42 does not divide by the 2×2 chroma blocks"):
        upscale(clip, scale=2.1)
    assert upscale(clip, scale=2.1, format=vs.YUV444P8).get_frame(0).width == 63


def test_clips_that_cannot_work_are_refused_in_the_script():
    mixed = core.std.Splice([drawn(count=1), drawn("RGB24", 1, size=(8, 8))], mismatch=True)
    for clip, error, said in (
        (mixed, UnsupportedSourceError, "changes from frame to frame"),
        (core.std.BlankClip(format=vs.GRAY32), UnsupportedSourceError, "Gray32"),
        (core.std.BlankAudio(), UsageError, "AudioNode"),
        (None, UsageError, "NoneType"),
    ):
        with pytest.raises(error, match=said) as caught:
            upscale(clip)
        assert "\n" not in str(caught.value)


def last_line(clip):
    with pytest.raises(vs.Error) as caught:
        clip.get_frame(0)
    return str(caught.value).strip().splitlines()[-1]


def test_frames_that_cannot_work_say_so(rgb_model):
    for field in (1, 2):
        line = last_line(upscale(drawn(count=1, _FieldBased=field)))
        assert f"frame 0 is interlaced (_FieldBased={field}): deinterlace" in line
    for name in ("YUV420P8", "YUV444PS"):
        strange = upscale(drawn(name, 1, _Matrix=10), model_path=rgb_model)
        assert "matrix coefficients 10" in last_line(strange)
        luma = upscale(drawn(name, 1, _Matrix=10)).get_frame(0)
        assert luma.props["_Matrix"] == 10, "a luma network needs no matrix"
    for settings in ({"model_path": rgb_model}, {"format": vs.RGB24}):
        line = last_line(upscale(drawn("YUV444PS", 1), **settings))
        assert "floating-point YUV clip of unknown matrix" in line
        assert upscale(drawn("YUV444P16", 1), **settings).get_frame(0)


def test_a_bad_frame_does_not_spoil_the_others():
    good, bad = drawn(count=2, **TAGS), drawn(count=1, _FieldBased=1)
    clip = upscale(good[0] + bad + good[1])
    with pytest.raises(vs.Error, match="frame 1 is interlaced"):
        clip.get_frame(1)
    assert np.array_equal(planes_of(clip.get_frame(2))[0], expected("YUV420P8", 2)[1][0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_named(value):
    blank = core.std.BlankClip(width=WIDTH, height=HEIGHT, format=vs.GRAYS, length=1)

    def poison(n, f):  # noqa: ARG001
        frame = f.copy()
        np.asarray(frame[0])[3, 4] = value
        return frame

    clip = upscale(core.std.ModifyFrame(blank, [blank], poison), precision="fp32")
    assert "frame 0 of the clip holds NaN or infinity" in last_line(clip)


def test_failing_networks_raise_for_everybody_who_waits(monkeypatch):
    from vsr.engine.stream import FrameUpscaler

    def broken(self, frames, idle):  # noqa: ARG001
        for _ in frames:
            pass
        msg = "the device is gone"
        raise VsrError(msg)
        yield

    clip = upscale(drawn(count=6, **TAGS), num_streams=3)
    with monkeypatch.context() as patch:
        patch.setattr(FrameUpscaler, "__call__", broken)
        with ThreadPoolExecutor(3) as pool:
            errors = list(pool.map(lambda n: _error(clip, n), range(6)))
        assert all("the device is gone" in text for text in errors)
    assert clip.get_frame(0).width == 2 * WIDTH


def _error(clip, n):
    with pytest.raises(vs.Error) as caught:
        clip.get_frame(n)
    return str(caught.value)


def test_hdr_is_warned_of_once(caplog):
    clip = upscale(drawn(count=3, **TAGS | {"_Transfer": 16}))
    for _ in clip.frames():
        pass
    assert [r.message for r in caplog.records if "PQ" in r.message] == [
        "the network was trained on SDR and sees PQ values as they are"
    ]


def test_colour_properties_of_any_kind_are_read():
    from vsr.vapoursynth._clip import color_of

    assert color_of({}) == ColorSpec()
    for location in range(6):
        assert color_of({"_ChromaLocation": location}).siting == location + 1
    assert color_of({"_Range": 1}).full_range is True
    assert color_of({"_Range": 0}) == replace(ColorSpec(), full_range=False)


@pytest.mark.parametrize("devices", ["cpu,cpu", ["cpu", "cpu", "cpu"]])
@pytest.mark.parametrize(("batch", "streams"), [(1, 1), (3, 2), (20, 1)])
def test_several_devices_give_the_frames_of_one(devices, batch, streams, rgb_model):
    settings = {"model_path": rgb_model, "batch_size": batch}
    wanted = [planes_of(f) for f in upscale(drawn(count=11, **TAGS), **settings).frames()]
    clip = upscale(drawn(count=11, **TAGS), device=devices, num_streams=streams, **settings)
    assert_equal(clip, wanted)
    for order in (range(10, -1, -1), random.Random(1).choices(range(11), k=12)):
        clip.clear_cache()
        for n in order:
            assert np.array_equal(planes_of(clip.get_frame(n))[0], wanted[n][0]), f"frame {n}"
    with ThreadPoolExecutor(6) as pool:
        numbers = random.Random(2).choices(range(11), k=40)
        for n, frame in zip(numbers, pool.map(clip.get_frame, numbers), strict=True):
            assert np.array_equal(planes_of(frame)[1], wanted[n][1])


def test_several_devices_share_the_frames(monkeypatch):
    from vsr.engine.stream import FrameUpscaler
    from vsr.vapoursynth import _inference

    made = []
    compose = _inference.assembly.frame_upscaler

    def noted(*arguments):
        made.append(compose(*arguments))
        return made[-1]

    launch = FrameUpscaler._launch

    def slow(self, part):
        time.sleep(0.02)  # so that none has done everything before the other looks
        return launch(self, part)

    monkeypatch.setattr(FrameUpscaler, "_launch", slow)
    monkeypatch.setattr(_inference.assembly, "frame_upscaler", noted)
    before = set(threading.enumerate())
    clip = upscale(drawn(count=24, **TAGS), device="cpu,cpu", num_streams=2)
    assert sum(1 for _ in clip.frames()) == 24
    (fleet,) = made
    assert fleet.where == "cpu,cpu"
    assert sum(fleet.dealt) == 24
    assert min(fleet.dealt) > 0
    left = [thread.name for thread in set(threading.enumerate()) - before]
    (name,) = (name for name in left if name.startswith("vsr"))  # the host has its own
    assert name.startswith("vsr-vapoursynth")


def test_still_pictures_tags_and_alpha_pass_several_devices():
    still = core.std.Loop(drawn(count=1, **TAGS), 5)
    alpha = core.std.BlankClip(
        still, format=vs.GRAY8, length=5, color=77
    )  # a kind of frames of its own
    source = still + drawn(count=3, **TAGS | {"_Matrix": 6}) + core.std.ClipToProp(still, alpha)
    one, two = (
        upscale(source, device=device, batch_size=batch)
        for device, batch in (("cpu", 2), ("cpu,cpu", 2))
    )
    for n, (a, b) in enumerate(zip(one.frames(), two.frames(), strict=True)):
        assert all(map(np.array_equal, planes_of(a), planes_of(b))), f"frame {n} differs"
        assert a.props["_Matrix"] == b.props["_Matrix"]
        assert ("_Alpha" in a.props) == ("_Alpha" in b.props)


def test_a_fleet_that_fails_raises_for_everybody_and_goes_on(monkeypatch):
    from vsr.engine.stream import FrameUpscaler

    clip = upscale(drawn(count=8, **TAGS), device="cpu,cpu", num_streams=2)
    finished = FrameUpscaler._finished

    def broken(self, group, results):
        if group and group[0].frame.pts == 2:
            msg = "the device is gone"
            raise VsrError(msg)
        yield from finished(self, group, results)

    with monkeypatch.context() as patch:
        patch.setattr(FrameUpscaler, "_finished", broken)
        assert "the device is gone" in _error(clip, 2)
    assert [clip.get_frame(n).width for n in range(8)] == 8 * [2 * WIDTH]


def test_devices_that_cannot_work_together_are_refused_in_the_script():
    for devices, error, said in (
        ("cpu,auto", UsageError, "auto cannot be one of several"),
        ([], UsageError, "names no device"),
        (["cpu", "cuda:77"], DeviceError, "not there"),
    ):
        with pytest.raises(error, match=said) as caught:
            upscale(drawn(count=1), device=devices)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="not both"):
        upscale(drawn(count=1), device="cpu,cpu", device_index=0)


@pytest.mark.parametrize("device", ["cpu", "cpu,cpu"])
def test_a_network_in_studio_range_sees_what_it_was_trained_on(device, tmp_path):
    torch.manual_seed(5)
    config = VDSRConfig(features=8, convs=3, bias=True, scale=2)
    path = tmp_path / "studio.safetensors"
    save_checkpoint(path, VDSR(config).state_dict(), "vdsr", config)
    settings = {"model_path": path, "precision": "fp32"}
    clip = upscale(drawn("YUV420P16", 3, **TAGS), device=device, **settings)
    assert_equal(clip, expected("YUV420P16", 3, **settings))
