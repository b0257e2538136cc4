"""What the module's command prints"""

import click


def _say(sol, sink, level):
    "Answers to the screen or into a file, warnings to standard error."
    from ion_ode.module.answers import intervals, stream_table, summary

    if level:
        sink.write(intervals(sol, level).reset_index(names="answer"))
    elif sink.kind == "screen" and len(sol.ok) == 1:
        click.echo(repr(sol))
        click.echo(summary(sol).drop(columns="status").T.to_string(header=False, float_format=lambda v: f"{v:.4g}"))
        click.echo(stream_table(sol).drop(columns="sample").to_string(index=False, float_format=lambda v: f"{v:.4g}"))
    else:
        sink.write(summary(sol).reset_index(names="sample"))


def _note(sol):
    "Notes to standard error, each once."
    for note in sol.notes if sol.ok.any() else ():
        click.echo(f"ion-ode: note: {note}", err=True)


def _along(sol, pH, temperature, profile, figure):
    "The way along the channel as a table and a figure."
    from ion_ode.module.answers import profile as way
    from ion_ode.store import atomic_write

    if not (profile or figure):
        return
    frame = way(sol)
    if profile:
        atomic_write(profile, (frame if pH is None else _with_scale(frame, sol, pH, temperature)).to_csv(index=False))
    if figure:
        from ion_ode.module.figures import plot_profile

        axes = plot_profile(frame)
        axes[0].figure.savefig(figure, bbox_inches="tight")


def _with_scale(frame, sol, pH, temperature):
    "A profile with the pH and the saturation indices at the membrane of each place."
    from ion_ode.module.scaling import saturation_along

    found = saturation_along(sol, pH, temperature=temperature).query("at == 'wall'").drop(columns="at")
    found = found.rename(columns={k: f"{k}_wall" for k in found if k not in ("stage", "share")})
    return frame.merge(found, on=["stage", "share"], how="left")
