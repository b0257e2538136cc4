"""What is held out, who is asked, how answers are scored: written down before the run, read by it

Nothing here depends on a score. A model that chooses (steps, a power, a stretch) chooses inside its training rows."""

from dataclasses import dataclass

import pandas as pd

from ion_ode.dspmde.prior import SLOTS
from ion_ode.inference.rows import COMPOSITIONS, SOURCES, answer_feeds, answer_rows, hold_out

__all__ = ["ENTRANTS", "OWN", "PROTOCOL", "Protocol", "fold_rows", "scored_rows", "with_feeds"]

POSTERIOR, SECOND = "posterior of DSPM-DE+", "posterior of DSPM-DE+, second run"
LIKELIEST, FOUR_FITTED = "likeliest DSPM-DE+", "DSPM-DE, four parameters"
SHIFT, GAUSSIAN = "SDEM with a Donnan shift", "Gaussian process on DSPM-DE"
PER_ION, NEAREST, CONSTANT, REPEATED = (
    "Spiegler-Kedem, ion by ion",
    "nearest composition",
    "constant",
    "own value repeated",
)
ENTRANTS = (POSTERIOR, SECOND, LIKELIEST, FOUR_FITTED, SHIFT, GAUSSIAN, PER_ION, NEAREST, CONSTANT)
OWN = (
    POSTERIOR,
    GAUSSIAN,
    PER_ION,
    NEAREST,
    REPEATED,
)  # Those that can use one state of the coupon they are asked about


@dataclass(frozen=True)
class Protocol:
    "The rules of the comparison."

    splits: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("compositions", COMPOSITIONS),
        ("sources", tuple(s for s in SOURCES if s != "jeong2023")),  # A table of pressures: no rival reads one
    )
    entrants: tuple[str, ...] = ENTRANTS  # Who is asked
    own: tuple[str, ...] = OWN  # Entrants that can be told a value of one's own coupon
    second: int = 2  # Seed of the run that is made to hold the shipped samples, of two others, against
    membranes: int = 128  # Of the second run
    starts: int = 2  # Searches of the four-parameter fit
    four_bounds_um: tuple[float, float] = (0.05, 10.0)  # Of its thickness over porosity [µm]
    within: float = 0.1  # A prediction this near to the measured rejection counts as right
    level: float = 0.9  # Of intervals

    def folds(self) -> list[tuple[str, str]]:  # (split, what is held out)
        "Every fold, split by split."
        return [(split, name) for split, names in self.splits for name in names]


PROTOCOL = Protocol()


def scored_rows(rows: pd.DataFrame | None = None) -> pd.DataFrame:
    "Rows that every entrant can read: a known flux, and feeds of the nine ions that all of them know."
    d = answer_rows() if rows is None else rows
    feeds = answer_feeds()
    strange = set(feeds[~feeds.ion.isin(SLOTS)].solution_id)
    return d[d.flux_m_s.notna() & ~d.solution_id.isin(strange)].assign(weight=1.0)


def fold_rows(
    name: str,  # Composition or source held out
) -> tuple[
    pd.DataFrame, pd.DataFrame, pd.DataFrame
]:  # All rows to learn from; those rivals can read; rows to score
    "The rows of a fold."
    train, test = hold_out(answer_rows(), name)
    return train, scored_rows(train), scored_rows(test)


def with_feeds(d: pd.DataFrame) -> pd.DataFrame:
    "Rows that carry the whole feed of their runs; those of feeds unknown to the package stand for themselves."
    runs = d[["state_id", "solution_id"]].drop_duplicates().merge(answer_feeds(), on="solution_id")
    out = d.copy()
    out.attrs["feeds"] = runs[["state_id", "ion", "c_feed_mol_m3"]]
    return out
