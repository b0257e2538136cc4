"The live page in a real Chromium: values, refusals, tabs, own measurements, files, widths, colours, names."

import base64
import functools
import http.server
import json
import os
import re
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from live_page import PAGE, ROOT, WELL, files
from numpy.testing import assert_allclose

from ion_ode import load_model
from ion_ode.core import LMH, bar
from ion_ode.data.reader import load_measurements

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")) if p), None)
DRIVER = shutil.which("chromedriver")
try:
    import selenium
except ImportError:
    selenium = None
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER and selenium),
    reason="needs Chromium, its chromedriver (Debian: chromium chromium-driver) and selenium",
)
WELL_HASH = "#" + "&".join(f"{n.replace('+', '%2B')}={c!r}" for n, c in WELL.items()) + "&close=HCO3-"


def raw_block() -> str:
    "The raw HTML block of the notebook, as Quarto would pass it on."
    cells = json.loads((ROOT / "nbs" / "explore.ipynb").read_text(encoding="utf-8"))["cells"]
    blocks = re.findall(r"^```\{=html\}\n(.*?)^```", "\n".join("".join(c["source"]) for c in cells), re.M | re.S)
    assert len(blocks) == 1
    return blocks[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "A page of the site around the raw block, with the page's files beside it, served on this machine."
    root = tmp_path_factory.mktemp("site")
    (root / "explore").mkdir()
    for p in PAGE.iterdir():
        if p.suffix in (".mjs", ".css"):
            shutil.copy(p, root / "explore")
    for name, text in files().items():
        (root / "explore" / name).write_text(text, encoding="utf-8")
    top = "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    (root / "explore.html").write_text(f"{top}<body><main>{raw_block()}</main>", encoding="utf-8")

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
        f"user-data-dir={tmp_path_factory.mktemp('profile')}", 
        "host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
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
    settle(driver)


def wait(driver, script: str, *args, tries: int = 24000):
    "Until the script returns something; the page runs it, so a busy machine takes longer over as many tries."
    for _ in range(tries):
        if found := driver.execute_script(script, *args):
            return found
        time.sleep(0.05)
    raise AssertionError(f"never came true: {script}")


def settle(driver) -> str:
    "Until the page has computed what was asked of it; 'done', or 'none' where it refuses."
    driver.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
    )
    return wait(driver, "const s = document.querySelector('#ion-explore').dataset.state; return s !== 'working' && s")


def values(driver, what: str) -> dict:
    script = (
        "return [...document.querySelectorAll('tr[data-ion]')].map(r => "
        "[r.dataset.ion, r.querySelector(`[data-what=${arguments[0]}]`).value])"
    )
    return {ion: [float(x) for x in v.split()] for ion, v in driver.execute_script(script, what)}


def notices(driver) -> str:
    return driver.execute_script("return document.querySelector('.notices').textContent")


def type_into(driver, name: str, text: str):
    from selenium.webdriver.common.keys import Keys

    field = driver.find_element("id", name)
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(text or Keys.DELETE)
    return settle(driver)


def choose(driver, name: str, value: str):
    from selenium.webdriver.support.ui import Select

    Select(driver.find_element("id", name)).select_by_value(value)
    return settle(driver)


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


@pytest.fixture(scope="module")
def model():
    return load_model("nf270")


def assert_predicts(driver, frame):
    "The table shows what `predict` says; the package solves to 1e-4 where the page solves to 1e-7."
    shown, ends = values(driver, "rejection"), values(driver, "interval")
    assert set(shown) == set(frame.ion)
    for row in frame.itertuples():
        assert_allclose(shown[row.ion], [row.rejection], atol=3e-4)
        assert_allclose(ends[row.ion], [row.lower, row.upper], atol=3e-4)


