"""Options of every command with values of every sort, and files that hold anything"""

import json
import math

from case import Case
from hypothesis import strategies as st
from records import CAMPAIGN, MEASURED
from server import shell

FEED = ("--feed", "Na+=10,Cl-=10")
WORDS = [
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1e400",
    "abc",
    "",
    " ",
    "1e-320",
    "1e300",
    "٣",
    "0x10",
    "1_0",
    "9" * 40,
    "--force",
    "½",
    "1;2",
    "True",
    "null",
    "../..",
    "-0.0",
    "5",
    "0.5",
    "7",
    "300",
    "2.5e1",
]


def _in(low, high, open_=False):
    "Whether a text is a number of a range."

    def valid(t):
        try:
            x = float(t)
        except ValueError:
            return False
        return (low < x < high) if open_ else (low <= x <= high)

    return valid


COMMANDS = [  # command, option, format of its value, whether it is valid; None: nobody can say
    (("simulate", *FEED, "--flux", "10"), "--temperature", "{}", _in(273.15, 373.15)),
    (("simulate", *FEED, "--flux", "10"), "--film-thickness", "{}", None),
    (("simulate", *FEED), "--flux", "{}", None),
    (("simulate", *FEED), "--flux", "1:{}:3", None),
    (("simulate", *FEED), "--flux", "1:3:{}", None),
    (("simulate", *FEED, "--flux", "10"), "--flux", "{}", lambda t: False),
    (("simulate", "--flux", "10"), "--feed", "Na+={},Cl-=10", None),
    (("simulate", *FEED, "--flux", "10"), "--balance", "{}", lambda t: False),
    (("simulate", *FEED, "--flux", "10"), "--membrane", "r_pore={},thickness=1.2,charge_density=-40,eps_pore=40", None),
    (("simulate", *FEED, "--flux", "10"), "--membrane", "r_pore=0.5,thickness={},charge_density=-40,eps_pore=40", None),
    (("simulate", *FEED, "--flux", "10"), "--membrane", "r_pore=0.5,thickness=1,charge_density={},eps_pore=40", None),
    (("simulate", *FEED, "--flux", "10"), "--activity", "{}", lambda t: False),
    (("simulate", *FEED, "--flux", "10"), "--out", "{}.xyz", lambda t: False),
    (("predict", *FEED, "--flux", "10"), "--level", "{}", _in(0, 1, True)),
    (("predict", *FEED, "--flux", "10"), "--temperature", "{}", None),
    (("predict", *FEED, "--flux", "10"), "--film-thickness", "{}", None),
    (("predict", *FEED, "--flux", "10"), "--ph", "{}", None),
    (("predict", *FEED), "--pressure", "{}", None),
    (("predict", *FEED, "--flux", "10"), "--kind", "{}", lambda t: False),
    (("predict", *FEED, "--flux", "10"), "--model", "{}", lambda t: False),
    (("predict", *FEED, "--flux", "10", "--model", "nf270-network"), "--balance", "{}", lambda t: False),
    (("water", *FEED, "--flux", "10"), "--ph", "{}", None),
    (("water", *FEED, "--flux", "10", "--ph", "7"), "--temperature", "{}", _in(273.15, 373.15)),
    (("water", *FEED, "--flux", "10", "--ph", "7"), "--film-thickness", "{}", None),
    (("check", "m.csv", "--no-write"), "--unit", "flux={}", lambda t: False),
    (("check", "m.csv", "--no-write"), "--unit", "{}", lambda t: False),
    (("check", "m.csv", "--no-write"), "--balance", "{}", lambda t: False),
    (("fit", "m.csv", "--free", "r_pore", "--intervals", "none"), "--seed", "{}", None),
    (("fit", "m.csv", "--intervals", "none", "--starts", "1"), "--free", "{}", lambda t: False),
    (("fit", "m.csv", "--free", "r_pore", "--intervals", "none", "--starts", "1"), "--film-thickness", "{}", None),
    (("fit", "m.csv", "--free", "r_pore", "--intervals", "none", "--starts", "1"), "--start", "{}", lambda t: False),
    (("generate", "g", "--seed", "1"), "--curves", "{}", lambda t: t in ("5", "7", "300", "٣", "1_0")),
    (("generate", "g", "--curves", "2"), "--seed", "{}", None),
    (("generate", "g", "--curves", "2", "--seed", "1"), "--fluxes", "{}", None),
    (("generate", "g", "--curves", "2", "--seed", "1"), "--ions", "{}", lambda t: False),
    (("generate", "g", "--curves", "2", "--seed", "1"), "--water", "{}", lambda t: False),
    (("generate", "g", "--curves", "2", "--seed", "1", "--water", "seawater"), "--spread", "{}", None),
    (("train", "t"), "--device", "{}", lambda t: False),
    (("train", "t"), "--recipe", "{}", lambda t: False),
    (("reproduce",), "--only", "{}", lambda t: False),
    (("campaign", "own.csv"), "--objective", "{}", lambda t: False),
    (("campaign", "own.csv", "--objective", "permeance"), "--bound", "TMC={}", lambda t: False),
    (("module", "--feed", "brackish well", "--feed-flow", "8"), "--recovery", "{}", None),
    (("module", "--feed", "brackish well", "--feed-flow", "8"), "--pressure", "{}", None),
    (("module", "--feed", "brackish well", "--feed-flow", "8", "--recovery", "20"), "--elements", "{}", None),
    (("module", "--feed", "brackish well", "--feed-flow", "8", "--recovery", "20"), "--vessels", "{}", None),
    (("module", "--feed", "brackish well", "--feed-flow", "8", "--recovery", "20"), "--element", "{}", lambda t: False),
]


