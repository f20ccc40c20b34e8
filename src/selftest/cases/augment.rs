//! Cases of [`crate::ops::augment`].

use crate::ops::augment::colour::Colour;
use crate::ops::augment::cutout::Cutout;
use crate::ops::augment::mix::Mix;
use crate::ops::augment::trivial::Trivial;
use crate::ops::augment::{AUGMENTATIONS, Act, Augment, Augmentations};
use crate::selftest::case::{Case, Fill};
use crate::tensor::TensorType;

/// Cases of [`Augment`].
pub fn augment() -> Vec<Case> {
    let case_of = |by_place, size, changes| {
        // One index more than there are images: the padding of a last batch.
        let (count, indices) = if by_place { (20, Fill::Labels(1000)) } else { (9, Fill::Below(10)) };
        let (mean, std) = ([120.0, 130.0, 110.0], [60.0, 55.0, 70.0]);
        let inputs = vec![
            (TensorType::u32([count, Augment::record(size)]), Fill::Bits),
            (TensorType::u32([count]), Fill::Below(10)),
            (TensorType::u32([20]), indices),
            (TensorType::u32([1]), Fill::Constant(11.0)),
        ];
        Case::new(Augment { size, mean, std, changes, seed: 3, epoch_steps: 4, by_place }, inputs)
    };
    let case = |size, changes| case_of(false, size, changes);
    let moves = AUGMENTATIONS.iter().filter(|augmentation| matches!(augmentation.act, Act::Move { .. }));
    let none = Augmentations::default();
    let (mut cases, mut all) = (vec![case(8, none)], none);
    for augmentation in moves {
        for value in augmentation.value.examples() {
            cases.push(case(7, none.with(augmentation, value)));
            all = all.with(augmentation, value);
            cases.push(case(8, all));
        }
    }
    cases.extend([case_of(true, 8, none), case_of(true, 7, all)]);
    cases
}

/// Cases of [`Colour`].
pub fn colour() -> Vec<Case> {
    let case = |batch, size, strength| {
        let inputs = vec![
            (TensorType::f32([batch, size, size, 3]), Fill::Uniform(-2.0, 2.0)),
            (TensorType::u32([1]), Fill::Constant(11.0)),
        ];
        let (mean, std) = ([120.0, 130.0, 110.0], [60.0, 55.0, 70.0]);
        Case::new(Colour { size, mean, std, strength, seed: 3 }, inputs)
    };
    // Fewer pixels than a workgroup has invocations, and more.
    vec![case(20, 8, 0.4), case(3, 19, 1.0)]
}

/// Cases of [`Cutout`].
pub fn cutout() -> Vec<Case> {
    let case = |batch, size, side| {
        let inputs = vec![
            (TensorType::f32([batch, size, size, 3]), Fill::Uniform(-1.0, 1.0)),
            (TensorType::u32([1]), Fill::Constant(11.0)),
        ];
        Case::new(Cutout { size, side, seed: 3 }, inputs)
    };
    vec![case(20, 8, 3), case(7, 9, 6)]
}

/// Cases of [`Trivial`].
pub fn trivial() -> Vec<Case> {
    let case = |batch, size, seed| {
        // A quarter from a byte, or three: none is halfway between two, where any rounding decides.
        let inputs = vec![
            (TensorType::f32([batch, size, size, 3]), Fill::Below(240)),
            (TensorType::u32([1]), Fill::Constant(11.0)),
        ];
        let (mean, std) = ([0.25, 10.25, -9.75], [1.0, 0.5, 1.0]);
        Case::new(Trivial { size, mean, std, seed }, inputs)
    };
    // Every change comes up. Fewer pixels than a workgroup has invocations, and more: so many that
    // a table which makes bytes equally often is another one than that of bytes as they are.
    vec![case(60, 8, 3), case(60, 23, 4)]
}

/// Cases of [`Mix`].
pub fn mix() -> Vec<Case> {
    let case = |batch, size, alpha, cut| {
        let inputs = vec![
            (TensorType::f32([batch, size, size, 3]), Fill::Uniform(-2.0, 2.0)),
            (TensorType::u32([batch]), Fill::Labels(10)),
            (TensorType::u32([1]), Fill::Constant(11.0)),
        ];
        Case::new(Mix { size, alpha, seed: 3, cut }, inputs)
    };
    let cases = [false, true].map(|cut| {
        // The last has no other image to join with.
        [case(20, 8, 0.2, cut), case(7, 9, 1.0, cut), case(1, 8, 1.0, cut)]
    });
    cases.concat()
}
