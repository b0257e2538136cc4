// The neural ODE of ion_ode.attention_odenet in plain JavaScript, in double precision: tokens, masked attention, linear
// layers, the charge constraint, and fixed-step Tsitouras 5(4) in the log-warped flux with dense output. The weights come as
// JSON, float32 in base64.

import { prepare } from "./dspmde.mjs";

// Tsitouras (2011), 10.1016/j.camwa.2011.06.002
const STAGE_TIMES = [0, 0.161, 0.327, 0.9, 0.9800255409045097, 1];
const STAGES = [
  [],
  [0.161],
  [-0.008480655492356989, 0.335480655492357],
  [2.8971530571054935, -6.359448489975075, 4.3622954328695815],
  [5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525],
  [5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383],
  [0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774],
];
const DENSE = [
  [1, -2.763706197274826, 2.9132554618219126, -1.0530884977290216],
  [0, 0.13169999999999998, -0.2234, 0.1017],
  [0, 3.9302962368947516, -5.941033872131505, 2.490627285651253],
  [0, -12.411077166933676, 30.33818863028232, -16.548102889244902],
  [0, 37.50931341651104, -88.1789048947664, 47.37952196281928],
  [0, -27.896526289197286, 65.09189467479366, -34.87065786149661],
  [0, 1.5, -4, 2.5],
];
const TINY = 2.2250738585072014e-308;

function decodeTensor({ shape, data }) {
  const bytes = Uint8Array.from(atob(data), (ch) => ch.charCodeAt(0));
  const view = new DataView(bytes.buffer), out = new Float64Array(bytes.length / 4);
  for (let i = 0; i < out.length; i++) out[i] = view.getFloat32(4 * i, true);
  return { shape, data: out };
}

// json.members: [{ constraint, n_steps, tensors: { name: { shape, data } } }], names as in the Python module.
export function loadNetwork(json) {
  return {
    ...json,
    members: json.members.map((m) => ({
      ...m,
      tensors: Object.fromEntries(Object.entries(m.tensors).map(([name, t]) => [name, decodeTensor(t)])),
    })),
  };
}

// y = W x (+ b), W row-major (out, in), read from and written to the given places
function linear(tensors, name, x, y = null, xAt = 0, yAt = 0) {
  const { shape: [rows, columns], data } = tensors[`${name}.weight`], bias = tensors[`${name}.bias`]?.data;
  y ??= new Float64Array(rows);
  for (let r = 0, at = 0; r < rows; r++) {
    let sum = bias ? bias[r] : 0;
    for (let c = 0; c < columns; c++) sum += data[at++] * x[xAt + c];
    y[yAt + r] = sum;
  }
  return y;
}

const softmax = (logits) => {
  const top = Math.max(...logits), e = logits.map((l) => Math.exp(l - top)), sum = e.reduce((a, b) => a + b, 0);
  return e.map((x) => x / sum);
};

const add = (a, b) => a.map((x, i) => x + b[i]);

function sinusoidal(position, width) {
  return Float64Array.from({ length: width }, (_, k) => {
    const angle = position * Math.exp((-Math.log(1e4) * (k - (k % 2))) / width);
    return Math.fround(k % 2 ? Math.cos(angle) : Math.sin(angle));
  });
}

// The charge constraints of ion_ode.constraints. Arrays run over the ions that are present.
function balance(f, weight, z) {
  let net = 0, total = 0;
  for (let i = 0; i < z.length; i++) { net += f[i] * z[i]; total += weight[i] * z[i] * z[i]; }
  const share = net / Math.max(total, TINY);
  return f.map((x, i) => x - weight[i] * z[i] * share);
}

const settleByConcentration = (h, z) => balance(h, h.map(Math.abs), z);

function shares(logits, z) {
  const out = new Float64Array(z.length);
  for (const sign of [1, -1]) {
    const group = [...z.keys()].filter((i) => Math.sign(z[i]) === sign);
    softmax(group.map((i) => logits[i])).forEach((p, k) => { out[group[k]] = p; });
  }
  return out;
}

const plain = { encode: (h) => h, decode: (y) => y, settle: (h) => h };

