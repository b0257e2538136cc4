// The Donnan-steric pore model with dielectric exclusion, solved in plain JavaScript.
//
// Same equations, conventions and units (SI) as ion_ode.dspmde: coordinate x in [0, 1] from the feed side, potentials in
// RT/F, charge signed and per pore volume. Shooting from the permeate through pore and film, where backward integration is
// stable, by a damped Newton method in ln c_perm with exact slopes of the Runge–Kutta steps; step doubling bounds the error.

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

// The fixed charge a feed meets: a number, Freundlich's { a, b }, or { base, shifts } by equivalent fractions, as in
// ion_ode.membranes. c, z, names: the ions that are present.
export function chargeOfFeed(law, c, z, names) {
  if (typeof law === "number") return law;
  const equivalents = 0.5 * c.reduce((sum, ci, i) => sum + Math.abs(z[i]) * ci, 0);
  if ("a" in law) return law.a * equivalents ** law.b;
  const kappa = law.saturation ?? Infinity, grown = (equivalents / 15) ** (law.growth ?? 0);
  const bound = (share) => (Number.isFinite(kappa) ? (share * (1 + kappa)) / (share + kappa) : share);
  return names.reduce((sum, name, i) => sum + (law.shifts[name] ?? 0) * bound((Math.abs(z[i]) * c[i]) / equivalents) * grown,
    chargeOfFeed(law.base, c, z, names));
}

const SHUT_OUT = -60; // ln of the partition coefficient of what is wider than the pore, as in ion_ode.dspmde.notes

// What does not depend on the flux. feed: {ion: mol/m³}; ions: {name: {z, D_bulk, r_stokes}}; membrane: {r_pore, thickness,
// charge_density, eps_pore, ln_partition, neutral: pore radius of a neutral solute over that of ions} in SI; film: thickness
// of the stagnant layer [m], or what a flux of one meets in it ion by ion (1/k_i) [s/m]; 0 for none. Ions with zero
// concentration leave the problem exactly; what is wider than the pore stays outside.
export function prepare(feed, membrane, data, film = 0) {
  const names = Object.keys(feed).filter((name) => feed[name] !== 0);
  if (names.length === 0) throw new InputError("the feed holds no salt; give at least two ions a concentration above zero");
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
  const c = names.map((name) => feed[name]);
  const z = table.map((ion) => ion.z);
  const balance = z.reduce((s, zi, i) => s + zi * c[i], 0) / z.reduce((s, zi, i) => s + Math.abs(zi) * c[i], 0);
  if (!z.some(Boolean)) throw new InputError("the feed holds no salt; give at least two ions a concentration above zero");
  if (Math.abs(balance) > 1e-9)
    throw new InputError(`the feed is not electroneutral: charge imbalance ${(100 * balance).toPrecision(3)} %; let one ion close the balance`);
  const charge = chargeOfFeed(charge_density, c, z, names);
  if (!Number.isFinite(charge)) throw new InputError(`the membrane's charge is ${charge} mol/m³; expected a finite number`);
  const k = data.constants;
  const over = table.map((ion) => ion.r_stokes / (r_pore * (ion.z === 0 ? membrane.neutral ?? 1 : 1)));
  const lam = over.map((l) => (l >= 1 ? 0.9 : l)); // of what stays outside the hindrance says nothing
  const phi = table.map((ion, i) => (over[i] >= 1 ? Math.exp(SHUT_OUT) : partitionSteric(lam[i]) * Math.exp(ln_partition?.[names[i]] ?? 0)
    * partitionBorn(ion.z, ion.r_stokes, eps_pore, k.epsBulk, k.temperature, k)));
  const perFlux = table.map((ion, i) => thickness / (hindranceDiffusion(lam[i]) * ion.D_bulk));
  const entering = c.map((ci, i) => ci * phi[i]);
  return { names, c, z, phi, blocked: names.filter((_, i) => over[i] >= 1), rate: perFlux.map((p, i) => p * hindranceConvection(lam[i])), perFlux, charge,
    lnPhi: phi.map(Math.log), lnFeed: c.map(Math.log), psiFeed: donnan(z, entering, charge), film: filmPerFlux(film, table) };
}

const filmPerFlux = (film, table) => (Array.isArray(film) ? film : film > 0 ? table.map((ion) => film / ion.D_bulk) : null);

// Another feed or another film in front of the same membrane of a fixed charge, such as the next place of a module.
export function movedTo(problem, c, film) {
  const entering = c.map((ci, i) => ci * problem.phi[i]);
  return { ...problem, c, lnFeed: c.map(Math.log), psiFeed: donnan(problem.z, entering, problem.charge), film };
}

// Work space of a number of ions: the state with its slopes, Runge–Kutta's stages, the Jacobian.
const spaces = new Map();
function space(n) {
  if (!spaces.has(n)) {
    const f = (m) => new Float64Array(m), size = n * (n + 2), m = n + 1;
    spaces.set(n, { y: f(size), stage: f(size), slope: f(size), sum: f(size), dField: f(m), rate: f(n), source: f(n),
      cPerm: f(n), r: f(m), J: f(m * (m + 1)), u: f(m), next: f(m) });
  }
  return spaces.get(n);
}

