"""One dataclass says how a network is built and taught"""

from dataclasses import asdict, dataclass, fields

from fastcore.basics import patch
import torch
from torch import Tensor

from ion_ode.attention_odenet.constraints import Projection, make_constraint
from ion_ode.attention_odenet.field import FieldConfig
from ion_ode.attention_odenet.odenet import ODENet
from ion_ode.attention_odenet.pore_field import PoreODENet
from ion_ode.attention_odenet.stack import Ensemble
from ion_ode.core import InputError
from ion_ode.guard import typed
from ion_ode.data.curves import CurveSet
from ion_ode.dspmde.film import FILM_THICKNESS
from ion_ode.dspmde.prior import SLOTS, membrane_from_parameters, parameter_names
from ion_ode.training.optimise import Plan
from ion_ode.training.rivals import CNN1d, FullyConnected, UNet1d
from ion_ode.training.told import TOLD, describe, n_told

__all__ = [
    "ARCHITECTURES",
    "TrainConfig",
    "describe_members",
    "describe_curves",
    "build",
    "trainable_after_pretraining",
]


_LIMITS = {  # Least and most that makes sense
    "seed": (0, 1 << 62),
    "members": (1, 1000),
    "n_curves": (1, 10**8),
    "n_flux": (1, 10**4),
    "pretraining_batch": (1, 10**6),
    "batch": (1, 10**6),
    "frozen_layers": (0, 1000),
    "adapters": (0, 1000),
    "curriculum": (0, 10**9),
    "solver_steps": (1, 1000),
    "soft_weight": (0.0, 1e9),
    "replay": (0.0, 1e9),
    "film_thickness": (0.0, 1e-3),
}
_LOSSES = ("h", "R", "log passage")


