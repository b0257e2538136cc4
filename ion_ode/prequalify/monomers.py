"""Monomers by name or SMILES, and whether two of them can make a film at all."""

import re
import unicodedata
from functools import lru_cache

from ion_ode.core import InputError, need
from ion_ode.prequalify.features import read_monomer

__all__ = [
    "monomer",
    "label",
    "alike",
]

_AMINES = {
    "PIP": "C1CNCCN1",
    "2-methylpiperazine": "CC1CNCCN1",
    "2,5-dimethylpiperazine": "CC1CNC(C)CN1",
    "homopiperazine": "C1CNCCNC1",
    "4-aminomethylpiperidine": "NCC1CCNCC1",
    "N-aminoethylpiperazine": "NCCN1CCNCC1",
    "1,4-bis(3-aminopropyl)piperazine": "NCCCN1CCN(CCCN)CC1",
    "MPD": "Nc1cccc(N)c1",
    "PPD": "Nc1ccc(N)cc1",
    "OPD": "Nc1ccccc1N",
    "3,5-diaminobenzoic acid": "Nc1cc(N)cc(C(=O)O)c1",
    "benzidine": "Nc1ccc(-c2ccc(N)cc2)cc1",
    "ODA": "Nc1ccc(Oc2ccc(N)cc2)cc1",
    "MDA": "Nc1ccc(Cc2ccc(N)cc2)cc1",
    "MXDA": "NCc1cccc(CN)c1",
    "TAC": "NC1CC(N)CC(N)C1",
    "EDA": "NCCN",
    "PDA": "NCCCN",
    "BDA": "NCCCCN",
    "HDA": "NCCCCCCN",
    "DETA": "NCCNCCN",
    "TETA": "NCCNCCNCCN",
    "TAEA": "NCCN(CCN)CCN",
    "cyclen": "C1CNCCNCCNCCN1",
    "EDR": "NCCOCCOCCN",
    "PEI": "NCCNCCN(CCNCCN)CCN",
}  # Aqueous monomers; polyethyleneimine as a branched oligomer of five units
_CYCLODEXTRIN = (
    "OC[C@H]1O[C@@H]2"
    + "O[C@@H]3[C@@H](CO)O[C@H](O[C@@H]4[C@@H](CO)O[C@H](O[C@@H]5[C@@H](CO)O[C@H](O[C@@H]6[C@@H](CO)O[C@H]("
)
_CYCLODEXTRIN += (
    "O[C@@H]7[C@@H](CO)O[C@H](O[C@@H]8[C@@H](CO)O[C@H](O[C@H]1[C@H](O)[C@H]2O)[C@H](O)[C@H]8O)[C@H](O)[C@H]7O)"
)
_CYCLODEXTRIN += "[C@H](O)[C@H]6O)[C@H](O)[C@H]5O)[C@H](O)[C@H]4O)[C@H](O)[C@H]3O"
_POLYOLS = {"beta-CD": _CYCLODEXTRIN, "TEOA": "OCCN(CCO)CCO", "resorcinol": "Oc1cccc(O)c1"}  # Of polyester films
_ACYL_CHLORIDES = {
    "TMC": "O=C(Cl)c1cc(C(=O)Cl)cc(C(=O)Cl)c1",
    "IPC": "O=C(Cl)c1cccc(C(=O)Cl)c1",
    "TPC": "O=C(Cl)c1ccc(C(=O)Cl)cc1",
    "CPTC": "O=C(Cl)C1CC(C(=O)Cl)C(C(=O)Cl)C1C(=O)Cl",
    "BTEC": "O=C(Cl)c1cc(C(=O)Cl)cc(-c2cc(C(=O)Cl)cc(C(=O)Cl)c2)c1",
    "BDSC": "O=S(=O)(Cl)c1cccc(S(=O)(=O)Cl)c1",
    "sebacoyl chloride": "O=C(Cl)CCCCCCCCC(=O)Cl",
}  # Organic monomers
_MONOMERS = _AMINES | _POLYOLS | _ACYL_CHLORIDES
_SPELLINGS = {
    "piperazine": "PIP",
    "m-phenylenediamine": "MPD",
    "p-phenylenediamine": "PPD",
    "o-phenylenediamine": "OPD",
    "ethylenediamine": "EDA",
    "hexamethylenediamine": "HDA",
    "diethylenetriamine": "DETA",
    "triethylenetetramine": "TETA",
    "m-xylylenediamine": "MXDA",
    "polyethyleneimine": "PEI",
    "polyethylenimine": "PEI",
    "triethanolamine": "TEOA",
    "beta-cyclodextrin": "beta-CD",
    "trimesoyl chloride": "TMC",
    "1,3,5-benzenetricarbonyl trichloride": "TMC",
    "isophthaloyl chloride": "IPC",
    "terephthaloyl chloride": "TPC",
}
_GREEK = {"α": "alpha", "β": "beta", "γ": "gamma"}


