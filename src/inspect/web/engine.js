// The engine on WebGPU: runs the programs that `program.rs` writes. A program is a plan: buffers,
// and steps that are launches of shaders. What is done here, src/exec/gpu does natively.

"use strict";

/** The bytes of a base64 text. */
function decoded(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** An open GPU, with the states that its programs share by their names. */
class Engine {
  /** Opens the GPU of this browser; throws where there is none. */
  static async open(shaders) {
    if (!navigator.gpu) throw new Error("this browser has no WebGPU");
    const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter) throw new Error("this browser finds no GPU that it may use");
    const timed = adapter.features.has("timestamp-query") ? ["timestamp-query"] : [];
    const device = await adapter.requestDevice({ requiredFeatures: timed });
    return new Engine(adapter, device, shaders);
  }

  constructor(adapter, device, shaders) {
    Object.assign(this, { adapter, device, shaders });
    this.modules = new Map(); // by number
    this.pipelines = new Map(); // by number
    this.states = new Map(); // by name
    this.version = 0; // of the states: counts what the host writes
    this.fault = null;
    device.addEventListener("uncapturederror", (event) => (this.fault ??= event.error.message));
    device.lost.then((info) => (this.fault ??= `the GPU was lost (${info.message})`));
  }

  /** Throws the first thing that went wrong: what the GPU holds after it is unknown. */
  check() {
    if (this.fault) throw new Error(this.fault);
  }

  /** A buffer of zeros. */
  buffer(bytes, usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST) {
    return this.device.createBuffer({ size: bytes, usage });
  }

  /** A buffer of these words. */
  numbers(bits) {
    const buffer = this.buffer(4 * bits.length);
    this.device.queue.writeBuffer(buffer, 0, new Uint32Array(bits));
    return buffer;
  }

  /** A state by its name, which is made if the name is new. */
  state({ name, dims }) {
    if (!this.states.has(name)) {
      const bytes = 4 * dims.reduce((product, dim) => product * dim, 1);
      this.states.set(name, this.buffer(Math.max(16, Math.ceil(bytes / 16) * 16)));
    }
    return this.states.get(name);
  }

  /** Writes the beginning of a state: bytes, a multiple of four. */
  writeState(name, values) {
    this.device.queue.writeBuffer(this.states.get(name), 0, values);
    this.version += 1;
  }

  module(number) {
    const { name, text } = this.shaders.texts[number];
    if (!this.modules.has(number)) {
      this.modules.set(number, this.device.createShaderModule({ label: name, code: text }));
    }
    return this.modules.get(number);
  }

  /** A pipeline and the layout of its bindings, compiled once. The layout is explicit, so that an
   *  entry point need not use every binding. */
  pipeline(number) {
    if (!this.pipelines.has(number)) this.pipelines.set(number, this.compile(number));
    return this.pipelines.get(number);
  }

  async compile(number) {
    const { shader, entry, constants, writes } = this.shaders.pipelines[number];
    const entries = writes.map((written, binding) => ({
      binding,
      visibility: GPUShaderStage.COMPUTE,
      buffer: { type: written ? "storage" : "read-only-storage" },
    }));
    const layout = this.device.createBindGroupLayout({ entries });
    const pipeline = await this.device.createComputePipelineAsync({
      label: this.shaders.texts[shader].name,
      layout: this.device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module: this.module(shader), entryPoint: entry, constants },
    });
    return { pipeline, layout };
  }

  /** Prepares a program: compiles what is new, allocates its memory, binds every launch. */
  async load(program) {
    const numbers = program.steps.flatMap((step) => step.launches.map((launch) => launch.pipeline));
    const compiled = new Map();
    await Promise.all(numbers.map(async (number) => compiled.set(number, await this.pipeline(number))));
    const memory = {
      slot: program.slots.map((bytes) => this.buffer(bytes)),
      scratch: program.scratch.map((bytes) => this.buffer(bytes)),
      state: program.states.map((state) => this.state(state)),
      numbers: program.numbers.map((bits) => this.numbers(bits)),
    };
    const at = (place) => Object.entries(place).map(([kind, number]) => memory[kind][number])[0];
    const launch = ({ pipeline: number, groups, bindings }) => {
      const { pipeline, layout } = compiled.get(number);
      const entries = bindings.map(({ memory: place, offset, bytes }, binding) => ({
        binding,
        resource: { buffer: at(place), offset, size: bytes },
      }));
      return { pipeline, bindings: this.device.createBindGroup({ layout, entries }), groups };
    };
    const steps = program.steps.map((step) => step.launches.map(launch));
    this.check();
    return new Program(this, program, memory, at, steps);
  }
}

