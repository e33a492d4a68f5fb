"""The whole way of a face: found in the source, restored, pasted into the upscaled frame."""

import math

import pytest
import torch
from torch import Tensor

from vsr.errors import NonFiniteError, OutOfMemoryError, UsageError
from vsr.faces.alignment import apply, chained, enlargement, inverse, mask, similarity, template
from vsr.faces.base import Faces
from vsr.faces.enhance import FaceEnhancer
from vsr.faces.gfpgan import GFPGANClean, GFPGANConfig
from vsr.faces.options import FaceOptions
from vsr.resample import resize

SIDE = 32


def place(x: float, y: float, size: float, angle: float = 0.0) -> Tensor:
    """From the square of an upright face to a picture."""
    c, s = (size / SIDE * f(angle) for f in (math.cos, math.sin))
    return torch.tensor([[c, -s, x], [s, c, y]], dtype=torch.float64)


def faces(*places: Tensor, scores: tuple[float, ...] = ()) -> Faces:
    """The faces whose squares lie at these places."""
    if not places:
        return Faces.none()
    landmarks = torch.stack([apply(p, template(SIDE)) for p in places])
    corners = torch.tensor([[8.0, 8.0], [24.0, 8.0], [8.0, 28.0], [24.0, 28.0]]).double()
    boxes = torch.stack([
        torch.cat([apply(p, corners).amin(0), apply(p, corners).amax(0)]) for p in places
    ])  # fmt: skip
    return Faces(
        boxes=boxes,
        scores=torch.tensor(scores or [0.999] * len(places), dtype=torch.float64),
        landmarks=landmarks,
    )


class Told:
    """A detector that finds what it is told, frame by frame."""

    def __init__(self, *frames: Faces) -> None:
        self.frames = list(frames)

    def __call__(self, x: Tensor, /) -> list[Faces]:
        return [self.frames.pop(0) for _ in x]


class Painter:
    """A restorer that paints every face in one colour, and counts."""

    def __init__(self, colour: float = 1.0) -> None:
        self.colour, self.counts, self.seen = colour, [], []

    def __call__(self, x: Tensor) -> Tensor:
        self.counts.append(len(x))
        self.seen.append(x.clone())
        return torch.full_like(x, self.colour)


