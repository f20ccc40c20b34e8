//! What a trained model looks at: Grad-CAM (Selvaraju et al. 2017) of the class that it predicts,
//! by any of its layers.
//!
//!     cargo run --release --example grad_cam WEIGHTS IMAGE LAYER
//!     cargo run --release --example grad_cam             the built-in model, a made image

use cifar_engine::prelude::*;
use ndarray::{Array3, Axis};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mut model, image, prediction, layer) = match &arguments[..] {
        [weights, image, layer] => {
            let mut model = Model::load(weights)?;
            let prediction = model.predict(image)?;
            let image = model.input(image)?;
            (model, image, prediction, layer.as_str())
        }
        _ => {
            let mut model = Model::builtin()?;
            let square = |p: usize| (8..24).contains(&p);
            let pixel = |(row, column, _)| if square(row) && square(column) { 220 } else { 90 };
            let pixels = Array3::from_shape_fn([32, 32, 3], pixel);
            let prediction = model.predict_pixels(pixels.view())?;
            let image = model.input_pixels(pixels.view())?;
            (model, image, prediction, "block2.gelu2")
        }
    };

    println!("{} gives {:?}", layer, model.activation(&image, layer)?.shape());
    let map = model.grad_cam(&image, layer, prediction.class())?;
    let most = map.fold(f32::MIN_POSITIVE, |most, value| most.max(*value));
    println!("{:.2?}; # is where the first of them comes from:", prediction.top(2));
    for row in map.index_axis(Axis(0), 0).outer_iter() {
        let sign = |value: &f32| [" ", ".", ":", "+", "#"][(4.0 * value / most).round() as usize];
        println!("  {}", row.iter().map(sign).collect::<Vec<_>>().join(" "));
    }
    Ok(())
}
