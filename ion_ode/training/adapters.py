"""Fine-tuning that adds a product of two thin matrices to every linear layer (Hu et al. 2022, arXiv 2106.09685)"""

import torch
from torch import Tensor

from ion_ode.attention_odenet.stack import Ensemble
from ion_ode.training.optimise import Draws

__all__ = ["Adapted"]


class Adapted(Ensemble):
    "An ensemble whose linear layers each get a low-rank addition, the only thing that is trained."

    def __init__(
        self,
        base: Ensemble,  # Trained networks; left as they are
        rank: int,  # Columns of U, rows of V
        seeds,  # One a member, for V
    ):
        self.skeleton, self.buffers = base.skeleton, base.buffers
        self.base = {k: v.detach() for k, v in base.params.items()}
        self.params = {}
        for j, k in enumerate(k for k in self.base if "linears." in k and k.endswith("weight")):
            n, rows, columns = self.base[k].shape
            self.params[f"{k}.U"] = torch.zeros(n, rows, rank).requires_grad_()
            v = Draws(seeds, 100 + j, (rank, columns), "standard_normal", block=1)(0)
            self.params[f"{k}.V"] = (v / columns**0.5).requires_grad_()

    def to(self, device) -> "Adapted":
        "As of any ensemble."
        if device is not None:
            self.base = {k: v.to(device) for k, v in self.base.items()}
        return super().to(device)

    @property
    def weights(self) -> dict[str, Tensor]:
        "Base plus additions."
        added = {k: self.params[f"{k}.U"] @ self.params[f"{k}.V"] for k in self.base if f"{k}.U" in self.params}
        return {k: v + added[k] if k in added else v for k, v in self.base.items()}

    def merged(self) -> Ensemble:
        "An ordinary ensemble with the additions written into its weights."
        new = object.__new__(Ensemble)
        new.skeleton, new.buffers = self.skeleton, self.buffers
        new.params = {k: v.detach().clone().requires_grad_() for k, v in self.weights.items()}
        return new
