"Prequalification: what only a machine wants to check. Skipped as a whole where RDKit or scikit-learn is missing."

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import constants

pytest.importorskip("rdkit")
pytest.importorskip("sklearn")

from rdkit import Chem

from ion_ode.core import InputError
from ion_ode.prequalify import augment, features, models, recipes, screen
from ion_ode.store import asset, digest

SMILES = sorted({*recipes.AMINES.values(), *recipes.ACYL_CHLORIDES.values()})
TMC = recipes.ACYL_CHLORIDES["TMC"]


# --- what is imported when ---


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_package_does_not_import_the_extra():
    out = run("import sys, ion_ode; assert not any(m.startswith(('rdkit', 'sklearn', 'ion_ode.prequalify')) for m in sys.modules)")
    assert out.returncode == 0, out.stderr


def test_without_rdkit_the_message_names_the_extra():
    code = (
        "import sys; sys.modules['rdkit'] = None; sys.modules['rdkit.Chem'] = None\n"
        "import ion_ode.prequalify.screen as s\n"
        "try: s.read_recipes(__import__('io').StringIO(s.__dict__['read_recipes'].__globals__['_TEMPLATE']))\n"
        "except ImportError as e: print(e)"
    )
    out = run(code)
    assert 'pip install "ion_ode[screen]"' in out.stdout, out.stdout + out.stderr


# --- monomers ---


@pytest.mark.parametrize("smiles", SMILES[::6])
def test_every_spelling_of_a_monomer_is_one_monomer(smiles):
    mol = Chem.MolFromSmiles(smiles)
    rng = np.random.default_rng(0)
    spellings = {Chem.MolToSmiles(Chem.RenumberAtoms(mol, rng.permutation(mol.GetNumAtoms()).tolist()), canonical=False) for _ in range(10)}
    assert {features.read_monomer(s) for s in spellings} == {features.read_monomer(smiles)}


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(SMILES), st.integers(0, 10**6))
def test_features_do_not_see_orientation_or_order(smiles, seed):
    g = features.conformer(features.read_monomer(smiles))
    f = features.invariant_features(g)
    assert_allclose(features.invariant_features(features.moved(g, seed)), f, atol=1e-10 * np.abs(f).max())


@settings(max_examples=10, deadline=None)
@given(st.text(max_size=12))
def test_any_text_is_a_monomer_or_a_sentence(text):
    try:
        assert features.read_monomer(features.read_monomer(text))
    except InputError as e:
        assert str(e).startswith("monomer: ") and ";" in str(e)


def test_layout_holds_what_it_says():
    a, c = (features.conformer(features.read_monomer(s)) for s in ("NCCN", TMC))
    x = features.published_layout(a, c, [1, 2, 3, 4])
    slots = x[:440].reshape(2, 55, 4)
    assert_allclose(slots[0, : len(a), 0], a.mass)
    assert_allclose(slots[1, : len(c), 1:], c.xyz)
    assert (slots[0, len(a) :] == 0).all() and x[440:].tolist() == [1, 2, 3, 4]
    big = features.conformer("C" * 25, n=1)
    kept = features.atom_slots(big, overflow="nearest")
    radii = np.linalg.norm(big.xyz, axis=1)
    assert_allclose(np.sort(np.linalg.norm(kept[:, 1:], axis=1)), np.sort(radii)[:55])


# --- distortions ---


@pytest.fixture(scope="module")
def ethylamine():
    return augment.normal_modes("CCN")


def test_modes_are_orthonormal_and_free_of_rigid_motion(ethylamine):
    u = ethylamine.modes.reshape(len(ethylamine.omega), -1)
    assert_allclose(u @ u.T, np.eye(len(u)), atol=1e-10)
    rigid = augment._rigid_motions(ethylamine.geometry.xyz, ethylamine.geometry.mass)
    assert rigid.shape[1] == 6 and np.abs(u @ rigid).max() < 1e-8


