// The ion table: concentrations in mg/L, mM or meq/L, waters to start from, and the ion that closes the charge balance.

import { InputError } from "./dspmde.mjs";
import { UNITS, amount, analysis, charges, closed, fromUnit, readNumber, unitOf } from "./water.mjs";
import { choice, element } from "./widgets.mjs";

const MOST = 5000; // mol/m³

// state: { feed, unit, close }; whatever changes it calls onchange. The water that counts is `water()`: closed, or a sentence thrown.
export function feedControls(state, data, problems, onchange) {
  const body = element("tbody"), balance = element("p", { class: "hint", "data-what": "balance" }), totals = element("p", { class: "hint", "data-what": "feed-totals" });
  const ofUnit = (n) => UNITS[state.unit](state.feed[n], data.ions[n]);
  const short = (x) => String(Number(x.toPrecision(4)));
  const forget = () => { for (const k of [...problems.keys()]) if (k.startsWith("ion-")) problems.delete(k); };
  function water() {
    const present = Object.fromEntries(Object.entries(state.feed).filter(([n, c]) => c > 0 || n === state.close));
    const feed = closed(present, state.close in present ? state.close : "", data), held = Object.entries(feed).filter(([, c]) => c > 0);
    if (held.filter(([n]) => data.ions[n].z).length < 2) throw new InputError("The feed holds no salt: give a cation and an anion a concentration above zero.");
    return Object.fromEntries(held);
  }
  function row(n) {
    const { label, color } = data.ions[n], closes = n === state.close, unit = unitOf(data.ions[n], state.unit);
    const input = element("input", { type: "text", inputmode: "decimal", autocomplete: "off", id: `ion-${n}`, value: short(ofUnit(n)), readonly: closes,
      "aria-label": `${label} in ${unit}${closes ? ", closes the charge balance" : ""}` });
    const slider = element("input", { type: "range", min: -3, max: 3.5, step: 0.01, value: Math.log10(Math.max(1e-3, state.feed[n])), disabled: closes,
      "aria-label": `${label}, logarithmic slider`, "aria-valuetext": `${short(ofUnit(n))} ${unit}` });
    slider.addEventListener("input", () => {
      problems.delete(`ion-${n}`);
      input.removeAttribute("aria-invalid");
      state.feed[n] = Number((10 ** Number(slider.value)).toPrecision(3));
      input.value = short(ofUnit(n));
      slider.setAttribute("aria-valuetext", `${input.value} ${unit}`);
      changed();
    });
    input.addEventListener("input", () => {
      problems.delete(`ion-${n}`);
      input.removeAttribute("aria-invalid");
      try {
        const x = readNumber(input.value), c = fromUnit(x, state.unit, data.ions[n]);
        if (!(c >= 0 && c <= MOST)) throw new InputError(`is ${short(x)}, expected 0 to ${short(UNITS[state.unit](MOST, data.ions[n]))} ${unit}`);
        state.feed[n] = c;
        slider.value = Math.log10(Math.max(1e-3, c));
      } catch (error) {
        if (!(error instanceof InputError)) throw error;
        problems.set(`ion-${n}`, `${label} ${error.message}.`);
        input.setAttribute("aria-invalid", "true");
      }
      changed();
    });
    const remove = element("button", { type: "button", class: "icon", "aria-label": `Remove ${label}`, title: `Remove ${label}`, onclick: () => {
      delete state.feed[n];
      problems.delete(`ion-${n}`);
      if (state.close === n) state.close = "";
      fill();
      onchange();
    } }, "×");
    return element("tr", { "data-feed": n }, element("th", { scope: "row" }, element("span", { class: "swatch", style: `--ion: ${color}`, "aria-hidden": "true" }), label, ...(unit === state.unit ? [] : [element("small", {}, ` ${unit}`)])),
      element("td", {}, input), element("td", { class: "slide" }, slider), element("td", {}, remove));
  }
  function tell() { // the closing ion's value and the totals
    try {
      const feed = water();
      if (state.close in state.feed) {
        state.feed[state.close] = feed[state.close] ?? 0; // so that another unit or link shows what counts
        const input = body.querySelector(`[data-feed="${CSS.escape(state.close)}"] input`);
        if (input && !problems.size) input.value = short(ofUnit(state.close));
      }
      const { plus, minus } = charges(feed, data), { solids, hardness } = analysis(feed, data);
      balance.textContent = `Cations ${amount(plus)}, anions ${amount(minus)} meq/L`;
      totals.textContent = `Dissolved solids ${amount(solids)} mg/L, hardness ${amount(hardness)} mg/L as CaCO₃`;
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      const { plus, minus, relative } = charges(state.feed, data);
      balance.textContent = `Cations ${amount(plus)}, anions ${amount(minus)} meq/L (${relative > 0 ? "+" : "−"}${Math.abs(100 * relative).toFixed(1)} %)`;
      totals.textContent = "";
    }
  }
  function changed() { tell(); onchange(); }
  const closer = element("select", { id: "ie-close", onchange: () => { state.close = closer.value; fill(); onchange(); } });
  const adder = element("select", { "aria-label": "Add an ion or a solute", onchange: () => {
    const n = adder.value;
    if (!n) return;
    state.feed[n] = 1;
    fill();
    body.querySelector(`[data-feed="${CSS.escape(n)}"] input`).focus();
    onchange();
  } });
  const unit = choice({ id: "ie-unit", "aria-label": "Unit of concentrations" }, Object.keys(UNITS).map((u) => [u, u]), state.unit, (u) => { state.unit = u; forget(); fill(); onchange(); });
  const waters = [...data.waters.map((w) => ["water", w]), ...data.mixtures.map((m) => ["mixture", m])];
  const preset = element("select", { id: "ie-preset", onchange: () => {
    const chosen = waters.find(([, w]) => w.id === preset.value)?.[1];
    if (!chosen) return;
    forget();
    state.feed = { ...chosen.feed };
    state.close = chosen.close ?? closing(state.feed, data);
    fill();
    onchange();
  } }, element("option", { value: "" }, "Your own water"),
  element("optgroup", { label: "Real waters" }, ...waters.filter(([k]) => k === "water").map(([, w]) => element("option", { value: w.id }, w.label))),
  element("optgroup", { label: "Measured on NF270" }, ...waters.filter(([k]) => k === "mixture").map(([, w]) => element("option", { value: w.id }, w.label))));
  function fill() {
    const order = Object.keys(data.ions).filter((n) => n in state.feed);
    body.replaceChildren(...order.map(row));
    closer.replaceChildren(element("option", { value: "" }, "nothing: I give all ions"), ...order.filter((n) => data.ions[n].z).map((n) => element("option", { value: n, selected: n === state.close }, data.ions[n].label)));
    adder.replaceChildren(element("option", { value: "" }, "Add an ion or a solute …"), ...Object.keys(data.ions).filter((n) => !(n in state.feed)).map((n) => element("option", { value: n }, data.ions[n].label)));
    unit.value = state.unit;
    tell();
  }
  fill();
  const node = element("fieldset", {}, element("legend", {}, "Feed"),
    element("div", { class: "pick" }, element("label", { for: "ie-preset" }, "Start from"), preset, element("label", { for: "ie-unit" }, "in"), unit),
    element("table", { class: "ions", "aria-label": "Concentrations of the feed" }, body), element("div", { class: "pick" }, adder),
    element("div", { class: "pick" }, element("label", { for: "ie-close" }, "Charge balance closed by"), closer), balance, totals);
  return { node, water, fill: () => { forget(); fill(); }, showPreset: (id) => { preset.value = id; } };
}

// Chloride closes a balance where there is some, else the largest anion.
export function closing(feed, data) {
  const anions = Object.keys(feed).filter((n) => data.ions[n].z < 0).sort((a, b) => feed[b] - feed[a]);
  return feed["Cl-"] > 0 ? "Cl-" : anions[0] ?? "";
}
