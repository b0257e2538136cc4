// What load_model("nf270").predict answers: a sample of membranes, each with a coupon nobody has measured, asked by the pore
// model; mean and interval of one measurement. And what own measurements make of it, by weighing the same membranes.

import { prepare, sweep } from "./dspmde.mjs";

const FLUX_FADE = [1e-6, 8e-6], CHARGE = 5000, LEVELS = 5, NU = 5; // as ion_ode.inference.states and .answer have them
const PRESSURE_SHARES = [0.02, 0.15, 0.4, 0.65, 0.85, 1]; // of the flux of pure water at which a pressure's flux is looked for
const clip = (x, low, high) => Math.min(high, Math.max(low, x));
const yOf = (r) => Math.log(1.05 - Math.min(r, 1)), ofY = (y) => Math.min(1.05 - Math.exp(y), 1);
const faded = (flux) => [flux / (flux + FLUX_FADE[0]), 1 - Math.exp(-flux / FLUX_FADE[1])];

const logGamma = (x) => { // Lanczos, 1e-15
  const g = [0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
    12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7];
  const t = x + 6.5;
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(g.reduce((s, a, i) => s + (i ? a / (x + i - 1) : a), 0));
};

// Quantile of Student's distribution of a whole number of degrees of freedom, from its closed distribution function.
export function student(p, nu = NU) {
  if (p === 0) return Infinity; // as scipy.special.stdtrit has it
  const root = Math.sqrt(nu), odd = nu % 2;
  const cdf = (t) => {
    const a = Math.atan(t / root), s = Math.sin(a), c = Math.cos(a);
    let term = odd ? c : 1, sum = nu > 1 ? term : 0;
    for (let k = odd ? 3 : 2; k < nu; k += 2) sum += term *= ((k - 1) / k) * c * c;
    return 0.5 + (odd ? (a + s * sum) / Math.PI : (s * sum) / 2);
  };
  const front = Math.exp(logGamma((nu + 1) / 2) - logGamma(nu / 2)) / Math.sqrt(nu * Math.PI), density = (t) => front * (1 + (t * t) / nu) ** (-(nu + 1) / 2);
  let low = -1e4, high = 1e4, t = 0;
  for (let n = 0; n < 200; n++) {
    const gap = cdf(t) - p;
    if (gap > 0) high = t; else low = t;
    let next = t - gap / density(t);
    if (!(next > low && next < high)) next = (low + high) / 2;
    if (Math.abs(next - t) <= 1e-14 * (1 + Math.abs(t))) return next;
    t = next;
  }
  return t;
}

// numpy's linear quantile of what is a number.
export function quantile(values, share) {
  const v = Float64Array.from(values.filter((x) => !Number.isNaN(x))).sort();
  if (!v.length) return NaN;
  const at = share * (v.length - 1), i = Math.floor(at);
  return at === i ? v[i] : v[i] + (at - i) * (v[i + 1] - v[i]);
}
const mean = (values) => {
  const v = values.filter(Number.isFinite);
  return v.reduce((s, x) => s + x, 0) / (v.length || NaN);
};

// numpy's interp on rising xs.
export const interpolate = (x, xs, ys) => {
  if (x <= xs[0]) return ys[0];
  const i = xs.findIndex((v) => v > x);
  return i < 0 ? ys.at(-1) : ys[i - 1] + ((x - xs[i - 1]) * (ys[i] - ys[i - 1])) / (xs[i] - xs[i - 1]);
};

export function loadAnswer(json) {
  const decode = (text) => new Float64Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const columns = Object.fromEntries(Object.entries(json.columns).map(([name, text]) => [name, decode(text)]));
  const coupons = json.coupon.map(decode), n = coupons[0].length;
  const members = Array.from({ length: n }, (_, i) => ({
    ...Object.fromEntries(Object.entries(columns).map(([name, v]) => [name, v[i]])), coupon: coupons.map((v) => v[i]),
  }));
  return { ...json, columns: undefined, coupon: undefined, members };
}

// Every k-th membrane, as Answer.thinned takes them.
export function thinned(answer, n) {
  const last = answer.members.length - 1, even = (x) => { const r = Math.round(x); return Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : r; };
  const at = [...new Set(Array.from({ length: n }, (_, k) => even(n > 1 ? (last * k) / (n - 1) : 0)))];
  return { ...answer, members: at.map((i) => answer.members[i]) };
}

