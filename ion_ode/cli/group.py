"""The command group: errors and notes as single sentences"""

import gc
import os
import re
import signal
import sys
import warnings
from contextlib import contextmanager, suppress

import click
from ion_ode import __version__


_MOST_NOTES = 8  # a long file would repeat itself


@contextmanager
def _seldom_collected():
    "Fewer passes over all objects while libraries load, where a command for one feed spends a fifth of its time."
    before = gc.get_threshold()
    gc.set_threshold(100_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class _Terminated(KeyboardInterrupt):
    "Somebody asked this process to end."


def _on_sigterm(number, frame):
    "End as after Ctrl-C, so that nothing half written stays; our own processes first, or the end would wait for them."
    if "multiprocessing" in sys.modules:
        for p in sys.modules["multiprocessing"].active_children():
            p.terminate()
    raise _Terminated


class _Once(click.Command):
    "A command that takes an option once and with a value, or says that it does not."

    def parse_args(self, ctx, args):
        values, _, order = self.make_parser(ctx).parse_args(list(args))
        order = [p for p in order if isinstance(p, click.Option)]
        if twice := [p for p in order if not p.multiple and order.count(p) > 1]:
            raise click.UsageError(f"{twice[0].opts[0]} is given twice; give it once", ctx)
        if empty := [p for p in order if "" in (values[p.name] if p.multiple else [values[p.name]])]:
            raise click.UsageError(f"{empty[0].opts[0]} is empty; give it a value, or leave it out", ctx)
        return super().parse_args(ctx, args)


class _OneSentence(click.Group):
    "A command group whose errors are one sentence; 2 for what the user can mend in the input, 1 for the rest."

    command_class = _Once

    def list_commands(self, ctx):
        "In the order of a person's questions, not of the alphabet."
        order = "simulate predict water module fit train check generate screen campaign reproduce benchmark".split()
        return sorted(self.commands, key=lambda n: order.index(n) if n in order else len(order))

    def invoke(self, ctx):
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                result = super().invoke(ctx)
            sys.stdout.flush()
            notes = _worst(" ".join(str(w.message).split()) for w in caught if issubclass(w.category, UserWarning))
            for note in notes[:_MOST_NOTES]:
                click.echo(f"ion-ode: note: {note}", err=True)
            if len(notes) > _MOST_NOTES:
                click.echo(f"ion-ode: note: and {len(notes) - _MOST_NOTES} more like these", err=True)
            return result
        except BrokenPipeError:  # the reader of a pipe has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def main(self, *args, standalone_mode=True, **kw):
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **kw)
        for name in ("stdout", "stderr"):  # closed before the start
            if getattr(sys, name) is None:
                setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        with suppress(ValueError):  # only the main thread may
            signal.signal(signal.SIGTERM, _on_sigterm)
        for stream in (sys.stdout, sys.stderr):  # a console that cannot show a letter shows a question mark
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        try:
            with _seldom_collected():
                status = super().main(*args, standalone_mode=False, **kw)
        except getattr(click.exceptions, "NoArgsIsHelpError", ()) as e:  # of click 8.2
            e.show()
            status = 2
        except click.ClickException as e:
            where = e.ctx.command_path if getattr(e, "ctx", None) else "ion-ode"
            said = e.format_message().rstrip(".")
            status = _complain(f"{said}{'' if said.endswith('?') else ';'} see {where} --help", 2)
        except (click.Abort, KeyboardInterrupt) as e:
            ended = isinstance(e, _Terminated) or isinstance(e.__cause__, _Terminated)
            status = _complain("stopped", 143 if ended else 130)
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
    text = re.sub(r"\b(others|it|the ion) with read_ion_table(?:\(csv\))?", r"\1 with --ions FILE", text)
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


@click.group(cls=_OneSentence, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="ion-ode")
def main():
    """Ion rejection of nanofiltration membranes.

    \b
    ion-ode simulate   the pore model DSPM-DE: any feed, any membrane
    ion-ode predict    the best estimate for a membrane, with its interval
    ion-ode water      a laboratory's analysis: every solute, and the pH of the permeate
    ion-ode module     a plant of spiral-wound elements

    Each command has its own --help with an example. Feeds are in mol/m³ (= mM) unless a unit is written, fluxes
    in L m⁻² h⁻¹.
    """
