"Campaigns: tables in any columns, the gate of monomers, what is suggested, and what comes back from a file."

import importlib
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

pytest.importorskip("rdkit")
pytest.importorskip("botorch")

from ion_ode.cli import main
from ion_ode.core import InputError
from ion_ode.prequalify import (
    acquisition,
    choice,
    monomers,
    other_kernels,
    process,
    progress,
    reactions,
    report,
    report_figures,
    tables,
    weighting,
)
from ion_ode.prequalify.campaign import Campaign
from ion_ode.prequalify.quantities import average_replicates, read_objective

NONSENSE = (
    "CCO c1ccccc1[N+](=O)[O-] C1CCNCC1 O=C(Cl)c1cc(C(=O)Cl)cc(C(=O)Cl)c1 CCC CCN c1ccccc1 O CC(N)=O NC(N)=O "
    "CCN(CC)CC c1ccncc1 CN(C)C=O C NC(=O)C(N)=O CC(=O)N1CCN(C(C)=O)CC1 CN(C)CCN(C)C C1CN2CCN1CC2 NS(=O)(=O)c1ccccc1 "
    "NC(=O)CC(N)=O "
    "c1cc[nH]c1 c1c[nH]cn1 OCC(O)CO CC#N C1CCCCC1 Nc1ccc(S(N)(=O)=O)cc1 NC(=O)c1cccnc1 Nc1ccccc1 CC(=O)O CC(=O)NN"
).split()
OWN = """name,amine,amine [wt%],acyl chloride,acyl chloride [wt%],additive,\
permeance [LMH/bar],rejection NaCl [%],rejection MgSO4 [%]
a,PIP,1,TMC,0.1,none,8,45,97
b,piperazine,0.5,TMC,0.1,SDS,11,38,95
c,MPD,2,trimesoyl chloride,0.1,none,2,97,99
d,PIP,2,TMC,0.2,,6,50,98.5
e,C1CNCCN1,0.2,IPC,0.05,none,16,20,85
f,PEI,1,TMC,0.1,none,12,25,80
g,PIP,1,TMC,0.2,SDS,9,48,97.5
h,PIP,0.25,TMC,0.1,none,13,30,91
i,PEI,0.5,TMC,0.1,SDS,14,35,70
"""


# --- monomers ---


@pytest.mark.parametrize("smiles", NONSENSE)
def test_what_cannot_make_a_film_is_refused_with_its_count(smiles):
    with pytest.raises(InputError, match=r"has (no|\d+) (amine|acyl chloride)") as e:
        reactions.check_pair(monomers.monomer(smiles), monomers.monomer("TMC"))
    assert "film needs 2" in str(e.value) or "react with itself" in str(e.value)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 12),
    st.sampled_from(["", "O", "C(=O)N", "C#N", "S", "N(C)C", "C(=O)O", "F", "C(=O)NC"]),
    st.sampled_from(["", "N", "O", "CC(=O)N"]),
)
def test_a_chain_with_fewer_than_two_amines_makes_no_film(length, right, left):
    with pytest.raises(InputError, match="a film needs 2"):
        reactions.check_pair(monomers.monomer(left + "C" * length + right), monomers.monomer("TMC"))


@pytest.mark.parametrize(
    ("amine", "acyl", "says"),
    [
        ("PIP", "TMC", "2 amines + 3 acyl chlorides"),
        ("m-phenylenediamine", "isophthaloyl chloride", "2 amines + 2 acyl chlorides"),
        ("*CCN*", "tmc", "3 amines + 3 acyl chlorides"),
    ],
)
def test_names_and_repeat_units(amine, acyl, says):
    assert reactions.check_pair(monomers.monomer(amine), monomers.monomer(acyl)) == says


def test_hydroxyls_count_where_a_polyester_is_declared():
    cd, tmc = monomers.monomer("β-CD"), monomers.monomer("TMC")
    with pytest.raises(InputError, match="declare film = polyester"):
        reactions.check_pair(cd, tmc)
    assert reactions.check_pair(cd, tmc, polyester=True).startswith("21 ")
    with pytest.raises(InputError, match="acyl chlorides are not|0 acyl chlorides"):
        reactions.check_pair(monomers.monomer("PIP"), monomers.monomer("MPD"))


