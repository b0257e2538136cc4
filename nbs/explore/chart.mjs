// Rejection against water flux as an SVG drawing; a pure function of the numbers and the size, used in the page and in tests.

// The markers of ion_ode.plotting, as paths of about unit radius.
const SHAPES = {
  o: "M1 0A1 1 0 1 1-1 0A1 1 0 1 1 1 0Z",
  s: "M-.9-.9H.9V.9H-.9Z",
  D: "M0-1.2L1.2 0L0 1.2L-1.2 0Z",
  "^": "M0-1.2L1.1.9H-1.1Z",
  v: "M0 1.2L1.1-.9H-1.1Z",
  P: "M-.4-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
  X: "M0-.5L.6-1.1L1.1-.6L.5 0L1.1.6L.6 1.1L0 .5L-.6 1.1L-1.1.6L-.5 0L-1.1-.6L-.6-1.1Z",
  "*": "M0-1.3L.33-.42L1.24-.4L.53.16L.76 1.05L0 .55L-.76 1.05L-.53.16L-1.24-.4L-.33-.42Z",
  "<": "M-1.2 0L.9-1.1V1.1Z",
  ">": "M1.2 0L-.9-1.1V1.1Z",
};

export const marker = (shape, x, y, radius, attributes) =>
  `<path d="${SHAPES[shape] ?? SHAPES.o}" transform="translate(${x.toFixed(2)} ${y.toFixed(2)}) scale(${radius})" vector-effect="non-scaling-stroke" ${attributes}/>`;

// Round ticks, about `count` of them, between two numbers.
export function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((m) => m * power >= raw * 0.999);
  const out = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) out.push(Number((k * step).toPrecision(12)));
  return { step, values: out };
}

// Move labels apart: the nearest positions at least `gap` from each other inside [low, high].
export function spread(positions, gap, low, high) {
  const order = positions.map((_, i) => i).sort((a, b) => positions[a] - positions[b]);
  const y = positions.slice();
  for (let pass = 0; pass < 60; pass++) {
    let moved = 0;
    for (let k = 1; k < order.length; k++) {
      const [a, b] = [order[k - 1], order[k]];
      const lack = gap - (y[b] - y[a]);
      if (lack > 1e-6) { y[a] -= lack / 2; y[b] += lack / 2; moved += lack; }
    }
    for (const i of order) y[i] = Math.min(high, Math.max(low, y[i]));
    if (moved < 1e-3) break;
  }
  return y;
}

