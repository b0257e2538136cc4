"""ion-ode generate, ion-ode reproduce, ion-ode benchmark"""

import json
import os
import sys
from pathlib import Path

import click
from ion_ode.cli.group import main
from ion_ode.cli.options import SCHEDULER, WORKERS


@main.command()
@click.option("--profile", type=click.Choice(["quick", "full"]), default="quick", show_default=True)
@click.option(
    "--out", default="results", show_default=True, metavar="FOLDER", help="Folder for figures, tables and metrics."
)
@WORKERS
@SCHEDULER
@click.option(
    "--only", metavar="NAME", help="One part alone, such as answer, campaign or surrogate; a wrong name lists them."
)
@click.option(
    "--store", "keep", is_flag=True, help="With --only: write what was made into the package, where it ships."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Scores, claims and provenance as JSON, the content of claims.json."
)
def reproduce(profile, out, workers, scheduler, only, keep, as_json):
    """Train, score and draw; run again, it resumes.

    The quick profile draws what is stored and computes a part of it again; the full one computes everything, for hours,
    and on a cluster if there is one.

    \b
    Examples:
      ion-ode reproduce
      ion-ode reproduce --profile full --out results-full
      ion-ode reproduce --profile full --out shared/results --scheduler tcp://head:8786
      ion-ode reproduce --profile full --only surrogate --store
    """
    from ion_ode.core import InputError
    from ion_ode.guard import alone
    from ion_ode.results.run import reproduce as run

    if Path(out).exists() and not Path(out).is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    if only:
        from ion_ode.results.parts import reproduce_part

        with alone(out):
            made = reproduce_part(only, out, profile, workers, scheduler, keep)
        click.echo(f"{only}: made again, in {made}")
        return
    if keep:
        raise InputError("--store goes with --only NAME: it replaces files that ship with the package")
    with alone(out):
        record = run(profile, out, workers, scheduler)
    if as_json:
        click.echo(json.dumps(record, indent=1, sort_keys=True))
    else:
        click.echo(f"figures, tables and claims.json are in {out}; {Path(out) / 'metrics.md'} tells what was found")


@main.command()
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--curves", type=click.IntRange(min=1), required=True, metavar="N", help="Points of the design.")
@click.option("--seed", type=click.IntRange(0, (1 << 32) - 1), required=True, help="Same seed, same curves.")
@click.option(
    "--family",
    type=click.Choice(["dspmde", "dspmde+"]),
    default="dspmde+",
    show_default=True,
    help="Four parameters, or with binding charge and ion-specific partitioning.",
)
@click.option(
    "--fluxes", type=click.IntRange(min=1), default=24, show_default=True, metavar="N", help="Fluxes a curve."
)
@click.option("--ions", metavar="NAMES", help="Ions that feeds are made of, 'Na+,Mg+2,Cl-'; all nine if left out.")
@click.option(
    "--water",
    metavar="NAME",
    help="Feeds around a real water: 'brackish well', 'cooling water', seawater or 'seawater brine'.",
)
@click.option(
    "--spread",
    type=float,
    default=0.3,
    show_default=True,
    help="How far they vary around it, standard deviation of ln c.",
)
@WORKERS
@SCHEDULER
@click.option("--json", "as_json", is_flag=True, help="The manifest as JSON.")
def generate(folder, curves, seed, family, fluxes, ions, water, spread, workers, scheduler, as_json):
    """Simulate curves to learn from; run again, it resumes.

    \b
    Examples:
      ion-ode generate runs/curves --curves 20000 --seed 1
      ion-ode generate runs/curves --curves 20000 --seed 1 --workers 2
      ion-ode generate runs/brine --curves 20000 --seed 1 --water 'seawater brine'
    """
    from ion_ode.water.ions import ion_name
    from ion_ode.data.design import Design
    from ion_ode.data.shards import simulate_shards
    from ion_ode.dspmde.prior import SLOTS

    slots = tuple(ion_name(i) for i in ions.split(",")) if ions else SLOTS
    design = Design(seed=seed, n_flux=fluxes, ions=slots, family=family, water=water, spread=spread)
    manifest = simulate_shards(folder, curves, design, workers=workers, scheduler=scheduler)
    click.echo(json.dumps(manifest, indent=1) if as_json else f"{manifest['curves']} curves in {folder}")


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