def test_every_known_monomer_can_react():
    for name in monomers._AMINES:
        reactions.check_amine(monomers.monomer(name))
    for name in monomers._POLYOLS:
        reactions.check_amine(monomers.monomer(name), polyester=True)
    for name in monomers._ACYL_CHLORIDES:
        reactions.check_acyl(monomers.monomer(name))
    assert monomers.label(monomers.monomer("O=C(Cl)c1cc(cc(c1)C(Cl)=O)C(Cl)=O")) == "TMC"


# --- tables ---


def test_shipped_tables_are_whole_and_have_sources():
    sizes = {"deng2022": 114, "nf_intelligence": 414, "osn": 1347}
    assert {n: len(tables.load_recipes(n)) for n in tables.TABLES} == sizes == tables.sources().rows.to_dict()
    assert tables.sources().read_in.str.contains("commit").all()


def test_header_and_cells_say_what_a_column_is():
    d, s = tables.read_table(io.StringIO(OWN))
    assert {c.name: c.kind for c in s.columns} == {
        "amine": "monomer",
        "amine [wt%]": "number",
        "acyl chloride": "monomer",
        "acyl chloride [wt%]": "number",
        "additive": "category",
    }
    assert s.measured == ("permeance", "rejection NaCl", "rejection MgSO4") and s.ratio == (
        "amine [wt%]",
        "acyl chloride [wt%]",
    )
    assert d["amine"].nunique() == 3 and set(d["additive"]) == {"none", "SDS", ""}
    assert_allclose(d["rejection NaCl"].iloc[0], 0.45)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("8,45,97", "8,145,97"), "column 'rejection NaCl [%]': 145 is no rejection below 1"),
        (("8,45,97", "8,high,97"), "'high' is not a number"),
        (("8,45,97", "-8,45,97"), "is no permeance; expected a positive number"),
        (("a,PIP", "a,PIQ"), "'PIQ' is neither a known name nor a SMILES"),
        (("permeance [LMH/bar]", "permeance [gfd/psi]"), "unit 'gfd/psi' of a permeance is not known"),
        (("a,PIP,1,", "a,PIP,much,"), "'much' is not a number as the other cells are"),
        (("rejection MgSO4 [%]", "rejection NaCl"), "two columns of rejection NaCl"),
    ],
)
def test_every_message_names_the_column_and_the_remedy(change, says):
    with pytest.raises(InputError) as e:
        Campaign().fit(io.StringIO(OWN.replace(*change)))
    assert says in str(e.value), e.value


def test_none_is_not_the_same_as_not_stated():
    _, s = tables.read_table(
        io.StringIO("x [mM],y,permeance\n" + "".join(f"{v},1,{k + 1}\n" for k, v in enumerate(["none", "", 2, 4])))
    )
    d, _ = tables.read_table(io.StringIO("x [mM],permeance\nnone,1\n,1\n2,1\n"), schema=s)
    e = process.Encoder(s).fit(d)
    x = e(d).numpy()
    assert x[0, 0] == 0 and x[0, 1] == 0 and x[1, 0] == 0.5 and x[1, 1] == 1


def test_replicates_are_one_membrane_and_their_scatter_is_the_noise():
    rows = "PIP [wt%],permeance\n1,10\n1,12\n2,5\n2,6\n3,4\n"
    d, s = tables.read_table(io.StringIO(rows))
    m = average_replicates(d, s)
    pooled = np.mean([np.var(np.log([10, 12]), ddof=1), np.var(np.log([5, 6]), ddof=1)])
    assert_allclose(m["permeance"], [np.sqrt(120), np.sqrt(30), 4])
    assert_allclose(m["variance permeance"], [pooled / 2, pooled / 2, pooled])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name;PIP [wt%];permeance\na;1;1.234\nb;2;3\n", "'1.234' may be 1234 or 1.234; write 1234, or 1.2340"),
        ('name,PIP [wt%],permeance\na,1,"1,234"\nb,2,3\n', "'1,234' may be 1234 or 1.234"),
        ("name;PIP [wt%];permeance\na;0,5;8\nb;0.5;3\n", "and some a decimal point"),
    ],
)
def test_a_number_that_may_be_two_is_asked(tmp_path, text, says):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=says):
        tables.read_table(tmp_path / "t.csv")


