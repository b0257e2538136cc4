"""ion-ode module: what a plant of spiral-wound elements makes of a water

Docs: https://ion-ode.github.io/ion_ode/guides/my_plant.html.md"""

from pathlib import Path

import click

from ion_ode.module.said import _along, _note, _say

__all__ = ["register"]

# The command line hands in what its commands share. Nothing heavy is imported up here.

_DRAWS = 96  # Membranes of an answer a plant is solved for
_OPTIONS = (
    click.option(
        "--feed",
        required=True,
        metavar="TEXT|WATER|FILE",
        help="'Na+=10,Cl-=10' (mol/m³; units may be written), a water by name ('brackish well', seawater, "
        "'seawater brine', 'cooling water'), or a table with a column an ion and a row a feed.",
    ),
    click.option(
        "--element", default="NF270-400/34i", show_default=True, metavar="NAME", help="NF270-400/34i or NF270-4040."
    ),
    click.option("--elements", type=click.IntRange(1, 100), default=6, show_default=True, help="Elements in a vessel."),
    click.option("--vessels", default="1", show_default=True, metavar="N,N,...", help="Vessels of each stage."),
    click.option("--boost", metavar="BAR,...", help="Pressure added in front of the second and further stages [bar]."),
    click.option(
        "--recirculate",
        type=click.FloatRange(0, 0.99),
        default=0.0,
        show_default=True,
        help="Share of the last concentrate that returns to its stage.",
    ),
    click.option(
        "--bypass",
        type=click.FloatRange(0, 0.99),
        default=0.0,
        show_default=True,
        help="Share of the raw water blended into the product.",
    ),
    click.option("--feed-flow", type=float, metavar="M3/H", help="Two of these four say how the plant is run."),
    click.option("--recovery", type=float, metavar="%", help="Product over feed [%]."),
    click.option("--pressure", type=float, metavar="BAR", help="Of the feed pump [bar, gauge]."),
    click.option("--permeate-flow", type=float, metavar="M3/H", help="Product."),
    click.option(
        "--draws",
        metavar="nf270|FILE",
        help="Intervals of the membranes of a model, or of a file of one kind, as in membranes.csv; the error of a "
        "measurement is not in them.",
    ),
    click.option(
        "--level",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        default=0.9,
        show_default=True,
        help="Coverage of the intervals.",
    ),
    click.option(
        "--mixing",
        type=click.Choice(["schock_miquel", "koutsou", "guillen_hoek"]),
        default="schock_miquel",
        show_default=True,
        help="How the feed spacer stirs.",
    ),
    click.option(
        "--osmotic",
        type=click.Choice(["ideal", "pitzer"]),
        default="ideal",
        show_default=True,
        help="Osmotic pressure by van 't Hoff or Pitzer; the latter for waters beyond .1 mol/L.",
    ),
    click.option(
        "--activity",
        type=click.Choice(["ideal", "davies", "davies_solution", "pitzer"]),
        default="ideal",
        show_default=True,
        help="Activities in feed, wall and permeate ('davies': in the pore too); the shipped membranes were fitted "
        "with ideal ones.",
    ),
    click.option("--temperature", type=float, default=298.15, show_default=True, metavar="K"),
    click.option(
        "--ph",
        "--pH",
        "pH",
        type=float,
        metavar="PH",
        help="pH of the feed: the charge follows it; saturation of feed and concentrate is told, that along vessels "
        "goes into the profile.",
    ),
    click.option("--profile", metavar="FILE.csv", help="Also write the way along the channel of the first feed."),
    click.option("--figure", metavar="FILE.png", help="Also draw it."),
)


def register(main, membrane_of, sink, shared):
    "Add the command to a click group; `membrane_of` reads a membrane, `sink` takes tables, `shared` are options."

    def module(feed, membrane, out, as_json, force, **options):
        """What a plant of spiral-wound elements makes of a water.

        Product, concentrate, hardness, energy and what the element's maker allows; two of --feed-flow, --recovery,
        --pressure and --permeate-flow say how it is run.

        \b
        Examples:
          ion-ode module --feed "brackish well" --feed-flow 8 --recovery 50
          ion-ode module --feed "Na+=10,Mg+2=5,Cl-=20" --vessels 2,1 --boost 1 --feed-flow 24 --recovery 75
          ion-ode module --feed seawater --element NF270-4040 --feed-flow 2 --pressure 20 --figure along.png
        """
        for name in ("profile", "figure"):
            _free(options[name], f"--{name}", force)
        along = {name: options.pop(name) for name in ("profile", "figure")}
        level = options.pop("level") if options["draws"] else None
        pH, temperature = options["pH"], options["temperature"]
        options.pop("level", None)
        with sink(out, as_json, force) as s:
            sol = _solve(feed, membrane_of(membrane), **options)
            _say(sol, s, level)
            _scale(sol, pH, temperature, s)
        _note(sol)
        if not options["draws"] and str(membrane).lower() == "nf270":
            said = "one membrane, the likeliest; --draws nf270 asks all that measurements allow, with intervals"
            click.echo(f"ion-ode: note: {said}", err=True)
        _along(sol, pH, temperature, **along)

    for option in (*shared, *reversed(_OPTIONS)):
        module = option(module)
    return main.command("module")(module)


