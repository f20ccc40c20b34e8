// Where a page begins: images from outside and from the camera, buttons, and self tests.
// `#selftest=NAME,NAME` in the address makes such of `SELF_TESTS`, and logs what comes out in one
// line that begins SELFTEST.

"use strict";

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
    await show(await squared(film, size), null);
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

/** What a self test does, by its name: what one does by hand, and what comes out. */
const SELF_TESTS = {
  logits: testLogits,
  layers: testLayers,
  training: testTraining,
  check: showCheck,
  benchmark: showBench,
  camera: testCamera,
};

/** Makes self tests, whose names commas part; a name that is none is that of an op to check.
 *  Returns what came out, with what the page tells of the GPU. */
async function selftest(names) {
  const outcome = {};
  for (const name of names.split(",")) {
    if (name in SELF_TESTS) Object.assign(outcome, await SELF_TESTS[name]());
    else outcome.check = await check(name);
  }
  return Object.assign(outcome, JSON.parse(part("json").textContent || "{}"));
}

/** How far logits are from the CPU's. */
async function testLogits() {
  let logits = 0;
  for (const [i, expected] of content.logits.entries()) {
    const found = await logitsOf(pixels.subarray(i * imageBytes, (i + 1) * imageBytes));
    logits = worse(logits, farthest(found, expected));
  }
  return { logits };
}

/** What layers make of the first image, from the least to the largest. */
async function testLayers() {
  await show(pixels.subarray(0, imageBytes), 0);
  const { layers, heat } = await showLayers();
  return {
    layers: layers.map(({ name, values }) => [name, ...range(values)]),
    heat: heat ? range(heat.map) : null,
  };
}

/** Makes the steps whose losses are known. */
async function testTraining() {
  const { losses, apart } = await train(content.train.losses.length);
  return { losses: apart, first: losses[0], last: losses[losses.length - 1] };
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

/** A button that does something; what goes wrong is told, beside it where there is a place. It
 *  rests while it works, unless pressing it again ends the work. */
function button(id, work, place = "status", ends = false) {
  part(id).addEventListener("click", async () => {
    if (!ends) part(id).disabled = true;
    try {
      await work();
    } catch (error) {
      part(place).textContent = `error: ${error.message}`;
    }
    if (!ends) part(id).disabled = false;
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
    if (!file) return;
    part("imageProblem").textContent = "";
    try {
      await show(await squared(file, size), null);
    } catch (error) {
      part("imageProblem").textContent = `error: ${file.name} cannot be shown: ${error.message}`;
    }
  };
  part("file").addEventListener("change", (event) => take(event.target.files[0]));
  const over = (event) => {
    event.preventDefault();
    part("drop").classList.toggle("over", event.type === "dragover");
  };
  ["dragover", "dragleave", "drop"].forEach((kind) => document.addEventListener(kind, over));
  document.addEventListener("drop", (event) => take(event.dataTransfer.files[0]));
  button("camera", takeCamera, "cameraProblem", true);
}

async function main() {
  showStatic();
  const first = pixels.subarray(0, imageBytes);
  const [asked, names] = location.hash.split("=");
  const log = (outcome) => asked === "#selftest" && console.log(`SELFTEST ${JSON.stringify(outcome)}`);
  try {
    engine = await Engine.open(content.shaders);
    const { vendor, architecture, description } = about();
    tell(`Runs on ${[vendor, architecture, description].filter(Boolean).join(", ") || "a GPU"}.`);
    if (asked === "#selftest") log(await selftest(names));
    await show(first, 0);
  } catch (error) {
    engine = null;
    tell(`Nothing is computed here: ${error.message}. Images, classes and settings are below; Chrome, Edge, Safari 26 and newer Firefox have WebGPU.`);
    part("needs").hidden = true;
    log({ problem: error.message });
    await show(first, 0);
  }
  acceptImages();
  button("look", showLayers);
  button("train", pressTrain, "progress", true);
  button("check", showCheck, "verdict");
  button("bench", showBench, "verdict");
  button("copy", copy, "verdict");
}

main();
