"""Cost of one training step of the attention ODENet: fixed steps against torchdiffeq, its adjoint, torchode and
diffrax.

    OMP_NUM_THREADS=1 python benchmarks/ode_training_step.py [--field slots|set] [--batch 32 256 4096] [--members 8]
        [--compile] [--device cuda] [--out FILE.json]

Every line solves the same field (default configuration, 8 ions, briefly trained on the pore model; 32 fluxes): that of
a slot for each ion, or that which all ions share (`set`, which is not written in JAX). A line reports the CPU time of
forward, backward and Adam, the least of repeated steps in one single-threaded process (whatever else runs on the
machine only adds to it), beside the error of the rejection that the solver makes (99th percentile over curves and ions,
against 64 steps in float64). torchdiffeq gets one flux grid for all curves, which suits it; everyone else gets the
curves' own fluxes. `floor` is the time that the field's matrix products alone would take at the rate this machine
reaches at best in a 256 x 64 x 64 product; of the set's, those of the ions that the feeds hold, 4.9 of eight in the
mean of 32. `saved` is what one network keeps for its backward pass, uncompiled, or at most on the fused path. At the
end of each batch size stands the ratio to the fastest peer that is as accurate. torchode and diffrax are run where they
are installed (pip install torchode diffrax).

With `--device cuda` the network, the feeds and every PyTorch line are on the GPU, the time is that of the wall between
two synchronisations, and a chunk holds 4,096 curves; the fused path and diffrax stay with the processor. The default
batches take some minutes there."""

import argparse
import copy
import functools
import importlib.util
import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torchdiffeq import odeint_adjoint  # noqa: E402

from ion_ode.attention_odenet.constraints import make_constraint  # noqa: E402
from ion_ode.attention_odenet.field import FieldConfig
from ion_ode.attention_odenet.fused import Work, tape_bytes  # noqa: E402
from ion_ode.attention_odenet.fused_set import SetWork  # noqa: E402
from ion_ode.attention_odenet.ode import warp_flux  # noqa: E402
from ion_ode.attention_odenet.odenet import ODENet, n_parameters
from ion_ode.attention_odenet.reference import solve_reference  # noqa: E402
from ion_ode.attention_odenet.set_field import SetODENet, tell_ions  # noqa: E402
from ion_ode.attention_odenet.stack import StackedForward  # noqa: E402
from ion_ode.core import LMH
from ion_ode.data.design import sample_feeds  # noqa: E402
from ion_ode.dspmde.solve import simulate  # noqa: E402
from ion_ode.store import atomic_write, provenance  # noqa: E402
from ion_ode.water.ions import IONS, ion_arrays  # noqa: E402

CHUNK = {"cpu": 256, "cuda": 4096}  # Curves at once on the fixed-step path; larger batches accumulate their gradients
STEPS = (2, 3, 4, 6, 8)
WAYS = {
    False: "",
    "fused": ", fused",
    "step": ", compiled",
}  # How StackedForward computes, and what the lines say of it
TOLERANCES = (1e-3, 1e-4, 1e-5)  # rtol and atol of solvers with error control
TARGETS = (1e-2, 1e-3)  # Errors of the rejection at which solvers are compared


def least(f, device="cpu", repeat=5, seconds=0.5):
    "Least seconds of f(), after one warm-up, over so many repetitions, or more where they are short."
    cuda = device == "cuda"
    clock, wait = (time.perf_counter, torch.cuda.synchronize) if cuda else (time.process_time, lambda: None)
    f()
    taken = []
    while len(taken) < repeat or sum(taken) < seconds:
        wait()
        start = clock()
        f()
        wait()
        taken.append(clock() - start)
    return min(taken)


def gemm_rate(device="cpu"):
    "Rate of a product of a chunk of curves with 64 x 64 [FLOP/s]."
    rows, n = CHUNK[device], 100
    a, b = torch.randn(rows, 64, device=device), torch.randn(64, 64, device=device)
    return n * 2 * rows * 64 * 64 / least(lambda: [a @ b for _ in range(n)], device)