// Names, concentrations and charges of what is in a feed, and the share of the equivalents of its sign that an ion carries.
export function readFeed(feed, data) {
  const names = Object.keys(feed).filter((n) => feed[n] > 0), c = names.map((n) => feed[n]), z = names.map((n) => data.ions[n].z);
  const own = c.map((ci, i) => Math.abs(z[i]) * ci);
  const sign = (s) => own.reduce((sum, v, i) => sum + (Math.sign(z[i]) === s ? v : 0), 0);
  return { names, c, z, own, total: 0.5 * own.reduce((s, v) => s + v, 0), share: own.map((v, i) => v / Math.max(sign(Math.sign(z[i])), 1e-300)) };
}

// By how much a membrane's own charge, and what binds to it, follow the pH by its law; as in ion_ode.dspmde.charge_pH.
export function acidity(pH, law, reference) {
  const share = (pK, at) => 1 / (1 + 10 ** (pK - at)), acids = (at) => share(law.pK_1, at) + law.acid_2 * share(law.pK_2, at);
  const net = (at) => law.amine / (1 + 10 ** (at - law.pK_amine)) - acids(at);
  return pH === null ? [1, 1] : [net(pH) / net(reference), acids(pH) / acids(reference)];
}

// A member in a feed as a membrane of the pore model, and the film of its laboratory [m].
export function membraneOf(m, answer, f, kind, film, pH = null) {
  const p = answer.prior, ratio = f.total / answer.reference, [lab, thick, filmNumber, , own] = m.coupon;
  const [ofBase, ofBound] = acidity(pH, m, answer.acidity.reference);
  let charge = ofBase * m.charge * ratio ** m.b;
  f.names.forEach((name, i) => {
    if (!(`shift ${name}` in m)) return;
    const share = f.own[i] / f.total;
    charge += ofBound * m[`shift ${name}`] * ((share * (1 + m.k)) / (share + m.k)) * ratio ** m.c;
  });
  const both = Math.sqrt(1 - p.within) * lab + Math.sqrt(p.within) * own;
  const offset = (name, z) => (z === 0 ? 0 : m[`ln ${name}`] ?? m[`ln ${z > 0 ? (z === 1 ? "Na+" : "Mg+2") : z === -1 ? "Cl-" : "SO4-2"}`]);
  return {
    membrane: {
      r_pore: m.r_pore,
      thickness: clip(m.thickness * Math.exp(m["coupon thickness"] * thick), 1e-8, 1e-4),
      charge_density: clip(charge * Math.exp(m["coupon charge"] * both), -CHARGE, CHARGE),
      eps_pore: m.eps_pore,
      permeability: permeabilityOf(m, answer),
      neutral: answer.neutral,
      ln_partition: Object.fromEntries(f.names.map((name, i) => [name, offset(name, f.z[i])])),
    },
    film: film ?? (kind === "observed" ? clip(p.film[0] * Math.exp(p.film[1] * filmNumber), 1e-7, 2e-4) : 0),
  };
}

const permeabilityOf = (m, answer) => answer.prior.permeability[0] * Math.exp(answer.prior.permeability[1] * m.coupon[3]) * answer.unit;

// Flux of one problem at a pressure: where pore model and osmotic pressure together need it; NaN where osmosis wins.
export function fluxAt(problem, permeability, pressure, data, tolerance) {
  const { gasConstant, temperature } = data.constants, at = PRESSURE_SHARES.map((s) => s * permeability * pressure);
  const found = sweep(problem, at, tolerance).map((s, i) => [at[i] / permeability
    + gasConstant * temperature * s.wall.reduce((sum, w, k) => sum + w - s.cPerm[k], 0), at[i]]).filter(([need]) => Number.isFinite(need));
  if (found.length < 2 || found[0][0] >= pressure) return NaN;
  const rising = [];
  for (const [need] of found) rising.push(Math.max(need, rising.at(-1) ?? -Infinity));
  return interpolate(pressure, rising, found.map(([, j]) => j));
}

// What one member says at rising fluxes or pressures: { flux, pressure: [state], rejection: [state][ion] }.
export function askMember(m, answer, f, data, { flux = null, pressure = null, kind = "observed", film = null, pH = null, tolerance = 1e-7 }) {
  const { membrane, film: thickness } = membraneOf(m, answer, f, kind, film, pH), RT = data.constants.gasConstant * data.constants.temperature;
  const problem = prepare(Object.fromEntries(f.names.map((n, i) => [n, f.c[i]])), membrane, data, thickness);
  const J = pressure ? pressure.map((P) => fluxAt(problem, membrane.permeability, P, data, tolerance)) : flux;
  const good = J.filter(Number.isFinite), solved = sweep(problem, good, tolerance);
  const none = { rejection: f.names.map(() => NaN), wall: [NaN], cPerm: [NaN] }, at = J.map((j) => (Number.isFinite(j) ? solved[good.indexOf(j)] : none));
  return { flux: J, rejection: at.map((s) => s.rejection),
    pressure: at.map((s, i) => J[i] / membrane.permeability + RT * s.wall.reduce((sum, w, k) => sum + w - s.cPerm[k], 0)) };
}