function makeConstraint({ name, strength = 1, by = "state" }) {
  switch (name) {
    case "none": case "soft": case "projection": {
      const part = (f, weight, z) => { const hard = balance(f, weight, z); return f.map((x, i) => x + strength * (hard[i] - x)); };
      return { ...plain, rate: (f, y, h, hFeed, z) => part(f, z.map(() => 1), z), settle: (h, z) => part(h, h.map(Math.abs), z) };
    }
    case "weighted": case "weighted_feed":
      return { ...plain, settle: settleByConcentration, rate: (f, y, h, hFeed, z) => {
        if (by === "feed") return balance(f, hFeed, z);
        const weight = h.map(Math.abs);
        return balance(f.map((x, i) => (x * weight[i]) / hFeed[i]), weight, z);
      } };
    case "ion_pair":
      return { ...plain, settle: settleByConcentration, rate: (f, y, h, hFeed, z) => {
        const e = h.map((x, i) => Math.abs(x * z[i])), relative = f.map((x, i) => x / hFeed[i]);
        const total = Math.max(0.5 * e.reduce((a, b) => a + b, 0), TINY), out = new Float64Array(z.length);
        for (let c = 0; c < z.length; c++)
          for (let a = 0; a < z.length; a++)
            if (z[c] > 0 && z[a] < 0) {
              const salt = ((e[c] * e[a]) / total) * (relative[c] + relative[a]);
              out[c] += salt; out[a] += salt;
            }
        return out.map((x, i) => x / Math.abs(z[i]));
      } };
    case "equivalents":
      return {
        encode: (h, z) => {
          const e = h.map((x, i) => x * Math.abs(z[i]));
          return Float64Array.from([...e.map(Math.log), Math.log(0.5 * e.reduce((a, b) => a + b, 0))]);
        },
        decode: (y, z) => {
          const p = shares(y, z), charge = Math.exp(Math.min(Math.max(y[z.length], -30), 6));
          return p.map((x, i) => (charge * x) / Math.abs(z[i]));
        },
        settle: (h) => h,
        rate: (f, y, h, hFeed, z) => {
          const relative = f.map((x, i) => x / hFeed[i]), p = shares(y, z);
          return Float64Array.from([...relative, p.reduce((sum, x, i) => sum + x * relative[i], 0)]);
        },
      };
    default: throw new Error(`unknown constraint ${name}`);
  }
}

// Everything that stays the same along a curve. cFeed: concentrations in the order of config.ions, 0 where absent.
function prepareNetwork(network, member, cFeed, membrane) {
  const { config } = network, T = member.tensors, token = config.heads * config.d_k;
  const index = [...cFeed.keys()].filter((i) => cFeed[i] > 0);
  const z = Float64Array.from(index, (i) => network.z[i]);
  const scale = index.reduce((sum, i) => sum + Math.abs(network.z[i]) * cFeed[i], 0);
  const hFeed = Float64Array.from(index, (i) => cFeed[i] / scale);
  const e = "field.encoder.";
  const tokens = index.map((i, k) => {
    let t = new Float64Array(token);
    if (config.encoding === "sinusoidal") t = add(t, sinusoidal(i, token));
    if (config.encoding.includes("learned")) t = add(t, T[`${e}embedding`].data.subarray(i * token, (i + 1) * token));
    if (config.encoding.includes("physical")) t = add(t, linear(T, `${e}physical`, network.features[i]));
    if (config.context !== "none") {
      const share = 2 * Math.abs(z[k]) * hFeed[k];
      t = add(t, linear(T, `${e}feed`, [share, Math.log(share) / 4]));
    }
    return t;
  });
  const context = config.context === "none" ? [] : [Math.log(scale / 20) / 2];
  if (config.context === "feed+membrane") context.push(...membrane);
  return { index, z, scale, hFeed, tokens, context, constraint: makeConstraint(member.constraint) };
}

// Room to compute in, made once for a curve.
function workspace({ config }, s) {
  const n = s.z.length, token = config.heads * config.d_k, room = (size) => new Float64Array(size);
  const flat = config.head === "flat", wide = (flat ? config.ions.length : 2) * token;
  const input = room(wide + (config.flux_coordinate === "log" ? 2 : 1) + s.context.length);
  input.set(s.context, input.length - s.context.length);
  return { n, token, flat, wide, input, tokens: room(n * token), attended: room(n * token), q: room(n * token), k: room(n * token),
    v: room(n * token), state: room(3), weights: room(n), hidden: [room(config.width), room(config.width)], out: room(flat ? config.ions.length : 1) };
}

