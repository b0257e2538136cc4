"""Options that commands share, and what their text means"""

import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import click


FEED = click.option(
    "--feed",
    required=True,
    metavar="TEXT|FILE|-",
    help="Ions or salts, 'Na+=10,Cl-=10' or 'NaCl=10' (mol/m³; units may be written, 'Na+=230 mg/L'), or a table with "
    "a column an ion, 'Na+ [mM]', and a row a feed (.csv .tsv .json .parquet .xlsx; - reads CSV from standard input).",
)
FLUX = click.option(
    "--flux",
    metavar="TEXT",
    help="Water fluxes in L m⁻² h⁻¹: '5,10,20', or '5:100:20' for 20 values from 5 to 100. Not needed where the feed "
    "table has a column 'flux [L m-2 h-1]'.",
)
BALANCE = click.option("--balance", metavar="ION", help="Let this ion close the charge balance of each feed.")
MEMBRANE = click.option(
    "--membrane",
    default="nf270",
    show_default=True,
    metavar="NAME|TEXT",
    help="nf270, or 'r_pore=0.45,thickness=1.2,charge_density=-40,eps_pore=40' (nm, µm, mol/m³, -).",
)
UNIT = click.option(
    "--unit",
    "units",
    multiple=True,
    metavar="NAME=UNIT",
    help="Unit of a column whose header has none, as in --unit flux=LMH. Repeatable.",
)
DECIMAL = click.option(
    "--decimal", type=click.Choice([",", "."]), help="Decimal sign; left out, what the numbers show (0,95 has a comma)."
)
LEVEL = click.option(
    "--level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.9,
    show_default=True,
    help="Share of measurements the interval should hold.",
)
PRESSURE = click.option(
    "--pressure",
    metavar="BAR",
    help="Pressure difference instead of a flux, in bar: a number, a list 3,5,8 or a range 2:10:5.",
)
MEASUREMENTS = click.option(
    "--measurements",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Your own 1 to 50 values, as for ion-ode check: the model becomes that of your coupon.",
)
FORCE = click.option("--force", is_flag=True, help="Replace the file named by --out if it exists.")
WORKERS = click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Processes of this machine, one thread each."
)
SCHEDULER = click.option(
    "--scheduler", metavar="ADDRESS", help="A running Dask scheduler, tcp://head:8786 (extra [cluster])."
)


def _read_ions(ctx, param, files):
    "Ions of a user's own, known before anything else is read."
    from ion_ode.water.ions import read_ion_table

    for file in files:
        read_ion_table(file)


def own_ions(group):
    "--ions for every command that has none of another meaning."
    help_ = "Ions and solutes of your own: a CSV file with the columns of ion_ode/assets/ions.csv. Repeatable."
    path = click.Path(exists=True, dir_okay=False)
    for command in group.commands.values():
        if not any("--ions" in p.opts for p in command.params):
            more = {"callback": _read_ions, "expose_value": False, "is_eager": True}
            command.params.append(
                click.Option(["--ions"], multiple=True, type=path, metavar="FILE", help=help_, **more)
            )


def output_options(f):
    f = FORCE(f)
    f = click.option("--json", "as_json", is_flag=True, help="JSON on standard output instead of a table.")(f)
    return click.option(
        "--out",
        metavar="FILE|-",
        help="Write a tidy table, one row a feed, flux and ion: .csv, .json, .jsonl or .parquet; - is CSV on "
        "standard output.",
    )(f)


def _membrane(text: str):
    "A membrane by name, or from 'r_pore=0.45,thickness=1.2,charge_density=-40,eps_pore=40' (nm, µm, mol/m³, -)."
    from ion_ode.core import InputError
    from ion_ode.water.feeds import MEMBRANE_UNITS, parse_pairs
    from ion_ode.dspmde.membranes import Membrane, get_membrane, membrane_table

    if "=" not in text:
        name = text.strip()
        for said in (name, name.upper()):
            with suppress(InputError):
                return get_membrane(said)
        names = {n.lower(): n for n in membrane_table().name}  # in any case; pandas is not loaded for the name itself
        return get_membrane(names.get(name.lower(), name))
    values = parse_pairs(text, MEMBRANE_UNITS)
    if 0 < values.get("r_pore", 1.0) < 1e-10:
        raise InputError(f"membrane {text!r}: a pore of {values['r_pore'] / 1e-9:g} nm is narrower than any ion; "
                         f"r_pore is in nm, such as 0.45")
    if missing := [k for k in MEMBRANE_UNITS if k not in values]:
        units = ", ".join(f"{k} [{MEMBRANE_UNITS[k][0]}]" for k in missing)
        raise InputError(f"membrane {text!r} lacks {units}; a membrane has {', '.join(MEMBRANE_UNITS)}")
    return Membrane(**values)


def _bars(pressure: str | None, flux: str | None):
    "Pressures [Pa] in the grammar of numbers, lists and ranges that fluxes have; None where a flux is given instead."
    from ion_ode.core import LMH, InputError, bar
    from ion_ode.water.feeds import parse_flux

    if pressure is not None and flux is not None:
        raise InputError("give --flux or --pressure, one of them")
    return None if pressure is None else parse_flux(pressure) / LMH * bar


def _calibrated(model, measurements, balance):
    "A sample of membranes, made that of a coupon where own values are given; what they taught goes to stderr."
    if measurements is None:
        return model
    model = model.calibrate(measurements, balance=balance)
    for sentence in model.card["taught"]:
        click.echo(sentence, err=True)
    return model


@contextmanager
def _located(where: str):
    "Say which rows of a long file an error is about."
    from ion_ode.core import InputError

    try:
        yield
    except InputError as e:
        raise InputError(f"{where}: {e}" if where else str(e)) from e


@contextmanager
def _source(file: str):
    "A file to read; - is standard input, as CSV."
    import tempfile

    from ion_ode.core import InputError
    from ion_ode.water.files import MOST_BYTES

    if file != "-":
        yield Path(file)
        return
    if len(data := sys.stdin.buffer.read(MOST_BYTES + 1)) > MOST_BYTES:
        raise InputError(f"standard input is larger than {MOST_BYTES >> 20} MiB; cut the table into several")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "standard-input.csv"
        path.write_bytes(data)
        yield path


SOURCE = click.Path(exists=True, dir_okay=False, allow_dash=True)


def _limits(text: str):
    "LOW:HIGH as two numbers, A,B,... as a list."
    from ion_ode.core import InputError

    if ":" not in text:
        return text.split(",")
    try:
        low, high = (float(v) for v in text.split(":"))
        if not abs(low) + abs(high) < float("inf"):
            raise ValueError
    except ValueError:
        raise InputError(f"--bound ...={text}: expected two numbers LOW:HIGH, or values A,B") from None
    return low, high


def _pairs(units, option: str = "--unit", form: str = "NAME=UNIT, as in --unit flux=LMH") -> dict[str, str]:
    "NAME=UNIT options as a dict."
    from ion_ode.core import InputError

    if bad := [u for u in units if not all(u.rpartition("="))]:
        raise InputError(f"{option} {bad[0]}: expected {form}")
    found = dict(u.rpartition("=")[::2] for u in units)
    if len(found) < len(units):
        names = [u.rpartition("=")[0] for u in units]
        raise InputError(f"{option} gives {next(n for n in names if names.count(n) > 1)} twice; give each once")
    return found
