//! What the tests of data share: reading it as the program does, and its messages.

use std::path::Path;

use cifar_engine::data::{self, DataSource, Dataset, Options};

/// Reads data from a path, without a network.
pub fn load(path: &Path) -> cifar_engine::error::Result<Dataset> {
    data::load(&DataSource::Path(path.to_path_buf()), &options(Path::new("unused"), None))
}

/// Those without a network and without a word.
pub fn options(cache: &Path, image_size: Option<usize>) -> Options<'static> {
    Options { image_size, cache: Some(cache.to_path_buf()), offline: true, ..Options::default() }
}

/// The message, which must be one line.
pub fn message(path: &Path) -> String {
    let text = load(path).unwrap_err().to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

/// Whether a text has all of some parts.
pub fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text:?}");
    }
}
