//! A small MobileNet that knows nothing, as weights to fine-tune.

use std::path::Path;

use cifar_engine::models::mobilenet_v1::MOBILENET_V1;
use cifar_engine::models::{self, Calibration, PaddingStyle, Spec, Variant, Views};
use cifar_engine::nn::Norm;
use cifar_engine::train::plans;

/// Writes a MobileNet v1 of width 0.25 with five classes.
pub fn write_weights(path: &Path) {
    let spec = Spec {
        architecture: &MOBILENET_V1,
        classes: ["a", "b", "c", "d", "e"].map(String::from).to_vec(),
        image_size: 32,
        variant: Variant { input_size: 32, width: 0.25, padding: PaddingStyle::Same },
        mean: [127.5; 3],
        std: [127.5; 3],
        norm: Norm { epsilon: 1e-3, momentum: 0.1 },
        views: Views::default(),
        calibration: Calibration::default(),
        data: "nothing".into(),
    };
    let parameters = plans::evaluation(&spec, "test", 1, 1).unwrap().parameters;
    models::save(path, &spec, &parameters, &plans::initial_values(&parameters, 5)).unwrap();
}