// Runge–Kutta 4 from x = 1 to x = 0 of Σ z c = const. with its slopes: y holds (ion, 1 + unknown), row-major; the source of ion
// i grows with unknown i. False where a concentration turned negative: too large a step.
function march(w, z, n, nSteps, columns) {
  const { y, stage, slope, sum, dField, rate, source } = w, row = n + 2, h = -1 / nSteps, size = n * row;
  const derivative = (s) => {
    let current = 0, conductance = 0;
    for (let i = 0; i < n; i++) {
      const zi = z[i], c = s[i * row];
      current += zi * (rate[i] * c - source[i]);
      conductance += zi * zi * c;
    }
    const field = current / conductance;
    for (let k = 0; k < columns; k++) dField[k] = k < n ? -z[k] * source[k] : 0;
    for (let i = 0; i < n; i++) {
      const f = z[i] * (rate[i] - field * z[i]), at = i * row + 1;
      for (let k = 0; k < columns; k++) dField[k] += f * s[at + k];
    }
    for (let k = 0; k < columns; k++) dField[k] /= conductance;
    for (let i = 0; i < n; i++) {
      const c = s[i * row], drift = rate[i] - z[i] * field, zc = z[i] * c, at = i * row + 1;
      slope[i * row] = drift * c - source[i];
      for (let k = 0; k < columns; k++) slope[at + k] = drift * s[at + k] - zc * dField[k];
      slope[at + i] -= source[i];
    }
  };
  for (let step = 0; step < nSteps; step++) {
    derivative(y);
    for (let j = 0; j < size; j++) { sum[j] = slope[j]; stage[j] = y[j] + (h / 2) * slope[j]; }
    derivative(stage);
    for (let j = 0; j < size; j++) { sum[j] += 2 * slope[j]; stage[j] = y[j] + (h / 2) * slope[j]; }
    derivative(stage);
    for (let j = 0; j < size; j++) { sum[j] += 2 * slope[j]; stage[j] = y[j] + h * slope[j]; }
    derivative(stage);
    for (let j = 0; j < size; j++) y[j] += (h / 6) * (sum[j] + slope[j]);
    for (let i = 0; i < n; i++) if (!(y[i * row] > 0)) return false;
  }
  return true;
}

// Residual r and Jacobian J (rows of n + 2, the last column free for the right side) in (ln c_perm, psi_feed), from the permeate
// through pore and film to the feed; the last row is the charge of the permeate. False where the march failed.
function shoot(p, flux, u, nSteps, w) {
  const { z, lnPhi } = p, n = z.length, row = n + 2, { y, cPerm, r, J, rate, source } = w;
  for (let i = 0; i < n; i++) cPerm[i] = Math.exp(u[i]);
  const psi = donnan(z, Array.from(cPerm, (c, i) => c * p.phi[i]), p.charge);
  let ionic = 0;
  y.fill(0);
  for (let i = 0; i < n; i++) {
    y[i * row] = cPerm[i] * p.phi[i] * Math.exp(-z[i] * psi);
    ionic += z[i] ** 2 * y[i * row];
    rate[i] = p.rate[i] * flux;
    source[i] = p.perFlux[i] * flux * cPerm[i];
  }
  for (let i = 0; i < n; i++)
    for (let k = 0; k < n; k++) y[i * row + k + 1] = y[i * row] * ((i === k ? 1 : 0) - (z[i] * z[k] * y[k * row]) / ionic);
  if (!march(w, z, n, nSteps, n)) return false;
  w.psi = psi;
  for (let i = 0; i < n; i++) { // through the entry to the wall
    const wall = y[i * row] * Math.exp(z[i] * u[n] - lnPhi[i]), scale = wall / y[i * row];
    for (let k = 0; k < n; k++) y[i * row + k + 1] *= scale;
    y[i * row] = wall;
    y[i * row + n + 1] = z[i] * wall;
  }
  w.wall = p.film ? Array.from({ length: n }, (_, i) => y[i * row]) : p.c;
  if (p.film) {
    for (let i = 0; i < n; i++) { rate[i] = p.film[i] * flux; source[i] = rate[i] * cPerm[i]; }
    if (!march(w, z, n, Math.max(4, nSteps >> 1), n + 1)) return false;
  }
  let net = 0, total = 0;
  for (let i = 0; i < n; i++) {
    r[i] = Math.log(y[i * row]) - p.lnFeed[i];
    for (let k = 0; k <= n; k++) J[i * row + k] = y[i * row + k + 1] / y[i * row];
    net += z[i] * cPerm[i];
    total += Math.abs(z[i]) * cPerm[i];
  }
  r[n] = net / total;
  for (let k = 0; k < n; k++) J[n * row + k] = (cPerm[k] * (z[k] - Math.abs(z[k]) * r[n])) / total;
  J[n * row + n] = 0;
  for (let i = 0; i <= n; i++) if (!Number.isFinite(r[i])) return false;
  return true;
}

