// The live page: neutral salts and the water flux on sliders, the rejection of every ion as a drawing and as a table.

import { InputError, prepare, solve, sweep } from "./dspmde.mjs";
import { loadNetwork, predictNetwork } from "./network.mjs";
import { drawChart } from "./chart.mjs";

const POINTS = 56; // fluxes of a curve, dense near zero where curves are steep
const START = { salts: { NaCl: 10, MgCl2: 10, MgSO4: 10 }, flux: 50 };
const LOG_RANGE = [-2, 3]; // decades of the concentration sliders, mol/m³
const MEMBRANE_FIELDS = [
  { key: "r_pore", label: "Pore radius", unit: "nm", si: "nm", min: 0.4, max: 0.8, step: 0.005 },
  { key: "thickness", label: "Thickness over porosity", unit: "µm", si: "um", min: 0.2, max: 4, step: 0.01 },
  { key: "charge_density", label: "Fixed charge", unit: "mol/m³", si: null, min: -200, max: 100, step: 1 },
  { key: "eps_pore", label: "Permittivity in the pore", unit: "", si: null, min: 34, max: 78, step: 0.1 },
];

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const minus = (text) => text.replace("-", "−");
// One decimal; above 99.9 % as many as show the first digit that is not a nine.
const percent = (r) => {
  if (!Number.isFinite(r)) return "–";
  if (r > 0.9999999) return r === 1 ? "100" : ">99.99999";
  const digits = r > 0.999 ? Math.ceil(-Math.log10(1 - r)) - 2 : 1;
  return minus((100 * r).toFixed(Math.max(1, digits)));
};
const amount = (c) => {
  if (!Number.isFinite(c)) return "–";
  if (c === 0) return "0";
  if (c < 1e-4) return minus(c.toExponential(1));
  return String(Number(c.toPrecision(3)));
};

async function readJson(name) {
  const inline = document.querySelector(`script[data-file="${name}"]`);
  if (inline) return JSON.parse(inline.textContent);
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return answer.json();
}

