"""Cost of one training step of the attention ODENet: fixed steps against torchdiffeq and, where installed, torchode.

    OMP_NUM_THREADS=1 python benchmarks/ode_training_step.py [--batch 32 256] [--members 8] [--compile] [--out FILE.json]

Every line solves the same field (default configuration, 8 ions, 32 fluxes of each curve's own) and reports the CPU time of forward,
backward and Adam, the median of repeated steps in one single-threaded process, beside the error of the rejection that the solver
makes (99th percentile over curves and ions, against 64 steps in float64). `floor` is the time that the linear layers alone would
take at the measured rate of this machine's matrix product; the ratio to it is printed.
"""

import argparse
import copy
import importlib.util
import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from ion_ode.attention_odenet import FieldConfig, ODENet, StackedForward, n_parameters  # noqa: E402
from ion_ode.constraints import make_constraint  # noqa: E402
from ion_ode.core import LMH, atomic_write, provenance  # noqa: E402
from ion_ode.ions import IONS  # noqa: E402
from ion_ode.simulated import sample_feeds  # noqa: E402


def cpu(f, repeat=5):
    "Median CPU seconds of f(), after one warm-up."
    f()
    taken = []
    for _ in range(repeat):
        start = time.process_time()
        f()
        taken.append(time.process_time() - start)
    return float(np.median(taken))


def gemm_rate():
    "Multiply-add rate of a 256 x 64 x 64 product [FLOP/s]."
    a, b = torch.randn(256, 64), torch.randn(64, 64)
    n = 500
    return n * 2 * 256 * 64 * 64 / cpu(lambda: [a @ b for _ in range(n)], 3)


def network(seed=0):
    "A network whose curves look like real ones: untrained, with a last layer that retains most of the salt."
    torch.manual_seed(seed)
    model = ODENet(FieldConfig(), make_constraint("equivalents"), n_steps=4)
    with torch.no_grad():
        model.linears[-1].weight.mul_(10)
        model.linears[-1].bias.fill_(-0.4)
    return model


def step_of(parameters, forward, target):
    adam = torch.optim.Adam(parameters, 1e-9)  # so small that the network stays what it is

    def step():
        adam.zero_grad()
        (forward() - target).square().sum().backward()
        adam.step()

    return step


def solver_options(model, models, c, flux, shared, n_members, with_compile):
    "name, forward, parameters, fluxes, members, evaluations of the field; every forward solves the same equation."
    for n in (4, 6, 8):
        kept = model.dense_weights(flux, n)
        run = lambda n=n, kept=kept: model(c, flux, n_steps=n, weights=kept)
        yield f"fixed {n}, own fluxes", run, list(model.parameters()), flux, 1, 6 * n + 1
    params, buffers = torch.func.stack_module_state(models)
    params = {k: torch.nn.Parameter(v.detach()) for k, v in params.items()}
    kept = model.dense_weights(flux, 4)
    for compiled in (False, True) if with_compile else (False,):
        stack = StackedForward(model, compiled=compiled)
        run = lambda stack=stack: stack(params, buffers, c, flux, weights=kept)
        yield "fixed 4, stacked" + (", compiled" if compiled else ""), run, list(params.values()), flux, n_members, 25
    for method in ("tsit5_54", "dopri5"):
        for tol in (1e-3, 1e-5):
            run = lambda method=method, tol=tol: model.predict_reference(c, shared, rtol=tol, atol=tol, method=method)
            yield f"torchdiffeq {method} {tol:.0e}, one grid", run, list(model.parameters()), shared, 1, count(model, run)
    if importlib.util.find_spec("torchode"):
        for tol in (1e-3, 1e-5):
            run = lambda tol=tol: by_torchode(model, c, flux, tol)
            yield f"torchode tsit5 {tol:.0e}, own fluxes", run, list(model.parameters()), flux, 1, count(model, run)


def count(model, run):
    "Evaluations of the field in one forward."
    plain, calls = model.rate, []
    model.rate = lambda *a: calls.append(1) or plain(*a)
    with torch.no_grad():
        run()
    del model.rate
    return len(calls)