@dataclass(frozen=True, repr=False)
class TrainConfig:
    "All that decides a training run."

    architecture: str = "odenet"  # One of ARCHITECTURES
    # What the field is made of; other architectures read its ions, width and context
    network: FieldConfig = FieldConfig(ions=SLOTS, context="feed+membrane", n_membrane=n_told(SLOTS, "entry"), width=32)
    told: str = "entry"  # What a network is told of the membrane, one of TOLD
    constraint: str = "equivalents"  # Name for make_constraint; "soft" for the penalty
    soft_weight: float = 10.0  # Weight of the soft penalty
    members: int = 2  # Networks of the ensemble, seeds seed, seed + 1, ...
    seed: int = 0  # First seed
    pretrained: bool = True  # Whether there is a pre-training
    family: str = "dspmde"  # Simulated membranes: "dspmde" (four parameters) or "dspmde+"
    n_curves: int = 4096  # Simulated curves
    n_flux: int = 16  # Fluxes a curve
    pretraining: Plan = Plan(1500, lr=4e-3, schedule="cosine")  # Optimisation on simulated curves
    pretraining_batch: int = 64  # Curves a step
    pretraining_loss: str = "R"  # "h" (Eq. 4 of the paper) or "R"
    # Pre-training steps over which the curves drawn grow from those with the fewest ions to all; 0: all from the start
    curriculum: int = 0
    finetuning: Plan = Plan(200, lr=1e-3)  # Optimisation on measurements
    batch: int = 32  # Measured states a step
    loss: str = "R"  # "h" (Eq. 5 of the paper), "R" or "log passage"
    replay: float = 0.0  # Weight of the loss on simulated curves while fine-tuning
    frozen_layers: int = 3  # Linear layers, counted from the input, that fine-tuning leaves alone
    adapters: int = (
        0  # Rank of what fine-tuning adds to every linear layer, which is then all that moves; 0: as frozen_layers says
    )
    resample: bool = True  # Draw targets from N(mu, sigma^2) at every step
    solver_steps: int = 4  # Tsitouras steps while training
    film_thickness: float = FILM_THICKNESS  # Assumed film of observed values [m]
    # How an ODENet is computed, equal to rounding: True by its fused path, else by compiled steps (a minute once a
    # shape); "auto": by its fused path, else compiled for 1000 steps or more; False: neither
    compiled: bool | str = "auto"

    def __post_init__(self):
        if isinstance(self.network, dict):
            object.__setattr__(self, "network", FieldConfig.from_dict(self.network))
        for name in ("pretraining", "finetuning"):
            if isinstance(getattr(self, name), dict):
                object.__setattr__(self, name, Plan(**getattr(self, name)))
        choices = {
            "told": TOLD,
            "compiled": (True, False, "auto"),
            "architecture": tuple(ARCHITECTURES),
            "loss": _LOSSES,
            "pretraining_loss": ("h", "R"),
            "family": ("dspmde", "dspmde+"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(map(str, allowed))}")
        for name, (least, most) in _LIMITS.items():
            if not least <= getattr(self, name) <= most:
                raise InputError(f"{name} is {getattr(self, name):g}; expected {least:g} to {most:g}")
        if self.finetuning.patience:
            raise InputError(
                "finetuning.patience arrived, which holds data back; measured compositions are too few for that, so "
                "give finetuning.steps instead"
            )
        if self.network.n_membrane != n_told(self.network.ions, self.told):
            raise InputError(
                f"the network takes {self.network.n_membrane} membrane features, but told={self.told!r} gives "
                f"{n_told(self.network.ions, self.told)}; set network.n_membrane to that"
            )

    @classmethod
    def paper(cls, **changes) -> "TrainConfig":
        "The published recipe, read literally."
        as_published = dict(
            network=FieldConfig.paper(ions=SLOTS, width=32),
            told="nothing",
            constraint="projection",
            pretraining=Plan(4000, lr=1e-3, clip=None),
            pretraining_batch=32,
            pretraining_loss="h",
            finetuning=Plan(1000, lr=1e-3, clip=None),
            batch=32,
            loss="h",
        )
        return cls(**(as_published | changes))

    def __repr__(self):
        of, network = self.network, f"{self.architecture} {'with' if self.network.attention else 'without'} attention"
        network += f", layers {of.width} wide, for {len(of.ions)} ions"
        told = f"told {'nothing' if self.told == 'nothing' else f'the {self.told}'} of the membrane"
        first = (
            f"pre-trained on {self.n_curves} {self.family} curves of {self.n_flux} fluxes (loss on "
            f"{self.pretraining_loss}, {self.pretraining})"
            if self.pretrained
            else "not pre-trained"
        )
        moves = (
            f"adapters of rank {self.adapters}"
            if self.adapters
            else f"the first {self.frozen_layers} layers frozen"
            if self.frozen_layers and self.pretrained
            else "all layers moving"
        )
        last = f"fine-tuned with {moves} (loss on {self.loss}, {self.finetuning})"
        last = last if self.finetuning.steps else "not fine-tuned"
        return f"{self.members} x {network}, {told}, constraint {self.constraint}; {first}; {last}"

    @classmethod
    def from_dict(cls, d: dict) -> "TrainConfig":
        "From plain values; an entry this version does not know is an error."
        return cls(**typed(cls, d, "the training configuration"))


@patch
def to_dict(self: TrainConfig) -> dict:
    "As plain values, for JSON."
    return {f.name: getattr(self, f.name) for f in fields(self)} | {
        "network": self.network.to_dict(),
        "pretraining": asdict(self.pretraining),
        "finetuning": asdict(self.finetuning),
    }


ARCHITECTURES = {
    "odenet": ODENet,
    "pore_odenet": PoreODENet,
    "fully_connected": FullyConnected,
    "cnn": CNN1d,
    "unet": UNet1d,
}


def describe_members(
    config: TrainConfig,  # Recipe
    parameters: Tensor,  # (member, parameter) membrane of each member, columns as `parameter_names(config.family)`
    c_feed: Tensor,  # (member, sample, ion) [mol/m³]
) -> Tensor | None:  # (member, sample, feature) float32; None if nothing is told
    "Each member's membrane facing each of its feeds."
    if config.told == "nothing":
        return None
    ions, (n, size, _) = config.network.ions, c_feed.shape
    names = parameter_names(config.family, ions)
    membrane = membrane_from_parameters(parameters.double().repeat_interleave(size, 0), names, ions)
    return describe(membrane, c_feed.double().flatten(0, 1), ions, config.told).view(n, size, -1).float()


def describe_curves(
    config: TrainConfig,  # Recipe
    curves: CurveSet,  # Simulated curves with their parameters
) -> Tensor | None:  # (curve, feature) float32
    "The membranes of simulated curves as their networks will be told."
    if config.told == "nothing":
        return None
    names = curves.meta["parameters"]
    some = lambda p, c: describe(membrane_from_parameters(p, names, curves.ions), c, curves.ions, config.told).float()
    return torch.cat(
        [some(p, c) for p, c in zip(curves.parameters.split(1 << 16), curves.c_feed.split(1 << 16), strict=True)]
    )


def build(
    config: TrainConfig,  # Recipe
    seeds,  # One seed a member
    constraints=None,  # One name a member; None: the recipe's for all
) -> Ensemble:  # Fresh networks
    "Untrained networks; a seed gives the same initial weights whatever the constraint."
    kinds = [config.constraint] * len(seeds) if constraints is None else constraints
    rules = [make_constraint(kind, config.soft_weight) for kind in kinds]
    named = lambda c: getattr(c, "name", type(c).__name__)
    if len({"projection" if isinstance(c, Projection) else named(c) for c in rules}) > 1:
        raise InputError(
            f"constraints {', '.join(dict.fromkeys(map(named, rules)))}: their networks cannot share a stack, which "
            f"computes its members by one rule; build an ensemble for each (none, soft and projection may share one)"
        )
    nets = []
    with torch.random.fork_rng(devices=[]):
        for seed, rule in zip(seeds, rules, strict=True):
            torch.manual_seed(seed)
            nets.append(ARCHITECTURES[config.architecture](config.network, rule))
    ensemble = Ensemble(nets)
    if isinstance(ensemble.skeleton, ODENet):
        ensemble.skeleton.n_steps = config.solver_steps
    return ensemble


def trainable_after_pretraining(
    ensemble: Ensemble,  # Networks
    frozen_layers: int,  # Linear layers that stay as they are, counted from the input
    pretrained,  # (member,) bool: members that were pre-trained; the others train whole
) -> dict[str, Tensor]:  # name -> (member,) bool
    "Which tensors may move: everything before and within the first layers is frozen in pre-trained members."
    free = ~torch.as_tensor(pretrained, dtype=torch.bool)
    number = lambda name: int(name.split("linears.")[1].split(".")[0]) if "linears." in name else -1
    return {k: free | torch.tensor(number(k) >= frozen_layers) for k in ensemble.params}
