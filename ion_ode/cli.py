"""The command line: ion-ode simulate | predict | module | fit | train | check | generate | screen | campaign | reproduce | benchmark

Docs: https://ion-ode.github.io/ion_ode/guides/command_line.html.md"""

# Thin: text becomes SI numbers, one library function is called, and its table goes to the screen or a file. A mistake
# in the input ends with one sentence on standard error and exit status 2, and leaves existing files as they were.

import json
import os
import re
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import click

from ion_ode import __version__
from ion_ode.module.command import register

__all__ = ["main"]

# Nothing heavy is imported up here: `ion-ode --help` and shell completion must answer at once.


FEW = 32  # samples, a feed at a flux, that the pore model in torch solves within the time Numba takes to load
MOST_NOTES = 8  # a long file would repeat itself
PIECE = 4096  # samples, a feed at a flux, that are worked on at a time


class OneSentence(click.Group):
    "A command group whose errors are one sentence; 2 for what the user can mend in the input, 1 for the rest."

    def list_commands(self, ctx):
        "In the order of a person's questions, not of the alphabet."
        order = "simulate predict module fit train check generate screen campaign reproduce benchmark".split()
        return sorted(self.commands, key=lambda n: order.index(n) if n in order else len(order))

    def invoke(self, ctx):
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                result = super().invoke(ctx)
            sys.stdout.flush()
            notes = _worst(" ".join(str(w.message).split()) for w in caught if issubclass(w.category, UserWarning))
            for note in notes[:MOST_NOTES]:
                click.echo(f"ion-ode: note: {note}", err=True)
            if len(notes) > MOST_NOTES:
                click.echo(f"ion-ode: note: and {len(notes) - MOST_NOTES} more like these", err=True)
            return result
        except BrokenPipeError:  # the reader of a pipe has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def main(self, *args, standalone_mode=True, **kw):
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **kw)
        for stream in (sys.stdout, sys.stderr):  # a console that cannot show a letter shows a question mark
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        try:
            status = super().main(*args, standalone_mode=False, **kw)
        except click.exceptions.NoArgsIsHelpError as e:
            e.show()
            status = 2
        except click.ClickException as e:
            where = e.ctx.command_path if getattr(e, "ctx", None) else "ion-ode"
            said = e.format_message().rstrip(".")
            status = _complain(f"{said}{'' if said.endswith('?') else ';'} see {where} --help", 2)
        except (click.Abort, KeyboardInterrupt):
            status = _complain("stopped", 130)
        except OSError as e:
            status = _complain(f"{e.filename}: {e.strerror}" if e.filename else str(e), 2)
        except Exception as e:
            status = _explain(e)
        sys.exit(status if isinstance(status, int) else 0)


def _worst(notes) -> list[str]:
    "Notes that differ in their numbers alone, as the pieces of a long file give them: the one that is off by most."
    by_how_much = lambda note: float((re.findall(r"by ([\d.]+)%", note) or [0])[-1])
    kinds = {}
    for note in notes:
        kinds.setdefault(re.sub(r"[-+]?\d[\d.]*(e[-+]?\d+)?", "", note), []).append(note)
    return [max(same, key=by_how_much) for same in kinds.values()]


def _in_shell(text) -> str:
    "Advice that names arguments of Python, with the options of this program."
    text = re.sub(r"\bpass (balance|decimal)='([^']+)'", r"add --\1 \2", str(text))
    text = re.sub(r"\b(balance|decimal)='([^']+)'", r"--\1 \2", text)
    return re.sub(r"\bpass units=\{'(\w+)': '([^']+)'\}", r"add --unit \1=\2", text)


def _complain(message, status: int) -> int:
    lines = [" ".join(line.split()) for line in _in_shell(message).splitlines()]
    click.echo("ion-ode: " + "; ".join(filter(None, lines)).replace(":;", ":"), err=True)
    return status


def _explain(e: Exception) -> int:
    "Errors that the library means for people; anything else is a bug and keeps its traceback."
    from ion_ode.core import ConvergenceError, InputError, WorkersLost

    if isinstance(e, InputError):
        return _complain(e, 2)
    if isinstance(e, ConvergenceError | WorkersLost) or (isinstance(e, ImportError) and "pip install" in str(e)):
        return _complain(e, 1)
    raise e


@click.group(cls=OneSentence, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="ion-ode")
def main():
    """Ion rejection of nanofiltration membranes.

    \b
    ion-ode simulate   the pore model DSPM-DE: any feed, any membrane
    ion-ode predict    the trained networks, with an interval
    ion-ode module     a plant of spiral-wound elements

    Each command has its own --help with an example. Feeds are in mol/m³ (= mM) unless a unit is written, fluxes
    in L m⁻² h⁻¹.
    """


# ---- options that several commands share

