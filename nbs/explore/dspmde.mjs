// The Donnan-steric pore model with dielectric exclusion, solved in plain JavaScript.
//
// Same equations, conventions and units (SI) as ion_ode.dspmde: coordinate x in [0, 1] from the feed side, potentials in
// RT/F, charge signed and per pore volume. Shooting from the permeate side, where backward integration is stable, by a
// damped Newton method in ln c_perm with exact sensitivities of the Runge-Kutta steps, and step doubling to bound the error.

export class InputError extends Error {}

const polynomial = (coefficients, x) => coefficients.reduceRight((sum, a) => sum * x + a, 0);

// Dechadilok & Deen 2006, 10.1021/ie051387n: hindrance of diffusion and convection in a pore.
export function hindranceDiffusion(lam) {
  if (lam >= 1) return 0;
  if (lam > 0.95) return 0.984 * ((1 - lam) / lam) ** 2.5;
  if (lam === 0) return 1;
  const p = [1, (9 / 8) * Math.log(lam) - 1.56034, 0.528155, 1.91521, -2.81903, 0.270788, 1.10115, -0.435933];
  return polynomial(p, lam) / (1 - lam) ** 2;
}

export const hindranceConvection = (lam) =>
  polynomial([1, 3.867, -1.907, -0.834], lam) / polynomial([1, 1.867, -0.741], lam);

export const partitionSteric = (lam) => Math.max(0, 1 - lam) ** 2;

export function partitionBorn(z, radius, epsPore, epsBulk, temperature, c) {
  const work = (z ** 2 * c.elementaryCharge ** 2) / (8 * Math.PI * c.vacuumPermittivity * radius);
  return Math.exp((-work * (1 / epsPore - 1 / epsBulk)) / (c.boltzmann * temperature));
}

// Σ z_i a_i exp(-z_i p) + charge = 0 for p: the Donnan potential. The logarithms of the positive and of the negative side
// are nearly straight lines in p, so Newton on their difference needs few steps; a bracket keeps it safe.
export function donnan(z, a, charge) {
  const sides = (p) => {
    let plus = Math.max(charge, 0), minus = Math.max(-charge, 0), dPlus = 0, dMinus = 0;
    for (let i = 0; i < z.length; i++) {
      const t = Math.abs(z[i]) * a[i] * Math.exp(-z[i] * p);
      if (z[i] > 0) { plus += t; dPlus -= z[i] * t; } else { minus += t; dMinus -= z[i] * t; }
    }
    return [Math.log(plus) - Math.log(minus), dPlus / plus - dMinus / minus];
  };
  let low = -200, high = 200, p = 0;
  for (let n = 0; n < 200; n++) {
    const [g, slope] = sides(p);
    if (g === 0) return p;
    if (g > 0) low = p; else high = p;
    let next = p - g / slope;
    if (!(next > low && next < high)) next = (low + high) / 2;
    if (Math.abs(next - p) <= 1e-15 * (1 + Math.abs(p))) return next;
    p = next;
  }
  return p;
}

// Gaussian elimination with partial pivoting; A is an array of rows, both are overwritten.
export function solveLinear(A, b) {
  const n = b.length;
  for (let k = 0; k < n; k++) {
    let pivot = k;
    for (let i = k + 1; i < n; i++) if (Math.abs(A[i][k]) > Math.abs(A[pivot][k])) pivot = i;
    if (!(Math.abs(A[pivot][k]) > 0)) return null;
    [A[k], A[pivot]] = [A[pivot], A[k]];
    [b[k], b[pivot]] = [b[pivot], b[k]];
    for (let i = k + 1; i < n; i++) {
      const f = A[i][k] / A[k][k];
      if (f === 0) continue;
      for (let j = k; j < n; j++) A[i][j] -= f * A[k][j];
      b[i] -= f * b[k];
    }
  }
  for (let k = n - 1; k >= 0; k--) {
    for (let j = k + 1; j < n; j++) b[k] -= A[k][j] * b[j];
    b[k] /= A[k][k];
  }
  return b;
}

