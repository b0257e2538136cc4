"""ion-ode generate, ion-ode reproduce"""

import json
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
