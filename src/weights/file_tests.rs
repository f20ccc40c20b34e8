//! Round trips, known bytes, other types, and files that mean harm.

use std::fs;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

fn small() -> WeightsFile {
    let mut weights = WeightsFile::default();
    let mut add = |name: &str, shape: &[usize], data: &[f32]| {
        weights.tensors.insert(name.into(), Tensor { shape: shape.to_vec(), data: data.to_vec() });
    };
    add("fc.weight", &[2, 3], &[1.0, -2.5, 3.0, f32::MIN_POSITIVE, 0.0, -0.0]);
    add("bn1.bias", &[2], &[0.25, 1e30]);
    add("scale", &[], &[7.0]);
    add("empty", &[0, 4], &[]);
    for (key, value) in [("model", "cnn"), ("classes", "cat\ndog"), ("bn_eps", "1e-5"), ("zebra", "é")] {
        weights.metadata.insert(key.into(), value.into());
    }
    weights
}

fn bytes_of(weights: &WeightsFile) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    save(&path, weights).unwrap();
    fs::read(&path).unwrap()
}

fn load_bytes(bytes: &[u8]) -> Result<WeightsFile> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    fs::write(&path, bytes).unwrap();
    load(&path)
}

/// A file with this JSON header and these bytes of values.
fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn one(dtype: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let entry =
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{}]}}}}"#, bytes.len());
    raw(&entry, bytes)
}

fn refused(bytes: &[u8], expected: &str) {
    let error = load_bytes(bytes).unwrap_err();
    assert!(matches!(error, Error::File { .. }));
    let message = error.to_string();
    assert!(message.contains(expected) && !message.contains('\n'), "{message}");
}

#[test]
fn round_trip_keeps_every_bit() {
    let weights = small();
    let back = load_bytes(&bytes_of(&weights)).unwrap();
    assert_eq!(back, weights);
    assert_eq!(back.tensors["fc.weight"].data[5].to_bits(), (-0.0f32).to_bits());
}

#[test]
fn same_content_gives_the_same_bytes() {
    let first = bytes_of(&small());
    assert!((0..20).all(|_| bytes_of(&small()) == first));
}

#[test]
fn bytes_are_those_of_the_format() {
    let mut weights = WeightsFile::default();
    weights.tensors.insert("b".into(), Tensor { shape: vec![1], data: vec![1.0] });
    weights.tensors.insert("a".into(), Tensor { shape: vec![1, 2], data: vec![2.0, -1.0] });
    weights.metadata.insert("k".into(), "v".into());
    let header = concat!(
        r#"{"__metadata__":{"k":"v"},"#,
        r#""a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"#,
        r#""b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#
    );
    let padded = format!("{header:width$}", width = header.len().next_multiple_of(8));
    let values = [0, 0, 0, 0x40, 0, 0, 0x80, 0xbf, 0, 0, 0x80, 0x3f];
    assert_eq!(bytes_of(&weights), raw(&padded, &values));
}

#[test]
fn the_reference_reader_accepts_our_files() {
    let bytes = bytes_of(&small());
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read.tensor("fc.weight").unwrap().shape(), [2, 3]);
    assert_eq!(read.len(), 4);
}

#[test]
fn other_precisions_are_read_and_counters_are_skipped() {
    let half = load_bytes(&one("F16", "[2]", &[0x00, 0x3c, 0x00, 0xc0])).unwrap();
    assert_eq!(half.tensors["w"].data, [1.0, -2.0]);
    let brain = load_bytes(&one("BF16", "[2]", &[0x80, 0x3f, 0x40, 0xc0])).unwrap();
    assert_eq!(brain.tensors["w"].data, [1.0, -3.0]);

    let double = [2f64.sqrt().to_le_bytes(), (-1e300f64).to_le_bytes()].concat();
    let double = load_bytes(&one("F64", "[2]", &double)).unwrap();
    assert_eq!(double.tensors["w"].data, [2f64.sqrt() as f32, f32::NEG_INFINITY]);

    let header = concat!(
        r#"{"bn.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"#,
        r#""bn.weight":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#
    );
    let file = load_bytes(&raw(header, &[9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x3f])).unwrap();
    assert_eq!(file.tensors.len(), 1);
    assert_eq!(file.tensors["bn.weight"].data, [1.0]);
}

