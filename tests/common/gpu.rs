//! What the GPU tests share: the device, and a way to plant an error into a shader.

use std::fmt::{Debug, Formatter};
use std::ops::Range;
use std::sync::Arc;

use cifar_engine::exec::Precision;
use cifar_engine::exec::gpu::Gpu;
use cifar_engine::exec::gpu::adapter::{Adapter, Choice};
use cifar_engine::graph::{Graph, Node, Value};
use cifar_engine::ops::cpu_step::{CpuStep, CpuTarget};
use cifar_engine::ops::dispatch::Dispatches;
use cifar_engine::ops::{Alias, Axis, Cost, Gradients, Op, Tile, Types};
use cifar_engine::tensor::TensorType;
use ndarray::{ArrayD, ArrayViewD};

/// The GPU under test, a software rasteriser if there is no other; says so if there is none at all.
/// Its shaders check every index and every loop.
pub fn open() -> Option<Gpu> {
    open_with(true)
}

/// The same, with shaders that are checked, or as the program runs them.
pub fn open_with(checks: bool) -> Option<Gpu> {
    match Adapter::choose(&Choice::Any) {
        Ok(adapter) => Some(Gpu::open_with(&adapter, Precision::F32, checks).unwrap()),
        Err(error) => {
            println!("nothing is tested on a GPU: {error}");
            None
        }
    }
}

/// An op with other work for the GPU; everything else is the op's own.
pub struct Altered<F> {
    pub op: Arc<dyn Op>,
    pub work: F,
}

/// An op whose shaders have one text replaced by another.
pub fn corrupted(op: Arc<dyn Op>, from: &'static str, to: &'static str) -> Arc<dyn Op> {
    let original = op.clone();
    let work = move |types: &Types| {
        let mut work = original.gpu(types);
        let mut found = false;
        for dispatch in &mut work.list {
            let source = dispatch.shader.body();
            found |= source.contains(from);
            // Tests end soon: the text may live until then.
            let source: &'static str = source.replace(from, to).leak();
            dispatch.shader.source = source;
        }
        assert!(found, "no shader of {} contains '{from}'", original.name());
        work
    };
    Arc::new(Altered { op, work })
}

/// An op whose shaders begin with rubbish in all memory that a workgroup shares.
pub fn littered(op: Arc<dyn Op>) -> Arc<dyn Op> {
    let original = op.clone();
    let work = move |types: &Types| {
        let mut work = original.gpu(types);
        for dispatch in &mut work.list {
            dispatch.shader.source = litter(&dispatch.shader.body(), dispatch.entry).leak();
        }
        work
    };
    Arc::new(Altered { op, work })
}

/// WGSL whose entry point first writes to every element of every workgroup array.
fn litter(text: &str, entry: &str) -> String {
    let arrays = text.lines().filter_map(|line| line.strip_prefix("var<workgroup> "));
    let rubbish = arrays.map(|array| {
        let (name, ty) = array.split_once(": array<").unwrap();
        let (element, length) = ty.strip_suffix(">;").and_then(|ty| ty.rsplit_once(", ")).unwrap();
        let write = match element.strip_prefix("atomic<") {
            None => format!("{name}[i] = {element}(1234567);"),
            Some(of) => format!("atomicStore(&{name}[i], {}(1234567));", of.trim_end_matches('>')),
        };
        format!("for (var i = 0u; i < {length}; i++) {{ {write} }}\n")
    });
    let rubbish: String = rubbish.chain(["workgroupBarrier();\n".into()]).collect();
    let (before, after) = text.split_once(&format!("fn {entry}(")).unwrap();
    let (head, body) = after.split_once(" {\n").unwrap();
    format!("{before}fn {entry}({head} {{\n{rubbish}{body}")
}

impl<F> Debug for Altered<F> {
    fn fmt(&self, formatter: &mut Formatter) -> std::fmt::Result {
        self.op.fmt(formatter)
    }
}

impl<F: Fn(&Types) -> Dispatches + Send + Sync + 'static> Op for Altered<F> {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String> {
        self.op.output_types(inputs)
    }

    fn gradient(
        &self,
        graph: &mut Graph,
        node: &Node,
        grads: &[Option<Value>],
        needed: &[bool],
    ) -> Gradients {
        self.op.gradient(graph, node, grads, needed)
    }

    fn alias(&self) -> Alias {
        self.op.alias()
    }

    fn cost(&self, types: &Types) -> Cost {
        self.op.cost(types)
    }

    fn tile(&self, types: &Types, axis: Axis, part: Range<usize>) -> Option<Tile> {
        self.op.tile(types, axis, part)
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        self.op.cpu(types, target)
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        (self.work)(types)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        self.op.reference(inputs)
    }
}
