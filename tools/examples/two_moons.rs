//! Two half moons that no line parts, told apart by two layers that are composed by hand: states
//! for the weights, products, sums and a tanh. `differentiate` finds the gradients.
//!
//!     cargo run --release --example two_moons

use cifar_engine::prelude::*;
use ndarray::{Array1, Array2, array};

const POINTS: usize = 200;
const HIDDEN: usize = 16;

/// Points `[POINTS, 2]` on two half circles that reach into each other, and which of the two each
/// is on.
fn moons() -> (Array2<f32>, Array1<u32>) {
    let moon = |i: usize| (i % 2) as f32;
    let angle = |i: usize| (i / 2) as f32 / (POINTS / 2 - 1) as f32 * std::f32::consts::PI;
    let points = Array2::from_shape_fn([POINTS, 2], |(i, axis)| {
        let (side, turned) = (1.0 - 2.0 * moon(i), moon(i));
        match axis {
            0 => side * angle(i).cos() + turned,
            _ => side * angle(i).sin() + 0.5 * turned,
        }
    });
    (points, Array1::from_shape_fn(POINTS, |i| (i % 2) as u32))
}

fn main() -> Result<()> {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([POINTS, 2]));
    let labels = graph.input("labels", TensorType::u32([POINTS]));
    let rate = graph.input("rate", TensorType::f32([1]));
    let w1 = graph.state("w1", TensorType::f32([2, HIDDEN]))?;
    let b1 = graph.state("b1", TensorType::f32([HIDDEN]))?;
    let w2 = graph.state("w2", TensorType::f32([HIDDEN, 2]))?;
    let hidden = graph.matmul(x, w1)?;
    let hidden = graph.add(hidden, b1)?;
    let hidden = graph.map(Function::Tanh, hidden)?;
    let logits = graph.matmul(hidden, w2)?;
    let loss = graph.cross_entropy(logits, labels)?;
    graph.output("loss", loss);
    graph.output("logits", logits);

    // Gradient descent, w := w - rate dw, is three more nodes for each of the weights.
    let one = graph.constant(1.0, [1])?;
    let gradients = differentiate(&mut graph, &[(loss, one)], &[w1, b1, w2])?;
    for (w, dw) in [w1, b1, w2].into_iter().zip(gradients) {
        let step = graph.mul(dw, rate)?;
        let next = graph.sub(w, step)?;
        graph.update(w, next)?;
    }

    let mut program = Program::new(&graph, device::auto()?)?;
    let (points, moon) = moons();
    program.write("x", &points)?;
    program.write("labels", &moon)?;
    program.write("rate", &array![1.0])?;
    let spread = |n: usize, i: usize| ((i * 7919 % 101) as f32 / 50.0 - 1.0) / (n as f32).sqrt();
    program.write("w1", &Array2::from_shape_fn([2, HIDDEN], |(i, j)| spread(2, i * HIDDEN + j)))?;
    program.write("b1", &Array1::<f32>::zeros(HIDDEN))?;
    program.write("w2", &Array2::from_shape_fn([HIDDEN, 2], |(i, j)| spread(HIDDEN, 2 * i + j)))?;
    for step in 0..1000 {
        program.run()?;
        if step % 200 == 0 {
            println!("step {step}: loss {:.4}", program.read("loss")?[0]);
        }
    }
    let logits = program.read("logits")?;
    let right =
        moon.iter().enumerate().filter(|(i, moon)| (logits[[*i, 1]] > logits[[*i, 0]]) == (**moon == 1));
    println!("{} of {POINTS} points are told apart", right.count());
    Ok(())
}
