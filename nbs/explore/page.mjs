// The live page: a feed, a flux or a pressure; what NF270 rejects with its interval, what a membrane set by hand does, what a
// vessel of elements makes of it.

import { contradicting, interpolate, loadAnswer, notesOf, offOwn, once, ownErrors, quantile, readFeed, reweighed, summarise, withCoupons } from "./answer.mjs";
import { drawChart } from "./chart.mjs";
import { InputError, prepare, solve, sweep } from "./dspmde.mjs";
import { closing, feedControls } from "./feed.mjs";
import { askAll, moduleControls, solveModule } from "./plant.mjs";
import { PAIRS, UNITS, amount, analysis, ownTable, percent, readOwn, unitOf } from "./water.mjs";
import { choice, element, jobs, numberRow, save, savePicture, tabs } from "./widgets.mjs";

const CURVE = 22; // fluxes of a curve
const COUPONS = 3; // coupons a membrane meets when own measurements weigh it
const FIELDS = [
  { key: "r_pore", label: "Pore radius", unit: "nm", si: "nm", min: 0.3, max: 0.8, step: 0.005 },
  { key: "thickness", label: "Thickness over porosity", unit: "µm", si: "um", min: 0.1, max: 6, step: 0.01 },
  { key: "charge_density", label: "Fixed charge", unit: "mol/m³", si: null, min: -300, max: 300, step: 1 },
  { key: "eps_pore", label: "Permittivity in the pore", unit: "", si: null, min: 30, max: 78, step: 0.1 },
];
const TABS = { answer: "NF270, with its interval", hand: "A membrane you set", module: "A vessel of NF270" };

async function readJson(name) {
  const inline = document.querySelector(`script[data-file="${name}"]`);
  if (inline) return JSON.parse(inline.textContent);
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return answer.json();
}

const startState = (data) => ({
  feed: { ...data.waters.find((w) => w.id === "brackish well").feed }, close: "HCO3-", unit: "mg/L", by: "flux", flux: 40, pressure: 5, kind: "observed",
  ownFilm: false, film: 25, pH: null, tab: "answer", membrane: {}, own: [], module: { element: Object.keys(data.module.elements)[0], count: 6, flow: 8, by: "recovery", pressure: 3, recovery: 50 },
});