def test_the_table_is_predicts_and_a_link_keeps_it(browser, site, model):
    """By keyboard: a flux on the slider, a number, the intrinsic side; the address opens the same numbers again."""
    from selenium.webdriver.common.keys import Keys

    open_page(browser, site[1] + WELL_HASH + "&flux=40")
    assert_predicts(browser, model.predict(WELL, 40 * LMH))
    browser.find_element("id", "slide-flux").send_keys(*[Keys.ARROW_RIGHT] * 20)
    settle(browser)
    assert_predicts(browser, model.predict(WELL, 50 * LMH))
    choose(browser, "ie-kind", "intrinsic")
    type_into(browser, "number-flux", "10,5")
    frame = model.predict(WELL, 10.5 * LMH, kind="intrinsic")
    assert_predicts(browser, frame)
    choose(browser, "ie-unit", "mM")
    type_into(browser, "ion-Na+", "20")
    feed = WELL | {"Na+": 20.0, "HCO3-": WELL["HCO3-"] + 20 - WELL["Na+"]}
    assert_predicts(browser, model.predict(feed, 10.5 * LMH, kind="intrinsic"))
    address = browser.current_url
    open_page(browser, address)
    assert_predicts(browser, model.predict(feed, 10.5 * LMH, kind="intrinsic"))
    assert errors(browser) == []


def test_a_solute_and_a_pH_are_predicts(browser, site, model):
    "A neutral solute in mM where equivalents are asked for; the charge of a pH, kept in the address; a pressure drawn."
    open_page(browser, site[1] + WELL_HASH + "&glucose=2&pressure=4&unit=meq/L")
    browser.execute_script("document.querySelector('details.own').open = true")
    choose(browser, "ie-charge", "pH")
    type_into(browser, "number-pH", "4,5")
    asked = {"pressure": 4 * bar, "pH": 4.5}
    frame = model.predict(WELL | {"glucose": 2.0}, **asked)
    assert_predicts(browser, frame)
    closers = browser.find_elements("css selector", "#ie-close option")
    assert "glucose" not in [o.get_attribute("value") for o in closers]
    fed = "return document.querySelector('[data-ion=glucose] [data-what=feed]').textContent"
    assert browser.execute_script(fed) == "2 mM"
    browser.find_element("id", "ie-own").send_keys("ion,rejection [%],pressure [bar]\nCl-,25,4")
    browser.find_element("css selector", "details.own button").click()
    wait(browser, "return document.querySelector('#ie-own-said').textContent.startsWith('Calibrated with 1 value')")
    settle(browser)
    assert len(browser.find_elements("css selector", "svg .own")) == 1
    open_page(browser, browser.current_url.replace("#", "?again#"))
    assert_predicts(browser, frame)
    assert type_into(browser, "number-pH", "45") == "none"
    assert "Feed pH is 45, expected 2 to 12" in notices(browser)
    open_page(browser, site[1] + WELL_HASH + "&tab=hand&r_pore=0.32")
    assert "Mg²⁺" in notices(browser) and "wider than the pore" in notices(browser)
    assert_allclose(values(browser, "rejection")["Mg+2"], 1, atol=1e-9)
    assert errors(browser) == []


def test_what_cannot_be_used_leaves_no_result(browser, site):
    open_page(browser, site[1] + WELL_HASH)
    for name, text, says in (
        ("number-flux", "900", "Water flux is 900, expected 0.5 to 210"), ("number-flux", "1,234", "1234 or 1.234"),
        ("number-flux", "", "empty"), ("ion-Na+", "-3", "expected 0 to"),
    ):  # fmt: skip
        assert type_into(browser, name, text) == "none"
        assert says in notices(browser) and values(browser, "rejection") == {}
        assert not browser.find_elements("css selector", "#ion-explore svg .line")
        type_into(browser, "number-flux", "40")
    assert type_into(browser, "ion-Na+", "340") == "done" and values(browser, "rejection")
    choose(browser, "ie-close", "")
    assert type_into(browser, "ion-Na+", "400") == "none" and "closes the balance" in notices(browser)
    choose(browser, "ie-close", "SO4-2")
    assert values(browser, "rejection")
    open_page(browser, site[1] + "#Na%2B=900&Cl-=900&flux=1")  # above in salt, below in flux: one notice each
    said = notices(browser)
    assert "Salt of 900 eq/m³ is above" in said and "Flux of 1 L m⁻² h⁻¹ is below" in said
    assert len(browser.find_elements("css selector", ".notices p")) == 2
    assert errors(browser) == []


