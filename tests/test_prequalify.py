"Molecules, the literature and screening. Skipped where RDKit or BoTorch is missing."

import io
import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import constants

pytest.importorskip("rdkit")
pytest.importorskip("botorch")

from rdkit import Chem

from ion_ode.cli import main
from ion_ode.core import InputError
from ion_ode.prequalify import (
    augment,
    features,
    leaks,
    literature_rows,
    monomers,
    process,
    reactions,
    recipe_lines,
    salts,
    screen,
)
from ion_ode.prequalify.published import PublishedModel
from ion_ode.store import asset, digest

SMILES = sorted({*monomers._AMINES.values(), *monomers._ACYL_CHLORIDES.values()})
TMC = monomers._ACYL_CHLORIDES["TMC"]


# --- what is imported when ---


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_package_does_not_import_the_extra():
    out = run(
        "import sys, ion_ode\n"
        "assert not any(m.startswith(('rdkit', 'sklearn', 'ion_ode.prequalify')) for m in sys.modules)"
    )
    assert out.returncode == 0, out.stderr


def test_without_rdkit_the_message_names_the_extra():
    code = (
        "import sys; sys.modules['rdkit'] = None; sys.modules['rdkit.Chem'] = None\n"
        "import ion_ode.prequalify.features as f\n"
        "try: f.read_monomer('CCN')\n"
        "except ImportError as e: print(e)"
    )
    out = run(code)
    assert 'pip install "ion_ode[screen]"' in out.stdout, out.stdout + out.stderr


# --- monomers ---


@pytest.mark.parametrize("smiles", SMILES[::6])
def test_every_spelling_of_a_monomer_is_one_monomer(smiles):
    mol = Chem.MolFromSmiles(smiles)
    rng = np.random.default_rng(0)
    spellings = {
        Chem.MolToSmiles(Chem.RenumberAtoms(mol, rng.permutation(mol.GetNumAtoms()).tolist()), canonical=False)
        for _ in range(10)
    }
    assert {features.read_monomer(s) for s in spellings} == {features.read_monomer(smiles)}


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
    hessian = np.array(
        [
            [
                (e((i, 1), (j, 1)) - e((i, 1), (j, -1)) - e((i, -1), (j, 1)) + e((i, -1), (j, -1))) / (4 * h * h)
                for j in range(n)
            ]
            for i in range(n)
        ]
    )
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
    shift = (
        (x - ethylamine.geometry.xyz)
        * constants.angstrom
        * np.sqrt(ethylamine.geometry.mass[:, None] * constants.atomic_mass)
    )
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


# --- literature ---


def test_the_real_table_is_read_whole():
    d = literature_rows._load_tfc()
    raw = pd.read_csv(asset("tfc_membranes.csv")).set_index("row_id")
    assert_allclose(d.rejection, raw.rejection)
    assert d.scored.sum() == (raw.rejection_kind.isin(literature_rows.EXACT) & (raw.rejection < 1)).sum()


def test_monomers_are_in_their_roles():
    d = literature_rows.literature()
    for role, check in (("amine", reactions.check_amine), ("acyl chloride", reactions.check_acyl)):
        found = d[d["laboratory"].str.startswith("nf") & (d[role] != "none")][role].unique()
        assert len(found) >= 2 and all(check(monomers.monomer(s)) for s in found)
    assert d.laboratory.nunique() == 99 and (d.rejection.isna() | (d.rejection < 1)).all()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=10, max_size=40), st.integers(2, 4), st.integers(0, 99))
def test_folds_keep_groups_whole(groups, n, seed):
    folds = process.group_folds(groups, n, seed)
    groups = np.array(groups)
    assert sum(out.astype(int) for out in folds).tolist() == [1] * len(groups)
    assert all(not set(groups[out]) & set(groups[~out]) for out in folds)


def test_salts_alike_by_their_ions():
    like = salts._salt_likeness
    assert like("NaCl", "NaCl") == 1 and like("KCl", "NaCl") > like("MgCl2", "NaCl")
    assert_allclose(like("Na2SO4", "MgCl2"), like("MgCl2", "Na2SO4"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("MgCl₂", ["MgCl2"]),
        ("nacl", ["NaCl"]),
        ("LiCl/MgCl2", list(salts.MIXTURES)),
        ("NaCl; Na₂SO₄", ["NaCl", "Na2SO4"]),
    ],
)
def test_salts_as_they_are_written(text, names):
    assert salts.salt_names(text) == names


# --- screening ---


def ask(*lines, **kw):
    return screen.screen_recipes(io.StringIO("\n".join([recipe_lines.TEMPLATE.splitlines()[0], *lines])), **kw)


def test_the_shipped_model_belongs_to_the_shipped_tables():
    record = json.loads(asset("prequalify/screen.json").read_text())
    assert record["table"] == digest(literature_rows.literature().to_csv(index=False).encode())


def test_a_membrane_is_one_row_with_its_salts_beside_it():
    r = screen.screen_recipes(io.StringIO(recipe_lines.TEMPLATE))
    assert len(r) == 3 and r.name.is_unique
    pip = r.set_index("name").loc["PIP/TMC"]
    assert pip["rejection NaCl"] < pip["rejection Na2SO4"] and pip.selectivity.startswith("NaCl/Na2SO4")
    assert pip.sites == "2 amines + 3 acyl chlorides" and pip.known.startswith("the same monomers: PIP/TMC of ")
    for name in ("permeance", "rejection NaCl", "rejection Na2SO4"):
        assert pip[f"{name} lower"] <= pip[name] <= pip[f"{name} upper"]


