"""ion-ode screen"""

import click
from ion_ode.cli.group import main
from ion_ode.cli.options import LEVEL, SOURCE, _source, output_options
from ion_ode.cli.output import Sink


@main.command()
@click.argument("recipes", type=SOURCE)
@LEVEL
@click.option("--target-permeance", type=float, metavar="A", help="Wanted permeance [L m⁻² h⁻¹ bar⁻¹].")
@click.option("--target-rejection", type=float, metavar="R", help="Wanted rejection, a fraction.")
@output_options
def screen(recipes, level, target_permeance, target_rejection, out, as_json, force):
    """Rank recipes that nobody has published by what 100 papers say.

    A row a recipe: amine, acyl chloride (names or SMILES), salt (NaCl; MgCl2), and if known amine [wt%], acyl chloride
    [wt%], third monomer, support, pressure [bar], film (polyester). Refuses monomers that cannot make a film and those
    far from anything measured. A laboratory with membranes of its own learns more from ion-ode campaign. Needs the
    extra [campaign].

    \b
    Examples:
      ion-ode screen recipes.csv
      ion-ode screen recipes.csv --target-permeance 10 --target-rejection 0.95 --out ranked.csv
    """
    from ion_ode.prequalify.screen import ranked_table, screen_recipes

    with Sink(out, as_json, force) as sink, _source(recipes) as path:
        found = screen_recipes(
            str(path), level=level, target_permeance=target_permeance, target_rejection=target_rejection
        )
        for line in found.attrs.pop("used"):
            click.echo(line, err=True)
        sink.write(found if sink.kind != "screen" else ranked_table(found))
