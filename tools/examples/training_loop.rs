//! A training loop of one's own, with a loss of one's own: the focal loss (Lin et al. 2017), which
//! is composed of functions, products and sums; the engine differentiates it. The order of the
//! images, the rate of each step and the measurement are in sight.
//!
//!     cargo run --release --example training_loop

use cifar_engine::prelude::*;
use ndarray::{Array2, Array4, ArrayView4, Axis};

const BATCH: usize = 50;
const CLASSES: usize = 10;
const EPOCHS: usize = 12;

fn network(b: &mut Builder, x: Value) -> Result<Value> {
    let x = b.conv2d("conv1", x, 16, 3, 2, Padding::Same)?;
    let x = b.relu("relu1", x)?;
    let x = b.conv2d("conv2", x, 32, 3, 2, Padding::Same)?;
    let x = b.relu("relu2", x)?;
    let x = b.flatten("flatten", x)?;
    b.dense("fc", x, CLASSES, Layout::Dense)
}

/// Mean over the rows of `-(1 - p)² ln p`, where p is the probability of the row's class, of which
/// `chosen` `[N, classes]` has a 1: who is nearly right hardly counts.
fn focal_loss(g: &mut Graph, logits: Value, chosen: Value) -> Result<Value> {
    let whole = TensorType::f32(g.dims(logits)).shape;
    let largest = g.max(logits, 1..2)?;
    let largest = g.expand(largest, whole.clone(), 1..2)?;
    let relative = g.sub(logits, largest)?;
    let powers = g.map(Function::Exp, relative)?;
    let total = g.sum(powers, 1..2)?;
    let chosen_powers = g.mul(powers, chosen)?;
    let own = g.sum(chosen_powers, 1..2)?;
    let p = g.div(own, total)?;
    let ln_p = g.map(Function::Ln, p)?;
    let minus_one = g.constant(-1.0, [1])?;
    let missing = g.add(p, minus_one)?;
    let weight = g.map(Function::Square, missing)?;
    let loss = g.mul(weight, ln_p)?;
    let mean = g.mean(loss, 0..1)?;
    g.scale(mean, -1.0)
}

/// Pixels around 0, of the images at these places.
fn batch(images: &ArrayView4<u8>, places: &[usize]) -> Array4<f32> {
    images.select(Axis(0), places).mapv(|pixel| (f32::from(pixel) - 128.0) / 64.0)
}

fn main() -> Result<()> {
    let data = Dataset::open("shapes")?.part(4000);
    let (images, labels) = (data.train.array()?, &data.train.labels);

    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([BATCH, data.train.size, data.train.size, 3]));
    let chosen = graph.input("chosen", TensorType::f32([BATCH, CLASSES]));
    let mut layers = Builder::new(&mut graph, Mode::Infer, Norm::default());
    let logits = network(&mut layers, x)?;
    let loss = focal_loss(layers.graph, logits, chosen)?;
    layers.graph.output("logits", logits);
    let mut program = training(layers, loss, &ADAM, 0, device::auto()?)?;

    let steps = labels.len() / BATCH;
    for epoch in 0..EPOCHS {
        let (mut sum, mut right) = (0.0, 0);
        for step in 0..steps {
            let done = (epoch * steps + step) as f32 / (EPOCHS * steps) as f32;
            let places: Vec<usize> =
                (0..BATCH).map(|i| (step + steps * i + 7 * epoch) % labels.len()).collect();
            let is_own = |(i, class): (usize, usize)| f32::from(labels[places[i]] as usize == class);
            program.write("x", &batch(&images.view(), &places))?;
            program.write("chosen", &Array2::from_shape_fn([BATCH, CLASSES], is_own))?;
            program.step(3e-3 * (1.0 - done))?;
            sum += program.read("loss")?.sum() / steps as f32;
            let logits = program.read("logits")?;
            let first =
                |row: usize| (0..CLASSES).max_by(|a, b| logits[[row, *a]].total_cmp(&logits[[row, *b]]));
            right += (0..BATCH).filter(|i| first(*i) == Some(labels[places[*i]] as usize)).count();
        }
        let share = 100.0 * right as f32 / (steps * BATCH) as f32;
        println!("epoch {}: focal loss {sum:.4}, {share:.1} % right while it learns", epoch + 1);
    }
    Ok(())
}