// Rate of every present ion per unit of the flux coordinate, before the constraint, and the slope of that coordinate.
function field(network, member, s, w, h, flux) {
  const { config } = network, T = member.tensors, e = "field.encoder.", { n, token } = w;
  for (let i = 0; i < n; i++) {
    const r = h[i] / s.hFeed[i];
    if (config.state === "concentration") w.state[0] = h[i];
    else { w.state[0] = r; w.state[1] = Math.asinh(50 * r) / 5; w.state[2] = 2 * Math.abs(s.z[i]) * h[i]; }
    linear(T, `${e}state`, w.state, w.tokens, 0, i * token);
    for (let c = 0; c < token; c++) w.tokens[i * token + c] += s.tokens[i][c];
  }
  let tokens = w.tokens;
  if (config.attention) {
    for (let i = 0; i < n; i++) {
      linear(T, `${e}query`, tokens, w.q, i * token, i * token);
      linear(T, `${e}key`, tokens, w.k, i * token, i * token);
      linear(T, `${e}value`, tokens, w.v, i * token, i * token);
    }
    if (config.residual) w.attended.set(tokens); else w.attended.fill(0);
    const root = Math.sqrt(config.d_k);
    for (let i = 0; i < n; i++)
      for (let from = 0; from < token; from += config.d_k) {
        let top = -Infinity, sum = 0;
        for (let j = 0; j < n; j++) {
          let dot = 0;
          for (let c = from; c < from + config.d_k; c++) dot += w.q[i * token + c] * w.k[j * token + c];
          w.weights[j] = dot / root;
          top = Math.max(top, w.weights[j]);
        }
        for (let j = 0; j < n; j++) sum += w.weights[j] = Math.exp(w.weights[j] - top);
        for (let j = 0; j < n; j++)
          for (let c = from; c < from + config.d_k; c++) w.attended[i * token + c] += (w.weights[j] / sum) * w.v[j * token + c];
      }
    tokens = w.attended;
  }
  const log = config.flux_coordinate === "log";
  w.input[w.wide] = log ? Math.log1p(flux / config.flux_ref) / 6 : flux / config.flux_ref;
  if (log) w.input[w.wide + 1] = flux / (500 * config.flux_ref);
  const slope = log ? 1 / (config.flux_ref + flux) : 1 / config.flux_ref;
  const through = () => {
    let x = w.input;
    for (let layer = 0; layer < config.depth - 1; layer++) {
      const y = linear(T, `field.linears.${layer}`, x, w.hidden[layer % 2]);
      for (let c = 0; c < y.length; c++) y[c] = Math.tanh(y[c]);
      x = y;
    }
    return linear(T, `field.linears.${config.depth - 1}`, x, w.out);
  };
  const rate = new Float64Array(n);
  if (w.flat) { // absent ions keep the zeros the room was made with
    for (let i = 0; i < n; i++) for (let c = 0; c < token; c++) w.input[s.index[i] * token + c] = tokens[i * token + c];
    const out = through();
    for (let i = 0; i < n; i++) rate[i] = out[s.index[i]];
  } else {
    for (let c = 0; c < token; c++) {
      let sum = 0;
      for (let i = 0; i < n; i++) sum += tokens[i * token + c];
      w.input[token + c] = sum / n;
    }
    for (let i = 0; i < n; i++) {
      for (let c = 0; c < token; c++) w.input[c] = tokens[i * token + c];
      rate[i] = through()[0];
    }
  }
  if (config.output === "ratio") for (let i = 0; i < n; i++) rate[i] *= s.hFeed[i];
  return { rate, slope };
}

