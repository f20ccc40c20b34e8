//! How data reach a command: what is loaded, and what is said about it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueHint};

use super::signals::goes_on;
use super::watching::DATA_WATCH;
use crate::console::{self, Level};
use crate::data::left_out::LeftOut;
use crate::data::{self, DataSource, Dataset, balance};
use crate::error::{Error, Result};
use crate::files::{check_output, is_file};
use crate::models::pretrained::Attributes;
use crate::models::{LoadedModel, Spec};
use crate::text::counted;
use crate::train::run_folder::RunFolder;
use crate::train::settings::Settings;
use crate::train::{run_folder, split_table};
use crate::weights;

/// The data set that weights are tried on.
#[derive(Args, Clone, Debug)]
pub struct DataOptions {
    /// cifar10, shapes, or a path: a folder with the official binary batches, their .tar.gz, a
    /// folder of images, test/CLASS/* or CLASS/*, or a .csv file with the columns file and label
    /// [default: what the weights' run was measured on].
    #[arg(long, value_name = "DATA", env = "CIFAR_ENGINE_DATA", hide_env = true, value_hint = ValueHint::AnyPath)]
    pub data: Option<String>,

    /// Leave out images that cannot be read.
    #[arg(long)]
    pub skip_bad: bool,
}

/// Weights to be tried, and the run they are from, if they lie in its folder.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The file.
    pub weights: PathBuf,
}

impl Tried {
    /// At a path: that of weights, or of a run folder, whose best weights are taken.
    ///
    /// # Errors
    /// If it is a folder without weights.
    pub fn at(path: &Path) -> Result<Tried> {
        if !path.is_dir() {
            return Ok(Tried { weights: path.to_path_buf() });
        }
        match path.join("best.safetensors") {
            weights if is_file(&weights)? => Ok(Tried { weights }),
            _ => {
                Err(Error::file(path, "holds no best.safetensors; name a run folder or a .safetensors file"))
            }
        }
    }

    /// [`Tried::at`] a path, or for `builtin` the weights in the program, with the model.
    ///
    /// # Errors
    /// As for [`Tried::at`] and [`LoadedModel::open`].
    pub fn open(path: &Path) -> Result<(Tried, LoadedModel)> {
        if path.as_os_str() == "builtin" {
            let model = LoadedModel::built_in(&Attributes::default(), None)?;
            return Ok((Tried { weights: model.path.clone() }, model));
        }
        let tried = Tried::at(path)?;
        let model = LoadedModel::open(&tried.weights)?;
        Ok((tried, model))
    }

    /// Checks that a file can be written, and is none that they are, or that their run cannot do
    /// without ([`check_output`]).
    ///
    /// # Errors
    /// If it is.
    pub fn check_output(&self, out: &Path) -> Result<()> {
        let read = [vec![self.weights.clone()], RunFolder::needed(self.run())].concat();
        check_output(out, &read)
    }

    /// The folder that they lie in.
    pub fn folder(&self) -> &Path {
        self.weights.parent().unwrap_or(Path::new(""))
    }

    /// The folder of their run, if they are of one.
    fn run(&self) -> &Path {
        run_folder::run_of(self.folder())
    }

    /// Loads what the weights are measured on: the data that is named, or that of their run, with
    /// the labels of the weights' classes.
    ///
    /// # Errors
    /// If no data is named and the weights do not say theirs, it cannot be loaded, or has classes
    /// that are unknown to the weights.
    pub fn load(&self, spec: &Spec, options: &DataOptions, threads: u16) -> Result<Dataset> {
        let (source, run) = self.chosen(spec, options)?;
        let measured = if run.is_some() { split_table::measured(self.run())? } else { None };
        let data = load(
            &source,
            &data::Options {
                image_size: Some(spec.image_size),
                test_only: true,
                measured: measured.as_ref(),
                skip_bad: options.skip_bad || run.is_some_and(|run| run.skip_bad),
                threads: threads.into(),
                ..options_of_program()
            },
        )?;
        let (set, images) = data.measured();
        say(&data, &[(set, &images.labels)], "");
        relabelled(data, &self.weights, &spec.classes)
    }

    /// Where [`Tried::load`] loads from.
    ///
    /// # Errors
    /// If no data is named, and the weights do not say theirs, or it is not there any more.
    pub fn source(&self, spec: &Spec, options: &DataOptions) -> Result<DataSource> {
        self.chosen(spec, options)?.0.parse()
    }

