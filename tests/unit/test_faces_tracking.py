"""Faces in a video: calm where they rest, quick where they move, forgotten at a cut."""

import numpy as np
import torch
from torch import Tensor

from vsr.faces.base import Faces
from vsr.faces.tracking import Calm, CalmOptions

SCENE, OTHER = torch.full((1, 3, 40, 60), 0.2), torch.full((1, 3, 40, 60), 0.7)
SHAPE = torch.tensor([[30.0, 40], [70, 40], [50, 60], [35, 80], [65, 80]]).double()
BOX = torch.tensor([0.0, 0, 100, 120]).double()


def found(*landmarks: Tensor, score: float = 0.99) -> Faces:
    """Faces whose box follows their landmarks."""
    shifts = [(marks - SHAPE).mean(0) for marks in landmarks]
    return Faces(
        boxes=torch.stack([BOX + s.repeat(2) for s in shifts]),
        scores=torch.full((len(landmarks),), score).double(),
        landmarks=torch.stack(landmarks),
    )


def noise(count: int) -> list[Tensor]:
    rng = np.random.default_rng(5)
    return [torch.from_numpy(rng.normal(0, 0.6, (5, 2))) for _ in range(count)]


def test_the_first_frame_is_as_it_was_found():
    assert torch.equal(Calm()(SCENE, found(SHAPE + 3)).landmarks[0], SHAPE + 3)


def test_a_face_at_rest_is_calm():
    calm = Calm()
    raw = [SHAPE + n for n in noise(120)]
    smooth = [calm(SCENE, found(r)).landmarks[0] for r in raw]

    def tremble(frames: list[Tensor]) -> float:
        return float(torch.stack(frames[20:]).diff(dim=0).square().mean().sqrt())

    assert tremble(smooth) < 0.4 * tremble(raw)
    assert (torch.stack(smooth[20:]).mean(0) - SHAPE).abs().max() < 0.3


def test_a_face_that_moves_does_not_lag_far():
    calm, speed = Calm(), torch.tensor([4.0, -2.0]).double()
    for n in range(60):
        seen = SHAPE + n * speed
        smooth = calm(SCENE, found(seen)).landmarks[0]
    behind = (seen - smooth).norm(dim=1)
    assert behind.max() < 0.5 * speed.norm()
    torch.testing.assert_close(smooth - smooth.mean(0), SHAPE - SHAPE.mean(0))  # not bent


def test_a_cut_begins_anew():
    calm = Calm()
    for _ in range(10):
        calm(SCENE, found(SHAPE))
    assert not torch.equal(calm(SCENE, found(SHAPE + 5)).landmarks[0], SHAPE + 5)
    assert torch.equal(calm(OTHER, found(SHAPE + 9)).landmarks[0], SHAPE + 9)
    calm.reset()
    assert torch.equal(calm(OTHER, found(SHAPE)).landmarks[0], SHAPE)


def test_a_face_elsewhere_is_another_face():
    calm = Calm()
    calm(SCENE, found(SHAPE))
    assert torch.equal(calm(SCENE, found(SHAPE + 80)).landmarks[0], SHAPE + 80)


def test_neighbours_are_not_mixed_up_whatever_their_order():
    calm, beside = Calm(), SHAPE + torch.tensor([60.0, 0]).double()
    calm(SCENE, found(SHAPE, beside))
    smooth = calm(SCENE, found(beside + 1, SHAPE + 1)).landmarks
    assert (smooth[0] - beside).abs().max() <= 1
    assert (smooth[1] - SHAPE).abs().max() <= 1
    assert not torch.equal(smooth[0], beside + 1)


def test_whoever_is_followed_may_be_less_sure():
    calm = Calm(CalmOptions(sure=0.97))
    assert len(calm(SCENE, found(SHAPE, score=0.9))) == 0
    assert len(calm(SCENE, found(SHAPE, score=0.98))) == 1
    assert len(calm(SCENE, found(SHAPE + 1, score=0.85))) == 1
    assert len(calm(SCENE, Faces.none())) == 0
    assert len(calm(SCENE, found(SHAPE, score=0.85))) == 0


def test_memory_is_that_of_one_frame():
    calm = Calm()
    for n in range(50):
        calm(SCENE, found(*(SHAPE + 200 * n + 150 * k for k in range(3))))
        assert len(calm._tracks) == 3