// What the address says after '#', over the defaults; anything it does not know is left out.
function readHash(text, data, fluxMax) {
  const query = new URLSearchParams(text.replace(/^#/, "")), salts = {}, membrane = {};
  let flux = START.flux;
  for (const [key, value] of query) {
    const x = Number(value), field = MEMBRANE_FIELDS.find((f) => f.key === key);
    if (!Number.isFinite(x) || value === "") continue;
    if (Object.hasOwn(data.salts, key) && x >= 0) salts[key] = Math.min(x, 10 ** LOG_RANGE[1]);
    else if (key === "flux" && x >= 0) flux = Math.min(x, fluxMax);
    else if (field) membrane[key] = Math.min(field.max, Math.max(field.min, x));
  }
  return { salts: Object.keys(salts).length ? salts : { ...START.salts }, flux, membrane };
}

function feedOf(salts, data) {
  const feed = Object.fromEntries(Object.keys(data.ions).map((ion) => [ion, 0]));
  for (const [salt, c] of Object.entries(salts))
    for (const [ion, n] of Object.entries(data.salts[salt].ions)) feed[ion] += n * c;
  return feed;
}

// Water flux to applied pressure: Δp = J/A + Δπ, with van 't Hoff's osmotic pressure.
export function pressure(flux, membrane, cFeed, cPerm, k) {
  const osmotic = k.gasConstant * k.temperature * cFeed.reduce((sum, c, i) => sum + c - cPerm[i], 0);
  return flux / membrane.permeability + osmotic;
}

export async function mount(root) {
  let data, network;
  try {
    data = await readJson("data.json");
    network = data.network && loadNetwork(await readJson(data.network));
  } catch (error) {
    root.textContent = `The page could not read its data (${error.message}). Open standalone.html, which holds everything in one file.`;
    return;
  }
  const k = data.constants, LMH = k.LMH, interval = network && `${Number((100 * network.interval.level).toPrecision(3))} % interval`;
  const measuredMax = Math.max(...data.mixtures.flatMap((m) => m.points.map((p) => p[1])));
  const fluxMax = Math.ceil(measuredMax / LMH / 10) * 10; // the axis ends where the measurements do
  const grid = Array.from({ length: POINTS }, (_, i) => ((fluxMax * LMH) / 60) * Math.expm1(Math.log1p(60) * (i / (POINTS - 1))));
  const state = readHash(location.hash, data, fluxMax);
  const show = { dspmde: true, network: Boolean(network), band: Boolean(network), measured: true };
  const shipped = Object.fromEntries(MEMBRANE_FIELDS.map((f) => [f.key, Number((data.membrane[f.key] / (k[f.si] ?? 1)).toPrecision(12))]));
  state.membrane = { ...shipped, ...state.membrane };
  let curveKey = "", problem = null, dspmde = null, predicted = null, hovered = null, pinned = null, speak = 0, queued = false;
  const changedMembrane = () => MEMBRANE_FIELDS.some((f) => state.membrane[f.key] !== shipped[f.key]);
  const membraneSI = () => {
    const out = { ...data.membrane };
    for (const f of MEMBRANE_FIELDS)
      if (state.membrane[f.key] !== shipped[f.key]) out[f.key] = state.membrane[f.key] * (k[f.si] ?? 1);
    return out;
  };

  // ---- controls
  const ask = () => { if (!queued) { queued = true; requestAnimationFrame(() => { queued = false; update(); }); } };
  const row = (name, label, unit, range, number, extra = "") => element("div", { class: "row", "data-name": name },
    element("span", { class: "name" }, label), number, element("span", { class: "unit" }, unit), extra, range);

  const saltRows = element("div", { class: "salts" });
  const decades = (c) => (c > 0 ? Math.max(LOG_RANGE[0], Math.log10(c)) : LOG_RANGE[0]);
  function saltRow(salt) {
    const { label } = data.salts[salt];
    const says = (c) => `${amount(c)} mol per cubic metre`;
    const range = element("input", { type: "range", min: LOG_RANGE[0], max: LOG_RANGE[1], step: 0.01, value: decades(state.salts[salt]),
      id: `salt-${salt}`, "aria-label": `${label} concentration, logarithmic slider`, "aria-valuetext": says(state.salts[salt]) });
    const number = element("input", { type: "number", min: 0, max: 10 ** LOG_RANGE[1], step: "any", inputmode: "decimal", value: state.salts[salt],
      "aria-label": `${label} concentration in mol per cubic metre` });
    range.addEventListener("input", () => {
      state.salts[salt] = Number((10 ** Number(range.value)).toPrecision(3));
      number.value = state.salts[salt];
      range.setAttribute("aria-valuetext", says(state.salts[salt]));
      ask();
    });
    number.addEventListener("input", () => {
      const c = Number(number.value), good = number.value !== "" && c >= 0 && c <= 10 ** LOG_RANGE[1];
      number.setAttribute("aria-invalid", String(!good));
      if (!good) return;
      state.salts[salt] = c;
      range.value = decades(c);
      range.setAttribute("aria-valuetext", says(c));
      ask();
    });
    const remove = element("button", { type: "button", class: "icon", "aria-label": `Remove ${label}`, title: `Remove ${label}`,
      onclick: () => { delete state.salts[salt]; fillSalts(); (saltRows.querySelector("input") ?? adder).focus(); ask(); } }, "×");
    return row(salt, label, "mol/m³", range, number, remove);
  }
  const adder = element("select", { "aria-label": "Add a salt", onchange: () => {
    if (!adder.value) return;
    const salt = adder.value;
    state.salts[salt] = 1;
    fillSalts();
    saltRows.querySelector(`[data-name="${CSS.escape(salt)}"] input`).focus();
    ask();
  } });
  function fillSalts() {
    saltRows.replaceChildren(...Object.keys(state.salts).map(saltRow));
    const rest = Object.keys(data.salts).filter((s) => !(s in state.salts));
    adder.replaceChildren(element("option", { value: "" }, "Add a salt …"), ...rest.map((s) => element("option", { value: s }, data.salts[s].label)));
  }
  const preset = element("select", { id: "ie-preset", onchange: () => {
    const mixture = data.mixtures.find((m) => m.id === preset.value);
    if (!mixture && preset.value !== "start") return;
    state.salts = { ...(mixture?.salts ?? START.salts) };
    fillSalts();
    ask();
  } },
    element("option", { value: "" }, "Your own mixture"), element("option", { value: "start" }, "Three salts"),
    element("optgroup", { label: "Measured on NF270" }, ...data.mixtures.map((m) => element("option", { value: m.id }, m.label))));

  const fluxRange = element("input", { type: "range", min: 0, max: fluxMax, step: 1, id: "flux", value: state.flux,
    "aria-label": "Water flux, slider", "aria-valuetext": `${state.flux} litres per square metre and hour` });
  const fluxNumber = element("input", { type: "number", min: 0, max: fluxMax, step: "any", inputmode: "decimal", value: state.flux,
    "aria-label": "Water flux in litres per square metre and hour" });
  function setFlux(value, from) {
    const good = value !== "" && Number(value) >= 0 && Number(value) <= fluxMax;
    if (from === fluxNumber) fluxNumber.setAttribute("aria-invalid", String(!good));
    if (!good) return;
    state.flux = Number(value);
    if (from !== fluxNumber) { fluxNumber.value = state.flux; fluxNumber.removeAttribute("aria-invalid"); }
    if (from !== fluxRange) fluxRange.value = state.flux;
    fluxRange.setAttribute("aria-valuetext", `${state.flux} litres per square metre and hour`);
    ask();
  }
  fluxRange.addEventListener("input", () => setFlux(fluxRange.value, fluxRange));
  fluxNumber.addEventListener("input", () => setFlux(fluxNumber.value, fluxNumber));

  const membraneInputs = {};
  const membraneRows = MEMBRANE_FIELDS.map((f) => {
    const range = element("input", { type: "range", id: `membrane-${f.key}`, min: f.min, max: f.max, step: f.step, value: state.membrane[f.key],
      "aria-label": `${f.label}, slider`, "aria-valuetext": `${state.membrane[f.key]} ${f.unit}` });
    const number = element("input", { type: "number", min: f.min, max: f.max, step: "any", inputmode: "decimal", value: state.membrane[f.key],
      "aria-label": `${f.label}${f.unit ? ` in ${f.unit}` : ""}` });
    const set = (value, from) => {
      const good = value !== "" && Number(value) >= f.min && Number(value) <= f.max;
      if (from === number) number.setAttribute("aria-invalid", String(!good));
      if (!good) return;
      state.membrane[f.key] = Number(value);
      if (from !== number) number.value = value;
      if (from !== range) range.value = value;
      range.setAttribute("aria-valuetext", `${value} ${f.unit}`);
      ask();
    };
    range.addEventListener("input", () => set(range.value, range));
    number.addEventListener("input", () => set(number.value, number));
    membraneInputs[f.key] = set;
    return row(f.key, f.label, f.unit, range, number);
  });
  const reset = element("button", { type: "button", onclick: () => { for (const f of MEMBRANE_FIELDS) membraneInputs[f.key](String(shipped[f.key]), null); } }, "Back to NF270");

  // ---- results
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-describedby", "ie-summary");
  const check = (key, label, sample) => {
    const box = element("input", { type: "checkbox", checked: show[key], onchange: () => { show[key] = box.checked; draw(); } });
    return element("label", { class: "toggle", "data-show": key }, box, element("span", { class: `sample ${sample}`, "aria-hidden": "true" }), label);
  };
  const toggles = element("div", { class: "toggles", role: "group", "aria-label": "What to draw" },
    ...(network ? [check("network", "Network", "solid"), check("band", interval, "shade")] : []),
    check("dspmde", "DSPM-DE", network ? "dashed" : "solid"), check("measured", "Measured", "dot"),
    ...(network ? [] : [element("span", { class: "alone" }, "The pore model alone: this version ships no trained network.")]));
  const notices = element("div", { class: "notices", role: "status" });
  const summary = element("p", { class: "summary", id: "ie-summary", "aria-live": "polite" });
  const body = element("tbody"), head = element("tr");
  for (const [label, unit] of [["Ion", ""], ["Feed", "mol/m³"], ["Permeate", "mol/m³"], ["DSPM-DE", "%"],
    ...(network ? [["Network", "%"], [interval, "%"]] : [])])
    head.append(element("th", { scope: "col", class: label === "Permeate" ? "permeate" : label === interval ? "interval" : null }, label, ...(unit ? [element("small", {}, unit)] : [])));
  const caption = element("caption");
  const table = element("table", { class: network ? "with-network" : null }, caption, element("thead", {}, head), body);
  const facts = element("p", { class: "facts" }), source = element("p", { class: "source" }), code = element("code");
  const flash = (button, text) => { const old = button.textContent; button.textContent = text; setTimeout(() => { button.textContent = old; }, 1500); };
  const copy = async (button, text) => {
    try { await navigator.clipboard.writeText(text); flash(button, "Copied"); } catch { flash(button, "Copy it from the address bar"); }
  };
  const linkButton = element("button", { type: "button", onclick: () => copy(linkButton, location.href) }, "Copy link");
  const csvButton = element("button", { type: "button", onclick: () => save() }, "Save curves (CSV)");

  root.replaceChildren(
    element("div", { class: "layout" },
      element("form", { class: "controls", "aria-label": "Feed, flux and membrane", onsubmit: (e) => e.preventDefault() },
        element("fieldset", {}, element("legend", {}, "Feed"),
          element("label", { class: "pick", for: "ie-preset" }, "Start from ", preset),
          saltRows, element("div", { class: "pick" }, adder),
          element("p", { class: "hint" }, "Every slider is a neutral salt, so the feed is always neutral. 1 mol/m³ is 1 mmol/L.")),
        element("fieldset", {}, element("legend", {}, "Water flux"), row("flux", "Flux Jᵥ", "L m⁻² h⁻¹", fluxRange, fluxNumber), facts),
        element("details", { open: changedMembrane() }, element("summary", {}, "Membrane"),
          ...membraneRows, element("div", { class: "pick" }, reset),
          element("p", { class: "hint" }, `An example set of four numbers for NF270 (${data.membrane.source}); it rejects more sodium chloride than was measured. Moving these changes the pore model`,
            network ? " and, where it was trained on many membranes, the network." : "."))),
      element("div", { class: "picture" }, toggles, element("div", { class: "chart" }, svg)),
      element("div", { class: "values" }, notices, source, summary,
        element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Values at the chosen flux" }, table),
        element("div", { class: "actions" }, linkButton, csvButton),
        element("details", { class: "code" }, element("summary", {}, "The same in Python"), element("pre", {}, code)))));

  // ---- computing
  function update() {
    const feed = feedOf(state.salts, data), messages = [];
    preset.value = Object.entries({ start: START.salts, ...Object.fromEntries(data.mixtures.map((m) => [m.id, m.salts])) })
      .find(([, salts]) => sameSalts(salts, state.salts))?.[0] ?? "";
    const membrane = membraneSI();
    const key = JSON.stringify([feed, state.membrane]);
    if (key !== curveKey) {
      curveKey = key;
      predicted = null;
      try {
        problem = prepare(feed, membrane, data);
        dspmde = sweep(problem, grid);
      } catch (error) {
        if (!(error instanceof InputError)) throw error;
        problem = dspmde = null;
        state.problem = error.message;
      }
    }
    const flux = state.flux * LMH;
    let at = null, net = null;
    if (problem) {
      const i = Math.max(0, grid.findIndex((j) => j >= flux));
      at = solve(problem, flux, dspmde[i]);
      if (network) {
        predicted ??= predictNetwork(network, feed, grid, changedMembrane() ? membrane : null, data);
        net = predicted.at(flux);
        messages.push(...predicted.warnings, ...net.warnings);
        if (messages.length) messages.push("The interval does not hold there.");
        if (changedMembrane() && Object.keys(net.ions).length)
          messages.push("The interval rests on measurements of NF270; for another membrane it says nothing.");
      }
      const failed = dspmde.filter((s) => !s.converged).length;
      if (failed || !at.converged)
        messages.push(`DSPM-DE has no certified solution at ${at.converged ? `${failed} of ${grid.length} fluxes of the curves` : "this flux"}; nothing is drawn there.`);
    } else messages.push(state.problem);
    state.view = { feed, at, net, membrane };
    notices.replaceChildren(...messages.map((m) => element("p", {}, m)));
    fill();
    draw();
    remember();
    clearTimeout(speak);
    speak = setTimeout(say, 600);
  }

  const sameSalts = (a, b) => Object.keys(a).length === Object.keys(b).length && Object.keys(a).every((s) => a[s] === b[s]);
  const mixtureNow = () => data.mixtures.find((m) => sameSalts(m.salts, state.salts));
  const present = () => Object.keys(data.ions).filter((ion) => state.view?.feed[ion] > 0);
  const valueCell = (number, text, name) => element("td", { class: name }, element("data", { value: String(number), "data-what": name }, text));

  function fill() {
    const { feed, at, net, membrane } = state.view;
    body.replaceChildren(...(at ? present() : []).map((ion) => {
      const i = at.names.indexOf(ion), { label, color } = data.ions[ion];
      const cells = [valueCell(feed[ion], amount(feed[ion]), "feed"), valueCell(at.cPerm[i], amount(at.cPerm[i]), "permeate"),
        valueCell(at.rejection[i], percent(at.rejection[i]), "dspmde")];
      if (network) {
        const p = net.ions[ion];
        cells.push(...(p ? [valueCell(p.rejection, percent(p.rejection), "network"),
          element("td", { class: "interval" }, element("data", { value: `${p.lower} ${p.upper}`, "data-what": "interval" },
            Number.isFinite(p.lower) ? `${percent(p.lower)} to ${percent(p.upper)}` : "–"))]
          : [element("td", {}, "–"), element("td", {}, "–")]));
      }
      const enter = (event) => { if (event.pointerType === "mouse") { hovered = ion; draw(); } }, leave = () => { hovered = null; draw(); };
      const name = element("button", { type: "button", class: "ion", "aria-pressed": String(pinned === ion), title: `Show ${label} alone`, onclick: () => {
        pinned = pinned === ion ? null : ion;
        for (const other of body.querySelectorAll("button.ion")) other.setAttribute("aria-pressed", String(other === name && pinned !== null));
        draw();
      } }, element("span", { class: "swatch", style: `--ion: ${color}`, "aria-hidden": "true" }), label);
      return element("tr", { "data-ion": ion, onpointerenter: enter, onpointerleave: leave },
        element("th", { scope: "row" }, name), ...cells);
    }));
    caption.textContent = `Rejection at ${Number(state.flux.toPrecision(4))} L m⁻² h⁻¹ through ${changedMembrane() ? "this membrane" : "NF270"}; permeate by DSPM‑DE`;
    facts.replaceChildren();
    if (at?.converged) {
      const bars = pressure(at.flux, membrane, problem.c, at.cPerm, k) / k.bar;
      facts.append(`${(at.flux * 1e6).toPrecision(3)} µm/s`);
      if (!changedMembrane()) facts.append(" · needs ", element("data", { value: String(bars), "data-what": "pressure" }, `${bars.toPrecision(3)} bar`));
    }
    const mixture = mixtureNow();
    source.replaceChildren();
    if (mixture) source.append(
      `Markers: measured on NF270 at ${mixture.temperature} K, `,
      mixture.kind === "intrinsic" ? "corrected to the concentration at the membrane wall" : "as observed, so the salt piled up at the wall makes them lower than the curves, which refer to the wall",
      " (", element("a", { href: `https://doi.org/${mixture.doi}`, rel: "external" }, mixture.doi), `). Curves: ${k.temperature} K.`,
      network ? " The network was trained on these measurements." : "");
    const named = Object.entries(feed).filter(([, c]) => c > 0).map(([ion, c]) => `"${ion}": ${Number(c.toPrecision(12))}`).join(", ");
    const changes = MEMBRANE_FIELDS.filter((f) => state.membrane[f.key] !== shipped[f.key])
      .map((f) => `${f.key}=${state.membrane[f.key]}${f.si ? ` * ${f.si}` : ""}`);
    code.textContent = [
      `from ion_ode import NF270_WATERTAP, simulate${network ? ", load_model" : ""}`,
      `from ion_ode.core import ${["LMH", ...new Set(MEMBRANE_FIELDS.filter((f) => f.si && state.membrane[f.key] !== shipped[f.key]).map((f) => f.si))].join(", ")}`,
      "", `feed = {${named}}  # mol/m³`,
      ...(changes.length ? [`membrane = NF270_WATERTAP.with_(${changes.join(", ")})`] : []),
      `simulate(feed, ${state.flux} * LMH, ${changes.length ? "membrane" : "NF270_WATERTAP"}).to_frame()`,
      ...(network ? [`load_model("${network.name ?? "nf270"}").predict(feed, ${state.flux} * LMH${changes.length ? ", membrane" : ""})`] : []),
    ].join("\n");
  }

  function say() {
    const { at, net } = state.view, use = network ? net : null;
    if (!at?.converged) { summary.textContent = "No values at this setting."; return; }
    const values = present().map((ion) => {
      const r = use?.ions[ion]?.rejection ?? at.rejection[at.names.indexOf(ion)];
      return `${data.ions[ion].label} ${percent(r)}\u00a0%`;
    });
    summary.textContent = `Rejected at ${Number(state.flux.toPrecision(4))} L m⁻² h⁻¹ (${use ? "network" : "DSPM-DE"}): ${values.join(", ")}.`;
  }

  let size = [0, 0];
  function draw() {
    if (!state.view) return;
    const width = Math.max(280, Math.round(svg.parentElement.clientWidth)), height = Math.round(Math.min(460, Math.max(width < 520 ? 250 : 300, width * 0.6)));
    const highlight = present().find((ion) => ion === (hovered ?? pinned)) ?? null;
    const { at, net } = state.view, flux = state.flux * LMH, mixture = show.measured ? mixtureNow() : null;
    const series = (at ? present() : []).map((ion) => {
      const i = problem.names.indexOf(ion), curves = [];
      if (show.network && predicted?.ions[ion]) {
        const p = predicted.ions[ion];
        curves.push({ flux: grid, rejection: p.rejection, ...(show.band ? { lower: p.lower, upper: p.upper } : {}), at: net.ions[ion].rejection });
      }
      if (show.dspmde) curves.push({ flux: grid, rejection: dspmde.map((s) => s.rejection[i]), at: at.rejection[i], dashed: Boolean(network) && show.network && curves.length > 0 });
      const measured = (mixture?.points ?? []).filter((p) => p[0] === ion).map(([, j, r, sd]) => ({ flux: j, rejection: r, sd }));
      return { ion, ...data.ions[ion], curves, measured };
    });
    const picture = drawChart({ series, fluxMax: fluxMax * LMH, flux, unit: LMH, width, height, highlight });
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("aria-label", `Rejection of ${present().map((ion) => data.ions[ion].label).join(", ") || "no ion"} against water flux from 0 to ${fluxMax} L m⁻² h⁻¹; the values at the chosen flux are in the table below`);
    svg.innerHTML = picture.svg;
    svg.fluxAt = picture.fluxAt;
    size = [width, height];
    toggles.querySelector('[data-show="measured"]').hidden = !mixtureNow();
  }
  new ResizeObserver(() => { if (svg.parentElement.clientWidth !== size[0]) draw(); }).observe(svg.parentElement);

  const drag = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const box = svg.getBoundingClientRect();
    setFlux(String(Math.round(svg.fluxAt(((event.clientX - box.left) / box.width) * size[0]) / LMH)), svg);
  };
  svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); drag(event); });
  svg.addEventListener("pointermove", drag);

  function remember() {
    const changes = MEMBRANE_FIELDS.filter((f) => state.membrane[f.key] !== shipped[f.key]).map((f) => [f.key, state.membrane[f.key]]);
    const hash = new URLSearchParams([...Object.entries(state.salts), ["flux", state.flux], ...changes]).toString();
    try { history.replaceState(null, "", `#${hash}`); } catch { /* a page inside a frame may not */ }
  }
  addEventListener("hashchange", () => {
    const next = readHash(location.hash, data, fluxMax);
    state.salts = next.salts;
    for (const f of MEMBRANE_FIELDS) membraneInputs[f.key](String(next.membrane[f.key] ?? shipped[f.key]), null);
    fillSalts();
    setFlux(String(next.flux), null);
  });

  function save() {
    if (!problem) return;
    const lines = [["flux_m_s", "ion", "c_feed_mol_m3", "dspmde", ...(network ? ["network", "lower", "upper"] : [])].join(",")];
    grid.forEach((j, n) => present().forEach((ion) => {
      const i = problem.names.indexOf(ion), p = predicted?.ions[ion];
      lines.push([j, ion, problem.c[i], dspmde[n].rejection[i], ...(network ? [p?.rejection[n], p?.lower?.[n], p?.upper?.[n]] : [])].join(","));
    }));
    const link = element("a", { href: URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" })), download: "rejection.csv" });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  fillSalts();
  update();
  say();
  root.dataset.ready = "true";
}
