"""A whole composition goes to one side"""

import io
import json
from dataclasses import dataclass
import pandas as pd
from ion_ode.core import InputError
from ion_ode.data.nf270 import GROUPS, MIXTURES, SINGLES, independent_rows, load_solutions
from ion_ode.store import asset, digest
from ion_ode.water.ions import ion_name

__all__ = ["Fold", "check_split", "composition_folds", "flux_fold", "ion_fold", "fold_table", "load_folds"]


@dataclass(frozen=True)
class Fold:
    "One train/test split; `weight` of the training rows includes the down-weighting."

    name: str  # Composition or property held out
    train: pd.DataFrame  # Rows to learn from
    test: pd.DataFrame  # Rows to score, read once
    note: str = ""  # What the fold asks

    def __repr__(self):
        return f"Fold({self.name}: {len(self.train)} rows to train on, {len(self.test)} to test; {self.note})"


def check_split(
    train: pd.DataFrame,  # Rows to learn from
    test: pd.DataFrame,  # Rows to score
    by: str = "composition",  # What must not lie on both sides: "composition", "solution_id" or "state_id"
) -> None:
    "Refuse a split that puts rows of one composition on both sides."
    both = sorted(set(train[by]) & set(test[by]))
    if both:
        n = int(test[by].isin(both).sum())
        raise InputError(
            f"{n} of {len(test)} test rows belong to {by} {', '.join(both)}, which is also trained on; "
            "rows of one composition share feed and charge balance: hold out whole compositions "
            "(composition_folds) or name a weaker rule with by=..."
        )


def composition_folds(
    df: pd.DataFrame | None = None,  # Measurements; None: `independent_rows()` of NF270
    *,
    single_salts: str
    | float
    | None = "balanced",  # "balanced", a factor on their weights, or None to leave F and G out
    held_out: tuple[str, ...] = MIXTURES,  # Compositions held out, one fold each
) -> list[Fold]:
    "Leave one composition out, A to E."
    d = independent_rows() if df is None else df
    keep = [g for g in (*MIXTURES, *SINGLES, *held_out) if single_salts is not None or g not in SINGLES]
    d = d[d.composition.isin(keep)]
    missing = [g for g in held_out if g not in set(d.composition)]
    if missing:
        raise InputError(
            f"no rows of composition {', '.join(missing)}; the table holds {', '.join(sorted(set(d.composition)))}"
        )
    folds = []
    for g in held_out:
        train, test = d[d.composition != g].copy(), d[d.composition == g].copy()
        if single_salts is not None:
            total = train.groupby("composition").weight.sum()
            mean = total[[m for m in MIXTURES if m in total]].mean()
            factor = {
                s: (mean / total[s] if single_salts == "balanced" else float(single_salts))
                for s in SINGLES
                if s in total
            }
            train["weight"] *= train.composition.map(factor).fillna(1.0)
        check_split(train, test)
        folds.append(Fold(g, train, test, GROUPS.get(g, "")))
    return folds


def flux_fold(
    df: pd.DataFrame | None = None,  # Measurements; None: `independent_rows()` of NF270
    share: float = 1 / 3,  # Share of the runs of each composition that is held out
) -> Fold:
    "Hold out the runs of highest flux in each of A to G: does a model extrapolate along its curves?"
    if not 0 < share < 1:
        raise InputError(f"share is {share:g}, expected a number between 0 and 1, such as 1/3")
    d = independent_rows() if df is None else df
    d = d[d.composition.isin([*MIXTURES, *SINGLES])]
    runs = d.groupby(["composition", "state_id"]).flux_m_s.first()
    limit = runs.groupby("composition").quantile(1 - share)
    high = d.flux_m_s > d.composition.map(limit)
    fold = Fold("high flux", d[~high].copy(), d[high].copy(), f"highest {share:.0%} of fluxes in each composition")
    check_split(fold.train, fold.test, by="state_id")
    return fold


def ion_fold(
    ion: str = "Li+",  # Ion never seen in training
    df: pd.DataFrame | None = None,  # Measurements; None: `independent_rows()` of NF270
) -> Fold:
    "Train on feeds without an ion, score that ion."
    name = ion_name(ion)
    d = independent_rows() if df is None else df
    feeds = load_solutions()
    holds = d.solution_id.isin(feeds[feeds.ion == name].solution_id) | d.state_id.isin(d[d.ion == name].state_id)
    test = d[d.ion == name].copy()
    if test.empty:
        raise InputError(f"no rejection of {name} among these measurements; they hold {', '.join(sorted(set(d.ion)))}")
    fold = Fold(f"without {name}", d[~holds].copy(), test, f"{name} is in no feed of the training part")
    check_split(fold.train, fold.test, by="state_id")
    return fold


def fold_table() -> pd.DataFrame:  # Index row_id, one column a fold: "train", "test" or ""
    "The folds as a table that anyone can join to the measurements."
    folds = {f"leave out {f.name}": f for f in composition_folds()} | {
        f.name: f for f in (flux_fold(), ion_fold("Li+"))
    }
    rows = independent_rows().index
    out = pd.DataFrame("", index=rows, columns=list(folds))
    for name, f in folds.items():
        out.loc[f.train.index, name], out.loc[f.test.index, name] = "train", "test"
    return out


def load_folds() -> tuple[pd.DataFrame, dict]:  # The stored table; version, hashes, counts and rules
    "The published folds; refuses a file that differs from its hash or belongs to other measurements."
    data = asset("folds.csv").read_bytes()
    card = json.loads(asset("folds.json").read_text())
    for name, want in (("folds.csv", card["sha256"]), ("nf_measurements.csv", card["measurements_sha256"])):
        if digest(asset(name).read_bytes()) != want:
            raise InputError(
                f"{name} differs from the hash in folds.json (version {card['version']}); reinstall the package"
            )
    return pd.read_csv(io.BytesIO(data), keep_default_na=False).set_index("row_id"), card
