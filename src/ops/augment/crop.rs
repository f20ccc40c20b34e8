//! Random resized crops (Szegedy et al. 2015): a rectangle of an image, enlarged to the image's
//! size.
//!
//! Its share of the image's area is drawn from the chosen least to 1, and it is up to a third wider
//! than high, or higher than wide, the ratio uniform in its logarithm, as in torchvision. Where
//! that draws until a rectangle fits, here the ratio is drawn from those that fit; and its sides
//! need not be whole pixels, so that devices whose roots differ in the last digit see the same
//! image.

use super::{Act, Augmentation, Image, ValueForm};
use crate::kernels::rng;

/// Cuts a rectangle out of an image and enlarges it.
pub const CROP: Augmentation = Augmentation {
    name: "crop",
    value: ValueForm::UpTo(1.0),
    about: "enlarges a rectangle of it, of at least this share of its area and 3/4 to 4/3 as wide as high",
    act: Act::Move { constant: "CROP", places },
    conflict: |_| None,
};

/// The largest ratio of the longer side to the other.
const MOST_RATIO: f32 = 4.0 / 3.0;

fn places(least: f32, image: &Image, places: [&mut [f32]; 2]) {
    let [area, ratio, row, column] = image.draw(2).map(rng::unit);
    let (sides, size) = (sides(least, area, ratio), image.size as f32);
    for ((places, side), first) in places.into_iter().zip(sides).zip([row, column]) {
        let first = first * (1.0 - side) * size;
        for place in places.iter_mut().filter(|place| (0.0..size).contains(*place)) {
            *place = (first + (*place + 0.5) * side - 0.5).clamp(0.0, size - 1.0);
        }
    }
}

/// Height and width, as shares of the image's, for two numbers from 0 to 1.
fn sides(least: f32, area: f32, ratio: f32) -> [f32; 2] {
    let area = least + (1.0 - least) * area;
    let most = MOST_RATIO.min(1.0 / area);
    let ratio = most.powf(2.0 * ratio - 1.0);
    [(area / ratio).sqrt(), (area * ratio).sqrt()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_lie_in_the_image_and_have_the_areas_and_ratios_asked_for() {
        let (mut areas, mut wide) = (0.0, 0);
        for place in 0..1000 {
            let image = Image { seed: 1, step: 2, epoch: 0, place, index: 0, size: 32 };
            let [height, width] = {
                let [area, ratio, ..] = image.draw(2).map(rng::unit);
                sides(0.35, area, ratio)
            };
            assert!(height <= 1.0001 && width <= 1.0001);
            assert!((0.3499..1.0001).contains(&(height * width)), "{height} x {width}");
            assert!((0.7499..1.3334).contains(&(width / height)), "{height} x {width}");
            areas += height * width / 1000.0;
            wide += usize::from(width > height);
            let mut rows: [f32; 32] = std::array::from_fn(|row| row as f32);
            places(0.35, &image, [&mut rows, &mut []]);
            assert!(rows.is_sorted() && rows[0] >= 0.0 && rows[31] <= 31.0);
            assert!((rows[20] - rows[10] - 10.0 * height).abs() < 1e-4, "{rows:?}");
        }
        assert!((areas - 0.675).abs() < 0.02, "{areas}");
        assert!((450..550).contains(&wide), "{wide}");
    }

    #[test]
    fn the_whole_image_is_itself() {
        let image = Image { seed: 1, step: 2, epoch: 0, place: 3, index: 0, size: 4 };
        let mut rows = [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0];
        places(1.0, &image, [&mut rows, &mut []]);
        assert_eq!(rows, [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0], "what lies outside stays there");
    }
}