// Mean and interval over what members said (`said`: of askMember, in the order of the members): { flux, ions }.
export function summarise(answer, said, f, level = 0.9, members = answer.members) {
  const n = members.length, states = said[0].flux.length, ends = [(1 - level) / 2, (1 + level) / 2], { own } = answer, told = own && members.map((m) => given(m, own, f));
  const number = (k, i) => (answer.students ??= new Map()).get(k * 100000 + i) ?? (() => {
    const t = student((k + (((i + 0.5) * 0.6180339887498949) % 1)) / LEVELS, own ? own.degrees : NU);
    answer.students.set(k * 100000 + i, t);
    return t;
  })();
  const rows = Array.from({ length: states }, (_, s) => said.map((a) => a.flux[s]));
  const spread = (v) => [quantile(v, ends[0]), quantile(v, ends[1])], needed = rows.map((_, s) => said.map((a) => a.pressure[s]));
  const out = { flux: rows.map(mean), fluxEnds: rows.map(spread), pressure: needed.map(mean), pressureEnds: needed.map(spread), said, ions: {} };
  const known = members.map((m, k) => rows.map((_, s) => (own ? corrected(m, own, told[k], f, said[k].rejection[s], said[k].flux[s]) : said[k].rejection[s])));
  f.names.forEach((name, i) => {
    const r = { rejection: [], lower: [], upper: [] };
    for (let s = 0; s < states; s++) {
      const all = new Float64Array(LEVELS * n), R = known.map((a) => a[s][i]);
      members.forEach((m, k) => {
        const y = yOf(R[k]), { noise, model } = errorsOf(m, said[k].flux[s], f.share[i], own);
        const sd = own ? scaleOf(m, own) * Math.hypot(noise, Math.sqrt(told[k][i].left) * model) : Math.hypot(noise, model);
        for (let q = 0; q < LEVELS; q++) all[q * n + k] = y + sd * number(q, k);
      });
      r.rejection.push(mean(R));
      r.lower.push(ofY(quantile(all, ends[1])));
      r.upper.push(ofY(quantile(all, ends[0])));
    }
    out.ions[name] = r;
  });
  return out;
}
// Error of a value of its own, and of the model, for an ion of a share; where own values tell the membrane, theirs.
function errorsOf(m, flux, share, own = null) {
  const [value, model] = faded(Number.isFinite(flux) ? flux : 0);
  return own ? { noise: own.noise * value, model: own.model * model } : { noise: m.noise * value, model: m["discrepancy trace"] ** (1 - share) * m["discrepancy major"] ** share * model };
}

// All at once, for tests and scripts.
export function predict(answer, feed, asked, data) {
  const f = readFeed(feed, data);
  return { ...summarise(answer, answer.members.map((m) => askMember(m, answer, f, data, asked)), f, asked.level), said: undefined };
}

// ---- own measurements

// Members with other coupons of the prior: each membrane meets `many` of the coupons of the sample.
export function withCoupons(answer, many) {
  const n = answer.members.length;
  return { ...answer, members: Array.from({ length: many }, (_, s) => answer.members.map((m, i) => ({ ...m,
    coupon: answer.members[(i + s * 97) % n].coupon }))).flat() };
}

// Where a value stands: equivalents, shares and of which ions it speaks, as in ion_ode.inference.discrepancy.
const placeOf = (f, i) => ({ lnQ: Math.log(f.total + 1e-9), share: Object.fromEntries(f.names.map((n, k) => [n, f.share[k]])),
  speaks: Object.fromEntries(f.names.length === 2 ? f.names.map((n) => [n, Math.SQRT1_2]) : [[f.names[i], 1]]) });