def flop(model, c):
    "Arithmetic of the matrix products in one evaluation of the field for one curve, the mean over feeds."
    if isinstance(model, SetODENet):
        d, f = (c > 0).sum(1).double(), model.field
        layers = (f.state, f.query, f.key, f.value, *f.linears)
        each = 2 * d * sum(layer.weight.numel() for layer in layers) + 4 * d * d * f.config.width
        return round(each.mean().item())
    d, token = len(model.config.ions), model.field.encoder.width
    per_ion = model.field.encoder.state.in_features * token + 2 * token * token
    return 2 * (sum(layer.weight.numel() for layer in model.linears) + d * per_ion + 2 * d * d * token)


class Shared(SetODENet):
    "The field that all ions share, told of the eight where it is told of nothing."

    def start(self, c_feed, flux, membrane=None, mask=None):
        return super().start(c_feed, flux, tell_ions(IONS) if membrane is None else membrane, mask)

    def given(self, n_steps, c_feed, flux_max, told=None, mask=None):
        return super().given(n_steps, c_feed, flux_max, tell_ions(IONS) if told is None else told, mask)


def network(field):
    """A network of the default configuration after 300 short steps towards the pore model: its curves are as steep as
    real ones."""
    torch.manual_seed(0)
    model = Shared() if field == "set" else ODENet(FieldConfig(), make_constraint("equivalents"), n_steps=4)
    model.n_steps = 4
    c = sample_feeds(256, 11, ions=IONS, equivalents=(2.0, 200.0))
    flux, _ = warp_flux(
        torch.linspace(0.05, 1, 16, dtype=torch.float64), torch.full((256, 1), 4e-5, dtype=torch.float64)
    )
    truth = torch.where(c[:, None] > 0, simulate(c, flux, ions=IONS).c_perm / c[:, None], 0.0).float()
    with torch.no_grad():
        as_ratio = model.start(c, flux)[0].inverse.T[:, None]
    kept, draw = model.dense_weights(flux), torch.Generator().manual_seed(0)
    adam = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(300):
        i = torch.randint(len(c), (32,), generator=draw)
        loss = (model(c[i], flux[i], weights=kept[i]) * as_ratio[i] - truth[i]).square().mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
    return model


class Case:
    "One batch: feeds, fluxes of each curve's own and one grid for all, and the exact answers."

    def __init__(self, batch, model, device="cpu"):
        self.chunk = CHUNK[device]
        self.c = sample_feeds(batch, 3, ions=IONS, equivalents=(2.0, 200.0))
        generator = torch.Generator().manual_seed(0)
        self.own = 5 * LMH + 150 * LMH * torch.rand(batch, 32, dtype=torch.float64, generator=generator)
        self.grid = self.own[:1].sort(1).values.expand(batch, -1)
        double = copy.deepcopy(model).cpu().double()
        charge = (self.c * ion_arrays(IONS).z.abs()).sum(1, keepdim=True)
        scale = torch.where(self.c > 0, self.c / charge, torch.inf)
        self.scale, self.present = scale[:, None], (self.c > 0)[:, None].expand(batch, 32, len(IONS))
        with torch.no_grad():
            solve = lambda j: torch.cat(
                [double(*part, n_steps=64) for part in zip(self.c.split(256), j.split(256), strict=True)]
            )
            exact = [solve(j) for j in (self.own, self.grid)]
        self.c, self.own, self.grid = (v.to(device) for v in (self.c, self.own, self.grid))
        self.exact = dict(zip((id(self.own), id(self.grid)), exact, strict=True))

    def error(self, h, flux):
        "99th percentile of the error of the rejection."
        wrong = ((torch.as_tensor(h).cpu().double() - self.exact[id(flux)]).abs() / self.scale)[self.present]
        return float(wrong.kthvalue(max(1, int(0.99 * len(wrong)))).values)