// What the address says after '#', over the start; what it does not know, or what is out of range, is left out.
export function readHash(text, data) {
  const s = startState(data), query = new URLSearchParams(text.replace(/^#/, "")), feed = {};
  for (const [written, value] of query) {
    const key = written.replace(/ /g, "+"), x = Number(value), ok = value !== "" && Number.isFinite(x), between = (low, high) => ok && x >= low && x <= high;
    if (key in data.ions && between(0, 5000)) feed[key] = x;
    else if (key === "close" && (value === "" || value in data.ions)) s.close = value;
    else if (key === "unit" && value in UNITS) s.unit = value;
    else if (key === "tab" && value in TABS) s.tab = value;
    else if (key === "kind" && ["observed", "intrinsic"].includes(value)) s.kind = value;
    else if (key === "flux" && between(0.5, 210)) [s.flux, s.by] = [x, "flux"];
    else if (key === "pressure" && between(0.2, 40)) [s.pressure, s.by] = [x, "pressure"];
    else if (key === "pH" && between(2, 12)) s.pH = x;
    else if (key === "film" && between(1, 200)) [s.film, s.ownFilm] = [x, true];
    else if (key === "element" && value in data.module.elements) s.module.element = value;
    else if (key === "elements" && between(1, 8)) s.module.count = Math.round(x);
    else if (key === "flow" && between(0.1, 20)) s.module.flow = x;
    else if (key === "recovery" && between(1, 90)) [s.module.recovery, s.module.by] = [x, "recovery"];
    else if (key === "feedPressure" && between(0.2, 60)) [s.module.pressure, s.module.by] = [x, "pressure"];
    else { const f = FIELDS.find((f) => f.key === key); if (f && between(f.min, f.max)) s.membrane[key] = x; }
  }
  if (Object.keys(feed).length) { s.feed = feed; if (!query.has("close") || (s.close && !(s.close in feed))) s.close = closing(feed, data); }
  return s;
}

export async function mount(root) {
  let data, shipped;
  try {
    [data, shipped] = [await readJson("data.json"), loadAnswer(await readJson("answer.json"))];
  } catch (error) {
    root.textContent = `The page could not read its data (${error.message}). Open standalone.html, which holds everything in one file.`;
    return;
  }
  const k = data.constants, { LMH, bar } = k, level = 0.9, fluxMax = 210;
  const grid = Array.from({ length: CURVE }, (_, i) => ((fluxMax * LMH) / 40) * Math.expm1(Math.log1p(40) * ((i + 0.25) / (CURVE - 0.75))));
  const state = readHash(location.hash, data), neutralPH = shipped.acidity.reference, problems = new Map(), run = jobs();
  const start = Object.fromEntries(FIELDS.map((f) => [f.key, Number((data.membrane[f.key] / (k[f.si] ?? 1)).toPrecision(12))]));
  state.membrane = { ...start, ...state.membrane };
  let answer = shipped, taught = null, view = null, hovered = null, pinned = null, queued = false, speak = 0;
  const ask = () => { if (!queued) { queued = true; requestAnimationFrame(() => { queued = false; update(); }); } };
  const set = (key) => (x) => { if (x !== null) state[key] = x; ask(); };

  // ---- controls
  const feed = feedControls(state, data, problems, ask);
  const fluxRow = numberRow({ key: "flux", label: "Water flux", unit: "L m⁻² h⁻¹", spoken: "litres per square metre and hour", value: state.flux, min: 0.5, max: fluxMax, step: 0.5, problems, onchange: set("flux") });
  const pressureRow = numberRow({ key: "pressure", label: "Pressure", unit: "bar", value: state.pressure, min: 0.2, max: 40, step: 0.1, problems, onchange: set("pressure") });
  const filmRow = numberRow({ key: "film", label: "Film thickness", unit: "µm", spoken: "micrometres", value: state.film, min: 1, max: 200, step: 1, problems, onchange: set("film") });
  const pHRow = numberRow({ key: "pH", label: "Feed pH", unit: "", spoken: "pH", value: state.pH ?? neutralPH, min: 2, max: 12, step: 0.1, problems, onchange: set("pH") });
  const charge = choice({ id: "ie-charge", "aria-label": "Charge of the membrane" }, [["measured", `as measured, pH ${shipped.pH.join(" to ")}`], ["pH", "that of a pH"]], state.pH === null ? "measured" : "pH",
    (v) => { state.pH = v === "pH" ? neutralPH : null; pHRow.set(neutralPH); show(); ask(); });
  const acid = element("fieldset", { class: "acidity" }, element("legend", {}, "Charge"), element("div", { class: "pick" }, element("label", { for: "ie-charge" }, "Charge of the membrane"), charge), pHRow.node);
  const by = choice({ id: "ie-by", "aria-label": "Given" }, [["flux", "flux"], ["pressure", "pressure"]], state.by, (v) => { state.by = v; show(); ask(); });
  const side = () => (state.kind === "intrinsic" ? "intrinsic" : state.ownFilm ? "film" : "observed");
  const kind = choice({ id: "ie-kind", "aria-label": "Rejection against" }, [["observed", "the bulk feed, film as laboratories have it"], ["film", "the bulk feed, film of my own"], ["intrinsic", "the wall (intrinsic, no film)"]], side(),
    (v) => { state.kind = v === "intrinsic" ? v : "observed"; state.ownFilm = v === "film"; show(); ask(); });
  const operating = element("fieldset", { class: "operating" }, element("legend", {}, "Operating point"), element("div", { class: "pick" }, element("label", { for: "ie-by" }, "Given"), by), fluxRow.node, pressureRow.node,
    element("div", { class: "pick" }, element("label", { for: "ie-kind" }, "Rejection against"), kind), filmRow.node);
  const membraneRows = FIELDS.map((f) => numberRow({ ...f, key: `membrane-${f.key}`, value: state.membrane[f.key], problems, onchange: (x) => { if (x !== null) state.membrane[f.key] = x; ask(); } }));
  const resetMembrane = element("button", { type: "button", onclick: () => { FIELDS.forEach((f, i) => { state.membrane[f.key] = start[f.key]; membraneRows[i].set(start[f.key]); }); ask(); } }, "Back to the example");
  const byHand = element("fieldset", { class: "hand" }, element("legend", {}, "Membrane"), ...membraneRows.map((r) => r.node), element("div", { class: "pick" }, resetMembrane),
    element("p", { class: "hint" }, "Four numbers of DSPM‑DE; it starts with the example set of another program, which is not a fit to NF270."));
  const vesselControls = moduleControls(state, data, problems, ask);
  const ownText = element("textarea", { id: "ie-own", rows: 4, spellcheck: "false", placeholder: "ion,rejection [%],flux [LMH]\nNa+,45,20\nMg+2,80,20", "aria-describedby": "ie-own-said" });
  const ownSaid = element("p", { class: "hint", id: "ie-own-said", role: "status" });
  const useOwn = element("button", { type: "button", onclick: () => teach() }, "Calibrate with these");
  const saveOwn = element("button", { type: "button", onclick: () => { if (state.own.length) save(ownTable(state.own, data, neutralPH), "own.csv", "text/csv"); else ownSaid.textContent = "There are no own measurements yet: paste a table and calibrate with it."; } }, "Save them for Python");
  const dropOwn = element("button", { type: "button", onclick: () => { state.own = []; answer = shipped; taught = null; ownText.value = ""; ownSaid.textContent = ""; update(); } }, "Forget them");
  const own = element("details", { class: "own" }, element("summary", {}, "Own measurements of your coupon"), element("label", { class: "hint", for: "ie-own" }, "Paste a table, measured in the feed above and at the pH below it, if you set one; more feeds one after the other. Values with a pressure are drawn at the flux the answer gives to it. A link does not carry them."),
    ownText, element("div", { class: "pick" }, useOwn, saveOwn, dropOwn), ownSaid);
  function show() {
    fluxRow.node.hidden = state.by !== "flux"; pressureRow.node.hidden = state.by !== "pressure"; filmRow.node.hidden = side() !== "film";
    if (state.by !== "flux") problems.delete("flux"); else problems.delete("pressure");
    if (side() !== "film") problems.delete("film");
    acid.hidden = state.tab === "hand"; pHRow.node.hidden = state.pH === null;
    if (state.pH === null || state.tab === "hand") problems.delete("pH");
    operating.hidden = state.tab === "module"; byHand.hidden = state.tab !== "hand"; vesselControls.hidden = state.tab !== "module"; own.hidden = state.tab === "hand";
    for (const key of [...problems.keys()]) if ((key.startsWith("module-") && state.tab !== "module") || (key.startsWith("membrane-") && state.tab !== "hand")) problems.delete(key);
  }

  // ---- results
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-describedby", "ie-summary");
  const notices = element("div", { class: "notices", role: "status" }), summary = element("p", { class: "summary", id: "ie-summary", "aria-live": "polite" });
  const caption = element("caption"), head = element("tr"), body = element("tbody"), facts = element("dl", { class: "facts" }), source = element("p", { class: "source" }), trust = element("p", { class: "trust" });
  const code = element("code"), working = element("span", { class: "working", "aria-hidden": "true" });
  const flash = (button, text) => { const old = button.textContent; button.textContent = text; setTimeout(() => { button.textContent = old; }, 1500); };
  const linkButton = element("button", { type: "button", onclick: async () => { try { await navigator.clipboard.writeText(location.href); flash(linkButton, "Copied"); } catch { flash(linkButton, "Copy it from the address bar"); } } }, "Copy link");
  const csvButton = element("button", { type: "button", onclick: () => view && save(csvOf(), "rejection.csv", "text/csv") }, "Save numbers (CSV)");
  const pngButton = element("button", { type: "button", onclick: async () => { if (view) svg.dataset.saved = await savePicture(svg, "rejection.png"); } }, "Save picture (PNG)");
  const tabBar = tabs(TABS, state.tab, (key) => { state.tab = key; show(); ask(); });
  const results = element("div", { class: "values" }, summary,
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Values" }, element("table", { class: "results" }, caption, element("thead", {}, head), body)), facts, source, trust,
    element("div", { class: "actions" }, linkButton, csvButton, pngButton), element("details", { class: "code" }, element("summary", {}, "The same in Python"), element("pre", {}, code)));
  root.replaceChildren(tabBar.node, element("div", { class: "layout", id: "ie-results", role: "tabpanel" }, element("div", { class: "picture" }, svg, working, notices),
    element("form", { class: "controls", "aria-label": "Feed, operating point and membrane", onsubmit: (e) => e.preventDefault() }, feed.node, operating, byHand, vesselControls, acid, own), results));

  // ---- own measurements
  async function teach() {
    let values;
    try {
      const water = feed.water(), rows = readOwn(ownText.value, water, data);
      values = [...state.own, ...rows.map((r) => ({ ...r, feed: water, kind: state.kind, pH: state.pH }))];
      if (new Set(values.map((v) => v.flux === null)).size > 1) throw new InputError("Some of these values have a flux and some a pressure: give all of them one of the two.");
      if (values.length > 60) throw new InputError("More than 60 own values: the best are few, in different feeds.");
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      ownSaid.textContent = error.message;
      return;
    }
    state.own = values;
    ownText.value = "";
    const many = withCoupons(shipped, COUPONS);
    await run(function* work() {
      const said = [], told = once(values);
      for (const m of many.members) { said.push(offOwn(m, many, told, data, 1e-5)); yield undefined; }
      yield { ...reweighed(many, ownErrors(many, told, said, data), shipped.members.length), off: contradicting(many.members, said, told) };
    }, (found) => {
      if (!found) return;
      answer = found.answer;
      taught = found;
      const feeds = new Set(values.map((v) => JSON.stringify(v.feed))).size;
      ownSaid.textContent = `Calibrated with ${values.length} value${values.length > 1 ? "s" : ""} in ${feeds} feed${feeds > 1 ? "s" : ""}: they leave ${found.distinct} of ${many.members.length} membranes (worth ${found.effective.toFixed(1)} independent ones).`
        + found.off.map((v) => ` ${data.ions[v.ion].label} ${percent(v.rejection)} % lies outside the ${percent(v.low)} to ${percent(v.high)} % expected of 99 in 100: check it, or the membrane is another.`).join("")
        + (found.effective < 20 ? " That is few: the interval is too narrow to be trusted; Answer.calibrate in Python looks for more." : "");
      update();
    }, fail);
    remember();
  }

  // ---- computing
  const fail = (error) => {
    if (!(error instanceof InputError)) { console.error(error); blank([`The page failed: ${error.message}.`]); return; }
    blank([sentence(error.message)]);
  };
  const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
  function blank(messages) { // nothing stale stays
    view = null;
    working.textContent = "";
    notices.replaceChildren(...[...new Set(messages)].map((m) => element("p", {}, m)));
    for (const node of [head, body, facts, source, caption, code]) node.replaceChildren();
    summary.textContent = "No values at this setting.";
    trust.textContent = "";
    svg.innerHTML = "";
    svg.setAttribute("viewBox", "0 0 600 1");
    svg.removeAttribute("aria-label");
    root.dataset.state = "none";
  }
  const film = () => (state.kind === "intrinsic" ? 0 : state.ownFilm ? state.film * k.um : null);
  function update() {
    root.dataset.state = "working";
    run(function* nothing() {}, () => {}, fail); // ends the job before
    let water;
    try {
      if (problems.size) throw new InputError([...problems.values()].join(" "));
      water = feed.water();
    } catch (error) { fail(error); remember(); return; }
    feed.showPreset([...data.waters, ...data.mixtures].find((w) => sameFeed(w.feed, water, w.close))?.id ?? "");
    remember();
    if (state.tab === "hand") { try { byOwnMembrane(water); } catch (error) { fail(error); } return; }
    working.textContent = "computing …";
    if (state.tab === "module") {
      run(() => solveModule(state, data, water, answer), (v) => { if (v) { view = { ...v, feed: water }; shown(v.notes, true); } }, fail);
      return;
    }
    const f = readFeed(water, data), chosen = state.by === "flux" ? { flux: [state.flux * LMH] } : { pressure: [state.pressure * bar] };
    const asked = { kind: state.kind, film: film(), pH: state.pH };
    run(function* work() {
      let point = null;
      for (const at of askAll(answer, f, data, { ...asked, ...chosen }, summarise)) { if (at) point = at; yield at && { point: at }; }
      if (!Number.isFinite(point.flux[0])) return;
      for (const curve of askAll(answer, f, data, { ...asked, flux: grid, tolerance: 1e-5 }, summarise)) yield curve && { point, curve };
    }, (v, done) => {
      if (v) {
        if (!Number.isFinite(v.point.flux[0])) { blank([`No water passes at ${state.pressure} bar: the osmotic difference at the wall is as large. Raise the pressure.`]); return; }
        view = { f, feed: water, point: v.point, curve: v.curve ?? null };
        shown(notesOf(answer, f, v.point.flux[0], data, state.pH), Boolean(v.curve));
      }
      if (done && view) { working.textContent = ""; root.dataset.state = "done"; }
    }, fail);
  }
  // The same water; the ion that closes a balance may be what rounding leaves, or, where `but` names it, anything.
  const sameFeed = (a, b, but = null) => [...new Set([...Object.keys(a), ...Object.keys(b)])].every((n) => n === but
    || Math.abs((a[n] ?? 0) - (b[n] ?? 0)) <= (n === state.close ? 0.005 : 2e-6) * Math.max(a[n] ?? 0, b[n] ?? 0));
  const membraneSI = () => ({ ...data.membrane, ...Object.fromEntries(FIELDS.map((f) => [f.key, state.membrane[f.key] === start[f.key] ? data.membrane[f.key] : state.membrane[f.key] * (k[f.si] ?? 1)])) });
  function byOwnMembrane(water) {
    const membrane = membraneSI(), thick = state.kind === "intrinsic" ? 0 : state.ownFilm ? state.film * k.um : shipped.prior.film[0];
    const problem = prepare(water, membrane, data, thick), RT = k.gasConstant * k.temperature, curve = sweep(problem, grid);
    const needs = (s) => s.flux / membrane.permeability + RT * s.wall.reduce((sum, w, i) => sum + w - s.cPerm[i], 0);
    let at;
    if (state.by === "flux") at = solve(problem, state.flux * LMH);
    else { // bisection on the pressure a flux needs, which rises with the flux
      let low = 0, high = membrane.permeability * state.pressure * bar;
      if (needs(solve(problem, high * 1e-4)) > state.pressure * bar) throw new InputError(`No water passes at ${state.pressure} bar: the osmotic difference is as large. Raise the pressure`);
      for (let n = 0; n < 50 && high - low > 1e-9 * high; n++) {
        at = solve(problem, (low + high) / 2, at);
        if (needs(at) > state.pressure * bar) high = at.flux; else low = at.flux;
      }
    }
    if (!at.converged) throw new InputError("DSPM‑DE has no certified solution here");
    view = { hand: { at, curve, problem, membrane, pressure: needs(at), film: thick }, feed: water };
    const f = readFeed(water, data), failed = curve.filter((s) => !s.converged).length;
    const shut = problem.blocked.map((n) => data.ions[n].label).join(", ");
    const notes = shut ? [`${shut}: wider than the pore, so none of it passes, and it keeps the charge it needs with it.`] : [];
    shown([...notes, ...(failed ? [`DSPM‑DE has no certified solution at ${failed} of ${grid.length} fluxes of the curves; nothing is drawn there.`] : [])], true);
    view.f = f;
  }

  function shown(messages, done) {
    notices.replaceChildren(...[...new Set(messages)].map((m) => element("p", {}, m)));
    if (done) { working.textContent = ""; root.dataset.state = "done"; }
    fill();
    draw();
    clearTimeout(speak);
    speak = setTimeout(say, 500);
  }

  // ---- values
  const present = () => Object.keys(data.ions).filter((n) => view && view.feed[n] > 0);
  const number = (value, text, what, name = what) => element("td", { class: name }, element("data", { value: String(value), "data-what": what }, text));
  const span = (low, high, text = percent) => (Number.isFinite(low) ? `${text(low)} to ${text(high)}` : "–");
  const inUnit = (n, c) => `${amount(UNITS[state.unit](c, data.ions[n]))}${unitOf(data.ions[n], state.unit) === state.unit ? "" : " mM"}`;
  function ofIon(n) { // rejection, ends and permeate of one ion as the tab has it
    if (view.ions) return { ...view.ions[n].rejection, rejection: view.ions[n].rejection.value, perm: view.ions[n].perm.value, conc: view.ions[n].conc.value };
    if (view.hand) { const i = view.hand.at.names.indexOf(n); return { rejection: view.hand.at.rejection[i], perm: view.hand.at.cPerm[i] }; }
    const r = view.point.ions[n];
    return { rejection: r.rejection[0], lower: r.lower[0], upper: r.upper[0], perm: view.feed[n] * (1 - r.rejection[0]) };
  }
  function fill() {
    const wide = state.tab !== "hand", vessel = state.tab === "module";
    head.replaceChildren(...[["Ion", ""], ["Feed", state.unit], [vessel ? "Product" : "Permeate", state.unit], ...(vessel ? [["Concentrate", state.unit]] : []), ["Rejection", "%"], ...(wide ? [[vessel ? "90 % of membranes" : "90 % interval", "%"]] : [])]
      .map(([label, unit]) => element("th", { scope: "col", class: label.toLowerCase().split(" ").pop() }, label, ...(unit ? [element("small", {}, unit)] : []))));
    body.replaceChildren(...present().map((n) => {
      const r = ofIon(n), { label, color } = data.ions[n];
      const enter = (e) => { if (e.pointerType === "mouse") { hovered = n; draw(); } }, leave = () => { hovered = null; draw(); };
      const name = element("button", { type: "button", class: "ion", "aria-pressed": String(pinned === n), title: `Show ${label} alone`, onclick: () => {
        pinned = pinned === n ? null : n;
        for (const other of body.querySelectorAll("button.ion")) other.setAttribute("aria-pressed", String(other === name && pinned !== null));
        draw();
      } }, element("span", { class: "swatch", style: `--ion: ${color}`, "aria-hidden": "true" }), label);
      return element("tr", { "data-ion": n, onpointerenter: enter, onpointerleave: leave }, element("th", { scope: "row" }, name), number(view.feed[n], inUnit(n, view.feed[n]), "feed"),
        number(r.perm, inUnit(n, r.perm), "permeate"), ...(vessel ? [number(r.conc, inUnit(n, r.conc), "concentrate")] : []), number(r.rejection, percent(r.rejection), "rejection"),
        ...(wide ? [element("td", { class: "interval" }, element("data", { value: `${r.lower} ${r.upper}`, "data-what": "interval" }, span(r.lower, r.upper)))] : []));
    }));
    caption.textContent = vessel ? `${state.module.count} × ${state.module.element}, median of ${view.draws} membranes of the sample, each with a coupon of its own`
      : `${state.kind === "observed" ? "Observed" : "Intrinsic"} rejection at ${amount(fluxNow() / LMH)} L m⁻² h⁻¹ by ${state.tab === "hand" ? "the membrane you set" : taught ? "your coupon of NF270" : "NF270"}`;
    facts.replaceChildren(...factsOf().flatMap(([label, what, value, text, unit]) => [element("dt", {}, label), element("dd", {}, element("data", { value: String(value), "data-what": what }, text), unit ? ` ${unit}` : "")]));
    sourceAndTrust();
    code.textContent = python();
  }
  const fluxNow = () => (view.hand ? view.hand.at.flux : view.point ? view.point.flux[0] : null);
  function factsOf() {
    const digits = (x) => amount(x);
    if (view.ions) return view.facts.map(([label, v, unit]) => [label, label, v.value, v.upper - v.lower > 1e-3 * Math.abs(v.value) ? `${digits(v.value)} (${digits(v.lower)} to ${digits(v.upper)})` : digits(v.value), unit]);
    const perm = Object.fromEntries(present().map((n) => [n, ofIon(n).perm])), total = analysis(perm, data), before = analysis(view.feed, data), out = [];
    const P = view.hand ? [view.hand.pressure, null] : [view.point.pressure[0], view.point.pressureEnds[0]], J = view.hand ? [view.hand.at.flux, null] : [view.point.flux[0], view.point.fluxEnds[0]];
    const with_ = ([value, ends], one) => `${digits(value / one)}${ends && ends[1] - ends[0] > 1e-6 * Math.abs(value) ? ` (${digits(ends[0] / one)} to ${digits(ends[1] / one)})` : ""}`;
    out.push(state.by === "flux" ? ["Pressure this flux needs", "pressure", P[0], with_(P, bar), "bar"] : ["Water flux", "flux", J[0], with_(J, LMH), "L m⁻² h⁻¹"]);
    const said = view.point?.said, sample = (f) => (said ? said.map((a) => f(a.rejection[0])).filter(Number.isFinite) : null), i = (n) => view.f.names.indexOf(n);
    const ends = (values) => (values ? ` (${digits(quantile(values, 0.05))} to ${digits(quantile(values, 0.95))})` : "");
    const solids = sample((R) => view.f.names.reduce((s, n, j) => s + view.feed[n] * (1 - R[j]) * data.ions[n].mass, 0));
    out.push(["Permeate, dissolved solids", "solids", total.solids, digits(total.solids) + ends(solids), `mg/L, of ${digits(before.solids)}`]);
    if (before.hardness > 0) out.push(["Permeate, hardness", "hardness", total.hardness, digits(total.hardness) + ends(sample((R) => analysis(Object.fromEntries(["Ca+2", "Mg+2"].filter((n) => i(n) >= 0).map((n) => [n, view.feed[n] * (1 - R[i(n)])])), data).hardness)), `mg/L as CaCO₃, of ${digits(before.hardness)}`]);
    for (const [a, b] of PAIRS) if (view.feed[a] > 0 && view.feed[b] > 0) {
      const all = said ? sample((R) => (1 - R[i(a)]) / (1 - R[i(b)])) : null, value = all ? quantile(all, 0.5) : (1 - ofIon(a).rejection) / (1 - ofIon(b).rejection);
      out.push([`Selectivity ${data.ions[a].label} over ${data.ions[b].label}`, `selectivity ${a} ${b}`, value, digits(value) + ends(all), ""]);
    }
    return out;
  }
  function sourceAndTrust() {
    const mixture = mixtureNow(), t = shipped.trust, r = shipped.ranges, share = (x) => `${Math.round(100 * x)} %`;
    source.replaceChildren(...(mixture && state.tab !== "module" ? [`Markers: measured on NF270 at ${mixture.temperature} K, ${mixture.kind === "intrinsic" ? "corrected to the concentration at the wall" : "as observed, against the bulk feed"} (`,
      element("a", { href: `https://doi.org/${mixture.doi}`, rel: "external" }, mixture.doi), state.tab === "hand" ? ")." : "). The membranes were learned from them too, so agreement proves nothing."] : []));
    trust.textContent = state.tab === "hand" ? "What to trust: the equations, to nine digits; that four numbers describe a membrane, not: they miss other mixtures by a lot."
      : `What to trust: ${shipped.values} values of ${Object.keys(shipped.sources).length} studies stand behind this, at pH ${shipped.pH.join(" to ")}, 20 to 25 °C, ${amount(r.flux_m_s[0] / LMH)} to ${amount(r.flux_m_s[1] / LMH)} L m⁻² h⁻¹ and ${amount(r.equivalents_mol_m3[0])} to ${amount(r.equivalents_mol_m3[1])} eq/m³. `
        + (state.tab === "module" ? "The spread is that of membranes and coupons; film correlation and element are taken as known." : `Intervals meant to hold 90 % held ${share(t.sources)} of values of laboratories left out and ${share(t.compositions)} of compositions left out (${share(t.worst)} in the worst case): trust the interval, not the middle of it.`);
  }
  function python() {
    const feedText = `feed = {${present().map((n) => `"${n}": ${Number(view.feed[n].toPrecision(12))}`).join(", ")}}  # mol/m³`;
    const at = state.by === "flux" ? `${state.flux} * LMH` : `pressure=${state.pressure} * bar`, side_ = `kind="${state.kind}"${state.kind === "observed" && state.ownFilm ? `, film=${state.film} * um` : ""}`;
    const calibrated = taught ? `model = model.calibrate("own.csv")  # what “Save them for Python” writes; a fuller search than the page's` : null;
    const pH_ = state.pH === null ? "" : `, pH=${state.pH}`;
    if (state.tab === "hand") {
      const changed = FIELDS.filter((f) => state.membrane[f.key] !== start[f.key]).map((f) => `${f.key}=${state.membrane[f.key]}${f.si ? ` * ${f.si}` : ""}`);
      const film_ = view.hand.film > 0 ? `, film=Film(thickness=${Number((view.hand.film / k.um).toPrecision(6))} * um)` : "";
      return ["from ion_ode import Film, NF270_WATERTAP, simulate", "from ion_ode.core import LMH, bar, nm, um", "", feedText, `membrane = NF270_WATERTAP${changed.length ? `.with_(${changed.join(", ")})` : ""}`,
        `result = simulate(feed, ${at}, membrane=membrane${film_}).to_frame()`].join("\n");
    }
    if (state.tab === "module") {
      const m = state.module, given = m.by === "pressure" ? `pressure=${m.pressure} * bar` : `recovery=${m.recovery / 100}`;
      return ["from ion_ode import Plant, Stage, load_model, simulate_plant", "from ion_ode.core import bar", "from ion_ode.module.answers import intervals", "", feedText, `model = load_model("nf270")`, ...(calibrated ? [calibrated] : []),
        `plant = Plant(Stage("${m.element}", elements=${m.count}))`, `result = intervals(simulate_plant(feed, plant, feed_flow=${m.flow} / 3600, ${given}, membrane=model.thinned(${view.draws})${pH_}, throw=False))`].join("\n");
    }
    return ["from ion_ode import load_model", "from ion_ode.core import LMH, bar, um", "", feedText, `model = load_model("nf270")`, ...(calibrated ? [calibrated] : []), `result = model.predict(feed, ${at}, ${side_}${pH_})`].join("\n");
  }
  function say() {
    if (!view) return;
    const values = present().map((n) => { const r = ofIon(n); return `${data.ions[n].label} ${percent(r.rejection)}\u00a0%${Number.isFinite(r.lower) ? ` (${span(r.lower, r.upper)})` : ""}`; });
    const flux = fluxNow();
    summary.textContent = `Rejected${flux ? ` at ${amount(flux / LMH)} L m⁻² h⁻¹` : " by the vessel"}: ${values.join(", ")}.`;
  }

  // ---- drawing
  const mixtureNow = () => view && data.mixtures.find((m) => sameFeed(m.feed, view.feed));
  const fluxOf = (pressure) => (view.curve ? interpolate(pressure, view.curve.pressure, view.curve.flux) : null); // where a value with a pressure is drawn
  let size = [0, 0];
  function draw() {
    if (!view) return;
    const width = Math.max(280, Math.round(svg.parentElement.clientWidth)), height = Math.round(Math.min(440, Math.max(width < 520 ? 250 : 300, width * 0.55)));
    const highlight = present().find((n) => n === (hovered ?? pinned)) ?? null, flux = fluxNow(), mixture = mixtureNow(), vessel = Boolean(view.ions);
    const series = present().map((n) => {
      const curves = [], i = vessel ? view.names.indexOf(n) : view.f ? view.f.names.indexOf(n) : view.hand.at.names.indexOf(n);
      if (vessel) curves.push({ flux: view.places.map((p) => p.share), rejection: view.places.map((p) => 1 - p.perm[i] / p.bulk[i]) });
      else if (view.hand) curves.push({ flux: grid, rejection: view.hand.curve.map((s) => s.rejection[i]), at: view.hand.at.rejection[i] });
      else if (view.curve) curves.push({ flux: view.curve.flux, ...view.curve.ions[n], at: view.point.ions[n].rejection[0] });
      const measured = vessel ? [] : [...(mixture?.points ?? []).filter((p) => p[0] === n).map(([, j, r, sd]) => ({ flux: j, rejection: r, sd })),
        ...(state.tab === "answer" ? state.own.filter((v) => v.ion === n && sameFeed(v.feed, view.feed)).map((v) => ({ flux: v.flux ?? fluxOf(v.pressure), rejection: v.rejection, sd: v.sd, own: true })).filter((v) => v.flux !== null) : [])];
      return { ion: n, ...data.ions[n], curves, measured };
    });
    const picture = drawChart({ series, fluxMax: vessel ? 1 : fluxMax * LMH, flux: vessel ? null : flux, unit: vessel ? 0.01 : LMH, width, height, highlight, ...(vessel ? { title: "Way along the vessel (%)" } : {}) });
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("aria-label", `Rejection of ${present().map((n) => data.ions[n].label).join(", ")} ${vessel ? "along the vessel" : "against water flux"}; the values are in the table below`);
    svg.innerHTML = picture.svg;
    svg.fluxAt = vessel || state.by !== "flux" ? null : picture.fluxAt;
    size = [width, height];
  }
  new ResizeObserver(() => { if (svg.parentElement.clientWidth !== size[0]) draw(); }).observe(svg.parentElement);
  const drag = (event) => {
    if (!svg.fluxAt || (event.type === "pointermove" && !event.buttons)) return;
    const box = svg.getBoundingClientRect(), J = Math.max(0.5, Math.round(svg.fluxAt(((event.clientX - box.left) / box.width) * size[0]) / LMH));
    state.flux = J;
    fluxRow.set(J);
    ask();
  };
  svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); drag(event); });
  svg.addEventListener("pointermove", drag);

  // ---- links and files
  function remember() {
    const m = state.module, changed = FIELDS.filter((f) => state.membrane[f.key] !== start[f.key]).map((f) => [f.key, state.membrane[f.key]]);
    const pairs = [...Object.entries(state.feed).map(([n, c]) => [n, Number(c.toPrecision(8))]), ["close", state.close], ["unit", state.unit], [state.by, state[state.by]], ["kind", state.kind], ...(state.ownFilm ? [["film", state.film]] : []), ...(state.pH === null ? [] : [["pH", state.pH]]),
      ["tab", state.tab], ...(state.tab === "hand" ? changed : []), ...(state.tab === "module" ? [["element", m.element], ["elements", m.count], ["flow", m.flow], m.by === "recovery" ? ["recovery", m.recovery] : ["feedPressure", m.pressure]] : [])];
    try { history.replaceState(null, "", `#${new URLSearchParams(pairs)}`); } catch { /* a page inside a frame may not */ }
  }
  addEventListener("hashchange", () => location.reload());
  function csvOf() {
    const line = (cells) => cells.map((c) => (c === null || c === undefined || Number.isNaN(c) ? "" : String(c))).join(","), out = [];
    if (view.ions) {
      out.push("stream,ion,c_feed_mol_m3,c_product_mol_m3,c_concentrate_mol_m3,rejection,lower,upper");
      for (const n of present()) { const r = ofIon(n); out.push(line(["vessel", n, view.feed[n], r.perm, r.conc, r.rejection, r.lower, r.upper])); }
      return `${out.join("\n")}\n`;
    }
    out.push("flux_m_s,ion,c_feed_mol_m3,rejection,lower,upper");
    const add = (J, n, r, low, high) => out.push(line([J, n, view.feed[n], r, low, high]));
    for (const n of present()) {
      const r = ofIon(n);
      add(fluxNow(), n, r.rejection, r.lower, r.upper);
      if (view.hand) view.hand.curve.forEach((s) => add(s.flux, n, s.rejection[s.names.indexOf(n)]));
      else view.curve?.flux.forEach((J, i) => add(J, n, view.curve.ions[n].rejection[i], view.curve.ions[n].lower[i], view.curve.ions[n].upper[i]));
    }
    return `${out.join("\n")}\n`;
  }

  show();
  update();
  root.dataset.ready = "true";
}
