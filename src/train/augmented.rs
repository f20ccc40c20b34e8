//! Images as a training sees them: to be looked at.

use super::bare_spec;
use super::features::BatchSource;
use super::plans::{self, augmented};
use super::settings::Settings;
use crate::data::Images;
use crate::error::Result;
use crate::exec::Device;

/// What the settings' augmentation makes of the images in so many epochs, the first one first.
///
/// # Errors
/// If the device fails.
pub fn draws(
    device: &mut dyn Device,
    images: &Images,
    settings: &Settings,
    epochs: usize,
) -> Result<Vec<Images>> {
    let spec = bare_spec(settings.model, images.size, 2);
    let count = images.len();
    let graph = plans::features(&spec, augmented(&spec, settings), ("shown", images), count, 0)?;
    let plan = device.load(&graph)?;
    plans::upload(device, plan, "shown", images)?;
    let indices: Vec<u32> = (0..count as u32).collect();
    BatchSource::of(images).write(device, plan, &indices, 0)?;
    let mut epoch = |step: usize| {
        device.write(plan, "step", [step as u32].as_slice().into())?;
        device.run(plan)?;
        let scaled = device.read(plan, "features")?;
        let byte = |(i, value): (usize, &f32)| (value * spec.std[i % 3] + spec.mean[i % 3]).round() as u8;
        let pixels: Vec<u8> = scaled.iter().enumerate().map(byte).collect();
        Ok(Images { pixels: pixels.into(), ..images.without_files() })
    };
    let drawn: Result<Vec<Images>> = (0..epochs).map(&mut epoch).collect();
    device.unload(plan)?;
    drawn
}
