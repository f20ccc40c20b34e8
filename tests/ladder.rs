//! Every rung of the ladder of kernels (`benches/ladder`) computes what the references of the
//! engine's ops say, at sizes that fill no tile; and a rung that does not is named.

#[path = "../benches/ladder/families.rs"]
#[allow(dead_code)] // what only the benchmark uses
mod families;

use families::{FAMILIES, Family, GPU_FAMILIES, Program, Rung, gpu};

/// All families but those for which there is no GPU.
fn families() -> Vec<&'static Family> {
    match gpu::adapter() {
        Ok(_) => FAMILIES.iter().chain(GPU_FAMILIES).collect(),
        Err(error) => {
            println!("nothing is tested on a GPU: {error}");
            FAMILIES.iter().collect()
        }
    }
}

#[test]
fn every_rung_is_right_at_sizes_that_fill_no_tile() {
    for family in families() {
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
    for family in families() {
        let mut ladder = (family.odd)().remove(0);
        for (number, Rung { name, program }) in std::mem::take(&mut ladder.rungs).into_iter().enumerate() {
            ladder.rungs = vec![Rung { name, program: Box::new(Wrong(program, number)) }];
            let error = ladder.check().unwrap_err();
            assert!(error.contains(&format!(", {name}:")), "{error}");
        }
    }
}