function alike(a, b, { alikeQ, alikeShares }) {
  let far = ((a.lnQ - b.lnQ) / alikeQ) ** 2, dot = 0;
  for (const n of new Set([...Object.keys(a.share), ...Object.keys(b.share)])) {
    far += (((a.share[n] ?? 0) - (b.share[n] ?? 0)) / alikeShares) ** 2;
    dot += (a.speaks[n] ?? 0) * (b.speaks[n] ?? 0);
  }
  return dot * Math.exp(-far / 2);
}
// x of L x = b.
const below = (L, b) => { const x = []; b.forEach((v, i) => x.push((v - x.reduce((s, w, k) => s + w * L[i][k], 0)) / L[i][i])); return x; };

// What a member says of own values: { model, flux, share: of each, off: measured less said on the scale of y }. values:
// [{ feed, ion, flux | pressure, rejection, sd, kind, pH }], all of one coupon.
export function offOwn(m, answer, values, data, tolerance = 1e-6) {
  const by = values[0].flux === null ? "pressure" : "flux", groups = new Map(), out = { model: [], flux: [], share: [], off: [] };
  values.forEach((v, k) => { const key = JSON.stringify([v.feed, v.kind, v.pH ?? null]); groups.set(key, [...(groups.get(key) ?? []), k]); });
  for (const rows of groups.values()) {
    const { feed, kind, pH = null } = values[rows[0]], f = readFeed(feed, data), at = [...new Set(rows.map((k) => values[k][by]))].sort((x, y) => x - y);
    const said = askMember(m, answer, f, data, { [by]: at, kind, pH, tolerance });
    for (const k of rows) {
      const s = at.indexOf(values[k][by]), i = f.names.indexOf(values[k].ion), model = said.rejection[s][i], e = yOf(values[k].rejection) - yOf(model);
      for (const [name, v] of Object.entries({ model, flux: said.flux[s], share: f.share[i], off: Number.isFinite(e) ? e : 1e3 })) out[name][k] = v;
    }
  }
  return out;
}

// Values outside what 99 in 100 measurements on members of the prior would give, of what offOwn said; as
// ion_ode.inference.calibrate says it: [{ ion, rejection, low, high }].
export function contradicting(members, said, values) {
  return values.map((v, i) => {
    const y = members.flatMap((m, k) => {
      if (!Number.isFinite(said[k].model[i])) return [];
      const { noise, model } = errorsOf(m, said[k].flux[i], said[k].share[i]), sd = Math.hypot(noise, model);
      return Array.from({ length: LEVELS }, (_, q) => yOf(said[k].model[i]) + sd * student((q + (((k + 0.5) * 0.6180339887498949) % 1)) / LEVELS));
    });
    return { ion: v.ion, rejection: v.rejection, low: ofY(quantile(y, 0.995)), high: ofY(quantile(y, 0.005)) };
  }).filter((v) => v.rejection < v.low || v.rejection > v.high);
}

// One value of a salt that stands on both its ions is one value.
export const once = (values) => values.filter((v) => !(v.ion.includes("-") && Object.values(v.feed).filter((c) => c > 0).length === 2
  && values.some((w) => w !== v && !w.ion.includes("-") && Math.abs(w.rejection - v.rejection) < 1e-9 && w.flux === v.flux && w.pressure === v.pressure
    && JSON.stringify(w.feed) === JSON.stringify(v.feed))));

// What all members say of own values: each one's covariance of their errors, its residuals over it, and their log density.
export function ownErrors(answer, values, said, data) {
  const e = answer.errors, places = values.map((v) => { const f = readFeed(v.feed, data); return placeOf(f, f.names.indexOf(v.ion)); });
  const near = places.map((a) => places.map((b) => alike(a, b, e))), degrees = e.nu + values.length;
  const roots = said.map((a, n) => rootOf(answer.members[n], e, values, a, near)), white = said.map(({ off }, n) => below(roots[n].L, off));
  const logs = white.map((w, n) => -roots[n].L.reduce((s, row, i) => s + Math.log(row[i]), 0) - 0.5 * degrees * Math.log1p(w.reduce((s, x) => s + x * x, 0) / e.nu));
  return { ...e, places, degrees, roots, white, logs };
}
function rootOf(m, e, values, { flux, share }, near) {
  const errors = values.map((_, k) => errorsOf(m, flux[k], share[k], e)), size = errors.map((x) => x.model), L = [];
  values.forEach((v, i) => {
    const noise = Math.hypot(errors[i].noise, Math.min(0.5, (v.sd ?? 0) / (1.05 - v.rejection))), row = [];
    for (let k = 0; k <= i; k++) {
      let sum = size[i] * size[k] * near[i][k] + (i === k ? noise ** 2 + 1e-10 : 0);
      for (let j = 0; j < k; j++) sum -= row[j] * (i === k ? row[j] : L[k][j]);
      row.push(i === k ? Math.sqrt(sum) : sum / L[k][k]);
    }
    L.push(row);
  });
  return { L, size };
}
const scaleOf = (m, own) => (m.scale ??= Math.sqrt((own.nu + m.white.reduce((s, x) => s + x * x, 0)) / own.degrees));