// The fixed charge a feed meets: a number, Freundlich's { a, b }, or { base, shifts } by equivalent fractions, as in
// ion_ode.membranes. c, z, names: the ions that are present.
export function chargeOfFeed(law, c, z, names) {
  if (typeof law === "number") return law;
  const equivalents = 0.5 * c.reduce((sum, ci, i) => sum + Math.abs(z[i]) * ci, 0);
  if ("a" in law) return law.a * equivalents ** law.b;
  return names.reduce(
    (sum, name, i) => sum + ((law.shifts[name] ?? 0) * Math.abs(z[i]) * c[i]) / equivalents,
    chargeOfFeed(law.base, c, z, names),
  );
}

// What does not depend on the flux. feed: {ion: mol/m³}; ions: {name: {z, D_bulk, r_stokes}}; membrane: {r_pore,
// thickness, charge_density, eps_pore, ln_partition} in SI. Ions with zero concentration leave the problem exactly.
export function prepare(feed, membrane, data) {
  const names = Object.keys(feed).filter((name) => feed[name] !== 0);
  if (names.length === 0) throw new InputError("the feed holds no salt; give at least one salt a concentration above zero");
  const table = names.map((name) => {
    const ion = data.ions[name];
    if (!ion) throw new InputError(`unknown ion ${name}; the table holds ${Object.keys(data.ions).join(", ")}`);
    if (!(feed[name] > 0 && Number.isFinite(feed[name])))
      throw new InputError(`the concentration of ${name} is ${feed[name]} mol/m³; expected a positive number`);
    return ion;
  });
  const { r_pore, thickness, charge_density, eps_pore, ln_partition } = membrane;
  for (const [name, value] of Object.entries({ r_pore, thickness, eps_pore }))
    if (!(value > 0)) throw new InputError(`the membrane's ${name} is ${value}; expected a number above zero`);
  const blocked = names.filter((_, i) => table[i].r_stokes >= r_pore);
  if (blocked.length)
    throw new InputError(`${blocked.join(", ")} is wider than the pore (radius ${r_pore} m); choose a wider pore`);
  const c = names.map((name) => feed[name]);
  const z = table.map((ion) => ion.z);
  const balance = z.reduce((s, zi, i) => s + zi * c[i], 0) / z.reduce((s, zi, i) => s + Math.abs(zi) * c[i], 0);
  if (Math.abs(balance) > 1e-9)
    throw new InputError(`the feed is not electroneutral: charge imbalance ${(100 * balance).toPrecision(3)} %; add salts, not ions`);
  const charge = chargeOfFeed(charge_density, c, z, names);
  if (!Number.isFinite(charge)) throw new InputError(`the membrane's charge is ${charge} mol/m³; expected a finite number`);
  const k = data.constants;
  const lam = table.map((ion) => ion.r_stokes / r_pore);
  const phi = table.map((ion, i) => partitionSteric(lam[i]) * Math.exp(ln_partition?.[names[i]] ?? 0)
    * partitionBorn(ion.z, ion.r_stokes, eps_pore, k.epsBulk, k.temperature, k));
  const kConv = lam.map(hindranceConvection);
  const pecletPerFlux = table.map((ion, i) => thickness / (hindranceDiffusion(lam[i]) * ion.D_bulk));
  const entering = c.map((ci, i) => ci * phi[i]);
  return { names, c, z, phi, kConv, pecletPerFlux, charge, lnEntering: entering.map(Math.log),
    psiFeed: donnan(z, entering, charge) };
}

