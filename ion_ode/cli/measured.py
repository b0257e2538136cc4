"""ion-ode check, ion-ode fit, ion-ode train"""

import json
import sys
import warnings
from pathlib import Path

import click
from ion_ode.cli.group import _in_shell, main
from ion_ode.cli.options import BALANCE, DECIMAL, FORCE, SOURCE, UNIT, _membrane, _pairs, _source
from ion_ode.cli.output import _records


@main.command()
@click.argument("file", type=SOURCE)
@UNIT
@BALANCE
@DECIMAL
@click.option(
    "--write/--no-write",
    default=True,
    show_default=True,
    help="Write a cleaned copy beside the file, never over anything.",
)
@click.option("--json", "as_json", is_flag=True, help="The verdict as JSON.")
def check(file, units, balance, decimal, write, as_json):
    """Say what is in a file of measurements, or what is wrong.

    Exit status 2 if it cannot be used; - reads CSV from standard input. Needs the extra [data].

    \b
    Examples:
      ion-ode check data.csv
      ion-ode check data.xlsx --unit flux=LMH --unit c_feed=mg/L --balance Cl-
    """
    from ion_ode.data.reader import check_measurements

    with _source(file) as path:
        found = check_measurements(
            path, write=write and file != "-", units=_pairs(units), balance=balance, decimal=decimal
        )
    if as_json:
        problems = [] if found.problems is None else _records(found.problems)
        clean = None if found.clean_path is None else str(found.clean_path)
        click.echo(
            json.dumps({"ok": found.ok, "text": _in_shell(found.text), "problems": problems, "clean": clean}, indent=1)
        )
    else:
        click.echo(_in_shell(found.text))
    return 0 if found.ok else 2


@main.command()
@click.argument("file", type=SOURCE)
@click.option(
    "--free",
    default="r_pore,thickness,charge_density,eps_pore",
    show_default=True,
    metavar="NAMES",
    help="Parameters to fit, the rest stay as in --start.",
)
@click.option(
    "--start",
    default="nf270-watertap",
    show_default=True,
    metavar="NAME|TEXT",
    help="As --membrane in ion-ode simulate.",
)
@click.option(
    "--film-thickness",
    type=float,
    default=25.0,
    show_default=True,
    metavar="UM",
    help="Film in front of observed rejections [µm]; 0 for none.",
)
@UNIT
@BALANCE
@DECIMAL
@click.option("--starts", type=click.IntRange(min=1), default=6, show_default=True, help="Local searches.")
@click.option("--seed", type=click.IntRange(0, (1 << 32) - 1), default=0, show_default=True)
@click.option("--intervals", type=click.Choice(["profile", "wald", "none"]), default="profile", show_default=True)
@click.option(
    "--out", metavar="FILE|-", help="Write the estimates and what they rest on as .json; - is standard output."
)
@click.option("--json", "as_json", is_flag=True, help="The same JSON on standard output instead of sentences.")
@FORCE
def fit(file, units, balance, decimal, out, as_json, force, seed, **search):
    """Membrane parameters from measurements, with intervals.

    FILE is as for ion-ode check; - reads CSV from standard input. Needs the extra [data].

    \b
    Examples:
      ion-ode fit data.csv
      ion-ode fit - --json < data.csv
      ion-ode fit data.xlsx --unit flux=LMH --free r_pore,charge_density --out fit.json
    """
    from ion_ode.core import InputError
    from ion_ode.guard import alone
    from ion_ode.store import atomic_write, digest, provenance
    from ion_ode.data.reader import read_measurements

    out, as_json = (None, True) if out == "-" else (out, as_json)
    if out and Path(out).suffix != ".json":
        raise InputError(f"--out {out}: the name must end in .json")
    if out and Path(out).exists() and not force:
        raise InputError(f"{out} exists and stays as it is; choose another name, or add --force to replace it")
    with alone(out, folder=False):
        with _source(file) as path:
            measured = read_measurements(path, units=_pairs(units), decimal=decimal, balance=balance)
            data = digest(path.read_bytes())
        for note in measured.notes:
            warnings.warn(f"{file}: {note}", stacklevel=1)
        found = _fitted(measured, seed=seed, **search)
        record = {k: getattr(found, k) for k in ("rmse", "n_values", "message")}
        record = {"estimates": _records(found.estimates)} | record
        record["provenance"] = provenance(seed, file=Path(file).name, data=data)
        text = json.dumps(record, indent=1, default=str)
        click.echo(text if as_json else repr(found))
        if out:
            atomic_write(out, text + "\n")


