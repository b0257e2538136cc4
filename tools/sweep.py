"""Look at every page of a rendered site in headless Chromium.

    python tools/sweep.py _docs

At 390 and 1,280 px, in light and dark: pages wider than the window, text of too little contrast (WCAG 2.1, 4.5 or 3 for
large text), text that should have been typeset, controls without a name, broken images, requests to other hosts, errors
in the console, links and anchors that lead nowhere; and that the first figure of a chapter stands within the first
1,500 px.
"""

import argparse
import json
import shutil
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

LOOK = (Path(__file__).parent / "sweep.js").read_text(encoding="utf-8")
VIEWS = [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")]
FIGURE = 1500  # px from the top, of the first figure of a chapter on a desktop
SETTLED = """const done = arguments[0], frame = requestAnimationFrame;
const math = window.MathJax && MathJax.startup ? MathJax.startup.promise : Promise.resolve();
math.catch(() => 0).then(() => document.fonts.ready).then(() => frame(() => frame(done)));"""


class Quiet(SimpleHTTPRequestHandler):
    "Serves files and says nothing."

    def log_message(self, *args):
        pass


@contextmanager
def served(folder: Path):
    "The folder on a free port of this machine."
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


@contextmanager
def browser():
    "Headless Chromium that keeps its console and its requests."
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "SEVERE", "performance": "ALL"})
    own = shutil.which("chromedriver")  # without one selenium would look for it elsewhere
    driver = webdriver.Chrome(options=options, service=Service(own) if own else None)
    driver.set_script_timeout(120)
    try:
        yield driver
    finally:
        driver.quit()


def requests(driver) -> list[str]:
    "Addresses that were asked for since the last call."
    said = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    return [m["params"]["request"]["url"] for m in said if m["method"] == "Network.requestWillBeSent"]


def look(driver, base: str, page: str, width: int, scheme: str) -> tuple[dict, list[str]]:
    "What one page shows in one view, and its problems."
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get(f"{base}/{page}")
    driver.execute_async_script(SETTLED)
    seen = driver.execute_script(LOOK)
    bad = [f"wider than {width} px ({seen['width']}): {', '.join(seen['wide'])}"] if seen["width"] > width else []
    bad += [f"contrast {ratio} of {name}" for name, ratio in seen["pale"]]
    bad += [f"not typeset: {text}" for text in seen["printed"]]
    bad += [f"no name: {name}" for name in seen["unnamed"]] + [f"broken image {src}" for src in seen["broken"]]
    bad += [f"asks {url[:100]}" for url in requests(driver) if not url.startswith((base, "data:", "blob:", "about:"))]
    bad += [f"console: {entry['message'][:160]}" for entry in driver.get_log("browser")]
    return seen, bad


def nowhere(base: str, pages: dict[str, dict], folder: Path) -> list[str]:
    "Links within the site that lead to no file or no anchor."
    out = set()
    for page, seen in pages.items():
        for link in set(seen["links"]):
            parts = urlsplit(link)
            path = unquote(parts.path).lstrip("/") or "index.html"
            path = path + "index.html" if path.endswith("/") else path
            if not (folder / path).exists():
                out.add(f"{page}: {path} does not exist")
            elif parts.fragment and path in pages and unquote(parts.fragment) not in pages[path]["ids"]:
                out.add(f"{page}: {path} has no #{unquote(parts.fragment)}")
    return sorted(out)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("docs", type=Path)
    p.add_argument("--chapters", nargs="*", default=[], metavar="PAGE", help="pages that must open with a figure")
    a = p.parse_args()
    names = sorted(f.relative_to(a.docs).as_posix() for f in a.docs.rglob("*.html") if "site_libs" not in f.parts)
    pages, bad = {}, []
    with served(a.docs) as base, browser() as driver:
        for page in names:
            for width, scheme in VIEWS:
                seen, found = look(driver, base, page, width, scheme)
                bad += [f"{page} {width} {scheme}: {b}" for b in found]
            pages[page] = seen
        bad += nowhere(base, pages, a.docs)
    for page in a.chapters:
        if (top := pages[page]["figure"]) is None or top > FIGURE:
            bad.append(f"{page}: first figure at {top} px, not within {FIGURE}")
    for b in bad:
        print(" ", b)
    kinds = Counter("wide" if ": wider" in b else "contrast" if ": contrast" in b else "other" for b in bad)
    print(f"{len(names)} pages in {len(VIEWS)} views, {len(bad)} problems" + (f" ({dict(kinds)})" if bad else ""))
    return bool(bad) or not names


if __name__ == "__main__":
    sys.exit(main())
