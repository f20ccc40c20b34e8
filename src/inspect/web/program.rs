//! Plans and their launches as data that a page can run: `engine.js` is the host.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::error::Result;
use crate::exec::launches::{RULES, extent, padded, portable_launches, shared_scratch};
use crate::exec::plan::{IoBinding, Location, Plan, Step};
use crate::graph::Graph;
use crate::graph::rewrite::rewrite;
use crate::ops::dispatch::{Dispatch, Dispatches, Operand, Shader};
use crate::tensor::{DType, TensorType};

/// The shaders and pipelines of all programs of a page, each once.
#[derive(Default, Serialize)]
pub struct Shaders {
    /// In the order of their numbers.
    texts: Vec<ShaderText>,
    /// In the order of their numbers.
    pipelines: Vec<Pipeline>,
    #[serde(skip)]
    shader_numbers: HashMap<Shader, usize>,
    #[serde(skip)]
    pipeline_numbers: HashMap<String, usize>,
}

/// A shader as WebGPU takes it.
#[derive(Serialize)]
struct ShaderText {
    name: &'static str,
    text: String,
}

/// A shader with the constants of a launch.
#[derive(Serialize)]
struct Pipeline {
    /// Number of its shader.
    shader: usize,
    entry: &'static str,
    constants: BTreeMap<&'static str, f64>,
    /// For each binding, whether the shader writes to it.
    writes: Vec<bool>,
}

/// A plan as a page runs it.
#[derive(Serialize)]
pub struct WebProgram {
    /// Bytes of every slot.
    slots: Vec<usize>,
    /// Bytes of every temporary buffer.
    scratch: Vec<usize>,
    /// Bits of the numbers that launches read as data, each four once.
    numbers: Vec<[u32; 4]>,
    /// States by their names, which programs of a page share.
    states: Vec<Tensor>,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    /// The first so many steps run only after a state was written.
    constants: usize,
    steps: Vec<WebStep>,
}

/// A tensor that the page can reach.
#[derive(Serialize)]
struct Tensor {
    name: String,
    /// `f32` or `u32`.
    dtype: &'static str,
    dims: Vec<usize>,
    memory: Memory,
}

/// A buffer.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Memory {
    Slot(usize),
    State(usize),
    Scratch(usize),
    Numbers(usize),
}

/// A step of a plan.
#[derive(Serialize)]
struct WebStep {
    op: &'static str,
    layer: String,
    launches: Vec<Launch>,
}

/// A launch of a shader.
#[derive(Serialize)]
struct Launch {
    pipeline: usize,
    groups: [u32; 3],
    bindings: Vec<Bound>,
}

/// A part of a buffer, in bytes.
#[derive(Serialize)]
struct Bound {
    memory: Memory,
    offset: usize,
    bytes: usize,
}

impl Shaders {
    /// The program of a graph, by the rules of a GPU.
    ///
    /// # Errors
    /// As for [`Shaders::plan`].
    pub fn graph(&mut self, graph: &Graph) -> Result<WebProgram> {
        let mut graph = graph.clone();
        rewrite(&mut graph, RULES)?;
        self.plan(&Plan::compile(&graph)?)
    }

    /// The program of a plan.
    ///
    /// # Errors
    /// If it needs more than WebGPU promises.
    pub fn plan(&mut self, plan: &Plan) -> Result<WebProgram> {
        let work = portable_launches(plan)?;
        let buffer = |elements: &usize| padded(4 * elements);
        let states = plan.states.iter().enumerate();
        let states = states.map(|(i, (name, ty))| Tensor::new(name, ty, Location::State(i)));
        let bound = |list: &[IoBinding]| {
            list.iter().map(|io| Tensor::new(&io.name, &io.ty, io.location)).collect::<Vec<_>>()
        };
        let launched = work.iter().flat_map(|work| &work.list).flat_map(|dispatch| &dispatch.bindings);
        let numbers: BTreeSet<[u32; 4]> = launched.filter_map(|operand| operand.numbers()).collect();
        let numbers: Vec<[u32; 4]> = numbers.into_iter().collect();
        let steps = plan.steps.iter().zip(&work).map(|(step, work)| self.step(step, work, &numbers));
        Ok(WebProgram {
            steps: steps.collect(),
            slots: plan.slots.iter().map(buffer).collect(),
            scratch: shared_scratch(&work).iter().map(buffer).collect(),
            states: states.collect(),
            inputs: bound(&plan.inputs),
            outputs: bound(&plan.outputs),
            constants: plan.constants,
            numbers,
        })
    }

