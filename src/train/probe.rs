//! Whether every trained tensor receives a gradient.
//!
//! A layer that is cut off, or whose units are all switched off, learns nothing, and no loss tells.

use super::stage::{Stage, StepContext};
use crate::error::Result;
use crate::exec::Device;
use crate::nn::Parameter;

/// The probe is made after this many steps: a classifier that begins at zero passes no gradient on
/// in its first.
pub const AFTER: usize = 3;

/// What the gradients are like.
pub(super) struct Probed {
    /// The trained tensors whose gradient is zero throughout.
    pub without: Vec<String>,
    /// The first tensor whose gradient is not finite.
    pub not_finite: Option<String>,
}

impl Stage {
    /// Which trained tensors get no gradient, or none that is finite, over the given images.
    ///
    /// It is the training plan itself that is probed: it runs once with moments of zero and a rate
    /// of zero, which leaves the gradients in the moments; then everything gets back the values it
    /// had.
    ///
    /// # Errors
    /// If the device fails.
    pub(super) fn probe(
        &self,
        device: &mut dyn Device,
        parameters: &[Parameter],
        images: &[u32],
    ) -> Result<Probed> {
        let names: Vec<&String> = parameters.iter().map(|p| &p.name).chain(self.states()).collect();
        let kept = names.iter().map(|name| device.read_state(self.plan, name)).collect::<Result<Vec<_>>>()?;
        self.clear(device)?;
        self.run(device, images, StepContext::at_rate(0.0, 0))?;
        // Its sums are not the training's.
        self.collect(device, true)?;
        let settings = &self.config.settings;
        let optimizer = settings.optimizer;
        let (mut without, mut not_finite) = (Vec::new(), None);
        for (parameter, values) in parameters.iter().zip(&kept) {
            let moment = optimizer.moment_of(parameter);
            if !names.contains(&&moment) {
                continue; // not trained by this plan
            }
            let mut zero = true;
            for (moment, &p) in device.read_state(self.plan, &moment)?.into_iter().zip(values) {
                let was_zero = optimizer.was_zero(parameter, moment, p, settings.decay_of(parameter));
                zero &= was_zero == Some(true);
                if was_zero.is_none() {
                    not_finite.get_or_insert_with(|| parameter.name.clone());
                }
            }
            if zero {
                without.push(parameter.name.clone());
            }
        }
        // A bias may be without one alone: where a normalisation takes it away again, nothing
        // depends on it.
        let layers: Vec<_> =
            without.iter().filter_map(|name| name.strip_suffix(".weight")).map(String::from).collect();
        without.retain(|name| {
            name.strip_suffix(".bias").is_none_or(|layer| layers.iter().any(|dead| dead == layer))
        });
        for (name, values) in names.into_iter().zip(&kept) {
            device.write_state(self.plan, name, values.as_slice().into())?;
        }
        Ok(Probed { without, not_finite })
    }
}
