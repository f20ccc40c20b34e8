//! Mirror images, at random or by turns: with the second, any two epochs in a row show an image
//! both ways (Jordan 2024, arXiv 2404.00498).

use super::{Act, Augmentation, Image, ValueForm};

/// Mirrors half of the images.
pub const FLIP: Augmentation = Augmentation {
    name: "flip",
    value: ValueForm::Written(&["flip", "flip=alternate"]),
    about: "mirrors an image, left to right: with probability 1/2, or at random in the first epoch and then by turns",
    act: Act::Move { constant: "FLIP", places },
    conflict: |_| None,
};

/// The value of `flip=alternate`.
pub const ALTERNATE: f32 = 2.0;

fn places(value: f32, image: &Image, [_, columns]: [&mut [f32]; 2]) {
    let bits = match value == ALTERNATE {
        true => image.constant()[0].wrapping_add(image.epoch),
        false => image.draw(0)[2],
    };
    if bits & 1 == 1 {
        columns.iter_mut().for_each(|column| *column = (image.size - 1) as f32 - *column);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_mirrored(epoch: u32, step: u32, index: u32) -> bool {
        let image = Image { seed: 5, step, epoch, place: 3, index, size: 2 };
        let mut columns = [0.0, 1.0];
        places(ALTERNATE, &image, [&mut [], &mut columns]);
        columns == [1.0, 0.0]
    }

    #[test]
    fn alternate_flips_take_turns() {
        for index in 0..100 {
            let first = is_mirrored(0, 0, index);
            // Wherever in the epoch the image comes.
            assert_eq!(is_mirrored(0, 7, index), first);
            assert_eq!([1, 2, 3].map(|epoch| is_mirrored(epoch, 9, index)), [!first, first, !first]);
        }
        let mirrored = (0..1000).filter(|index| is_mirrored(0, 0, *index)).count();
        assert!((450..550).contains(&mirrored), "{mirrored}");
    }
}