def test_the_code_it_shows_gives_its_numbers(browser, site):
    "All three tabs: the Python beside the table, run, says what the table says."
    for tab, more in (
        ("answer", "&pressure=6"),
        ("hand", "&flux=30&charge_density=-80"),
        ("module", "&recovery=40&elements=3&pH=5"),
    ):
        open_page(browser, f"{site[1]}{WELL_HASH}&tab={tab}{more}")
        space = {}
        exec(browser.execute_script("return document.querySelector('.code code').textContent"), space)
        shown, result = values(browser, "rejection"), space["result"]
        if tab == "module":
            found = {n: result.loc[f"rejection {n}", "median"] for n in shown}
        else:
            found = result.set_index("ion").rejection
        assert set(shown) == set(WELL)
        assert_allclose([shown[n][0] for n in WELL], [found[n] for n in WELL], atol=2e-3 if tab == "module" else 3e-4)
    assert errors(browser) == []


def test_own_measurements_move_the_answer(browser, site, model, tmp_path):
    """A coupon rejecting more than the middle: pasted, drawn, the interval narrows about it; Python reads the file."""
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    feed = {"Na+": 20.0, "Cl-": 20.0}
    open_page(browser, site[1] + "#Na%2B=20&Cl-=20&flux=40")
    before = values(browser, "interval")["Na+"]
    target = model.predict(feed, 40 * LMH).upper.iloc[0] - 0.1
    browser.execute_script("document.querySelector('details.own').open = true")
    browser.find_element("id", "ie-own").send_keys(f"ion,rejection [%],flux [LMH]\nNa+,{100 * target:.1f},40")
    browser.find_element("css selector", "details.own button").click()
    wait(browser, "return document.querySelector('#ie-own-said').textContent.startsWith('Calibrated with 1 value')")
    settle(browser)
    after = values(browser, "interval")["Na+"]
    assert after[1] - after[0] < 0.8 * (before[1] - before[0]) and after[0] < target < after[1]
    assert len(browser.find_elements("css selector", "svg .own")) == 1
    browser.find_elements("css selector", "details.own button")[1].click()
    while not (tmp_path / "own.csv").exists():
        time.sleep(0.05)
    (row,) = load_measurements(tmp_path / "own.csv").query("ion == 'Na+'").itertuples()
    assert_allclose([row.rejection, row.flux_m_s, row.c_feed_mol_m3], [round(target, 3), 40 * LMH, 20], rtol=1e-6)
    browser.find_elements("css selector", "details.own button")[2].click()
    settle(browser)
    assert_allclose(values(browser, "interval")["Na+"], before, rtol=1e-9)
    browser.find_element("id", "ie-own").send_keys("ion,rejection,flux\nNa+,45,40")
    browser.find_element("css selector", "details.own button").click()
    wait(browser, "return document.querySelector('#ie-own-said').textContent.includes('not possible')")
    assert errors(browser) == []


def test_waters_of_the_list_and_what_was_measured_in_them(browser, site):
    open_page(browser, site[1])
    data = json.loads(files()["data.json"])
    for m in data["mixtures"][:2]:
        choose(browser, "ie-preset", m["id"])
        assert set(values(browser, "feed")) == set(m["feed"])
        assert len(browser.find_elements("css selector", "svg .measured")) == len(m["points"])
        assert m["doi"] in browser.execute_script("return document.querySelector('.source').textContent")
    for w in data["waters"]:
        choose(browser, "ie-preset", w["id"])
        assert browser.execute_script("return document.querySelector('#ie-preset').value") == w["id"]
        feed = {n: v[0] for n, v in values(browser, "feed").items()}
        for n, c in w["feed"].items():
            assert n == w["close"] or feed[n] == pytest.approx(c, rel=1e-9)
    assert errors(browser) == []


def test_picture_and_numbers_are_saved(browser, site, tmp_path):
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    open_page(browser, site[1] + WELL_HASH)
    for button in browser.find_elements("css selector", ".actions button")[1:]:
        button.click()
    wait(browser, "return document.querySelector('#ion-explore svg').dataset.saved > 20000")
    for name in ("rejection.csv", "rejection.png"):
        while not (tmp_path / name).exists():
            time.sleep(0.05)
    rows = (tmp_path / "rejection.csv").read_text().splitlines()
    assert rows[0] == "flux_m_s,ion,c_feed_mol_m3,rejection,lower,upper" and len(rows) == 1 + len(WELL) * 23
    assert np.isfinite([[float(x) for x in (r.split(",")[0], *r.split(",")[2:])] for r in rows[1:]]).all()
    assert (tmp_path / "rejection.png").read_bytes().startswith(b"\x89PNG")