def test_a_decimal_comma_is_read_where_cells_show_it(tmp_path):
    (tmp_path / "t.csv").write_text("name;PIP [wt%];SDS;permeance;rejection NaCl\na,1;0,5;none;12,5;95,5%\nb;2;1;8;\n")
    d, s = tables.read_table(tmp_path / "t.csv")
    assert [c.kind for c in s.columns] == ["number", "number"] and list(d["PIP [wt%]"]) == ["0.5", "2"]
    assert_allclose(d[["permeance", "rejection NaCl"]].iloc[0], [12.5, 0.955])
    assert list(d["name"]) == ["a,1", "b"]


def test_what_a_membrane_did_is_read_for_its_pores():
    rows = tables.read_table("deng2022")[0]
    permeance, salts = tables.tests_of(rows, "D041")
    assert_allclose([permeance, salts["MgCl2"]], [15.225, 0.962], rtol=2e-3)
    assert set(salts) == {"NaCl", "MgCl2", "Na2SO4"}  # PEG400 is no salt
    with pytest.raises(InputError, match="there is no membrane 'D41' in the table; near are D041"):
        tables.tests_of(rows, "D41")
    with pytest.raises(InputError, match="rejections of NaCl arrived; expected .* two salts"):
        tables.tests_of(rows[["name", "permeance", "rejection NaCl"]], "D041")


# --- process ---


@pytest.fixture(scope="module")
def line():
    "A law that is linear in the logarithm of one amount, with noise of a known size."
    rng = np.random.default_rng(0)
    x = np.exp(rng.uniform(np.log(0.05), np.log(2), 40))
    y = 2 - 0.8 * np.log(x) + 0.1 * rng.normal(size=40)
    d, s = tables.read_table(pd.DataFrame({"PIP [wt%]": x, "permeance": np.exp(y)}))
    return d, y, process.Process(process.Encoder(s).fit(d)).fit(d, y)


def test_prediction_is_the_library_s_posterior(line):
    d, _, p = line
    post = p.model.posterior(p.x[:7])
    mean, sd = p.predict(d.iloc[:7])
    assert_allclose(mean, post.mean.detach().numpy().ravel() * p.sd + p.mean, rtol=1e-8)
    assert_allclose(sd**2, (post.variance.detach().numpy().ravel() + p.scatter) * p.sd**2, rtol=1e-5)


def test_leave_out_equals_a_process_without_the_group(line):
    d, y, p = line
    groups = np.arange(len(d)) // 5
    mean, sd = p.leave_out(groups)
    out = groups == 3
    q = process.Process(p.encoder)
    q.x, q.y, q.mean, q.sd, q.variance, q.model = p.x[~out], y[~out], p.mean, p.sd, p.variance[~out], p.model
    q._solve()
    again = q.predict(d[out])
    assert_allclose(mean[out], again[0], rtol=1e-6)
    assert_allclose(sd[out], again[1], rtol=1e-3)


def test_noise_is_found(line):
    _, _, p = line
    assert 0.05 < np.sqrt(p.scatter) * p.sd < 0.2


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 200), st.floats(0.5, 0.95), st.integers(0, 999))
def test_weighted_quantile_covers(n, level, seed):
    ratio = np.random.default_rng(seed).exponential(size=n)
    q = weighting.weighted_quantile(ratio, level)
    assert np.mean(ratio <= q) >= level or not np.isfinite(q)
    assert weighting.weighted_quantile(ratio, level, np.ones(n)) == q
    assert weighting.weighted_quantile(ratio[:3], 0.9) == np.inf


# --- campaign ---


@pytest.fixture(scope="module")
def own():
    return Campaign(objectives=["permeance", "selectivity NaCl/MgSO4"]).fit(io.StringIO(OWN))


def test_objectives_read_and_refused():
    known = ["permeance", "rejection NaCl", "rejection MgSO4"]
    assert read_objective("Selectivity NaCl/MgSO4", known) == {"rejection NaCl": 1.0, "rejection MgSO4": -1.0}
    assert read_objective("min rejection NaCl", known) == {"rejection NaCl": 1.0}
    with pytest.raises(InputError, match="cannot be read from what was measured"):
        read_objective("selectivity KCl/NaCl", known)


