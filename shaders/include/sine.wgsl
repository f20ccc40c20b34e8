// The sine of so much of a right angle, from -1 to 1, by its series: the twin of
// src/ops/augment/sine.rs.
fn quarter_sine(part: f32) -> f32 {
    let z = part * 1.57079633;
    let s = z * z;
    //~ mixup: s / 20.0 => s / 10.0
    //~ trivial: s / 20.0 => s / 10.0
    return z * (1.0 - s / 6.0 * (1.0 - s / 20.0 * (1.0 - s / 42.0 * (1.0 - s / 72.0 * (1.0 - s / 110.0)))));
}
