"""ion-ode water: a laboratory's analysis in, rejections of every solute and the permeate's pH out"""

import warnings

import click
from ion_ode.cli.group import main
from ion_ode.cli.options import (
    BALANCE, FEED, FLUX, LEVEL, MEASUREMENTS, PRESSURE, UNIT, _bars, _calibrated, _membrane, _pairs, output_options,
)  # fmt: skip
from ion_ode.cli.output import _run


@main.command()
@FEED
@FLUX
@BALANCE
@UNIT
@PRESSURE
@click.option("--model", default="nf270", show_default=True, metavar="NAME|FILE", help="nf270, nf or what was saved.")
@MEASUREMENTS
@click.option(
    "--membrane",
    metavar="NAME|TEXT",
    help="Instead of a model, the pore model of one membrane, without an interval: nf270, or "
    "'r_pore=0.45,thickness=1.2,charge_density=-40,eps_pore=40' (nm, µm, mol/m³, -).",
)
@click.option("--ph", "--pH", "pH", type=float, metavar="PH", help="pH of waters whose row has none.")
@click.option("--temperature", type=float, metavar="K", help="Temperature of waters whose row has none; 298.15.")
@click.option(
    "--film-thickness",
    type=float,
    metavar="UM",
    help="Stagnant film before the membrane [µm]; left out: as laboratories have it, none with --membrane.",
)
@click.option("--pairs", is_flag=True, help="MgSO4 and CaSO4 pairs meet the membrane as pairs, not as their ions.")
@click.option("--check", is_flag=True, help="Hold the built-in chemistry against PHREEQC (extra [chemistry]).")
@LEVEL
@output_options
def water(
    feed, flux, balance, units, pressure, model, measurements, membrane, pH, temperature, film_thickness, pairs, check,
    level, out, as_json, force,
):  # fmt: skip
    """Natural waters: pH, alkalinity, boron, silica, ammonia; rejection of every solute and pH of the permeate.

    \b
    Examples:
      ion-ode water --feed laboratory.csv --flux 20
      ion-ode water --feed "Na+=2,Ca+2=3,Cl-=2,HCO3-=6" --pressure 5 --ph 7.4
      ion-ode water --feed laboratory.csv --flux 20 --measurements my_coupon.csv --out rejections.csv
    """
    from ion_ode.dspmde.waters import _PAIRS, read_waters

    bars = _bars(pressure, flux)
    film = None if film_thickness is None else film_thickness * 1e-6
    ask = _through_model(model, measurements, bars, film, level, balance) if membrane is None else None
    ask = ask or _through_membrane(membrane, film, bars=bars, measurements=measurements)

    def answer(table):
        waters = read_waters(table, pH, temperature, _PAIRS if pairs else (), balance)
        if check:
            for name, s in zip(waters.label, waters.speciation, strict=True):
                _against_phreeqc(name, s)
        where = {name: table.sample.index(name) for name in waters.label}
        frame = ask(waters)
        return frame.assign(sample=frame["sample"].map(where))

    _run(feed, flux if bars is None else "1", out, as_json, force, answer, ("pH", "temperature"), _pairs(units))


def _through_model(name, measurements, bars, film, level, balance):
    "Ask a sample of membranes, first made that of a coupon; notes go to stderr."
    from ion_ode.core import InputError
    from ion_ode.inference.waters import predict_water
    from ion_ode.training.models import load_model

    model = load_model(name)
    if not hasattr(model, "draws"):
        raise InputError(f"--model {name} is a network, which knows no pH; take nf270 or nf")
    model = _calibrated(model, measurements, balance)

    def ask(waters):
        flux = waters.flux if bars is None else None
        frame = predict_water(waters, flux, model, pressure=bars, film=film, level=level)
        for sentence in frame.attrs["notes"]:
            warnings.warn(sentence, stacklevel=2)
        return frame.drop(columns=["pH_perm_lower", "pH_perm_upper"])

    return ask


def _through_membrane(text, film, **others):
    "Ask the pore model of one membrane."
    from ion_ode.core import InputError
    from ion_ode.dspmde.film import Film
    from ion_ode.dspmde.waters import simulate_water

    for name, value in others.items():
        if value is not None:
            option = "pressure" if name == "bars" else name
            raise InputError(f"--{option} is for a model such as nf270; --membrane takes a flux and no own values")
    film = None if film is None else Film(thickness=film)
    return lambda waters: simulate_water(waters, None, _membrane(text), film=film)


def _against_phreeqc(name, s):
    "Say by how much two speciations of one water differ."
    from ion_ode.water.chemistry import totals
    from ion_ode.water.phreeqc import phreeqc

    other = phreeqc(totals(s), s.pH, s.temperature, s.alkalinity)
    index = max((abs(v - other.saturation[k]) for k, v in s.saturation.items() if k in other.saturation), default=0.0)
    main_ = {k: v for k, v in s.c.items() if v > 1e-3 * sum(s.c.values()) and other.c.get(k, 0.0) > 0}
    most = max(main_, key=lambda k: abs(main_[k] / other.c[k] - 1))
    off = main_[most] / other.c[most] - 1
    click.echo(
        f"{name}: PHREEQC agrees within {abs(off):.2%} in {most} and {index:.3f} in a saturation index", err=True
    )