def test_every_control_has_a_name(browser, site):
    """For a screen reader; each is reached by Tab, and the summary is announced when values change."""
    open_page(browser, site[1])
    browser.execute_script("document.querySelectorAll('#ion-explore details').forEach(d => { d.open = true })")
    roles = {"slider", "textbox", "combobox", "button", "image", "table", "img", "form", "region", "tab", "tabpanel"}
    for tab in ("answer", "hand", "module"):
        browser.find_element("id", f"tab-{tab}").click()
        settle(browser)
        tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        named = [
            (n["role"]["value"], n.get("name", {}).get("value", ""))
            for n in tree
            if not n["ignored"] and n["role"]["value"] in roles - {"tabpanel"}
        ]
        assert {"slider", "textbox", "combobox", "button", "table", "tab"} <= {role for role, _ in named}
        assert [role for role, name in named if not name.strip()] == []
    controls = "#ion-explore :is(input, select, button, summary, a[href], textarea)"
    hidden = f"return [...document.querySelectorAll('{controls}')].filter(e => e.tabIndex < 0).length"
    assert browser.execute_script(hidden) == 0
    browser.find_element("id", "tab-answer").click()
    settle(browser)
    type_into(browser, "number-flux", "3")
    wait(browser, "return document.querySelector('[aria-live=polite]').textContent.includes('at 3 L m⁻² h⁻¹')")


CUT = """
const svg = document.querySelector('#ion-explore svg'), box = svg.getBoundingClientRect();
return [...svg.querySelectorAll('text')].filter(t => { const b = t.getBoundingClientRect();
  return b.right > box.right + 0.5 || b.left < box.left - 0.5 || b.bottom > box.bottom + 0.5 || b.top < box.top - 0.5;
}).map(t => t.textContent)"""
CONTRAST = """
const lum = (c) => { const v = c.map(x => { x /= 255;
  return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
const rgb = (s) => s.match(/[\\d.]+/g).map(Number);
const paper = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
  if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
const said = ':is(td, th, p, legend, label, .name, .unit, button, summary, caption, text, dt, dd)';
return [...document.querySelectorAll(`#ion-explore ${said}`)].filter(e => e.textContent.trim())
  .map(e => { const style = getComputedStyle(e), ink = rgb(e.namespaceURI.endsWith('svg') ? style.fill : style.color);
    const [a, b] = [lum(ink), lum(paper(e))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), e.textContent.slice(0, 30)]; })
  .sort((x, y) => x[0] - y[0])[0]"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_opens_from_a_file_at_any_width(browser, tmp_path, width, dark):
    """The page in one file, as a double click opens it: values there, nothing cut off, readable, nothing fetched."""
    page = tmp_path / "standalone.html"
    page.write_text(files()["standalone.html"], encoding="utf-8")
    for tab in ("answer", "hand", "module"):
        open_page(browser, f"{page.as_uri()}{WELL_HASH}&erythritol=1&tab={tab}", width, 900, dark)
        assert set(values(browser, "rejection")) == {*WELL, "erythritol"}
        across, visible = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert across <= visible == width
        assert browser.execute_script(CUT) == []
        contrast = browser.execute_script(CONTRAST)
        assert contrast[0] >= 4.5, contrast
        assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
        name = f"{tab}_{'phone' if width < 600 else 'desktop'}_{'dark' if dark else 'light'}.png"
        assert len(screenshot(browser, name, tmp_path)) > 20_000
    assert errors(browser) == []


def test_a_page_of_the_site_opened_as_a_file_falls_back(browser, site):
    browser.get((site[0] / "explore.html").as_uri())
    wait(browser, "return document.querySelector('#ion-explore iframe') !== null")
    browser.switch_to.frame(browser.find_element("css selector", "#ion-explore iframe"))
    wait(browser, "return document.querySelector('#ion-explore')?.dataset.state === 'done'")
    assert values(browser, "rejection")
    browser.switch_to.default_content()
