//! Whole plans on a GPU: step by step against the CPU, a training beside the CPU's, and what
//! happens when the GPU fails.

mod checks;
#[path = "../common/mod.rs"]
mod common;
mod counts;
mod faults;
mod half;
mod joint;
mod outside;
mod parity;
mod steps;
mod tiles;
mod training;

use cifar_engine::exec::{Device, PlanId};
use cifar_engine::models::cnn::CNN;
use cifar_engine::models::{Architecture, Spec, Variant};
use cifar_engine::nn::Parameter;
use cifar_engine::tensor::DType;
use cifar_engine::train::optimizers::Optimizer;
use cifar_engine::train::plans::{self, ModelGraph};
use cifar_engine::train::settings::Settings;
use cifar_engine::{data, train};

/// Images on the device.
const IMAGES: usize = 64;

/// The real training of a model on a few built-in images.
struct Training {
    settings: Settings,
    spec: Spec,
    images: data::Images,
}

impl Training {
    /// Of the CNN.
    fn new(optimizer: &'static Optimizer, batch_size: usize) -> Training {
        Training::of(&CNN, optimizer, batch_size)
    }

    fn of(model: &'static Architecture, optimizer: &'static Optimizer, batch_size: usize) -> Training {
        let settings = Settings { model, batch_size, optimizer, ..Settings::default() };
        let data = data::shapes::sized(IMAGES, 10, settings.image_size, 1).unwrap();
        Training { spec: train::spec(&settings, &data).unwrap(), settings, images: data.train }
    }

    /// Of a narrow model, on images that are enlarged to 48 pixels: at stride 2 these become 24,
    /// 12, 6, 3 and 2.
    fn narrow(model: &'static Architecture, optimizer: &'static Optimizer, batch_size: usize) -> Training {
        let mut training = Training::of(model, optimizer, batch_size);
        training.spec.variant = Variant { input_size: 48, width: 0.25, ..training.spec.variant };
        training
    }

    fn program(&self) -> ModelGraph {
        plans::training(&self.spec, &self.settings, IMAGES).unwrap()
    }

    /// Gives a training plan on a device the images and the initial weights.
    fn prepare(&self, device: &mut dyn Device, plan: PlanId, parameters: &[Parameter]) {
        plans::upload(device, plan, "train", &self.images).unwrap();
        let values = plans::initial_values(parameters, self.settings.seed);
        plans::write_parameters(device, plan, parameters, &values).unwrap();
    }

    /// The images of a step.
    fn indices(&self, step: usize) -> Vec<u32> {
        let batch = self.settings.batch_size;
        (0..batch).map(|i| ((step * batch + 7 * i) % IMAGES) as u32).collect()
    }
}

/// Values of a tensor as a device takes them; integers travel as the bits of floats.
fn write(dtype: DType, values: &[f32], send: &mut dyn FnMut(cifar_engine::exec::Data)) {
    match dtype {
        DType::F32 => send(values.into()),
        DType::U32 => {
            let words: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
            send(words.as_slice().into());
        }
        DType::F16 => unreachable!("no device is given such values"),
    }
}
