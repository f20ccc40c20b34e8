//! Holds a file's tensors against those a model asks for; nothing is left out in silence.

use std::collections::BTreeMap;
use std::path::Path;

use super::{WeightsFile, printable_shape, shortened};
use crate::error::{Error, Result};
use crate::text::nearest;

/// How many tensors of each kind a message names before it only counts.
const NAMED: usize = 3;

/// Checks that `file` (read from `path`) holds exactly the `expected` tensors: names with their
/// shapes on disk (see [`disk_shape`](super::layout::disk_shape)).
///
/// # Errors
/// [`Error::File`]: one line with the tensors that are missing, have another shape, or are not
/// used, the first few by name with the nearest name of the other side, the rest counted.
pub fn match_names(
    expected: &[(String, Vec<usize>)],
    file: &WeightsFile,
    path: impl AsRef<Path>,
) -> Result<()> {
    let wanted: BTreeMap<&str, &[usize]> =
        expected.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
    let unused: Vec<&str> =
        file.tensors.keys().map(String::as_str).filter(|name| !wanted.contains_key(name)).collect();
    let missing: Vec<&str> = expected
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !file.tensors.contains_key(*name))
        .collect();
    let misshapen: Vec<(&str, &[usize], &[usize])> = expected
        .iter()
        .filter_map(|(name, shape)| Some((name.as_str(), shape.as_slice(), file.tensors.get(name)?)))
        .filter(|(_, shape, tensor)| *shape != tensor.shape)
        .map(|(name, shape, tensor)| (name, shape, tensor.shape.as_slice()))
        .collect();

    let parts = [
        part("missing", &missing, |name| {
            with_nearest(name, "the file has", nearest(name, unused.iter().copied()))
        }),
        part("of another shape", &misshapen, |(name, shape, found)| {
            format!("{}: {}, expected {}", shortened(name), printable_shape(found), printable_shape(shape))
        }),
        part("not used", &unused, |name| {
            with_nearest(name, "the model has", nearest(name, missing.iter().copied()))
        }),
    ];
    let problems: Vec<String> = parts.into_iter().flatten().collect();
    if problems.is_empty() {
        return Ok(());
    }
    let problem = format!("these weights do not fit the model: {}", problems.join("; "));
    Err(Error::file(path, problem))
}

/// `4 missing (a, b, c and 1 more)`; none where there is nothing to tell.
fn part<T: Copy>(kind: &str, items: &[T], show: impl Fn(T) -> String) -> Option<String> {
    if items.is_empty() {
        return None;
    }
    let shown: Vec<String> = items.iter().take(NAMED).map(|item| show(*item)).collect();
    let more = match items.len().saturating_sub(NAMED) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    Some(format!("{} {kind} ({}{more})", items.len(), shown.join(", ")))
}

fn with_nearest(name: &str, side: &str, nearest: Option<&str>) -> String {
    match nearest {
        Some(other) => format!("{}: {side} {}", shortened(name), shortened(other)),
        None => shortened(name).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tensor;
    use super::*;

    fn file(tensors: &[(&str, &[usize])]) -> WeightsFile {
        let mut file = WeightsFile::default();
        for (name, shape) in tensors {
            let tensor = Tensor { shape: shape.to_vec(), data: vec![0.0; shape.iter().product()] };
            file.tensors.insert(name.to_string(), tensor);
        }
        file
    }

    fn expected(tensors: &[(&str, &[usize])]) -> Vec<(String, Vec<usize>)> {
        tensors.iter().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect()
    }

    #[test]
    fn a_file_that_fits_passes() {
        let tensors: [(&str, &[usize]); 2] = [("conv1.weight", &[8, 3, 3, 3]), ("conv1.bias", &[8])];
        match_names(&expected(&tensors), &file(&tensors), "w").unwrap();
    }

    #[test]
    fn every_kind_of_difference_is_told_in_one_line() {
        let want = expected(&[("conv1.weight", &[8, 3, 3, 3]), ("fc.weight", &[10, 64]), ("fc.bias", &[10])]);
        let have = file(&[("conv_1.weight", &[8, 3, 3, 3]), ("fc.weight", &[100, 64]), ("fc.bias", &[10])]);
        assert_eq!(
            match_names(&want, &have, "w.safetensors").unwrap_err().to_string(),
            "w.safetensors: these weights do not fit the model: \
             1 missing (conv1.weight: the file has conv_1.weight); \
             1 of another shape (fc.weight: [100, 64], expected [10, 64]); \
             1 not used (conv_1.weight: the model has conv1.weight)"
        );
    }

    #[test]
    fn long_lists_are_counted_and_hostile_names_tamed() {
        let names: Vec<String> = (0..100).map(|i| format!("layer{i}\nevil{}", "x".repeat(5000))).collect();
        let tensors: Vec<(&str, &[usize])> = names.iter().map(|name| (name.as_str(), &[1][..])).collect();
        let message = match_names(&[], &file(&tensors), "w").unwrap_err().to_string();
        assert!(message.contains("100 not used") && message.contains("and 97 more"), "{message}");
        assert!(!message.contains('\n') && message.len() < 500, "{message}");
    }
}