def test_what_cannot_react_or_lies_far_away_is_refused_and_says_why():
    r = ask(
        "PIP,PIP,1,TMC,0.1,PSf,6,NaCl",
        "ethanol,CCO,1,TMC,0.1,PSf,6,NaCl",
        "itself,TMC,1,TMC,0.1,PSf,6,NaCl",
        "hard,PIP,60,TMC,40,PSf,190,NaCl",
        "strange,NCC1(CN)C2CCC1CC2,1,O=C(Cl)CCCCCCCCC(=O)Cl,0.1,PSf,6,NaCl",
    ).set_index("name")
    assert r.status.to_dict() == {
        "PIP": "ok",
        "ethanol": "refused",
        "itself": "refused",
        "hard": "refused",
        "strange": "refused",
    }
    assert "0 amines" in r.reason["ethanol"] and "react with itself" in r.reason["itself"]
    assert "pressure [bar] 190.0 beyond" in r.reason["hard"] and "distance" in r.reason["strange"]
    assert r[r.status == "refused"].filter(like="rejection").isna().all(axis=None)
    shown = screen.ranked_table(r.reset_index()).set_index("name")
    assert re.fullmatch(r"-?[\d.]+ \[-?[\d.]+, [\d.]+\]", shown["rejection NaCl %"]["PIP"])
    assert (shown.loc["ethanol", ["rank", "permeance", "rejection NaCl %", "chance"]] == "").all()


def test_equal_predictions_share_a_rank_and_unused_columns_are_named():
    text = (
        recipe_lines.TEMPLATE.splitlines()[0]
        + ",humidity\na,PIP,1,TMC,0.1,PSf,6,NaCl,40\nb,PIP,1,TMC,0.1,PSf,6,NaCl,60\n"
    )
    r = screen.screen_recipes(io.StringIO(text))
    assert r["rank"].tolist() == [1, 1]
    assert any("not used: humidity" in line for line in r.attrs["used"])


def test_a_column_that_the_table_lacks_is_said_to_be_open():
    used = screen.screen_recipes(io.StringIO("amine,acyl chloride,salt\nPIP,TMC,NaCl; MgCl2\n")).attrs["used"]
    assert used[0].startswith("used: amine, acyl chloride, salt") and "used: support" not in " ".join(used)
    assert used[1].startswith("not stated: amine [wt%], acyl chloride [wt%], support, pressure [bar]")


def test_kcl_follows_nacl():
    r = ask("x,PIP,1,TMC,0.1,PSf,6,NaCl", "x,PIP,1,TMC,0.1,PSf,6,KCl").iloc[0]
    assert abs(r["rejection KCl"] - r["rejection NaCl"]) < 0.1


def test_higher_targets_are_harder_and_joint_chances_are_no_product():
    line = ["x,PIP,1,TMC,0.1,PSf,6,NaCl", "x,PIP,1,TMC,0.1,PSf,6,MgCl2"]
    easy, hard = (ask(*line, target_rejection=t, target_permeance=5.0).chance[0] for t in (0.2, 0.9))
    assert hard < easy <= 1
    m = screen.shipped_screen()
    assert -1 < m.correlation["passage, passage"] < 1 and m.correlation["passage, passage"] != 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a,PIQ,1,TMC,0.1,PSf,6,NaCl", "line 2, amine: 'PIQ' is neither a known name nor a SMILES"),
        ("a,PIP,1,TMC,0.1,PSf,six,NaCl", "line 2, pressure [bar]: 'six' is not a number"),
        ("a,PIP,1,TMC,0.1,PSf,6,NaClO4", "line 2, salt: unknown salt 'NaClO4'; write one of NaCl"),
        ("a,PIP,-1,TMC,0.1,PSf,6,NaCl", "line 2, amine [wt%]: -1 is outside 0 to 100"),
    ],
)
def test_every_mistake_names_line_and_column(line, says):
    with pytest.raises(InputError) as e:
        ask(line)
    assert says in str(e.value)


def test_the_command_says_what_it_used(tmp_path):
    (tmp_path / "r.csv").write_text(recipe_lines.TEMPLATE)
    r = CliRunner().invoke(main, ["screen", str(tmp_path / "r.csv"), "--json"])
    assert r.exit_code == 0, r.output
    assert len(json.loads(r.stdout)) == 3 and "used: amine, amine [wt%]" in r.stderr


# --- the published network, stored results ---


def test_the_published_network_repeats_to_the_last_digit():
    d = leaks._osn_permeances()
    d = d[d.amine_1_smiles.str.len() < 14].head(12).reset_index(drop=True)
    fit = lambda: PublishedModel(leaks._conditions, copies=3, steps=20).fit(d, d.y.to_numpy()).predict(d, copies=2)
    once, twice = fit(), fit()
    assert (once == twice).all() and np.isfinite(once).all()


@pytest.mark.parametrize("part", ["recipes", "rounds", "choice", "papers", "leaks"])
def test_stored_results_belong_to_their_record(part):
    record = json.loads(asset(f"prequalify/study_{part}.json").read_text())
    assert record["inputs"] == {n: digest(asset(n).read_bytes()) for n in record["inputs"]}
    assert record["results"] == {n: digest(asset(f"prequalify/{n}.csv").read_bytes()) for n in record["results"]}


def test_every_held_out_membrane_is_predicted_once_by_each_model():
    d = pd.read_csv(asset("prequalify/recipes.csv"))
    assert not d.duplicated(["name", "quantity", "model", "seed"]).any()
    assert (d.groupby(["quantity", "model", "seed"]).size() == 114).all()
