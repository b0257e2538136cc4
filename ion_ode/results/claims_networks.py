"""Claims 1 to 8 of the paper: comparisons of held-out errors, one function each"""

import pandas as pd

from ion_ode.results.contestants import LIKELIEST_TOLD, MAIN, VARIANTS
from ion_ode.results.protocol import CONSTANT, FOUR_FITTED, LIKELIEST
from ion_ode.results.figures import _of
from ion_ode.results.scores import errors, mean_predictions
from ion_ode.stats import paired_bootstrap


def share_within(
    predictions: pd.DataFrame,  # Of `with_entrants`
    benchmark: str,  # Key of BENCHMARKS
    model: str,  # Contestant; networks by their mean
) -> float:
    "Share of values that a mean prediction meets within a tenth, every composition, source or mixture alike."
    return float(errors(mean_predictions(predictions, benchmark, model), ["unit"]).within_10.mean())


def _unit_scores(tables, benchmark, model=MAIN, pretrained="PT", bias="hard", rule="last") -> pd.Series:
    d = _of(tables["units"], benchmark=benchmark, model=model)
    if model in VARIANTS:
        d = _of(d, pretrained=pretrained, bias=bias, rule=rule)
    return d.set_index("unit").mse_R.astype(float).sort_index()


def _against(a: pd.Series, b: pd.Series) -> dict:
    "Paired difference of two contestants and what it says of `a is better`."
    if a.empty or b.empty:
        return {"verdict": "not computed"}
    r = paired_bootstrap(a, b)
    verdict = "holds" if r["upper"] < 0 else "direction only" if r["difference"] < 0 else "does not hold"
    return {
        "a": a.mean(),
        "b": b.mean(),
        **{k: r[k] for k in ("difference", "lower", "upper")},
        "verdict": verdict,
        "ours": f"{a.mean():.3f} against {b.mean():.3f} ({r['difference']:+.3f}, {r['lower']:+.3f} to "
                f"{r['upper']:+.3f})",
    }


def _all_of(parts: dict[str, dict]) -> dict:
    "One verdict of several comparisons: the weakest."
    order = ["holds", "direction only", "does not hold"]
    parts = {k: p for k, p in parts.items() if p["verdict"] in order}
    if not parts:
        return {"verdict": "not computed"}
    return {
        "verdict": max((p["verdict"] for p in parts.values()), key=order.index),
        "ours": "; ".join(
            f"{k}: {p['difference']:+.3f} ({p['lower']:+.3f} to {p['upper']:+.3f})" for k, p in parts.items()
        ),
    }


def _against_fair(u) -> str:
    "The same network against models that are no straw man."
    said = {m: _against(u(), u(m)) for m in (LIKELIEST, LIKELIEST_TOLD, CONSTANT)}
    return "".join(f"; against the {m}: {r['ours']}, {r['verdict']}" for m, r in said.items() if "ours" in r)


def _beats_the_pore_model(tables, b, u) -> dict:
    share = lambda m: share_within(tables["predictions"], b, m)
    r = _against(u(), u(FOUR_FITTED))
    near = f"{share(MAIN):.0%} (mean of networks) against {share(FOUR_FITTED):.0%}"
    return r | {"ours": r.get("ours", "") + f"; within ±0.1: {near}" + _against_fair(u)}


def _best_with_attention(tables, b, u) -> dict:
    others = {v: u(v) for v in VARIANTS if v != MAIN and len(u(v))}
    if not others:
        return {"verdict": "not computed"}
    best = min(others, key=lambda v: others[v].mean())
    r = _against(u(), others[best])
    r["ours"] += f"; next is {best}"
    return r | {"verdict": "direction only"} if "U-Net" not in best and r["verdict"] == "holds" else r


def _attention_helps(tables, b, u) -> dict:
    return _all_of({v: _against(u(f"{v} + attention"), u(v)) for v in VARIANTS if "+" not in v})


def _of_about_that_size(r: dict, near: bool, said: str) -> dict:
    "A comparison whose size is claimed too: a right sign alone is the direction only."
    r = r | {"ours": r.get("ours", "") + said}
    return r | {"verdict": "direction only"} if r["verdict"] == "holds" and not near else r


def _pretraining_helps(tables, b, u) -> dict:
    more = u(pretrained="NPT").mean() / u().mean() - 1
    r = _against(u(), u(pretrained="NPT"))
    return _of_about_that_size(r, 0.2 < more < 0.8, f"; without pre-training {more:+.0%}")


def _neutrality_helps(tables, b, u) -> dict:
    less = u().mean() / u(bias="soft").mean() - 1
    return _of_about_that_size(_against(u(), u(bias="soft")), -0.3 < less < -0.05, f"; {less:+.0%}")


def _pretraining_before_neutrality(tables, b, u) -> dict:
    return _against(u(bias="soft"), u(pretrained="NPT"))


def _neither_is_worse(tables, b, u) -> dict:
    return _all_of({v: _against(u(FOUR_FITTED), u(v, pretrained="NPT", bias="soft")) for v in VARIANTS})


def _most_beat_it(tables, b, u) -> dict:
    plain = "fully connected"
    beats = {v: _against(u(v), u(FOUR_FITTED)) for v in VARIANTS if len(u(v)) and len(u(FOUR_FITTED))}
    if plain not in beats:
        return {"verdict": "not computed"}
    win = [v for v, r in beats.items() if r["difference"] < 0]
    most = len(win) > len(beats) / 2
    return {
        "verdict": ("direction only" if plain in win else "holds") if most else "does not hold",
        "ours": f"{len(win)} of {len(beats)} beat it"
        + (", the plain fully connected one too" if plain in win else ""),
    }


_CLAIMS = (  # number, claim, what is compared, what the paper says, how it is judged
    (1, "the neural model beats the fitted DSPM-DE", "held-out MSE of R, fitted four-parameter model",
     "2A, 2B (no number printed)", _beats_the_pore_model),
    (2, "ODENet with attention is best, U-Net closest", "against the best other network",
     "2C (no number printed)", _best_with_attention),
    (3, "attention helps every architecture", "with against without, four architectures",
     "improves in all cases", _attention_helps),
    (4, "without pre-training the error is about 40 % larger", "pre-trained against not",
     "nearly +40 %", _pretraining_helps),
    (5, "hard neutrality lowers the error by 10 to 20 % against soft", "hard against soft",
     "-10 to -20 %", _neutrality_helps),
    (6, "pre-training matters more than the hard constraint", "soft and pre-trained against hard and not",
     "said in words", _pretraining_before_neutrality),
    (7, "not pre-trained and soft is worse than the PDE", "fitted DSPM-DE against every network that was trained so",
     "worse for all", _neither_is_worse),
    (8, "pre-trained, most beat the PDE, the plain feed-forward does not", "hard, eight networks",
     "most", _most_beat_it),
)  # fmt: skip


def network_claims(
    tables: dict[str, pd.DataFrame],  # From `collect` or `read_tables`
    benchmark: str,  # Key of BENCHMARKS
) -> list[tuple]:  # number, claim, tested, paper, verdict
    "Claims 1 to 8 on one benchmark."
    u = lambda *a, **k: _unit_scores(tables, benchmark, *a, **k)
    return [(*said, judge(tables, benchmark, u)) for *said, judge in _CLAIMS]
