// Numbers as people write them, a water's units, charge balance, hardness and dissolved solids; own measurements as text.

import { InputError } from "./dspmde.mjs";

// "10.5" and "10,5" are 10.5; "1,234" may be either of two numbers and is refused, in words.
export function readNumber(text) {
  const t = String(text).trim().replace(/^[−–]/, "-").replace(/[\s\u00a0\u202f]/g, "");
  if (t === "") throw new InputError("is empty; give a number such as 10.5");
  if (/^[+-]?\d{1,3}(,\d{3})+$/.test(t) && !/^[+-]?0,/.test(t))
    throw new InputError(`is ${t}, which may mean ${t.replace(/,/g, "")} or ${t.replace(",", ".")}; write one of the two`);
  if (!/^[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?$/i.test(t)) throw new InputError(`is “${t}”, which is not a number; write it like 10.5`);
  return Number(t.replace(",", "."));
}

const HARDNESS = 100.087; // g/mol of CaCO3
export const UNITS = {
  "mg/L": (c, ion) => c * ion.mass, mM: (c) => c, "meq/L": (c, ion) => c * (Math.abs(ion.z) || 1),
};
export const unitOf = (ion, unit) => (unit === "meq/L" && ion.z === 0 ? "mM" : unit); // a neutral solute has no equivalents
export const fromUnit = (x, unit, ion) => x / UNITS[unit](1, ion);

// Equivalents of both signs [eq/m³] and what is missing, relative to their sum.
export function charges(feed, data) {
  let plus = 0, minus = 0;
  for (const [n, c] of Object.entries(feed)) {
    const { z } = data.ions[n];
    if (z > 0) plus += z * c; else minus -= z * c;
  }
  return { plus, minus, relative: plus + minus > 0 ? (plus - minus) / (plus + minus) : 0 };
}

// The feed with one ion at what closes the charge balance.
export function closed(feed, ion, data) {
  if (!ion) {
    const { plus, minus, relative } = charges(feed, data);
    if (Math.abs(relative) > 1e-9) throw new InputError(`Cations carry ${Number(plus.toPrecision(4))} and anions ${Number(minus.toPrecision(4))} meq/L: choose an ion that closes the balance.`);
    return feed;
  }
  const rest = { ...feed, [ion]: 0 }, { plus, minus } = charges(rest, data), { z, label } = data.ions[ion], c = (minus - plus) / z;
  if (c < 0) throw new InputError(`${label} cannot close the charge balance: ${z > 0 ? "cations" : "anions"} are too many by ${Number(Math.abs(plus - minus).toPrecision(3))} meq/L without it; let another ion close it.`);
  return { ...feed, [ion]: c };
}

// Of a water {ion: mol/m³}: dissolved solids and hardness as CaCO3 [mg/L], osmotic pressure by van 't Hoff [Pa].
export function analysis(feed, data) {
  const sum = (f) => Object.entries(feed).reduce((s, [n, c]) => s + f(n, c), 0);
  return { solids: sum((n, c) => c * data.ions[n].mass), hardness: sum((n, c) => (n === "Ca+2" || n === "Mg+2" ? HARDNESS * c : 0)),
    osmotic: data.constants.gasConstant * data.constants.temperature * sum((_, c) => c) };
}

export const PAIRS = [["Li+", "Mg+2"], ["Na+", "Ca+2"], ["Na+", "Mg+2"], ["Cl-", "SO4-2"]];

// Percent with one decimal; above 99.9 % as many as show the first digit that is not a nine; never −0.0.
export function percent(r) {
  if (!Number.isFinite(r)) return "–";
  if (r > 0.9999999) return r === 1 ? "100" : ">99.99999";
  const digits = r > 0.999 ? Math.ceil(-Math.log10(1 - r)) - 2 : 1, text = (100 * r).toFixed(Math.max(1, digits));
  return /^-0\.?0*$/.test(text) ? text.slice(1) : text.replace("-", "−");
}
export const amount = (c) => (!Number.isFinite(c) ? "–" : c === 0 ? "0"
  : (Math.abs(c) < 1e-4 ? c.toExponential(1) : String(Number(c.toPrecision(3)))).replace("-", "−"));

const COLUMNS = { ion: /^ion$/i, rejection: /^(r|rejection)\b/i, flux: /^(flux|jv?)\b/i, pressure: /^(pressure|dp|Δp)\b/i, sd: /^(sd|std|error|±)/i };

// Own measurements pasted as a table with a head, such as "ion,rejection [%],flux [LMH]". Rows of { ion, rejection, sd, flux
// [m/s] | null, pressure [Pa] | null }, measured in the feed that stands on the page.
export function readOwn(text, feed, data) {
  const lines = text.split(/\r?\n/).map((l) => l.trim()).filter(Boolean);
  if (lines.length < 2) throw new InputError("Own measurements need a head such as ion,rejection [%],flux [LMH] and a line for each value.");
  const cut = [/\t/, /;/, /,/].find((s) => s.test(lines[0])) ?? /,/, head = lines[0].split(cut).map((h) => h.trim());
  const at = Object.fromEntries(Object.entries(COLUMNS).map(([k, re]) => [k, head.findIndex((h) => re.test(h))]));
  if (at.ion < 0 || at.rejection < 0 || (at.flux < 0 && at.pressure < 0))
    throw new InputError(`The head of own measurements is “${lines[0]}”; expected columns ion, rejection and flux or pressure.`);
  const share = /%/.test(head[at.rejection]) ? 0.01 : 1, { LMH, bar } = data.constants;
  const fluxUnit = at.flux < 0 ? 1 : /m\/s/.test(head[at.flux]) ? (/µ|um/.test(head[at.flux]) ? 1e-6 : 1) : LMH;
  const key = (s) => s.replace(/[²₂]/g, "2").replace(/[⁺₊]/g, "+").replace(/[⁻−]/g, "-").replace(/₃/g, "3").replace(/₄/g, "4").toLowerCase();
  const spell = (name) => { const [, base, n = "", sign] = key(name).match(/^(.*?)(\d?)([+-])$/) ?? []; return sign ? `${base}${sign}${n === "1" ? "" : n}` : key(name); };
  const known = Object.fromEntries(Object.entries(data.ions).flatMap(([n, i]) => [[key(n), n], [key(i.label), n], [spell(i.label), n]]));
  return lines.slice(1).map((line, k) => {
    const cells = line.split(cut).map((c) => c.trim()), where = `Own measurements, line ${k + 2}: `;
    if (cells.length !== head.length) throw new InputError(`${where}${cells.length} cells where the head has ${head.length}; separate columns by ; or a tab where numbers hold commas.`);
    const number = (what) => {
      if (at[what] < 0 || cells[at[what]] === "") return null;
      try { return readNumber(cells[at[what]].replace(/%$/, "")); } catch (error) { throw new InputError(`${where}${what} ${error.message}.`); }
    };
    const ion = known[key(cells[at.ion])] ?? known[spell(cells[at.ion])];
    if (!ion || !(feed[ion] > 0)) throw new InputError(`${where}${cells[at.ion]} is not an ion of the feed, which holds ${Object.keys(feed).filter((n) => feed[n] > 0).map((n) => data.ions[n].label).join(", ")}.`);
    const percentCell = /%$/.test(cells[at.rejection]) ? 0.01 : share, rejection = number("rejection") * percentCell;
    const flux = number("flux"), pressure = flux === null ? number("pressure") : null;
    if (cells[at.rejection] === "" || !(rejection <= 1.05 && rejection > -20)) throw new InputError(`${where}a rejection of ${cells[at.rejection]} is not possible; give a fraction up to 1, or put [%] into the head.`);
    if (!(flux > 0 || pressure > 0)) throw new InputError(`${where}neither flux nor pressure is above 0.`);
    const sd = number("sd");
    return { ion, rejection: Math.min(rejection, 1), sd: sd === null ? 0 : sd * percentCell, flux: flux === null ? null : flux * fluxUnit, pressure: pressure === null ? null : pressure * bar };
  });
}

// Own measurements [{ feed, ion, rejection, sd, flux | pressure, kind, pH }] as the table that Answer.calibrate reads.
export function ownTable(values, data, neutralPH) {
  const feeds = [...new Set(values.flatMap((v) => Object.keys(v.feed)))], ions = [...new Set(values.map((v) => v.ion))], { LMH, bar } = data.constants;
  const by = values[0].flux === null ? "pressure" : "flux", acid = values.some((v) => v.pH !== null), sure = values.some((v) => v.sd > 0), states = new Map();
  for (const v of values) {
    const key = JSON.stringify([v.feed, v[by], v.kind, v.pH]);
    states.set(key, [...(states.get(key) ?? []), v]);
  }
  const head = ["kind", ...(acid ? ["pH"] : []), by === "flux" ? "flux [LMH]" : "pressure [bar]", ...feeds.map((n) => `${n} [mol/m3]`), ...ions.map((n) => `R ${n}`), ...(sure ? ions.map((n) => `sd ${n}`) : [])];
  const digits = (x) => String(Number(x.toPrecision(12))), lines = [...states.values()].map((rows) => {
    const of = (n, what) => { const v = rows.find((r) => r.ion === n); return v ? digits(v[what]) : ""; }, [first] = rows;
    return [first.kind, ...(acid ? [first.pH ?? neutralPH] : []), digits(first[by] / (by === "flux" ? LMH : bar)), ...feeds.map((n) => digits(first.feed[n] ?? 0)), ...ions.map((n) => of(n, "rejection")),
      ...(sure ? ions.map((n) => of(n, "sd")) : [])];
  });
  return `${[head, ...lines].map((cells) => cells.join(",")).join("\n")}\n`;
}
