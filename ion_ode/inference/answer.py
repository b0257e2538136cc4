"""The best NF270 that open measurements allow, with an error one can use

A sample of membranes, each with the effects of a coupon nobody has measured yet; `predict` asks them all by the pore
model and adds the error of a measurement. `calibrate` makes the sample that of the user's own coupon."""

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from ion_ode.core import LMH, T_REF, InputError, bar
from ion_ode.guard import sealed, unsealed
from ion_ode.store import asset, atomic_write
from ion_ode.dspmde.charge_pH import drawn_laws, factors_of_each
from ion_ode.dspmde.notes import solution_notes
from ion_ode.dspmde.membranes import ChargeBinding, Freundlich, Membrane
from ion_ode.rejections import Rejections
from ion_ode.inference.asked import at_pH, check_kind, notes_of, question
from ion_ode.inference.discrepancy import NU, Residuals, corrected, errors_at
from ion_ode.inference.laws import (
    GLOBALS,
    NEUTRAL_PORE,
    REFERENCE_EQUIVALENTS,
    Prior,
    charge_of,
    coupon_effects,
    offset_of,
    parameters,
    share_of_sign,
    with_errors,
)
from ion_ode.inference.pores import passages
from ion_ode.inference.rows import answer_feeds
from ion_ode.inference.states import _CHARGE, of_y, y_of
from ion_ode.water.ions import get_ion

__all__ = ["Answer", "answer_of", "load_answer", "new_coupons"]

# Normal numbers of a coupon
_COUPON = ("charge of its laboratory", "thickness", "film", "permeability", "charge of its own")
_R_GAS = 8.31446
_AT_ONCE = 200_000  # Problems solved at once
_LEVELS = 5  # Quantiles of the error of a measurement a membrane takes


