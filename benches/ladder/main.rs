//! The ladder of kernels: each operation as a row of short programs, from the formula to what the
//! engine runs, with the time of each. `README.md` beside this file says what each changed.

#[path = "families.rs"] // so that the modules in it lie beside it
mod families;

use std::time::Instant;

use cifar_engine::kernels::peak::Peak;
use cifar_engine::kernels::simd::Isa;
use families::{FAMILIES, Family, GPU_FAMILIES, Ladder, Rung, error, gpu};

/// A rung runs at least so many times, and then until it has taken so many seconds.
const RUNS: usize = 3;
const SECONDS: f64 = 0.4;
/// And at most so often.
const MOST: usize = 25;

/// The median seconds of each rung. They take turns, so that a slow moment of the machine is one
/// for all of them.
fn times(ladder: &mut Ladder) -> Vec<f64> {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); ladder.rungs.len()];
    for _ in 0..MOST {
        for (Rung { program, .. }, times) in ladder.rungs.iter_mut().zip(&mut times) {
            if times.len() < RUNS || times.iter().sum::<f64>() < SECONDS {
                times.push(program.time());
            }
        }
    }
    times.into_iter().map(median).collect()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// At the size that is timed the rungs are compared with the last, the engine's own: the reference
/// in f64 would take longer than all of them.
fn compare(ladder: &Ladder) {
    let result = |rung: &Rung| rung.program.result();
    let engine: Vec<f64> = result(&ladder.rungs[ladder.rungs.len() - 1]).into_iter().map(f64::from).collect();
    for rung in &ladder.rungs {
        let error = error(&result(rung), &engine);
        let limit = 2.0 * ladder.tolerance;
        assert!(error <= limit, "{}, {}: {error:.1e} from the engine", ladder.title, rung.name);
    }
}

/// The table of one ladder: arithmetic where an op is bound by it, else bytes.
fn table(ladder: &Ladder, times: &[f64], peak: Peak) {
    let (work, unit, most) = match ladder.cost.flops {
        0 => (ladder.cost.bytes, "GB/s", peak.bytes),
        flops => (flops, "GFLOP/s", peak.flops),
    };
    println!("{}; peak {:.0} {unit}", ladder.title, most / 1e9);
    println!("  {:<28} {:>9} {unit:>9} {:>9} {:>8}", "rung", "ms", "x before", "of peak");
    let mut before = None;
    for (Rung { name, .. }, seconds) in ladder.rungs.iter().zip(times) {
        let rate = work as f64 / seconds;
        let gain = before.map_or(String::new(), |before: f64| format!("{:.2}", before / seconds));
        let (ms, share) = (seconds * 1e3, 100.0 * rate / most);
        println!("  {name:<28} {ms:>9.3} {:>9.2} {gain:>9} {share:>6.1} %", rate / 1e9);
        before = Some(*seconds);
    }
    println!();
}

/// Every rung once, at sizes that fill no tile, against the reference in f64.
fn check(family: &Family) {
    for mut ladder in (family.odd)() {
        ladder.check().unwrap_or_else(|error| panic!("{error}"));
    }
}

/// What the machine does at most, on all its cores.
fn cpu_peak() -> Peak {
    Peak::measure(Isa::detect())
}

/// Checks the ladders of these families and, unless that is all, times them.
fn climb<'a>(families: impl Iterator<Item = &'a Family>, only_check: bool, peak: fn() -> Peak) {
    for family in families {
        check(family);
        println!("{}: every rung is right", family.name);
        if !only_check {
            let (peak, mut ladder) = (peak(), (family.timed)());
            let times = times(&mut ladder);
            compare(&ladder);
            table(&ladder, &times, peak);
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` says so; others want to see that it runs (the convention is criterion's).
    let only_check = words.iter().any(|word| word == "--test") || !words.iter().any(|word| word == "--bench");
    let filters: Vec<&String> = words.iter().filter(|word| !word.starts_with("--")).collect();
    let wanted = |family: &&Family| {
        filters.is_empty() || filters.iter().any(|filter| family.name.contains(filter.as_str()))
    };
    let begin = Instant::now();
    climb(FAMILIES.iter().filter(wanted), only_check, cpu_peak);
    match gpu::adapter() {
        Err(error) => println!("nothing is done on a GPU: {error}"),
        Ok(adapter) => {
            println!("{}{}", adapter.name(), if adapter.is_software() { SOFTWARE } else { "" });
            climb(GPU_FAMILIES.iter().filter(wanted), only_check, gpu::peak);
        }
    }
    println!("{:.0} s", begin.elapsed().as_secs_f64());
}

/// What stands behind the name of an adapter that is none.
const SOFTWARE: &str = ": a program that plays a GPU; its times say nothing about one";
