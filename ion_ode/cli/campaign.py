"""ion-ode campaign"""

from pathlib import Path
import click
from ion_ode.cli.group import main
from ion_ode.cli.options import SOURCE, _limits, _pairs, output_options
from ion_ode.cli.output import Sink, _frame, _run


@main.command()
@click.argument("table", metavar="TABLE|FILE.json|deng2022")
@click.option(
    "--objective",
    "objectives",
    multiple=True,
    metavar="TEXT",
    help="permeance, 'rejection NaCl', 'selectivity NaCl/MgCl2', 'min ...'. Repeatable.",
)
@click.option("--next", "n", type=click.IntRange(1, 96), default=4, show_default=True, help="Membranes in the batch.")
@click.option(
    "--start", type=click.IntRange(1, 96), metavar="N", help="Instead: N of the table's recipes to begin with."
)
@click.option("--add", type=SOURCE, metavar="FILE", help="New results, learned before the batch is chosen.")
@click.option(
    "--bound",
    "bounds",
    multiple=True,
    metavar="COLUMN=LOW:HIGH",
    help="Range of a recipe column, or its values: COLUMN=A,B. Repeatable.",
)
@click.option(
    "--cost",
    "costs",
    multiple=True,
    metavar="COLUMN=C",
    help="Cost of a unit of a column; a membrane itself costs 1. Repeatable.",
)
@click.option("--candidates", type=SOURCE, metavar="FILE", help="Recipes to choose from, instead of bounds.")
@click.option("--pending", type=SOURCE, metavar="FILE", help="Recipes under way, not yet measured.")
@click.option(
    "--schema",
    type=SOURCE,
    metavar="FILE",
    help="JSON, what columns are where the header does not say: {column: {kind, scale, low, high, levels}}.",
)
@click.option(
    "--replay", is_flag=True, help="Instead of a batch: each round of the table predicted from the rounds before it."
)
@click.option(
    "--through",
    metavar="NAME",
    help="Instead: your own water (--feed, --flux) through this membrane, by what it did with permeance and salts.",
)
@click.option("--feed", metavar="TEXT|FILE|-", help="With --through: the water, as for ion-ode predict.")
@click.option("--flux", metavar="TEXT", help="With --through: water fluxes in L m⁻² h⁻¹, as for ion-ode predict.")
@click.option(
    "--tested",
    metavar="BAR,MG_L",
    default="5,1000",
    show_default=True,
    help="With --through: pressure and salt of the tests.",
)
@click.option("--save", "saved", metavar="FILE.json", help="Keep the campaign; name that file as TABLE to go on.")
@click.option("--report", metavar="FILE.html|.md", help="Figure, batch with reasons, front, columns used.")
@click.option("--seed", type=click.IntRange(0, (1 << 32) - 1), default=0, show_default=True)
@output_options
def campaign(table, saved, report, through, feed, flux, tested, out, as_json, force, **asked):
    """Which membranes to make next, from a laboratory's own table.

    A row a membrane; columns that say how it was made (numbers, words, names or SMILES of monomers), and what was
    measured: permeance [LMH/bar], rejection NaCl [%], ... In a recipe, none is not the same as an empty cell, which is
    not stated. Optional: name, laboratory, round, replicates, 'sd permeance'. Needs the extra [campaign].

    \b
    Examples:
      ion-ode campaign my.csv --objective permeance --objective "selectivity NaCl/Na2SO4" --save my.json
      ion-ode campaign my.json --add results.csv --next 6 --bound "TMC=0.02:0.2" --report next.html
      ion-ode campaign possible.csv --start 5
      ion-ode campaign deng2022 --replay
      ion-ode campaign deng2022 --through D041 --feed "Na+=2,Ca+2=2.5,Cl-=3,HCO3-=4" --flux 30
    """
    from ion_ode.core import InputError
    from ion_ode.guard import alone
    from ion_ode.prequalify.report import write_report

    for name in (saved, report):
        if name and Path(name).exists() and not force:
            raise InputError(f"{name} exists and stays as it is; choose another name, or add --force to replace it")
    asked |= {"bounds": _ranges(asked["bounds"]), "costs": _prices(asked["costs"])}  # before the work
    if through or feed or flux:
        return _through(table, through, (feed, flux, out, as_json, force), tested)
    with alone(saved, False), alone(report, False):
        with Sink(out, as_json, force) as sink:
            c, batch = _batch(table, sink, **asked)
        if c is None:
            return
        if report:
            write_report(c, report, batch)
        if saved:  # last: what is killed before can be started again, and adds nothing twice
            c.save(saved)


