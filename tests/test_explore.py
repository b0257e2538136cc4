"The live page: its JavaScript against Python, its generated files, and the page itself in a real Chromium."

import base64
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from example_set import simulate
from numpy.testing import assert_allclose

from ion_ode.attention_odenet.constraints import CONSTRAINTS, make_constraint
from ion_ode.attention_odenet.field import FieldConfig
from ion_ode.attention_odenet.odenet import ODENet
from ion_ode.core import LMH, bar
from ion_ode.data.design import sample_membranes
from ion_ode.dspmde.entry import hindrance_dechadilok_deen
from ion_ode.dspmde.membranes import NF270_WATERTAP, ChargeBinding, Freundlich, Membrane
from ion_ode.dspmde.prior import SLOTS, membrane_from_parameters, parameter_names
from ion_ode.stats import conformal_quantile
from ion_ode.training.predictor import Predictor, load_model, trained_ranges
from ion_ode.training.recipe import TrainConfig, build
from ion_ode.training.told import describe, n_told

ROOT = Path(__file__).parents[1]
NBS, PAGE, HERE = ROOT / "nbs", ROOT / "nbs" / "explore", Path(__file__).parent / "explore"
sys.path.insert(0, str(ROOT / "tools"))
import explore_data  # noqa: E402

NODE = shutil.which("node")
CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")) if p), None)
DRIVER = shutil.which("chromedriver")
try:
    import selenium
except ImportError:
    selenium = None
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER and selenium),
    reason="needs Chromium, its chromedriver (Debian: chromium chromium-driver) and selenium",
)
LARGEST = 1_000_000  # bytes: what a reader downloads at most