// Permeate concentrations (flux, ion) of one member [mol/m³], 0 where absent, as ODENet.forward: N equal steps to the largest
// flux, dense output in between.
export function rollout(network, member, cFeed, fluxes, membrane = null) {
  const s = prepareNetwork(network, member, cFeed, membrane), room = workspace(network, s);
  const { z, hFeed, constraint } = s;
  const fluxMax = Math.max(...fluxes), ref = network.config.flux_ref, n = member.n_steps;
  // equal steps are equal in the flux coordinate where that is logarithmic
  const warp = network.config.flux_coordinate === "linear" ? network.k_warp : Math.max(fluxMax, 1e-6 * ref) / ref;
  const logWarp = Math.log1p(warp);
  const derivative = (at, y) => {
    const flux = (fluxMax * Math.expm1(logWarp * at)) / warp, dFlux = ((fluxMax * logWarp) / warp) * Math.exp(logWarp * at);
    const h = constraint.decode(y, z);
    const { rate, slope } = field(network, member, s, room, h, flux);
    return constraint.rate(rate, y, h, hFeed, z).map((x) => x * slope * dFlux);
  };
  const combine = (y, stages, weights) =>
    y.map((x, i) => { let sum = x; for (let k = 0; k < weights.length; k++) sum += (weights[k] / n) * stages[k][i]; return sum; });
  const starts = [constraint.encode(hFeed, z)], steps = [];
  let first = derivative(0, starts[0]);
  for (let step = 0; step < n; step++) {
    const K = [first];
    for (let k = 1; k < 6; k++) K.push(derivative((step + STAGE_TIMES[k]) / n, combine(starts[step], K, STAGES[k])));
    starts.push(combine(starts[step], K, STAGES[6]));
    first = derivative((step + 1) / n, starts[step + 1]);
    steps.push([...K, first]);
  }
  return fluxes.map((flux) => {
    const x = (Math.log1p((warp * flux) / Math.max(fluxMax, TINY)) / logWarp) * n;
    const step = Math.min(Math.max(Math.floor(x), 0), n - 1), theta = x - step;
    const weights = DENSE.map((b) => b.reduce((sum, c, power) => sum + c * theta ** (power + 1), 0));
    const h = constraint.settle(constraint.decode(combine(starts[step], steps[step], weights), z), z);
    const out = new Array(cFeed.length).fill(0);
    s.index.forEach((ion, i) => { out[ion] = h[i] * s.scale; });
    return out;
  });
}

// What a network is told of a membrane facing a feed (ion_ode.training.describe), in the order of its ions.
export function describeMembrane(network, feed, membrane, data) {
  const { ions } = network.config, law = membrane.charge_density;
  if (network.told === "nothing") return [];
  if (network.told === "parameters") {
    const base = law.base ?? law, shifts = law.shifts ?? {}, [a, b] = typeof base === "number" ? [base, 0] : [base.a, base.b];
    return [(membrane.r_pore - 0.5e-9) / 0.1e-9, Math.log(membrane.thickness / 1e-6), a / 50, (membrane.eps_pore - 45) / 10, b,
      ...ions.map((ion) => (shifts[ion] ?? 0) / 20), ...ions.map((ion) => membrane.ln_partition?.[ion] ?? 0)];
  }
  const p = prepare(feed, membrane, data), n = p.names.length;
  const peclet = p.pecletPerFlux.map((x) => x * network.flux_told);
  const entry = p.phi.map((phi, i) => Math.log(phi) - p.z[i] * p.psiFeed);
  const inside = p.c.map((c, i) => c * Math.exp(entry[i]));
  let drift = 0, conductance = 0;
  for (let i = 0; i < n; i++) {
    drift += p.z[i] * p.kConv[i] * inside[i];
    conductance += (p.z[i] ** 2 * inside[i]) / peclet[i];
  }
  const limit = entry.map((e, i) => Math.exp(e) * (p.kConv[i] - (p.z[i] * drift) / conductance / peclet[i]));
  const slots = (values) => ions.map((ion) => { const i = p.names.indexOf(ion); return i < 0 ? 0 : values[i]; });
  const equivalents = 0.5 * p.c.reduce((sum, c, i) => sum + Math.abs(p.z[i]) * c, 0);
  return [...slots(entry.map((e) => e / 4)), ...slots(peclet.map((x) => Math.log(x) / 2)), ...slots(limit.map(Math.asinh)),
    p.psiFeed / 4, Math.asinh(p.charge / equivalents) / 4];
}