def test_frequencies_agree_with_a_hessian_of_energies():
    modes = augment.normal_modes("C=O")
    _, ff = augment._force_field("C=O", modes.geometry)
    x0, h = modes.geometry.xyz.ravel(), 2e-3
    e = lambda *moves: ff.CalcEnergy((x0 + sum(s * h * np.eye(x0.size)[k] for k, s in moves)).tolist())
    n = x0.size
    hessian = np.array([[(e((i, 1), (j, 1)) - e((i, 1), (j, -1)) - e((i, -1), (j, 1)) + e((i, -1), (j, -1))) / (4 * h * h) for j in range(n)] for i in range(n)])
    weight = 1 / np.sqrt(np.repeat(modes.geometry.mass, 3) * constants.atomic_mass)
    si = hessian * constants.calorie * 1e3 / constants.N_A / constants.angstrom**2
    values = np.linalg.eigvalsh(weight[:, None] * si * weight)[-len(modes.omega) :]
    assert_allclose(modes.omega, np.sqrt(values), rtol=5e-3)


def test_the_gradient_is_fresh(ethylamine):
    _, ff = augment._force_field("CCN", ethylamine.geometry)
    x = ethylamine.geometry.xyz.ravel()
    elsewhere = x + 0.05 * np.random.default_rng(0).normal(size=x.size)
    here = augment._gradient(ff, x)
    ff.CalcEnergy(elsewhere.tolist())
    assert_allclose(augment._gradient(ff, x), here, atol=1e-9 * max(1, np.abs(augment._gradient(ff, elsewhere)).max()))


def test_snapshots_have_the_variance_of_their_modes(ethylamine):
    x = augment.vibrate(ethylamine, 20_000, temperature=300.0, rng=np.random.default_rng(1))
    shift = (x - ethylamine.geometry.xyz) * constants.angstrom * np.sqrt(ethylamine.geometry.mass[:, None] * constants.atomic_mass)
    q = np.einsum("nad,kad->nk", shift, ethylamine.modes)
    assert_allclose(q.var(0), augment.mode_variance(ethylamine.omega, 300.0), rtol=0.06)
    assert np.abs(np.corrcoef(q.T) - np.eye(q.shape[1])).max() < 0.05


@pytest.mark.parametrize("level", range(6))
def test_distortion_keeps_atoms_and_process(level):
    kinds = augment.DISTORTIONS[:level]
    x = augment.distort("NCCN", TMC, [1, 2, 3, 4], kinds=kinds, n=3, seed=5)
    again = augment.distort("NCCN", TMC, [1, 2, 3, 4], kinds=kinds, n=3, seed=5)
    assert (x == again).all() and (x[:, 440:] == [1, 2, 3, 4]).all()
    plain = augment.distort("NCCN", TMC, [1, 2, 3, 4], kinds=(), n=1)
    masses = lambda v: np.sort(v[:, :440].reshape(len(v), 2, 55, 4)[..., 0])
    assert_allclose(masses(x), np.repeat(masses(plain), 3, 0))
    assert (len(np.unique(x[:, 1:4], axis=0)) == 3) == (level > 0)


def test_rotations_are_proper_and_uniform():
    r = augment._rotations(20_000, np.random.default_rng(0))
    assert_allclose(r @ r.transpose(0, 2, 1), np.broadcast_to(np.eye(3), r.shape), atol=1e-12)
    assert_allclose(np.linalg.det(r), 1)
    assert np.abs(r.mean(0)).max() < 0.02 and np.abs((r**2).mean(0) - 1 / 3).max() < 0.02


# --- tables ---


def test_the_schema_refuses_a_membrane_in_two_papers():
    d = recipes.load_tfc()
    m = d.membrane_id.value_counts().index[0]
    d.loc[d.index[d.membrane_id == m][0], "paper_group"] = "another"
    with pytest.raises(Exception, match="a membrane is in one paper"):
        recipes.RecipeSchema.validate(d)


def test_the_real_table_is_read_whole():
    d = recipes.load_tfc()
    raw = pd.read_csv(asset("tfc_membranes.csv")).set_index("row_id")
    assert_allclose(d.rejection, raw.rejection)
    assert d.scored.sum() == (raw.rejection_kind.isin(["exact", "range", "approx", "from passage"]) & (raw.rejection < 1)).sum()
    for s, p in zip(d.amine_1_smiles, d.amine_1_polymer, strict=True):
        assert s == "" or features.read_monomer(s, polymer=p)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=10, max_size=40).filter(lambda g: len(set(g)) > 3), st.integers(2, 4), st.integers(0, 99))
def test_folds_keep_groups_whole(groups, n, seed):
    folds = recipes.group_folds(groups, n, seed)
    groups = np.array(groups)
    assert sorted(np.concatenate([t for _, t in folds])) == list(range(len(groups)))
    assert all(not set(groups[a]) & set(groups[b]) for a, b in folds)