def torch_step(parameters, parts):
    "Forward, loss, backward of every part and one Adam step, so small that the network stays what it is."
    adam = torch.optim.Adam(parameters, 1e-9, fused=True)

    def step():
        adam.zero_grad()
        for forward in parts:
            forward().square().sum().backward()
        adam.step()

    return step


def saved_bytes(forward, parameters):
    "What a forward pass keeps for its backward pass, parameters and inputs of the data set apart."
    own, kept = {p.untyped_storage().data_ptr() for p in parameters}, {}

    def pack(x):
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        h = forward()
    del h
    return sum(kept.values())


def covered(model):
    "Whether the fused path knows the field, the processor holds it, and this machine can build it."
    work = model.work()
    return work is not None and next(model.parameters()).device.type == "cpu" and work.library() is not None


def ours(model, case, o):
    "name, parts (functions from nothing to h), parameters, members, evaluations of the field."
    chunks = list(zip(case.c.split(case.chunk), case.own.split(case.chunk), strict=True))
    for n in STEPS:
        kept = [model.dense_weights(j, n) for _, j in chunks]
        parts = [
            lambda n=n, c=c, j=j, w=w: model(c, j, n_steps=n, weights=w) for (c, j), w in zip(chunks, kept, strict=True)
        ]
        yield f"fixed {n}", parts, list(model.parameters()), 1, 6 * n + 1
    for members in dict.fromkeys((1, o.members)):
        params, buffers = torch.func.stack_module_state([model] * members)
        params = {k: torch.nn.Parameter(v.detach()) for k, v in params.items()}
        for compiled in list(WAYS)[: 3 if o.compile else 2]:
            if (members == 1 and not compiled) or (compiled == "fused" and not covered(model)):
                continue  # that is the line above, or there is no such path
            stack = StackedForward(model, compiled=compiled)
            for n in (4, 6):
                kept = [model.dense_weights(j, n) for _, j in chunks]
                parts = [
                    lambda n=n, c=c, j=j, w=w, stack=stack, params=params, buffers=buffers: stack(
                        params, buffers, c, j, n_steps=n, weights=w
                    )
                    for (c, j), w in zip(chunks, kept, strict=True)
                ]
                name = f"fixed {n}" + (f", {members} stacked" if members > 1 else "") + WAYS[compiled]
                yield name, parts, list(params.values()), members, 6 * n + 1


def peers(model, case):
    "As ours, for solvers with error control, and the fluxes that suit them."
    parameters = list(model.parameters())
    for tol in TOLERANCES:
        for method in ("dopri5", "tsit5_54"):
            run = lambda method=method, tol=tol: model.predict_reference(
                case.c, case.grid, rtol=tol, atol=tol, method=method
            )
            yield f"torchdiffeq {method} {tol:.0e}", run, parameters, count(model, run), case.grid
    for tol in (1e-3,):
        run = lambda tol=tol: by_adjoint(model, case, tol)
        yield f"torchdiffeq odeint_adjoint dopri5 {tol:.0e}", run, parameters, count(model, run), case.grid
    if importlib.util.find_spec("torchode"):
        for tol in TOLERANCES:
            run = lambda tol=tol: by_torchode(model, case, tol)
            yield f"torchode tsit5 {tol:.0e}", run, parameters, count(model, run), case.own


def count(model, run):
    "Evaluations of the field in one forward."
    plain, calls = model.rate, []
    model.rate = lambda *a: calls.append(1) or plain(*a)
    with torch.no_grad():
        run()
    del model.rate
    return len(calls)


def by_adjoint(model, case, tol):
    static, y0, flux_max = model.start(case.c, case.grid)
    needed = tuple(p for p in (*model.parameters(), *static) if isinstance(p, torch.Tensor) and p.requires_grad)
    solver = functools.partial(odeint_adjoint, adjoint_params=needed)
    field = lambda s, y: model.rate(s, y, static, flux_max)
    return model.finish(
        solve_reference(field, y0, model.position(case.grid), rtol=tol, atol=tol, method="dopri5", solver=solver),
        static,
    )


