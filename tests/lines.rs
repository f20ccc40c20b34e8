//! Comments are read in columns: no line of one is longer than 100 characters. Unsafe code is in
//! kernels alone.

use std::fs;
use std::path::{Path, PathBuf};

const WIDTH: usize = 100;

/// The sources in a folder: Rust and WGSL.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let here =
        files.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "rs" || ext == "wgsl"));
    here.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

/// The numbers of the lines of comments that are too long, but for errors to be planted, which
/// repeat lines of code.
fn too_long(text: &str) -> Vec<usize> {
    let is_comment = |line: &str| line.starts_with("//") && !line.starts_with("//~");
    let lines = text.lines().enumerate();
    let long = lines.filter(|(_, line)| is_comment(line.trim_start()) && line.chars().count() > WIDTH);
    long.map(|(number, _)| number + 1).collect()
}

#[test]
fn comments_fit_their_columns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in ["src", "shaders", "tests", "benches"].iter().flat_map(|folder| sources(&root.join(folder))) {
        let lines = too_long(&fs::read_to_string(&path).unwrap());
        assert!(lines.is_empty(), "{}: lines {lines:?} are longer than {WIDTH}", path.display());
    }
}

#[test]
fn unsafe_code_is_in_kernels() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allows = |path: &PathBuf| fs::read_to_string(path).unwrap().contains("allow(unsafe_code)");
    let files = sources(&root).into_iter().filter(|path| !path.starts_with(root.join("kernels")));
    assert_eq!(files.filter(allows).collect::<Vec<_>>(), [root.join("exec/gpu/unchecked.rs")]);
}

#[test]
fn a_long_comment_is_seen() {
    let long = "é".repeat(WIDTH);
    let text = format!("// {long}\nlet {long} = 0;\n    /// short\n    //! {long}\n//~ add: {long} => 0\n");
    assert_eq!(too_long(&text), [1, 4]);
}
