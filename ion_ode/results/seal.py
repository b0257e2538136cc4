"""What stored results were made of, and whether they still belong to what lies beside them

Every part that ships carries one key. `broken` names the parts whose key is not that of what lies here; `_OLDER` lists
those that are known to be of older code, and every page that quotes one says so."""

import json
from pathlib import Path

from ion_ode.closure import code_digest, tables_digest
from ion_ode.core import InputError
from ion_ode.results.board import TABLES, _cell_board, answers_digest
from ion_ode.results.cells import code_hash
from ion_ode.results.tables import TABLES as NETWORK_TABLES
from ion_ode.store import asset, atomic_write, digest

__all__ = ["COMMANDS", "broken", "key_here", "seal", "said_of"]

COMMANDS = {
    "board": "ion-ode reproduce --only board --store --profile full",
    "networks": "ion-ode reproduce --profile full, then --only tables --store and --only weights --store",
}
_OLDER = {
    "networks": "the eight networks, their rivals and the tests of the paper's claims "
    "were trained before the present answer",
}


def _files(part: str) -> list[Path]:
    "What ships of a part."
    if part == "board":
        return [asset(f"results/{n}.csv") for n in TABLES] + [asset("results/board.json")]
    return [asset(f"results/{n}.csv{'.gz' if n == 'predictions' else ''}") for n in NETWORK_TABLES] + [
        asset("results/meta.json")
    ]


def key_here(part: str) -> str:
    "Key of a part as code, data and samples are now."
    if part == "board":
        return digest({"code": code_digest(_cell_board), "data": tables_digest(), "answers": answers_digest()})
    return code_hash()


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


def broken() -> list[str]:
    "One sentence for every part whose tables, weights, code or data do not belong together."
    said, kept = [], _kept()
    for part, command in COMMANDS.items():
        own = kept[part]
        moved = [f.name for f in _files(part) if digest(f.read_bytes()) != own["files"].get(f.name)]
        if moved:
            said.append(f"{', '.join(moved)} of {part} differ from their seal; make them again: {command}")
        stale = own["key"] != key_here(part)
        if stale and part not in _OLDER:
            said.append(
                f"{part} was made by {own['key'][:8]}, here is {key_here(part)[:8]}; make it again: {command}"
            )
        if part in _OLDER and not stale:
            said.append(f"{part} is of this code, and _OLDER calls it older; take it out")
    card = json.loads(asset("weights/nf270-network.json").read_text())["card"]["provenance"]
    if card["code"] != kept["networks"]["key"]:
        said.append(
            f"the networks that ship are of {card['code'][:8]}, their tables of {kept['networks']['key'][:8]}; "
            f"make both again: {COMMANDS['networks']}"
        )
    return said


def said_of(part: str) -> str:
    "Of what code a part is, as pages print it."
    key = _kept()[part]["key"]
    if key == key_here(part):
        return f"made by the code that ships (key {key[:8]})"
    return f"of older code (key {key[:8]}): {_OLDER.get(part, 'make it again')}"
