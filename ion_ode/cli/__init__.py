"""The command line: ion-ode simulate | predict | water | module | fit | train | check | generate | screen | campaign |
reproduce | benchmark

Docs: https://ion-ode.github.io/ion_ode/guides/command_line.html.md"""

from ion_ode.cli import ask, benchmark, campaign, design, make, measured, natural  # noqa: F401  all put commands there
from ion_ode.cli.group import main
from ion_ode.cli.options import BALANCE, MEMBRANE, _membrane, output_options, own_ions
from ion_ode.cli.output import Sink
from ion_ode.module.command import register

__all__ = ["main"]

register(main, _membrane, Sink, (output_options, BALANCE, MEMBRANE))
own_ions(main)