// Of every ion of a feed: its discrepancy as own values tell it, in units of its size, and the share of its variance left.
function given(m, own, f) {
  return f.names.map((_, i) => {
    const place = placeOf(f, i), weight = below(m.root.L, own.places.map((p, k) => alike(place, p, own) * m.root.size[k]));
    return { shift: weight.reduce((s, w, k) => s + w * m.white[k], 0), left: clip(1 - weight.reduce((s, w) => s + w * w, 0), 0, 1) };
  });
}

// A member's rejections with the discrepancy that own values tell; what that adds to the permeate's charge is taken back.
function corrected(m, own, told, f, R, flux) {
  const size = f.share.map((share) => errorsOf(m, flux, share, own).model), shifted = R.map((r, i) => 1.05 - Math.exp(yOf(r) + size[i] * told[i].shift));
  const room = R.map((r, i) => (f.c[i] * (1.05 - Math.min(r, 1)) * size[i]) ** 2), sum = (v) => v.reduce((s, x) => s + x, 0);
  const excess = sum(R.map((r, i) => f.z[i] * f.c[i] * (r - shifted[i]))), all = Math.max(sum(room.map((w, i) => w * f.z[i] ** 2)), 1e-300);
  return shifted.map((r, i) => Math.min(r + (room[i] * f.z[i] * excess) / all / f.c[i], 1));
}

// Members again, as often as their weights say (systematic resampling); how many different ones, and of how many draws the
// weights are worth.
export function reweighed(answer, own, n = answer.members.length) {
  const { logs } = own;
  const top = Math.max(...logs), w = logs.map((l) => Math.exp(l - top)), sum = w.reduce((s, x) => s + x, 0);
  const members = [], used = new Set();
  let cumulative = w[0] / sum, i = 0;
  for (let k = 0; k < n; k++) {
    while ((k + 0.5) / n > cumulative && i < w.length - 1) cumulative += w[++i] / sum;
    members.push({ ...answer.members[i], white: own.white?.[i], root: own.roots?.[i] });
    used.add(i);
  }
  return { answer: { ...answer, members, own: { ...own, white: undefined, roots: undefined, logs: undefined }, students: undefined }, distinct: used.size, effective: (sum * sum) / w.reduce((s, x) => s + x * x, 0) };
}

// What a reader should know about a question, one sentence a kind; as Answer.notes says it, kept short.
export function notesOf(answer, f, flux, data, pH = null) {
  const r = answer.ranges, said = [], unseen = f.names.filter((n) => !(n in r.ions_mol_m3));
  if (unseen.length) said.push(`${unseen.map((n) => data.ions[n].label).join(", ")}: not among the measurements, taken from charge, radius and diffusivity alone.`);
  const narrow = Math.min(...answer.members.map((m) => m.r_pore)), shut = f.names.filter((n, i) => data.ions[n].r_stokes >= narrow * (f.z[i] === 0 ? answer.neutral : 1));
  if (shut.length) said.push(`${shut.map((n) => data.ions[n].label).join(", ")}: wider than the pore of some of these membranes, which then lets none of it pass.`);
  const [low, high] = answer.acidity.known;
  if (pH !== null && (pH < low - 0.1 || pH > high + 0.1)) said.push(`pH ${pH} is ${pH < low ? "below" : "above"} the ${low} to ${high} that the membrane's charge was measured at: its law is extrapolated.`);
  for (const [what, x, ends, unit, one] of [["Salt", f.total, r.equivalents_mol_m3, "eq/m³", 1], ["Flux", flux, r.flux_m_s, "L m⁻² h⁻¹", data.constants.LMH]]) {
    const [low, high] = ends, span = `the measured ${Number((low / one).toPrecision(3))} to ${Number((high / one).toPrecision(3))} ${unit}`;
    if (x > 1.5 * high) said.push(`${what} of ${Number((x / one).toPrecision(3))} ${unit} is above ${span}: the interval does not hold there.`);
    if (x < 0.5 * low && x > 0) said.push(`${what} of ${Number((x / one).toPrecision(3))} ${unit} is below ${span}: the interval does not hold there.`);
  }
  return said;
}