    /// The data to load, and the weights' run if they are its data.
    fn chosen(&self, spec: &Spec, options: &DataOptions) -> Result<(String, Option<Settings>)> {
        match (&options.data, run_folder::settings_in(self.run())) {
            (Some(source), Ok(Some(run))) if is_same(source, &run.data) => Ok((source.clone(), Some(run))),
            (Some(source), _) => Ok((source.clone(), None)),
            (None, run) => match run? {
                Some(run) => {
                    check_still_there(&run.data)?;
                    Ok((run.data.clone(), Some(run)))
                }
                None => Ok((self.source_of(spec)?, None)),
            },
        }
    }

    /// The data set that weights without a run say they were trained on.
    fn source_of(&self, spec: &Spec) -> Result<String> {
        if matches!(&*spec.data, "cifar10" | "shapes") {
            return Ok(spec.data.clone());
        }
        let problem = format!("was trained on {}; say where the data is with --data", spec.data);
        Err(Error::file(&self.weights, problem))
    }
}

/// Checks that what a run was trained on lies where it did.
fn check_still_there(source: &str) -> Result<()> {
    match source.parse()? {
        DataSource::Path(path) if matches!(path.try_exists(), Ok(false)) => {
            let problem = "the images of the run are not there any more; say with --data where they are now";
            Err(Error::file(path, problem))
        }
        _ => Ok(()),
    }
}

fn is_same(one: &str, other: &str) -> bool {
    one == other || fs::canonicalize(one).ok().is_some_and(|one| fs::canonicalize(other).ok() == Some(one))
}

/// The labels of the images to measure on, as indices into `trained`, which may have more classes.
fn relabelled(mut data: Dataset, weights: &Path, trained: &[String]) -> Result<Dataset> {
    let places: HashMap<String, u32> = trained.iter().map(|class| data::composed(class)).zip(0..).collect();
    let counts = data.measured().1.counts(data.classes.len());
    let used = data.classes.iter().zip(counts).filter(|(_, count)| *count > 0).map(|(class, _)| class);
    let unknown: Vec<&String> = used.filter(|class| !places.contains_key(*class)).collect();
    if !unknown.is_empty() {
        let missing: Vec<&String> =
            trained.iter().filter(|class| !data.classes.contains(&data::composed(class))).collect();
        let without = match missing.is_empty() {
            true => String::new(),
            false => format!(", and has no {}", some_of(&missing)),
        };
        let problem = format!(
            "was trained on {}; {} has {}, which {} not among them{without}; choose the data with --data",
            counted(trained.len(), "class"),
            data.name,
            some_of(&unknown),
            if unknown.len() == 1 { "is" } else { "are" }
        );
        return Err(Error::file(weights, problem));
    }
    let new: Vec<u32> = data.classes.iter().map(|class| places.get(class).copied().unwrap_or(0)).collect();
    for images in [&mut data.validation, &mut data.test] {
        images.labels.iter_mut().for_each(|label| *label = new[*label as usize]);
    }
    data.classes = trained.to_vec();
    Ok(data)
}

/// The first few names of a list.
fn some_of(names: &[&String]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(|name| name.as_str()).collect();
    let more = names.len().saturating_sub(SHOWN);
    format!("{}{}", shown.join(", "), if more > 0 { format!(" and {more} more") } else { String::new() })
}

/// Loads the data to train on; for a run that is continued, with the test images that it was begun
/// with.
///
/// # Errors
/// As for [`data::load`]; or if the run's list of its images cannot be read.
pub fn load_training(settings: &Settings, threads: u16, continued: Option<&Path>) -> Result<Dataset> {
    let Settings { image_size, seed, skip_bad, .. } = *settings;
    let measured = match continued {
        Some(run) => {
            check_still_there(&settings.data)?;
            split_table::measured(run)?
        }
        None => None,
    };
    let options = data::Options {
        image_size: Some(image_size),
        seed,
        measured: measured.as_ref(),
        skip_bad,
        threads: threads.into(),
        ..options_of_program()
    };
    let data = load(&settings.data, &options)?;
    // By which folder the images lie in now, no byte of the weights should differ.
    let name = continued.and_then(named_data).unwrap_or(data.name);
    Ok(Dataset { name, ..data })
}

