// The module tab: a vessel of elements, its product for every membrane that is asked, with the spread over them.

import { askMember, membraneOf, quantile, readFeed, thinned } from "./answer.mjs";
import { InputError } from "./dspmde.mjs";
import { vessel, vesselAtRecovery } from "./module.mjs";
import { PAIRS, analysis } from "./water.mjs";
import { choice, element, numberRow } from "./widgets.mjs";

const DRAWS = 32; // membranes a vessel is solved for

// state.module: { element, count, flow [m³/h], by, pressure [bar], recovery [%] }
export function moduleControls(state, data, problems, onchange) {
  const m = state.module, set = (key) => (x) => { if (x !== null) m[key] = x; onchange(); };
  const rows = {
    count: numberRow({ key: "module-count", label: "Elements in series", unit: "", value: m.count, min: 1, max: 8, step: 1, problems, onchange: (x) => { if (x !== null) m.count = Math.round(x); onchange(); } }),
    flow: numberRow({ key: "module-flow", label: "Feed flow", unit: "m³/h", value: m.flow, min: 0.1, max: 20, step: 0.1, problems, onchange: set("flow") }),
    pressure: numberRow({ key: "module-pressure", label: "Feed pressure", unit: "bar", value: m.pressure, min: 0.2, max: 60, step: 0.1, problems, onchange: set("pressure") }),
    recovery: numberRow({ key: "module-recovery", label: "Recovery", unit: "%", value: m.recovery, min: 1, max: 90, step: 1, problems, onchange: set("recovery") }),
  };
  const kind = choice({ id: "ie-element", "aria-label": "Element" }, Object.keys(data.module.elements).map((n) => [n, n]), m.element, (n) => { m.element = n; onchange(); });
  const by = choice({ id: "ie-module-by", "aria-label": "Given" }, [["recovery", "recovery"], ["pressure", "pressure"]], m.by, (v) => { m.by = v; show(); onchange(); });
  const show = () => { for (const k of ["pressure", "recovery"]) { rows[k].node.hidden = m.by !== k; if (m.by !== k) problems.delete(`module-${k}`); } };
  show();
  return element("fieldset", { class: "module" }, element("legend", {}, "Vessel"),
    element("div", { class: "pick" }, element("label", { for: "ie-element" }, "Element"), kind), rows.count.node, rows.flow.node,
    element("div", { class: "pick" }, element("label", { for: "ie-module-by" }, "Run by"), by), rows.pressure.node, rows.recovery.node,
    element("p", { class: "hint" }, "The film is that of the stirred spacer (Schock and Miquel 1987), place by place; 25 °C."));
}

export function settingOf(state, data, feed) {
  const m = state.module, element = data.module.elements[m.element];
  return { feed, element, count: m.count, flow: m.flow / 3600, data, steps: 8, tolerance: 1e-7, recoveryTolerance: 1e-6,
    ...(m.by === "pressure" ? { pressure: m.pressure * data.constants.bar } : { recovery: m.recovery / 100 }) };
}