// Concentrations in the pore at the feed side, c(0), that belong to a permeate, and d c(0) / d ln c_perm.
// Runge-Kutta 4 from x = 1 to x = 0; `null` where a concentration turned negative (too large a step).
function shoot(problem, peclet, cPerm, nSteps) {
  const { z, phi, kConv, charge } = problem;
  const n = z.length, size = n * (n + 1);
  const psi = donnan(z, cPerm.map((c, i) => c * phi[i]), charge);
  // column 0 holds c, column k + 1 its derivative with respect to ln c_perm of ion k; row-major (ion, column)
  const w = n + 1;
  const y = new Float64Array(size), yStage = new Float64Array(size), sum = new Float64Array(size), slope = new Float64Array(size);
  let ionic = 0;
  for (let i = 0; i < n; i++) {
    y[i * w] = cPerm[i] * phi[i] * Math.exp(-z[i] * psi);
    ionic += z[i] ** 2 * y[i * w];
  }
  for (let i = 0; i < n; i++)
    for (let k = 0; k < n; k++) y[i * w + k + 1] = y[i * w] * ((i === k ? 1 : 0) - (z[i] * z[k] * y[k * w]) / ionic);
  const a = kConv.map((kc, i) => peclet[i] * kc);
  const b = cPerm.map((c, i) => peclet[i] * c);
  const dField = new Float64Array(n);
  const derivative = (s, out) => {
    let current = 0, conductance = 0;
    for (let i = 0; i < n; i++) {
      const c = s[i * w];
      current += z[i] * (a[i] * c - b[i]);
      conductance += z[i] * z[i] * c;
    }
    const field = current / conductance; // d psi / dx from Σ z dc/dx = 0
    for (let k = 0; k < n; k++) {
      let d = -z[k] * b[k];
      for (let i = 0; i < n; i++) d += z[i] * (a[i] - field * z[i]) * s[i * w + k + 1];
      dField[k] = d / conductance;
    }
    for (let i = 0; i < n; i++) {
      const c = s[i * w], drift = a[i] - z[i] * field;
      out[i * w] = drift * c - b[i];
      for (let k = 0; k < n; k++)
        out[i * w + k + 1] = drift * s[i * w + k + 1] - z[i] * c * dField[k] - (i === k ? b[i] : 0);
    }
  };
  const h = -1 / nSteps;
  for (let step = 0; step < nSteps; step++) {
    derivative(y, slope);
    for (let j = 0; j < size; j++) { sum[j] = slope[j]; yStage[j] = y[j] + (h / 2) * slope[j]; }
    derivative(yStage, slope);
    for (let j = 0; j < size; j++) { sum[j] += 2 * slope[j]; yStage[j] = y[j] + (h / 2) * slope[j]; }
    derivative(yStage, slope);
    for (let j = 0; j < size; j++) { sum[j] += 2 * slope[j]; yStage[j] = y[j] + h * slope[j]; }
    derivative(yStage, slope);
    for (let j = 0; j < size; j++) y[j] += (h / 6) * (sum[j] + slope[j]);
    for (let i = 0; i < n; i++) if (!(y[i * w] > 0)) return null;
  }
  return { y, w, psi };
}

// Residual in log units, last row the charge of the permeate; with the Jacobian in (ln c_perm, psi_feed).
function residual(problem, peclet, u, nSteps) {
  const { z, lnEntering } = problem, n = z.length;
  const cPerm = Array.from(u.subarray(0, n), Math.exp);
  const shot = shoot(problem, peclet, cPerm, nSteps);
  if (!shot) return null;
  const { y, w, psi } = shot;
  const r = new Array(n + 1), J = [];
  for (let i = 0; i < n; i++) {
    r[i] = Math.log(y[i * w]) - lnEntering[i] + z[i] * u[n];
    const row = new Array(n + 1);
    for (let k = 0; k < n; k++) row[k] = y[i * w + k + 1] / y[i * w];
    row[n] = z[i];
    J.push(row);
  }
  let net = 0, total = 0;
  for (let i = 0; i < n; i++) { net += z[i] * cPerm[i]; total += Math.abs(z[i]) * cPerm[i]; }
  r[n] = net / total;
  J.push([...z.map((zi, k) => (cPerm[k] * (zi - Math.abs(zi) * r[n])) / total), 0]);
  return r.every(Number.isFinite) ? { r, J, cPerm, psi } : null;
}

const largest = (v) => v.reduce((m, x) => Math.max(m, Math.abs(x)), 0);