const path = (points) => {
  let d = "", pen = false;
  for (const [x, y] of points) {
    if (!Number.isFinite(y)) { pen = false; continue; }
    d += `${pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = true;
  }
  return d;
};

// series: one a ion, { ion, label, color, marker, curves: [{ flux[], rejection[], lower?, upper?, at, dashed }], measured:
// [{ flux, rejection, sd }] }; flux in m/s, rejection a fraction. Returns the inner SVG and the scales.
export function drawChart({ series, fluxMax, flux, unit, width, height, highlight = null, title = "Water flux (L m⁻² h⁻¹)" }) {
  const narrow = width < 520;
  const longest = Math.max(...series.map((s) => s.label.length), 1); // letters of 7.5 px at the end of the lines
  const box = { left: narrow ? 42 : 62, right: Math.max(66, 18 + 7.5 * longest), top: narrow ? 28 : 12, bottom: narrow ? 42 : 46 };
  const inner = { w: width - box.left - box.right, h: height - box.top - box.bottom };
  let low = 0;
  for (const s of series) {
    for (const c of s.curves) for (const r of c.rejection) if (r < low) low = r;
    for (const m of s.measured) if (m.rejection < low) low = m.rejection;
  }
  for (const s of series) for (const c of s.curves) for (const r of c.lower ?? []) if (r < low) low = Math.max(r, -0.5, low - 0.5);
  low = Math.max(low, -4);
  const floor = low < 0 ? low * 100 - 0.03 * (100 - low * 100) : 0;
  const yTicks = ticks(floor, 100, height < 300 ? 5 : 7);
  const X = (j) => box.left + (j / fluxMax) * inner.w;
  const Y = (r) => box.top + ((100 - 100 * r) / (100 - floor)) * inner.h;
  const xTicks = ticks(0, fluxMax / unit, narrow ? 4 : 7);
  let svg = `<defs><clipPath id="explore-clip"><rect x="${box.left}" y="${box.top - 6}" width="${inner.w + 6}" height="${inner.h + 6}"/></clipPath></defs>`;
  svg += '<g class="grid">';
  for (const t of yTicks.values.filter((t) => t >= floor)) {
    const y = Y(t / 100);
    svg += `<line x1="${box.left}" x2="${box.left + inner.w}" y1="${y}" y2="${y}" class="${t === 0 && floor < 0 ? "zero" : ""}"/>`;
    svg += `<text x="${box.left - 7}" y="${y + 4}" text-anchor="end">${String(t).replace("-", "−")}</text>`;
  }
  for (const t of xTicks.values) {
    const x = X(t * unit);
    svg += `<line x1="${x}" x2="${x}" y1="${box.top + inner.h}" y2="${box.top + inner.h + 5}"/>`;
    svg += `<text x="${x}" y="${box.top + inner.h + 19}" text-anchor="middle">${t}</text>`;
  }
  svg += `<line class="axis" x1="${box.left}" x2="${box.left + inner.w}" y1="${box.top + inner.h}" y2="${box.top + inner.h}"/>`;
  svg += `<text class="title" x="${box.left + inner.w / 2}" y="${height - 4}" text-anchor="middle">${title}</text>`;
  const upright = `transform="translate(14 ${box.top + inner.h / 2}) rotate(-90)" text-anchor="middle"`;
  svg += `<text class="title" ${narrow ? 'x="2" y="13"' : upright}>Rejection (%)</text></g>`;

  const faded = (s) => (highlight && highlight !== s.ion ? " faded" : "");
  svg += '<g clip-path="url(#explore-clip)">';
  // wide bands of several ions would bury the curves: the wider, the fainter, and a chosen ion shows its own alone
  for (const s of series.filter((s) => !highlight || s.ion === highlight))
    for (const c of s.curves.filter((c) => c.lower)) {
      const up = c.flux.map((j, i) => [X(j), Y(c.upper[i])]), down = c.flux.map((j, i) => [X(j), Y(c.lower[i])]);
      const opacity = highlight ? 0.22 : Math.min(0.18, Math.max(0.03, (0.18 * 0.12) / (c.upper.at(-1) - c.lower.at(-1) || 1)));
      svg += `<path class="band" d="${path(up)}${path(down.slice().reverse()).replace("M", "L")}Z" fill="${s.color}" opacity="${opacity.toFixed(3)}"/>`;
      svg += `<path class="edge" d="${path(up)}${path(down)}" stroke="${s.color}"/>`;
    }
  if (flux !== null) svg += `<line class="cursor" x1="${X(flux)}" x2="${X(flux)}" y1="${box.top}" y2="${box.top + inner.h}"/>`;
  for (const s of series)
    for (const c of s.curves) {
      const d = path(c.flux.map((j, i) => [X(j), Y(c.rejection[i])]));
      svg += `<path class="casing${faded(s)}" d="${d}"/>`;
      svg += `<path class="line${c.dashed ? " dashed" : ""}${faded(s)}" data-ion="${s.ion}" d="${d}" stroke="${s.color}"/>`;
    }
  for (const s of series) {
    for (const m of s.measured) {
      if (m.sd) svg += `<line class="error${faded(s)}" stroke="${s.color}" x1="${X(m.flux)}" x2="${X(m.flux)}" y1="${Y(m.rejection - m.sd)}" y2="${Y(m.rejection + m.sd)}"/>`;
      svg += marker(s.marker, X(m.flux), Y(m.rejection), m.own ? 5.4 : 4.2, `class="measured${m.own ? " own" : ""}${faded(s)}" fill="${s.color}"`);
    }
    const main = s.curves.find((c) => !c.dashed) ?? s.curves[0];
    if (main && flux !== null && Number.isFinite(main.at)) svg += marker(s.marker, X(flux), Y(main.at), 4.6, `class="at${faded(s)}" fill="var(--surface)" stroke="${s.color}"`);
  }
  svg += "</g>";

  const ends = series.map((s) => {
    const main = s.curves.find((c) => !c.dashed) ?? s.curves[0];
    const last = main ? main.rejection.findLastIndex(Number.isFinite) : -1;
    return last < 0 ? null : { s, x: X(main.flux[last]), y: Math.min(Y(main.rejection[last]), box.top + inner.h) };
  }).filter(Boolean);
  const places = spread(ends.map((e) => e.y), narrow ? 13 : 15, box.top + 4, box.top + inner.h - 4);
  svg += '<g class="labels">';
  ends.forEach(({ s, x, y }, i) => {
    const edge = box.left + inner.w;
    svg += `<path class="leader${faded(s)}" d="M${x + 1} ${y.toFixed(1)}L${edge + 8} ${places[i].toFixed(1)}h4" stroke="${s.color}"/>`;
    svg += `<text class="${faded(s)}" x="${edge + 15}" y="${(places[i] + 4).toFixed(1)}">${s.label}</text>`;
  });
  svg += "</g>";
  return { svg, fluxAt: (x) => Math.min(fluxMax, Math.max(0, ((x - box.left) / inner.w) * fluxMax)) };
}
