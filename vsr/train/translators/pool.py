"""The replay buffer of made pictures.

Shrivastava et al. 2016, arXiv:1612.07828; CycleGAN keeps 50. A discriminator that also sees what
the generator made earlier does not swing with it.
"""

import torch
from torch import Tensor


class ReplayPool:
    """Keeps some of the pictures that pass through, and gives old ones in their place.

    Chance comes from torch's default generator on the CPU.

    Args:
        capacity: Pictures that are kept; 0 passes all through.
    """

    def __init__(self, capacity: int = 50) -> None:
        self.capacity = capacity
        self.kept: list[Tensor] = []

    def exchange(self, made: Tensor) -> Tensor:
        """Takes (N, C, H, W) and gives as many: each with even chance itself or an older one."""
        if self.capacity == 0:
            return made
        given: list[Tensor] = []
        for picture in made.detach():
            if len(self.kept) < self.capacity:
                self.kept.append(picture.clone())
                given.append(picture)
            elif torch.rand(()) < 0.5:
                place = int(torch.randint(self.capacity, ()))
                given.append(self.kept[place])
                self.kept[place] = picture.clone()
            else:
                given.append(picture)
        return torch.stack(given)

    def state_dict(self) -> dict[str, list[Tensor]]:
        """What is kept, for resuming."""
        return {"kept": [picture.cpu() for picture in self.kept]}

    def load_state_dict(self, state: dict[str, list[Tensor]], device: torch.device) -> None:
        """Takes up what `state_dict` gave."""
        self.kept = [picture.to(device) for picture in state["kept"]]
