"""RetinaFace: the layout of the published file, the wiring, the priors, decoding, suppression."""

import math
from collections.abc import Iterator
from itertools import chain

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vsr.checkpoints import read_checkpoint
from vsr.errors import CheckpointError, NonFiniteError
from vsr.faces.anchors import decode_boxes, decode_landmarks, overlaps, priors, suppress
from vsr.faces.catalog import find_face_checkpoint
from vsr.faces.retinaface import (
    DetectorOptions,
    RetinaFace,
    RetinaFaceConfig,
    RetinaFaceDetector,
    detect,
)

TINY = RetinaFaceConfig(stem=4, blocks=(1, 2, 1, 1), channels=8)
UNITS = ("conv3X3", "conv5X5_1", "conv5X5_2", "conv7X7_2", "conv7x7_3")


def tiny() -> tuple[RetinaFace, dict[str, Tensor]]:
    torch.manual_seed(0)
    network = RetinaFace(TINY).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return network, dict(network.state_dict())


def body() -> Iterator[tuple[str, str, int, int, int]]:
    """torchvision's `resnet50` without its classifier: convolution, norm, outputs, inputs, side."""
    yield "body.conv1", "body.bn1", 64, 3, 7
    inputs = 64
    for layer, (width, count) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], 1):
        for block in range(count):
            at = f"body.layer{layer}.{block}"
            yield f"{at}.conv1", f"{at}.bn1", width, inputs, 1
            yield f"{at}.conv2", f"{at}.bn2", width, width, 3
            yield f"{at}.conv3", f"{at}.bn3", 4 * width, width, 1
            if block == 0:
                yield f"{at}.downsample.0", f"{at}.downsample.1", 4 * width, inputs, 1
            inputs = 4 * width


def neck() -> Iterator[tuple[str, str, int, int, int]]:
    """What the constructors of Pytorch_Retinaface's models/net.py say, which facexlib took over."""
    for level, width in enumerate((512, 1024, 2048), 1):
        yield f"fpn.output{level}.0", f"fpn.output{level}.1", 256, width, 1
    for merge in (1, 2):
        yield f"fpn.merge{merge}.0", f"fpn.merge{merge}.1", 256, 256, 3
    for ssh in (1, 2, 3):
        for unit, ends in zip(UNITS, [(128, 256), (64, 256), *[(64, 64)] * 3], strict=True):
            yield f"ssh{ssh}.{unit}.0", f"ssh{ssh}.{unit}.1", *ends, 3


