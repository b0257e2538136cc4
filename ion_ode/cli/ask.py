"""ion-ode simulate, ion-ode predict"""

import re
import warnings

import click
from ion_ode.cli.group import main
from ion_ode.cli.options import (
    BALANCE, FEED, FLUX, LEVEL, MEASUREMENTS, MEMBRANE, PRESSURE, _bars, _calibrated, _membrane, output_options,
)  # fmt: skip
from ion_ode.cli.output import _frame, _run


_FEW = 32  # samples, a feed at a flux, that the pore model in torch solves within the time Numba takes to load


@main.command()
@FEED
@FLUX
@BALANCE
@MEMBRANE
@click.option(
    "--film-thickness", type=float, metavar="UM", help="Stagnant (Nernst-Planck) film before the membrane [µm]."
)
@click.option(
    "--activity",
    type=click.Choice(["ideal", "davies", "davies_solution", "pitzer"]),
    default="ideal",
    show_default=True,
)
@click.option(
    "--hindrance",
    type=click.Choice(["dechadilok_deen", "bowen_mohammad"]),
    default="dechadilok_deen",
    show_default=True,
)
@click.option("--born/--no-born", default=True, show_default=True, help="Dielectric exclusion.")
@click.option("--temperature", type=float, default=298.15, show_default=True, metavar="K")
@click.option(
    "--keep-going", is_flag=True, help="Flag samples without a solution in the column status instead of ending."
)
@output_options
def simulate(
    feed,
    flux,
    balance,
    membrane,
    film_thickness,
    activity,
    hindrance,
    born,
    temperature,
    keep_going,
    out,
    as_json,
    force,
):
    """Rejections by the pore model DSPM-DE.

    \b
    Examples:
      ion-ode simulate --feed "Na+=10,Cl-=10" --flux 5,10,20
      ion-ode simulate --feed "Mg+2=240 mg/L,Na+=5" --balance Cl- --flux 5:100:20 --film-thickness 25
      ion-ode simulate --feed feeds.csv --flux 10,20 --out rejections.csv
      ion-ode simulate --feed "Mg+2=10,Cl-=20" --flux 20 --membrane
      "r_pore=0.45,thickness=1.2,charge_density=-40,eps_pore=40"
    """
    from ion_ode.core import um
    from ion_ode.dspmde.film import Film
    from ion_ode.dspmde.solve import simulate as run

    options = {
        "membrane": _membrane(membrane),
        "film": None if film_thickness is None else Film(thickness=film_thickness * um),
        "activity": activity,
        "hindrance": hindrance,
        "born": born,
        "temperature": temperature,
        "throw": not keep_going,
    }
    if balance is not None:
        options["balance"] = balance

    def answer(t):  # a few samples are solved before the compiled kernel is loaded
        few = t.c_feed.shape[0] * t.flux.shape[-1] <= _FEW
        solution = run(t.c_feed, t.flux, ions=t.ions, backend="eager" if few else "auto", **options)
        for note in solution.notes:
            warnings.warn(note, stacklevel=2)
        return solution.columns()

    _run(feed, flux, out, as_json, force, answer)


