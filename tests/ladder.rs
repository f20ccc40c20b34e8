//! Every rung of the ladder of kernels (`benches/ladder`) computes what the references of the
//! engine's ops say, at sizes that fill no tile; and a rung that does not is named.

#[path = "../benches/ladder/families.rs"]
#[allow(dead_code)] // what only the benchmark uses
mod families;

use families::{FAMILIES, Ladder, Program};

#[test]
fn every_rung_is_right_at_sizes_that_fill_no_tile() {
    for family in FAMILIES {
        for mut ladder in (family.odd)() {
            ladder.check().unwrap();
        }
    }
}

/// A program with one element of its result changed by a thousandth of the largest.
struct Wrong(Box<dyn Program>, usize);

impl Program for Wrong {
    fn run(&mut self) {
        self.0.run();
    }

    fn result(&self) -> Vec<f32> {
        let mut y = self.0.result();
        let largest = y.iter().fold(0.0, |largest: f32, y| largest.max(y.abs()));
        let place = self.1 % y.len();
        y[place] += largest / 1000.0;
        y
    }
}

#[test]
fn a_rung_that_is_wrong_in_one_element_is_named() {
    for family in FAMILIES {
        let rungs = (family.odd)()[0].rungs.len();
        for wrong in 0..rungs {
            let mut ladder: Ladder = (family.odd)().remove(0);
            let rung = ladder.rungs.remove(wrong);
            let name = rung.name;
            ladder
                .rungs
                .insert(wrong, families::Rung { name, program: Box::new(Wrong(rung.program, wrong)) });
            let error = ladder.check().unwrap_err();
            assert!(error.contains(&format!(", {name}:")), "{error}");
        }
    }
}
