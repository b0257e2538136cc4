"""Members of a stack share their arithmetic and nothing else"""

import copy
import functools
import threading
import warnings
from fastcore.basics import patch
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from ion_ode.attention_odenet.ode import tsit5_fixed, tsit5_step
from ion_ode.attention_odenet.odenet import ODENet, Rollout
from ion_ode.core import InputError, compile_or_eager

__all__ = ["CHUNK", "StackedForward", "Ensemble", "join"]


class _Method(nn.Module):
    "Lets functional_call run any function of a module."

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, function, *args):
        return function(self.model, *args)


CHUNK = 256  # Curves predicted at once: what they need at a time fits a processor's cache
_LOCK = threading.RLock()  # A stack puts the weights of its members into one network, which threads share


def _one_at_a_time(function):
    "A thread waits until another has its answer."

    @functools.wraps(function)
    def alone(*args, **options):
        with _LOCK:
            return function(*args, **options)

    return alone


class StackedForward:
    "Forward of many networks of one shape at once; their stacked weights are arguments, so it holds no state."

    def __init__(
        self,
        model: nn.Module,  # Any of them: an ODENet or a rival
        compiled: bool | str = False,  # True: fused where covered, else torch.compile (a minute); "fused", "step"
    ):
        self.base = _Method(copy.deepcopy(model).to("meta"))
        self.n_steps = getattr(model, "n_steps", None)
        self.compiled = bool(compiled) and isinstance(model, ODENet)
        self.work = model.work() if self.compiled and compiled != "step" else None
        if self.work is not None and self.work.library() is None:
            self.work = None
        self.fused = self.work is not None
        if compiled == "fused" and not self.fused:
            raise InputError(
                "the fused path does not cover this network, or could not be built here; use compiled=True"
            )
        if self.fused:  # a network to put the weights of all members into
            self.whole = copy.deepcopy(self.base.model)
            named = [k for k, _ in (*self.whole.named_parameters(), *self.whole.named_buffers())]
            self.owners = {k: (self.whole.get_submodule(k.rpartition(".")[0]), k.rpartition(".")[2]) for k in named}
        self.parts = self._start, self._step, self._end
        if self.compiled:
            self.parts = tuple(compile_or_eager(f, fullgraph=True) for f in self.parts)

    def __call__(
        self,
        params: dict[str, Tensor],  # From torch.func.stack_module_state, each (member, ...)
        buffers: dict[str, Tensor],  # The same
        c_feed: Tensor,  # (batch, ion) for all members, or (member, batch, ion)
        flux: Tensor,  # (batch, flux) or (member, batch, flux)
        membrane: Tensor | tuple | None = None,  # (batch, feature), (member, batch, feature), or what a set is told
        *,
        mask: Tensor | None = None,  # (batch, ion) or (member, batch, ion)
        n_steps: int | None = None,  # Steps, the models' own by default
        weights: Tensor | None = None,  # dense_weights, if kept, shaped like flux
    ) -> Tensor:  # (member, batch, flux, ion)
        "Permeate of every member."
        return self.solve(
            params, buffers, c_feed, flux, membrane, mask=mask, n_steps=n_steps, weights=weights, error=False
        ).h


@patch
def _every(self: StackedForward, params, buffers, function, *args, axes):
    "function(model, *args) of every member."

    def one(p, b, *args):
        state = {f"model.{n}": v for n, v in (p | b).items()}
        return functional_call(self.base, state, (function, *args))

    return vmap(one, in_dims=(0, 0, *axes))(params, buffers, *args)


@patch
def _fused(
    self: StackedForward, params, buffers, n, weights, error, c_feed, flux, membrane, mask
) -> tuple[Tensor, Tensor | None]:
    "As the start, the steps and the end, in one pass on the processor."
    members, given = len(next(iter(params.values()))), (c_feed, flux, membrane, mask)
    if any(_member_axis(x) == 0 for x in given):  # each member has curves of its own
        every = lambda x: x if isinstance(x, tuple | None) or x.dim() > 2 else x.expand(members, *x.shape)
        c_feed, flux, membrane, mask = map(every, given)

    for kind, values in (
        ("_parameters", params),
        ("_buffers", {k: v[0] for k, v in buffers.items()}),
    ):  # buffers that are read here are the same for all
        for k, v in values.items():
            getattr(self.owners[k][0], kind)[self.owners[k][1]] = v
    model = self.whole
    with torch.no_grad():
        dense = model.dense_weights(flux, n) if weights is None else weights.to(model.z.dtype)
    strength = buffers.get("constraint.strength", model.z.new_ones(members)).to(model.z.dtype)
    flux_max = flux.amax(-1, keepdim=True)
    feed, h, wrong = model.together(self.work, n, strength, dense, c_feed, flux_max, membrane, mask)
    if not error:
        return h, None
    wrong = model.constraint.spread(wrong, h.detach().abs().amax(-2), model._valences(feed), feed.mask)
    return h, torch.where(feed.mask, wrong / torch.where(feed.mask, feed.h_feed, 1.0), 0.0)


