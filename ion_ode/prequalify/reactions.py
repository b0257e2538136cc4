"""Whether two monomers form a polyamide"""

from functools import lru_cache

from ion_ode.core import InputError, need
from ion_ode.prequalify.monomers import label

_SITES = {
    # no amide, urea, sulfonamide, thioamide, amidine, cyanamide or nitro compound
    "amine": "[NX3;H1,H2;!$(N-[C,S,P]=[O,S,N]);!$(N-C#N);!$(N~[O])]",
    "hydroxyl": "[OX2H;$(O-[#6]);!$(O-C=[O,S,N])]",  # alcohols and phenols
    "acyl chloride": "[$([CX3](=O)Cl),$([SX4](=O)(=O)Cl)]",  # and sulfonyl chlorides
}


@lru_cache(maxsize=4096)
def reactive_sites(
    smiles: str,  # Canonical SMILES, from `monomer`
) -> dict[str, int]:  # amine, hydroxyl, acyl chloride
    "Reactive sites of a monomer: amines that are not amides, hydroxyls that are no acid, acyl or sulfonyl chlorides."
    Chem = need("rdkit.Chem", "campaign")
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    return {k: len(mol.GetSubstructMatches(Chem.MolFromSmarts(p), maxMatches=10_000)) for k, p in _SITES.items()}


def check_amine(
    smiles: str,  # Canonical SMILES of the aqueous monomer
    *,
    polyester: bool = False,  # True: declared a polyester film, hydroxyls count as well
    what: str = "recipe",  # How messages call it
) -> str:  # "2 amines"
    "Reactive sites of an aqueous monomer; raises if too few for a crosslinked film."
    found = reactive_sites(smiles)
    sites = found["amine"] + (found["hydroxyl"] if polyester else 0)
    word = "amine or hydroxyl" if polyester else "amine"
    if found["acyl chloride"]:
        raise InputError(
            f"{what}: the aqueous monomer {label(smiles)} has {_many(found['acyl chloride'], 'acyl chloride')} "
            "and would react with itself; check that the two monomers are not exchanged"
        )
    if sites < 2:
        hint = (
            ""
            if polyester or found["hydroxyl"] < 2
            else f"; its {found['hydroxyl']} hydroxyls count in a polyester, declare film = polyester"
        )
        raise InputError(
            f"{what}: the aqueous monomer {label(smiles)} has {_many(sites, word)} that can react, a film needs 2{hint}"
        )
    return _many(sites, word)


def check_acyl(
    smiles: str,  # Canonical SMILES of the organic monomer
    what: str = "recipe",  # How messages call it
) -> str:  # "3 acyl chlorides"
    "Acyl chlorides of an organic monomer; raises if too few for a crosslinked film."
    sites = reactive_sites(smiles)["acyl chloride"]
    if sites < 2:
        raise InputError(
            f"{what}: the organic monomer {label(smiles)} has {_many(sites, 'acyl chloride')}, a film needs 2; "
            "check that the two monomers are not exchanged"
        )
    return _many(sites, "acyl chloride")


def check_pair(
    amine: str,  # Canonical SMILES of the aqueous monomer
    acyl: str,  # Canonical SMILES of the organic monomer
    what: str = "recipe",  # How messages call it
    **declared,  # polyester, as in `check_amine`
) -> str:  # "2 amines + 3 acyl chlorides"
    "The reactive counts of a pair of monomers; raises if they cannot make a crosslinked film."
    return f"{check_amine(amine, what=what, **declared)} + {check_acyl(acyl, what)}"


def _many(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"
