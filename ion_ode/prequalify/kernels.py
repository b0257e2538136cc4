"""How alike two recipes are, and two monomers"""

from math import prod

import torch

from ion_ode.core import need
from ion_ode.prequalify.encoder import Encoder


def _likeness(
    encoder: Encoder,  # Fitted
    quantities: int = 1,  # Measured quantities that share it: their prior of a length counts once
) -> tuple[list, list]:  # Kernels of GPyTorch: numbers if there are any, categories, monomers; two of laboratories
    "How alike two recipes are in each respect, ln of a length about 0 by 1."
    k, Prior = need("gpytorch.kernels", "campaign"), need("gpytorch.priors", "campaign")
    categorical = need("botorch.models.kernels.categorical", "campaign").CategoricalKernel
    n, c = encoder.width
    wide = lambda: Prior.LogNormalPrior(quantities - 1.0, quantities**0.5)  # to the power of quantities: (0, 1)
    own = lambda kernel, at, *a: kernel(*a, active_dims=at, lengthscale_prior=wide())
    numbers = {"ard_num_dims": n, "active_dims": tuple(range(n)), "lengthscale_prior": wide()}
    parts = [k.MaternKernel(1.5, **numbers)] if n else []
    parts += [own(categorical, (n + i,)) for i in range(c)]
    at = n + c
    parts += [own(_monomer_kernel(), (at + i,), encoder, m.name) for i, m in enumerate(encoder.monomers)]
    labs = 2 * (len(encoder.state["laboratories"]) > 1)
    return parts, [own(categorical, (at + len(encoder.monomers),)) for _ in range(labs)]


def _recipe_kernel(
    encoder: Encoder,  # Fitted
    likeness: tuple | None = None,  # From `_likeness`, where quantities share it
):  # A kernel of GPyTorch over encoded recipes
    "Covariance of a quantity of two membranes (Eq. 6.4)."
    k = need("gpytorch.kernels", "campaign")
    Prior = need("gpytorch.priors", "campaign")
    height = lambda kernel: k.ScaleKernel(kernel, outputscale_prior=Prior.GammaPrior(2.0, 2.0))
    parts, labs = likeness or _likeness(encoder)
    n = encoder.width[0]
    total = height(prod(parts[1:], start=parts[0]))
    if len(parts) > (1 if n else 0) and n:  # what is common to a category or monomer, whatever the amounts
        total = total + height(prod(parts[2:], start=parts[1]))
    if n:  # ln of the height of what is linear most likely at -1, by 2; a variance beside it would say the same twice
        linear = k.LinearKernel(active_dims=tuple(range(n)))
        linear.initialize(variance=1.0).raw_variance.requires_grad_(False)
        total = total + k.ScaleKernel(linear, outputscale_prior=Prior.LogNormalPrior(3.0, 2.0))
    return total * labs[0] + height(labs[1]) if labs else total


def _monomer_kernel():
    "The kernel class of monomers, exp(-(1 - likeness) / length), made where GPyTorch is there."
    Kernel = need("gpytorch.kernels", "campaign").Kernel

    class MonomerKernel(Kernel):
        has_lengthscale = True

        def __init__(self, encoder, name, **kw):
            super().__init__(**kw)
            self.encoder, self.column = encoder, name

        def forward(self, x1, x2, diag=False, **_):
            codes = self.encoder.state["codes"][self.column]
            if getattr(self, "known", 0) != len(codes):
                self.known, self.table = len(codes), self.encoder.likeness(self.column)
            i, j = x1[..., 0].long(), x2[..., 0].long()
            s = self.table[i, j] if diag else self.table[i.unsqueeze(-1), j.unsqueeze(-2)]
            out = torch.exp(-(1 - s) / self.lengthscale.squeeze(-1) if diag else -(1 - s) / self.lengthscale)
            return out

    return MonomerKernel
