//! Options that several subcommands share.

use std::path::Path;

use clap::Args;

use super::{STOP, stopped};
use crate::console::{self, Level};
use crate::data::{self, Dataset, Source};
use crate::error::{Error, Result};

/// The data set.
#[derive(Args, Clone, Debug)]
pub struct DataOptions {
    /// auto, cifar10, shapes, or a path: a folder with the official binary batches, their .tar.gz, or a folder
    /// of pictures train/CLASS/* and test/CLASS/*.
    #[arg(long, default_value = "auto", value_name = "DATA")]
    pub data: String,
}

impl DataOptions {
    /// Loads the data, and says on standard error what was loaded.
    pub fn load(&self, image_size: Option<usize>) -> Result<Dataset> {
        let source: Source = self.data.parse()?;
        let quiet = !console::says(Level::Normal);
        let options = data::Options { image_size, quiet, stop: Some(&STOP), ..data::Options::default() };
        let dataset = data::load(&source, &options)?;
        if stopped() {
            return Err(Error::Interrupted);
        }
        let Dataset { name, classes, train, test, note } = &dataset;
        let size = train.size;
        console::info(format_args!(
            "data: {name}, {} training and {} test pictures of {size}x{size} in {} classes",
            train.len(),
            test.len(),
            classes.len()
        ));
        if let Some(note) = note {
            console::info(format_args!("note: {note}"));
        }
        Ok(dataset)
    }
}

/// `--image-size`: a size that pictures can have.
pub fn image_size(text: &str) -> std::result::Result<usize, String> {
    let size = text.parse().ok().filter(|size| data::SIZES.contains(size));
    size.ok_or_else(|| format!("must lie between {} and {}", data::SIZES.start(), data::SIZES.end()))
}

/// Checks that the classes of a data set are those of a weights file.
pub fn same_classes(path: &Path, trained: &[String], data: &Dataset) -> Result<()> {
    if trained == data.classes.as_slice() {
        return Ok(());
    }
    let list = |classes: &[String]| classes.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    Err(Error::file(
        path,
        format!(
            "was trained on {} classes ({}, ..), but {} has {} ({}, ..); choose the data with --data",
            trained.len(),
            list(trained),
            data.name,
            data.classes.len(),
            list(&data.classes)
        ),
    ))
}