def test_a_batch_is_new_possible_and_within_bounds(own):
    b = own.suggest(3, bounds={"amine [wt%]": (0.3, 1.5), "additive": ["none"]}, remember=False)
    amount = b["amine [wt%]"].astype(float)
    assert amount.between(0.3, 1.5).all() and b["additive"].eq("none").all()
    assert len(b.drop_duplicates([c.name for c in own.schema.columns])) == 3 and not set(own._marks(b)) & set(
        own._marks(own.table)
    )
    assert b["reason"].str.len().min() > 20 and b["chance"].between(0, 1).all()
    near = own.table.set_index("name").loc[b["nearest"]]
    assert (near["amine"].to_numpy() == b["amine"].to_numpy()).all()  # another monomer is further than any amount
    again = own.suggest(3, bounds={"amine [wt%]": (0.3, 1.5), "additive": ["none"]}, remember=False)
    pd.testing.assert_frame_equal(b, again)


def test_a_recipe_is_valued_alike_whenever_it_is_asked(own):
    acq, x = acquisition._acquisition(own, own.processes), own.encoder(own._pool(None, None, 3))
    first = acquisition._ln_volume(acq, x, x[:0])
    for _ in range(2):
        acquisition._ln_volume(acq, x[:5], x[:1])
        assert_allclose(acquisition._ln_volume(acq, x, x[:0]), first, rtol=1e-6)


def test_draws_are_as_wide_and_as_correlated_as_the_errors_of_membranes_left_out(own):
    acq, x = acquisition._acquisition(own, own.processes), own.encoder(own._pool(None, None, 3))
    acquisition._ln_volume(acq, x, x[:0])
    names = sorted({m for w in own.weights for m in w})
    wide, drawn = own.missed_by(names), acq.sampler.base_samples.numpy().reshape(-1, len(names))
    assert (wide >= 1).all()
    assert_allclose(drawn.std(0), wide, rtol=0.1)
    assert_allclose(np.corrcoef(drawn.T), own.correlation(names), atol=0.15)


def test_quantities_share_what_makes_recipes_alike_and_nothing_else(own):
    lengths = [{k: v for k, v in s.items() if k.endswith("lengthscale")} for s in own.states.values()]
    assert len(lengths) == 3 and lengths[0] and all(v == lengths[0] for v in lengths)
    heights = [[v for k, v in s.items() if k.endswith("outputscale")] for s in own.states.values()]
    assert heights[0] and heights[0] != heights[1] != heights[2]


def test_other_kernels_are_as_far_off_as_the_membranes_allow(own):
    about = {m: np.concatenate([v[2] for v in other_kernels._numbers(p).values()]) for m, p in own.processes.items()}
    known = other_kernels.information(dict(own.processes))
    assert_allclose(known, known.T, rtol=1e-6, atol=1e-9)
    assert np.linalg.eigvalsh(known).min() > 0 and np.diag(known)[:3].min() >= 1  # lengths: the prior at least
    drawn = other_kernels.other_kernels(own, ["permeance"], 32)
    found = np.array([np.concatenate([v[2] for v in other_kernels._numbers(p["permeance"]).values()]) for p in drawn])
    where = other_kernels._where(own.processes)["permeance"]
    assert_allclose(found.std(0), np.sqrt(np.diag(np.linalg.inv(known)))[where], rtol=0.35)
    assert np.abs((found.mean(0) - about["permeance"]) / found.std(0)).max() < 0.5
    for m, v in about.items():  # the campaign keeps its own
        assert_allclose(np.concatenate([v[2] for v in other_kernels._numbers(own.processes[m]).values()]), v, rtol=1e-6)


def test_lengths_are_drawn_alike_for_all_quantities(own):
    drawn = other_kernels.other_kernels(own, list(own.processes), 2)[1]
    numbers = [other_kernels._numbers(p).items() for p in drawn.values()]
    lengths = [{k: v[2].tolist() for k, v in found if k.endswith("lengthscale")} for found in numbers]
    assert lengths[0] == lengths[1] == lengths[2] and lengths[0]


def test_a_draw_is_a_membrane_with_its_own_scatter(own):
    x, p = own.encoder(own.table)[:3], own.processes["permeance"]
    drawn, known = acquisition._membranes([p]).posterior(x).variance, p.model.posterior(x).variance
    assert_allclose(drawn.detach(), known.detach() + p.scatter, rtol=1e-6)


def test_membranes_made_are_what_was_measured_but_for_replicates(line):
    d, y, p = line
    assert_allclose(p.as_made(), y, atol=1e-4)  # no replicates: nothing to take out
    noisy = process.Process(p.encoder).fit(d, y, np.full(len(y), 0.04), state=p.state)
    law = 2 - 0.8 * np.log(d["PIP [wt%]"].astype(float))
    assert np.abs(noisy.as_made() - law).mean() < np.abs(y - law).mean()


