"""ion-ode water: a laboratory's analysis in, rejections of every solute and the permeate's pH out"""

import click
from ion_ode.cli.group import main
from ion_ode.cli.options import BALANCE, FEED, FLUX, MEMBRANE, UNIT, _membrane, _pairs, output_options
from ion_ode.cli.output import _run


@main.command()
@FEED
@FLUX
@MEMBRANE
@BALANCE
@UNIT
@click.option("--ph", "pH", type=float, metavar="PH", help="pH of waters whose row has none.")
@click.option("--temperature", type=float, metavar="K", help="Temperature of waters whose row has none; 298.15.")
@click.option("--film-thickness", type=float, metavar="UM", help="Stagnant film before the membrane [µm].")
@click.option("--pairs", is_flag=True, help="MgSO4 and CaSO4 pairs meet the membrane as pairs, not as their ions.")
@click.option("--check", is_flag=True, help="Hold the built-in chemistry against PHREEQC (extra [chemistry]).")
@output_options
def water(feed, flux, membrane, balance, units, pH, temperature, film_thickness, pairs, check, out, as_json, force):
    """Natural waters: pH, alkalinity, boron, silica, ammonia; rejection of every solute and pH of the permeate.

    \b
    Examples:
      ion-ode water --feed laboratory.csv --flux 20
      ion-ode water --feed "Na+=2,Ca+2=3,Cl-=2,HCO3-=6" --flux 10,20 --ph 7.4
      ion-ode water --feed laboratory.csv --flux 20 --film-thickness 25 --check --out rejections.csv
    """
    from ion_ode.core import um
    from ion_ode.dspmde.film import Film
    from ion_ode.dspmde.waters import _PAIRS, read_waters, simulate_water

    film = None if film_thickness is None else Film(thickness=film_thickness * um)

    def answer(table):
        waters = read_waters(table, pH, temperature, _PAIRS if pairs else (), balance)
        if check:
            for name, s in zip(waters.label, waters.speciation, strict=True):
                _against_phreeqc(name, s)
        frame = simulate_water(waters, None, _membrane(membrane), film=film)
        where = {name: table.sample.index(name) for name in waters.label}
        return frame.assign(sample=frame["sample"].map(where))

    _run(feed, flux, out, as_json, force, answer, ("pH", "temperature"), _pairs(units))


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
