//! Sines that are the same on every device. `shaders/include/sine.wgsl` has the twin.

use std::f32::consts::FRAC_PI_2;

/// The sine of so much of a right angle, from -1 to 1, by its series.
pub(super) fn quarter_sine(part: f32) -> f32 {
    let z = part * FRAC_PI_2;
    let s = z * z;
    z * (1.0 - s / 6.0 * (1.0 - s / 20.0 * (1.0 - s / 42.0 * (1.0 - s / 72.0 * (1.0 - s / 110.0)))))
}