def drawn(height: int, width: int) -> Tensor:
    """A picture with a soft background and round heads with eyes and a mouth."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    picture = torch.stack([0.3 + 0.2 * (x / 17).sin(), 0.4 + 0 * x, 0.3 + 0.2 * (y / 23).cos()])
    for cx, cy, r in ((40, 36, 18), (95, 50, 14)):
        head = ((x - cx) ** 2 + (y - cy) ** 2) < r * r
        picture[:, head] = torch.tensor([[0.8], [0.6], [0.5]])
        for dx, dy in ((-0.4, -0.2), (0.4, -0.2), (0, 0.5)):
            dot = ((x - cx - dx * r) ** 2 + (y - cy - dy * r) ** 2) < (r / 6) ** 2
            picture[:, dot] = 0.1
    return picture[None]


def share(places: list[Tensor], source: Tensor, large: Tensor) -> Tensor:
    """The largest mask of any face at each pixel of the large picture."""
    sizes = [(x.shape[3], x.shape[2]) for x in (large, source)]
    masks = [
        mask(chained(enlargement(*sizes), inverse(p)), *large.shape[2:], SIDE, large.device)
        for p in places
    ]
    return torch.stack(masks).amax(0)[0, 0]


def test_no_face_no_change():
    x = drawn(80, 130)
    large, painter = resize(x, 160, 260).clamp(0, 1), Painter()
    result = FaceEnhancer(Told(faces()), painter, SIDE)(x, large)
    assert torch.equal(result, large)
    assert painter.counts == []


@pytest.mark.parametrize("size", [(80, 130), (160, 260), (200, 331)])
def test_only_faces_change_and_no_seam_is_seen(size):
    x = drawn(80, 130)
    large = resize(x, *size).clamp(0, 1)
    places = [place(16, 12, 48), place(78, 33, 36, 0.4)]
    before = large.clone()
    result = FaceEnhancer(Told(faces(*places)), Painter(), SIDE)(x, large)
    assert torch.equal(large, before)
    soft = share(places, x, large)
    assert torch.equal(result[..., soft == 0], large[..., soft == 0])
    torch.testing.assert_close(result[..., soft == 1], torch.ones_like(large)[..., soft == 1])
    assert (soft == 1).sum() > 500
    # what is added has no step: per pixel less than the steepest part of the mask
    added = result - large
    pixels = 36 * size[0] / 80 * 0.1
    for axis in (2, 3):
        assert added.diff(dim=axis).abs().max() < 1.5 / pixels + large.diff(dim=axis).abs().max()
    edge = (soft > 0) & (soft < 0.002)
    assert added[..., edge].abs().max() < 0.002


def test_a_restorer_that_changes_nothing_is_hardly_seen():
    x = drawn(80, 130)
    large = resize(x, 160, 260, "bilinear")
    places = [place(16, 12, 48), place(78, 33, 36, 0.4)]
    result = FaceEnhancer(Told(faces(*places)), lambda face: face, 128)(x, large)
    assert (result - large).abs().mean() < 2e-3


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_weight_is_the_share_of_the_face(weight):
    x = drawn(80, 130)
    options = FaceOptions(weight=weight)
    painter = Painter()
    result = FaceEnhancer(Told(faces(place(16, 12, 48))), painter, SIDE, options)(x, x)
    soft = share([place(16, 12, 48)], x, x)
    expected = torch.lerp(x, torch.ones_like(x), weight * soft)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
    assert bool(painter.counts) == (weight > 0)


def test_the_network_sees_the_face_upright():
    x, at = drawn(80, 130), place(60, 20, 40, 1.2)
    painter = Painter()
    FaceEnhancer(Told(faces(at)), painter, SIDE)(x, x)
    (seen,) = painter.seen
    assert seen.shape == (1, 3, SIDE, SIDE)
    assert -1 <= seen.min() < seen.max() <= 1
    for column, row in ((16, 16), (10, 20), (22, 9)):
        u, v = apply(at, torch.tensor([column, row])).tolist()
        near = x[0, :, int(v) : int(v) + 2, int(u) : int(u) + 2].flatten(1)
        pixel = (seen[0, :, row, column] + 1) / 2
        assert (pixel >= near.amin(1) - 0.05).all()
        assert (pixel <= near.amax(1) + 0.05).all()


def test_which_faces():
    x = drawn(80, 130)
    small, left, middle = place(2, 2, 24), place(16, 12, 48), place(50, 24, 34)
    told = faces(small, left, middle, scores=(0.999, 0.99, 0.98))

    def found(**options: object) -> list[float]:
        enhancer = FaceEnhancer(Told(told), Painter(), SIDE, FaceOptions(**options))
        return enhancer.find(x).scores.tolist()

    assert found(smallest=1) == [0.999, 0.98, 0.99]  # the largest last
    assert found() == [0.98, 0.99]
    assert found(smallest=20) == [0.99]
    assert found(which="centre") == [0.98]
    assert found(which="centre", smallest=100) == []
    side = told.landmarks.clone()
    side[:, 0] = side[:, 1]
    told = Faces(boxes=told.boxes, scores=told.scores, landmarks=side)
    assert found(smallest=1) == []  # eyes that lie on each other: nothing to align by


@pytest.mark.parametrize("wrong", [{"weight": 1.5}, {"weight": math.nan}, {"smallest": 0}])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match="must"):
        FaceOptions(**wrong)


def test_few_faces_at_a_time_and_all_the_same():
    x = drawn(80, 130)
    told = faces(*(place(5 + 11 * k, 10 + 3 * k, 34) for k in range(7)))
    torch.manual_seed(0)
    config = GFPGANConfig(unet=(4, 4, 4, 2), decoder=(8, 8, 8, 4), style=6, latents=8)
    network = GFPGANClean(config).eval()
    results = []
    for batch in (1, 3, 16):
        counts: list[int] = []
        network.register_forward_pre_hook(lambda _, args, into=counts: into.append(len(args[0])))
        results.append(FaceEnhancer(Told(told), network, SIDE, batch=batch)(x, x))
        assert max(counts) == min(batch, 7)
        assert sum(counts) == 7
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, rtol=0, atol=1e-5)
    assert torch.equal(FaceEnhancer(Told(told), network, SIDE)(x, x),
                       FaceEnhancer(Told(told), network, SIDE)(x, x))  # fmt: skip


class Hungry(Painter):
    """Has memory for so many faces."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __call__(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError
        return super().__call__(x)


def test_too_many_faces_for_the_memory_are_done_in_smaller_batches():
    x, told = drawn(80, 130), faces(*(place(5 + 11 * k, 10, 34) for k in range(7)))
    hungry = Hungry(1)
    enhancer = FaceEnhancer(Told(told, told), hungry, SIDE)
    assert torch.equal(enhancer(x, x), FaceEnhancer(Told(told), Painter(), SIDE)(x, x))
    assert hungry.counts == [1] * 7
    assert enhancer.batch == 1
    with pytest.raises(OutOfMemoryError, match="with one face"):
        FaceEnhancer(Told(told), Hungry(0), SIDE)(x, x)


def test_nonsense_of_the_network_is_an_error():
    x = drawn(80, 130)
    with pytest.raises(NonFiniteError, match="its checkpoint is damaged"):
        FaceEnhancer(Told(faces(place(16, 12, 48))), Painter(math.nan), SIDE)(x, x)


def test_frames_of_a_batch_are_each_their_own():
    x = torch.cat([drawn(80, 130), drawn(80, 130).flip(3)])
    one, other = faces(place(16, 12, 48)), faces(place(60, 20, 30, 1.0))
    together = FaceEnhancer(Told(one, other), Painter(), SIDE)(x, x)
    alone = [FaceEnhancer(Told(f), Painter(), SIDE)(y[None], y[None])
             for f, y in zip((one, other), x, strict=True)]  # fmt: skip
    assert torch.equal(together, torch.cat(alone))


def test_a_face_that_reaches_out_of_the_picture_is_restored_as_far_as_it_goes():
    x = drawn(80, 130)
    at = place(-20, 50, 60)
    result = FaceEnhancer(Told(faces(at)), Painter(), SIDE)(x, x)
    soft = share([at], x, x)
    assert soft[:, 0].max() == 1
    expected = torch.lerp(x, torch.ones_like(x), soft)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


def test_places_are_those_of_the_landmarks():
    at = place(16, 12, 48, 0.3)
    found = similarity(faces(at).landmarks, template(SIDE))[0]
    torch.testing.assert_close(found, inverse(at), rtol=0, atol=1e-9)