def _fitted(measured, *, free, start, film_thickness, starts, seed, intervals):
    "The fit that the options ask for; a word on a screen that it goes on."
    from ion_ode.core import um
    from ion_ode.inference.fit import fit_membrane

    if sys.stderr.isatty():
        click.echo(f"fitting {free} to {len(measured)} values, {starts} searches", err=True)
    return fit_membrane(
        measured,
        tuple(filter(None, (n.strip() for n in free.split(",")))),
        start=_membrane(start),
        film=film_thickness * um if film_thickness else None,
        n_starts=starts,
        seed=seed,
        intervals=intervals,
    )


@main.command()
@click.argument("folder", type=click.Path(file_okay=False))
@click.option(
    "--config", type=SOURCE, metavar="FILE|-", help="JSON with entries of TrainConfig that differ from the recipe."
)
@click.option(
    "--recipe",
    type=click.Choice(["default", "paper"]),
    default="default",
    show_default=True,
    help="paper: the published recipe, read literally.",
)
@click.option(
    "--measurements",
    type=SOURCE,
    metavar="FILE|-",
    help="Your own, as for ion-ode check; default: the five mixtures measured on NF270 (extra [data]).",
)
@UNIT
@BALANCE
@DECIMAL
@click.option("--device", metavar="NAME", help="Where the networks are trained, such as cuda; the CPU if left out.")
@click.option("--tensorboard", is_flag=True, help="Also write the losses for TensorBoard, below FOLDER (extra [log]).")
@click.option("--json", "as_json", is_flag=True, help="The model's card as JSON.")
def train(folder, config, recipe, measurements, units, balance, decimal, device, tensorboard, as_json):
    """Pre-train on the pore model, fine-tune on measurements; run again, it resumes.

    \b
    Examples:
      ion-ode train runs/mine
      ion-ode train runs/mine --config mine.json
      ion-ode train runs/mine --measurements lab.csv --balance Cl- --device cuda
      ion-ode predict --model runs/mine --feed "Na+=20,Cl-=20" --flux 10,20
    """
    import torch

    from ion_ode.core import InputError, need
    from ion_ode.data.reader import read_measurements
    from ion_ode.guard import read_json
    from ion_ode.training.recipe import TrainConfig
    from ion_ode.training.run import train as run

    if tensorboard:
        need("tensorboard", "log")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as e:
        raise InputError(f"--device {device} cannot be used here ({str(e).splitlines()[0]}); leave it out for the "
                         f"CPU, or install the PyTorch of your GPU") from e
    changes = read_json(config, "an object", '{"members": 2}') if config else {}
    start = TrainConfig.paper() if recipe == "paper" else TrainConfig()
    settings = TrainConfig.from_dict(start.to_dict() | changes)
    rows = None
    if measurements:
        with _source(measurements) as path:
            rows = read_measurements(path, units=_pairs(units), balance=balance, decimal=decimal)
    model = run(settings, folder, rows, device=device)
    if tensorboard:
        _tensorboard(Path(folder))
    click.echo(
        json.dumps({"folder": folder, "model": repr(model), "card": model.card}, indent=1)
        if as_json
        else f"{model!r}; kept in {folder}"
    )


def _tensorboard(folder: Path):
    "The logs of a training folder as TensorBoard events, a run a phase and member."
    import pandas as pd
    from torch.utils.tensorboard import SummaryWriter

    for log in sorted(folder.glob("*/log.csv")):
        for member, g in pd.read_csv(log).groupby("member"):
            with SummaryWriter(log.parent / "tensorboard" / f"member-{member:.0f}") as w:
                for r in g.itertuples():
                    for name in ("loss", "lr", "grad_norm"):
                        w.add_scalar(name, getattr(r, name), int(r.step))
    click.echo(f"tensorboard --logdir {folder}", err=True)
