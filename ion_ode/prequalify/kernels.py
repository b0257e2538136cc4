"""How alike two recipes are, and two monomers"""

import torch

from ion_ode.core import need
from ion_ode.prequalify.encoder import Encoder


def _recipe_kernel(
    encoder: Encoder,  # Fitted
):  # A kernel of GPyTorch over encoded recipes
    "Likeness of two membranes (Eq. 6.4)."
    k = need("gpytorch.kernels", "campaign")
    Prior = need("gpytorch.priors", "campaign")
    categorical = need("botorch.models.kernels.categorical", "campaign").CategoricalKernel
    n, c = encoder.width
    wide = lambda: Prior.LogNormalPrior(0.0, 1.0)
    height = lambda kernel: k.ScaleKernel(kernel, outputscale_prior=Prior.GammaPrior(2.0, 2.0))
    numbers, at = tuple(range(n)), n
    parts = [k.MaternKernel(nu=1.5, ard_num_dims=n, active_dims=numbers, lengthscale_prior=wide())] if n else []
    for _ in range(c):
        parts.append(categorical(active_dims=(at,), lengthscale_prior=wide()))
        at += 1
    for m in encoder.monomers:
        parts.append(_monomer_kernel()(encoder, m.name, active_dims=(at,), lengthscale_prior=wide()))
        at += 1
    product = parts[0]
    for p in parts[1:]:
        product = product * p
    total = height(product)
    if len(parts) > (1 if n else 0) and n:  # what is common to a category or monomer, whatever the amounts
        common = parts[1]
        for p in parts[2:]:
            common = common * p
        total = total + height(common)
    if n:
        total = total + height(k.LinearKernel(active_dims=numbers))
    if len(encoder.state["laboratories"]) > 1:
        own = lambda: categorical(active_dims=(at,), lengthscale_prior=wide())
        total = total * own() + height(own())
    return total


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