@dataclass(frozen=True)
class Answer:
    "A sample of membranes with coupons; asked for a feed it answers with an interval."

    x: np.ndarray  # (membrane, GLOBALS) standard normal numbers
    coupon: np.ndarray  # (membrane, _COUPON)
    prior: Prior = field(default_factory=Prior)
    stretch: float = 1.0  # Factor on the errors of values and of the model; the spread of membranes and coupons stays
    card: dict = field(default_factory=dict)  # name, what it was learned from, ranges, provenance
    own: Residuals | None = None  # Own values beside what the membranes say of them
    laws: np.ndarray | None = None  # (membrane, 5) how each one's charge follows the pH; None: of `drawn_laws`

    def __post_init__(self):
        if self.x.ndim != 2 or self.x.shape[1] != len(GLOBALS) or self.coupon.shape != (len(self.x), len(_COUPON)):
            raise InputError(
                f"a sample of membranes needs {len(GLOBALS)} and {len(_COUPON)} numbers each; "
                f"{self.x.shape} and {self.coupon.shape} arrived"
            )
        if self.laws is None:
            object.__setattr__(self, "laws", drawn_laws(len(self.x)))
        if self.laws.shape != (len(self.x), 5):
            raise InputError(f"laws of the charge need the shape {(len(self.x), 5)}; {self.laws.shape} arrived")

    def __len__(self):
        return len(self.x)

    def __repr__(self):
        p = self.parameters
        said = lambda v, unit, f=1.0: f"{v.quantile(0.05) / f:.3g} to {v.quantile(0.95) / f:.3g} {unit}".rstrip()
        return (
            f"{self.card.get('name', 'a membrane')}: {len(self)} membranes, learned from "
            f"{self.card.get('values', 'no')} values; 90 % have "
            f"pores of {said(p.r_pore, 'nm', 1e-9)}, thickness over porosity {said(p.thickness, 'µm', 1e-6)}, "
            f"charge {said(p.charge, 'mol/m³')} at 15 eq/m³, growing with the power "
            f"{said(p.b, '')}{self.card.get('calibrated', '')}"
        ).replace("  ", " ")

    @property
    def parameters(self):
        "The membranes in SI, one row each, with the errors of a value and of the model as held-out rows have them."
        return with_errors(parameters(self.x, self.prior), self.stretch)

    @property
    def likeliest(self) -> Membrane:
        "The central one of the likeliest membranes, for `simulate` and `fit_membrane`; a coupon of its own it has not."
        if "likeliest" not in self.card:
            raise InputError("this sample carries no likeliest membrane; take load_model('nf270').likeliest")
        p = self.card["likeliest"]
        base = Freundlich(p["charge"] / REFERENCE_EQUIVALENTS ** p["b"], p["b"])
        shifts = {k.removeprefix("shift "): v for k, v in p.items() if k.startswith("shift ")}
        charge = ChargeBinding(base, shifts, growth=p["c"], saturation=math.inf if p["k"] > 1e6 else p["k"])
        offsets = {k.removeprefix("ln "): v for k, v in p.items() if k.startswith("ln ")}
        A = self.prior.permeability[0] * LMH / bar
        return Membrane(p["r_pore"], p["thickness"], charge, p["eps_pore"], A, offsets, NEUTRAL_PORE)

    def places(self, n: int) -> np.ndarray:
        "Of n membranes, evenly over the sample."
        return np.unique(np.linspace(0, len(self) - 1, n).round().astype(int))

    def thinned(self, n: int) -> "Answer":
        "Every k-th membrane, for speed."
        i = self.places(n)
        own = self.own and self.own.taken(i)
        return replace(self, x=self.x[i], coupon=self.coupon[i], own=own, laws=self.laws[i])

    def _problem(self, ions, c_feed, kind, film, temperature, pH=None):
        "Membranes (slow) by feeds (fast) as one table; film thickness of each."
        n, s = len(self), len(c_feed)
        p = {k: np.repeat(v.to_numpy(), s) for k, v in self.parameters.items()}
        own = lambda k: np.repeat(self.coupon[:, k], s)
        pr = self.prior
        wide = np.tile(c_feed, (n, 1))
        z = np.array([get_ion(i).z for i in ions], float)
        factor, thickness = coupon_effects(p, own(0), own(4), own(1), pr.within)
        membrane = {
            "r_pore": p["r_pore"],
            "thickness": thickness,
            "charge": np.clip(charge_of(p, wide, z, ions, *self._acidity(pH)) * factor, -_CHARGE, _CHARGE),
            "eps_pore": p["eps_pore"],
        }
        offset = np.stack([offset_of(p, i, int(v)) for i, v in zip(ions, z, strict=True)], 1)
        if film is not None:
            thick = np.full(n * s, float(film))
        else:
            thick = (
                np.clip(pr.film[0] * np.exp(pr.film[1] * own(2)), 1e-7, 2e-4) if kind == "observed" else np.zeros(n * s)
            )
        return wide, membrane, offset, thick, np.full(n * s, float(temperature))

    def _acidity(self, pH):
        "Factors of the charge, membranes (slow) by feeds (fast)."
        return (1.0, 1.0) if pH is None else factors_of_each(pH, self.laws)

    def permeability(self) -> np.ndarray:  # (membrane,) [m/(s Pa)]
        "Water permeability of every membrane."
        return self.prior.permeability[0] * np.exp(self.prior.permeability[1] * self.coupon[:, 3]) * LMH / bar

    def _flux_at(self, pressure, ions, problem, n):
        "Flux of every membrane at a pressure (sample, state): the one at which the pore model needs that pressure."
        wide, membrane, offset, thick, T = problem
        P = np.tile(pressure, (n, 1))
        A = np.repeat(self.permeability(), len(pressure))[:, None]
        high = A * P
        at = high[:, :, None] * np.array([0.02, 0.15, 0.4, 0.65, 0.85, 1.0])
        flat = at.reshape(len(at), -1)
        through, wall = _through(ions, (wide, membrane, offset, thick, T), flat, 1e-3)
        perm = np.where(wide[:, None] > 0, through * wide[:, None], 0.0)
        osmotic = (_R_GAS * T[:, None] * (wall - perm).sum(2)).reshape(at.shape)
        need = at / A[..., None] + osmotic
        out = np.full(P.shape, np.nan)
        for k, j in np.ndindex(*P.shape):
            ok = np.isfinite(need[k, j])
            if ok.sum() > 1 and need[k, j][ok][0] < P[k, j]:
                rising = np.maximum.accumulate(need[k, j][ok])
                out[k, j] = np.interp(P[k, j], rising, at[k, j][ok])
        return out

    def draws(
        self,
        feed,  # As for `simulate`
        flux=None,  # Water flux [m/s]: number, (flux,) or (sample, flux)
        *,
        pressure=None,  # Or: pressure difference [Pa]
        kind: str = "observed",  # "observed": against the bulk feed, behind a film; "intrinsic": without one
        film: float | None = None,  # Film thickness [m]; None: as laboratories have it, each membrane its own
        temperature: float = T_REF,  # [K]
        pH=None,  # As for `predict`
        balance: str | None = None,  # Ion that closes the charge balance of the feed
        ions=None,  # Names of the columns of an array
        rtol: float = 1e-4,
        errors: bool = False,  # Whether the errors of a value and of the model come last, on the scale of y
    ):  # ions, c_feed (sample, ion), flux (membrane, sample, flux), rejection (.., ion), nan where absent
        "What every membrane says; each one's permeate is neutral."
        check_kind(kind, film)
        names, c, asked = question(feed, flux, pressure, balance, ions)
        c, asked, pH = at_pH(c, asked, pH)
        J, R = self._solve(names, c, asked, pressure is not None, kind, film, temperature, pH, rtol)
        R, both = self._told(names, c, J, R)
        return (names, c, J, R, both) if errors else (names, c, J, R)

    def _solve(self, names, c, asked, by_pressure, kind, film, temperature, pH=None, rtol=1e-4):
        "Flux (membrane, sample, state) and rejection (.., ion) of feeds at fluxes or pressures."
        problem, n, batch = self._problem(names, c, kind, film, temperature, pH), len(self), len(c)
        J = self._flux_at(asked, names, problem, n) if by_pressure else np.tile(asked, (n, 1))
        wide = problem[0]
        through, _ = _through(names, problem, np.where(np.isfinite(J), J, 1e-9), rtol)
        R = np.where((wide > 0)[:, None] & np.isfinite(J)[..., None], 1 - through, np.nan)
        return J.reshape(n, batch, -1), R.reshape(n, batch, -1, len(names))

    def predict(
        self,
        feed,  # As for `simulate`
        flux=None,  # Water flux [m/s]: number, (flux,) or (sample, flux); None: the column "flux [LMH]" of a DataFrame
        *,
        pressure=None,  # Or: pressure difference [Pa]
        kind: str = "observed",  # or "intrinsic"
        film: float | None = None,  # Film thickness [m]; None: as laboratories have it
        temperature: float = T_REF,  # [K]
        pH=None,  # Of the feed, number or (sample,): the charge follows it; None: near neutral, as measured
        level: float = 0.9,  # Share of measurements the interval should hold
        balance: str | None = None,
        ions=None,
        members: int | None = None,  # Fewer membranes, for speed; None: all
        solver: str = "exact",  # "network", for many feeds: one answers where it is off by a tenth of the interval
    ) -> Rejections:  # sample, flux_m_s, ion, c_feed, c_perm, rejection, lower, upper
        "Rejection of every ion: mean and interval of a measurement on a coupon like the model's."
        if not 0 < level < 1:
            raise InputError(f"level is {level}, expected a share between 0 and 1, such as 0.9")
        check_kind(kind, film)
        few = self if members is None else self.thinned(members)
        names, c, asked = question(feed, flux, pressure, balance, ions)
        c, asked, pH = at_pH(c, asked, pH)
        how, quick = (pressure is not None, kind, film, temperature), None
        if solver != "exact":
            from ion_ode.inference.stand_in import shortcut

            quick = shortcut(solver, _through, len(few), how[0])
        mean, low, high, flux, *ends = few._means(names, c, asked, how, pH, level, quick)
        b, t, i = np.nonzero(np.isfinite(mean))
        table = Rejections(
            {
                "sample": b,
                "flux_m_s": flux[b, t],
                "ion": np.array(names, dtype=object)[i],
                "c_feed": c[b, i],
                "c_perm": c[b, i] * (1 - mean[b, t, i]),
                "rejection": mean[b, t, i],
                "lower": low[b, t, i],
                "upper": high[b, t, i],
            }
        )
        if pressure is not None:
            table["flux_lower"], table["flux_upper"] = (v[b, t] for v in ends)
        table.attrs["notes"] = self.notes(names, c, flux, pH, kind, temperature)
        table.attrs["notes"] += solution_notes(names, c, c[:, None], c[:, None] * (1 - np.nan_to_num(mean)), "ideal")
        table.attrs |= {} if quick is None else {"by_network": quick.share}
        return table

    def _means(self, names, c, asked, how: tuple, pH, level: float, quick=None) -> tuple:
        "Mean rejection and its interval, mean flux and its interval, as many samples at once as memory takes."
        parts, values = [], 0 if self.own is None else self.own.off.shape[1]
        size = max(1, _AT_ONCE // (len(self) * max(asked.shape[1], values)))
        for at in (slice(k, k + size) for k in range(0, len(c), size)):
            part = names, c[at], asked[at], *how, None if pH is None else pH[at]
            J, R = self._solve(*part) if quick is None else quick.rejections(self, *part, level)
            R, errors = self._told(names, c[at], J, R)
            parts.append((_nanmean(R), *self.interval(R, errors, level), _nanmean(J), *_ends(J, level)))
        return tuple(np.concatenate(p) for p in zip(*parts, strict=True))

    def errors(self, J, share):  # Fluxes (membrane, sample, flux), share (sample, solute); (membrane, sample, flux, ..)
        "Error of a value of its own, and of the model, on the scale of y."
        flux = np.where(np.isfinite(J), J, 0.0)[..., None]
        return errors_at(self.parameters, flux, share[:, None], own=self.own is not None)

    def _told(self, names, c, J, R):
        "Rejections with what own values say of the model's error; errors of a value and of the model that are left."
        share = share_of_sign(c, np.array([get_ion(i).z for i in names], float))
        noise, model = self.errors(J, share)
        if self.own is None:
            return R, (noise, model)
        shift, left = (v[:, :, None] for v in self.own.given(names, c))
        return corrected(names, c, R, shift * model, model), (noise, np.sqrt(left) * model)

    def interval(
        self,
        R: np.ndarray,  # Rejections (membrane, sample, flux, solute)
        errors: tuple[np.ndarray, np.ndarray],  # Of a value and of the model on the scale of y, as R
        level: float,
    ) -> tuple[np.ndarray, np.ndarray]:  # Lower and upper ends (sample, flux, solute)
        "Quantiles of membranes and the error of one measurement."
        from scipy.special import stdtrit  # Student quantiles; scipy.stats takes half a second to load

        n = len(R)
        sd, degrees = np.hypot(*errors), NU
        if self.own is not None:
            sd, degrees = sd * self.own.scale[:, None, None, None], self.own.degrees
        y = y_of(R)
        u = ((np.arange(n) + 0.5) * 0.6180339887498949) % 1.0  # evenly spread, whatever the order of the membranes
        all_y = np.concatenate(
            [y + sd * stdtrit(degrees, (k + u) / _LEVELS)[:, None, None, None] for k in range(_LEVELS)]
        )
        low, high = _ends(all_y, level)
        return of_y(high), of_y(low)

    def notes(self, names, c, J, pH, kind, temperature) -> list[str]:
        "What a reader should know about a question: what it speaks of, and where it leaves what was measured."
        return notes_of(self.card.get("ranges", {}), names, c, J, pH, kind, temperature)

    def calibrate(
        self,
        measurements,  # Own values: a file, a frame or `Measurements`; one coupon, or several by name
        seed: int = 0,
        method: str = "sampler",  # or "network": in one pass, taught by the pore model
        **reading,  # Of `load_measurements`: units, columns, balance, kind
    ) -> "Answer":  # The same model for the coupon that was measured; .card["taught"] says what the values taught
        "Make the model that of your own coupon with 1 to 50 of your own values."
        from ion_ode.inference.calibrate import calibrate

        return calibrate(self, measurements, seed=seed, method=method, **reading)

    def save(self, path: str | Path) -> Path:
        "Write the model as one JSON file."
        record = {
            "format": "ion_ode membranes 1",
            "prior": asdict(self.prior),
            "stretch": self.stretch,
            "card": self.card,
            "own": self.own and self.own.written(),
            "globals": list(GLOBALS),
            "coupon_numbers": list(_COUPON),
            "x": [[round(float(v), 4) for v in row] for row in self.x],
            "coupon": [[round(float(v), 4) for v in row] for row in self.coupon],
        }
        if not np.array_equal(self.laws, drawn_laws(len(self))):
            record["laws"] = [[round(float(v), 4) for v in row] for row in self.laws]
        return atomic_write(Path(path), sealed(record))

    @classmethod
    def load(cls, path: str | Path) -> "Answer":
        "Read a model written by `save`; another file is refused."
        record = unsealed(path, "a sample of membranes as Answer.save writes it")
        if record.get("format") != "ion_ode membranes 1" or record.get("globals") != list(GLOBALS):
            raise InputError(
                f"{Path(path).name} is not a sample of membranes of this version (format {record.get('format')!r})"
            )
        try:
            return cls(*_numbers_of(record))
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise InputError(f"{Path(path).name} lacks numbers of a sample of membranes ({e}); make it again") from e


def _numbers_of(record: dict) -> tuple:
    "What an `Answer` is made of, from a record; an error where one is not of its type."
    x, coupon = (np.array(record[k], dtype=float) for k in ("x", "coupon"))
    prior = Prior.read(record["prior"])
    alike = [np.shape(np.array(v, dtype=float)) == np.shape(getattr(Prior(), k)) for k, v in asdict(prior).items()]
    shapes = x.shape == (len(x), len(GLOBALS)) and coupon.shape == (len(x), len(_COUPON)) and len(x) > 0
    card, ranges = record["card"], record["card"].get("ranges", {})
    ends = all(isinstance(v, dict) if k == "ions_mol_m3" else len(v) == 2 for k, v in ranges.items())
    if not (all(alike) and shapes and ends and isinstance(record["stretch"], float) and np.isfinite(x).all()):
        raise ValueError("a list is longer, shorter or of another kind")
    own = record.get("own") and Residuals.read(record["own"])
    if own and len(own.off) != len(x):
        raise ValueError("own values of other membranes")
    laws = np.array(record["laws"], dtype=float) if "laws" in record else drawn_laws(len(x))
    return x, coupon, prior, record["stretch"], card, own, laws


def new_coupons(n: int, seed: int = 0) -> np.ndarray:  # (n, _COUPON)
    "Coupons nobody has measured, spread evenly over their prior."
    from scipy.special import ndtri
    from scipy.stats import qmc

    u = qmc.Sobol(len(_COUPON), seed=np.random.default_rng(seed)).random(1 << max(1, math.ceil(math.log2(n))))[:n]
    return ndtri(np.clip(u, 1e-6, 1 - 1e-6))


def load_answer(
    name: str | Path = "nf270",  # "nf270", "nf", or a file written by `Answer.save`
) -> Answer:
    "A shipped sample of membranes."
    path = Path(name)
    if path.suffix != ".json":
        path = asset(f"answers/{name}.json")
        answer = Answer.load(path)
        return replace(answer, laws=drawn_laws(len(answer), str(name)))
    return Answer.load(path)


def _through(ions, problem, flux, rtol):
    "Passages and concentrations at the membrane; a neutral solute meets a narrower pore and leaves the ions alone."
    wide, membrane, offset, thick, T = problem
    through, wall = passages(ions, wide, flux, membrane, offset, thick, T, rtol)
    neutral = np.array([get_ion(i).z == 0 for i in ions])
    if neutral.any():
        narrow = membrane | {"r_pore": NEUTRAL_PORE * membrane["r_pore"]}
        own = passages(ions, wide, flux, narrow, offset, thick, T, rtol)
        through[..., neutral], wall[..., neutral] = own[0][..., neutral], own[1][..., neutral]
    return through, wall


def _ends(v, level):
    "Ends of the interval over membranes; nan where none has a value."
    q, missing = [(1 - level) / 2, (1 + level) / 2], np.isnan(v)
    some = missing.any(0)
    out = np.full((2, *v.shape[1:]), np.nan)
    out[:, ~some] = np.quantile(v[:, ~some], q, axis=0)
    some &= ~missing.all(0)
    out[:, some] = np.nanquantile(v[:, some], q, axis=0)  # column by column, several times slower
    return out


def _nanmean(v):
    "Mean over membranes; nan where none has a value."
    ok = np.isfinite(v)
    with np.errstate(invalid="ignore"):
        return np.where(ok, v, 0.0).sum(0) / np.where(ok.any(0), ok.sum(0), np.nan)


def answer_of(
    population,  # Of `sample_population`
    rows,  # Of `answer_rows`: what it learned from
    name: str,
    states=None,  # Behind the population; needed for `coupon`
    coupon: str | None = None,  # A coupon it has seen, such as "fdly2021"; None: one nobody has
    stretch: float = 1.0,
    seed: int = 0,
    **facts,  # For the card
) -> Answer:
    "A sample of membranes with coupons of their own, ready to be asked."
    feeds = answer_feeds()
    feeds = feeds[feeds.solution_id.isin(rows.solution_id)]
    equivalents = 0.5 * feeds.ion.map(lambda i: abs(get_ion(i).z)) * feeds.c_feed_mol_m3
    total = equivalents.groupby(feeds.solution_id).sum()
    ends = lambda v: [float(f"{v.min():.4g}"), float(f"{v.max():.4g}")]
    ranges = {
        "flux_m_s": ends(rows.flux_m_s.dropna()),
        "equivalents_mol_m3": ends(total),
        "ions_mol_m3": {i: ends(g.c_feed_mol_m3) for i, g in rows.groupby("ion")},
    }
    sources = {s: int(n) for s, n in rows.groupby("source_id").size().items()}
    card = {
        "name": name,
        "values": len(rows),
        "sources": sources,
        "ranges": ranges,
        "log_evidence": round(population.log_evidence, 2),
        **facts,
    }
    numbers = new_coupons(len(population.x), seed)
    if coupon is not None:
        k = states.coupons.index(coupon)
        numbers = np.column_stack([population.lab[:, states.home[k]], population.coupon[:, k]])
        if states.home[k] == states.anchor:
            numbers[:, [0, 1, 4]] = 0.0
    return Answer(population.x, numbers, population.prior, stretch, card)