@pytest.fixture(scope="module")
def data():
    return json.loads((PAGE / "data.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def ask(data):
    "Run cases through the modules in Node."

    def run(cases):
        text = json.dumps({"data": data, "cases": cases})
        done = subprocess.run(
            [NODE, str(HERE / "evaluate.mjs"), str(PAGE)],
            input=text,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def feed_of(salts: dict, data: dict) -> dict:
    feed = {}
    for salt, c in salts.items():
        for ion, n in data["salts"][salt]["ions"].items():
            feed[ion] = feed.get(ion, 0.0) + n * c
    return feed


def plain(membrane: Membrane) -> dict:
    return {k: getattr(membrane, k) for k in ("r_pore", "thickness", "charge_density", "eps_pore", "permeability")}


# A membrane with everything a law of this package can say
LAWS = Membrane(
    0.46e-9,
    1.1e-6,
    ChargeBinding(Freundlich(-8.0, 0.4), {"Mg+2": 30.0, "SO4-2": -12.0}),
    44.0,
    3e-11,
    {"NO3-": 0.7, "Na+": -0.3},
)


# ---- DSPM-DE in Node


def random_cases(data: dict, n: int, seed: int) -> list[tuple[dict, Membrane, list]]:
    "Feeds of one to five salts, membranes and fluxes over the range of the page's sliders."
    rng = np.random.default_rng(seed)
    log = lambda low, high: float(np.exp(rng.uniform(np.log(low), np.log(high))))
    out = []
    for _ in range(n):
        salts = rng.choice(list(data["salts"]), size=rng.integers(1, 6), replace=False)
        feed = feed_of({str(s): log(0.01, 500) for s in salts}, data)
        charge = log(1, 200) * (-1 if rng.random() < 0.8 else 0.5)
        membrane = Membrane(log(0.42e-9, 0.8e-9), log(0.2e-6, 4e-6), charge, rng.uniform(34, 78), log(1e-11, 1e-10))
        out.append((feed, membrane, sorted(log(1e-8, 6e-5) for _ in range(3))))
    return out


@needs_node
def test_dspmde_in_node_is_simulate(ask, data):
    """Permeate, rejection, Donnan potentials and pressure of the JavaScript solver within 1e-6 of the Python one."""
    cases = random_cases(data, 60, seed=0)
    cases += [(feed_of(m["salts"], data), NF270_WATERTAP, [1e-7, 1e-5, 5.8e-5]) for m in data["mixtures"]]
    cases.append((feed_of({"NaCl": 10, "MgCl2": 5, "Na2SO4": 2}, data), NF270_WATERTAP, [5 * LMH, 50 * LMH, 200 * LMH]))
    answers = ask([{"what": "curve", "feed": f, "membrane": plain(m), "flux": j} for f, m, j in cases])
    names = tuple(data["ions"])
    feeds = torch.tensor([[f.get(n, 0.0) for n in names] for f, _, _ in cases], dtype=torch.float64)
    membranes = Membrane(*(torch.tensor([plain(m)[k] for _, m, _ in cases], dtype=torch.float64) for k in plain(NF270_WATERTAP)))
    wanted = simulate(feeds, np.array([j for _, _, j in cases]), membranes, ions=names, rtol=1e-10)
    kT = data["constants"]["boltzmann"] * data["constants"]["temperature"] / data["constants"]["elementaryCharge"]
    worst = 0.0
    for i, found in enumerate(answers):
        assert all(s["converged"] for s in found)
        order = [names.index(n) for n in found[0]["names"]]
        c_perm = np.array([s["cPerm"] for s in found])
        assert_allclose(c_perm, wanted.c_perm[i][:, order], rtol=1e-6)
        assert_allclose([s["rejection"] for s in found], wanted.rejection[i][:, order], rtol=1e-6, atol=1e-7)
        assert_allclose([s["pressure"] for s in found], wanted.pressure[i], rtol=1e-6)
        psi = np.array([[s["psiFeed"], s["psiPerm"]] for s in found]) * kT
        assert_allclose(psi, wanted.psi_donnan[i], rtol=1e-6, atol=1e-6 * kT)
        assert max(abs(s["chargeBalance"]) for s in found) < 1e-12
        worst = max(worst, np.abs(c_perm / wanted.c_perm[i][:, order].numpy() - 1).max())
    print(f"largest relative difference of c_perm over {sum(len(c[2]) for c in cases)} problems: {worst:.1e}")


@needs_node
def test_charge_laws_and_partitioning_in_node(ask, data):
    feed, flux = feed_of({"NaNO3": 2, "MgSO4": 5, "KCl": 1}, data), [1e-7, 1e-5, 5e-5]
    (answer,) = ask([{"what": "curve", "feed": feed, "membrane": explore_data.membrane_json(LAWS), "flux": flux}])
    wanted = simulate(feed, flux, LAWS, rtol=1e-10)
    order = [answer[0]["names"].index(n) for n in wanted.ions]
    assert_allclose(np.array([s["cPerm"] for s in answer])[:, order], wanted.c_perm[0], rtol=1e-6)


@needs_node
def test_a_cold_start_finds_what_the_sweep_finds(ask, data):
    cases = [{"feed": f, "membrane": plain(m), "flux": j} for f, m, j in random_cases(data, 12, seed=1)]
    warm, cold = ask([c | {"what": "curve"} for c in cases]), ask([c | {"what": "cold"} for c in cases])
    for a, b in zip(warm, cold, strict=True):
        assert_allclose([s["cPerm"] for s in b], [s["cPerm"] for s in a], rtol=1e-8)


@needs_node
def test_without_flux_the_permeate_is_the_feed(ask, data):
    feed = feed_of({"KCl": 3, "CaSO4": 1, "Mg(NO3)2": 7}, data)
    (answer,) = ask([{"what": "curve", "feed": feed, "membrane": plain(NF270_WATERTAP), "flux": [0.0]}])
    assert answer[0]["cPerm"] == [feed[n] for n in answer[0]["names"]]
    assert answer[0]["rejection"] == [0] * len(feed)


@needs_node
def test_hindrance_in_node_is_the_packages(ask):
    lam = np.r_[np.linspace(0.01, 0.949, 20), np.linspace(0.951, 0.999, 8)]
    (answer,) = ask([{"what": "hindrance", "lam": lam.tolist()}])
    assert_allclose(
        np.transpose(answer), np.stack(hindrance_dechadilok_deen(torch.tensor(lam))), rtol=1e-9
    )  # 1e-14 of terms that cancel


@needs_node
@pytest.mark.parametrize(
    ("feed", "change", "flux", "says"),
    [
        ({"Na+": 1.0, "Cl-": 2.0}, {}, 1e-5, "not electroneutral"),
        ({"Na+": 1.0, "Cl-": 1.0}, {"r_pore": 0.15e-9}, 1e-5, "wider than the pore"),
        ({"Na+": 0.0, "Cl-": 0.0}, {}, 1e-5, "no salt"),
        ({"Na+": -1.0, "Cl-": -1.0}, {}, 1e-5, "positive"),
        ({"Xe+": 1.0, "Cl-": 1.0}, {}, 1e-5, "unknown ion Xe+"),
        ({"Na+": 1.0, "Cl-": 1.0}, {"thickness": 0.0}, 1e-5, "thickness is 0"),
        ({"Na+": 1.0, "Cl-": 1.0}, {}, -1e-5, "the flux is"),
    ],
)
def test_what_cannot_be_solved_is_refused_in_words(ask, feed, change, flux, says):
    (answer,) = ask([{"what": "refuse", "feed": feed, "membrane": plain(NF270_WATERTAP) | change, "flux": flux}])
    assert says in answer["error"]


# ---- the network in Node


def random_network(config: FieldConfig, constraint: str, seed: int) -> ODENet:
    torch.manual_seed(seed)
    net = ODENet(config, make_constraint(constraint), n_steps=5)
    with torch.no_grad():  # strong enough that curves bend, weak enough that every form stays finite
        net.linears[-1].weight.mul_(4)
        net.linears[-1].bias.normal_(0, 0.05)
    return net


NETWORKS = {
    "default": FieldConfig(),
    "paper": FieldConfig.paper(),
    "shared head, two heads": FieldConfig(head="shared", heads=2, d_k=4, encoding="physical"),
    "no attention, membrane": FieldConfig(attention=False, context="feed+membrane", n_membrane=5, encoding="learned", output="concentration"),
}  # fmt: skip


@needs_node
def test_network_in_node_is_odenet(ask):
    """Every architecture and constraint: the same weights, feed and fluxes give the same permeate, absent ions exactly 0."""
    flux = torch.linspace(0, 3e-5, 6, dtype=torch.float64)
    feed = torch.tensor([10.0, 0, 5, 2, 0, 17, 0.5, 1], dtype=torch.float64)
    assert float((feed * torch.tensor([1, 1, 1, 2, 2, -1, -2, -1])).sum()) == 0
    cases, wanted, names = [], [], []
    for (name, config), constraint in product(NETWORKS.items(), CONSTRAINTS):
        net = random_network(config, constraint, seed=3)
        membrane = torch.linspace(-1, 1, config.n_membrane, dtype=torch.float64)
        cases.append({
            "what": "rollout", "network": explore_data.network_json([net]),
            "feed": feed.tolist(), "flux": flux.tolist(), "membrane": membrane.tolist(),
        })  # fmt: skip
        net = net.double()
        with torch.no_grad():
            h = net(feed[None], flux[None], membrane[None] if config.n_membrane else None)[0]
        wanted.append((h * (feed * net.z.abs()).sum()).numpy())
        names.append(f"{name}, {constraint}")
    for name, found, want in zip(names, ask(cases), wanted, strict=True):
        found = np.array(found[0], dtype=float)
        assert_allclose(found, want, rtol=1e-6, atol=0, err_msg=name)
        assert (found[:, feed == 0] == 0).all(), name
        assert np.abs(want[-1] - feed.numpy()).max() > 0.01, f"{name}: the case does not move"


def random_predictor(family: str, told: str) -> Predictor:
    "Three untrained networks, each told of a membrane of its own, as `load_model` would return trained ones."
    network = replace(TrainConfig().network, n_membrane=n_told(SLOTS, told))
    config = TrainConfig(family=family, told=told, network=network, members=3)
    ensemble = build(config, [0, 1, 2])
    with torch.no_grad():
        last = f"field.linears.{network.depth - 1}.bias"
        ensemble.params[last].add_(torch.tensor([-0.08, -0.08, -0.06, -0.2, -0.2, -0.1, -0.3, 0.1, -0.08]))
    membranes = sample_membranes(3, 1, family=family).tensors()
    column = lambda n: membranes.get(n, membranes.get(f"{n}.base"))
    rename = {"charge_shift ": "charge_density.shift.", "ln_partition ": "ln_partition."}
    long = lambda n: next((n.replace(a, b) for a, b in rename.items() if n.startswith(a)), n)
    parameters = torch.stack([column(long(n)) for n in parameter_names(family, SLOTS)], -1)
    seen = torch.tensor([[20.0, 0, 0, 9, 0, 38, 0, 0, 0], [2.0, 0, 0, 1, 0, 2, 1, 0, 0]], dtype=torch.float64)
    card = {
        "name": "random",
        "errors": np.linspace(0, 0.2, 40).tolist(),
        "ranges": trained_ranges(seen, torch.tensor([5e-5]), SLOTS),
    }
    return Predictor(config, ensemble, parameters, card)


@needs_node
@pytest.mark.parametrize(("family", "told"), [("dspmde+", "entry"), ("dspmde", "entry"), ("dspmde+", "parameters")])
@pytest.mark.parametrize("membrane", [None, NF270_WATERTAP, LAWS], ids=["own", "NF270", "laws"])
def test_prediction_in_node_is_predict(ask, data, family, told, membrane):
    """Mean, interval and warnings of an ensemble that is told of its membranes: to 1e-6 of the same sums in double precision, and
    to the round-off of single precision of `Predictor.predict`."""
    predictor = random_predictor(family, told)
    feed, flux = feed_of({"NaCl": 12, "MgCl2": 4, "K2SO4": 1}, data), (np.array([2, 30, 150, 205]) * LMH).tolist()
    case = {"what": "predict", "network": explore_data.predictor_json(predictor), "feed": feed, "flux": flux}
    (answer,) = ask([case | {"membrane": membrane and explore_data.membrane_json(membrane)}])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = predictor.predict(feed, flux, membrane).set_index(["ion", "flux_m_s"])
    assert_same_prediction(answer, predictor, feed, flux, membrane, frame)
    said = answer["curve"]["warnings"] + answer["at"][-1]["warnings"]
    assert {s for s in (str(w.message) for w in caught)} and len(said) == len(caught)
    assert any("K⁺" in s and "not in" in s for s in said) and any("flux" in s for s in said)


SHIPPED = ROOT / "ion_ode" / "assets" / "weights" / "nf270-network.json"


@needs_node
@pytest.mark.skipif(not SHIPPED.exists(), reason="no trained network ships with the package")
def test_shipped_network_on_the_page_is_load_model(ask, data):
    "The weights the page carries give what `load_model('nf270-network').predict` gives, for every measured mixture and the start."
    network, predictor = json.loads((PAGE / "network.json").read_text(encoding="utf-8")), load_model("nf270-network")
    feeds = [feed_of(m["salts"], data) for m in data["mixtures"]] + [
        feed_of({"NaCl": 10, "MgCl2": 5, "Na2SO4": 2}, data)
    ]
    flux = (np.array([1, 10, 50, 120, 200]) * LMH).tolist()
    answers = ask([{"what": "predict", "network": network, "feed": f, "flux": flux, "membrane": None} for f in feeds])
    for feed, answer in zip(feeds, answers, strict=True):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            frame = predictor.predict(feed, flux).set_index(["ion", "flux_m_s"])
        assert_same_prediction(answer, predictor, feed, flux, None, frame)
        assert len(answer["curve"]["warnings"] + answer["at"][-1]["warnings"]) == len(caught)


def assert_same_prediction(answer, predictor, feed, flux, membrane, frame):
    exact = predict_in_double(predictor, feed, flux, membrane)
    for ion in feed:
        found = np.array(answer["curve"]["ions"][ion]["rejection"])
        assert_allclose(1 - found, 1 - exact[ion], rtol=1e-6, atol=1e-9, err_msg=ion)
        for what in ("rejection", "lower", "upper"):
            assert_allclose(
                answer["curve"]["ions"][ion][what], frame.loc[ion][what], rtol=1e-5, atol=1e-5, err_msg=f"{ion} {what}"
            )


def predict_in_double(predictor, feed, flux, membrane) -> dict:
    "Mean rejection by the predictor's networks, every step in double precision."
    config, n = predictor.config, len(predictor.ensemble)
    ions = config.network.ions
    c_feed = torch.tensor([[feed.get(i, 0.0) for i in ions]], dtype=torch.float64)
    J = torch.tensor([flux], dtype=torch.float64)
    total = 0
    for m in range(n):
        own = membrane
        if own is None and predictor.parameters is not None:
            own = membrane_from_parameters(
                predictor.parameters[m : m + 1].double(), parameter_names(config.family, ions), ions
            )
        told = None if config.told == "nothing" else describe(own, c_feed, ions, config.told)
        net = predictor.ensemble.member(m).double()
        with torch.no_grad():
            h = net(c_feed, J, told)[0]
        total = total + h * (c_feed * net.z.abs()).sum() / c_feed / n
    rejection = (1 - total).clamp(max=1.0).numpy()
    return {i: rejection[:, ions.index(i)] for i in feed}


# ---- drawing


@needs_node
def test_ticks_and_labels(ask):
    tick, apart = ask([
        {"what": "ticks", "low": -37, "high": 100, "count": 6},
        {"what": "spread", "positions": [10, 10, 11, 90, 50], "gap": 12, "low": 0, "high": 100},
    ])  # fmt: skip
    assert tick["values"] == [-25, 0, 25, 50, 75, 100]
    ordered = np.sort(apart)
    assert (np.diff(ordered) > 12 - 0.1).all() and ordered[0] >= 0 and ordered[-1] <= 100
    assert np.argsort(apart)[-1] == 3


# ---- generated files


def test_generated_files_are_what_the_package_gives():
    for name, text in explore_data.build().items():
        assert (PAGE / name).read_text(encoding="utf-8") == text, f"{name} is old: run python tools/explore_data.py"


def test_recipes_dissolve_into_the_measured_feeds(data):
    for m in data["mixtures"]:
        feed = feed_of(m["salts"], data)
        assert abs(sum(data["ions"][n]["z"] * c for n, c in feed.items())) < 1e-9
        assert {p[0] for p in m["points"]} <= set(feed) and len(m["points"]) >= 8


def test_every_salt_is_neutral(data):
    cations, anions = ([n for n, i in data["ions"].items() if np.sign(i["z"]) == s] for s in (1, -1))
    assert len(data["salts"]) == len(cations) * len(anions)
    for salt, entry in data["salts"].items():
        assert sum(n * data["ions"][i]["z"] for i, n in entry["ions"].items()) == 0, salt


def test_small_and_self_contained():
    """Less than 1 MB either way it is read, and nothing in it is fetched from elsewhere."""
    alone = (PAGE / "standalone.html").read_bytes()
    parts = sum(p.stat().st_size for p in PAGE.iterdir() if p.suffix in (".mjs", ".json", ".css"))
    assert len(alone) < LARGEST and parts < LARGEST, (len(alone), parts)
    text = alone.decode()
    assert not re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)=", text)
    addresses = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text))
    assert addresses <= {"https://doi.org", "http://www.w3.org"}, addresses
    script = text.rsplit('<script type="module">', 1)[1]
    assert not re.search(r"^\s*(import|export)\s", script, re.M)