/** A program that is ready to run. */
class Program {
  constructor(engine, program, memory, at, steps) {
    Object.assign(this, { engine, program, memory, at, steps });
    this.constantsOf = -1; // the version of the states that the constant steps ran with
  }

  tensor(list, name) {
    const found = list.find((tensor) => tensor.name === name);
    if (!found) throw new Error(`the program has no '${name}'`);
    return found;
  }

  /** Writes an input. */
  write(name, values) {
    const input = this.tensor(this.program.inputs, name);
    this.engine.device.queue.writeBuffer(this.at(input.memory), 0, values);
  }

  /** Starts a run. */
  run() {
    this.engine.device.queue.submit([this.encoded(1)]);
  }

  /** The commands of some runs, in one pass. Steps that depend on nothing but states are left out
   *  until the host has written one. */
  encoded(runs, timestampWrites) {
    const { engine, program } = this;
    const first = this.constantsOf === engine.version ? program.constants : 0;
    this.constantsOf = engine.version;
    const encoder = engine.device.createCommandEncoder();
    const pass = encoder.beginComputePass(timestampWrites ? { timestampWrites } : {});
    for (let run = 0; run < runs; run += 1) {
      for (const { pipeline, bindings, groups } of this.steps.slice(first).flat()) {
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, bindings);
        pass.dispatchWorkgroups(...groups);
      }
    }
    pass.end();
    return encoder.finish();
  }

  /** An output, as of the last run. */
  read(name) {
    const { memory, dtype, dims } = this.tensor(this.program.outputs, name);
    return readBuffer(this.engine, this.at(memory), dtype, dims);
  }

  /** A state, as it is now. */
  readState(name) {
    const { memory, dtype, dims } = this.tensor(this.program.states, name);
    return readBuffer(this.engine, this.at(memory), dtype, dims);
  }

  /** Seconds of a run: the median of some passes of `runs` runs each, after one that is not timed.
   *  A pass ends when a number of its result has arrived. */
  async seconds(runs, passes) {
    const { engine } = this;
    const { device, device: { queue } } = engine;
    const arrived = engine.buffer(4, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
    const times = [];
    await queue.onSubmittedWorkDone();
    for (let pass = 0; pass <= passes; pass += 1) {
      const begin = performance.now();
      const encoder = device.createCommandEncoder();
      encoder.copyBufferToBuffer(this.at(this.program.outputs[0].memory), 0, arrived, 0, 4);
      queue.submit([this.encoded(runs), encoder.finish()]);
      await arrived.mapAsync(GPUMapMode.READ);
      arrived.unmap();
      if (pass > 0) times.push((performance.now() - begin) / 1000 / runs);
    }
    arrived.destroy();
    engine.check();
    return times.sort((a, b) => a - b)[Math.floor(passes / 2)];
  }

  /** Gives back the memory that is its own. */
  unload() {
    const { slot, scratch, numbers } = this.memory;
    [...slot, ...scratch, ...numbers].forEach((buffer) => buffer.destroy());
  }
}

/** The beginning of a buffer: a Float32Array or a Uint32Array, as many as the dimensions say. */
async function readBuffer(engine, buffer, dtype, dims) {
  const bytes = 4 * dims.reduce((product, dim) => product * dim, 1);
  const staging = engine.buffer(Math.max(bytes, 4), GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
  const encoder = engine.device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, staging, 0, bytes);
  engine.device.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const copy = staging.getMappedRange().slice(0, bytes);
  staging.destroy();
  engine.check();
  return dtype === "f32" ? new Float32Array(copy) : new Uint32Array(copy);
}