// Vessels of all members, one after the other; yields what is known so far.
export function* solveModule(state, data, feed, answer) {
  const few = thinned(answer, DRAWS), setting = settingOf(state, data, feed), solved = [], failed = new Map();
  let guess = null;
  for (const m of few.members) {
    const membraneAt = (local) => membraneOf(m, few, readFeed(local, data), "intrinsic", 0, state.pH).membrane;
    try {
      const s = setting.recovery ? vesselAtRecovery({ ...setting, membraneAt, guess }) : vessel({ ...setting, membraneAt });
      guess = s.pressure;
      solved.push(s);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      failed.set(error.message, (failed.get(error.message) ?? 0) + 1);
    }
    yield undefined;
  }
  if (!solved.length) throw new InputError(`${[...failed.keys()][0][0].toUpperCase()}${[...failed.keys()][0].slice(1)}.`);
  const over = (f) => { const v = solved.map(f); return { value: quantile(v, 0.5), lower: quantile(v, 0.05), upper: quantile(v, 0.95) }; };
  const { names, c } = solved[0], named = (v) => Object.fromEntries(names.map((n, i) => [n, v[i]]));
  const flux = (1 / (setting.count * setting.element.area)), { max_pressure, max_pressure_drop, max_feed_flow } = setting.element, notes = [];
  if (failed.size) notes.push(`${DRAWS - solved.length} of ${DRAWS} membranes have no solution here (${[...failed.keys()].join("; ")}); the numbers are those of the others.`);
  const drop = over((s) => s.drop / setting.count), pressure = over((s) => s.pressure), bar = data.constants.bar;
  if (max_pressure && pressure.value > max_pressure) notes.push(`A pressure of ${(pressure.value / bar).toPrecision(3)} bar is above the ${(max_pressure / bar).toPrecision(3)} bar the maker allows.`);
  if (max_pressure_drop && drop.value > max_pressure_drop) notes.push(`A pressure drop of ${(drop.value / bar).toPrecision(3)} bar an element is above the ${(max_pressure_drop / bar).toPrecision(3)} bar the maker allows.`);
  if (max_feed_flow && setting.flow > max_feed_flow) notes.push(`A feed flow of ${state.module.flow} m³/h is above the ${(3600 * max_feed_flow).toPrecision(3)} m³/h the maker allows.`);
  yield {
    names, c, draws: solved.length, notes, first: solved[0],
    ions: Object.fromEntries(names.map((n, i) => [n, { rejection: over((s) => s.rejection[i]), perm: over((s) => s.cPerm[i]), conc: over((s) => s.cConc[i]) }])),
    places: solved[0].places.map((p, k) => ({ share: p.share, flux: over((s) => s.places[k].flux), perm: names.map((_, i) => quantile(solved.map((s) => s.places[k].cPerm[i]), 0.5)),
      bulk: names.map((_, i) => quantile(solved.map((s) => s.places[k].c[i]), 0.5)) })),
    facts: [["Recovery", over((s) => 100 * s.recovery), "%"], ["Product", over((s) => 3600 * s.product), "m³/h"], ["Mean flux", over((s) => (s.product * flux) / data.constants.LMH), "L m⁻² h⁻¹"],
      ["Feed pressure", over((s) => s.pressure / bar), "bar"], ["Pressure lost along the vessel", over((s) => s.drop / bar), "bar"], ["Energy, pump of 80 %", over((s) => s.energy / 3.6e6), "kWh/m³"],
      ["Product, dissolved solids", over((s) => analysis(named(s.cPerm), data).solids), "mg/L"], ["Product, hardness", over((s) => analysis(named(s.cPerm), data).hardness), "mg/L CaCO₃"],
      ["Concentrate, dissolved solids", over((s) => analysis(named(s.cConc), data).solids), "mg/L"],
      ...PAIRS.filter((p) => p.every((n) => names.includes(n))).map(([a, b]) => [`Selectivity ${data.ions[a].label} over ${data.ions[b].label}`,
        over((s) => (1 - s.rejection[names.indexOf(a)]) / (1 - s.rejection[names.indexOf(b)])), ""])],
  };
}

// The first answer is asked, members of it in slices; yields the summary of a few, then of all.
export function* askAll(answer, f, data, asked, summarise, first = 48) {
  const order = [...thinnedIndex(answer.members.length, first)], said = new Array(answer.members.length);
  const rest = answer.members.map((_, i) => i).filter((i) => !order.includes(i));
  for (const [k, list] of [order, rest].entries()) {
    for (const i of list) { said[i] = askMember(answer.members[i], answer, f, data, asked); yield undefined; }
    const members = k ? answer.members : order.map((i) => answer.members[i]);
    if (list.length) yield summarise({ ...answer, members, students: undefined }, k ? said : order.map((i) => said[i]), f);
  }
}
const thinnedIndex = (n, few) => new Set(Array.from({ length: Math.min(few, n) }, (_, k) => Math.round((k * (n - 1)) / Math.max(1, Math.min(few, n) - 1))));