def test_a_start_is_spread_over_the_recipes_and_a_few_results_suffice(tmp_path):
    grid = [{"PIP [wt%]": a, "TMC [wt%]": b} for a in (0.1, 0.3, 1, 3) for b in (0.01, 0.03, 0.1, 0.3)]
    pd.DataFrame(grid).to_csv(tmp_path / "grid.csv", index=False)
    r = CliRunner().invoke(main, ["campaign", str(tmp_path / "grid.csv"), "--start", "5", "--json"])
    assert r.exit_code == 0, r.output
    first = pd.DataFrame(json.loads(r.stdout))
    recipe = first[["PIP [wt%]", "TMC [wt%]"]].astype(float)
    assert len(recipe.drop_duplicates()) == 5 and (recipe.max() / recipe.min() >= 9).all()
    c = Campaign(objectives=["permeance"]).fit(recipe.assign(permeance=[5.0, 8.0, 3.0, 12.0, 6.0]))
    batch = c.suggest(1)
    assert batch["chance"].between(0, 1).all() and not np.isfinite(batch["permeance upper"]).any()
    with pytest.raises(InputError, match="20 membranes were asked for; expected 1 to the 16 recipes"):
        Campaign().start(pd.DataFrame(grid), 20)


def test_no_compiler_is_called_for_a_suggestion(own):
    own.suggest(1, remember=False, explain=False)
    assert importlib.import_module("botorch.acquisition.multi_objective.logei")._C is None


def test_each_next_membrane_adds_less_and_skipping_recipes_changes_nothing(own, monkeypatch):
    lazy = own.suggest(3, remember=False, explain=False)
    assert lazy["gain"].iloc[0] == 1 and lazy["gain"].is_monotonic_decreasing
    monkeypatch.setattr(choice, "_AT_ONCE", 10_000)
    assert own._marks(own.suggest(3, remember=False, explain=False)) == own._marks(lazy)


def test_costs_and_pending_change_the_batch(own):
    free = own.suggest(1, remember=False)
    dear = own.suggest(4, costs={"additive": 50.0}, remember=False)
    assert (
        set(dear["additive"][:2]) <= {"none", ""} and (dear["cost"] == np.where(dear["additive"] == "SDS", 51, 1)).all()
    )
    c = Campaign(objectives=own.objectives).fit(io.StringIO(OWN), own.states)
    first = c.suggest(1)
    assert (
        own._marks(first) == own._marks(free) and own._marks(c.suggest(1)) != own._marks(first) and len(c.pending) == 2
    )


def test_what_too_few_membranes_bound_has_no_interval(own):
    few = Campaign(objectives=own.objectives).fit(io.StringIO(OWN.replace("9,48,97.5", "9,,97.5")), own.states)
    batch = few.suggest(1, remember=False)
    shown = report.batch_table(few, batch).iloc[0]
    assert all("too few to tell" in shown[c] for c in ("rejection NaCl %", "selectivity NaCl/MgSO4"))
    assert "[" in shown["permeance"] and "inf" not in " ".join(map(str, shown))
    assert few.used().set_index("column").why["rejection NaCl"] == "8 membranes, an interval of 90 % needs 9"


def test_candidates_that_cannot_react_are_named(own):
    text = "name,amine,amine [wt%],acyl chloride,acyl chloride [wt%],additive\nx,CCO,1,TMC,0.1,none\n"
    with pytest.raises(InputError, match="column 'amine': the aqueous monomer CCO has 0 amines"):
        own.suggest(1, candidates=io.StringIO(text), remember=False)


def test_a_file_brings_the_campaign_back_and_results_go_on(own, tmp_path):
    c = Campaign(objectives=own.objectives).fit(io.StringIO(OWN), own.states)
    batch = c.suggest(2)
    back = Campaign.load(c.save(tmp_path / "c.json"))
    assert_allclose(back.predict(batch).select_dtypes("number"), c.predict(batch).select_dtypes("number"))
    assert list(back.pending["name"]) == list(batch["name"])
    result = batch[["name", *(x.name for x in c.schema.columns)]].iloc[:1].assign(permeance=9.0)
    back.add(result)
    assert len(back.table) == len(own.table) + 1 and list(back.pending["name"]) == list(batch["name"][1:])
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON .*expected a campaign as Campaign.save writes it"):
        Campaign.load(tmp_path / "c.json")


