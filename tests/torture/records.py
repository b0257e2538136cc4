"""Stored files of every kind, damaged: none is accepted; what a command makes again comes out as it was"""

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from case import Case, verdict
from hypothesis import strategies as st
from server import run, shell

CAMPAIGN = """name,amine,amine [wt%],acyl chloride,acyl chloride [wt%],permeance [LMH/bar],rejection NaCl [%]
a,PIP,1,TMC,0.1,8,45
b,PIP,0.5,TMC,0.1,11,38
c,MPD,2,TMC,0.1,2,97
d,PIP,2,TMC,0.2,6,50
e,PIP,0.2,TMC,0.05,16,20
f,MPD,1,TMC,0.2,3,95
g,PIP,1,TMC,0.2,9,48
h,PIP,0.25,TMC,0.1,13,30
i,MPD,2,TMC,0.2,2.5,96
"""
MEASURED = """ion,flux [LMH],feed [mM],rejection [%]
Mg+2,10,10,60
Cl-,10,20,60
Mg+2,30,10,75
Cl-,30,20,75
Na+,20,20,30
SO4-2,20,10,30
"""


@dataclass(frozen=True)
class Kind:
    "A kind of stored files."

    make: Callable[[Path], object]  # (folder): writes an intact one
    read: Callable[[], object]  # In the folder: what it holds, after whatever is made again
    files: str = "*"  # Which files are damaged
    resumes: bool = False  # Whether a damaged part may be made again
    ours: Callable[[Path], bool] = lambda p: p.name != "precious.txt"


def _bytes(pattern: str):
    "Contents of files, as they are when a command has ended."
    return {str(p): p.read_bytes().hex() for p in sorted(Path().glob(pattern)) if p.is_file() and p.name != ".lock"}


def _load(name: str):
    def read():
        from ion_ode import load_model

        return load_model(name).predict({"Na+": 10, "Cl-": 10}, [5e-6, 1e-5]).rejection.tolist()

    return read


def _shipped(*names: str):
    def make(folder):
        from ion_ode.store import asset

        for n in names:
            path = asset(n)
            for p in [path, *path.parent.glob(json.loads(path.read_text()).get("file", "nothing"))]:
                shutil.copy(p, folder / p.name)

    return make


def _shards(folder, n=24):
    from ion_ode.data.design import Design
    from ion_ode.data.shards import simulate_shards

    return simulate_shards(folder, n, Design(seed=3, n_flux=3, chunk=8), shard=8)