def published() -> dict[str, tuple[int, ...]]:
    """Names and shapes of detection_Resnet50_Final.pth."""
    shapes: dict[str, tuple[int, ...]] = {}
    for conv, norm, outputs, inputs, kernel in chain(body(), neck()):
        shapes[f"{conv}.weight"] = (outputs, inputs, kernel, kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{part}"] = (outputs,)
    for head, numbers in (("ClassHead", 4), ("BboxHead", 8), ("LandmarkHead", 20)):
        for level in range(3):
            shapes[f"{head}.{level}.conv1x1.weight"] = (numbers, 256, 1, 1)
            shapes[f"{head}.{level}.conv1x1.bias"] = (numbers,)
    return shapes


def test_layout_is_that_of_the_published_file():
    with torch.device("meta"):
        network = RetinaFace(RetinaFaceConfig())
    state = network.state_dict()
    counters = {k for k in state if k.endswith(".num_batches_tracked")}
    assert {k: tuple(v.shape) for k, v in state.items() if k not in counters} == published()
    assert sum(p.numel() for p in network.parameters()) == 27_293_600
    size = find_face_checkpoint("retinaface").size or 0
    names = size - sum(v.numel() * v.element_size() for v in state.values())
    assert 0 < names < 256 * len(state)  # names and headers are all that is left of the file
    assert detect(state) == network.config


def test_loads_a_file_as_it_is_published(tmp_path):
    network, state = tiny()
    path = tmp_path / "detection.pth"
    torch.save({f"module.{k}": v for k, v in state.items()}, path)
    loaded = RetinaFace.from_state(read_checkpoint(path).state)
    bare = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    x = torch.rand(1, 3, 40, 70) * 255
    with torch.inference_mode():
        for a, b, c in zip(network(x), loaded(x), RetinaFace.from_state(bare)(x), strict=True):
            assert torch.equal(a, b)
            assert torch.equal(a, c)


def reference(state: dict[str, Tensor], x: Tensor) -> list[list[Tensor]]:
    """The network once more, as functions of its tensors: maps of (classes, boxes, landmarks)."""

    def unit(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        weight = state[f"{conv}.weight"]
        x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, var, scale, shift = (
            state[f"{norm}.{k}"].view(1, -1, 1, 1)
            for k in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    def leaky(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.1 * x)

    x = unit(x, "body.conv1", "body.bn1", 2).clamp_min(0)
    x = functional.max_pool2d(x, 3, 2, 1)
    features = []
    for layer, count in enumerate(TINY.blocks, 1):
        for block in range(count):
            at, stride = f"body.layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = unit(x, f"{at}.conv1", f"{at}.bn1").clamp_min(0)
            y = unit(y, f"{at}.conv2", f"{at}.bn2", stride).clamp_min(0)
            y = unit(y, f"{at}.conv3", f"{at}.bn3")
            if block == 0:
                x = unit(x, f"{at}.downsample.0", f"{at}.downsample.1", stride)
            x = (x + y).clamp_min(0)
        features.append(x)
    one, two, three = (
        leaky(unit(y, f"fpn.output{k}.0", f"fpn.output{k}.1"))
        for k, y in enumerate(features[1:], 1)
    )
    up = functional.interpolate(three, size=two.shape[2:], mode="nearest")
    two = leaky(unit(two + up, "fpn.merge2.0", "fpn.merge2.1"))
    up = functional.interpolate(two, size=one.shape[2:], mode="nearest")
    one = leaky(unit(one + up, "fpn.merge1.0", "fpn.merge1.1"))
    levels = []
    for k, y in enumerate((one, two, three)):
        three_, five, fivefive, seven, seven3 = (f"ssh{k + 1}.{u}" for u in UNITS)
        wide = leaky(unit(y, f"{five}.0", f"{five}.1"))
        wider = leaky(unit(wide, f"{seven}.0", f"{seven}.1"))
        ways = [(three_, y), (fivefive, wide), (seven3, wider)]
        seen = torch.cat([unit(z, f"{name}.0", f"{name}.1") for name, z in ways], 1).clamp_min(0)
        heads = (f"{h}.{k}.conv1x1" for h in ("ClassHead", "BboxHead", "LandmarkHead"))
        levels.append(
            [functional.conv2d(seen, state[f"{h}.weight"], state[f"{h}.bias"]) for h in heads]
        )
    return levels


@pytest.mark.parametrize("size", [(64, 96), (45, 83)])
def test_network_equals_its_definition(size):
    network, state = tiny()
    x = torch.rand(2, 3, *size) * 255 - 110
    with torch.inference_mode():
        found, expected = network(x), reference(state, x)
    for kind, numbers in enumerate((2, 4, 10)):
        flat = [
            level[kind].view(2, 2, numbers, *level[kind].shape[2:])
            .permute(0, 3, 4, 1, 2)
            .reshape(2, -1, numbers)
            for level in expected
        ]  # fmt: skip
        torch.testing.assert_close(found[kind], torch.cat(flat, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (33, 8), (64, 64), (71, 130)])
def test_priors_equal_their_definition(size):
    height, width = size
    expected = [
        (step * (j + 0.5) / width, step * (i + 0.5) / height, side / width, side / height)
        for step, sides in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
        for i in range(math.ceil(height / step))
        for j in range(math.ceil(width / step))
        for side in sides
    ]
    np.testing.assert_allclose(priors(height, width).numpy(), expected, rtol=1e-6)
    network, _ = tiny()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, height, width))[0].shape == (1, len(expected), 2)


def test_decoding_undoes_what_training_encodes():
    """The targets are those of SSD's equation 2, with variances of 0.1 and 0.2."""
    rng = np.random.default_rng(1)
    prior = priors(40, 60).double().numpy()
    low = rng.uniform(0, 0.5, (len(prior), 2))
    box = np.concatenate([low, low + rng.uniform(0.05, 0.5, (len(prior), 2))], 1)
    points = rng.uniform(0, 1, (len(prior), 5, 2))
    centre = ((box[:, :2] + box[:, 2:]) / 2 - prior[:, :2]) / (0.1 * prior[:, 2:])
    size = np.log((box[:, 2:] - box[:, :2]) / prior[:, 2:]) / 0.2
    marks = (points - prior[:, None, :2]) / (0.1 * prior[:, None, 2:])
    numbers = torch.from_numpy(np.concatenate([centre, size], 1))
    found = decode_boxes(numbers, torch.from_numpy(prior))
    np.testing.assert_allclose(found.numpy(), box, atol=1e-12)
    found = decode_landmarks(torch.from_numpy(marks.reshape(-1, 10)), torch.from_numpy(prior))
    np.testing.assert_allclose(found.numpy(), points, atol=1e-12)


def some_boxes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 50, (count, 2))], 1)
    return torch.from_numpy(boxes), torch.from_numpy(rng.permutation(count) / count)