// Where a question leaves what the network was trained on, and by how much; fluxes in m/s.
export function outsideRange(network, feed, flux, membrane, data) {
  const r = network.ranges, said = [];
  if (!r) return said;
  const short = (x) => String(Number(x.toPrecision(3)));
  const look = (what, value, [low, high], unit, scale = 1) => {
    const end = value < low * (1 - 1e-9) ? low : value > high * (1 + 1e-9) ? high : null;
    if (end === null || (value >= low && value <= high)) return;
    const factor = Math.max(value / end, end / value), by = factor > 0 && Number.isFinite(factor) ? ` by a factor of ${short(factor)}` : "";
    const range = low === high ? `${short(low / scale)} ${unit} alone` : `${short(low / scale)} to ${short(high / scale)} ${unit}`;
    said.push(`${what}, ${short(value / scale)} ${unit}, is ${end === low ? "below" : "above"} what the network was trained on (${range})${by}.`);
  };
  if (flux != null) look("The flux", flux, r.flux_m_s, "L m⁻² h⁻¹", data.constants.LMH);
  else {
    const present = Object.keys(feed).filter((ion) => feed[ion] > 0);
    look("The salt in all", 0.5 * present.reduce((sum, ion) => sum + Math.abs(data.ions[ion].z) * feed[ion], 0), r.equivalents_mol_m3, "eq/m³");
    for (const ion of present)
      if (r.ions_mol_m3[ion]) look(data.ions[ion].label, feed[ion], r.ions_mol_m3[ion], "mol/m³");
      else said.push(`${data.ions[ion].label} was not in what the network was trained on.`);
    if (membrane) said.push("The errors behind the interval were measured with the membrane the network was trained on; for another they are not known.");
    const words = { r_pore: ["pore radius", "nm", 1e-9], thickness: ["thickness", "µm", 1e-6], charge_density: ["fixed charge", "mol/m³", 1], eps_pore: ["permittivity", "", 1] };
    for (const [name, [low, high, unit]] of Object.entries((membrane && r.membrane) || {})) {
      const [label, shown, scale] = words[name] ?? [name, unit, 1];
      if (typeof membrane[name] === "number") look(`The membrane's ${label}`, membrane[name], [low, high], shown, scale);
    }
  }
  return said;
}

// Rejections of every present ion along a grid of fluxes, and at one flux, as Predictor.predict: the mean of the members, with
// the half-width that held-out errors support. membrane: another membrane than the one each member was told of.
export function predictNetwork(network, feed, fluxes, membrane, data) {
  const { ions } = network.config, cFeed = ions.map((ion) => feed[ion] ?? 0), half = network.interval.half_width;
  const silent = (...warnings) => ({ ions: {}, warnings, at: () => ({ ions: {}, warnings: [] }) });
  if (membrane && network.told === "nothing") return silent("The network knows NF270 alone; for another membrane the page shows the pore model.");
  const strange = Object.keys(feed).filter((ion) => feed[ion] > 0 && !ions.includes(ion));
  if (strange.length) return silent(`The network does not know ${strange.map((ion) => data.ions[ion].label).join(", ")}.`);
  const told = network.members.map((member) => describeMembrane(network, feed, membrane ?? member.membrane, data));
  const curves = (j) => {
    const runs = network.members.map((member, m) => rollout(network, member, cFeed, j, told[m]));
    return Object.fromEntries(ions.flatMap((ion, i) => {
      if (!(cFeed[i] > 0)) return [];
      const rejection = j.map((_, n) => Math.min(1, runs.reduce((sum, run) => sum + 1 - run[n][i] / cFeed[i], 0) / runs.length));
      return [[ion, { rejection, lower: rejection.map((r) => r - half), upper: rejection.map((r) => Math.min(1, r + half)) }]];
    }));
  };
  const at = (flux) => ({
    warnings: outsideRange(network, feed, flux, membrane, data),
    ions: Object.fromEntries(Object.entries(curves([flux])).map(([ion, c]) => [ion, { rejection: c.rejection[0], lower: c.lower[0], upper: c.upper[0] }])),
  });
  return { ions: curves(fluxes), warnings: outsideRange(network, feed, null, membrane, data), at };
}
