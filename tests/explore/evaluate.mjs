// Reads cases as JSON from standard input and answers with what the modules of the live page compute.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { join } from "node:path";

const folder = process.argv[2];
const load = (name) => import(pathToFileURL(join(folder, name)).href);
const { prepare, solve, sweep, hindranceConvection, hindranceDiffusion } = await load("dspmde.mjs");
const A = await load("answer.mjs");
const { data, answer: json, cases } = JSON.parse(readFileSync(0, "utf8"));
const answer = json && A.loadAnswer(json);
const pressure = (flux, m, cFeed, cPerm, k) =>
  flux / m.permeability + k.gasConstant * k.temperature * cFeed.reduce((s, c, i) => s + c - cPerm[i], 0);

const answers = {
  curve({ feed, membrane, flux, film }) {
    const problem = prepare(feed, membrane, data, film ?? 0);
    return sweep(problem, flux).map((s) => ({
      ...s, u: undefined, pressure: membrane.permeability ? pressure(s.flux, membrane, problem.c, s.cPerm, data.constants) : null,
    }));
  },
  cold: ({ feed, membrane, flux }) => flux.map((j) => ({ ...solve(prepare(feed, membrane, data), j), u: undefined })),
  hindrance: ({ lam }) => lam.map((l) => [hindranceConvection(l), hindranceDiffusion(l)]),
  refuse({ feed, membrane, flux }) {
    try { return { value: solve(prepare(feed, membrane, data), flux) }; } catch (error) { return { error: error.message }; }
  },
  predict: ({ feed, members, ...asked }) => A.predict(members ? A.thinned(answer, members) : answer, feed, asked, data),
  own: ({ values, members, many }) => {
    const few = A.withCoupons(A.thinned(answer, members), many);
    return A.ownErrors(few, values, few.members.map((m) => A.offOwn(m, few, values, data, 1e-8)), data).logs;
  },
  contradicting({ values, members }) {
    const few = A.thinned(answer, members);
    return A.contradicting(few.members, few.members.map((m) => A.offOwn(m, few, values, data, 1e-6)), values);
  },
  notes: ({ feed, flux, pH }) => A.notesOf(answer, A.readFeed(feed, data), flux, data, pH ?? null),
  taught: ({ values, members, feed, ...asked }) => { // every member as it is, with what the values say of the model's error
    const few = A.thinned(answer, members), own = A.ownErrors(few, values, few.members.map((m) => A.offOwn(m, few, values, data, 1e-8)), data);
    return A.predict({ ...few, own, members: few.members.map((m, i) => ({ ...m, white: own.white[i], root: own.roots[i] })) }, feed, asked, data);
  },
  student: ({ p, nu }) => p.map((x) => A.student(x, nu)),
  async vessel({ feed, member, membrane, element, ...setting }) {
    const M = await load("module.mjs"), m = answer?.members[member];
    const membraneAt = membrane ? () => membrane : (local) => A.membraneOf(m, answer, A.readFeed(local, data), "intrinsic", 0).membrane;
    const given = { feed, membraneAt, element: data.module.elements[element], data, ...setting };
    const s = setting.recovery ? M.vesselAtRecovery(given) : M.vessel(given);
    return { ...s, places: undefined };
  },
  ticks: async (args) => (await load("chart.mjs")).ticks(args.low, args.high, args.count),
  spread: async (a) => (await load("chart.mjs")).spread(a.positions, a.gap, a.low, a.high),
  async call({ module, name, args }) { return (await load(module))[name](...args); },
};
const out = [];
for (const { what, ...args } of cases) {
  try { out.push(await answers[what](args)); } catch (error) { if (what !== "refuse" && !args.expectError) throw error; out.push({ error: error.message }); }
}
process.stdout.write(JSON.stringify(out));
