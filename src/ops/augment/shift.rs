//! Shifts.

use super::{Act, Augmentation, Image, ValueForm};
use crate::kernels::rng;

/// Shifts images by a few pixels.
pub const SHIFT: Augmentation = Augmentation {
    name: "shift",
    value: ValueForm::Pixels,
    about: "shifts it by up to so many pixels, down or up and right or left; the mean colour comes in",
    act: Act::Move { constant: "SHIFT", places },
    conflict: |_| None,
};

fn places(most: f32, image: &Image, places: [&mut [f32]; 2]) {
    let numbers = image.draw(0);
    for (places, bits) in places.into_iter().zip(numbers) {
        let by = rng::below(bits, 2 * most as u32 + 1) as f32 - most;
        places.iter_mut().for_each(|place| *place -= by);
    }
}
