"""Claims of the paper, tested"""

import json

import numpy as np
import pandas as pd

from ion_ode.results.benchmarks import contest_rows
from ion_ode.results.board import read_board
from ion_ode.results.claims_exact import exact_claims
from ion_ode.results.claims_networks import network_claims
from ion_ode.results.contestants import MAIN
from ion_ode.results.figures import _drawn
from ion_ode.results.page import page_of
from ion_ode.results.protocol import CONSTANT, LIKELIEST, POSTERIOR, PROTOCOL
from ion_ode.results.scores import interval_table
from ion_ode.results.tables import with_entrants
from ion_ode.results.verdicts import against, board_scores, for_my_water, headline, standing, with_networks


def nitrate_at(
    flux: float = 1.5e-5,  # [m/s]
) -> pd.Series:  # composition A or C -> rejection
    "Measured rejection of trace nitrate beside chloride (A) and sulphate (C), interpolated to one flux."
    d = contest_rows().query("ion == 'NO3-' and composition in ['A', 'C']").sort_values("flux_m_s")
    return pd.Series({g: float(np.interp(flux, x.flux_m_s, x.rejection)) for g, x in d.groupby("composition")})


def onsets(
    tables: dict[str, pd.DataFrame],
) -> pd.Series:  # model -> share of sulphate from which trace nitrate is enriched; nan: never
    "Where the rejection of trace nitrate crosses zero as sulphate replaces chloride."
    cross = lambda g: next((float(s) for s, r in zip(g.sulphate, g.rejection, strict=True) if r < 0), np.nan)
    return tables["onset"].groupby("model")[["sulphate", "rejection"]].apply(cross)


def _nitrate_claim(tables) -> tuple:
    "Claim 15: trace nitrate beside sulphate."
    at, low = onsets(tables), nitrate_at()
    seen = low["A"] > low["C"] and low["C"] < 0
    turns = seen and np.isfinite(at.get(MAIN, np.nan))
    ours = (
        f"measured R of NO3- at 15 µm/s: {low['C']:.2f} beside sulphate, {low['A']:.2f} beside chloride; onset at a "
        f"sulphate share of "
        + ", ".join(f"{v:.2f} ({m})" if np.isfinite(v) else f"none ({m})" for m, v in at.items())
    )
    tested = "sulphate replaces chloride; models not shown the Na2SO4 feed"
    judged = {"verdict": "holds" if turns else "direction only" if seen else "does not hold", "ours": ours}
    return 15, "trace NO3- turns negative beside SO4-2", tested, "one rollout", judged


def claims(
    tables: dict[str, pd.DataFrame],  # Of `with_entrants`
) -> pd.DataFrame:  # number, benchmark, claim, tested, paper, ours, verdict; of two compared: a, b, difference, ends
    "The paper's claims, tested."
    rows = []
    add = lambda b, n, claim, tested, paper, r: rows.append(
        {"number": n, "benchmark": b, "claim": claim, "tested": tested, "paper": paper, "ours": "", **r}
    )
    for b in _drawn(tables):
        for item in network_claims(tables, b):
            add(b, *item)
    for item in exact_claims(tables):
        add("networks", *item)
    add("nf270", *_nitrate_claim(tables))
    return pd.DataFrame(rows).sort_values(["number", "benchmark"], kind="stable", ignore_index=True)


def _board_record(tables: dict[str, pd.DataFrame], board: dict[str, pd.DataFrame]) -> dict:
    "What pages quote of the comparison on whole compositions and laboratories."
    plain = lambda d: json.loads(d.to_json(orient="records"))
    folds = board_scores(with_networks(board["board"], tables))
    pairs = [(split, m, of) for split, _ in PROTOCOL.splits for m in (POSTERIOR, MAIN) for of in (LIKELIEST, CONSTANT)]
    verdicts = pd.DataFrame([against(folds, *p) for p in pairs])
    water = for_my_water(board).reset_index()
    parts = {"standing": standing(folds, tables["scores"]), "verdicts": verdicts, "waters": water}
    return {k: plain(v) for k, v in parts.items()} | {"headline": headline(board, folds, tables["scores"])}


def metrics(
    tables: dict[str, pd.DataFrame],  # From `collect` or `read_tables`
    meta: dict,  # Provenance
    board: dict[str, pd.DataFrame] | None = None,  # Of `read_board`; None: the one that ships
) -> tuple[dict, str]:  # For a machine (claims.json), for a reader (metrics.md)
    "Scores, claims, intervals and provenance as JSON and as a page."
    board = read_board() if board is None else board
    tables = with_entrants(tables, board)
    s, c, held = tables["scores"], claims(tables), interval_table(tables["predictions"])
    main = s[s["rule"].isin(["", "last"])]
    plain = lambda d: json.loads(d.to_json(orient="records"))
    record = {
        "scores": plain(main),
        "claims": plain(c),
        "intervals": plain(held),
        "provenance": meta,
    }
    record["board"] = _board_record(tables, board)
    return record, page_of(record, _drawn(tables), main, c, held, meta)
