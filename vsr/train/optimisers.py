"""Optimisers and rates by a recipe's settings."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from vsr.train.muon import Muon
from vsr.train.settings import OptimiserSettings, ScheduleSettings


def optimiser(settings: OptimiserSettings, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Makes an optimiser; each of its groups remembers the settings' rate as `base`."""
    made: torch.optim.Optimizer
    rate, betas, eps, decay = settings.rate, settings.betas, settings.eps, settings.decay
    match settings.kind:
        case "adam":
            made = torch.optim.Adam(params, rate, betas, eps, decay)
        case "adamw":
            made = torch.optim.AdamW(params, rate, betas, eps, decay)
        case "muon":
            made = Muon(
                params,
                rate,
                rest=settings.rest,
                momentum=settings.momentum,
                betas=betas,
                eps=eps,
                weight_decay=decay,
            )
    for group in made.param_groups:
        group["base"] = group["lr"]
    return made


def set_rate(made: torch.optim.Optimizer, factor: float) -> None:
    """Sets every group's rate to a factor times its base."""
    for group in made.param_groups:
        group["lr"] = group["base"] * factor


def rate_factor(settings: ScheduleSettings, step: int, steps: int) -> float:
    """Factor of the learning rate.

    Args:
        settings: Of the schedule.
        step: From 0 to `steps` - 1.
        steps: Of the stage.

    Returns:
        From 0 to 1.
    """
    floor = settings.floor
    match settings.kind:
        case "constant":
            factor = 1.0
        case "steps":
            factor = settings.gamma ** sum(step >= milestone for milestone in settings.milestones)
        case "cosine":
            factor = floor + (1 - floor) * (1 + math.cos(math.pi * step / steps)) / 2
        case "linear":
            flat = settings.milestones[0] if settings.milestones else 0
            gone = max(0, step - flat) / max(1, steps - flat)
            factor = 1 - (1 - floor) * min(1.0, gone)
    return factor * min(1.0, (step + 1) / settings.warmup) if settings.warmup else factor
