// What one sees of a model in a page: its predictions, and what its layers make of an image. The
// other scripts go by the names of this one: the content, parts of the page, pictures.

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
/** What the camera shows, while it does. */
let film = null;
let engine = null;
/** The program of predictions, once it is asked for. */
let predictor = null;
let looker = null;

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

// Predictions

/** Bytes as the state of images takes them: whole words. */
function words(bytes) {
  const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  padded.set(bytes);
  return padded;
}

/** The logits of an image. */
async function logitsOf(rgb) {
  const program = await (predictor ??= loadPredictor());
  engine.writeState("shown.images", words(rgb));
  program.run();
  return program.read("logits");
}

/** The program of predictions, with the model's weights. */
async function loadPredictor() {
  const program = await engine.load(content.predict);
  writeWeights(engine);
  program.write("indices", new Uint32Array([0]));
  program.write("step", new Uint32Array([0]));
  return program;
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
  const least = content.unsure_below;
  const unsure = shares[order[0]] < (least ?? 0) ? `Unsure: below ${(100 * least).toFixed(1)} %. ` : "";
  const label = number === null ? "" : `It is labelled ${content.classes[content.images.labels[number]]}. `;
  const expected = content.logits[number];
  const apart = expected ? `The CPU's logits differ by ${exponent(farthest(logits, expected))} at most.` : "";
  part("agreement").textContent = unsure + label + apart;
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

/** Shows what layers make of the image that is shown; returns that. */
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
  return { layers, heat };
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
