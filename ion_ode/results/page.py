"""What was found, as a page"""

import pandas as pd

from ion_ode.results.figures import _of

__all__ = ["page_of"]


def page_of(
    record: dict,  # Of `metrics`
    drawn: list,  # Benchmarks
    main: pd.DataFrame,  # Scores
    c: pd.DataFrame,  # Of `claims`
    held: pd.DataFrame,  # Of `interval_table`
    meta: dict,  # Provenance
) -> str:  # Markdown
    "What was found, as a page."
    name = lambda r: " ".join(
        x for x in (r.model, r.pretrained, r.bias, "(mean of seeds)" if r.scored == "ensemble" else "") if x
    )
    text = ["# Results", "", record["board"]["headline"], "", "# Networks", ""]
    for b in drawn:
        text += [
            f"## {b}: {meta['data_kind'][b]}",
            "",
            "| model | MSE of R | 90 % interval | MSE of h | within ±0.1 |\n|---|---|---|---|---|",
            *[
                f"| {name(r)} | {r.mse_R:.3f} | {r.lower:.3f} to {r.upper:.3f} | {r.mse_h:.5f} | {r.within_10:.0%} |"
                for r in _of(main, benchmark=b).sort_values("mse_R").itertuples()
            ],
            "",
        ]
    text += [
        "## Claims",
        "",
        "| | claim | on | ours | verdict |\n|---|---|---|---|---|",
        *[f"| {r.number} | {r.claim} | {r.benchmark} | {r.ours} | {r.verdict} |" for r in c.itertuples()],
        "",
        "## Intervals (90 %)",
        "",
        "| on | model | coverage | median width |\n|---|---|---|---|",
        *[
            f"| {r.benchmark} | {r.model} | {r.coverage:.0%} | {r.width:.2f} |"
            for r in held[held.ion == "all"].itertuples()
        ],
        "",
        "## Provenance",
        "",
        f"profile {meta['profile']}, seed {meta['seed']} and following ({meta['seeds']} networks of each kind), "
        f"commit {meta['commit']}, device {meta['device']}, Python {meta['python']}, "
        + ", ".join(f"{k} {v}" for k, v in meta["versions"].items())
        + f"; data {meta['data'][:12]}, code {meta['code'][:12]}; {meta['cpu_seconds_total']:.0f} CPU seconds.",
        "",
    ]
    return "\n".join(text)
