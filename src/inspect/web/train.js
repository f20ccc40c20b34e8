// The training in a page: its steps, the curve of their losses, and the filters that they move.

"use strict";

/** Whether a training runs, and whether it is to go on. */
let [trains, wantsTraining] = [false, false];

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
  content.train.constant.forEach(([input, values]) => program.write(input, new Float32Array(values)));
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

/** Trains, so many steps at most; returns their losses, and how far these are from the CPU's. */
async function train(most = content.train.steps.length) {
  [trains, wantsTraining] = [true, true];
  part("train").textContent = "Stop";
  part("progress").textContent = "Compiling ..";
  try {
    return await showSteps(most);
  } finally {
    [trains, wantsTraining] = [false, false];
    Object.assign(part("train"), { textContent: "Train again", disabled: false });
  }
}

/** Trains until that is enough or no longer wanted, and shows how far it is. */
async function showSteps(most) {
  const program = await loadTraining();
  const [losses, begin] = [[], performance.now()];
  let apart = 0;
  while (wantsTraining && losses.length < most) {
    losses.push(await trainStep(program, losses.length));
    const pace = (1000 * losses.length) / (performance.now() - begin);
    const loss = losses[losses.length - 1].toFixed(4);
    part("progress").textContent = `step ${losses.length} of ${content.train.steps.length}, loss ${loss}, ${pace.toFixed(1)} steps/s`;
    apart = relative(losses);
    const known = Math.min(losses.length, content.train.losses.length);
    part("training").textContent =
      `The CPU's losses of ${known === 1 ? "the first step" : `the first ${known} steps`} differ by ${exponent(apart)} of them at most.`;
    drawCurve(losses);
    await drawFilters(program);
  }
  program.unload();
  return { losses, apart };
}

/** Begins a training, or has the one that runs end after its step. */
async function pressTrain() {
  if (!trains) return train();
  wantsTraining = false;
  Object.assign(part("train"), { textContent: "Stopping ..", disabled: true });
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
  context.fillText(`loss, 0 to ${most.toFixed(2)}; the broad line is the CPU's`, 8 * devicePixelRatio, height - 8 * devicePixelRatio);
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
