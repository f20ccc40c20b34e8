// What a page finds out about the GPU: which ops are right, and how fast it is.

"use strict";

/** What was found. */
const report = { program: content.program, model: content.model, page: content.title };

/** The distance of an output from what it should be, relative to its largest value, at least 1;
 *  infinite for an integer that is another. */
function distance(found, expected, dtype) {
  const scale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
  const apart = (a, b) => (a === b ? 0 : dtype === "f32" ? Math.abs(a - b) : Infinity);
  return expected.reduce((most, value, i) => worse(most, apart(found[i], value)), 0) / scale;
}

/** The largest error of a case. */
async function examine({ program: plan, inputs, outputs }) {
  const program = await engine.load(plan);
  inputs.forEach((values, i) => program.write(`in${i}`, decoded(values)));
  program.run();
  let error = 0;
  for (const [i, text] of outputs.entries()) {
    const found = await program.read(`out${i}`);
    const { dtype } = program.tensor(plan.outputs, `out${i}`);
    const { buffer } = decoded(text);
    error = worse(error, distance(found, dtype === "f32" ? new Float32Array(buffer) : new Uint32Array(buffer), dtype));
  }
  program.unload();
  return error;
}

/** Runs all cases, or those of one op; returns a finding for each op. */
async function check(only) {
  const ops = {};
  const cases = content.cases.filter(({ op }) => !only || op === only);
  if (!cases.length) throw new Error(`the page has no cases of '${only}'`);
  for (const one of cases) {
    const finding = (ops[one.op] ??= { cases: 0, largest: 0 });
    finding.cases += 1;
    try {
      finding.largest = worse(finding.largest, await examine(one));
    } catch (error) {
      // What a fault leaves on the GPU is told for this op; the others go on.
      finding.problem = error.message;
      engine.fault = null;
    }
    finding.right = !finding.problem && finding.largest <= content.tolerance;
  }
  return ops;
}

async function showCheck() {
  tellVerdict("Checking ..");
  const ops = await check();
  const rows = Object.entries(ops).map(([op, { cases, largest, right, problem }]) => {
    const row = element("tr");
    const verdict = Object.assign(element("td", problem ?? (right ? "ok" : "WRONG")), { className: right ? "text right" : "text wrong" });
    row.append(element("td", op), verdict, element("td", exponent(largest)), element("td", cases));
    return row;
  });
  part("ops").replaceChildren(...rows);
  const wrong = Object.values(ops).filter((finding) => !finding.right).length;
  tellVerdict(wrong ? `${wrong} of ${rows.length} ops are wrong` : `all ${rows.length} ops are right`);
  note({ check: ops });
}

/** Seconds that are long for a pass: work that takes as long is done once a pass. */
const LONG = 0.005;
/** Seconds after which work is not repeated for a median. */
const TOO_LONG = 2;
/** Passes whose median counts. */
const PASSES = 5;

/** Seconds of a run of a program. */
async function timed(program) {
  const once = await program.seconds(1, 1);
  return once > TOO_LONG ? once : program.seconds(Math.ceil(LONG / once), PASSES);
}

/** Rates of a copy and of products, the larger after the smaller until one takes a while. */
async function timeWorks() {
  const rates = [];
  for (const { name, flops, bytes, program: plan } of content.works) {
    const program = await engine.load(plan);
    program.write("x", new Float32Array(plan.inputs[0].dims.reduce((a, b) => a * b, 1)).fill(1));
    const seconds = await timed(program);
    program.unload();
    rates.push({ name, ms: 1e3 * seconds, gflops: flops / seconds / 1e9, gbs: bytes / seconds / 1e9 });
    if (flops && seconds > LONG) break;
  }
  return rates;
}

/** The time of so many images, and what that is a second. */
function rate(images, seconds) {
  return { images, ms: 1e3 * seconds, images_per_s: images / seconds };
}

/** Rate of the plan of predictions: of one image, and of a batch. */
async function timePredictions() {
  predictor ??= loadPredictor();
  const one = rate(1, await timed(await predictor));
  if (!content.many) return { one };
  const { program: plan, batch_size: count } = content.many;
  const program = await engine.load(plan);
  writeWeights(engine);
  program.write("indices", Uint32Array.from({ length: count }, (_, i) => i));
  program.write("step", new Uint32Array([0]));
  const batch = rate(count, await timed(program));
  program.unload();
  return { one, batch };
}

/** Rate of the plan of a training step. At rates of zero the weights stay finite however often. */
async function timeTraining() {
  if (!content.train) return null;
  const program = await loadTraining();
  program.write("indices", new Uint32Array(content.train.steps[0].indices));
  content.train.rates.forEach((input) => program.write(input, new Float32Array([0])));
  const found = rate(content.train.batch_size, await timed(program));
  program.unload();
  return found;
}

/** Times all that is to be timed. */
async function benchmark() {
  tellVerdict("Timing predictions ..");
  const predict = await timePredictions();
  tellVerdict("Timing the training ..");
  const train = await timeTraining();
  tellVerdict("Timing a copy and products ..");
  const found = { predict, train, works: await timeWorks() };
  note({ benchmark: found });
  return found;
}

async function showBench() {
  if (trains || film) throw new Error("a training or the camera runs, and would be timed too: stop it first");
  const { predict, train, works } = await benchmark();
  const many = predict.batch ?? predict.one;
  const line = (name, { images, ms, images_per_s: speed }) =>
    `${name}: ${short(speed)} images/s (${short(ms)} ms for ${images})`;
  const lines = [line("predictions", many), ...(train ? [line("training", train)] : [])];
  const product = Math.max(...works.map((work) => work.gflops));
  lines.push(`copy: ${short(works[0].gbs)} GB/s`, `product: ${short(product)} GFLOP/s`);
  if (!report.check) await showCheck();
  tellVerdict(`${lines.join("; ")}. Copy the result into an issue.`);
}

/** A number in three digits, or all those before the point. */
function short(number) {
  return number < 100 ? number.toPrecision(3) : number.toFixed(0);
}

function tellVerdict(text) {
  part("verdict").textContent = text;
}

/** What is known of the GPU. */
function about() {
  const { vendor, architecture, device, description } = engine.adapter.info ?? {};
  return { vendor, architecture, device, description, browser: navigator.userAgent };
}

/** What the GPU can do at most, by name. */
function limits() {
  const limits = {};
  for (const name in engine.adapter.limits) {
    if (typeof engine.adapter.limits[name] === "number") limits[name] = engine.adapter.limits[name];
  }
  return limits;
}

/** Adds to the report. */
function note(found) {
  Object.assign(report, { adapter: about(), limits: limits() }, found);
  part("json").hidden = false;
  part("json").textContent = JSON.stringify(report, null, 1);
}

async function copy() {
  note({});
  await navigator.clipboard.writeText(part("json").textContent);
  tellVerdict("copied");
}