@main.command()
@FEED
@FLUX
@BALANCE
@PRESSURE
@click.option(
    "--model",
    default="nf270",
    show_default=True,
    metavar="NAME|FILE|FOLDER",
    help="nf270 or nf (any nanofiltration membrane), nf270-network, dspmde, or what was saved or trained.",
)
@MEASUREMENTS
@click.option(
    "--kind",
    type=click.Choice(["observed", "intrinsic"]),
    default="observed",
    show_default=True,
    help="Against the bulk feed, or against the concentration at the membrane.",
)
@click.option(
    "--film-thickness",
    type=float,
    metavar="UM",
    help="Film in front of the membrane [µm]; left out: as laboratories have it.",
)
@click.option("--temperature", type=float, default=298.15, show_default=True, metavar="K")
@click.option(
    "--ph", "--pH", "pH", type=float, metavar="PH",
    help="pH of feeds whose row has none: the membrane's charge follows it.",
)  # fmt: skip
@click.option(
    "--solver",
    type=click.Choice(["exact", "network"]),
    help="exact (the default), or network: faster for thousands of feeds, within a tenth of the interval.",
)
@click.option(
    "--membrane",
    metavar="NAME|TEXT",
    help="For networks: another membrane than the one the model was trained for, as in ion-ode simulate.",
)
@LEVEL
@output_options
def predict(
    feed,
    flux,
    balance,
    pressure,
    model,
    measurements,
    kind,
    film_thickness,
    temperature,
    pH,
    solver,
    membrane,
    level,
    out,
    as_json,
    force,
):
    """The best estimate for a membrane, with the interval of a measurement.

    \b
    Examples:
      ion-ode predict --feed "Na+=10,Cl-=10" --flux 5,10,20
      ion-ode predict --feed "Mg+2=10,Cl-=20" --pressure 4,6 --film-thickness 15
      ion-ode predict --feed feeds.csv --flux 10,20 --measurements mine.csv
      cat feeds.csv | ion-ode predict --feed - --flux 20 --json
    """
    from ion_ode.training.models import load_model

    predictor, options = load_model(model), {"level": level}
    if balance is not None:
        options["balance"] = balance
    if not hasattr(predictor, "calibrate"):  # trained networks
        own = dict(pressure=pressure, measurements=measurements, film_thickness=film_thickness, ph=pH, solver=solver)
        _only_for_membranes(**own)
        options |= {} if membrane is None else {"membrane": _membrane(membrane)}
        _run(feed, flux, out, as_json, force, lambda t: predictor.predict(_frame(t), t.flux, **options))
        return
    options |= {
        "kind": kind,
        "temperature": temperature,
        "pH": pH,
        "solver": solver or "exact",
        "film": None if film_thickness is None else film_thickness * 1e-6,
    }
    _run_answer(predictor, measurements, pressure, feed, flux, membrane, options, (out, as_json, force))


def _only_for_membranes(**options):
    "Networks know neither pressure nor film nor own values."
    from ion_ode.core import InputError

    for name, value in options.items():
        if value is not None:
            raise InputError(
                f"--{name.replace('_', '-')} is for the models nf270 and nf; a network takes a flux and "
                f"its own membrane"
            )


def _run_answer(model, measurements, pressure, feed, flux, membrane, options, where):
    "Ask a sample of membranes, first made that of a coupon; notes go to stderr."
    import numpy as np
    import pandas as pd

    from ion_ode.core import InputError
    from ion_ode.dspmde.charge_pH import PH_OF_CHARGES

    if membrane is not None:
        raise InputError(
            "--membrane is for networks; the model nf270 is a membrane already, and ion-ode simulate takes any"
        )
    bars = _bars(pressure, flux)
    model = _calibrated(model, measurements, options.get("balance"))

    def at_one_temperature(table, rows, temperature):
        own = np.ndim(table.flux) == 2
        at = {"pressure": bars} if bars is not None else {"flux": table.flux[rows] if own else table.flux}
        if table.pH is not None:  # near neutral where neither row nor option says
            at["pH"] = np.where(np.isnan(table.pH), options["pH"] or PH_OF_CHARGES, table.pH)[rows]
        # what is said counts the feeds of this temperature alone
        named = lambda said: re.sub(r"\bfeed (\d+)", lambda m: f"feed {rows[int(m[1])]}", str(said))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            try:
                frame = model.predict(_frame(table).iloc[rows], **options | at | {"temperature": temperature})
            except InputError as e:
                raise InputError(named(e)) from None
        said = [w.message for w in caught if issubclass(w.category, UserWarning)]
        for sentence in dict.fromkeys(map(named, [*said, *frame.attrs["notes"]])):
            warnings.warn(sentence, stacklevel=2)
        return frame.assign(sample=rows[frame["sample"]]).drop(columns=["flux_lower", "flux_upper"], errors="ignore")

    def ask(table):
        T = np.full(len(table.c_feed), np.nan) if table.temperature is None else table.temperature
        T = np.where(np.isnan(T), options["temperature"], T)
        parts = [at_one_temperature(table, np.flatnonzero(T == t), float(t)) for t in np.unique(T)]
        return parts[0] if len(parts) == 1 else pd.concat(parts).sort_values("sample", kind="stable")

    _run(feed, flux if bars is None else "1", *where, ask, ("pH", "temperature"))
