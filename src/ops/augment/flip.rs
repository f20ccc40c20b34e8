//! Mirror images.

use super::{Act, Augmentation, Image, Value};

/// Mirrors half of the images.
pub const FLIP: Augmentation = Augmentation {
    name: "flip",
    value: Value::Written(&["flip"]),
    about: "mirrors an image, left to right, with probability 1/2",
    act: Act::Move { constant: "FLIP", places },
};

fn places(_: f32, image: &Image, [_, columns]: [&mut [f32]; 2]) {
    if image.draw(0)[2] & 1 == 1 {
        columns.iter_mut().for_each(|column| *column = (image.size - 1) as f32 - *column);
    }
}