def _half_made(folder):
    "What a kill between two shards leaves."
    from ion_ode.data.sharded import _as_text

    _shards(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    made = [{n: s[n] for n in ("curves", "sha256")} for s in manifest["shards"]]
    lines = [_as_text({"index": k, "made": m}, None) for k, m in enumerate(made)]
    for k in ("shards", "sha256", "parameters", "versions", "curves"):
        manifest.pop(k)
    manifest["complete"] = False
    (folder / "manifest.json").write_text(_as_text(manifest))
    (folder / "made.jsonl").write_text("".join(lines[:2]))
    (folder / "shard-00002.safetensors").unlink()


def _resumed():
    _shards(Path())
    return _bytes("*.safetensors") | _bytes("manifest.json")


def _verified():
    from ion_ode.data.sharded import ShardedCurves

    s = ShardedCurves(Path())
    return s.verify(), [s.shard(k).c_perm.sum().item() for k in range(3)]


def settings():
    "The shortest training there is."
    from ion_ode.training import Plan, TrainConfig

    return TrainConfig(
        members=1, n_curves=16, n_flux=4, pretraining=Plan(2), finetuning=Plan(4, lr=1e-2), told="entry", compiled=False
    )


def _train(folder=None):
    import io

    import pandas as pd

    from ion_ode.training import train

    train(settings(), folder or Path(), pd.read_csv(io.StringIO(MEASURED)), membranes=4)


def _trained():
    _train()
    return _bytes("model*")


def _campaign(folder):
    from ion_ode.prequalify.campaign import Campaign

    (folder / "own.csv").write_text(CAMPAIGN)
    Campaign(objectives=["permeance"]).fit(folder / "own.csv").save(folder / "c.json")
    (folder / "own.csv").unlink()


def _campaign_read():
    from ion_ode.prequalify.campaign import Campaign

    c = Campaign.load("c.json")
    return c.rows.to_csv(), {m: p.predict(c.table)[0].tolist() for m, p in c.processes.items()}


def _calibrated(folder):
    from ion_ode import load_model

    (folder / "own.csv").write_text(MEASURED)
    load_model("nf270").calibrate(folder / "own.csv").save(folder / "m.json")
    (folder / "own.csv").unlink()


def _network(folder):
    from ion_ode import load_model
    from ion_ode.training import save_model

    save_model(load_model("nf270-network"), folder)


def _curves(folder):
    from ion_ode.data.design import simulate_curves

    simulate_curves(4, seed=1, n_flux=3).save(folder / "c.safetensors")


def _curves_read():
    from ion_ode.data.curves import CurveSet

    return CurveSet.load("c.safetensors").c_perm.tolist()


def _scores(folder):
    from ion_ode.results.parts import reproduce_part

    reproduce_part("surrogate", folder, "quick")
    shutil.rmtree(folder / "made")


def _scores_read():
    import pandas as pd

    from ion_ode.results.parts import reproduce_part

    made = pd.read_csv(reproduce_part("surrogate", Path(), "quick") / "results" / "surrogate_learning.csv")
    shutil.rmtree("made")
    return made.drop(columns="cpu_s").to_csv(float_format="%.9g")


def _library(folder):
    os.environ["ION_ODE_CACHE"] = str(folder / "cache")
    from ion_ode.attention_odenet.build import build
    from ion_ode.store import asset

    build(asset("fused.cpp"))


def _library_read():
    "Whether a library is loaded without being compiled."
    import subprocess
    import warnings

    from ion_ode.attention_odenet import build as b
    from ion_ode.core import InputError
    from ion_ode.store import asset

    os.environ["ION_ODE_CACHE"] = str(Path("cache").resolve())
    plain = subprocess.run

    def no_compiler(command, **k):
        if "-o" in command:
            raise subprocess.SubprocessError("no compiler here")
        return plain(command, **k)

    b.subprocess.run = no_compiler
    warnings.simplefilter("ignore")
    try:
        b.build(asset("fused.cpp"))
    except b.BuildError as e:
        raise InputError(str(e)) from e
    return "loaded"


def _threefold(x):
    return 3.0 * x


def _loop(folder=None):
    "A compiled loop, from its cache where that is whole."
    from ion_ode.dspmde.kernel_march import fast

    os.environ["ION_ODE_CACHE"] = str((folder or Path()).resolve() / "cache")
    return fast(_threefold)(2.0)


KINDS = {
    "trained model": Kind(_network, _load(".")),
    "shipped network": Kind(_shipped("weights/nf270-network.json"), _load("nf270-network.json")),
    "shipped surrogate": Kind(_shipped("weights/dspmde.json"), _load("dspmde.json")),
    "shipped membranes": Kind(_shipped("answers/nf270.json"), _load("nf270.json")),
    "calibrated membranes": Kind(_calibrated, _load("m.json")),
    "finished shards": Kind(_shards, _verified),
    "finished shards, made again": Kind(_shards, _resumed, resumes=True),
    "unfinished shards": Kind(_half_made, _resumed, resumes=True),
    "training folder": Kind(_train, _trained, resumes=True),
    "campaign": Kind(_campaign, _campaign_read),
    "curves": Kind(_curves, _curves_read),
    "scores of networks": Kind(_scores, _scores_read, "latest*", resumes=True),
    "compiled library": Kind(_library, _library_read, "cache/*.so"),
    "compiled loop": Kind(_loop, _loop, "*.nb?", resumes=True),
}


@functools.cache
def pristine(name: str) -> tuple[Path, object]:
    "A folder with an intact one, and what is read from it; made once."
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="torture-pristine-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = run(lambda: KINDS[name].make(folder) and None, folder, 300)
    assert made.how == "value", made.text
    copy = Path(tempfile.mkdtemp(prefix="torture-pristine-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    read = run(KINDS[name].read, copy, 300)
    assert read.how == "value", read.text
    return folder, read.value


def _damaged(data: bytes, how: str, at: float, bit: int) -> bytes:
    "Other bytes."
    n = len(data)
    k = min(int(at * n), n - 1)
    if how == "flip":
        return data[:k] + bytes([data[k] ^ 1 << bit]) + data[k + 1 :]
    if how == "cut":
        return data[:k]
    if how == "hole":
        return data[:k] + bytes(min(64, n - k)) + data[k + 64 :]
    if how == "more":
        return data + data[-1 - k % 7 :]
    if how == "digit":  # another number, in well-formed text
        places = [i for i, b in enumerate(data) if 48 <= b <= 57]
        i = places[int(at * len(places)) % len(places)] if places else k
        return data[:i] + bytes([48 + (data[i] - 48 + 1 + bit) % 10 if places else data[i] ^ 1]) + data[i + 1 :]
    name = data[k:].find(b'"') + k  # a letter of a name
    return data[: name + 1] + bytes([data[name + 1] ^ 1]) + data[name + 2 :] if k <= name < n - 1 else data[:-1]


SLOW = ("scores of networks", "compiled library", "compiled loop", "training folder")  # left out of short runs


def quick(short: bool) -> list[str]:
    "Kinds to draw from: what takes seconds to make again seldom, in a short run never."
    return [k for k in KINDS if k not in SLOW] * (1 if short else 4) + ([] if short else list(SLOW))


HOW = ("flip", "flip", "flip", "cut", "hole", "more", "digit", "digit", "name")


@st.composite
def flips(draw, names=tuple(KINDS)):
    "One file of one kind, damaged at one place."
    name = draw(st.sampled_from(names))
    kind, which = KINDS[name], draw(st.integers(0, 999))
    how, bit = draw(st.sampled_from(HOW)), draw(st.integers(0, 7))
    at = draw(st.one_of(st.floats(0, 1), st.floats(0, 0.02), st.floats(0.98, 1)))
    what = f"{name}, file {which}, {how} at {at:.3f} bit {bit}"

    def judge(folder):
        whole, want = pristine(name)
        shutil.copytree(whole, folder, dirs_exist_ok=True)
        files = sorted(p for p in folder.rglob(kind.files.split("/")[-1]) if p.is_file() and kind.ours(p))
        files = [p for p in files if p.match(kind.files)]
        file = files[which % len(files)]
        data = file.read_bytes()
        file.write_bytes(other := _damaged(data, how, at, bit))
        if other == data:
            return "refused", ""
        right = (lambda v: "" if v == want else "made again, but differently") if kind.resumes else None
        case = Case(f"{what} ({file.name})", lambda f: None, kind.read, right, "either" if right else "refuse")
        return verdict(case, run(kind.read, folder, 120))

    return Case(what, lambda f: None, lambda: None, str, judge=judge)


# ---- types


WRONG = {  # of a type: what is none
    bool: [1, "yes", [True], 0.0, {}],
    int: [1.5, "3", [3], {}, True, None, -7],
    float: ["0.1", [0.1], {}, True, float("nan"), float("inf"), -float("inf")],
    str: [5, [], {}, "nonsense", True, None],
    list: ["Na+", 5, {}, ["Xx+7"], [5], [], None],
}


def leaves(x, path=()):
    "Every value of nested dicts, with the way to it."
    if isinstance(x, dict):
        for k, v in x.items():
            yield from leaves(v, (*path, k))
        return
    yield path, x


def changed(x: dict, path: tuple, value) -> dict:
    "A copy with another value."
    return x | {path[0]: value if len(path) == 1 else changed(x[path[0]], path[1:], value)}


def _config_job():
    "ion-ode train up to the training itself; the settings that would be trained with."
    import ion_ode.training.run as trained

    kept = {}
    model = type("Model", (), {"card": {}})
    trained.train = lambda settings, *a, **k: kept.update(settings.to_dict()) or model()
    found = shell("train", "out", "--config", "c.json")()
    return (*found, kept) if found[0] == 0 else found


@functools.cache
def _settings() -> dict:
    return settings().to_dict()


@st.composite
def mistyped_config(draw):
    "A configuration with one entry of a wrong type, or a right one that must arrive."
    base = json.loads(json.dumps(_settings()))
    path, value = draw(st.sampled_from([(p, v) for p, v in leaves(base) if v is not None]))
    how = draw(
        st.sampled_from(["wrong", "wrong", "wrong", "right", "unknown", "twice", "deep", "not an object", "cut"])
    )
    changes, must = {path[0]: base[path[0]]}, "refuse"
    if how == "right":
        path, value = ("seed",), draw(st.integers(0, 10**6))
        changes, must = {"seed": value}, "read"
    elif how == "wrong":
        value = draw(st.sampled_from(WRONG[type(value)]))
        changes = changed(changes, path, value)
    elif how == "unknown":
        changes = changed(changes, (*path[:-1], path[-1] + "s"), value)
    text = json.dumps(changes)
    if how == "twice":
        text = text[:-1] + f', "seed": 1, "seed": 2{text[-1]}'
    elif how == "deep":
        text = "[" * 100_000
    elif how == "not an object":
        text = draw(st.sampled_from(["[]", "5", '"x"', "null", "true", "NaN"]))
    elif how == "cut":
        text = text[: draw(st.integers(0, len(text) - 1))]

    def right(found):
        return "" if found[3][path[0]] == value else f"{path[0]} is {found[3][path[0]]!r}, given was {value!r}"

    return Case(
        f"config, {how}: {text[:200]}",
        lambda f: (f / "c.json").write_text(text),
        _config_job,
        right,
        must,
        command=True,
    )


SEALED = {"calibrated membranes": "m.json", "campaign": "c.json", "trained model": "model.json"}


@st.composite
def mistyped_records(draw):
    "A whole record with a value of another type, written and sealed as if it were right."
    name = draw(st.sampled_from(["calibrated membranes", "campaign"]))
    pick, value = (
        draw(st.floats(0, 1, exclude_max=True)),
        draw(st.sampled_from(["x", 5, [], {}, None, True, -1.5, 10**40])),
    )
    gone = draw(st.integers(0, 4)) == 0

    def judge(folder):
        from ion_ode.guard import sealed

        whole, _ = pristine(name)
        shutil.copytree(whole, folder, dirs_exist_ok=True)
        path = folder / SEALED[name]
        record = json.loads(path.read_text())
        record.pop("sha256")
        places = [p for p, _ in leaves(record)] + [(k,) for k in record]
        at = places[int(pick * len(places))]
        record = changed(record, at, value)
        if gone and len(at) == 1:
            record.pop(at[0])
        path.write_text(sealed(record, 1 if name == "campaign" else None))
        case = Case(
            f"{name}: {'.'.join(at)} is {'gone' if gone and len(at) == 1 else value!r}",
            lambda f: None,
            None,
            lambda v: "",
            "either",
        )
        return verdict(case, run(KINDS[name].read, folder, 60))

    return Case(name, lambda f: None, lambda: None, str, judge=judge)


def mistyped():
    return st.one_of(mistyped_config(), mistyped_config(), mistyped_records())
