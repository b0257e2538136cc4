// A pressure vessel of spiral-wound elements in a row: balances of water and ions along the feed channel (Eq. 7.8), the pore
// model behind the film of a stirred spacer at every place, the pressure the crossflow costs.

import { InputError, prepare, solve } from "./dspmde.mjs";

// Sherwood and friction of the channel at a feed flow [m³/s] (Eqs. 7.2 and 7.3): 1/k of every ion [s/m], pressure lost along
// the vessel [Pa].
function stirring(flow, e, count, names, data) {
  const { mixing, density } = data.module, { viscosity } = data.constants, v = flow / e.section;
  const Re = (density * v * e.hydraulic_diameter) / viscosity;
  const perK = names.map((n) => {
    const D = data.ions[n].D_bulk;
    return e.hydraulic_diameter / (mixing.a * Re ** mixing.b * (viscosity / (density * D)) ** mixing.c * D);
  });
  const drop = (mixing.f0 + mixing.f1 * Re ** mixing.m) * density * v ** 2 / (2 * e.hydraulic_diameter);
  return { perK, drop: count * e.length * drop };
}

// The flux where pressure, friction of the membrane and osmosis agree, with the permeate there; null where osmosis wins.
function localFlux(problem, P, resistance, data, near, tolerance) {
  const RT = data.constants.gasConstant * data.constants.temperature;
  let solved = near?.solved ?? null;
  const lack = (J) => {
    solved = solve(problem, J, solved, tolerance);
    return solved.converged ? P - J * resistance - RT * solved.wall.reduce((s, w, i) => s + w - solved.cPerm[i], 0) : NaN;
  };
  let low = 0, high = P / resistance, J = near ? near.J : 0.5 * high, g = lack(J), slope = near?.slope ?? -2 * resistance;
  for (let n = 0; n < 60 && Number.isFinite(g); n++) {
    if (g > 0) low = J; else high = J;
    let next = J - g / slope;
    if (!(next > low && next < high)) next = (low + high) / 2;
    if (Math.abs(next - J) <= 1e-11 * J) return { J: next, solved, slope };
    const before = g, step = next - J;
    J = next;
    g = lack(J);
    if (Math.abs(step) > 1e-9 * J) slope = Math.min((g - before) / step, -0.2 * resistance);
    if (Math.abs(g) <= 1e-10 * P) return { J, solved, slope };
    if (high < 1e-6 * (P / resistance)) return null;
  }
  return null;
}

// What leaves a vessel at a feed flow [m³/s] and a feed pressure [Pa]. membraneAt(feed) gives the membrane a local feed meets;
// Runge–Kutta 4 along the vessel in a number of steps.
export function vessel({ feed, membraneAt, element, count, flow, pressure, data, steps = 8, tolerance = 1e-8 }) {
  const names = Object.keys(feed).filter((n) => feed[n] > 0), d = names.length, area = count * element.area;
  const z = names.map((n) => data.ions[n].z), places = [];
  let last = null;
  const rates = (y, share) => { // along the share of the vessel
    const Q = y[d], P = y[d + 1];
    if (!(Q > 0.02 * flow && y.every((v, i) => i > d || v > 0))) throw new InputError(USED_UP);
    if (!(P > 1e3)) throw new InputError("friction uses up the pressure in the vessel; lower the feed flow, take fewer elements or raise the pressure");
    const c = names.map((_, i) => y[i] / Q), { perK, drop } = stirring(Q, element, count, names, data);
    const net = z.reduce((s, zi, i) => s + zi * c[i], 0); // round-off of the balances, taken up by the largest ion of its sign
    const fix = z.reduce((best, zi, i) => (zi * net > 0 && (best < 0 || c[i] > c[best]) ? i : best), -1);
    if (fix >= 0) c[fix] -= net / z[fix];
    const local = Object.fromEntries(names.map((n, i) => [n, c[i]])), membrane = membraneAt(local);
    const found = localFlux(prepare(local, membrane, data, perK), P, 1 / membrane.permeability, data, last, tolerance);
    if (!found) throw new InputError("osmosis wins in the vessel: no water passes at this pressure; raise it");
    last = found;
    if (share !== null) places.push({ share, flux: found.J, c, wall: found.solved.wall, cPerm: found.solved.cPerm, pressure: P, flow: Q });
    return [...names.map((_, i) => -area * found.J * found.solved.cPerm[i]), -area * found.J, -drop];
  };
  const start = [...names.map((n) => feed[n] * flow), flow, pressure], h = 1 / steps;
  const along = (y, k, by) => y.map((v, i) => v + by * k[i]);
  let y = start;
  for (let n = 0; n < steps; n++) {
    const k1 = rates(y, n / steps), k2 = rates(along(y, k1, h / 2), null), k3 = rates(along(y, k2, h / 2), null), k4 = rates(along(y, k3, h), null);
    y = y.map((v, i) => v + (h / 6) * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]));
  }
  rates(y, 1);
  const product = flow - y[d], cPerm = names.map((_, i) => (start[i] - y[i]) / product);
  return { names, c: names.map((n) => feed[n]), cPerm, cConc: names.map((_, i) => y[i] / y[d]), flow, product, recovery: product / flow,
    pressure, drop: pressure - y[d + 1], energy: (pressure * flow) / data.module.pumpEfficiency / product,
    rejection: cPerm.map((c, i) => 1 - c / feed[names[i]]), places };
}
const USED_UP = "the feed of the vessel is used up; lower the recovery or the pressure, or raise the feed flow";

// The same at a recovery: the pressure that gives it, at most three times what the element bears.
export function vesselAtRecovery({ recovery, guess = null, ...setting }) {
  const { feed, element, count, flow, membraneAt, data } = setting, most = 3 * (element.max_pressure ?? 41e5);
  const RT = data.constants.gasConstant * data.constants.temperature, first = (recovery * flow) / (count * element.area) / membraneAt(feed).permeability;
  let low = 1e4, high = most, P = guess ?? Math.min(most, first + 0.3 * RT * Object.values(feed).reduce((s, c) => s + c, 0)), before = null;
  for (let n = 0; n < 60; n++) {
    let now = null, miss;
    try { now = vessel({ ...setting, pressure: P }); miss = now.recovery - recovery; } catch (error) {
      if (!(error instanceof InputError)) throw error;
      miss = error.message === USED_UP ? 1 : -1;
    }
    if (now && Math.abs(miss) < (setting.recoveryTolerance ?? 1e-9)) return now;
    if (miss > 0) high = P; else low = P;
    let next = Math.sqrt(low * high);
    if (now) {
      const slope = before ? (now.recovery - before.recovery) / (now.pressure - before.pressure) : now.recovery / P;
      const secant = P - miss / slope;
      if (secant > low && secant < high) next = secant;
      before = now;
    }
    if (Math.abs(next - P) < 1e-11 * P) { if (now) return now; break; }
    P = next;
  }
  throw new InputError(`a recovery of ${Number((100 * recovery).toPrecision(3))} % is out of reach of this vessel; change feed flow or number of elements`);
}