def plain(
    text: str,  # As typed: β-CD, MgCl₂
) -> str:
    "Compatibility characters as plain ones, Greek letters as words, spaces taken together."
    text = unicodedata.normalize("NFKC", str(text))
    for letter, word in _GREEK.items():
        text = text.replace(letter, word)
    return " ".join(text.replace("–", "-").replace("−", "-").split())


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    names = {n.lower(): s for n, s in _MONOMERS.items()}
    return names | {k: _MONOMERS[v] for k, v in _SPELLINGS.items()}


@lru_cache(maxsize=4096)
def monomer(
    text: str,  # A name (PIP, trimesoyl chloride, β-CD), a SMILES, or a repeat unit such as *CCN*
    what: str = "monomer",  # How messages call it
) -> str:  # Canonical SMILES; of a chain of repeat units, three of them
    "The structure of a monomer by name or SMILES."
    known = _names().get(plain(text).lower())
    if known:
        return read_monomer(known, what=what)
    unit = re.fullmatch(r"\*([^*]+)\*", text.strip())
    try:
        return read_monomer(3 * unit.group(1) if unit else text, polymer="*" in text, what=what)
    except InputError as e:
        if re.fullmatch(r"[\w ,'()-]+", plain(text)) and "is not a SMILES" in str(e):
            raise InputError(
                f"{what}: {text!r} is neither a known name nor a SMILES; "
                "write a SMILES such as C1CNCCN1, or one of PIP, MPD, PEI, TMC, ..."
            ) from None
        raise


def label(
    smiles: str,  # Canonical SMILES
) -> str:  # PIP, or the SMILES
    "The short name of a monomer that the package knows."
    return _labels().get(smiles, smiles)


@lru_cache(maxsize=1)
def _labels() -> dict[str, str]:
    return {read_monomer(s): n for n, s in _MONOMERS.items()}


@lru_cache(maxsize=4096)
def _fingerprint(smiles: str):
    Chem, fp = need("rdkit.Chem", "campaign"), need("rdkit.Chem.rdFingerprintGenerator", "campaign")
    return fp.GetMorganGenerator(radius=2, fpSize=2048).GetCountFingerprint(Chem.MolFromSmiles(smiles))


def alike(
    these,  # n SMILES; "" for none
    those,  # m SMILES
):  # (n, m) array, 1 for the same monomer, 0 for nothing in common
    "Tanimoto likeness of Morgan counts (radius 2): Rogers and Hahn 2010, 10.1021/ci100050t."
    import numpy as np

    DataStructs = need("rdkit.DataStructs", "campaign")
    out = np.zeros((len(these), len(those)))
    there = [j for j, s in enumerate(those) if s]
    prints = [_fingerprint(those[j]) for j in there]
    for i, s in enumerate(these):
        if s:
            out[i, there] = DataStructs.BulkTanimotoSimilarity(_fingerprint(s), prints)
        else:
            out[i] = [not t for t in those]
    return out
