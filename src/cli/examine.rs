//! The cases of ops on devices, for `doctor` and `explain`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use super::{progress, stopped};
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::selftest::case::Case;
use crate::selftest::finding::{Finding, Yardstick};

/// A device, and what it is held against.
pub type Pair<'a> = (&'a mut dyn Device, Yardstick<'a>);

/// Runs the cases of an op on a device, with a bar of how far it is: on a GPU some take minutes.
///
/// # Errors
/// If the user interrupts, or the yardstick cannot say what is right.
pub fn examine(op: &str, cases: &[Case], pair: Pair) -> Result<Finding> {
    let mut finding = Finding::default();
    let ops = BTreeMap::from([(op, cases)]);
    examine_all(&ops, vec![pair], |_, found| {
        finding = found;
        Ok(())
    })?;
    Ok(finding)
}

/// Runs the cases of every op, one after the other on whichever of the devices is free: most of a
/// case is a driver compiling shaders. `tell` hears of the ops in their order.
///
/// # Errors
/// As [`examine`], and what `tell` returns.
pub fn examine_all<'a>(
    ops: &BTreeMap<&'a str, &[Case]>,
    pairs: Vec<Pair>,
    mut tell: impl FnMut(&'a str, Finding) -> Result<()>,
) -> Result<()> {
    let cases: Vec<(&str, &Case)> =
        ops.iter().flat_map(|(op, cases)| cases.iter().map(move |case| (*op, case))).collect();
    let (cases, next) = (cases.as_slice(), &AtomicUsize::new(0));
    thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        for (device, mut yardstick) in pairs {
            let send = send.clone();
            scope.spawn(move || {
                while let Some(&(op, case)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut finding = Finding::default();
                    let found = finding.examine(device, case, &mut yardstick).map(|()| (op, finding));
                    // Nobody listens after an error.
                    if send.send(found).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        let mut findings: BTreeMap<&str, Finding> = BTreeMap::new();
        for (&op, cases) in ops {
            let bar = progress::bar(op, cases.len());
            while findings.entry(op).or_default().cases < cases.len() {
                let Ok(found) = receive.recv() else { break };
                let (of, finding) = found?;
                findings.entry(of).or_default().add(finding);
                bar.set_position(findings.get(op).map_or(0, |finding| finding.cases as u64));
                if stopped() {
                    bar.finish_and_clear();
                    return Err(Error::Interrupted);
                }
            }
            bar.finish_and_clear();
            tell(op, findings.remove(op).unwrap_or_default())?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::cpu::Cpu;
    use crate::kernels::simd::Isa;
    use crate::selftest::finding::by_op;

    #[test]
    fn ops_come_in_their_order_with_all_their_cases_from_any_number_of_devices() {
        let mut all = by_op();
        all.retain(|op, _| ["relu", "add", "scale", "tanh"].contains(op));
        let cases: BTreeMap<&str, &[Case]> = all.iter().map(|(op, cases)| (*op, cases.as_slice())).collect();
        for count in 1..4 {
            let mut devices: Vec<Cpu> = (0..count).map(|_| Cpu::new(1, Isa::detect()).unwrap()).collect();
            let pairs =
                devices.iter_mut().map(|cpu| -> Pair { (cpu as &mut dyn Device, Yardstick::Definition) });
            let mut told = Vec::new();
            let tell = |op, finding: Finding| {
                assert!(finding.is_right(), "{op}");
                told.push((op, finding.cases));
                Ok(())
            };
            examine_all(&cases, pairs.collect(), tell).unwrap();
            assert!(told.len() > 1 && told.iter().all(|(op, count)| all[op].len() == *count), "{told:?}");
            assert!(told.iter().map(|(op, _)| op).eq(all.keys()), "{told:?}");
        }
    }
}
