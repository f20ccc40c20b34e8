//! The same program on every device: nothing in it knows where it runs.
//!
//!     cargo run --release --example devices

use cifar_engine::prelude::*;
use ndarray::Array4;

/// A convolution, GELU and the mean over the pixels, of made images; and what a device calls
/// itself.
fn features(device: Box<dyn Device>) -> Result<(String, ndarray::ArrayD<f32>)> {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([2, 8, 8, 3]));
    let mut layers = Builder::new(&mut graph, Mode::Infer, Norm::default());
    let y = layers.conv2d("conv", x, 4, 3, 1, Padding::Same)?;
    let y = layers.gelu("gelu", y)?;
    let parameters = layers.parameters;
    let mean = graph.mean(y, 1..3)?;
    graph.output("mean", mean);

    let name = device.name();
    let mut program = Program::new(&graph, device)?;
    program.initialise(&parameters, 7)?;
    program
        .write("x", &Array4::from_shape_fn([2, 8, 8, 3], |(n, h, w, c)| ((n + h * w + c) as f32).sin()))?;
    program.run()?;
    Ok((name, program.read("mean")?))
}

fn main() -> Result<()> {
    let (cpu, expected) = features(device::cpu()?)?;
    println!("{cpu}:\n{expected:.4}");
    match device::gpu() {
        Err(error) => println!("no GPU here: {error}"),
        Ok(gpu) => {
            let (gpu, found) = features(gpu)?;
            let apart = (&found - &expected).mapv(f32::abs).fold(0.0f32, |most, value| most.max(*value));
            println!("{gpu}:\n{found:.4}\nat most {apart:.1e} apart");
            assert!(apart < 1e-5, "the devices differ");
        }
    }
    Ok(())
}