# ---- the page in Chromium


def raw_block() -> str:
    "The raw HTML block of the notebook, as Quarto would pass it on."
    cells = json.loads((NBS / "explore.ipynb").read_text(encoding="utf-8"))["cells"]
    blocks = re.findall(r"^```\{=html\}\n(.*?)^```", "\n".join("".join(c["source"]) for c in cells), re.M | re.S)
    assert len(blocks) == 1
    return blocks[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "A page of the site around the raw block, with the page's files beside it, served on this machine."
    root = tmp_path_factory.mktemp("site")
    (root / "explore").mkdir()
    for p in PAGE.iterdir():
        if p.suffix in (".mjs", ".json", ".css", ".html"):
            shutil.copy(p, root / "explore")
    body = f"<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'><body><main>{raw_block()}</main>"
    (root / "explore.html").write_text(body, encoding="utf-8")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield root, f"http://127.0.0.1:{server.server_port}/explore.html"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    "Headless Chromium that reaches nothing but this machine."
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-dev-shm-usage", "hide-scrollbars",
        f"user-data-dir={tmp_path_factory.mktemp('profile')}", "host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_page_load_timeout(36000)  # the defaults give up on a busy machine
    driver.set_script_timeout(36000)
    yield driver
    driver.quit()


def open_page(driver, url: str, width: int = 1280, height: int = 900, dark: bool = False):
    driver.get("about:blank")
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    driver.get(url)
    wait(driver, "return document.querySelector('#ion-explore')?.dataset.ready === 'true'")


def wait(driver, script: str, *args, tries: int = 1200):
    "Until the script returns something; the page runs it, so that a busy machine takes longer over the same number of tries."
    for _ in range(tries):
        if found := driver.execute_script(script, *args):
            return found
        time.sleep(0.05)
    raise AssertionError(f"never came true: {script}")


def settle(driver):
    "Until the page has computed what was asked of it."
    driver.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
    )