    fn step(&mut self, step: &Step, work: &Dispatches, numbers: &[[u32; 4]]) -> WebStep {
        let bound = |&operand: &Operand| Bound::new(step, work, operand, numbers);
        let launches = work.list.iter().map(|dispatch| Launch {
            pipeline: self.pipeline(dispatch),
            groups: dispatch.groups,
            bindings: dispatch.bindings.iter().map(bound).collect(),
        });
        WebStep { op: step.op.name(), layer: step.layer.clone(), launches: launches.collect() }
    }

    fn pipeline(&mut self, dispatch: &Dispatch) -> usize {
        let writes: Vec<bool> = dispatch.bindings.iter().map(|operand| operand.is_written()).collect();
        let Dispatch { shader, entry, constants, .. } = dispatch;
        let key = format!("{} {:?} {entry} {constants:?} {writes:?}", shader.name, shader.chosen);
        if let Some(&number) = self.pipeline_numbers.get(&key) {
            return number;
        }
        let shader = self.shader(shader);
        self.pipelines.push(Pipeline {
            shader,
            entry,
            constants: constants.iter().copied().collect(),
            writes,
        });
        self.pipeline_numbers.insert(key, self.pipelines.len() - 1);
        self.pipelines.len() - 1
    }

    fn shader(&mut self, shader: &Shader) -> usize {
        let texts = &mut self.texts;
        *self.shader_numbers.entry(*shader).or_insert_with(|| {
            texts.push(ShaderText { name: shader.name, text: shader.text() });
            texts.len() - 1
        })
    }
}

impl Tensor {
    fn new(name: &str, ty: &TensorType, location: Location) -> Tensor {
        let dtype = match ty.dtype {
            DType::F32 => "f32",
            DType::U32 => "u32",
            DType::F16 => unreachable!("a page stores everything in single precision"),
        };
        Tensor { name: name.to_string(), dtype, dims: ty.dims().to_vec(), memory: location.into() }
    }
}

impl From<Location> for Memory {
    fn from(location: Location) -> Memory {
        match location {
            Location::Slot(slot) => Memory::Slot(slot),
            Location::State(state) => Memory::State(state),
        }
    }
}

impl Bound {
    /// `numbers` are those of the program.
    fn new(step: &Step, work: &Dispatches, operand: Operand, numbers: &[[u32; 4]]) -> Bound {
        let memory = match operand {
            Operand::Input(i) | Operand::InputPiece(i, _) => step.inputs[i].into(),
            Operand::Output(i) | Operand::OutputInput(i) => step.outputs[i].into(),
            Operand::Scratch(i) | Operand::ScratchInput(i) => Memory::Scratch(i),
            Operand::Numbers(own) | Operand::BlockNumbers(own) => {
                Memory::Numbers(numbers.partition_point(|other| *other < own))
            }
        };
        let (offset, bytes) = extent(step, work, operand);
        Bound { memory, offset, bytes: padded(bytes) }
    }
}

/// Words as text, little-endian.
pub fn words(values: &[u32]) -> String {
    bytes(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}

/// Numbers as text, little-endian.
pub fn floats(values: &[f32]) -> String {
    words(&values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>())
}

/// Bytes as text.
pub fn bytes(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shaders_and_pipelines_are_there_once() {
        let mut shaders = Shaders::default();
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::f32([2, 300]));
        let twice = graph.add(x, x).unwrap();
        let more = graph.add(twice, x).unwrap();
        graph.output("y", more);
        let program = shaders.graph(&graph).unwrap();
        assert_eq!((program.steps.len(), shaders.texts.len(), shaders.pipelines.len()), (2, 1, 1));
        shaders.graph(&graph).unwrap();
        assert_eq!((shaders.texts.len(), shaders.pipelines.len()), (1, 1));
        let json = serde_json::to_value(&program).unwrap();
        assert_eq!(json["inputs"][0]["memory"]["slot"].as_u64().unwrap() as usize, 0);
        let bound = &json["steps"][1]["launches"][0]["bindings"];
        assert!(bound.as_array().unwrap().iter().all(|bound| bound["bytes"] == 2400), "{bound}");
        assert_eq!(floats(&[1.0]), bytes(&[0, 0, 0x80, 0x3f]));
    }

    #[test]
    fn what_a_browser_cannot_hold_is_refused() {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::f32([40 << 20]));
        let y = graph.add(x, x).unwrap();
        graph.output("y", y);
        let error = Shaders::default().graph(&graph).err().unwrap().to_string();
        assert!(error.contains("a shader can reach"), "{error}");
    }
}
