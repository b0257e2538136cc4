"""Tables on the screen or in a file"""

import json
import sys
from pathlib import Path

import click
from ion_ode.cli.options import _located


_PIECE = 4096  # samples, a feed at a flux, that are worked on at a time


def _feeds(feed: str, flux: str | None, used: tuple[str, ...] = (), units: dict | None = None):
    "Pieces (ions, c_feed, flux, names, where) of the --feed and --flux options."
    from dataclasses import replace

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
        found = "is no file" if Path(feed).exists() else "is not there"
        raise InputError(f"{feed} {found}; name a table of feeds, or write the feed as 'Na+=10,Cl-=10'")
    for t in read_feeds(feed, max(1, _PIECE // (1 if given is None else len(given))), used, units):
        if t.flux is not None and given is not None:
            raise InputError(f"{t.where} has a flux column and --flux was given too; use one of them")
        if t.flux is None and given is None:
            raise InputError(f"no flux: add --flux 5,10,20 (L m-2 h-1) or a column 'flux [L m-2 h-1]' to {feed}")
        yield t if t.flux is not None else replace(t, flux=given)


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
        self.rows, self.shown, self.parquet, self.force = 0, 0, None, force

    def __enter__(self):
        from contextlib import ExitStack

        from ion_ode.core import InputError
        from ion_ode.guard import alone
        from ion_ode.store import whole

        text = {"mode": "wb"} if self.kind == "parquet" else {"mode": "w", "encoding": "utf-8", "newline": ""}
        with ExitStack() as stack:
            stack.enter_context(alone(self.path, folder=False))
            if self.path and self.path.exists() and not self.force:
                raise InputError(
                    f"{self.path} was written by another process meanwhile and stays as it is; choose another name"
                )
            self.file = stack.enter_context(whole(self.path, **text)) if self.path else sys.stdout
            self.held = stack.pop_all()
        if self.kind == "json":
            self.file.write("[")
        return self

    def write_feeds(self, rows, columns):
        "A piece of the rejections of feeds, by row of their file; on the screen as a person reads them."
        if self.kind == "screen":
            _show(rows, columns, self)
            self.rows += len(rows)
        else:
            import pandas as pd

            self.write(pd.DataFrame(columns))

    def write(self, frame):
        "A piece of a tidy table."
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
            click.echo(frame.to_string(index=False, na_rep="", float_format=lambda v: f"{v:.3g}"))
        self.rows += len(frame)

    def __exit__(self, kind, error, trace):
        with self.held:
            if kind is not None:
                raise error
            if self.kind == "json":
                self.file.write("\n]\n")
            if self.parquet:
                self.parquet.close()
        if self.path:
            click.echo(f"{self.rows} rows in {self.path}", err=True)
        if self.kind == "screen" and self.shown > _SCREEN_FEEDS:
            click.echo(f"... and {self.shown - _SCREEN_FEEDS} more feeds; --out FILE keeps them all")


def _records(frame) -> list[dict]:
    """Rows as JSON writes them: every digit (pandas rounds to 15 decimals, which SI numbers do not survive), null for
    NaN and infinity, which JSON does not know."""
    known = frame.notna() & ~frame.isin([float("inf"), -float("inf")])
    return frame.astype(object).where(known, None).to_dict("records")


_SCREEN_FEEDS = 20


def _show(rows, columns, sink):
    "The table a person reads: for each feed, a row a flux and a column an ion, rejection in percent."
    of = list(zip(rows, (dict(zip(columns, r)) for r in zip(*map(list, columns.values())))))
    feeds = {row: [r for k, r in of if k == row] for row in dict.fromkeys(k for k, _ in of)}
    for g in feeds.values():
        sink.shown += 1
        if sink.shown > _SCREEN_FEEDS:
            continue
        label = "" if sink.rows == 0 and len(feeds) == 1 else f"feed {g[0]['sample']}: "
        _show_feed(label, g)


def _show_feed(label: str, g: list[dict]):
    "One feed: what it holds, then a line a flux."
    feed = {r["ion"]: r["c_feed_mol_m3"] for r in reversed(g) if r["c_feed_mol_m3"] > 0}
    ions = [i for i in dict.fromkeys(r["ion"] for r in g) if i in feed]
    said = ", ".join(f"{i} {feed[i]:.4g}" if "pH_feed" in g[0] else f"{i} {feed[i]:g}" for i in ions)
    pH = f", pH {g[0]['pH_feed']:.2f}" if "pH_feed" in g[0] else ""
    click.echo(f"{label}{said} mol/m³{pH}, rejection in %")
    interval = lambda r: f" [{100 * r['lower']:.1f}, {100 * r['upper']:.1f}]" if "lower" in r else ""
    lines = []
    for f in dict.fromkeys(r["flux_L_m2_h"] for r in g):
        at = [r for r in g if r["flux_L_m2_h"] == f]
        here = {r["ion"]: f"{100 * r['rejection']:.1f}{interval(r)}" for r in at}
        status = sorted({r["status"] for r in at}) if "status" in g[0] else []
        pH = [f"{at[0]['pH_perm']:.2f}"] if "pH_perm" in g[0] else []
        lines.append([f"{f:.4g}", *(here[i] for i in ions), *pH, *status])
    more = [name for name, column in (("permeate pH", "pH_perm"), ("status", "status")) if column in g[0]]
    lines.insert(0, ["flux L/m²/h", *ions, *more])
    width = [max(len(r[k]) for r in lines if k < len(r)) for k in range(len(lines[0]))]
    for r in lines:
        click.echo("  " + "  ".join(t.rjust(w) for t, w in zip(r, width)).rstrip())


def _tidy(found, table) -> tuple:
    "Rows of the file, and the library's columns with the file's own names and laboratory units at the edge."
    from ion_ode.core import LMH

    said = {"flux_m_s": "flux_L_m2_h", "c_feed": "c_feed_mol_m3", "c_perm": "c_perm_mol_m3"}
    columns = {said.get(k, k): found[k] if isinstance(found, dict) else found[k].to_numpy() for k in found}
    columns["flux_L_m2_h"] = (columns["flux_L_m2_h"] / LMH).round(12)
    rows = columns["sample"]  # of the file, even where two have one name
    columns["sample"] = [table.sample[i] for i in rows]
    return list(rows), columns


def _run(feed, flux, out, as_json, force, compute, used=(), units=None):
    "Read, compute piece by piece, write; a long file shows its progress to a person who watches."
    from ion_ode.core import progress

    bar = None
    with Sink(out, as_json, force) as sink:
        for table in _feeds(feed, flux, used, units):
            with _located(table.where):
                found = compute(table)
            sink.write_feeds(*_tidy(found, table))
            if sys.stderr.isatty() and sink.path:
                bar = bar if bar is not None else progress(desc="feeds", unit=" feeds")
                bar.update(len(table.sample))
        if bar is not None:
            bar.close()


def _frame(table):
    import pandas as pd

    return pd.DataFrame(table.c_feed, columns=list(table.ions))
