//! Options that several subcommands share.

use std::path::Path;
use std::time::Instant;

use clap::Args;

use super::{STOP, stopped};
use crate::console::{self, Level};
use crate::data::{self, Dataset, Source};
use crate::error::{Error, Result};
use crate::exec::cpu::Cpu;
use crate::kernels::simd::Isa;

/// Where the computation runs.
#[derive(Args, Clone, Debug)]
pub struct DeviceOptions {
    /// Threads of the CPU; 0 for one a core.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u16).range(..=1024))]
    pub threads: u16,

    /// Instruction set of the CPU kernels: avx512, avx2, neon or portable [default: the widest there is].
    #[arg(long, env = "CIFAR_ENGINE_ISA", value_name = "NAME")]
    pub isa: Option<String>,
}

impl DeviceOptions {
    pub fn cpu(&self) -> Result<Cpu> {
        let isa = match self.isa.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => name.parse()?,
            None => Isa::detect(),
        };
        Cpu::new(self.threads.into(), isa)
    }
}

/// The data set that weights are tried on.
#[derive(Args, Clone, Debug)]
pub struct DataOptions {
    /// auto, cifar10, shapes, or a path: a folder with the official binary batches, their .tar.gz, or a folder
    /// of pictures train/CLASS/* and test/CLASS/*.
    #[arg(long, default_value = "auto", value_name = "DATA", env = "CIFAR_ENGINE_DATA", hide_env = true)]
    pub data: String,

    /// Leave out pictures that cannot be read, and list them.
    #[arg(long)]
    pub skip_bad: bool,
}

impl DataOptions {
    /// The test pictures only.
    pub fn load_test(&self, image_size: usize) -> Result<Dataset> {
        load_data(&self.data, image_size, true, self.skip_bad)
    }
}

/// Loads the data, and says on standard error what was loaded.
pub fn load_data(source: &str, image_size: usize, test_only: bool, skip_bad: bool) -> Result<Dataset> {
    let source: Source = source.parse()?;
    let quiet = !console::says(Level::Normal);
    let (image_size, stop) = (Some(image_size), Some(&STOP));
    let options = data::Options { image_size, quiet, test_only, skip_bad, stop, ..data::Options::default() };
    let begin = Instant::now();
    let dataset = data::load(&source, &options)?;
    if stopped() {
        return Err(Error::Interrupted);
    }
    let Dataset { name, classes, train, test, note, skipped } = &dataset;
    let (train, size) =
        (if test_only { String::new() } else { format!("{} training and ", train.len()) }, test.size);
    console::info(format_args!(
        "data: {name}, {train}{} test pictures of {size}x{size} in {} classes",
        test.len(),
        classes.len()
    ));
    console::detail(format_args!("loaded in {:.1} s", begin.elapsed().as_secs_f64()));
    if let Some(note) = note {
        console::info(format_args!("note: {note}"));
    }
    skipped.iter().for_each(|line| console::note(format_args!("warning: left out {line}")));
    Ok(dataset)
}

/// How predictions are made.
#[derive(Args, Clone, Debug)]
pub struct FlipOption {
    /// Predict the mean over a picture and its mirror image [default: as the weights were trained].
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub test_flip: Option<bool>,
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
