"""What the loop is made of: Muon, schedules, the average, pictures of samples."""

import numpy as np
import pytest
import torch

from vsr.train import loop, records
from vsr.train.average import Average
from vsr.train.muon import Muon, orthogonal
from vsr.train.optimisers import rate_factor
from vsr.train.settings import ScheduleSettings


def test_orthogonal_draws_singular_values_to_one():
    for shape in ((2, 8, 20), (2, 20, 8), (1, 8, 8)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert values.min() > 0.3
        assert values.max() < 1.35
    assert torch.equal(orthogonal(torch.zeros(1, 3, 4)), torch.zeros(1, 3, 4))


def test_muon_steps_vectors_as_adamw_does():
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    muon = Muon([ours], 0.1, rest=0.5, weight_decay=0.1)
    adam = torch.optim.AdamW([theirs], 0.05, (0.9, 0.99), weight_decay=0.1)
    for _ in range(5):
        ours.grad = torch.randn(5)
        theirs.grad = ours.grad.clone()
        muon.step()
        adam.step()
    torch.testing.assert_close(ours, theirs)


def test_muon_steps_matrices_by_their_shape_not_by_their_gradient():
    weights = [torch.nn.Parameter(torch.zeros(16, 3, 3, 3)) for _ in range(2)]
    muon = Muon(weights, 0.1)
    gradient = torch.randn(16, 3, 3, 3)
    weights[0].grad, weights[1].grad = gradient, gradient * 1000
    muon.step()
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-3, atol=1e-5)
    assert 0.05 < torch.linalg.matrix_norm(weights[0].flatten(1), 2) < 0.13


def test_schedules():
    def factors(steps, *at, **settings):
        return [rate_factor(ScheduleSettings(**settings), step, steps) for step in at]

    assert factors(100, 0, 99) == [1, 1]
    assert factors(100, 0, 49, 50, 80, kind="steps", milestones=(50, 80)) == [1, 1, 0.5, 0.25]
    assert factors(100, 0, 50, 100, kind="cosine", floor=0.2) == pytest.approx([1, 0.6, 0.2])
    assert factors(100, 0, 50, 75, kind="linear", milestones=(50,)) == [1, 1, 0.5]
    assert factors(100, 0, 4, 9, 20, warmup=10) == [0.1, 0.5, 1, 1]


def test_the_average_follows():
    network = torch.nn.BatchNorm2d(2)
    average = Average(network, 0.5)
    with torch.no_grad():
        network.weight.fill_(3)
        network.running_mean.fill_(7)
    average.follow(100)
    assert torch.equal(average.module.weight, torch.full((2,), 2.0))
    assert torch.equal(average.module.running_mean, torch.full((2,), 7.0))
    assert Average(network, 0).module is network


def test_png_is_what_pillow_reads(tmp_path):
    from PIL import Image

    column = torch.rand(2, 3, 5, 7)
    records.write_samples(tmp_path / "s" / "x.png", [column, column[:, :1]])
    with Image.open(tmp_path / "s" / "x.png") as picture:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert torch.equal(pixels[:, :5, :7], (column[0] * 255).round().byte())
    assert pixels.shape == (3, 18, 22)


def test_a_difference_is_named():
    old = {"a": [{"b": 1}], "workers": 1}
    assert loop.difference(old, {"a": [{"b": 1}], "workers": 2}) is None
    assert loop.difference(old, {"a": [{"b": 2}]}) == "a[0].b"
    assert loop.difference(old, {"a": []}) == "a"
