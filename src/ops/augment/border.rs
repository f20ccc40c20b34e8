//! The pixels beyond the border of an image.

use super::{Act, Augmentation, Image, SHIFT, ValueForm};

/// Continues an image beyond its border by its reflection, the pixels at the border not repeated.
pub const BORDER: Augmentation = Augmentation {
    name: "border",
    value: ValueForm::Written(&["border=reflect"]),
    about: "what a shift lets in is the image's reflection instead of the mean colour",
    act: Act::Move { constant: "BORDER", places },
    conflict: |all| (!all.has(&SHIFT)).then_some("is of use with shift only"),
};

fn places(_: f32, image: &Image, places: [&mut [f32]; 2]) {
    let last = (image.size - 1) as f32;
    for place in places.into_iter().flatten() {
        // A shift is shorter than an image.
        *place = last - (last - place.abs()).abs();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_beyond_the_border_are_those_before_it() {
        let image = Image { seed: 0, step: 0, epoch: 0, place: 0, index: 0, size: 4 };
        let mut rows = [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        places(1.0, &image, [&mut rows, &mut []]);
        assert_eq!(rows, [3.0, 2.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0, 1.0, 0.0]);
    }

    #[test]
    fn without_a_shift_it_is_refused() {
        let check = |list: &str| list.parse::<super::super::Augmentations>().unwrap().check(32, false);
        assert!(check("shift=2,border=reflect").is_ok());
        let error = check("flip,border=reflect").unwrap_err().to_string();
        assert!(error.contains("border is of use with shift only"), "{error}");
    }
}