HEADER = recipes.recipe_template().splitlines()[0]
GOOD = recipes.recipe_template().splitlines()[1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read as CSV"),
        ("a;b;c\n1;2;3", "lacks the column(s) amine_1_smiles, acyl_smiles, salt"),
        (HEADER, "has a header and no recipe"),
        (f"{HEADER}\n{GOOD.replace('Na2SO4', 'NaClO4')}", "line 2, salt: unknown salt 'NaClO4'; expected one of NaCl"),
        (f"{HEADER}\n{GOOD.replace('6,1000', 'six,1000')}", "line 2, pressure_bar: 'six' is not a number"),
        (f"{HEADER}\n{GOOD.replace('false', 'perhaps')}", "'perhaps' is neither true nor false"),
        (f"{HEADER}\n{GOOD.replace('C1CNCCN1', 'C1CNCC[NH4]1')}", "line 2, amine_1_smiles: 'C1CNCC[NH4]1' is no possible molecule"),
        (f"{HEADER}\n{GOOD}\n{GOOD.replace('1.0,0.1', '-1,0.1')}", "line 3, amine_1_wt_pct: -1 is outside 0 to 100"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(text, says):
    with pytest.raises(InputError) as e:
        recipes.read_recipes(io.StringIO(text))
    assert says in str(e.value)


def test_files_are_found_or_named_and_never_replaced(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        recipes.read_recipes(tmp_path / "no.csv")
    (tmp_path / "binary.csv").write_bytes(bytes(range(128, 256)))
    with pytest.raises(InputError, match="cannot be read as CSV"):
        recipes.read_recipes(tmp_path / "binary.csv")
    recipes.recipe_template(tmp_path / "t.csv")
    assert len(recipes.read_recipes(tmp_path / "t.csv")) == 3
    with pytest.raises(InputError, match="exists and stays"):
        recipes.recipe_template(tmp_path / "t.csv")
    with pytest.raises(InputError, match="needs one of them"):
        recipes.read_recipes(tmp_path / "t.csv", measured=True)


def test_synthetic_membranes_do_not_depend_on_how_many():
    stored, few = recipes.load_synthetic(), recipes.simulate_recipes(3)
    assert len(stored) == 416 and stored.synthetic.all()
    numbers = few.select_dtypes("number").columns
    assert_allclose(few[numbers], stored.loc[:2, numbers], rtol=1e-5)


def test_a_wider_strand_gives_a_wider_pore():
    pore = lambda amine: recipes.true_parameters(features.read_monomer(amine), features.read_monomer(TMC), 1.0, 0.1)["r_pore"]
    assert pore("NCCN") < pore("NCCCCN") < pore("NCCCCCCCCN")


# --- models ---


@pytest.fixture(scope="module")
def part():
    d = recipes.load_synthetic().head(60)
    return d, models.synthetic_targets(d)


def test_scaling_looks_at_training_rows_only(part):
    d, _ = part
    blocks = models.recipe_blocks(d)
    train = {k: v[:40] for k, v in blocks.items()}
    first = models.BlockScaler().fit(train)(train)
    blocks["process"][40:] += 100
    assert (models.BlockScaler().fit({k: v[:40] for k, v in blocks.items()})(train) == first).all()


def test_what_is_not_stated_becomes_the_mean():
    d = recipes.load_tfc().query("amine_1 != 'beta-cyclodextrin'")  # 147 atoms: slow, and nothing new here
    blocks = models.recipe_blocks(d, "both", salt=True, context=True)
    x = models.BlockScaler().fit(blocks)(blocks)
    assert np.isfinite(x).all()
    missing = (d.amine_1_smiles == "").to_numpy()
    assert (x[missing, : blocks["amine"].shape[1]] == 0).all()


@pytest.mark.parametrize(
    "fit",
    [
        lambda d, y: models.PublishedModel(copies=3, steps=30).fit(d[:10], y[:10, :2]),
        lambda d, y: models.InvariantModel(steps=5, snapshots=2).fit(d[:10], y[:10, :2], d[:20]),
        lambda d, y: models.PhysicsRoute(steps=1, rounds=1, salts=("NaCl",)).fit(d[:10], y[:10, :2]),
    ],
    ids=["published", "invariant", "physics"],
)
def test_models_repeat_to_the_last_digit(part, fit):
    d, y = part
    once, twice = (fit(d, y).predict(d[10:20]) for _ in range(2))
    assert (once == twice).all() and np.isfinite(once).all()


def test_a_missing_target_is_left_out(part):
    d, y = part
    holes = y[:40].copy()
    holes[::3, 1] = np.nan
    x = models.BlockScaler().fit(models.recipe_blocks(d[:40]))(models.recipe_blocks(d[:40]))
    full = models.PerTarget("ridge").fit(x[np.isfinite(holes[:, 1])], holes[np.isfinite(holes[:, 1])])
    assert_allclose(models.PerTarget("ridge").fit(x, holes).predict(x)[:, 1], full.predict(x)[:, 1])


def test_gradients_of_the_physics_route(part):
    d, y = part
    route = models.PhysicsRoute()
    feed, _ = route._conditions(d[:3])
    flux = route._fluxes(d[:3], y[:3])
    latent = torch.tensor([[0.2, 2.5, -0.8], [-0.3, 2.8, 0.5], [0.6, 3.0, -1.5]], dtype=torch.float64, requires_grad=True)
    p = route._passages(latent, route.ln_eps, feed, flux)
    (grad,) = torch.autograd.grad(p.sum(), latent)
    h = 1e-3
    for i in range(3):
        for j in range(3):
            move = torch.zeros(3, 3, dtype=torch.float64)
            move[i, j] = h
            with torch.no_grad():
                up, down = (route._passages(latent + s * move, route.ln_eps, feed, flux).sum() for s in (1, -1))
            assert_allclose(grad[i, j], (up - down) / (2 * h), rtol=0.02, atol=0.02)


# --- screening ---


@pytest.fixture(scope="module")
def fitted():
    return screen.Prequalifier().fit(recipes.load_tfc().query("amine_1 != 'beta-cyclodextrin'"))


def test_intervals_nest_and_hold_the_prediction(fitted):
    d = recipes.read_recipes(io.StringIO(recipes.recipe_template()))
    narrow, wide = fitted.predict_interval(d, 0.5), fitted.predict_interval(d, 0.9)
    for name, value in (("permeance", "permeance_LMH_bar"), ("rejection", "rejection")):
        assert (wide[f"{name}_lower"] < narrow[f"{name}_lower"]).all() and (narrow[f"{name}_upper"] < wide[f"{name}_upper"]).all()
        assert (narrow[f"{name}_lower"] <= narrow[value]).all() and (narrow[value] <= narrow[f"{name}_upper"]).all()
    assert_allclose(fitted.predict(d), wide[["permeance_LMH_bar", "rejection"]])
    assert (wide.rejection_upper < 1).all()


def test_reduced_process_is_the_fitted_one():
    gp = pytest.importorskip("sklearn.gaussian_process")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 4)), rng.normal(size=30)
    small = screen._Process(x, y)
    c, length, linear, sigma, noise = small.arrays["kernel"]
    k = gp.kernels
    kernel = k.ConstantKernel(c) * k.RBF(length) + k.ConstantKernel(linear) * k.DotProduct(sigma) + k.WhiteKernel(noise)
    whole = gp.GaussianProcessRegressor(kernel, optimizer=None, normalize_y=True).fit(x, y)
    z = rng.normal(size=(7, 4))
    assert_allclose(small.predict(z), whole.predict(z, return_std=True), rtol=1e-6)


def test_a_saved_model_is_the_same_model(fitted, tmp_path):
    d = recipes.read_recipes(io.StringIO(recipes.recipe_template()))
    loaded = screen.Prequalifier.load(fitted.save(tmp_path / "m"))
    assert_allclose(loaded.predict_interval(d), fitted.predict_interval(d), rtol=1e-12)
    pd.testing.assert_frame_equal(screen.screen_recipes(d, training=tmp_path / "m"), screen.screen_recipes(d, training=fitted))
    (tmp_path / "m" / "model.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as a saved model"):
        screen.Prequalifier.load(tmp_path / "m")


def test_recipes_come_as_frame_file_or_text(fitted, tmp_path):
    recipes.recipe_template(tmp_path / "r.csv")
    want = fitted.predict(recipes.read_recipes(tmp_path / "r.csv"))
    for form in (tmp_path / "r.csv", io.StringIO(recipes.recipe_template()), pd.read_csv(tmp_path / "r.csv", keep_default_na=False)):
        pd.testing.assert_frame_equal(fitted.predict(form), want)
    with pytest.raises(InputError, match="there is no file"):
        fitted.predict("nothing.csv")
    with pytest.raises(InputError, match="lacks the column"):
        fitted.predict_interval(pd.DataFrame({"amine": ["PIP"]}))


def test_screen_from_an_own_table(tmp_path):
    d = recipes.load_synthetic().head(40)
    lines = [HEADER]
    for r in d.itertuples():
        results = f"{np.exp(r.ln_permeance):.4f},{1 - np.exp(r.ln_passage_NaCl):.5f}"
        feed = r.feed_mol_m3 * 58.44
        lines.append(f"{r.membrane_id},{r.amine_1_smiles},false,{r.acyl_smiles},{r.amine_1_wt_pct},{r.acyl_wt_pct},PSf,,NaCl,{r.pressure_bar},{feed:.0f},{results},{r.membrane_id}")
    (tmp_path / "own.csv").write_text("\n".join(lines))
    candidates = "\n".join([HEADER, *(f"{w} %,C1CNCCN1,false,{TMC},{w},0.1,PSf,,NaCl,6,500,,," for w in (0.3, 2.5))])
    ranked = screen.screen_recipes(io.StringIO(candidates), training=tmp_path / "own.csv", max_distance=1.0)
    assert ranked.status.eq("ok").all() and ranked["rank"].tolist() == [1, 2]
    by_name = ranked.set_index("name").permeance_LMH_bar
    assert by_name["0.3 %"] > by_name["2.5 %"]  # the law of the synthetic set: more amine, thicker film
    strict = screen.screen_recipes(io.StringIO(candidates), training=tmp_path / "own.csv", max_distance=-1.0)
    assert strict.status.eq("refused").all() and strict["rank"].isna().all() and strict.permeance_LMH_bar.isna().all()
    assert strict.reason.str.contains("beyond -1.00").all()


def test_higher_targets_are_harder(fitted):
    d = recipes.read_recipes(io.StringIO(recipes.recipe_template()))
    easy, hard = (screen.screen_recipes(d, training=fitted, target_rejection=t, max_distance=1.0).set_index("name").chance for t in (0.5, 0.99))
    assert (hard < easy[hard.index]).all()


# --- stored results ---


@pytest.mark.parametrize("part", ["real", "leak", "augmentation", "synthetic"])
def test_stored_results_are_complete_and_belong_to_their_record(part):
    record = json.loads(asset(f"prequalify/study_{part}.json").read_text())
    assert record["inputs"] == {n: digest(asset(n).read_bytes()) for n in record["inputs"]}
    assert len(record["seeds"]) >= 5 and 0 not in record["seeds"] and record["commit"]
    for name, mark in record["results"].items():
        path = asset(f"prequalify/{name}.csv")
        assert digest(path.read_bytes()) == mark, name
        assert set(pd.read_csv(path).seed) == set(record["seeds"]), name


def test_splits_of_the_study_share_nothing():
    from ion_ode.prequalify.study import study_splits

    d = recipes.load_synthetic()
    for seed in range(1, 6):
        parts = study_splits("membrane", seed, d)
        assert [len(p) for p in parts] == [317, 29, 70] and len(set(np.concatenate(parts))) == 416
        train, valid, test = (set(d.amine_1.iloc[p]) for p in study_splits("amine", seed, d))
        assert not (train | valid) & test


def test_predictions_of_the_real_study_cover_every_row_once():
    real = pd.read_csv(asset("prequalify/real.csv"))
    d = recipes.load_tfc()
    for (target, model, seed), g in real[real.split == "paper"].groupby(["target", "model", "seed"]):
        assert not g.row_id.duplicated().any() and g.p.notna().all()
        if model != "physics route":
            want = d[d.scored] if target == "passage" else d[d.ln_permeance.notna()].drop_duplicates("membrane_id")
            assert set(g.row_id) == set(want.index), (target, model, seed)
    assert_allclose(real[real.target == "passage"].groupby("row_id").y.first(), d.ln_passage.loc[sorted(set(real[real.target == "passage"].row_id))], rtol=1e-5)


def test_study_command_has_help():
    out = subprocess.run([sys.executable, "-m", "ion_ode.prequalify.study", "--help"], capture_output=True, text=True)
    assert out.returncode == 0 and "--out" in out.stdout
    assert Path(asset("prequalify")).is_dir()