def _sane(found) -> str:
    "Whether the numbers on standard output can be: finite, and no rejection above one."
    out = found[1]
    if not out.lstrip().startswith(("[", "{")):
        return ""
    for r in json.loads(out) if out.lstrip().startswith("[") else []:
        bad = [k for k, v in r.items() if isinstance(v, float) and not math.isfinite(v)]
        if bad or (isinstance(r.get("rejection"), float) and r["rejection"] > 1 + 1e-9):
            return f"{bad or 'rejection'} in {r}"
        if r.get("rejection") is None and "rejection" in r:
            return f"no rejection in {r}"
    return ""


@st.composite
def options(draw):
    "An option with a value of any sort: refused where it cannot be, and numbers that can be where it is taken."
    command, option, form, valid = draw(st.sampled_from(COMMANDS))
    word = draw(st.one_of(st.sampled_from(WORDS), st.floats(allow_nan=False).map(repr), st.text(max_size=6)))
    word = word.replace("\x00", "").encode("utf-8", "ignore").decode()
    json_ = [] if option == "--out" or command[0] in ("check", "reproduce", "train") else ["--json"]
    must = "either" if valid is None else "read" if valid(word) else "refuse"
    if (
        option
        in (
            "--balance",
            "--recipe",
            "--kind",
            "--model",
            "--element",
            "--activity",
            "--device",
            "--start",
            "--free",
            "--objective",
            "--ions",
            "--unit",
            "--water",
        )
        and must == "refuse"
    ):
        must = "either" if word.strip() == "" or any(ch.isalnum() for ch in word) and word not in WORDS else "refuse"

    def prepare(folder):
        (folder / "m.csv").write_text(MEASURED)
        (folder / "own.csv").write_text(CAMPAIGN)

    value = form.format(word)
    job = shell(*command, f"{option}={value}", *json_)
    return Case(f"{' '.join(command)} {option}={value!r}", prepare, job, _sane, must, command=True)


# ---- files of anything