def _free(path, option: str, force: bool):
    from ion_ode.core import InputError

    if path and Path(path).exists() and not force:
        raise InputError(
            f"{option} {path} exists and stays as it is; choose another name, or add --force to replace it"
        )


def _water(text: str, balance):
    "A feed for `simulate_plant` and the ion that closes its charge."
    import pandas as pd

    from ion_ode.core import InputError
    from ion_ode.data.design import water_types
    from ion_ode.water.feeds import parse_feed, read_feeds

    if "=" in text:
        return parse_feed(text), balance
    waters = water_types()
    named = {str(n).lower(): n for n in waters.index}
    if text.strip().lower() in named:
        row = waters.loc[named[text.strip().lower()]]
        return {k: float(v) for k, v in row.items() if v > 0}, balance or "Cl-"
    if not Path(text).is_file():
        raise InputError(
            f"{text!r} is neither a feed such as 'Na+=10,Cl-=10' nor a file nor one of the waters "
            f"{', '.join(waters.index)}"
        )
    tables = [pd.DataFrame(t.c_feed, columns=list(t.ions)) for t in read_feeds(text)]
    return pd.concat(tables, ignore_index=True).fillna(0.0), balance


def _numbers(text, what: str, most: int | None = None) -> list[float]:
    from ion_ode.core import InputError

    try:
        values = [float(x) for x in str(text).split(",")]
    except ValueError:
        raise InputError(f"{what} {text!r}: expected numbers with commas between, such as 2,1") from None
    if most is not None and len(values) > most:
        raise InputError(f"{what} {text!r} has {len(values)} numbers for {most} stages; give at most one a stage")
    return values


def _drawn(name: str):
    "Membranes of an answer, or of a file."
    from ion_ode.core import InputError
    from ion_ode.dspmde.membranes import read_membrane_table
    from ion_ode.inference.answer import load_answer

    if name in ("nf270", "nf") or name.endswith(".json"):
        return load_answer(name).thinned(_DRAWS)
    if not Path(name).is_file():
        raise InputError(f"--draws {name!r} is neither nf270 nor nf nor a file of membranes")
    return list(read_membrane_table(name).values())


def _plant(*, element, elements, vessels, boost, recirculate, bypass):
    "The plant that the options describe."
    from ion_ode.core import bar
    from ion_ode.module.plant import Plant, Stage

    many = _numbers(vessels, "--vessels")
    extra = _numbers(boost, "--boost", len(many) - 1) if boost else []
    stages = [Stage(element, elements, n) for n in many]
    for k, b in enumerate(extra, start=1):
        stages[k] = Stage(element, elements, many[k], boost=b * bar)
    last = stages[-1]
    stages[-1] = Stage(element, elements, last.vessels, boost=last.boost, recirculate=recirculate)
    return Plant(stages, bypass=bypass)


def _operation(**run) -> dict:
    "How the plant is run, in SI; what was not said stays open."
    from ion_ode.core import InputError, bar

    if (share := run["recovery"]) is not None and 0 < share < 1:
        raise InputError(f"--recovery {share:g} is {share:g} % of the feed; write {100 * share:g} for that share of it")
    units = {"feed_flow": 1 / 3600, "recovery": 0.01, "pressure": bar, "permeate_flow": 1 / 3600}
    return {k: None if v is None else v * units[k] for k, v in run.items()}


def _solve(feed, membrane, *, balance, draws, **options):
    "The plant of the options, solved for one membrane or for many."
    from ion_ode.core import ConvergenceError
    from ion_ode.module.answers import simulate_plant

    take = lambda *names: {k: options.pop(k) for k in names}
    plant = _plant(**take("element", "elements", "vessels", "boost", "recirculate", "bypass"))
    water, balance = _water(feed, balance)
    options |= _operation(**take("feed_flow", "recovery", "pressure", "permeate_flow"))
    members = _drawn(draws) if draws else membrane
    sol = simulate_plant(water, plant, membrane=members, balance=balance, throw=False, **options)
    if not (draws or sol.ok.any()):
        raise ConvergenceError(sol.status[0], (0,), sol.status[0])
    return sol


def _scale(sol, pH, temperature, sink):
    "Saturation indices of feed and concentrate; to standard error where the answer goes into a file."
    from ion_ode.module.scaling import saturation

    if pH is None or not sol.ok.any():
        return
    found = saturation(sol, pH, temperature)
    if len(sol.ok) > 1:  # membranes drawn, or feeds of a file: the range of all
        found = found.groupby("water", sort=False).median(numeric_only=True).drop(columns="sample").reset_index()
    else:
        found = found.drop(columns="sample")
    said = found.to_string(index=False, float_format=lambda v: f"{v:.2f}", na_rep="")
    click.echo(f"saturation indices{' (medians)' if len(sol.ok) > 1 else ''}\n{said}", err=sink.kind != "screen")


