"""Models by name: membranes or trained networks, each read by what it needs and nothing else"""

from contextlib import suppress
from pathlib import Path

from ion_ode.core import InputError
from ion_ode.guard import read_json
from ion_ode.store import asset

__all__ = ["load_model"]


def _file_of(name: str | Path) -> Path:
    "The file behind a model's name, folder or path."
    path = Path(name)
    if path.is_dir():
        return path / "model.json"
    if path.suffix == ".json":
        return path
    for folder in ("answers", "weights"):
        with suppress(FileNotFoundError):
            return asset(f"{folder}/{name}.json")
    have = [
        p.stem
        for f in ("answers", "weights")
        for p in sorted(asset(f).glob("*.json"))
        if not p.stem.startswith("without-")
    ]
    raise InputError(f"there is no model or folder {str(name)!r}; shipped models are {', '.join(have)}")


def load_model(
    # "nf270" and "nf" (membranes), "nf270-network" and "dspmde" (networks), or what `save` or `save_model` wrote
    name: str | Path = "nf270",
) -> "Predictor":  # Ready to predict; for membranes an `ion_ode.inference.answer.Answer`
    "Read a model; a damaged or foreign file is refused."
    path = _file_of(name)
    if path.exists() and "membranes" in str(read_json(path, "a model").get("format", "")):
        from ion_ode.inference.answer import Answer

        return Answer.load(path)
    from ion_ode.training.predictor import Predictor

    return Predictor.load(path)