@patch
def _fits(self: StackedForward, *given) -> bool:
    "Whether the fused path can take these inputs: on the CPU, and nobody asks for their gradients."
    parts = [y for x in given for y in (x if isinstance(x, tuple) else (x,)) if y is not None]
    return self.fused and all(
        x.device.type == "cpu" and not (x.requires_grad and torch.is_grad_enabled()) for x in parts
    )


@patch
def _start(self: StackedForward, params, buffers, n, *given):
    def start(model, *given):
        static, y0, flux_max = model.start(*given)
        drives = model.drives(n, static, flux_max)
        return static, y0, drives, model.move(drives[0], y0, static)

    return self._every(params, buffers, start, *given, axes=map(_member_axis, given))


@patch
def _step(self: StackedForward, params, buffers, drives, y, k, h, static):
    def step(model, drives, y, k, static):
        return tsit5_step(lambda drive, y: model.move(drive, y, static), drives, y, k, h)

    return self._every(params, buffers, step, drives, y, k, static, axes=(0, 0, 0, 0))


@patch
def _end(self: StackedForward, params, buffers, n, error, y0, K, static, flux, weights):
    def end(model, y0, K, static, flux, weights):
        return model.end(y0, K, n, static, flux, weights, error)[: 1 + error]

    axes = (0, 0, 0, _member_axis(flux), _member_axis(weights, 3))
    return self._every(params, buffers, end, y0, K, static, flux, weights, axes=axes)


@patch
@_one_at_a_time
def solve(
    self: StackedForward,
    params,
    buffers,
    c_feed,
    flux,
    membrane=None,
    *,
    mask=None,
    n_steps=None,
    weights=None,
    error=True,
) -> Rollout:
    "As called, with the estimated error of every ion's rejection, (member, batch, ion), where the networks are ODEs."
    given = (c_feed, flux, membrane, mask)
    if self.n_steps is None:
        run = lambda model, *given: model(*given[:3], mask=given[3])
        return Rollout(self._every(params, buffers, run, *given, axes=map(_member_axis, given)), None, 0)
    n, (start, step, end) = n_steps or self.n_steps, self.parts
    if self._fits(*given, weights):
        return Rollout(*self._fused(params, buffers, n, weights, error, *given), n)
    static, y0, drives, k0 = start(params, buffers, n, c_feed, flux.amax(-1, keepdim=True), membrane, mask)
    if self.compiled and torch.is_grad_enabled():
        y0 = y0.detach().requires_grad_()  # as the states after it do, so that one compilation serves all steps
    h = y0.new_tensor(1 / n) if self.compiled else 1 / n
    one = lambda at, y, k, _: step(params, buffers, at, y, k.mT.contiguous().mT, h, static)
    _, K = tsit5_fixed(None, y0, n, drives, one, k0)
    return Rollout(*end(params, buffers, n, error, y0, K, static, flux, weights), *(() if error else (None,)), n)