#[test]
fn other_types_are_errors_that_name_the_tensor() {
    for (dtype, bytes) in [("I64", 8), ("U8", 1), ("BOOL", 1)] {
        refused(&one(dtype, "[1]", &vec![0; bytes]), &format!("tensor w is of type {dtype}"));
    }
}

#[test]
fn damaged_and_hostile_files_are_refused() {
    let good = bytes_of(&small());
    refused(&[], "empty");
    refused(&good[..7], "empty or cut short");
    refused(&good[..good.len() - 1], "cut short");
    refused(&[&good[..], &[0]].concat(), "belong to no tensor");
    refused(b"<!DOCTYPE html><html>Not found</html>", "is a web page, no safetensors file");
    refused(&u64::MAX.to_le_bytes(), "not a safetensors file");
    refused(&raw("not json", &[]), "not a safetensors file");
    refused(&raw(&"[".repeat(100_000), &[]), "not a safetensors file");
    refused(&raw("\u{0}\u{ff}", &[]), "not a safetensors file");
    refused(&one("F32", "[2]", &[0; 4]), "not a safetensors file");
    refused(&one("F32", "[-1]", &[0; 4]), "not a safetensors file");
    refused(&one("F32", "[9223372036854775807,9223372036854775807]", &[0; 4]), "not a safetensors file");
    let overlap = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    refused(&raw(overlap, &[0; 12]), "not a safetensors file");
    let beyond = r#"{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}"#;
    refused(&raw(beyond, &[0; 4]), "cut short");
}

#[test]
fn a_huge_header_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge");
    let length = MOST_HEADER + 1;
    fs::write(&path, length.to_le_bytes()).unwrap();
    // Sparse: the size is real to every reader, the disk stores nothing.
    File::options().write(true).open(&path).unwrap().set_len(length + 100).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("over the limit"));
}

#[test]
fn wrong_paths_and_wrong_content_are_file_errors() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(load(folder.path()).unwrap_err(), Error::File { .. }));
    assert!(matches!(load(folder.path().join("missing")).unwrap_err(), Error::File { .. }));
    assert!(matches!(save(folder.path().join("no/w"), &small()).unwrap_err(), Error::File { .. }));

    let mut wrong = small();
    wrong.tensors.insert("bad".into(), Tensor { shape: vec![3], data: vec![0.0] });
    let message = save(folder.path().join("w"), &wrong).unwrap_err().to_string();
    assert!(message.contains("tensor bad has 1 values for the shape [3]"), "{message}");
    let mut reserved = WeightsFile::default();
    reserved.tensors.insert(METADATA_KEY.into(), Tensor { shape: vec![], data: vec![0.0] });
    assert!(save(folder.path().join("w"), &reserved).is_err());
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = load_bytes(&bytes);
    }

    #[test]
    fn random_headers_never_panic(
        dtype in prop::sample::select(vec!["F32", "F16", "I64", "F4", "X"]),
        shape in proptest::collection::vec(any::<u64>().prop_map(|dim| dim >> (dim % 64)), 0..4),
        start in 0u64..20, end in any::<u64>().prop_map(|end| end >> (end % 64)),
    ) {
        let header = format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}}}"#);
        let _ = load_bytes(&raw(&header, &[0; 32]));
    }

    #[test]
    fn a_changed_byte_never_panics(place in any::<prop::sample::Index>(), flip in 1u8..) {
        static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| bytes_of(&small()));
        let mut bytes = GOOD.clone();
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        if let Ok(read) = load_bytes(&bytes) {
            for tensor in read.tensors.values() {
                prop_assert_eq!(layout::count(&tensor.shape), Some(tensor.data.len()));
            }
        }
    }
}
