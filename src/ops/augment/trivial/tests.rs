//! Every change against torchvision, and by hand.

use std::collections::BTreeMap;

use super::change::KINDS;
use super::*;

/// An image's bytes by an image's bytes, as a scale of 1 leaves them.
fn changed(kind: Kind, level: i32, values: &[f32]) -> Vec<f32> {
    let change = Change { kind, level: level.unsigned_abs(), is_turned: level < 0 };
    let size = (values.len() / 3).isqrt();
    let mut to = vec![f32::NAN; values.len()];
    change.write(Pixels { values, size, mean: [0.0; 3], std: [1.0; 3] }, &mut to);
    to
}

/// What torchvision makes of the same image, in bytes (`tools/trivial_goldens.py`). It cuts digits
/// off where this rounds, or the other way.
#[test]
fn changes_are_those_of_torchvision() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/trivial.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let goldens = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let image = Array3::from_shape_fn((20, 20, 3), |(y, x, c)| {
        (20 + 7 * y + 3 * x + 11 * c + (y * 31 + x * 17 + c * 5) % 23) as f32
    });
    let mut seen = BTreeMap::new();
    for (name, golden) in goldens.tensors() {
        let (kind, level) = name.split_once(' ').unwrap();
        let kind = KINDS.into_iter().find(|known| format!("{known:?}") == kind).unwrap();
        let found = changed(kind, level.parse().unwrap(), image.as_slice().unwrap());
        let pairs = found.iter().zip(golden.data());
        let apart = pairs.map(|(a, b)| (a - f32::from(*b)).abs()).fold(0.0, f32::max);
        assert!(apart < 1.001, "{name}: {apart}");
        *seen.entry(kind as usize).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), KINDS.len() - 1, "of all but nothing");
}

/// A grey image.
fn grey(values: &[u8]) -> Vec<f32> {
    values.iter().flat_map(|&value| [f32::from(value); 3]).collect()
}

#[test]
fn every_kind_level_and_way_comes_up() {
    let (mut kinds, mut levels, mut turned) = (BTreeMap::new(), BTreeMap::new(), 0);
    for place in 0..14_000 {
        let change = Change::of(1, 2, place);
        *kinds.entry(change.kind as usize).or_insert(0) += 1;
        *levels.entry(change.level).or_insert(0) += 1;
        turned += usize::from(change.is_turned);
    }
    assert!(
        kinds.len() == KINDS.len() && kinds.values().all(|count| (850..1150).contains(count)),
        "{kinds:?}"
    );
    assert!(levels.len() == 31 && levels.values().all(|count| (370..540).contains(count)), "{levels:?}");
    assert!((6700..7300).contains(&turned), "{turned}");
    KINDS.iter().enumerate().for_each(|(number, kind)| assert_eq!(*kind as usize, number));
}

#[test]
fn pixels_go_where_the_names_say() {
    let image: Vec<u8> = (1..=9).collect();
    let image = grey(&image);
    let rows = |of: [u8; 9]| grey(&of);
    // Of 32 pixels a thirtieth is one.
    assert_eq!(changed(Kind::ShiftColumns, 1, &image), rows([0, 1, 2, 0, 4, 5, 0, 7, 8]));
    assert_eq!(changed(Kind::ShiftColumns, -1, &image), rows([2, 3, 0, 5, 6, 0, 8, 9, 0]));
    assert_eq!(changed(Kind::ShiftRows, 1, &image), rows([0, 0, 0, 1, 2, 3, 4, 5, 6]));
    // Twenty levels are a right angle, against the clock.
    let near =
        |found: &[f32], expected: &[f32]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-4);
    assert!(near(&changed(Kind::Rotate, 20, &image), &rows([3, 6, 9, 2, 5, 8, 1, 4, 7])));
    assert!(near(&changed(Kind::Rotate, -20, &image), &rows([7, 4, 1, 8, 5, 2, 9, 6, 3])));
    for kind in &KINDS[..9] {
        assert!(near(&changed(*kind, 0, &image), &image), "{kind:?}");
    }
}

#[test]
fn one_colour_stays_one() {
    let image = grey(&[100; 16]);
    for kind in KINDS {
        let there = changed(kind, 7, &image)[15];
        let expected = match kind {
            Kind::ShearColumns | Kind::ShearRows | Kind::ShiftColumns | Kind::ShiftRows | Kind::Rotate => {
                continue;
            }
            Kind::Brightness => 123.1,
            Kind::Posterize => 100.0 - 100.0 % 2.0,
            _ => 100.0,
        };
        assert!((there - expected).abs() < 0.01, "{kind:?}: {there}");
    }
}
