"""The task of a stage, made around the network that it trains."""

from torch import nn

from vsr.errors import UsageError
from vsr.train.networks import Plan
from vsr.train.recipe import Stage
from vsr.train.tasks._base import Task
from vsr.train.tasks.contrast import Contrast
from vsr.train.tasks.cycle import Cycle
from vsr.train.tasks.noise import Noise
from vsr.train.tasks.restore import Restore
from vsr.train.tasks.translate import Translate
from vsr.train.translators.noise import NoiseConfig


def make_task(stage: Stage, plan: Plan, network: nn.Module) -> Task:
    """Makes a task; further networks, such as discriminators, are drawn by torch's generator.

    Args:
        stage: Of the recipe.
        plan: Of the network.
        network: On its device; the task trains it in place.

    Raises:
        UsageError: The task does not go together with this network.
        CheckpointError: Weights of a loss that cannot be used.
    """
    if plan.spec is not None:
        kind = Contrast if stage.task == "contrast" else Restore
        return kind(network, plan.spec, stage)
    config = plan.config
    noisy = isinstance(config, NoiseConfig)
    if noisy != (stage.task == "noise"):
        name = plan.settings.architecture
        msg = f"the task {stage.task!r} cannot train {name!r}: 'noise' goes with 'noise' alone"
        raise UsageError(msg)
    if noisy and stage.gan is not None:
        return Noise(network, config, stage, stage.gan)
    if stage.task == "cycle" and stage.gan is not None:
        back = plan.build().to(next(network.parameters()).device)
        return Cycle(network, back, config.channels, stage, stage.gan)
    return Translate(network, config.channels, stage)