def values(driver, what: str) -> dict:
    script = "return Object.fromEntries([...document.querySelectorAll('tr[data-ion]')].map(r => [r.dataset.ion, r.querySelector(`[data-what=${arguments[0]}]`).value]))"
    return {ion: float(v) for ion, v in driver.execute_script(script, what).items()}


def screenshot(driver, name: str, folder: Path) -> bytes:
    "A picture of the whole page; kept where ION_ODE_SCREENSHOTS says, or with the test's other files."
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
    picture = base64.b64decode(shot["data"])
    folder = Path(os.environ.get("ION_ODE_SCREENSHOTS", folder))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(picture)
    return picture


def errors(driver) -> list:
    return [
        entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE" and "favicon" not in entry["message"]
    ]


@needs_browser
def test_sliders_move_the_values(browser, site, tmp_path, data):
    """By keyboard, as a reader would: a salt's slider, the flux slider, a number; each time the table is simulate's."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    open_page(browser, site[1])
    salts, flux = {"NaCl": 10.0, "MgCl2": 10.0, "MgSO4": 10.0}, 50.0

    predictor = load_model("nf270-network") if data["network"] else None

    def check():
        settle(browser)
        feed = feed_of(salts, data)
        if predictor:
            net, shown = predict_in_double(predictor, feed, [flux * LMH], None), values(browser, "network")
            assert_allclose([1 - shown[n] for n in feed], [1 - net[n][0] for n in feed], rtol=1e-6, atol=1e-9)
        wanted = simulate(feed, flux * LMH, rtol=1e-10)
        found = values(browser, "dspmde")
        assert set(found) == set(feed)
        assert_allclose([found[n] for n in wanted.ions], wanted.rejection[0, 0], rtol=1e-6)
        assert_allclose([values(browser, "feed")[n] for n in feed], list(feed.values()), rtol=1e-12)
        shown = float(browser.execute_script("return document.querySelector('[data-what=pressure]').value"))
        assert_allclose(shown * bar, float(wanted.pressure[0, 0]), rtol=1e-6)
        return found

    before = check()
    slider = browser.find_element(By.ID, "salt-MgCl2")
    slider.send_keys(*[Keys.ARROW_RIGHT] * 31)
    salts["MgCl2"] = float(f"{10 ** float(slider.get_attribute('value')):.3g}")
    assert salts["MgCl2"] > 15
    after = check()
    assert abs(after["Na+"] - before["Na+"]) > 1e-3
    slider = browser.find_element(By.ID, "flux")
    slider.send_keys(*[Keys.ARROW_LEFT] * 20)
    flux = float(slider.get_attribute("value"))
    assert flux == 30
    assert check()["Na+"] < after["Na+"]
    number = browser.find_element(By.CSS_SELECTOR, "[data-name=NaCl] input[type=number]")
    number.send_keys(Keys.CONTROL, "a")
    number.send_keys("0.7")
    salts["NaCl"] = 0.7
    check()
    picture = screenshot(browser, "sliders.png", tmp_path)
    assert picture.startswith(b"\x89PNG") and len(picture) > 20_000
    assert errors(browser) == []
    # another reader opens the same address
    address = browser.current_url
    assert "flux=30" in address
    open_page(browser, address)
    check()


@needs_browser
def test_network_on_the_page(browser, tmp_path, data):
    """A model's weights in the page: its values, interval and band, and the warning once a slider leaves the range."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    predictor = random_predictor("dspmde+", "entry")
    files = {
        "data.json": explore_data.compact(explore_data.data(network=True)),
        "network.json": explore_data.compact(explore_data.predictor_json(predictor) | {"name": "nf270-network"}),
    }
    page = tmp_path / "page.html"
    page.write_text(explore_data.standalone(files), encoding="utf-8")
    open_page(browser, page.as_uri() + "#NaCl=12&MgCl2=4&flux=60")
    feed, half = feed_of({"NaCl": 12, "MgCl2": 4}, data), conformal_quantile(predictor.card["errors"], 0.9)

    def check(flux, membrane=None):
        settle(browser)
        wanted, found = predict_in_double(predictor, feed, [flux * LMH], membrane), values(browser, "network")
        assert set(found) == set(feed)
        assert_allclose([1 - found[n] for n in feed], [1 - wanted[n][0] for n in feed], rtol=1e-6)
        ends = browser.execute_script(
            "return Object.fromEntries([...document.querySelectorAll('tr[data-ion]')].map(r => [r.dataset.ion, r.querySelector('[data-what=interval]').value]))"
        )
        for ion, r in found.items():
            assert_allclose([float(x) for x in ends[ion].split()], [r - half, min(1, r + half)], rtol=1e-6)
        return browser.find_element(By.CSS_SELECTOR, ".notices").text

    assert check(60) == ""
    assert len(browser.find_elements(By.CSS_SELECTOR, "svg .band")) == len(feed)
    assert len(browser.find_elements(By.CSS_SELECTOR, "svg .line.dashed")) == len(feed)  # DSPM-DE beside it
    browser.find_element(By.ID, "flux").send_keys(Keys.END)
    assert "flux" in check(210).lower()
    browser.find_element(By.CSS_SELECTOR, "#ion-explore details summary").click()
    browser.find_element(By.ID, "membrane-eps_pore").send_keys(Keys.HOME)
    assert "another membrane" in check(210, NF270_WATERTAP.with_(eps_pore=34.0))
    snippet = browser.execute_script("return document.querySelector('.code code').textContent")
    with warnings.catch_warnings():  # the range of the shipped model is not what is asked here
        warnings.simplefilter("ignore")
        space = {}
        exec(re.sub(r"^simulate", "solution = simulate", snippet, flags=re.M), space)
    frame = space["solution"].set_index("ion").rejection
    assert_allclose([values(browser, "dspmde")[n] for n in feed], frame[list(feed)], rtol=1e-5)
    browser.find_element(By.CSS_SELECTOR, "[data-show=band] input").click()
    assert browser.find_elements(By.CSS_SELECTOR, "svg .band") == []
    screenshot(browser, "network.png", tmp_path)
    assert errors(browser) == []


