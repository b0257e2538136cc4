"""Samplers that others keep, beside `ion_ode.inference.population`, on the posterior of one source

The values of wang2023 (four cations and chloride on one coupon): a membrane of some thirty normal numbers, one of them
the choice of a law, with the likelihood of the answer. All have the same function of many membranes at once, one
thread, and runs of independent starts. Effective draws of a run are those of which a mean would scatter as the runs'
means do, over all numbers: no run is believed about itself.

    pip install emcee dynesty nautilus-sampler pocomc
    python benchmarks/samplers.py NAME [--runs 4] [--store]    one to five minutes of one processor a name

numpyro asks for a density written in JAX, which the compiled pore model is not."""

import argparse
import importlib.metadata
import json
import time

import numpy as np
from scipy.special import ndtri

from ion_ode.inference import population, slopes
from ion_ode.inference.laws import GLOBALS, Prior
from ion_ode.inference.pores import solve, solve_back
from ion_ode.inference.rows import answer_rows
from ion_ode.inference.states import LOCALS, States, forward, log_likelihood
from ion_ode.store import asset, atomic_write, provenance

ROWS = answer_rows()
STATES = States.of(ROWS[ROWS.source_id == "wang2023"])
SIZE = len(GLOBALS) + len(STATES.laboratories) * len(LOCALS) + len(STATES.coupons)
_FAR = 6.0  # Normal numbers beyond which nothing is tried
ASKED = [0]  # Membranes of which the pore model was asked, with their slopes or without


def counted(f):
    "The pore model, counted."

    def ask(ions, problem, *a):
        ASKED[0] += len(problem["flux"]) // len(STATES.flux)
        return f(ions, problem, *a)

    return ask


population.solve, slopes.solve_back, ask_model = counted(solve), counted(solve_back), counted(solve)


def log_like(q: np.ndarray) -> np.ndarray:  # (n, SIZE) normal numbers -> (n,)
    "Log likelihood of membranes with the effects of their laboratory and coupon."
    q, d = np.atleast_2d(q).clip(-_FAR, _FAR), len(GLOBALS)
    lab = q[:, d : -len(STATES.coupons)].reshape(len(q), -1, len(LOCALS))
    parts = q[:, :d], lab, q[:, -len(STATES.coupons) :]
    return log_likelihood(STATES, *forward(STATES, *parts, ask_model, Prior())).sum(1)


def of_cube(u):
    return ndtri(np.clip(u, 1e-9, 1 - 1e-9))


def by_ion_ode(seed: int):
    p = population.settled(STATES, population.sample_population(STATES, 96, seed=seed), seed=100 + seed)
    return np.concatenate([p.x, p.lab.reshape(len(p.x), -1), p.coupon], 1), None, p.log_evidence


def by_emcee(seed: int):
    import emcee

    np.random.seed(seed)  # noqa: NPY002
    moves = [(emcee.moves.DEMove(), 0.8), (emcee.moves.DESnookerMove(), 0.2)]
    target = lambda q: log_like(q) - 0.5 * (q**2).sum(1)
    s = emcee.EnsembleSampler(128, SIZE, target, moves=moves, vectorize=True)
    s.run_mcmc(np.random.standard_normal((128, SIZE)), 2000)  # noqa: NPY002
    return s.get_chain(discard=1000, thin=10, flat=True), None, None


def by_dynesty(seed: int):
    import dynesty

    one = lambda q: float(log_like(q)[0])
    rng = np.random.default_rng(seed)
    s = dynesty.NestedSampler(one, of_cube, SIZE, nlive=250, sample="rslice", rstate=rng)
    s.run_nested(dlogz=0.5, maxcall=60000, print_progress=False)
    return s.results.samples, s.results.importance_weights(), s.results.logz[-1]


def by_nautilus(seed: int):
    import nautilus

    s = nautilus.Sampler(of_cube, log_like, n_dim=SIZE, n_live=500, vectorized=True, pass_dict=False, seed=seed)
    s.run(n_eff=500, discard_exploration=True, verbose=False)
    q, log_w, _ = s.posterior()
    return q, np.exp(log_w), s.log_z


def by_pocomc(seed: int):
    import pocomc
    from scipy.stats import norm

    prior = pocomc.Prior([norm()] * SIZE)
    s = pocomc.Sampler(
        prior, log_like, n_dim=SIZE, n_effective=256, n_active=128, flow="nsf3", vectorize=True, random_state=seed
    )
    s.run(n_total=512, n_evidence=0, progress=False)
    q, w, _, _ = s.posterior()
    return q, w, s.evidence()[0]


SAMPLERS = {  # name: (what samples, distribution, licence)
    "ion_ode": (by_ion_ode, "ion_ode", "Apache-2.0"),
    "emcee": (by_emcee, "emcee", "MIT"),
    "dynesty": (by_dynesty, "dynesty", "MIT"),
    "nautilus": (by_nautilus, "nautilus-sampler", "MIT"),
    "pocomc": (by_pocomc, "pocomc", "GPL-3.0"),
}


def compared(name: str, runs: int) -> dict:
    "What runs of independent starts cost, and of how many independent draws their means are."
    sample, package, licence = SAMPLERS[name]
    means, variances, evidence, cost = [], [], [], []
    log_like(np.zeros((2, SIZE)))  # compiled before a clock runs
    for seed in range(runs):
        ASKED[0], start = 0, time.process_time()
        q, w, log_z = sample(seed)
        cost.append((time.process_time() - start, ASKED[0]))
        w = np.full(len(q), 1 / len(q)) if w is None else w / w.sum()
        means.append(w @ q)
        variances.append(w @ (q - means[-1]) ** 2)
        evidence.append(log_z)
        print(name, seed, f"{cost[-1][0]:.1f} CPU-s", ASKED[0], "membranes asked,", len(q), "draws", log_z, flush=True)
    draws = 1 / np.mean(np.var(means, 0, ddof=1) / np.mean(variances, 0))
    seconds, asked = np.mean(cost, 0)
    row = {"sampler": name, "version": importlib.metadata.version(package), "licence": licence, "runs": runs}
    row |= {"cpu_s": round(seconds, 1), "membranes_asked": int(asked), "effective_draws": round(draws, 1)}
    row |= {"draws_per_cpu_s": round(draws / seconds, 2)}
    if evidence[0] is not None:
        row |= {"log_evidence": round(np.mean(evidence), 2), "sd": round(np.std(evidence, ddof=1), 2)}
    return row


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("names", nargs="+", choices=SAMPLERS)
    ask.add_argument("--runs", type=int, default=4)
    ask.add_argument("--store", action="store_true")
    a, path = ask.parse_args(), asset("answers").with_name("samplers.json")
    for name in a.names:
        row = compared(name, a.runs)
        print(json.dumps(row), flush=True)
        if a.store:
            rows = json.loads(path.read_text())["rows"] if path.exists() else []
            rows = sorted(
                [r for r in rows if r["sampler"] != name] + [row], key=lambda r: [*SAMPLERS].index(r["sampler"])
            )
            record = {"rows": rows, "values": len(STATES.rejection), "numbers": SIZE, "provenance": provenance(seed=0)}
            atomic_write(path, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
