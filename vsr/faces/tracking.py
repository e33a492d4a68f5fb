"""Landmarks that do not tremble from frame to frame.

A detector's landmarks move by a pixel or so even where nothing moves, and a restored face with
them. So each face is followed, and its landmarks pass the 1€ filter: Casiez, Roussel, Vogel, "1€
Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems", CHI 2012. It
is an exponential mean whose cutoff rises with speed: what rests is calm, what moves lags little.

    cutoff  = rest + response · |mean velocity of the landmarks, low-passed|
    α       = 1 / (1 + 1 / (2π · cutoff))
    state  += α · (landmarks - state)

Lengths are in sides of the face's box (the root of its area) and times in frames. The five
landmarks have one α, so a smoothed face is not bent. A face is the one of the frame before whose
box it overlaps most. A cut, seen in a tiny copy of the picture, ends all. Only the last frame's
faces are kept.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vsr.faces.anchors import overlaps
from vsr.faces.base import Faces

_GLANCE = 16
"""Side of the tiny copy in which cuts are seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalmOptions:
    """How faces are followed.

    Attributes:
        overlap: Least intersection over union of a face's boxes in two frames.
        rest: Cutoff of what does not move, in cycles per frame.
        response: Rise of the cutoff per box side per frame.
        velocity: Cutoff of the velocity, in cycles per frame.
        cut: Mean difference of two tiny copies, in [0, 1], that is a cut.
        sure: Confidence that a face needs to be taken for one; whoever is followed needs less.
    """

    overlap: float = 0.3
    rest: float = 0.05
    response: float = 12.0
    velocity: float = 0.15
    cut: float = 0.1
    sure: float = 0.97


@dataclass(frozen=True, slots=True)
class _Track:
    box: Tensor
    landmarks: Tensor
    velocity: Tensor


class Calm:
    """Follows faces through the frames of a video, in order.

    Args:
        options: How.
    """

    def __init__(self, options: CalmOptions = CalmOptions()) -> None:
        self.options = options
        self._tracks: list[_Track] = []
        self._seen: Tensor | None = None

    def reset(self) -> None:
        """Forgets all faces."""
        self._tracks, self._seen = [], None

    def __call__(self, x: Tensor, faces: Faces) -> Faces:
        """Smooths the landmarks of the next frame.

        Args:
            x: The frame, (1, C, H, W) in [0, 1].
            faces: Those that a detector found in it.

        Returns:
            Those that are taken for faces, in the same order.
        """
        glance = functional.adaptive_avg_pool2d(x.float().mean(1, keepdim=True), _GLANCE).cpu()
        if self._seen is not None and float((glance - self._seen).abs().mean()) > self.options.cut:
            self._tracks = []
        self._seen = glance
        before = self._matched(faces)
        kept = [k for k in range(len(faces)) if k in before or faces.scores[k] > self.options.sure]
        faces = faces.pick(kept)
        self._tracks = [
            self._followed(before.get(k), faces.boxes[n], faces.landmarks[n])
            for n, k in enumerate(kept)
        ]
        if not kept:
            return faces
        landmarks = torch.stack([track.landmarks for track in self._tracks])
        return Faces(boxes=faces.boxes, scores=faces.scores, landmarks=landmarks)

    def _matched(self, faces: Faces) -> dict[int, _Track]:
        """The track of each face that has one; the pairs that overlap most come first."""
        pairs: dict[int, _Track] = {}
        if not self._tracks or not len(faces):
            return pairs
        table = overlaps(faces.boxes, torch.stack([track.box for track in self._tracks]))
        while float(table.max()) >= self.options.overlap:
            face, track = divmod(int(table.argmax()), table.shape[1])
            pairs[face] = self._tracks[track]
            table[face, :], table[:, track] = -1, -1
        return pairs

    def _followed(self, track: _Track | None, box: Tensor, landmarks: Tensor) -> _Track:
        if track is None:
            return _Track(box, landmarks, torch.zeros(2, dtype=torch.float64))
        side = (box[2:] - box[:2]).clamp_min(1e-6).prod().sqrt()
        moved = (landmarks - track.landmarks) / side
        speed = track.velocity + _share(self.options.velocity) * (moved.mean(0) - track.velocity)
        cutoff = self.options.rest + self.options.response * float(speed.norm())
        smooth = track.landmarks + _share(cutoff) * (landmarks - track.landmarks)
        return _Track(box, smooth, speed)


def _share(cutoff: float) -> float:
    """The share of the new in an exponential mean of a cutoff in cycles per frame."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff))
