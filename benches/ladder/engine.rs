//! The last rung of every ladder: the engine's own op, as a program of one graph; and what the
//! ladder takes from that op: its cost and its f64 reference.

use std::sync::Arc;
use std::time::Instant;

use cifar_engine::exec::{Data, Device, PlanId, device};
use cifar_engine::graph::Graph;
use cifar_engine::ops::{Cost, Op, Types};
use cifar_engine::tensor::{DType, TensorType};
use ndarray::{ArrayD, IxDyn};

use super::{Program, Rung};

/// An input of a chain of ops. Integers lie in the words bit by bit.
#[derive(Clone)]
pub struct Input {
    pub ty: TensorType,
    pub words: Vec<u32>,
}

impl Input {
    /// An input of these numbers.
    pub fn floats(dims: &[usize], numbers: &[f32]) -> Input {
        Input { ty: TensorType::f32(dims), words: numbers.iter().map(|x| x.to_bits()).collect() }
    }

    /// The values in f64, as references take them.
    fn exact(&self) -> ArrayD<f64> {
        let is_float = self.ty.dtype == DType::F32;
        let value = |&word: &u32| if is_float { f64::from(f32::from_bits(word)) } else { f64::from(word) };
        ArrayD::from_shape_vec(IxDyn(self.ty.dims()), self.words.iter().map(value).collect()).unwrap()
    }
}

/// Ops one after the other: the first takes the inputs, each other one the first output of the one
/// before it. The result is the first output of the last.
#[derive(Clone)]
pub struct Chain {
    pub inputs: Vec<Input>,
    pub ops: Vec<Arc<dyn Op>>,
}

impl Chain {
    /// The chain of a single op.
    pub fn of(op: impl Op, inputs: Vec<Input>) -> Chain {
        Chain { inputs, ops: vec![Arc::new(op)] }
    }

    /// The result in f64.
    pub fn exact(&self) -> Vec<f64> {
        let mut values: Vec<ArrayD<f64>> = self.inputs.iter().map(Input::exact).collect();
        for op in &self.ops {
            let views: Vec<_> = values.iter().map(|value| value.view()).collect();
            values = vec![op.reference(&views).swap_remove(0)];
        }
        values.swap_remove(0).into_raw_vec_and_offset().0
    }

    /// Arithmetic of all ops; bytes of the inputs and of the result alone, which is what must be
    /// moved.
    pub fn cost(&self) -> Cost {
        let mut inputs: Vec<TensorType> = self.inputs.iter().map(|input| input.ty.clone()).collect();
        let mut cost = Cost { flops: 0, bytes: inputs.iter().map(|ty| ty.bytes() as u64).sum() };
        for op in &self.ops {
            let outputs = op.output_types(&inputs.iter().collect::<Vec<_>>()).unwrap();
            let types = Types { inputs, outputs };
            cost.flops += op.cost(&types).flops;
            inputs = types.outputs[..1].to_vec();
        }
        Cost { bytes: cost.bytes + inputs[0].bytes() as u64, ..cost }
    }

    /// The chain as a rung on the CPU, with a thread for each core.
    pub fn on_cpu(&self, name: &'static str) -> Rung {
        self.on(name, device::cpu().unwrap(), Clock::Host)
    }

    /// The chain as a rung on the GPU.
    pub fn on_gpu(&self, name: &'static str) -> Rung {
        self.on(name, device::gpu().unwrap(), Clock::Device)
    }

    fn on(&self, name: &'static str, mut device: Box<dyn Device>, clock: Clock) -> Rung {
        let mut graph = Graph::new();
        let names: Vec<String> = (0..self.inputs.len()).map(|i| format!("input {i}")).collect();
        let inputs = names.iter().zip(&self.inputs);
        let mut values: Vec<_> = inputs.map(|(name, input)| graph.input(name, input.ty.clone())).collect();
        for op in &self.ops {
            values = graph.apply_shared(op.clone(), &values).unwrap()[..1].to_vec();
        }
        graph.output(RESULT, values[0]);
        let plan = device.load(&graph).unwrap();
        for (name, Input { ty, words }) in names.iter().zip(&self.inputs) {
            let floats: Vec<f32> = words.iter().map(|word| f32::from_bits(*word)).collect();
            let data = if ty.dtype == DType::F32 { Data::F32(&floats) } else { Data::U32(words) };
            device.write(plan, name, data).unwrap();
        }
        Rung { name, program: Box::new(OnDevice { device, plan, clock }) }
    }
}

const RESULT: &str = "result";

/// Where the time of a run is taken.
#[derive(Clone, Copy)]
enum Clock {
    /// Around the call.
    Host,
    /// On the device, around each step: without the way there and back.
    Device,
}

struct OnDevice {
    device: Box<dyn Device>,
    plan: PlanId,
    clock: Clock,
}

impl Program for OnDevice {
    fn run(&mut self) {
        self.device.run(self.plan).unwrap();
        self.device.wait().unwrap();
    }

    fn result(&self) -> Vec<f32> {
        self.device.read(self.plan, RESULT).unwrap()
    }

    fn time(&mut self) -> f64 {
        match self.clock {
            Clock::Host => {
                let begin = Instant::now();
                self.run();
                begin.elapsed().as_secs_f64()
            }
            Clock::Device => {
                let mut seconds = 0.0;
                self.device.profile(self.plan, &mut |_, _, step| seconds += step).unwrap();
                seconds
            }
        }
    }
}