def _batch(table, sink, *, objectives, schema, start, replay, seed, **asked) -> tuple:
    "What is shown: a replay, a first design, or the next batch; the last with its campaign."
    from ion_ode.guard import read_json
    from ion_ode.prequalify.campaign import Campaign
    from ion_ode.prequalify.report import batch_table
    from ion_ode.prequalify.report_figures import replay_rounds

    if replay:
        found = replay_rounds(table, list(objectives) or None, seed)
        click.echo("\n".join(found.attrs.pop("used")), err=True)
        sink.write(found)
        return None, found
    declared = read_json(schema, "a schema", '{"TMC": {"kind": "number"}}') if schema else None
    if start:
        found = Campaign(declared, seed=seed).start(table, start)
        sink.write(found)
        return None, found
    if table.endswith(".json"):
        c = Campaign.load(table)
        if objectives:
            c.aim(objectives)
    else:
        c = Campaign(declared, list(objectives) or None, seed).fit(table)
    if add := asked.pop("add"):
        c.add(add)
    batch = c.suggest(asked.pop("n"), **asked)
    click.echo("\n".join(c.used_lines()), err=True)
    sink.write(batch if sink.kind != "screen" else batch_table(c, batch))
    return c, batch


def _ranges(bounds) -> dict | None:
    "Column and its range, or its values."
    form = "COLUMN=LOW:HIGH, as in --bound TMC=0.02:0.2"
    return {k: _limits(v) for k, v in _pairs(bounds, "--bound", form).items()} or None


def _prices(costs) -> dict | None:
    "Column and its cost."
    from ion_ode.core import InputError

    found = _pairs(costs, "--cost", "COLUMN=C, as in --cost SDS=0.01")
    try:
        if all(0 <= float(v) < float("inf") for v in found.values()):
            return {k: float(v) for k, v in found.items()} or None
        raise ValueError
    except ValueError:
        form = "expected COLUMN=C with a number from 0, as in --cost SDS=0.01"
        raise InputError(f"--cost {', '.join(costs)}: {form}") from None


def _through(table: str, name: str | None, ask: tuple, tested: str):
    "Own water through a membrane of the table: its salts choose among membranes, and these predict."
    from ion_ode.core import InputError
    from ion_ode.inference.made import membrane_made, pores_of
    from ion_ode.prequalify.campaign import Campaign
    from ion_ode.prequalify.tables import read_table, tests_of

    if not name or ask[0] is None:
        raise InputError('name a membrane and its water, as in --through D041 --feed "Na+=2,Cl-=2" --flux 30')
    try:
        pressure, mg_L = (float(v) for v in tested.split(","))
    except ValueError:
        form = "expected pressure [bar] and salt [mg/L] of the tests, as in --tested 5,1000"
        raise InputError(f"--tested {tested}: {form}") from None
    rows = Campaign.load(table).rows if table.endswith(".json") else read_table(table)[0]
    permeance, salts = tests_of(rows, name)
    model = membrane_made(salts, permeance, pressure=pressure, mg_L=mg_L)
    said = ", ".join(f"{s} {r:.3g}" for s, r in salts.items())
    at = f"taken as tested at {pressure:g} bar and {mg_L:g} mg/L"
    click.echo(f"{name}: {permeance:.3g} LMH/bar and rejections {said}, {at}", err=True)
    click.echo(pores_of(model).to_string(float_format=lambda v: f"{v:.3g}"), err=True)
    _run(*ask, lambda t: model.predict(_frame(t), t.flux))