def by_torchode(model, c, flux, tol):
    import torchode

    static, y0, flux_max = model.start(c, flux)
    term = torchode.ODETerm(lambda s, y: model.rate(s[:, None], y, static, flux_max))
    solver = torchode.AutoDiffAdjoint(torchode.Tsit5(term=term), torchode.IntegralController(atol=tol, rtol=tol, term=term))
    order = model.position(flux).argsort(1)
    s = torch.cat([torch.zeros(len(c), 1), model.position(flux).gather(1, order)], 1)
    y = solver.solve(torchode.InitialValueProblem(y0=y0, t_eval=s)).ys[:, 1:]
    back = order.argsort(1)[..., None].expand(-1, -1, y.shape[-1])
    return model.finish(y.gather(1, back), static)


def measure(batch, model, rate, o):
    "Rows of one batch size."
    rows = []
    weights = sum(p.numel() for p in model.linears.parameters())
    c = sample_feeds(batch, 3, ions=IONS, equivalents=(2.0, 200.0))
    flux = 5 * LMH + 150 * LMH * torch.rand(batch, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shared = flux[:1].sort(1).values.expand(batch, -1)  # the grid that suits torchdiffeq, one for all curves
    target = torch.zeros(batch, 32, 8)
    present = (c > 0)[:, None].expand(batch, 32, 8)
    double = copy.deepcopy(model).double()
    scale = torch.where(c > 0, c / (c * double.z.abs()).sum(1, keepdim=True), torch.inf)[:, None]
    with torch.no_grad():
        exact = {id(j): double(c, j, n_steps=64) for j in (flux, shared)}
    models = [network() for _ in range(o.members)]
    for name, run, parameters, j, members, evaluations in solver_options(model, models, c, flux, shared, o.members, o.compile):
        with torch.no_grad():
            h = run()
        h = h[0] if h.dim() == 4 else h
        error = float(((h.double() - exact[id(j)]).abs() / scale)[present].quantile(0.99))
        ms = 1e3 * cpu(step_of(parameters, run, target), o.repeat) / members
        floor = 1e3 * 3 * 2 * weights * batch * evaluations / rate
        rows.append(dict(batch=batch, members=members, solver=name, ms=ms, floor_ms=floor, evaluations=evaluations, error=error))
        print(f"{batch:6d} {members:7d}  {name:34} {ms:9.2f} {evaluations:5d} {ms / floor:8.1f} {error:10.1e}", flush=True)
    kept = model.dense_weights(flux)
    with torch.no_grad():
        seconds = cpu(lambda: model(c, flux, weights=kept), o.repeat)
    print(f"{batch:6d} {1:7d}  prediction, fixed 4: {batch / seconds:,.0f} curves of 32 fluxes a second and core\n", flush=True)
    return [*rows, dict(batch=batch, members=1, solver="prediction, fixed 4", curves_per_second=batch / seconds)]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--batch", type=int, nargs="+", default=[32, 256])
    arguments.add_argument("--members", type=int, default=8)
    arguments.add_argument("--repeat", type=int, default=5)
    arguments.add_argument("--compile", action="store_true", help="also the compiled step (a minute or two the first time)")
    arguments.add_argument("--out", help="write the rows as JSON")
    o = arguments.parse_args()
    torch.set_num_threads(1)
    rate, model = gemm_rate(), network()
    print(f"{n_parameters(model)} parameters; matrix product at {rate / 1e9:.0f} GFLOP/s\n")
    print(f"{'batch':>6} {'members':>7}  {'solver':34} {'ms/step':>9} {'NFE':>5} {'x floor':>8} {'error of R':>10}", flush=True)
    rows = [row for batch in o.batch for row in measure(batch, model, rate, o)]
    if o.out:
        atomic_write(o.out, json.dumps({"rows": rows, "gemm_flops": rate} | provenance(), indent=1))


if __name__ == "__main__":
    main()
