"""ion-ode benchmark"""

import json
import os
import sys
from pathlib import Path

import click
from ion_ode.cli.group import main

BENCHMARKS = {
    "pore model": ("dspmde_speed.py", ["--curves", "256", "--repeat", "3", "--backends", "auto"]),
    "training step": ("ode_training_step.py", ["--batch", "32", "--members", "4", "--repeat", "3"]),
}


@main.command()
@click.option("--json", "as_json", is_flag=True, help="The ratios as JSON.")
def benchmark(as_json):
    """Speed on this machine, as a ratio to named peers.

    Runs the two small benchmarks of the repository's folder benchmarks/, a minute or two on one thread. They are not
    part of an installed wheel.

    \b
    Examples:
      ion-ode benchmark
      ion-ode benchmark --json > speed.json
    """
    import subprocess
    import tempfile

    from ion_ode.core import InputError

    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    if not folder.is_dir():
        raise InputError(
            "the benchmarks are in the repository, not in the installed package; in a clone of it (pip install -e .) "
            "run ion-ode benchmark"
        )
    rows = []
    for what, (script, options) in BENCHMARKS.items():
        click.echo(f"{what}: benchmarks/{script} {' '.join(options)}", err=True)
        with tempfile.TemporaryDirectory() as tmp:
            out = Path(tmp) / "rows.json"
            command = [sys.executable, str(folder / script), *options, "--out", str(out)]
            done = subprocess.run(
                command, env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL
            )
            if done.returncode:
                raise RuntimeError(f"benchmarks/{script} ended with status {done.returncode}")
            rows += _ratios(what, json.loads(out.read_text(encoding="utf-8")))
    if as_json:
        from ion_ode.store import provenance

        click.echo(json.dumps({"rows": rows, "provenance": provenance()}, indent=1))
    else:
        for r in rows:
            errors = f" (errors {r['errors'][0]:.0e} and {r['errors'][1]:.0e})" if "errors" in r else ""
            click.echo(f"{r['what']}: {r['ours']:.3g} {r['unit']}; {r['peer']}: {r['theirs']:.3g}; {r['ratio']:.1f} "
                       f"times as fast{errors}")


def _ratios(what: str, found: dict) -> list[dict]:
    "Our number beside the named peer's, of one benchmark's JSON."
    if what == "pore model":
        rate = "problems/CPU-s"
        ours, theirs = next(r[rate] for r in found["rows"] if r["case"] == "no film"), found[f"scipy {rate}"]
        row = {
            "what": "pore model, 8 ions",
            "unit": "problems a CPU second",
            "ours": ours,
            "peer": "scipy (solve_ivp, root)",
        }
        return [row | {"theirs": theirs, "ratio": ours / theirs}]
    rows, out = [r for r in found["rows"] if "ms" in r], []
    mine = [r for r in rows if not r["peer"]]
    for r in [r for r in rows if r["peer"]]:
        fair = [m for m in mine if m["error"] <= r["error"]]  # no less accurate than the peer, where there is one
        best = min(fair, key=lambda m: m["ms"]) if fair else min(mine, key=lambda m: m["error"])
        row = {
            "what": f"training step of a network, {best['solver']}",
            "unit": "ms",
            "ours": best["ms"],
            "peer": r["solver"],
        }
        out.append(row | {"theirs": r["ms"], "ratio": r["ms"] / best["ms"], "errors": [best["error"], r["error"]]})
    return out
