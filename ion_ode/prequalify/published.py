"""The network of Zhang and Luo (arXiv 2011.07200): 444 numbers of two molecules, multiplied by distortions"""

import numpy as np
import pandas as pd
import torch
from torch import nn

from ion_ode.prequalify.augment import DISTORTIONS, distort


def _published_net(
    generator: torch.Generator,  # Seed of the weights
) -> nn.Sequential:  # 444 -> 100 -> 20 -> 1
    "The network of arXiv 2011.07200."
    net = nn.Sequential(nn.Linear(444, 100), nn.ReLU6(), nn.Linear(100, 20), nn.ReLU6(), nn.Linear(20, 1))
    for m in net:
        if isinstance(m, nn.Linear):
            nn.init.xavier_uniform_(m.weight, generator=generator)
            nn.init.zeros_(m.bias)
    return net


def _layout_copies(
    d: pd.DataFrame,  # Recipes
    process: np.ndarray,  # (n, 4) scaled process inputs
    kinds: tuple[str, ...] = DISTORTIONS,  # Distortions
    copies: int = 50,  # Copies of a membrane
    seed: int = 0,  # Seed of the distortions
) -> torch.Tensor:  # (n, copies, 444) float32, scaled
    "Distorted copies of every membrane, scaled for the network."
    scale = np.concatenate([np.tile([0.1, 1 / 3, 1 / 3, 1 / 3], 110), np.ones(4)])
    out = np.empty((len(d), copies, 444), dtype=np.float32)
    for i, (a, c) in enumerate(zip(d.amine_1_smiles, d.acyl_smiles, strict=True)):
        out[i] = distort(a or None, c or None, process[i], kinds=kinds, n=copies, seed=seed * 100_003 + i) * scale
    return torch.from_numpy(out)


def _mean_and_spread(
    p: np.ndarray,  # (n, 4), NaN where not stated
) -> tuple[np.ndarray, np.ndarray]:  # Zero and one for a column that is never stated or never varies
    "Scaling of the process inputs."
    known = np.isfinite(p)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, p, 0).sum(0) / count
    sd = np.sqrt(np.where(known, (p - mean) ** 2, 0).sum(0) / count)
    return mean, np.where(sd > 1e-9, sd, 1.0)


class PublishedModel:
    "The published network on its augmented copies: Adam, batches of 200, step decay, as the authors' code has it."

    def __init__(
        self,
        process,  # Recipes -> (n, 4), what the four process slots hold
        kinds=DISTORTIONS,  # Distortions of the training copies
        copies: int = 30,  # Copies of a membrane
        steps: int = 600,  # Batches of 200 copies
        seed: int = 0,
    ):
        self.process, self.kinds, self.copies, self.steps, self.seed = process, kinds, copies, steps, seed

    def inputs(self, d: pd.DataFrame, copies: int, seed: int) -> torch.Tensor:  # (n, copies, 444)
        "Copies of recipes, scaled with what `fit` has seen."
        p = np.nan_to_num((self.process(d) - self.mean) / self.sd)
        return _layout_copies(d, p, self.kinds, copies, seed)

    def fit(self, d: pd.DataFrame, y: np.ndarray) -> "PublishedModel":
        "Train on copies of the recipes d with targets y (n,)."
        self.mean, self.sd = _mean_and_spread(self.process(d))
        x = self.inputs(d, self.copies if self.kinds else 1, self.seed + 1)
        self.y_mean, self.y_sd = np.mean(y), np.std(y)
        target = torch.tensor((y - self.y_mean) / self.y_sd, dtype=torch.float32)
        g = torch.Generator().manual_seed(1000 * self.seed)
        self.net = _published_net(g)
        optimiser = torch.optim.Adam(self.net.parameters(), lr=1e-3, weight_decay=1e-3)
        decay = torch.optim.lr_scheduler.StepLR(optimiser, 100, 0.98)
        for _ in range(self.steps):
            i = torch.randint(len(x), (200,), generator=g)
            j = torch.randint(x.shape[1], (200,), generator=g)
            loss = ((self.net(x[i, j])[:, 0] - target[i]) ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            decay.step()
        return self

    def predict(self, d: pd.DataFrame, copies: int = 20) -> np.ndarray:  # (n,)
        "One value a membrane: the mean over its distorted copies."
        x = self.inputs(d, copies if self.kinds else 1, self.seed + 3)
        with torch.no_grad():
            p = self.net(x.reshape(-1, 444)).reshape(x.shape[:2]).mean(1).numpy()
        return p * self.y_sd + self.y_mean
