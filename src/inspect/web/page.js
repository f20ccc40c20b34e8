// What one sees of a model in a page: predictions, layers, a training, and checks of the GPU.
// `#selftest` in the address runs all of it, and logs the outcome in one line that begins SELFTEST;
// `#selftest=OP` does nothing but check that op, `#selftest=model` all but check ops;
// `#selftest=benchmark` and `#selftest=camera` do what these buttons do.

"use strict";

const content = JSON.parse(document.getElementById("content").textContent);
const part = (id) => document.getElementById(id);
const element = (name, text = "") => Object.assign(document.createElement(name), { textContent: text });

/** Pixels of the images, three bytes each. */
const pixels = decoded(content.images.pixels);
const size = content.images.size;
const imageBytes = 3 * size * size;

/** The image that is shown: its pixels, and its number in the page if it has one. */
let shown = null;
/** What `Check` and `Benchmark` found. */
const report = { program: content.program, model: content.model, page: content.title };
/** What the camera shows, while it does. */
let film = null;
let engine = null;
let predictor = null;
let looker = null;
let wantsTraining = false;

// Pictures

/** Draws pixels of three bytes on a canvas. */
function draw(canvas, rgb, width, height) {
  Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i += 1) {
    image.data.set(rgb.subarray(3 * i, 3 * i + 3), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** Numbers `[height, width]` as grey, from the least to the largest. */
function grey(values, width, height) {
  const [low, high] = range(values);
  const rgb = Uint8Array.from({ length: 3 * values.length }, (_, i) =>
    Math.round((255 * (values[Math.floor(i / 3)] - low)) / (high - low || 1)));
  return draw(document.createElement("canvas"), rgb, width, height);
}

function range(values) {
  return values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
}

/** The middle of an image, of a file or a film, as a square of the model's size. */
async function squared(source) {
  const image = await createImageBitmap(source);
  const side = Math.min(image.width, image.height);
  const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, size, size);
  const [left, top] = [(image.width - side) / 2, (image.height - side) / 2];
  context.drawImage(image, left, top, side, side, 0, 0, size, size);
  return context.getImageData(0, 0, size, size).data.filter((_, i) => i % 4 < 3);
}

// Predictions

/** Bytes as the state of images takes them: whole words. */
function words(bytes) {
  const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  padded.set(bytes);
  return padded;
}

/** The logits of an image. */
async function logitsOf(rgb) {
  engine.writeState("shown.images", words(rgb));
  predictor.run();
  return predictor.read("logits");
}

/** Prepares the programs of predictions, with the model's weights. */
async function loadPredictor() {
  predictor = await engine.load(content.predict);
  writeWeights(engine);
  predictor.write("indices", new Uint32Array([0]));
  predictor.write("step", new Uint32Array([0]));
}

/** Writes the trained values of the parameters that programs have; a program may do without some. */
function writeWeights(own) {
  const used = content.weights.filter(({ name }) => own.states.has(name));
  used.forEach(({ name, values }) => own.writeState(name, decoded(values)));
}

function probabilities(logits) {
  const most = Math.max(...logits);
  const weights = Array.from(logits, (logit) => Math.exp((logit - most) / content.temperature));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

/** Shows an image, and what it is. */
async function show(rgb, number) {
  shown = { rgb, number };
  draw(part("shown"), rgb, size, size);
  [...part("images").children].forEach((button, i) => button.setAttribute("aria-pressed", i === number));
  if (!engine) return;
  const logits = await logitsOf(rgb);
  const shares = probabilities(logits);
  const order = [...shares.keys()].sort((a, b) => shares[b] - shares[a]).slice(0, 5);
  shown.best = order[0];
  part("classes").replaceChildren(...order.map((i) => bar(content.classes[i], shares[i])));
  const label = number === null ? "" : `It is labelled ${content.classes[content.images.labels[number]]}. `;
  const expected = content.logits[number];
  const apart = expected ? `The CPU's logits differ by ${exponent(farthest(logits, expected))} at most.` : "";
  part("agreement").textContent = label + apart;
  if (!film && part("layers").hasChildNodes()) await showLayers();
}

function bar(name, share) {
  const row = Object.assign(document.createElement("div"), { className: "class" });
  const meter = Object.assign(document.createElement("span"), { className: "meter" });
  const filled = document.createElement("i");
  filled.style.width = `${100 * share}%`;
  meter.append(filled);
  row.append(element("span", name), meter, element("span", `${(100 * share).toFixed(1)} %`));
  return row;
}

function farthest(found, expected) {
  return expected.reduce((most, value, i) => worse(most, Math.abs(found[i] - value)), 0);
}

/** The larger of two errors; what is no number is the largest. */
function worse(a, b) {
  return Number.isNaN(b) ? Infinity : Math.max(a, b);
}

function exponent(value) {
  return Number.isFinite(value) ? value.toExponential(1) : "no number";
}

// Layers

/** Reads the layers' outputs for the image that is shown, and what speaks for a class. */
async function lookAt(rgb, chosen) {
  if (!looker) {
    looker = await engine.load(content.look.program);
    looker.write("indices", new Uint32Array([0]));
    looker.write("step", new Uint32Array([0]));
    // What the looker alone has: the weights of layers that the predictor folds.
    writeWeights(engine);
  }
  engine.writeState("shown.images", words(rgb));
  if (content.look.heat) looker.write("chosen", Float32Array.from(content.classes, (_, i) => Number(i === chosen)));
  looker.run();
  const layers = [];
  for (const name of content.look.layers) {
    const [, height, width, channels] = looker.tensor(content.look.program.outputs, name).dims;
    layers.push({ name, height, width, channels, values: await looker.read(name) });
  }
  return { layers, heat: content.look.heat && (await heatMap()) };
}

/** Grad-CAM: channels weighted by the mean gradient of the class by them; of the sum, what is above
 *  zero. */
async function heatMap() {
  const [, height, width, channels] = looker.tensor(content.look.program.outputs, "features").dims;
  const [features, gradient] = [await looker.read("features"), await looker.read("gradient")];
  const weights = new Float64Array(channels);
  gradient.forEach((value, i) => (weights[i % channels] += value / (height * width)));
  const map = new Float64Array(height * width);
  features.forEach((value, i) => (map[Math.floor(i / channels)] += value * weights[i % channels]));
  return { map: map.map((value) => Math.max(0, value)), height, width };
}

async function showLayers() {
  const { layers, heat } = await lookAt(shown.rgb, shown.best);
  const rows = layers.map(({ name, height, width, channels, values }) => {
    const row = Object.assign(document.createElement("div"), { className: "layer" });
    const [low, high] = range(values);
    row.append(element("p", `${name}: ${height}x${width}, ${channels} channels, ${low.toFixed(2)} to ${high.toFixed(2)}`));
    for (let channel = 0; channel < Math.min(8, channels); channel += 1) {
      row.append(grey(values.filter((_, i) => i % channels === channel), width, height));
    }
    return row;
  });
  const left = content.look.of - rows.length;
  const rest = left ? [element("p", `${left} more layers, between these, are not shown.`)] : [];
  part("layers").replaceChildren(...(heat ? [heatFigure(heat)] : []), ...rows, ...rest);
}

/** The image, darker where nothing speaks for the class. */
function heatFigure({ map, height, width }) {
  const most = Math.max(...map) || 1;
  const rgb = shown.rgb.map((byte, i) => {
    const [x, y] = [Math.floor(i / 3) % size, Math.floor(i / 3 / size)];
    const at = Math.floor((y * height) / size) * width + Math.floor((x * width) / size);
    return byte * (0.2 + (0.8 * map[at]) / most);
  });
  const figure = Object.assign(document.createElement("figure"), { id: "heat" });
  const caption = `What speaks for ${content.classes[shown.best]}, by ${content.look.heat}`;
  figure.append(draw(document.createElement("canvas"), rgb, size, size), element("figcaption", caption));
  return figure;
}

// Training

/** Loads the training on an engine of its own part of the states, with the weights that it begins
 *  with. Those of predictions are not touched: the states of a second engine on the same GPU are
 *  others. */
async function loadTraining() {
  const own = new Engine(engine.adapter, engine.device, content.shaders);
  own.pipelines = engine.pipelines;
  const program = await own.load(content.train.program);
  const stride = words(pixels.subarray(0, imageBytes)).length;
  const all = new Uint8Array(content.images.labels.length * stride);
  content.images.labels.forEach((_, i) => all.set(pixels.subarray(i * imageBytes, (i + 1) * imageBytes), i * stride));
  writeWeights(own);
  own.writeState("train.images", all);
  own.writeState("train.labels", new Uint32Array(content.images.labels));
  for (const { name, values } of content.train.initial) {
    const halves = new Uint16Array(decoded(values).buffer);
    own.writeState(name, Uint32Array.from(halves, (half) => half << 16));
  }
  program.write("loss_gradient", new Float32Array([1]));
  return program;
}

/** Runs a step of the training; returns its mean loss. */
async function trainStep(program, number) {
  const { indices, rates } = content.train.steps[number];
  program.write("indices", new Uint32Array(indices));
  program.write("step", new Uint32Array([number]));
  content.train.rates.forEach((input, i) => program.write(input, new Float32Array([rates[i]])));
  program.run();
  const [loss, , count] = await program.read("totals");
  return loss / count;
}

async function train() {
  if (wantsTraining) {
    wantsTraining = false;
    return;
  }
  wantsTraining = true;
  part("train").textContent = "Stop";
  part("progress").textContent = "Compiling ..";
  const program = await loadTraining();
  const [losses, begin] = [[], performance.now()];
  let apart = 0;
  while (wantsTraining && losses.length < content.train.steps.length) {
    losses.push(await trainStep(program, losses.length));
    const pace = (1000 * losses.length) / (performance.now() - begin);
    const loss = losses[losses.length - 1].toFixed(4);
    part("progress").textContent = `step ${losses.length} of ${content.train.steps.length}, loss ${loss}, ${pace.toFixed(1)} steps/s`;
    apart = relative(losses);
    part("training").textContent =
      `The losses of the first ${Math.min(losses.length, content.train.losses.length)} steps differ from the CPU's by ${exponent(apart)} of them at most.`;
    drawCurve(losses);
    await drawFilters(program);
  }
  program.unload();
  [wantsTraining, part("train").textContent] = [false, "Train again"];
}

/** How far losses are from the CPU's, as a share of those. */
function relative(losses) {
  const known = content.train.losses.slice(0, losses.length);
  return known.reduce((most, loss, i) => worse(most, Math.abs(losses[i] - loss) / Math.abs(loss)), 0);
}

function drawCurve(losses) {
  const canvas = part("curve");
  const [width, height] = [canvas.clientWidth * devicePixelRatio, 220 * devicePixelRatio];
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const most = Math.max(...losses, ...content.train.losses) * 1.05;
  const line = (values, colour, thickness) => {
    context.beginPath();
    values.forEach((loss, i) => context.lineTo((i * width) / (content.train.steps.length - 1), height * (1 - loss / most)));
    Object.assign(context, { strokeStyle: style.getPropertyValue(colour), lineWidth: thickness * devicePixelRatio });
    context.stroke();
  };
  line(content.train.losses, "--validation", 4);
  line(losses, "--train", 2);
  context.fillStyle = style.getPropertyValue("--muted");
  context.font = `${12 * devicePixelRatio}px system-ui`;
  context.fillText(`loss, 0 to ${most.toFixed(2)}; the broad line is the CPU's`, 8 * devicePixelRatio, 16 * devicePixelRatio);
}

/** The filters of the first layer as tiles in colour, on one scale. */
async function drawFilters(program) {
  if (!content.train.filters) return;
  const { name, dims: [height, width, , count] } = content.train.filters;
  const values = await program.readState(name);
  const most = Math.max(...range(values).map(Math.abs)) || 1;
  const columns = Math.ceil(Math.sqrt(count));
  const [wide, high] = [columns * (width + 1) - 1, Math.ceil(count / columns) * (height + 1) - 1];
  const rgb = new Uint8Array(3 * wide * high).fill(128);
  values.forEach((value, i) => {
    const [filter, channel] = [i % count, Math.floor(i / count) % 3];
    const [x, y] = [Math.floor(i / count / 3) % width, Math.floor(i / count / 3 / width)];
    const [left, top] = [(filter % columns) * (width + 1) + x, Math.floor(filter / columns) * (height + 1) + y];
    rgb[3 * (top * wide + left) + channel] = Math.round(127.5 * (1 + value / most));
  });
  part("filters").hidden = false;
  draw(part("filters").querySelector("canvas"), rgb, wide, high);
}

// Checks

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
  for (const one of content.cases.filter(({ op }) => !only || op === only)) {
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
    row.append(element("td", op), element("td", cases), element("td", exponent(largest)), verdict);
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
  const one = rate(1, await timed(predictor));
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
  note({ benchmark: { predict, train, works: await timeWorks() } });
  return report.benchmark;
}

async function showBench() {
  const { predict, train, works } = await benchmark();
  const many = predict.batch ?? predict.one;
  const line = (name, { images, ms, images_per_s: speed }) =>
    `${name}: ${speed.toFixed(0)} images/s (${ms.toFixed(2)} ms for ${images})`;
  const lines = [line("predictions", many), ...(train ? [line("training", train)] : [])];
  const product = Math.max(...works.map((work) => work.gflops));
  lines.push(`copy: ${works[0].gbs.toFixed(1)} GB/s`, `product: ${product.toFixed(0)} GFLOP/s`);
  if (!report.check) await showCheck();
  tellVerdict(`${lines.join("; ")}. Copy the result into an issue.`);
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

// The camera

/** What a browser calls a camera that is not to be had, for people. */
const REFUSALS = {
  NotAllowedError: "it was refused; the browser's settings for this page allow it again",
  NotFoundError: "this machine has none",
  NotReadableError: "another program has it",
};

/** Takes the camera, and predicts what it shows until it is given back. */
async function takeCamera() {
  if (film) {
    giveBackCamera();
    return;
  }
  const stream = await openCamera();
  film = Object.assign(document.createElement("video"), { srcObject: stream, muted: true, playsInline: true });
  part("camera").textContent = "Stop the camera";
  await film.play();
  while (film) {
    await show(await squared(film), null);
    await new Promise(requestAnimationFrame);
  }
}

async function openCamera() {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("no camera: this browser lets no page from this address have it");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    throw new Error(`no camera: ${REFUSALS[error.name] ?? error.message}`);
  }
}

function giveBackCamera() {
  film.srcObject.getTracks().forEach((track) => track.stop());
  film = null;
  part("camera").textContent = "Take the camera";
}

// The page

/** Runs everything, or the cases of one op; returns what came out. */
async function selftest(only) {
  if (only === "benchmark") {
    await showBench();
    return JSON.parse(part("json").textContent);
  }
  if (only === "camera") return testCamera();
  if (only && only !== "model") return { check: await check(only) };
  const outcome = { adapter: about(), check: only ? {} : await check(), logits: 0 };
  for (const [i, expected] of content.logits.entries()) {
    const found = await logitsOf(pixels.subarray(i * imageBytes, (i + 1) * imageBytes));
    outcome.logits = worse(outcome.logits, farthest(found, expected));
  }
  if (content.train) Object.assign(outcome, await testTraining());
  const { layers, heat } = await lookAt(pixels.subarray(0, imageBytes), 0);
  outcome.layers = layers.map(({ name, values }) => [name, ...range(values)]);
  outcome.heat = heat ? range(heat.map) : null;
  return outcome;
}

/** Makes the steps whose losses are known. */
async function testTraining() {
  const program = await loadTraining();
  const losses = [];
  while (losses.length < content.train.losses.length) losses.push(await trainStep(program, losses.length));
  program.unload();
  return { losses: relative(losses), first: losses[0], last: losses[losses.length - 1] };
}

/** Takes the camera until it has shown an image, or says why not. */
async function testCamera() {
  const ended = takeCamera().then(() => null, (error) => error.message);
  const seen = async () => {
    while (shown?.number !== null) await new Promise((done) => setTimeout(done, 50));
  };
  await Promise.race([ended, seen()]);
  if (film) giveBackCamera();
  return { problem: await ended, seen: shown?.number === null };
}

/** A button that does something; what goes wrong is told, beside it where there is a place. */
function button(id, work, place = "status") {
  part(id).addEventListener("click", async () => {
    try {
      await work();
    } catch (error) {
      part(place).textContent = `error: ${error.message}`;
    }
  });
}

function tell(text) {
  part("status").textContent = text;
}

/** What needs no GPU. */
function showStatic() {
  const facts = content.facts.concat([["classes", content.classes.join(", ")]]);
  part("facts").replaceChildren(...facts.map(([name, value]) => {
    const fact = element("div");
    fact.append(element("dt", name), element("dd", value));
    return fact;
  }));
  if (content.settings) {
    part("settings").hidden = false;
    part("settings").querySelector("pre").textContent = content.settings;
  }
  part("missing").textContent = content.missing.map((what) => `This page lacks ${what}.`).join(" ");
  part("recipe").textContent = content.train ? `The whole plan of a training step, ${content.train.recipe}.` : "";
  part("training-part").hidden = !content.train;
  part("images").replaceChildren(...content.images.labels.map((label, i) => {
    const choice = Object.assign(element("button"), { title: content.classes[label] });
    const rgb = pixels.subarray(i * imageBytes, (i + 1) * imageBytes);
    choice.append(draw(document.createElement("canvas"), rgb, size, size));
    choice.addEventListener("click", () => show(rgb, i));
    return choice;
  }));
}

/** Images from outside. */
function acceptImages() {
  const take = async (file) => {
    try {
      if (file) await show(await squared(file), null);
    } catch (error) {
      tell(`error: ${file.name} cannot be shown: ${error.message}`);
    }
  };
  part("file").addEventListener("change", (event) => take(event.target.files[0]));
  const over = (event) => {
    event.preventDefault();
    part("drop").classList.toggle("over", event.type === "dragover");
  };
  ["dragover", "dragleave", "drop"].forEach((kind) => document.addEventListener(kind, over));
  document.addEventListener("drop", (event) => take(event.dataTransfer.files[0]));
  button("camera", takeCamera, "cameraProblem");
}

async function main() {
  showStatic();
  const first = pixels.subarray(0, imageBytes);
  const [asked, only] = location.hash.split("=");
  const log = (outcome) => asked === "#selftest" && console.log(`SELFTEST ${JSON.stringify(outcome)}`);
  try {
    engine = await Engine.open(content.shaders);
    await loadPredictor();
    const { vendor, architecture, description } = about();
    tell(`Runs on ${[vendor, architecture, description].filter(Boolean).join(", ") || "a GPU"}.`);
    if (asked === "#selftest") log(await selftest(only));
  } catch (error) {
    engine = null;
    tell(`Nothing is computed here: ${error.message}. Images, classes and settings are below; Chrome, Edge, Safari 26 and newer Firefox have WebGPU.`);
    part("needs").hidden = true;
    log({ problem: error.message });
  }
  acceptImages();
  await show(first, 0);
  button("look", showLayers);
  button("train", train);
  button("check", showCheck, "verdict");
  button("bench", showBench, "verdict");
  button("copy", copy, "verdict");
}

main();