@pytest.mark.parametrize("seed", range(5))
def test_suppression_equals_its_definition(seed):
    boxes, scores = some_boxes(40, seed)
    kept: list[int] = []
    for k in np.argsort(-scores.numpy()):
        a = boxes[k].numpy()
        clash = False
        for other in kept:
            b = boxes[other].numpy()
            w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
            h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
            area = sum((c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)) - w * h
            clash |= w * h / area > 0.4
        kept += [] if clash else [int(k)]
    found = suppress(boxes, scores, 0.4)
    assert found == kept
    assert suppress(boxes[found], scores[found], 0.4) == list(range(len(found)))
    assert suppress(boxes, scores, 1.0) == np.argsort(-scores.numpy()).tolist()
    assert suppress(boxes[:0], scores[:0], 0.4) == []


def test_of_equally_sure_boxes_the_first_stays():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60]]).double()
    assert suppress(boxes, torch.ones(3), 0.4) == [0, 2]


def test_overlap_is_a_share():
    boxes, _ = some_boxes(20, 9)
    table = overlaps(boxes, boxes)
    torch.testing.assert_close(table, table.T)
    torch.testing.assert_close(table.diagonal(), torch.ones(20).double())
    assert 0 <= table.min() <= table.max() <= 1 + 1e-12
    empty = torch.zeros(1, 4).double()
    assert overlaps(empty, boxes).abs().sum() == 0


class Saying(nn.Module):
    """A network that says the same of every picture of one size, and keeps what it saw."""

    def __init__(self, *said: Tensor) -> None:
        super().__init__()
        self.said, self.saw = said, torch.zeros(0)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.saw = x
        return self.said


def saying(height: int, width: int, sure: dict[int, float]) -> Saying:
    count = len(priors(height, width))
    logits = torch.zeros(1, count, 2)
    logits[..., 0] = 20
    for prior, score in sure.items():
        logits[0, prior] = torch.tensor([0.0, math.log(score / (1 - score))])
    marks = torch.arange(10.0).expand(1, count, 10)
    return Saying(logits, torch.zeros(1, count, 4), marks)


