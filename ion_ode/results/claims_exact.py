"""Claims 9 to 14 and 16 to 18 of the paper: what networks do, whatever the benchmark, one function each"""

import numpy as np
import pandas as pd

from ion_ode.results.audit import audit


def _yes(ok, ours: str) -> dict:
    return {"verdict": "holds" if ok else "does not hold", "ours": ours}


def _checks(tables) -> pd.Series:
    "Largest imbalance, permeate of absent ions, change by their embedding, order, frozen layers."
    return tables["checks"].set_index("check").value.astype(float)


def _neutral(tables) -> dict:
    off = _checks(tables).iloc[0]
    return _yes(off < 1e-5, f"{off:.1e}")


def _absent(tables) -> dict:
    absent, moved = _checks(tables).iloc[1:3]
    return _yes(absent == 0 and moved == 0, f"{absent:g}; change {moved:g}")


def _order(tables) -> dict:
    order = _checks(tables).iloc[3]
    return _yes(abs(order - 5) < 0.5, f"{order:.2f}")


def _encoding(tables) -> dict:
    d = tables["sweep"].assign(ions=lambda d: np.where(d.encoding == "none", "without", "with"))
    w = d.groupby(["ions", "d_k"])["median"].mean()
    said = lambda g: ", ".join(f"{v:.3f} (d_k {k})" for k, v in g.droplevel(0).items())
    return {
        "verdict": "not testable on open data",
        "ours": "; ".join(f"{i} ion encodings " + said(g) for i, g in w.groupby(level=0))
        + "; the paper prints no numbers to hold against",
    }


def _frozen(tables) -> dict:
    same = _checks(tables).iloc[4] == 1
    return _yes(same, "byte-equal" if same else "changed")


def _resampled(tables) -> dict:
    ways = tables["ablation"].set_index("way")
    if "targets not resampled" not in ways.index:
        return {"verdict": "not computed"}
    change, se = ways.loc["targets not resampled", ["change", "se"]].astype(float)
    return {
        "verdict": "holds" if change > 1.64 * se else "direction only" if change > 0 else "does not hold",
        "ours": f"without it {change:+.4f} ± {se:.4f} on compositions held out",
    }


def _tracks_differences(tables) -> dict:
    a = tables["audit"]
    follows = all(a[f"rho {n}"] > 0 and a[f"p {n}"] < 0.05 for n in ("|Δz|", "|Δr_s|"))
    somewhat = a["rho |Δz|"] > 0 and a["rho |Δr_s|"] > 0 and a.ICC > 0.5
    return {
        "verdict": "holds" if follows and a.ICC > 0.75 else "direction only" if somewhat else "does not hold",
        "ours": f"rho {a['rho |Δz|']:+.2f} (p {a['p |Δz|']:.2f}) with |Δz|, {a['rho |Δr_s|']:+.2f} (p "
                f"{a['p |Δr_s|']:.2f}) with |Δr_s|; ICC over seeds {a.ICC:.2f}",
    }  # fmt: skip


def _predicts_removal(tables) -> dict:
    a = tables["audit"]
    strong = abs(a["rho change"]) > 0.3 and a["p change"] < 0.05
    both = strong and abs(a["rho change_pore"]) > 0.3 and a["p change_pore"] < 0.05
    return {
        "verdict": "holds" if both else "direction only" if strong else "does not hold",
        "ours": f"rho {a['rho change']:+.2f} (p {a['p change']:.3f}) with the network's own change of Cl-, "
                f"{a['rho change_pore']:+.2f} (p {a['p change_pore']:.3f}) with the pore model's",
    }  # fmt: skip


def _smooth(tables) -> dict:
    s = tables["smoothness"].groupby("model").roughness.mean()
    rough = {k: s[f"{k} + attention"] for k in ("ODENet", "U-Net", "CNN") if f"{k} + attention" in s.index}
    if len(rough) < 3:
        return {"verdict": "not computed"}
    ours, others = rough["ODENet"], min(rough["U-Net"], rough["CNN"])
    return {
        "verdict": "holds" if ours < 0.5 * others else "direction only" if ours < others else "does not hold",
        "ours": "roughness over the pore model's, with attention: "
        + ", ".join(f"{k} {v:.1f}" for k, v in rough.items()),
    }


_CLAIMS = (  # number, claim, what is looked at, what the paper says, how it is judged
    (9, "outputs are neutral to round-off", "largest imbalance of all predictions (float32)",
     "by construction", _neutral),
    (10, "absent ions stay absent and cannot influence", "permeate of absent ions; their embedding moved",
     "masked before attention", _absent),
    (11, "the integrator is of order 5", "error of a network's own curves, 64 against 256 steps, float64",
     "Tsitouras 5(4)", _order),
    (12, "d_k and the ion encoding", "median error of R on unseen curves after a short pre-training",
     "d_k = 8", _encoding),
    (13, "frozen layers stay as they are", "bytes before and after fine-tuning",
     "first three frozen", _frozen),
    (14, "resampling the targets' noise helps", "fine-tuning with fixed targets, compositions held out",
     "part of the recipe", _resampled),
    (16, "attention tracks |Δz| and |Δr_s|", "56 scores of the main networks, names shuffled 2000 times",
     "read off one map", _tracks_differences),
    (17, "an attention score predicts an intervention",
     "score Cl- gives NO3- and the change of Cl- when NO3- is removed, 48 feeds", "said in words", _predicts_removal),
    (18, "smooth in flux where CNN and U-Net are not",
     "second differences at 60 fluxes of unseen curves, median over the pore model's", "said in words", _smooth),
)  # fmt: skip


def exact_claims(
    tables: dict[str, pd.DataFrame],  # From `collect` or `read_tables`
) -> list[tuple]:  # number, claim, tested, paper, verdict
    "Claims 9 to 14 and 16 to 18."
    main = audit(tables["attention"], tables["removal"]).set_index("network").loc["main"]
    return [(*said, judge(tables | {"audit": main})) for *said, judge in _CLAIMS]