@needs_browser
def test_salts_come_and_go(browser, site, data):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    open_page(browser, site[1])
    Select(browser.find_element(By.CSS_SELECTOR, "select[aria-label='Add a salt']")).select_by_value("KNO3")
    settle(browser)
    assert {"K+", "NO3-"} < set(values(browser, "feed"))
    for salt in ("NaCl", "MgCl2", "MgSO4"):
        browser.find_element(By.CSS_SELECTOR, f"[data-name={salt}] button").click()
    settle(browser)
    assert set(values(browser, "feed")) == {"K+", "NO3-"}
    browser.find_element(By.CSS_SELECTOR, "[data-name=KNO3] button").click()
    settle(browser)
    assert values(browser, "feed") == {}
    assert "holds no salt" in browser.find_element(By.CSS_SELECTOR, ".notices").text
    for m in data["mixtures"]:
        Select(browser.find_element(By.ID, "ie-preset")).select_by_value(m["id"])
        settle(browser)
        assert set(values(browser, "feed")) == set(feed_of(m["salts"], data))
        assert len(browser.find_elements(By.CSS_SELECTOR, "svg .measured")) == len(m["points"])
    assert errors(browser) == []


@needs_browser
def test_labels_and_live_values(browser, site):
    """Every control has a name for a screen reader and is reached by Tab; the summary is announced when values change."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    open_page(browser, site[1])
    browser.execute_script("document.querySelectorAll('#ion-explore details').forEach(d => { d.open = true })")
    browser.find_element(By.ID, "salt-NaCl").send_keys(Keys.ARROW_RIGHT)
    assert browser.find_element(By.ID, "salt-NaCl").get_attribute("aria-valuetext") == "10.2 mol per cubic metre"
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"slider", "spinbutton", "combobox", "checkbox", "button", "image", "table", "img", "form", "region"}
    named = [
        (n["role"]["value"], n.get("name", {}).get("value", ""))
        for n in tree
        if not n["ignored"] and n["role"]["value"] in roles
    ]
    assert {"slider", "spinbutton", "combobox", "button", "table"} <= {role for role, _ in named}
    assert [role for role, name in named if not name.strip()] == []
    spoken = browser.execute_script(
        "return [...document.querySelectorAll('input[type=range]')].map(e => e.getAttribute('aria-valuetext'))"
    )
    assert "10 mol per cubic metre" in spoken and "50 litres per square metre and hour" in spoken and all(spoken)
    focusable = browser.execute_script(
        "return [...document.querySelectorAll('#ion-explore :is(input, select, button, summary, a[href])')].filter(e => e.tabIndex < 0).length"
    )
    assert focusable == 0
    browser.find_element(By.ID, "flux").send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 3)
    wait(browser, "return document.querySelector('[aria-live=polite]').textContent.includes('at 3 L m⁻² h⁻¹')")


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_opens_from_a_file_at_any_width(browser, tmp_path, width, dark):
    """The page in one file, as a double click opens it: values there, nothing cut off, text readable, nothing fetched."""
    url = (PAGE / "standalone.html").as_uri() + "#MgSO4=10&NaNO3=0.2&NH4Cl=0.2&flux=100"
    open_page(browser, url, width, 900, dark)
    assert len(values(browser, "dspmde")) == 6
    across, visible = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert across <= visible == width
    cut = browser.execute_script("""
      const svg = document.querySelector('#ion-explore svg'), box = svg.getBoundingClientRect();
      return [...svg.querySelectorAll('text')].filter(t => { const b = t.getBoundingClientRect();
        return b.right > box.right + 0.5 || b.left < box.left - 0.5 || b.bottom > box.bottom + 0.5 || b.top < box.top - 0.5; }).map(t => t.textContent)""")
    assert cut == []
    contrast = browser.execute_script("""
      const lum = (c) => { const v = c.map(x => { x /= 255; return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
        return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
      const rgb = (s) => s.match(/[\\d.]+/g).map(Number);
      const paper = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
      return [...document.querySelectorAll('#ion-explore :is(td, th, p, legend, label, .name, .unit, button, summary, caption, text)')].filter(e => e.textContent.trim())
        .map(e => { const style = getComputedStyle(e), ink = rgb(e.namespaceURI.endsWith('svg') ? style.fill : style.color);
          const [a, b] = [lum(ink), lum(paper(e))].sort((x, y) => y - x); return [(a + 0.05) / (b + 0.05), e.textContent.slice(0, 30)]; })
        .sort((x, y) => x[0] - y[0])[0]""")
    assert contrast[0] >= 4.5, contrast
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    screenshot(browser, f"page_{'phone' if width < 600 else 'desktop'}_{'dark' if dark else 'light'}.png", tmp_path)
    assert errors(browser) == []


@needs_browser
def test_a_page_of_the_site_opened_as_a_file_falls_back(browser, site):
    browser.get((site[0] / "explore.html").as_uri())
    wait(browser, "return document.querySelector('#ion-explore iframe') !== null")
    browser.switch_to.frame(browser.find_element("css selector", "#ion-explore iframe"))
    wait(browser, "return document.querySelector('#ion-explore')?.dataset.ready === 'true'")
    assert len(values(browser, "dspmde")) == 4
    browser.switch_to.default_content()