DOORS = [
    ("simulate", "--flux", "10", "--feed", "{}"),
    ("predict", "--flux", "10", "--feed", "{}"),
    ("water", "--flux", "10", "--ph", "7", "--feed", "{}"),
    ("predict", *FEED, "--flux", "10", "--measurements", "{}"),
    ("predict", *FEED, "--flux", "10", "--model", "{}"),
    ("check", "--no-write", "{}"),
    ("fit", "{}"),
    ("train", "t", "--config", "{}"),
    ("train", "t", "--measurements", "{}"),
    ("screen", "{}"),
    ("campaign", "{}", "--objective", "permeance"),
    ("campaign", "own.csv", "--objective", "permeance", "--schema", "{}"),
    ("campaign", "own.csv", "--objective", "permeance", "--add", "{}"),
    ("simulate", *FEED, "--flux", "10", "--ions", "{}"),
    ("campaign", "own.csv", "--objective", "permeance", "--candidates", "{}"),
    ("module", "--feed-flow", "8", "--recovery", "20", "--feed", "{}"),
    ("module", "--feed", "seawater", "--feed-flow", "8", "--recovery", "20", "--draws", "{}"),
]
ALPHABET = 'ion,flux [LMH]\nNa+Cl-0123456789.,;"#\t {}[]:-%<\r'


def _zip_bomb() -> bytes:
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("[Content_Types].xml", "<Types/>")
        z.writestr("xl/worksheets/sheet1.xml", b"0" * (1 << 29))
    return out.getvalue()


SPECIAL = {
    "nothing": b"",
    "a newline": b"\n",
    "deep": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "null bytes": bytes(5000),
    "a long line": b"a," * 2_000_000,
    "many columns": b",".join(b"c%d" % k for k in range(5000)) + b"\n1\n",
    "an open quote": b'ion,flux [LMH]\n"Na+,5\n' * 50,
    "header alone": b"ion,flux [LMH],feed [mM],rejection [%]\n",
    "a zip": b"PK\x03\x04" + bytes(range(256)) * 4,
    "a parquet": b"PAR1" + bytes(range(256)) + b"PAR1",
    "a number": b"5",
    "an HTML page": b"<!DOCTYPE html><html><body>502</body></html>",
    "a list": b"[1, 2]",
    "an object": b"{}",
    "a huge integer": b"[" + b"9" * 5000 + b"]",
    "a huge number in a record": b'[{"Na+": ' + b"9" * 400 + b', "Cl-": 10}]',
    "half a letter": "ion,flux [LMH]\nNa⁺".encode()[:-1],
    "utf-16 cut": "ion,flux".encode("utf-16")[:-1],
    "rows of nothing": b",,,\n" * 1000,
}


@st.composite
def junk(draw):
    "A file that holds anything, at any door: one sentence."
    door, suffix = (
        draw(st.sampled_from(DOORS)),
        draw(st.sampled_from([".csv", ".json", ".xlsx", ".parquet", ".jsonl", ".tsv"])),
    )
    what = draw(
        st.sampled_from([*SPECIAL, "bytes", "text", "bomb", "a folder", "a device", "missing", "no right to read"])
    )
    data = SPECIAL.get(what)
    if what == "bytes":
        data = draw(st.binary(min_size=1, max_size=300))
    elif what == "text":
        data = draw(st.text(ALPHABET, min_size=1, max_size=200)).encode()
    elif what == "bomb":
        data = _zip_bomb()
    name = "/dev/zero" if what == "a device" else f"f{suffix}"

    def prepare(folder):
        (folder / "own.csv").write_text(CAMPAIGN)
        if what == "a folder":
            (folder / name).mkdir()
        elif data is not None:
            (folder / name).write_bytes(data)

    job = shell(*(part.format(name) for part in door))
    return Case(
        f"{what} at {' '.join(door).format(name)}: {(data or b'')[:80]!r}",
        prepare,
        job,
        _sane,
        "either" if what in ("text", "bytes", "an object", "a newline", "nothing") else "refuse",
        command=True,
    )