def by_torchode(model, case, tol):
    import torchode

    static, y0, flux_max = model.start(case.c, case.own)
    term = torchode.ODETerm(lambda s, y: model.rate(s[:, None], y, static, flux_max))
    solver = torchode.AutoDiffAdjoint(
        torchode.Tsit5(term=term), torchode.IntegralController(atol=tol, rtol=tol, term=term)
    )
    order = model.position(case.own).argsort(1)
    s = torch.cat([torch.zeros(len(case.c), 1), model.position(case.own).gather(1, order)], 1)
    y = solver.solve(torchode.InitialValueProblem(y0=y0, t_eval=s)).ys[:, 1:]
    back = order.argsort(1)[..., None].expand(-1, -1, y.shape[-1])
    return model.finish(y.gather(1, back), static)


def diffrax_lines(model, case):
    """name, training step, forward, evaluations: the same field written in JAX, by diffrax's Tsit5, one step size a
    curve."""
    import diffrax
    import jax
    import jax.numpy as jnp

    e, cfg = model.field.encoder, model.config
    params = {k: jnp.asarray(v.detach().numpy()) for k, v in model.named_parameters()}
    z, features = jnp.asarray(e.z.numpy()), jnp.asarray(e.features.numpy())
    c, position = jnp.asarray(case.c.float().numpy()), jnp.asarray(model.position(case.own).numpy())
    span = jnp.log1p(jnp.asarray(case.own.amax(1).float().numpy()) / cfg.flux_ref)
    order = jnp.argsort(position, 1)
    ts, back = jnp.take_along_axis(position, order, 1), jnp.argsort(order, 1)
    low = -1e30

    def start(p, c):
        mask = c > 0
        scale = (c * jnp.abs(z)).sum()
        h = c / scale
        share = 2 * jnp.abs(z) * h
        kappa = jnp.stack([share, jnp.log(jnp.where(mask, share, 1.0)) / 4], -1)
        at = "field.encoder."
        tokens = (
            p[at + "embedding"]
            + features @ p[at + "physical.weight"].T
            + p[at + "state.bias"]
            + kappa @ p[at + "feed.weight"].T
        )
        y0 = jnp.append(jnp.log(jnp.where(mask, h * jnp.abs(z), 1.0)), jnp.log((h * jnp.abs(z)).sum() / 2))
        return mask, h, share, jnp.where(mask[:, None], tokens, 0.0), jnp.log(scale / 20) / 2, y0

    def decode(y, mask):
        shares = 0.0
        for present in (mask & (z > 0), mask & (z < 0)):
            shares = shares + jax.nn.softmax(jnp.where(present, y[:-1], low)) * present
        return jnp.exp(jnp.minimum(y[-1], 6.0)) * shares / jnp.abs(z), shares

    def rate(s, y, args):
        p, (mask, h_feed, share, static, context, _), span = args
        h, shares = decode(y, mask)
        r = jnp.where(mask, h / jnp.where(mask, h_feed, 1.0), 0.0)
        at = "field.encoder."
        t = static + jnp.stack([r, jnp.arcsinh(50 * r) / 5, r * share], -1) @ p[at + "state.weight"].T
        logits = (t @ p[at + "query.weight"].T) @ (t @ p[at + "key.weight"].T).T / np.sqrt(cfg.d_k)
        w = jax.nn.softmax(jnp.where(mask, logits, low), -1)
        t = (t + w @ (t @ p[at + "value.weight"].T)) * mask[:, None]
        u = span * s
        x = jnp.concatenate([t.ravel(), jnp.stack([u / 6, jnp.expm1(u) / 500, context])])
        for i in range(cfg.depth):
            x = p[f"field.linears.{i}.weight"] @ x + p[f"field.linears.{i}.bias"]
            x = jnp.tanh(x) if i < cfg.depth - 1 else x
        g = x * mask
        return jnp.append(g, (shares * g).sum()) * span

    def solve(p, tol):
        def one(c, ts, span):
            st = start(p, c)
            control = diffrax.PIDController(rtol=tol, atol=tol)
            term, save = diffrax.ODETerm(rate), diffrax.SaveAt(ts=ts)
            found = diffrax.diffeqsolve(
                term,
                diffrax.Tsit5(),
                0.0,
                1.0,
                0.02,
                st[-1],
                (p, st, span),
                saveat=save,
                stepsize_controller=control,
                max_steps=256,
            )
            return jax.vmap(lambda y: decode(y, st[0])[0])(found.ys), found.stats["num_steps"]

        h, steps = jax.vmap(one)(c, ts, span)
        return jnp.take_along_axis(h, back[..., None], 1), steps

    def adam(state, g):
        tree, (p, m, v, n) = jax.tree_util.tree_map, state
        m, v, n = tree(lambda m, g: 0.9 * m + 0.1 * g, m, g), tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, g), n + 1
        move = lambda p, m, v: p - 1e-9 * (m / (1 - 0.9**n)) / (jnp.sqrt(v / (1 - 0.999**n)) + 1e-8)
        return tree(move, p, m, v), m, v, n

    zero = jax.tree_util.tree_map(jnp.zeros_like, params)
    for tol in TOLERANCES:
        train = jax.jit(lambda state, tol=tol: adam(state, jax.grad(lambda p: (solve(p, tol)[0] ** 2).sum())(state[0])))
        forward = jax.jit(lambda p, tol=tol: solve(p, tol))
        h, steps = forward(params)
        step = lambda train=train: jax.block_until_ready(train((params, zero, zero, 0)))
        yield f"diffrax tsit5 {tol:.0e}", step, np.asarray(h), 6 * int(steps.max()) + 1