function newton(problem, peclet, start, nSteps, maxIterations = 60) {
  let u = Float64Array.from(start), now = residual(problem, peclet, u, nSteps), iterations = 0;
  if (!now) return null;
  for (; iterations < maxIterations; iterations++) {
    const size = largest(now.r);
    if (size < 1e-13) break;
    const step = solveLinear(now.J.map((row) => row.slice()), now.r.map((x) => -x));
    if (!step || !step.every(Number.isFinite)) return null;
    let t = Math.min(1, 2 / largest(step)), next = null;
    for (let halving = 0; halving < 30; halving++, t /= 2) {
      next = residual(problem, peclet, u.map((x, i) => x + t * step[i]), nSteps);
      if (next && largest(next.r) < size * (1 - 1e-4 * t)) break;
      next = null;
    }
    if (!next) { // no decrease left: either at round-off or stuck
      if (size < 1e-9) break;
      return null;
    }
    u = u.map((x, i) => x + t * step[i]);
    now = next;
  }
  return largest(now.r) < 1e-9 ? { u, ...now, iterations } : null;
}

// Newton at n steps and again at 2 n: their difference bounds the error of the integration.
function certified(problem, flux, start, tolerance) {
  const peclet = problem.pecletPerFlux.map((p) => p * flux);
  let nSteps = Math.max(24, Math.ceil(4 * peclet.reduce((m, p, i) => Math.max(m, p * problem.kConv[i]), 0)));
  let coarse = newton(problem, peclet, start, nSteps);
  while (coarse && nSteps < 20000) {
    nSteps *= 2;
    const fine = newton(problem, peclet, coarse.u, nSteps);
    if (!fine) return null;
    const error = largest(Array.from(fine.u, (x, i) => x - coarse.u[i]).slice(0, -1)) / 15; // order 4
    fine.iterations += coarse.iterations;
    if (error < tolerance) return { ...fine, nSteps, error };
    coarse = fine;
  }
  return null;
}

const describe = (problem, flux, s) => {
  const charge = problem.z.reduce((sum, z, i) => sum + z * s.cPerm[i], 0);
  const scale = problem.z.reduce((sum, z, i) => sum + Math.abs(z) * s.cPerm[i], 0);
  return {
    flux, converged: true, names: problem.names, cPerm: s.cPerm,
    rejection: s.cPerm.map((c, i) => 1 - c / problem.c[i]),
    psiFeed: s.u[problem.z.length], psiPerm: s.psi, residual: largest(s.r), chargeBalance: charge / scale,
    error: s.error, nSteps: s.nSteps, iterations: s.iterations, u: s.u,
  };
};

// The permeate at one flux [m/s]; `near` may be a solution at a flux nearby. A ladder in ln flux is the fallback.
export function solve(problem, flux, near = null, tolerance = 1e-9) {
  if (!(flux >= 0 && Number.isFinite(flux))) throw new InputError(`the flux is ${flux} m/s; expected zero or a positive number`);
  const rest = Float64Array.from([...problem.c.map(Math.log), problem.psiFeed]);
  if (flux === 0) { // nothing is carried: the permeate is the feed
    const at = { cPerm: problem.c.slice(), psi: problem.psiFeed, u: rest, r: [0], error: 0, nSteps: 0, iterations: 0 };
    return describe(problem, 0, at);
  }
  for (const start of near?.u ? [near.u, rest] : [rest]) {
    const s = certified(problem, flux, start, tolerance);
    if (s) return describe(problem, flux, s);
  }
  let u = rest, reached = 0, next = flux * 1e-6, failures = 0;
  while (failures < 30) {
    const s = certified(problem, next, u, tolerance);
    if (s && next === flux) return describe(problem, flux, s);
    if (s) { u = s.u; reached = next; next = Math.min(flux, next * 4); }
    else { failures++; next = reached ? Math.sqrt(reached * next) : next / 100; }
  }
  return { flux, converged: false, names: problem.names, cPerm: problem.c.map(() => NaN), rejection: problem.c.map(() => NaN), u: null };
}

// Permeates along increasing fluxes, each started from a straight line through the two before.
export function sweep(problem, fluxes, tolerance = 1e-9) {
  const out = [];
  for (const flux of fluxes) {
    const [b, a] = [out.at(-1), out.at(-2)];
    let near = b?.u ? b : null;
    if (near && a?.u && b.flux > a.flux) {
      const t = (flux - b.flux) / (b.flux - a.flux);
      near = { u: b.u.map((x, i) => x + Math.max(-2, Math.min(2, t * (x - a.u[i])))) };
    }
    out.push(solve(problem, flux, near, tolerance));
  }
  return out;
}