/// The name of the data in a run's newest weights, if there are any yet.
fn named_data(run: &Path) -> Option<String> {
    let path = run.join(run_folder::LAST);
    Spec::from_metadata(&weights::outline(&path).ok()?.metadata, &path).ok().map(|spec| spec.data)
}

/// Where downloads go, whether there may be any, how much is said, and what stops it.
pub(super) fn options_of_program() -> data::Options<'static> {
    data::Options { watch: &DATA_WATCH, ..data::Options::default() }
}

/// Loads data, and says what was left out.
fn load(source: &str, options: &data::Options) -> Result<Dataset> {
    let source: DataSource = source.parse()?;
    let begin = Instant::now();
    let data = data::load(&source, options)?;
    goes_on()?;
    console::detail(format_args!("loaded in {:.1} s", begin.elapsed().as_secs_f64()));
    tell_left_out(&data.left_out);
    Ok(data)
}

/// Says what was left out: in one line, or each where details are wanted.
pub fn tell_left_out(left_out: &LeftOut) {
    if console::says(Level::Verbose) {
        left_out.lines().for_each(console::detail);
    } else if let Some(line) = left_out.summary() {
        match left_out.matters() {
            true => console::note(format_args!("warning: {line}")),
            false => console::info(format_args!("note: {line}")),
        }
    }
}

/// Says what a training trains on, validates with and tests on, and what is odd about it.
///
/// # Errors
/// If nothing would be left to train on or to measure on.
pub fn announce(data: &Dataset, settings: &Settings) -> Result<()> {
    let (train, validation) = data.labels_after_split(settings.validation, settings.seed)?;
    let is_table = settings.data.parse::<DataSource>()?.is_table();
    let folder = |file: &'_ str| file.split('/').next().map(|folder| format!("{folder}/"));
    let own = data
        .validation
        .file(0)
        .and_then(|file| if is_table { Some("by the table".into()) } else { folder(file) });
    let from = match own.filter(|_| !validation.is_empty()) {
        Some(from) => format!("; validation: {from}"),
        None if validation.is_empty() => String::new(),
        None => format!("; validation: {} of the {} training images", validation.len(), data.train.len()),
    };
    say(data, &[("training", &train), ("validation", &validation), ("test", &data.test.labels)], &from);
    console::detail(format_args!("seed: {}", settings.seed));
    if data.test.is_empty() {
        console::info("there are no test images: results are those of the validation images");
    }
    for warning in balance::warnings(&data.classes, &train, &validation, &data.test.labels) {
        console::note(format_args!("warning: {warning}"));
    }
    Ok(())
}

/// One line about the parts of a data set that are used, by their labels; with details, a line for
/// each class.
fn say(data: &Dataset, parts: &[(&str, &[u32])], more: &str) {
    let used: Vec<_> = parts.iter().filter(|(_, labels)| !labels.is_empty()).collect();
    let counts: Vec<String> = used.iter().map(|(name, labels)| format!("{} {name}", labels.len())).collect();
    let images =
        if parts.iter().map(|(_, labels)| labels.len()).sum::<usize>() == 1 { "image" } else { "images" };
    let (counts, classes) = (listed(&counts), data.classes.len());
    let (name, size) = (&data.name, data.measured().1.size);
    console::info(format_args!(
        "data: {name}, {counts} {images} of {size}x{size} in {}{more}",
        counted(classes, "class")
    ));
    if !console::says(Level::Verbose) {
        return;
    }
    let by_class: Vec<Vec<usize>> = used.iter().map(|(_, labels)| balance::counts(labels, classes)).collect();
    for (number, class) in data.classes.iter().enumerate() {
        let counts = used.iter().zip(&by_class);
        let counts: Vec<String> =
            counts.map(|((name, _), counts)| format!("{} {name}", counts[number])).collect();
        console::detail(format_args!("  {class}: {}", listed(&counts)));
    }
}

/// `a, b and c`.
fn listed(words: &[String]) -> String {
    match words {
        [] => "no".into(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The note that large images become small, where nobody chose a size.
pub fn tell_scaling(data: &Dataset, size: usize) {
    if let Some((width, height)) = data.original.filter(|(w, h)| *w.min(h) as usize >= 2 * size) {
        console::info(format_args!(
            "note: images of {width}x{height} and others are scaled to {size}x{size}; --image-size takes a larger side"
        ));
    }
}
