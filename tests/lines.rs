//! Comments are read in columns: no line of one is longer than 100 characters. Unsafe code is in
//! kernels alone. Links of documents lead to files and headings that are there.

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

const DOCUMENTS: [&str; 10] = [
    "README.md",
    "docs/accuracy.md",
    "docs/clusters.md",
    "docs/guide.md",
    "docs/images.md",
    "tests/README.md",
    "benches/README.md",
    "benches/ladder/README.md",
    "shaders/README.md",
    "weights/README.md",
];

/// The targets of a document's links that are not there, where they are files of the project.
fn lost(document: &Path, text: &str) -> Vec<String> {
    let folder = document.parent().unwrap();
    let is_there = |target: &&str| {
        let (path, heading) = target.split_once('#').unwrap_or((target, ""));
        let path = if path.is_empty() { document.to_path_buf() } else { folder.join(path) };
        let has = |text: &str| heading.is_empty() || anchors(text).any(|anchor| anchor == heading);
        // Of a picture nothing but its place is asked.
        path.exists() && (heading.is_empty() || fs::read_to_string(path).is_ok_and(|text| has(&text)))
    };
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let own = links.filter(|target| !target.contains("://"));
    own.filter(|target| !is_there(target)).map(str::to_string).collect()
}

/// The anchors of a document's headings.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        title
            .chars()
            .filter(|c| c.is_alphanumeric() || " -".contains(*c))
            .collect::<String>()
            .replace(' ', "-")
    })
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in DOCUMENTS {
        let path = root.join(document);
        let lost = lost(&path, &fs::read_to_string(&path).unwrap());
        assert!(lost.is_empty(), "{document} links to {lost:?}");
    }
    let text =
        "[a](docs/none.md) [b](docs/guide.md#none) [c](docs/guide.md#devices) [d](https://x.y/z) [e](#no)";
    assert_eq!(lost(&root.join("README.md"), text), ["docs/none.md", "docs/guide.md#none", "#no"]);
}
