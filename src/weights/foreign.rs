//! Kinds of files that were given as weights and are none, by their first bytes.

/// How a file of another kind is converted.
const CONVERT: &str = "convert it by python3 tools/pretrained.py convert FILE OUT.safetensors";

/// Kind of a file that begins like this, and what to do with it; none for a safetensors file, and
/// for what is unknown.
pub(super) fn kind(start: &[u8]) -> Option<String> {
    // Eight bytes of length, whatever they look like, and a JSON object.
    if start.get(8) == Some(&b'{') {
        return None;
    }
    let holds = |text: &str| start.windows(text.len()).any(|window| window == text.as_bytes());
    let begins = |bytes: &[u8]| start.starts_with(bytes);
    let text = String::from_utf8_lossy(&start[..start.len().min(64)]).trim_start().to_lowercase();
    let found = if begins(b"PK\x03\x04") && holds("data.pkl") {
        ("a PyTorch file", CONVERT)
    } else if begins(b"PK\x03\x04") && holds(".npy") {
        ("a NumPy archive", "save the tensors as a safetensors file")
    } else if begins(b"PK\x03\x04") {
        ("a zip archive, as PyTorch and Keras write them", CONVERT)
    } else if begins(b"\x89HDF\r\n\x1a\n") {
        ("an HDF5 file, as Keras writes them", CONVERT)
    } else if matches!(start, [0x80, 2..=5, ..]) {
        ("a pickle, as older PyTorch writes them", CONVERT)
    } else if begins(b"\x93NUMPY") {
        ("a NumPy array", "save the tensors as a safetensors file")
    } else if begins(b"GGUF") {
        ("a GGUF file", "get the model as a safetensors file")
    } else if matches!(start, [0x08, 1..=20, 0x12, ..]) {
        ("an ONNX file", "get the model's own weights, as a safetensors file")
    } else if text.starts_with("version https://git-lfs") {
        ("a Git LFS pointer, which stands for the file", "run git lfs pull, or download the file itself")
    } else if text.starts_with("<!doctype") || text.starts_with("<html") {
        ("a web page", "download the file itself")
    } else {
        return None;
    };
    Some(format!("is {}, no safetensors file; {}", found.0, found.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_kinds_are_called_what_they_are() {
        for (start, expected) in [
            (
                &b"PK\x03\x04....archive/data.pkl"[..],
                "a PyTorch file, no safetensors file; convert it by python3",
            ),
            (b"PK\x03\x04....arr_0.npy", "a NumPy archive"),
            (b"PK\x03\x04....metadata.json", "tools/pretrained.py convert"),
            (b"\x89HDF\r\n\x1a\n....", "Keras"),
            (b"\x80\x02\x8a\x0al\xfc", "a pickle"),
            (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
            (b"\n<!DOCTYPE html>", "a web page"),
            (b"\x08\x07\x12\x07pytorch", "an ONNX file"),
        ] {
            let found = kind(start).unwrap_or_default();
            assert!(found.contains(expected), "{found}");
        }
        // A header of 640 bytes begins like a pickle.
        assert_eq!(kind(b"\x80\x02\0\0\0\0\0\0{\"a\":"), None);
        assert_eq!(kind(b""), None);
        assert_eq!(kind(b"what is this?"), None);
    }
}