def measure(batch, model, o, rate):
    "Rows of one batch size, given the rate of matrix products."
    rows, case = [], Case(batch, model, o.device)
    work = flop(model, case.c)

    def line(name, step, error, members, evaluations, peer, saved=None):
        ms = 1e3 * least(step, o.device, o.repeat) / members
        floor = 1e3 * 3 * work * batch * evaluations / rate
        row = dict(
            batch=batch,
            members=members,
            solver=name,
            peer=peer,
            ms=ms,
            floor_ms=floor,
            evaluations=evaluations,
            error=error,
        )
        rows.append(row | ({} if saved is None else {"saved_MiB": saved / 2**20 / members}))
        memory = "" if saved is None else f"{saved / 2**20 / members:8.1f}"
        print(
            f"{batch:6d} {members:7d}  {name:40} {ms:9.2f} {evaluations:5d} {ms / floor:8.1f} {error:10.1e} {memory}",
            flush=True,
        )

    for name, parts, parameters, members, evaluations in ours(model, case, o):
        h = torch.cat([part().detach() for part in parts], dim=-3)
        saved = None if "compiled" in name else saved_bytes(parts[0], parameters)
        if "fused" in name:
            kept = tape_bytes if isinstance(model.work(), Work) else SetWork.tape_bytes
            saved = kept(model.work(), evaluations // 6, min(batch, case.chunk), 32, members)
        line(name, torch_step(parameters, parts), case.error(h[0] if h.dim() == 4 else h,
            case.own), members, evaluations, False, saved)
    for name, run, parameters, evaluations, flux in peers(model, case):
        if batch > 1024 and ("1e-05" in name or "adjoint" in name):
            continue  # minutes
        with torch.no_grad():
            error = case.error(run(), flux)
        line(name, torch_step(parameters, [run]), error, 1, evaluations, True, saved_bytes(run, parameters))
    if importlib.util.find_spec("diffrax") and type(model) is ODENet and o.device == "cpu":
        for name, step, h, evaluations in diffrax_lines(model, case):
            if batch <= 1024 or "1e-05" not in name:
                line(name, step, case.error(h, case.own), 1, evaluations, True)
    for name in ("torchode", "diffrax"):
        if importlib.util.find_spec(name) is None:
            print(f"{batch:6d} {'':7}  {name}: not installed")
    for target in TARGETS:
        good = sorted((r for r in rows if r.get("error", 1.0) <= target), key=lambda r: r["ms"])
        theirs = next((r for r in good if r["peer"]), None)
        stacked = next((r for r in good if not r["peer"]), None)
        solo = next((r for r in good if not r["peer"] and r["members"] == 1), None)
        if theirs and solo:
            row = dict(batch=batch, target=target, best_peer=theirs["solver"], solo=theirs["ms"] / solo["ms"],
                stacked=theirs["ms"] / stacked["ms"])
            rows.append(row)
            print(f"{batch:6d} error of R <= {target:.0e}: {row['solo']:.1f} times faster than {theirs['solver']} "
                  f"alone ({solo['solver']}), {row['stacked']:.1f} times in a stack ({stacked['solver']})")
    print()
    return rows


def predictions(model, n, o):
    "Curves a second that one core predicts."
    params, buffers = torch.func.stack_module_state([model])
    rows, c = [], sample_feeds(n, 4, ions=IONS, equivalents=(2.0, 200.0)).float()
    flux = 5 * LMH + 150 * LMH * torch.rand(n, 32, generator=torch.Generator().manual_seed(1))
    given = c.to(o.device), flux.to(o.device)
    for compiled in list(WAYS)[: 3 if o.compile else 2]:
        if compiled == "fused" and not covered(model):
            continue
        stack = StackedForward(model, compiled=compiled)
        for steps in (4, 8):
            run = lambda stack=stack, steps=steps: stack.predict(params, buffers, *given, n_steps=steps, tol=torch.inf)
            speed = n / least(run, o.device, o.repeat)
            name = f"prediction, fixed {steps}" + WAYS[compiled]
            rows.append(dict(batch=n, members=1, solver=name, curves_per_second=speed))
            print(f"{n:6d} {1:7d}  {name:40} {speed:9,.0f} curves of 32 fluxes a second and core")
    return rows


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--field", choices=("slots", "set"), default="slots")
    arguments.add_argument("--batch", type=int, nargs="+", default=[32, 256])
    arguments.add_argument("--members", type=int, default=8)
    arguments.add_argument("--device", choices=tuple(CHUNK), default="cpu")
    arguments.add_argument("--repeat", type=int, default=5)
    arguments.add_argument("--compile", action="store_true",
        help="also the step compiled by torch.compile (a minute or two the first time)")
    arguments.add_argument("--out", help="write the rows as JSON")
    o = arguments.parse_args()
    if o.device == "cuda" and not torch.cuda.is_available():
        arguments.error("this PyTorch sees no GPU; leave --device out, or install a build for your driver")
    torch.set_num_threads(1)
    rate, model = gemm_rate(o.device), network(o.field).to(o.device)
    print(f"{n_parameters(model)} parameters; matrix product at {rate / 1e9:.0f} GFLOP/s\n")
    print(f"{'batch':>6} {'members':>7}  {'solver':40} {'ms/step':>9} {'NFE':>5} {'x floor':>8} {'error of R':>10} "
          f"{'saved MiB':>8}", flush=True)
    rows = []
    for batch in o.batch:
        rate = max(rate, gemm_rate(o.device))
        rows += measure(batch, model, o, rate)
        if batch == max(o.batch):
            rows += predictions(model, max(batch, CHUNK[o.device]), o)
        if o.out:
            facts = provenance(device=o.device, field=o.field, compile=o.compile, processor=processor())
            atomic_write(o.out, json.dumps({"rows": rows, "gemm_flops": rate} | facts, indent=1))


def processor():
    "Model name of the processor, where the system tells it."
    try:
        with open("/proc/cpuinfo") as f:
            return next(line.split(":")[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return "not known"


if __name__ == "__main__":
    main()