FEED = click.option(
    "--feed",
    required=True,
    metavar="TEXT|FILE|-",
    help="Ions and concentrations, 'Na+=10,Cl-=10' (mol/m³; units may be written, 'Na+=230 mg/L'), or a table with "
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
UNIT = click.option("--unit", "units", multiple=True, metavar="NAME=UNIT", help="Unit of a column whose header has none, as in --unit flux=LMH. Repeatable.")
DECIMAL = click.option("--decimal", type=click.Choice([",", "."]), help="Decimal sign; left out, what the numbers show (0,95 has a comma).")
FORCE = click.option("--force", is_flag=True, help="Replace the file named by --out if it exists.")
WORKERS = click.option("--workers", type=click.IntRange(min=1), metavar="N", help="A local Dask cluster of N processes (extra [cluster]).")
SCHEDULER = click.option("--scheduler", metavar="ADDRESS", help="A running Dask scheduler, tcp://head:8786 (extra [cluster]).")


def output_options(f):
    f = FORCE(f)
    f = click.option("--json", "as_json", is_flag=True, help="JSON on standard output instead of a table.")(f)
    return click.option(
        "--out",
        metavar="FILE|-",
        help="Write a tidy table, one row a feed, flux and ion: .csv, .json, .jsonl or .parquet; - is CSV on "
        "standard output.",
    )(f)


def _feeds(feed: str, flux: str | None):
    "Pieces (ions, c_feed, flux, names, where) of the --feed and --flux options."
    import numpy as np

    from ion_ode.core import InputError
    from ion_ode.water.feeds import FeedTable, parse_feed, parse_flux, read_feeds

    given = parse_flux(flux) if flux is not None else None
    if feed != "-" and ("=" in feed or not Path(feed).suffix):
        d = parse_feed(feed)
        if given is None:
            raise InputError("no flux: add --flux 5,10,20 (L m-2 h-1)")
        yield FeedTable(tuple(d), np.array([list(d.values())]), given, [0], "")
        return
    if feed != "-" and not Path(feed).is_file():
        raise InputError(f"there is no file {feed}; name a table of feeds, or write the feed as 'Na+=10,Cl-=10'")
    for t in read_feeds(feed, max(1, PIECE // (1 if given is None else len(given)))):
        if t.flux is not None and given is not None:
            raise InputError(f"{t.where} has a flux column and --flux was given too; use one of them")
        if t.flux is None and given is None:
            raise InputError(f"no flux: add --flux 5,10,20 (L m-2 h-1) or a column 'flux [L m-2 h-1]' to {feed}")
        yield t if t.flux is not None else FeedTable(t.ions, t.c_feed, given, t.sample, t.where)


def _membrane(text: str):
    "A membrane by name, or from 'r_pore=0.45,thickness=1.2,charge_density=-40,eps_pore=40' (nm, µm, mol/m³, -)."
    from ion_ode.core import InputError
    from ion_ode.water.feeds import MEMBRANE_UNITS, parse_pairs
    from ion_ode.dspmde.membranes import Membrane, get_membrane, membrane_table

    if "=" not in text:
        names = {n.lower(): n for n in membrane_table().name}
        return get_membrane(names.get(text.strip().lower(), text.strip()))
    values = parse_pairs(text, MEMBRANE_UNITS)
    if 0 < values.get("r_pore", 1.0) < 1e-10:
        raise InputError(f"membrane {text!r}: a pore of {values['r_pore'] / 1e-9:g} nm is narrower than any ion; r_pore is in nm, such as 0.45")
    if missing := [k for k in MEMBRANE_UNITS if k not in values]:
        units = ", ".join(f"{k} [{MEMBRANE_UNITS[k][0]}]" for k in missing)
        raise InputError(f"membrane {text!r} lacks {units}; a membrane has {', '.join(MEMBRANE_UNITS)}")
    return Membrane(**values)


class Sink:
    "Rows as they come: to a temporary file that takes its name at the end, or to standard output."

    def __init__(self, out: str | None, as_json: bool, force: bool):
        from ion_ode.core import InputError, need

        self.path = Path(out) if out not in (None, "-") else None
        self.kind = "screen"
        if as_json and out is not None:
            raise InputError("--json writes to standard output; leave out --out, or name a file --out result.json")
        if as_json:
            self.kind = "json"
        elif out == "-":
            self.kind = "csv"
        elif self.path:
            self.kind = self.path.suffix.lower().lstrip(".")
            if self.kind not in ("csv", "json", "jsonl", "parquet"):
                raise InputError(f"--out {out}: the name must end in .csv, .json, .jsonl or .parquet")
            if self.kind == "parquet":
                need("pyarrow.parquet", "data")
            if self.path.exists() and not force:
                raise InputError(f"{out} exists and stays as it is; choose another name, or add --force to replace it")
            if not self.path.absolute().parent.is_dir():
                raise InputError(f"--out {out}: there is no folder {self.path.absolute().parent}; make it first")
        self.rows, self.shown, self.parquet = 0, 0, None

    def __enter__(self):
        import tempfile

        self.temporary = None
        if self.path:
            fd, self.temporary = tempfile.mkstemp(dir=self.path.absolute().parent, prefix=f".{self.path.name}.")
            self.file = os.fdopen(fd, "wb" if self.kind == "parquet" else "w", **({} if self.kind == "parquet" else {"encoding": "utf-8", "newline": ""}))
        else:
            self.file = sys.stdout
        if self.kind == "json":
            self.file.write("[")
        return self

    def write(self, frame):
        "A piece of the tidy table."
        if self.kind == "csv":
            frame.to_csv(self.file, index=False, header=self.rows == 0, lineterminator="\n")
        elif self.kind in ("json", "jsonl"):
            text = [json.dumps(r, ensure_ascii=False) for r in _records(frame)]
            lead = "\n" if self.rows == 0 else ",\n"
            self.file.write(lead + ",\n".join(text) if self.kind == "json" else "\n".join(text) + "\n")
        elif self.kind == "parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            table = pa.Table.from_pandas(frame, preserve_index=False)
            self.parquet = self.parquet or pq.ParquetWriter(self.file, table.schema)
            self.parquet.write_table(table.cast(self.parquet.schema))
        else:
            _show(frame, self)
        self.rows += len(frame)

    def __exit__(self, kind, error, trace):
        try:
            if kind is None and self.kind == "json":
                self.file.write("\n]\n")
            if self.parquet:
                self.parquet.close()
            if self.path:
                self.file.close()
            if self.path and kind is None:
                mask = os.umask(0)
                os.umask(mask)
                os.chmod(self.temporary, 0o666 & ~mask)
                os.replace(self.temporary, self.path)
                click.echo(f"{self.rows} rows in {self.path}", err=True)
        finally:
            if self.temporary:
                Path(self.temporary).unlink(missing_ok=True)
        if kind is None and self.kind == "screen" and self.shown > SCREEN_FEEDS:
            click.echo(f"... and {self.shown - SCREEN_FEEDS} more feeds; --out FILE keeps them all")


def _records(frame) -> list[dict]:
    "Rows as JSON writes them: every digit (pandas rounds to 15 decimals, which SI numbers do not survive), null for NaN."
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


SCREEN_FEEDS = 20


def _show(frame, sink):
    "The table a person reads: for each feed, a row a flux and a column an ion, rejection in percent."
    flux, interval = "flux_L_m2_h", "lower" in frame
    if flux not in frame:
        click.echo(frame.to_string(index=False, na_rep="", float_format=lambda v: f"{v:.3g}"))
        return
    for _, g in frame.groupby(frame.index.to_numpy(), sort=False):
        sink.shown += 1
        if sink.shown > SCREEN_FEEDS:
            continue
        feed = g.drop_duplicates("ion")
        label = "" if sink.rows == 0 and len(frame.index.unique()) == 1 else f"feed {g['sample'].iloc[0]}: "
        parts = [f"{i} {c:g}" for i, c in zip(feed.ion, feed.c_feed_mol_m3) if c > 0]
        click.echo(f"{label}{', '.join(parts)} mol/m³, rejection in %")
        ions = [i for i, c in zip(feed.ion, feed.c_feed_mol_m3) if c > 0]
        cell = lambda r: f"{100 * r.rejection:.1f}" + (f" [{100 * r.lower:.1f}, {100 * r.upper:.1f}]" if interval else "")
        rows = []
        for f, at in g.groupby(flux, sort=False):
            here = {r.ion: cell(r) for r in at.itertuples()}
            status = sorted(set(at["status"])) if "status" in at else []
            rows.append([f"{f:.4g}", *(here[i] for i in ions), *status])
        head = ["flux L/m²/h", *ions, *(["status"] if "status" in g else [])]
        width = [max(len(r[k]) for r in [head, *rows]) for k in range(len(head))]
        for r in [head, *rows]:
            click.echo("  " + "  ".join(t.rjust(w) for t, w in zip(r, width)).rstrip())


@contextmanager
def _located(where: str):
    "Say which rows of a long file an error is about."
    from ion_ode.core import InputError

    try:
        yield
    except InputError as e:
        raise InputError(f"{where}: {e}" if where else str(e)) from e


def _tidy(frame, table):
    "The library's frame with the file's own names and laboratory units at the edge."
    from ion_ode.core import LMH

    frame = frame.rename(columns={"c_feed": "c_feed_mol_m3", "c_perm": "c_perm_mol_m3"})
    frame.insert(1, "flux_L_m2_h", (frame.pop("flux_m_s") / LMH).round(12))
    frame.index = frame["sample"]  # rows of the file, even where two have one name
    frame["sample"] = [table.sample[i] for i in frame.index]
    return frame


def _run(feed, flux, out, as_json, force, compute):
    "Read, compute piece by piece, write; a long file shows its progress to a person who watches."
    from ion_ode.core import progress

    bar = None
    with Sink(out, as_json, force) as sink:
        for table in _feeds(feed, flux):
            with _located(table.where):
                frame = compute(table)
            sink.write(_tidy(frame, table))
            if sys.stderr.isatty() and sink.path:
                bar = bar if bar is not None else progress(desc="feeds", unit=" feeds")
                bar.update(len(table.sample))
        if bar is not None:
            bar.close()


# ---- commands


@main.command()
@FEED
@FLUX
@BALANCE
@MEMBRANE
@click.option("--film-thickness", type=float, metavar="UM", help="Stagnant (Nernst-Planck) film before the membrane [µm].")
@click.option("--activity", type=click.Choice(["ideal", "davies", "davies_solution"]), default="ideal", show_default=True)
@click.option("--hindrance", type=click.Choice(["dechadilok_deen", "bowen_mohammad"]), default="dechadilok_deen", show_default=True)
@click.option("--born/--no-born", default=True, show_default=True, help="Dielectric exclusion.")
@click.option("--temperature", type=float, default=298.15, show_default=True, metavar="K")
@click.option("--keep-going", is_flag=True, help="Flag samples without a solution in the column status instead of ending.")
@output_options
def simulate(feed, flux, balance, membrane, film_thickness, activity, hindrance, born, temperature, keep_going, out, as_json, force):
    """Rejections by the pore model DSPM-DE.

    \b
    Examples:
      ion-ode simulate --feed "Na+=10,Cl-=10" --flux 5,10,20
      ion-ode simulate --feed "Mg+2=240 mg/L,Na+=5" --balance Cl- --flux 5:100:20 --film-thickness 25
      ion-ode simulate --feed feeds.csv --flux 10,20 --out rejections.csv
      ion-ode simulate --feed "Mg+2=10,Cl-=20" --flux 20 --membrane "r_pore=0.45,thickness=1.2,charge_density=-40,eps_pore=40"
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
        few = t.c_feed.shape[0] * t.flux.shape[-1] <= FEW
        return run(_frame(t), t.flux, backend="eager" if few else "auto", **options).to_frame()

    _run(feed, flux, out, as_json, force, answer)


def _frame(table):
    import pandas as pd

    return pd.DataFrame(table.c_feed, columns=list(table.ions))


@main.command()
@FEED
@FLUX
@BALANCE
@click.option("--pressure", metavar="BAR", help="Pressure difference instead of a flux, in bar: a number, a list 3,5,8 or a range 2:10:5.")
@click.option("--model", default="nf270", show_default=True, metavar="NAME|FILE|FOLDER", help="nf270 or nf (any nanofiltration membrane), nf270-network, dspmde, or what was saved or trained.")
@click.option("--measurements", type=click.Path(exists=True, dir_okay=False), metavar="FILE", help="Your own 1 to 50 values, as for ion-ode check: the model becomes that of your coupon.")
@click.option("--kind", type=click.Choice(["observed", "intrinsic"]), default="observed", show_default=True, help="Against the bulk feed, or against the concentration at the membrane.")
@click.option("--film-thickness", type=float, metavar="UM", help="Film in front of the membrane [µm]; left out: as laboratories have it.")
@click.option("--temperature", type=float, default=298.15, show_default=True, metavar="K")
@click.option("--ph", "pH", type=float, metavar="PH", help="pH of the feed; a note tells where the model does not know it.")
@click.option("--membrane", metavar="NAME|TEXT", help="For networks: another membrane than the one the model was trained for, as in ion-ode simulate.")
@click.option("--level", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.9, show_default=True, help="Share of measurements the interval should hold.")
@output_options
def predict(feed, flux, balance, pressure, model, measurements, kind, film_thickness, temperature, pH, membrane, level, out, as_json, force):
    """The best estimate for a membrane, with the interval of a measurement.

    \b
    Examples:
      ion-ode predict --feed "Na+=10,Cl-=10" --flux 5,10,20
      ion-ode predict --feed "Mg+2=10,Cl-=20" --pressure 4,6 --film-thickness 15
      ion-ode predict --feed feeds.csv --flux 10,20 --measurements mine.csv
      cat feeds.csv | ion-ode predict --feed - --flux 20 --json
    """
    from ion_ode.training.predictor import Predictor, load_model

    predictor, options = load_model(model), {"level": level}
    if balance is not None:
        options["balance"] = balance
    if isinstance(predictor, Predictor):
        _only_for_membranes(pressure=pressure, measurements=measurements, film_thickness=film_thickness, ph=pH)
        options |= {} if membrane is None else {"membrane": _membrane(membrane)}
        _run(feed, flux, out, as_json, force, lambda t: predictor.predict(_frame(t), t.flux, **options))
        return
    options |= {"kind": kind, "temperature": temperature, "pH": pH, "film": None if film_thickness is None else film_thickness * 1e-6}
    _run_answer(predictor, measurements, pressure, feed, flux, membrane, options, (out, as_json, force))


def _only_for_membranes(**options):
    "Networks know neither pressure nor film nor own values."
    from ion_ode.core import InputError

    for name, value in options.items():
        if value is not None:
            raise InputError(f"--{name.replace('_', '-')} is for the models nf270 and nf; a network takes a flux and its own membrane")


def _run_answer(model, measurements, pressure, feed, flux, membrane, options, where):
    "Ask a sample of membranes, first made that of a coupon; notes go to stderr."
    from ion_ode.core import InputError
    from ion_ode.water.feeds import parse_flux

    if membrane is not None:
        raise InputError("--membrane is for networks; the model nf270 is a membrane already, and ion-ode simulate takes any")
    if pressure is not None and flux is not None:
        raise InputError("give --flux or --pressure, one of them")
    if measurements is not None:
        model = model.calibrate(measurements)
        for sentence in model.card["taught"]:
            click.echo(sentence, err=True)
    said = set()

    def ask(table):
        at = {"flux": table.flux} if pressure is None else {"pressure": bars}
        frame = model.predict(_frame(table), **at, **options)
        for sentence in dict.fromkeys(frame.attrs["notes"]):
            if sentence not in said:
                click.echo(sentence, err=True)
        said.update(frame.attrs["notes"])
        return frame.drop(columns=["flux_lower", "flux_upper"], errors="ignore")

    bars = None
    if pressure is not None:
        from ion_ode.core import LMH, bar

        bars = parse_flux(pressure) / LMH * bar  # the same grammar of numbers, lists and ranges
        flux = "1"
    _run(feed, flux, *where, ask)


@main.command()
@click.option("--profile", type=click.Choice(["quick", "full"]), default="quick", show_default=True)
@click.option("--out", default="results", show_default=True, metavar="FOLDER", help="Folder for figures, tables and metrics.")
@WORKERS
@SCHEDULER
@click.option("--only", metavar="NAME", help="One part alone, such as recipes, surrogate or twin; a wrong name lists them.")
@click.option("--store", "keep", is_flag=True, help="With --only: write what was made into the package, where it ships.")
@click.option("--json", "as_json", is_flag=True, help="Scores, claims and provenance as JSON, the content of claims.json.")
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
    from ion_ode.results.run import reproduce as run

    if Path(out).exists() and not Path(out).is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    if only:
        from ion_ode.results.parts import reproduce_part

        made = reproduce_part(only, out, profile, workers, scheduler, keep)
        click.echo(f"{only}: made in {out}{f', stored as {made}' if keep else ''}")
        return
    if keep:
        raise InputError("--store goes with --only NAME: it replaces files that ship with the package")
    record = run(profile, out, workers, scheduler)
    if as_json:
        click.echo(json.dumps(record, indent=1, sort_keys=True))
    else:
        click.echo(f"figures, tables and claims.json are in {out}; {Path(out) / 'metrics.md'} tells what was found")


@contextmanager
def _source(file: str):
    "A file to read; - is standard input, as CSV."
    import tempfile

    if file != "-":
        yield Path(file)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "standard-input.csv"
        path.write_bytes(sys.stdin.buffer.read())
        yield path


SOURCE = click.Path(exists=True, dir_okay=False, allow_dash=True)


@main.command()
@click.argument("file", type=SOURCE)
@UNIT
@BALANCE
@DECIMAL
@click.option("--write/--no-write", default=True, show_default=True, help="Write a cleaned copy beside the file, never over anything.")
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
        found = check_measurements(path, write=write and file != "-", units=_pairs(units), balance=balance, decimal=decimal)
    if as_json:
        problems = [] if found.problems is None else _records(found.problems)
        clean = None if found.clean_path is None else str(found.clean_path)
        click.echo(json.dumps({"ok": found.ok, "text": _in_shell(found.text), "problems": problems, "clean": clean}, indent=1))
    else:
        click.echo(_in_shell(found.text))
    return 0 if found.ok else 2


@main.command()
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--curves", type=click.IntRange(min=1), required=True, metavar="N", help="Points of the design.")
@click.option("--seed", type=int, required=True, help="Same seed, same curves.")
@click.option("--family", type=click.Choice(["dspmde", "dspmde+"]), default="dspmde+", show_default=True, help="Four parameters, or with binding charge and ion-specific partitioning.")
@click.option("--fluxes", type=click.IntRange(min=1), default=24, show_default=True, metavar="N", help="Fluxes a curve.")
@click.option("--ions", metavar="NAMES", help="Ions that feeds are made of, 'Na+,Mg+2,Cl-'; all nine if left out.")
@click.option("--water", metavar="NAME", help="Feeds around a real water: 'brackish well', 'cooling water', seawater or 'seawater brine'.")
@click.option("--spread", type=float, default=0.3, show_default=True, help="How far they vary around it, standard deviation of ln c.")
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
    from ion_ode.core import need
    from ion_ode.water.ions import ion_name
    from ion_ode.data.design import Design
    from ion_ode.data.shards import simulate_shards
    from ion_ode.dspmde.prior import SLOTS

    if workers or scheduler:
        need("dask.distributed", "cluster")
    slots = tuple(ion_name(i) for i in ions.split(",")) if ions else SLOTS
    design = Design(seed=seed, n_flux=fluxes, ions=slots, family=family, water=water, spread=spread)
    manifest = simulate_shards(folder, curves, design, workers=workers, scheduler=scheduler)
    click.echo(json.dumps(manifest, indent=1) if as_json else f"{manifest['curves']} curves in {folder}")


@main.command()
@click.argument("file", type=SOURCE)
@click.option("--free", default="r_pore,thickness,charge_density,eps_pore", show_default=True, metavar="NAMES", help="Parameters to fit, the rest stay as in --start.")
@click.option("--start", default="nf270", show_default=True, metavar="NAME|TEXT", help="As --membrane in ion-ode simulate.")
@click.option("--film-thickness", type=float, default=25.0, show_default=True, metavar="UM", help="Film in front of observed rejections [µm]; 0 for none.")
@UNIT
@BALANCE
@DECIMAL
@click.option("--starts", type=click.IntRange(min=1), default=6, show_default=True, help="Local searches.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--intervals", type=click.Choice(["profile", "wald", "none"]), default="profile", show_default=True)
@click.option("--out", metavar="FILE|-", help="Write the estimates and what they rest on as .json; - is standard output.")
@click.option("--json", "as_json", is_flag=True, help="The same JSON on standard output instead of sentences.")
@FORCE
def fit(file, free, start, film_thickness, units, balance, decimal, starts, seed, intervals, out, as_json, force):
    """Membrane parameters from measurements, with intervals.

    FILE is as for ion-ode check; - reads CSV from standard input. Needs the extra [data].

    \b
    Examples:
      ion-ode fit data.csv
      ion-ode fit - --json < data.csv
      ion-ode fit data.xlsx --unit flux=LMH --free r_pore,charge_density --out fit.json
    """
    from ion_ode.core import InputError, um
    from ion_ode.store import atomic_write, digest, provenance
    from ion_ode.inference.fit import fit_membrane
    from ion_ode.data.reader import read_measurements

    out, as_json = (None, True) if out == "-" else (out, as_json)
    if out and Path(out).suffix != ".json":
        raise InputError(f"--out {out}: the name must end in .json")
    if out and Path(out).exists() and not force:
        raise InputError(f"{out} exists and stays as it is; choose another name, or add --force to replace it")
    with _source(file) as path:
        measured, data = read_measurements(path, units=_pairs(units), decimal=decimal, balance=balance), digest(path.read_bytes())
    for note in measured.notes:
        warnings.warn(f"{file}: {note}", stacklevel=1)
    if sys.stderr.isatty():
        click.echo(f"fitting {free} to {len(measured)} values, {starts} searches", err=True)
    found = fit_membrane(
        measured,
        tuple(filter(None, (n.strip() for n in free.split(",")))),
        start=_membrane(start),
        film=film_thickness * um if film_thickness else None,
        n_starts=starts,
        seed=seed,
        intervals=intervals,
    )
    record = {
        "estimates": _records(found.estimates),
        "rmse": found.rmse,
        "n_values": found.n_values,
        "message": found.message,
        "provenance": provenance(seed, file=Path(file).name, data=data),
    }
    text = json.dumps(record, indent=1, default=str)
    click.echo(text if as_json else repr(found))
    if out:
        atomic_write(out, text + "\n")


@main.command()
@click.argument("recipes", type=SOURCE)
@click.option("--level", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.9, show_default=True, help="Coverage of the intervals.")
@click.option("--target-permeance", type=float, metavar="A", help="Wanted permeance [L m⁻² h⁻¹ bar⁻¹].")
@click.option("--target-rejection", type=float, metavar="R", help="Wanted rejection, a fraction.")
@output_options
def screen(recipes, level, target_permeance, target_rejection, out, as_json, force):
    """Rank recipes that nobody has published by what 100 papers say.

    A row a recipe and salt: amine, acyl chloride (names or SMILES), salt, and if known amine [wt%], acyl chloride [wt%],
    support, pressure [bar]. Refuses monomers that cannot make a film and those far from anything measured. A
    laboratory with membranes of its own learns more from ion-ode campaign. Needs the extra [campaign].

    \b
    Examples:
      ion-ode screen recipes.csv
      ion-ode screen recipes.csv --target-permeance 10 --target-rejection 0.95 --out ranked.csv
    """
    from ion_ode.prequalify.screen import screen_recipes

    with Sink(out, as_json, force) as sink, _source(recipes) as path:
        found = screen_recipes(
            str(path), level=level, target_permeance=target_permeance, target_rejection=target_rejection
        )
        for line in found.attrs.pop("used"):
            click.echo(line, err=True)
        sink.write(found)


@main.command()
@click.argument("table", metavar="TABLE|FILE.json|deng2022")
@click.option("--objective", "objectives", multiple=True, metavar="TEXT", help="permeance, 'rejection NaCl', 'selectivity NaCl/MgCl2', 'min ...'. Repeatable.")
@click.option("--next", "n", type=click.IntRange(1, 96), default=4, show_default=True, help="Membranes in the batch.")
@click.option("--add", type=SOURCE, metavar="FILE", help="New results, learned before the batch is chosen.")
@click.option("--bound", "bounds", multiple=True, metavar="COLUMN=LOW:HIGH", help="Range of a recipe column, or its values: COLUMN=A,B. Repeatable.")
@click.option("--cost", "costs", multiple=True, metavar="COLUMN=C", help="Cost of a unit of a column; a membrane itself costs 1. Repeatable.")
@click.option("--candidates", type=SOURCE, metavar="FILE", help="Recipes to choose from, instead of bounds.")
@click.option("--pending", type=SOURCE, metavar="FILE", help="Recipes under way, not yet measured.")
@click.option("--schema", type=SOURCE, metavar="FILE", help="JSON, what columns are where the header does not say: {column: {kind, scale, low, high, levels}}.")
@click.option("--replay", is_flag=True, help="Instead of a batch: each round of the table predicted from the rounds before it.")
@click.option("--save", "saved", metavar="FILE.json", help="Keep the campaign; name that file as TABLE to go on.")
@click.option("--report", metavar="FILE.html|.md", help="Figure, batch with reasons, front, columns used.")
@click.option("--seed", type=int, default=0, show_default=True)
@output_options
def campaign(table, objectives, n, add, bounds, costs, candidates, pending, schema, replay, saved, report, seed, out, as_json, force):
    """Which membranes to make next, from a laboratory's own table.

    A row a membrane; columns that say how it was made (numbers, words, names or SMILES of monomers), and what was
    measured: permeance [LMH/bar], rejection NaCl [%], ... In a recipe, none is not the same as an empty cell, which is
    not stated. Optional: name, laboratory, round, replicates, 'sd permeance'. Needs the extra [campaign].

    \b
    Examples:
      ion-ode campaign my.csv --objective permeance --objective "selectivity NaCl/Na2SO4" --save my.json
      ion-ode campaign my.json --add results.csv --next 6 --bound "TMC=0.02:0.2" --report next.html
      ion-ode campaign deng2022 --replay
    """
    from ion_ode.core import InputError
    from ion_ode.prequalify.campaign import Campaign
    from ion_ode.prequalify.report import batch_table, replay_rounds, write_report

    for name in (saved, report):
        if name and Path(name).exists() and not force:
            raise InputError(f"{name} exists and stays as it is; choose another name, or add --force to replace it")
    with Sink(out, as_json, force) as sink:
        if replay:
            sink.write(replay_rounds(table, list(objectives) or None, seed))
            return
        if table.endswith(".json"):
            c = Campaign.load(table)
            if objectives:
                c.aim(objectives)
        else:
            declared = json.loads(Path(schema).read_text(encoding="utf-8")) if schema else None
            c = Campaign(declared, list(objectives) or None, seed).fit(table)
        if add:
            c.add(add)
        limits = {k: _limits(v) for k, v in _pairs(bounds, "--bound", "COLUMN=LOW:HIGH, as in --bound TMC=0.02:0.2").items()}
        prices = {k: float(v) for k, v in _pairs(costs, "--cost", "COLUMN=C, as in --cost SDS=0.01").items()}
        batch = c.suggest(n, bounds=limits or None, costs=prices or None, candidates=candidates, pending=pending)
        for line in c.used().itertuples():
            click.echo(f"{line.column}: {line.use}, {line.why}", err=True)
        sink.write(batch if sink.kind != "screen" else batch_table(c, batch))
    if saved:
        c.save(saved)
    if report:
        write_report(c, report, batch)


def _limits(text: str):
    "LOW:HIGH as two numbers, A,B,... as a list."
    from ion_ode.core import InputError

    if ":" not in text:
        return text.split(",")
    try:
        low, high = (float(v) for v in text.split(":"))
    except ValueError:
        raise InputError(f"--bound ...={text}: expected two numbers LOW:HIGH, or values A,B") from None
    return low, high


def _pairs(units, option: str = "--unit", form: str = "NAME=UNIT, as in --unit flux=LMH") -> dict[str, str]:
    "NAME=UNIT options as a dict."
    from ion_ode.core import InputError

    if bad := [u for u in units if not all(u.rpartition("="))]:
        raise InputError(f"{option} {bad[0]}: expected {form}")
    return dict(u.rpartition("=")[::2] for u in units)



@main.command()
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--config", type=SOURCE, metavar="FILE|-", help="JSON with entries of TrainConfig that differ from the recipe.")
@click.option("--recipe", type=click.Choice(["default", "paper"]), default="default", show_default=True, help="paper: the published recipe, read literally.")
@click.option("--measurements", type=SOURCE, metavar="FILE|-", help="Your own, as for ion-ode check; default: the five mixtures measured on NF270 (extra [data]).")
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
    from ion_ode.training.recipe import TrainConfig
    from ion_ode.training.run import train as run

    if tensorboard:
        need("tensorboard", "log")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as e:
        raise InputError(f"--device {device} cannot be used here ({str(e).splitlines()[0]}); leave it out for the CPU, or install the PyTorch of your GPU") from e
    try:
        changes = json.loads(click.open_file(config, encoding="utf-8").read()) if config else {}
    except ValueError as e:
        raise InputError(f"{config} is not JSON ({e})") from e
    if not isinstance(changes, dict):
        raise InputError(f"{config} holds a {type(changes).__name__}, expected an object such as {{\"members\": 2}}")
    start = TrainConfig.paper() if recipe == "paper" else TrainConfig()
    settings = TrainConfig.from_dict(start.to_dict() | changes)
    rows = None
    if measurements:
        with _source(measurements) as path:
            rows = read_measurements(path, units=_pairs(units), balance=balance, decimal=decimal)
    model = run(settings, folder, rows, device=device)
    if tensorboard:
        _tensorboard(Path(folder))
    click.echo(json.dumps({"folder": folder, "model": repr(model), "card": model.card}, indent=1) if as_json else f"{model!r}; kept in {folder}")


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

    folder = Path(__file__).resolve().parents[1] / "benchmarks"
    if not folder.is_dir():
        raise InputError(
            "the benchmarks are in the repository, not in the installed package; in a clone of it (pip install -e .) run ion-ode benchmark"
        )
    rows = []
    for what, (script, options) in BENCHMARKS.items():
        click.echo(f"{what}: benchmarks/{script} {' '.join(options)}", err=True)
        with tempfile.TemporaryDirectory() as tmp:
            out = Path(tmp) / "rows.json"
            command = [sys.executable, str(folder / script), *options, "--out", str(out)]
            done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
            if done.returncode:
                raise RuntimeError(f"benchmarks/{script} ended with status {done.returncode}")
            rows += _ratios(what, json.loads(out.read_text(encoding="utf-8")))
    if as_json:
        from ion_ode.store import provenance

        click.echo(json.dumps({"rows": rows, "provenance": provenance()}, indent=1))
    else:
        for r in rows:
            errors = f" (errors {r['errors'][0]:.0e} and {r['errors'][1]:.0e})" if "errors" in r else ""
            click.echo(f"{r['what']}: {r['ours']:.3g} {r['unit']}; {r['peer']}: {r['theirs']:.3g}; {r['ratio']:.1f} times as fast{errors}")


def _ratios(what: str, found: dict) -> list[dict]:
    "Our number beside the named peer's, of one benchmark's JSON."
    if what == "pore model":
        rate = "problems/CPU-s"
        ours, theirs = next(r[rate] for r in found["rows"] if r["case"] == "no film"), found[f"scipy {rate}"]
        row = {"what": "pore model, 8 ions", "unit": "problems a CPU second", "ours": ours, "peer": "scipy (solve_ivp, root)"}
        return [row | {"theirs": theirs, "ratio": ours / theirs}]
    rows, out = [r for r in found["rows"] if "ms" in r], []
    mine = [r for r in rows if not r["peer"]]
    for r in [r for r in rows if r["peer"]]:
        fair = [m for m in mine if m["error"] <= r["error"]]  # no less accurate than the peer, where there is one
        best = min(fair, key=lambda m: m["ms"]) if fair else min(mine, key=lambda m: m["error"])
        row = {"what": f"training step of a network, {best['solver']}", "unit": "ms", "ours": best["ms"], "peer": r["solver"]}
        out.append(row | {"theirs": r["ms"], "ratio": r["ms"] / best["ms"], "errors": [best["error"], r["error"]]})
    return out


register(main, _membrane, Sink, (output_options, BALANCE, MEMBRANE))
