"""What stored results were made of, and whether they still belong to what lies beside them

Every part that ships carries one key. The comparison's is that of all code, data and samples it can reach. Networks
take many minutes to train, so theirs is that of what they are: rows and protocol, to the letter, and numbers that move
when the pore model, the posterior or a step of training does (`network_probe`), to their own precision. `broken` names
the parts that do not belong to what lies here."""

import json
from pathlib import Path

import numpy as np

from ion_ode.closure import code_digest, tables_digest
from ion_ode.core import InputError
from ion_ode.results.benchmarks import BENCHMARKS, contest_rows
from ion_ode.results.board import TABLES, _cell_board, answers_digest
from ion_ode.results.network_probe import network_probe
from ion_ode.results.plan import PROFILES, plan_cells
from ion_ode.results.tables import TABLES as NETWORK_TABLES
from ion_ode.store import asset, atomic_write, digest

__all__ = ["COMMANDS", "broken", "key_here", "said_of", "seal"]

COMMANDS = {
    "board": "ion-ode reproduce --only board --store --profile full",
    "networks": "ion-ode reproduce --only networks --store --profile full",
}
_CLOSE = {"rtol": 5e-3, "atol": 5e-4}  # How near a probe is to the stored one: steps of float32 networks, few of them


def _files(part: str) -> list[Path]:
    "What ships of a part."
    if part == "board":
        return [asset(f"results/{n}.csv") for n in TABLES] + [asset("results/board.json")]
    return [asset(f"results/{n}.csv{'.gz' if n == 'predictions' else ''}") for n in NETWORK_TABLES] + [
        asset("results/meta.json")
    ]


_READ = ["solution_id", "composition", "source_id", "flux_m_s", "ion", "c_feed_mol_m3", "rejection", "kind", "weight"]


def key_here(part: str) -> str:
    "Key of a part as code, data and samples are now."
    if part == "board":
        return digest({"code": code_digest(_cell_board), "data": tables_digest(), "answers": answers_digest()})
    rows = {b: digest(contest_rows(b)[_READ].to_csv(float_format="%.7g").encode()) for b in BENCHMARKS}
    plan = {c.name: c.spec for c in plan_cells(PROFILES["full"]) if c.kind != "board"}
    return digest({"rows": rows, "plan": plan})


def _kept() -> dict:
    return json.loads(asset("results/seals.json").read_text())


def seal(part: str, key: str, **facts) -> Path:
    "Write the key of a part and the digests of its files."
    if part not in COMMANDS:
        raise InputError(f"there is no part {part!r}; expected one of {', '.join(COMMANDS)}")
    path = Path(asset("results/meta.json")).parent / "seals.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    files = {f.name: digest(f.read_bytes()) for f in _files(part)}
    kept[part] = {"key": key, "files": files, **facts}
    return atomic_write(path, json.dumps(kept, indent=1, sort_keys=True) + "\n")


def _moved(kept: dict, here: dict) -> list[str]:
    "What of a probe is no longer as it was."
    same = lambda a, b: len(a) == len(b) and np.allclose(a, b, **_CLOSE, equal_nan=True)
    return [what for what in {*kept, *here} if not same(kept.get(what, []), here.get(what, []))]


def broken() -> list[str]:
    "One sentence for every part whose tables, weights, code or data do not belong together."
    said, kept = [], _kept()
    for part, command in COMMANDS.items():
        own = kept[part]
        moved = [f.name for f in _files(part) if digest(f.read_bytes()) != own["files"].get(f.name)]
        if moved:
            said.append(f"{', '.join(moved)} of {part} differ from their seal; make them again: {command}")
        if own["key"] != key_here(part):
            said.append(f"{part} was made by {own['key'][:8]}, here is {key_here(part)[:8]}; make it again: {command}")
        off = _moved(own["probe"], network_probe()) if "probe" in own else []
        said += [f"{what} gives other numbers than when {part} was made; make it again: {command}" for what in off]
    card = json.loads(asset("weights/nf270-network.json").read_text())["card"]["provenance"]
    if card["code"] != kept["networks"]["key"]:
        said.append(
            f"the networks that ship are of {card['code'][:8]}, their tables of {kept['networks']['key'][:8]}; "
            f"make both again: {COMMANDS['networks']}"
        )
    return said


def said_of(part: str) -> str:
    "Of what code a part is, as pages print it."
    own = _kept()[part]
    if own["key"] == key_here(part) and not _moved(own.get("probe", {}), network_probe() if "probe" in own else {}):
        return "made by the code that ships"
    return f"of older code: make it again by {COMMANDS[part]}"