const largest = (v, n = v.length) => { let m = 0; for (let i = 0; i < n; i++) m = Math.max(m, Math.abs(v[i])); return m; };

// Gaussian elimination with partial pivoting in rows of m + 1 numbers, the last the right side; the solution in x.
function eliminate(A, x, m) {
  const row = m + 1;
  for (let k = 0; k < m; k++) {
    let pivot = k;
    for (let i = k + 1; i < m; i++) if (Math.abs(A[i * row + k]) > Math.abs(A[pivot * row + k])) pivot = i;
    if (!(Math.abs(A[pivot * row + k]) > 0)) return false;
    if (pivot !== k) for (let j = k; j < row; j++) { const t = A[k * row + j]; A[k * row + j] = A[pivot * row + j]; A[pivot * row + j] = t; }
    for (let i = k + 1; i < m; i++) {
      const f = A[i * row + k] / A[k * row + k];
      if (f !== 0) for (let j = k; j < row; j++) A[i * row + j] -= f * A[k * row + j];
    }
  }
  for (let k = m - 1; k >= 0; k--) {
    let s = A[k * row + m];
    for (let j = k + 1; j < m; j++) s -= A[k * row + j] * x[j];
    x[k] = s / A[k * row + k];
    if (!Number.isFinite(x[k])) return false;
  }
  return true;
}

function newton(problem, flux, start, nSteps, done = 1e-12, maxIterations = 60) {
  const n = problem.z.length, m = n + 1, w = space(n), step = w.next;
  let u = Float64Array.from(start);
  if (!shoot(problem, flux, u, nSteps, w)) return null;
  let size = largest(w.r), iterations = 0;
  for (; iterations < maxIterations && size > done; iterations++) {
    for (let i = 0; i < m; i++) w.J[i * (m + 1) + m] = -w.r[i];
    if (!eliminate(w.J, step, m)) return null;
    const change = Float64Array.from(step);
    let t = Math.min(1, 2 / largest(change)), better = false, next = null;
    for (let halving = 0; halving < 30; halving++, t /= 2) {
      next = u.map((x, i) => x + t * change[i]);
      if (shoot(problem, flux, next, nSteps, w) && largest(w.r) < size * (1 - 1e-4 * t)) { better = true; break; }
      if (size < 1e-9) break;
    }
    if (!better) { // no decrease left: either at round-off or stuck
      if (size < 1e-9) { shoot(problem, flux, u, nSteps, w); break; }
      return null;
    }
    u = next;
    size = largest(w.r);
  }
  return size < 1e-9 ? { u, size, iterations, cPerm: Array.from(w.cPerm), wall: Array.from(w.wall), psi: w.psi } : null;
}

// Newton at n steps and again at 2 n: their difference bounds the error of the integration.
function certified(problem, flux, start, tolerance) {
  let steepest = largest(problem.rate) * flux;
  if (problem.film) steepest = Math.max(steepest, 2 * largest(problem.film) * flux);
  let nSteps = Math.max(8, 2 * Math.ceil(1.5 * steepest)), coarse = newton(problem, flux, start, nSteps, 1e-8);
  for (let finer = 0; !coarse && finer < 3; finer++) coarse = newton(problem, flux, start, (nSteps *= 2), 1e-8);
  while (coarse && nSteps < 20000) {
    nSteps *= 2;
    const fine = newton(problem, flux, coarse.u, nSteps);
    if (!fine) return null;
    let error = 0; // order 4
    for (let i = 0; i < problem.z.length; i++) error = Math.max(error, Math.abs(fine.u[i] - coarse.u[i]) / 15);
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
    flux, converged: true, names: problem.names, cPerm: s.cPerm, wall: s.wall,
    rejection: s.cPerm.map((c, i) => 1 - c / problem.c[i]),
    psiFeed: s.u[problem.z.length], psiPerm: s.psi, residual: s.size, chargeBalance: charge / scale,
    error: s.error, nSteps: s.nSteps, iterations: s.iterations, u: s.u,
  };
};

// The permeate at one flux [m/s]; `near` may be a solution at a flux nearby. A ladder in ln flux is the fallback.
export function solve(problem, flux, near = null, tolerance = 1e-9) {
  if (!(flux >= 0 && Number.isFinite(flux))) throw new InputError(`the flux is ${flux} m/s; expected zero or a positive number`);
  const rest = Float64Array.from([...problem.lnFeed.map((l, i) => (problem.blocked.includes(problem.names[i]) ? l + SHUT_OUT : l)), problem.psiFeed]);
  if (flux === 0) { // nothing is carried: the permeate is the feed
    const at = { cPerm: problem.c.slice(), wall: problem.c.slice(), psi: problem.psiFeed, u: rest, size: 0, error: 0, nSteps: 0, iterations: 0 };
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
  const none = problem.c.map(() => NaN);
  return { flux, converged: false, names: problem.names, cPerm: none, wall: none, rejection: none, u: null };
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
