// Reads cases as JSON from standard input and answers with what the modules of the live page compute.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { join } from "node:path";

const folder = process.argv[2];
const load = (name) => import(pathToFileURL(join(folder, name)).href);
const { prepare, solve, sweep, hindranceConvection, hindranceDiffusion } = await load("dspmde.mjs");
const { loadNetwork, rollout, predictNetwork } = await load("network.mjs");
const { pressure } = await load("page.mjs");
const { ticks, spread } = await load("chart.mjs");
const { data, cases } = JSON.parse(readFileSync(0, "utf8"));

const answers = {
  curve({ feed, membrane, flux }) {
    const problem = prepare(feed, membrane, data);
    return sweep(problem, flux).map((s) => ({
      ...s, u: undefined, pressure: membrane.permeability ? pressure(s.flux, membrane, problem.c, s.cPerm, data.constants) : null,
    }));
  },
  cold: ({ feed, membrane, flux }) => flux.map((j) => ({ ...solve(prepare(feed, membrane, data), j), u: undefined })),
  hindrance: ({ lam }) => lam.map((l) => [hindranceConvection(l), hindranceDiffusion(l)]),
  refuse({ feed, membrane, flux }) {
    try { return { value: solve(prepare(feed, membrane, data), flux) }; } catch (error) { return { error: error.message }; }
  },
  rollout({ network, feed, flux, membrane }) {
    const loaded = loadNetwork(network);
    return loaded.members.map((member) => rollout(loaded, member, feed, flux, membrane));
  },
  predict({ network, feed, flux, membrane }) {
    const p = predictNetwork(loadNetwork(network), feed, flux, membrane, data);
    return { curve: { ions: p.ions, warnings: p.warnings }, at: flux.map((j) => p.at(j)) };
  },
  ticks: ({ low, high, count }) => ticks(low, high, count),
  spread: ({ positions, gap, low, high }) => spread(positions, gap, low, high),
};
process.stdout.write(JSON.stringify(cases.map(({ what, ...args }) => answers[what](args))));