def test_detector_gives_pixels_of_sure_faces():
    network = saying(64, 96, {2 * 15: 0.98, 2 * 40: 0.999, 2 * 70: 0.9})
    (faces,) = RetinaFaceDetector(network)(torch.rand(1, 3, 64, 96))  # type: ignore[arg-type]
    assert faces.scores.tolist() == pytest.approx([0.999, 0.98], abs=1e-6)
    prior = priors(64, 96)[2 * 40].double() * torch.tensor([96, 64, 96, 64])
    assert faces.boxes[0].tolist() == pytest.approx(
        [*(prior[:2] - 8).tolist(), *(prior[:2] + 8).tolist()], abs=1e-4
    )
    expected = [[float(prior[0]) + 0.2 * k * 16, float(prior[1]) + 0.1 * 16 * (2 * k + 1)]
                for k in range(5)]  # fmt: skip
    np.testing.assert_allclose(faces.landmarks[0].numpy(), expected, atol=1e-4)


def test_detector_gives_blue_first_less_the_means():
    network = saying(8, 8, {})
    colour = torch.tensor([0.2, 0.4, 1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    (faces,) = RetinaFaceDetector(network)(colour)  # type: ignore[arg-type]
    assert len(faces) == 0
    seen = network.saw[0, :, 0, 0].tolist()
    assert seen == pytest.approx([255 - 104, 102 - 117, 51 - 123], abs=1e-4)


def test_large_pictures_are_looked_at_smaller():
    small = RetinaFaceDetector(saying(32, 64, {20: 0.99}))  # type: ignore[arg-type]
    network = saying(32, 64, {20: 0.99})
    large = RetinaFaceDetector(network, DetectorOptions(longest=64))  # type: ignore[arg-type]
    (a,), (b,) = small(torch.rand(1, 3, 32, 64)), large(torch.rand(1, 3, 96, 192))
    assert network.saw.shape == (1, 3, 32, 64)
    np.testing.assert_allclose((a.boxes.numpy() + 0.5) * 3 - 0.5, b.boxes.numpy(), atol=1e-9)
    np.testing.assert_allclose((a.landmarks.numpy() + 0.5) * 3 - 0.5, b.landmarks.numpy())


def test_nonsense_of_a_network_is_an_error():
    network = saying(8, 8, {})
    network.said[0][0, 3] = math.nan
    with pytest.raises(NonFiniteError, match="its checkpoint is damaged"):
        RetinaFaceDetector(network)(torch.zeros(1, 3, 8, 8))  # type: ignore[arg-type]


def test_detection_does_not_depend_on_the_batch():
    network, _ = tiny()
    find = RetinaFaceDetector(network, DetectorOptions(sure=0.5))
    x = torch.rand(3, 3, 40, 56)
    with torch.inference_mode():
        together, alone = find(x), [find(one[None])[0] for one in x]
    assert sum(map(len, together)) > 0
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(a.boxes, b.boxes)
        assert torch.equal(a.landmarks, b.landmarks)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"body.layer2.1.bn2.bias": None}, r"'body.layer2.1.bn2.bias' has the shape None"),
        ({"ssh1.conv3X3.0.weight": torch.zeros(4, 8, 1, 1)}, r"\(4, 8, 1, 1\), expected \(4, 8, 3"),
        ({"body.fc.weight": torch.zeros(1)}, "'body.fc.weight' has the shape .* expected None"),
        ({"body.conv1.weight": None}, "not RetinaFace on a ResNet"),
        ({"body.layer3.0.conv1.weight": None}, "not RetinaFace on a ResNet"),
        ({"fpn.output1.0.weight": torch.zeros(())}, "not RetinaFace on a ResNet"),
    ],
)
def test_other_checkpoints_are_refused_in_one_line(change, said):
    _, state = tiny()
    state = {key: v for key, v in (state | change).items() if v is not None}
    with pytest.raises(CheckpointError, match=said) as caught:
        RetinaFace.from_state(state)
    assert "\n" not in str(caught.value)


def test_nothing_else_is_taken_for_it():
    assert detect({}) is None
    assert detect({"body.stage1.0.0.weight": torch.zeros(8, 3, 3, 3)}) is None