def test_columns_used_and_not_are_listed(own):
    used = own.used().set_index("column").use
    assert used["amine [wt%]"] == "used" and used["permeance"] == "learned"
    rows = [
        re.sub(r",(\d+),(\d+),([\d.]+)$", r",\1,,\3", row) if row[0] in "abcde" else row for row in OWN.splitlines()
    ]
    few = Campaign().fit(io.StringIO("\n".join(rows)))
    assert few.used().set_index("column").why["rejection NaCl"].startswith("4 values, 5 are needed")


def test_laboratories_have_their_own_offset():
    rng = np.random.default_rng(1)
    x = np.tile(np.geomspace(0.1, 2, 12), 2)
    lab = np.repeat(["A", "B"], 12)
    y = 20 * x**-0.5 * np.where(lab == "A", 1.0, 2.0) * np.exp(0.03 * rng.normal(size=24))
    c = Campaign(objectives=["permeance"]).fit(pd.DataFrame({"laboratory": lab, "PIP [wt%]": x, "permeance": y}))
    ask = pd.DataFrame({"laboratory": ["A", "B", "new"], "PIP [wt%]": [0.7, 0.7, 0.7]})
    p = c.predict(ask)
    assert_allclose(p.permeance[:2], [20 * 0.7**-0.5, 40 * 0.7**-0.5], rtol=0.1)
    width = np.log(p["permeance upper"] / p["permeance lower"])
    assert width[2] > 1.5 * width[0]


# --- progress, report, command ---


def test_hypervolume_of_a_staircase():
    points = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [1.0, 1.0]])
    assert_allclose(progress.hypervolume(points, np.zeros(2)), 6.0)
    assert progress.made_until(points, [3, 0, 1, 2], np.zeros(2), share=1.0) == 4


def test_report_holds_figure_batch_and_columns(own, tmp_path):
    batch = own.suggest(2, remember=False)
    text = report.write_report(own, tmp_path / "r.html", batch).read_text()
    assert "data:image/png" in text and all(n in text for n in batch["name"]) and "What was used" in text
    assert (
        "| S01 |" in report.write_report(own, tmp_path / "r.md", batch).read_text()
        and (tmp_path / "r.png").stat().st_size > 5000
    )
    with pytest.raises(InputError, match=r"must end in .html or .md"):
        report.write_report(own, tmp_path / "r.pdf", batch)


def test_command_from_table_to_file_and_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.csv").write_text(OWN)
    r = CliRunner().invoke(main, ["campaign", "own.csv", "--next", "2", "--save", "c.json", "--out", "next.csv"])
    assert r.exit_code == 0, r.output
    assert "amine [wt%]: used, number, log scale" in r.stderr and len(pd.read_csv("next.csv")) == 2
    r = CliRunner().invoke(main, ["campaign", "c.json", "--next", "1", "--json"])
    assert r.exit_code == 0 and json.loads(r.stdout)[0]["name"] == "S03"
    r = CliRunner().invoke(main, ["campaign", "own.csv", "--bound", "TMC"])
    assert r.exit_code == 2 and "COLUMN=LOW:HIGH" in r.stderr
    r = CliRunner().invoke(main, ["campaign", "own.csv", "--bound", "water=1:2"])
    assert r.exit_code == 2 and "there is no recipe column 'water'" in r.stderr


def test_own_water_through_a_membrane_of_the_table():
    ask = ["campaign", "deng2022", "--through", "D041", "--feed", "Na+=2,Mg+2=1,Cl-=4", "--flux", "30"]
    r = CliRunner().invoke(main, [*ask, "--json"])
    assert r.exit_code == 0, r.output
    found = pd.DataFrame(json.loads(r.stdout)).set_index("ion")
    assert (found.lower <= found.rejection).all() and found.rejection["Mg+2"] > found.rejection["Na+"]
    assert "tested at 5 bar and 1000 mg/L" in r.stderr and "r_pore [nm]" in r.stderr
    for changed, says in (([*ask, "--tested", "5"], "expected pressure"), (ask[:4], "name a membrane")):
        r = CliRunner().invoke(main, changed)
        assert r.exit_code == 2 and says in r.stderr


def test_replay_needs_rounds(tmp_path):
    with pytest.raises(InputError, match="needs a column round"):
        report_figures.replay_rounds(io.StringIO(OWN))
