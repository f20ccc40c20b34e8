//! What a page checks of the GPU that it runs on: the cases of ops, and how fast it is.

use serde::Serialize;

use super::program::{Shaders, WebProgram, words};
use crate::error::Result;
use crate::exec::plan::Plan;
use crate::graph::{Graph, Value};
use crate::ops::movement::copy::Copy;
use crate::selftest::case::{Case, to_words};
use crate::selftest::check::reference;
use crate::selftest::finding::by_op;
use crate::selftest::probe::graph_of;
use crate::tensor::TensorType;

/// Words that a case may have; of an op whose cases are all larger, the smallest is taken.
const SMALL: usize = 3000;

/// Cases of an op: each needs pipelines of its own, which a slow compiler takes seconds for.
const CASES: usize = 2;

/// A case with what its op is by definition, as words.
#[derive(Serialize)]
pub struct WebCase {
    op: &'static str,
    program: WebProgram,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

/// Work whose time is taken.
#[derive(Serialize)]
pub struct WebWork {
    name: String,
    flops: f64,
    /// Read and written.
    bytes: f64,
    program: WebProgram,
}

/// Small cases of every op that has shaders, the largest among them.
///
/// # Errors
/// None but those of [`Shaders::plan`].
pub fn cases(shaders: &mut Shaders) -> Result<Vec<WebCase>> {
    let mut chosen = Vec::new();
    for mut cases in by_op().into_values() {
        cases.retain(Case::has_shaders);
        cases.sort_by_key(size);
        let small = cases.iter().filter(|case| size(case) <= SMALL).count().max(1).min(cases.len());
        let count = small.min(CASES);
        chosen.extend((0..count).map(|i| cases[(i + 1) * small / count - 1].clone()));
    }
    chosen.iter().map(|case| web_case(shaders, case)).collect()
}

/// Words of all tensors of a case.
fn size(case: &Case) -> usize {
    let types = case.types();
    types.inputs.iter().chain(&types.outputs).map(TensorType::len).sum()
}

fn web_case(shaders: &mut Shaders, case: &Case) -> Result<WebCase> {
    let (graph, ..) = graph_of(case)?;
    let program = shaders.plan(&Plan::compile(&graph)?)?;
    let types = case.types();
    let inputs = types.inputs.iter().enumerate().map(|(i, ty)| words(&to_words(&case.values(i), ty.dtype)));
    let expected = reference(case)?;
    let outputs = types.outputs.iter().zip(&expected).map(|(ty, values)| words(&to_words(values, ty.dtype)));
    Ok(WebCase { op: case.op.name(), program, inputs: inputs.collect(), outputs: outputs.collect() })
}

/// A copy of memory, and products of matrices, the larger after the smaller: the first that takes a
/// while is the one that counts.
///
/// # Errors
/// None but those of [`Shaders::graph`].
pub fn works(shaders: &mut Shaders) -> Result<Vec<WebWork>> {
    const COPIED: usize = 8 << 20;
    const SIDES: [usize; 3] = [256, 1024, 2048];
    let mut work =
        |name: String, flops, bytes, ty: TensorType, op: fn(&mut Graph, Value) -> Result<Value>| {
            let mut graph = Graph::new();
            let x = graph.input("x", ty);
            let y = op(&mut graph, x)?;
            graph.output("y", y);
            Ok(WebWork { name, flops, bytes, program: shaders.graph(&graph)? })
        };
    let copy = |graph: &mut Graph, x| graph.apply1(Copy, &[x]);
    let mut works = vec![work("copy".into(), 0.0, (8 * COPIED) as f64, TensorType::f32([COPIED]), copy)?];
    for side in SIDES {
        let (flops, bytes) = (2.0 * (side as f64).powi(3), (12 * side * side) as f64);
        let ty = TensorType::f32([side, side]);
        works.push(work(format!("product of {side}"), flops, bytes, ty, |graph, x| graph.matmul(x, x))?);
    }
    Ok(works)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_op_with_shaders_has_a_case() {
        let found = cases(&mut Shaders::default()).unwrap();
        for (op, cases) in by_op() {
            let has_shaders = cases.iter().any(Case::has_shaders);
            assert_eq!(found.iter().any(|case| case.op == op), has_shaders, "{op}");
        }
    }
}