@patch
@_one_at_a_time
@torch.no_grad()
def predict(
    self: StackedForward, params, buffers, c_feed, flux, membrane=None, *, n_steps=None, tol=1e-3, max_steps=64
) -> Rollout:
    "As solve, in chunks without gradients; curves with an estimated error above `tol` again in twice the steps."
    n, members, batch = n_steps or self.n_steps, len(next(iter(params.values()))), c_feed.shape[-2]
    fused = self._fits(c_feed, flux, membrane)
    size = max(CHUNK // members, 1) if self.compiled and not fused else CHUNK
    stacked, parts = fused or self.compiled and batch >= size, []
    for i in torch.arange(batch).split(size):
        all_of_it = (
            torch.cat([i, i[-1:].expand(size - len(i))]) if stacked and not fused else i
        )  # a compiled step knows one size
        given = [_some(x, all_of_it) for x in (c_feed, flux, membrane)]
        answer = self.solve(params, buffers, *given, n_steps=n) if stacked else self._alone(params, buffers, n, *given)
        parts.append([None if x is None else x[:, : len(i)] for x in answer[:2]])
    h = torch.cat([h for h, _ in parts], 1)
    if n is None:
        return Rollout(h, None, 0)
    error = torch.cat([e for _, e in parts], 1)
    hard = (~(error <= tol).all(-1).all(0)).nonzero().squeeze(1)
    if len(hard) and 2 * n <= max_steps:
        again = [_some(x, hard) for x in (c_feed, flux, membrane)]
        h[:, hard], error[:, hard], n = self.predict(
            params, buffers, *again, n_steps=2 * n, tol=tol, max_steps=max_steps
        )
    elif len(hard):
        warnings.warn(
            f"{len(hard)} curves may be off by {error.max().item():.2g} of a rejection after {n} steps, "
            f"more than {tol:.2g}; raise max_steps or use predict_reference",
            stacklevel=2,
        )
    return Rollout(h, error, n)


@patch
def _alone(self: StackedForward, params, buffers, n, *given):
    "Every member by itself, which is faster than together where a batch is large and nothing is compiled."
    run = lambda model, *given: Rollout(model(*given), None, 0) if n is None else model.solve(*given, n_steps=n)
    own = lambda m: [x if _member_axis(x) is None else x[m] for x in given]
    state = lambda m: {f"model.{k}": v[m] for k, v in (params | buffers).items()}
    answers = [functional_call(self.base, state(m), (run, *own(m))) for m in range(len(next(iter(params.values()))))]
    return [None if x[0] is None else torch.stack(x) for x in zip(*(a[:2] for a in answers), strict=True)]


def _some(x: Tensor | tuple | None, index: Tensor):
    "Some of the curves of an argument."
    return None if x is None else x.pick(index) if isinstance(x, tuple) else x[..., index, :]


def _member_axis(x: Tensor | tuple | None, shared: int = 2):
    "Axis of the members in an argument; None where all members share it, which then has no more than these axes."
    x = x[0] if isinstance(x, tuple) else x  # what a network of a set is told: by its valences, (batch, ion)
    return 0 if x is not None and x.dim() > shared else None


class Ensemble:
    "Networks of one shape with their weights stacked: evaluated together, trained together, never mixed."

    def __init__(
        self,
        members: list[nn.Module],  # Networks of one class and configuration
    ):
        self.skeleton = copy.deepcopy(members[0])
        self.params, self.buffers = stack_module_state(members)
        self.params = {k: v.detach().clone().requires_grad_() for k, v in self.params.items()}

    def __len__(self):
        return next(iter(self.params.values())).shape[0]

    @property
    def weights(self) -> dict[str, Tensor]:
        "What the networks compute with; here, what is trained."
        return self.params

    @_one_at_a_time
    def __call__(
        self,
        *args,  # What the network takes, tensors or tuples of them with a leading member axis; None passes through
    ) -> Tensor | tuple:  # (member, ...) its outputs
        "Outputs of all members, each on its own inputs (Eq. 4.1)."
        dims = tuple(None if a is None else 0 for a in args)
        run = lambda p, b, *a: functional_call(self.skeleton, (p, b), a)
        return vmap(run, in_dims=(0, 0, *dims), randomness="error")(self.weights, self.buffers, *args)


@patch
def member(
    self: Ensemble,
    m: int,  # Which one
) -> nn.Module:  # A network of its own
    "One member taken out."
    net = copy.deepcopy(self.skeleton)
    with torch.no_grad():
        for k, v in net.named_parameters():
            v.copy_(self.params[k][m])
    return net


@patch
def take(
    self: Ensemble,
    index,  # Members to keep, in order; one may be taken several times
) -> "Ensemble":  # Their copies
    "An ensemble of copies of some members."
    new = copy.copy(self)
    index = torch.as_tensor(index)
    new.params = {k: v.detach()[index].clone().requires_grad_() for k, v in self.params.items()}
    new.buffers = {k: v[index] for k, v in self.buffers.items()}
    return new


@patch
def to(
    self: Ensemble,
    device,  # As for torch.Tensor.to; None leaves everything where it is
) -> "Ensemble":  # Itself
    "Move weights and buffers; what is computed next is computed there."
    if device is not None:
        self.params = {k: v.detach().to(device).requires_grad_() for k, v in self.params.items()}
        self.buffers = {k: v.to(device) for k, v in self.buffers.items()}
    return self


@patch
def state(self: Ensemble) -> dict[str, Tensor]:
    "Weights by name, each (member, ...)."
    return {k: v.detach().clone() for k, v in self.params.items()}


@patch
def load_state(
    self: Ensemble,
    state: dict[str, Tensor],  # Weights by name
):
    "Put stored weights in; names and shapes must be these."
    want = {k: tuple(v.shape) for k, v in self.params.items()}
    have = {k: tuple(v.shape) for k, v in state.items()}
    if want != have:
        wrong = sorted(k for k in want.keys() | have.keys() if want.get(k) != have.get(k))[:3]
        said = "; ".join(f"{k}: expected {want.get(k, 'none')}, found {have.get(k, 'none')}" for k in wrong)
        raise InputError(
            f"the stored weights do not fit this network ({said}); use the configuration they were stored with"
        )
    with torch.no_grad():
        for k, v in self.params.items():
            v.copy_(state[k])


def join(
    ensembles: list[Ensemble],  # Ensembles of one shape
) -> Ensemble:  # One with all their members
    "Put ensembles of one shape side by side."
    new = copy.copy(ensembles[0])
    cat = lambda parts: {k: torch.cat([p[k].detach() for p in parts]) for k in parts[0]}
    new.params = {k: v.requires_grad_() for k, v in cat([e.params for e in ensembles]).items()}
    new.buffers = cat([e.buffers for e in ensembles])
    return new
