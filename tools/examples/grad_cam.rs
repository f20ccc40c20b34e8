//! What a trained model looks at: Grad-CAM (Selvaraju et al. 2017) of the class that it predicts,
//! by any of its layers.
//!
//!     cargo run --release --example grad_cam WEIGHTS IMAGE LAYER
//!     cargo run --release --example grad_cam             the built-in model, a made image

use cifar_engine::prelude::*;
use ndarray::{Array2, Array4, Axis, s};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, image, layer) = match &arguments[..] {
        [weights, image, layer] => {
            let model = Model::load(weights)?;
            let image = model.input(image)?;
            (model, image, layer.as_str())
        }
        _ => {
            let square = |p: usize| (8..24).contains(&p);
            let pixel = |(_, row, column, _)| if square(row) && square(column) { 1.5 } else { -0.5 };
            (Model::builtin()?, Array4::from_shape_fn([1, 32, 32, 3], pixel), "relu6")
        }
    };

    // The logit of one class, differentiated by the layer's output.
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32(image.shape()));
    let network = model.build(&mut graph, x)?;
    let features = network.layer(layer)?;
    let classes = model.spec().classes.len();
    let chosen = graph.input("chosen", TensorType::f32([1, classes]));
    let gradient = differentiate(&mut graph, &[(network.logits, chosen)], &[features])?[0];
    for (name, value) in [("logits", network.logits), ("features", features), ("gradient", gradient)] {
        graph.output(name, value);
    }

    let mut program = model.program(&graph, &network, device::auto()?)?;
    program.write("x", &image)?;
    program.write("chosen", &Array2::<f32>::zeros([1, classes]))?;
    program.run()?;
    let logits = program.read("logits")?;
    let best = (0..classes).max_by(|a, b| logits[[0, *a]].total_cmp(&logits[[0, *b]])).unwrap_or(0);
    program.write("chosen", &Array2::from_shape_fn([1, classes], |(_, c)| f32::from(c == best)))?;
    program.run()?;

    // Channels weighted by their mean gradient, and of their sum what speaks for the class.
    let (features, gradient) = (program.read("features")?, program.read("gradient")?);
    let weights = gradient.sum_axis(Axis(2)).sum_axis(Axis(1));
    let map = (&features * &weights.insert_axis(Axis(1)).insert_axis(Axis(1))).sum_axis(Axis(3));
    let map = map.mapv(|value| value.max(0.0));
    let most = map.fold(f32::MIN_POSITIVE, |most, value| most.max(*value));
    println!("{}, by {layer}; # is where it comes from:", model.spec().classes[best]);
    for row in map.slice(s![0, .., ..]).outer_iter() {
        let sign = |value: &f32| [" ", ".", ":", "+", "#"][(4.0 * value / most).round() as usize];
        println!("  {}", row.iter().map(sign).collect::<Vec<_>>().join(" "));
    }
    Ok(())
}
