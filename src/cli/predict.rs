//! `cifar-engine predict`: names what is on images.

use std::fs;
use std::io::{ErrorKind, IsTerminal, stdin, stdout};
use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, ValueEnum, ValueHint};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::STOP;
use super::contact::ContactOptions;
use super::device::{DeviceOptions, OpenDevice};
use super::heat_maps::HeatMaps;
use super::loading::{DataOptions, Tried, tell_left_out};
use super::options::{ViewOptions, WeightsOptions, image_size};
use super::watching::DATA_WATCH;
use crate::console;
use crate::data::image_file::{SKIP, load_image, read_image};
use crate::data::listing::{Lister, WANTED};
use crate::data::watch::{ImageProgress, Watch};
use crate::data::{Images, read_class_names};
use crate::environment;
use crate::error::{Error, Result, path_text};
use crate::files::check_picture;
use crate::kernels::parallel;
use crate::models::LoadedModel;
use crate::models::Spec;
use crate::report::csv::cell;
use crate::report::{Sample, samples};
use crate::text::counted;
use crate::train::evaluate::{BATCH_SIZE, EvalOptions};
use crate::train::first_contact;
use crate::train::run_folder;

/// Arguments of `cifar-engine predict`.
#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine predict cat.jpg dog.png        newest of runs/, or built-in
  cifar-engine predict holiday/ --format csv  all images in a folder and below
  curl -s https://example.org/cat.jpg | cifar-engine predict -
  cifar-engine predict photo.jpg --weights best.safetensors --json
  cifar-engine predict photo.jpg --weights FILE --labels NAMES.txt --top 1
  cifar-engine predict holiday/ --explain why   where the class is seen
  cifar-engine predict --sample 7             test image 7, with its label")]
pub struct Predict {
    /// Images (png, jpeg, webp, gif, bmp, tiff) of any size; folders of them; - for an image from
    /// standard input.
    #[arg(required_unless_present = "sample", value_name = "IMAGE")]
    images: Vec<PathBuf>,

    /// The weights, or builtin for those in the program [default: the newest best.safetensors in
    /// runs/, or builtin].
    #[arg(long, value_name = "FILE", env = "CIFAR_ENGINE_WEIGHTS", hide_env = true)]
    weights: Option<PathBuf>,

    #[command(flatten)]
    attributes: WeightsOptions,

    /// Names of the classes, one a line, for weights that come without; a first line 'background'
    /// is skipped.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,

    /// Side of the images in pixels [default: what the weights were trained with].
    #[arg(long, value_name = "PIXELS", value_parser = image_size)]
    image_size: Option<usize>,

    /// Take test image N of the data set, and write it as an image with both labels.
    #[arg(long, value_name = "N", conflicts_with = "images")]
    sample: Option<usize>,

    /// Where to write the sample's picture [default: sample-N.png].
    #[arg(long, value_name = "FILE", requires = "sample")]
    out: Option<PathBuf>,

    /// The data set of --sample: as for evaluate [default: what the weights' run was measured on].
    #[arg(long, value_name = "DATA", conflicts_with = "images")]
    data: Option<String>,

    /// Leave out images that cannot be read, and list them.
    #[arg(long)]
    skip_bad: bool,

    /// How many classes to name for an image, the most probable first.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = count_from_1)]
    top: usize,

    /// Write a picture of each image into this folder, beside where in it the class is seen
    /// (Grad-CAM), as NAME-explained.png.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "sample")]
    explain: Option<PathBuf>,

    /// How to print the result.
    #[arg(long, value_enum, default_value_t, conflicts_with_all = ["json", "sample"])]
    format: Format,

    /// Print the result as JSON; the same as --format json.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    views: ViewOptions,

    #[command(flatten)]
    device: DeviceOptions,

    #[command(flatten)]
    contact: ContactOptions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// One list of all images.
    Json,
    /// A JSON object on a line of its own for each image.
    Jsonl,
    /// A table with a line for each image.
    Csv,
}

/// Where the weights come from if `--weights` says so.
const BUILT_IN: &str = "builtin";

impl Predict {
    /// Prints the classes of each image.
    ///
    /// # Errors
    /// If the arguments do not fit each other, or weights or images cannot be read.
    pub fn run(self) -> Result<()> {
        let newest = if self.weights.is_none() { newest_weights()? } else { None };
        let attributes = self.attributes.attributes()?;
        let mut trained = match self.weights.as_ref().or(newest.as_ref()) {
            Some(path) if path.as_os_str() != BUILT_IN => {
                LoadedModel::open_as(&Tried::at(path)?.weights, &attributes, self.image_size)?
            }
            _ => LoadedModel::built_in(&attributes, self.image_size)?,
        };
        if let Some(labels) = &self.labels {
            trained.spec.classes = read_class_names(labels, trained.spec.classes.len())?;
        } else if trained
            .spec
            .classes
            .iter()
            .zip(0..)
            .all(|(name, number): (_, u32)| *name == number.to_string())
        {
            let classes = trained.spec.classes.len();
            console::info(format_args!(
                "note: the weights name no classes; --labels FILE gives names, {classes} lines"
            ));
        }
        let Spec { architecture, data, .. } = &trained.spec;
        console::info(format_args!("weights: {} ({architecture} on {data})", trained.path.display()));
        match self.sample {
            Some(index) => self.predict_sample(index, &trained),
            None => self.predict_files(&trained),
        }
    }

    fn eval_options(&self, trained: &LoadedModel, images: usize) -> EvalOptions {
        let views = self.views.or(trained.spec.views);
        EvalOptions { batch_size: images.clamp(1, BATCH_SIZE), views }
    }

    fn predict_files(&self, trained: &LoadedModel) -> Result<()> {
        let files = self.files()?;
        let maps = self.explain.as_ref().map(|folder| HeatMaps::new(folder, &self.images, &files));
        let mut maps = maps.transpose()?;
        let format = if self.json { Format::Json } else { self.format };
        let eval_options = self.eval_options(trained, files.len());
        let trials = || first_contact::evaluation(trained, eval_options.batch_size);
        let OpenDevice { mut device, name, .. } = self.contact.open(&self.device, trials)?;
        console::info(format_args!("device: {name}"));
        let predictor = trained.predictor(device.as_mut(), eval_options)?;
        let pool = parallel::pool(self.device.threads.into()).map_err(Error::threads)?;
        let explained = self.explain.is_some();
        let mut printer = Printer { format, trained, top: self.top, explained, entries: Vec::new() };
        let (mut bad, mut good) = (Vec::new(), 0);
        // On a terminal the results themselves tell how far it is.
        let watch: &dyn Watch = if stdout().is_terminal() { &**STOP } else { &DATA_WATCH };
        let progress = ImageProgress::new(watch, "predicting", files.len());
        for files in files.chunks(eval_options.batch_size) {
            let (names, images) =
                pool.install(|| load(files, trained.spec.image_size, &progress, &mut bad))?;
            if good == 0 && !images.is_empty() {
                printer.begin()?;
            }
            good += images.len();
            let rows = predictor.predict(device.as_mut(), &images)?;
            let pictures = match maps.as_mut().filter(|_| !images.is_empty()) {
                Some(maps) => {
                    let best: Vec<(usize, f32)> = rows.iter().map(|row| largest(row, 1)[0]).collect();
                    maps.write(device.as_mut(), trained, (&names, &images), &best)?
                }
                None => Vec::new(),
            };
            for (index, (name, row)) in names.iter().zip(&rows).enumerate() {
                let picture = pictures.get(index).map(|path| path_text(path));
                printer.print(name, &largest(row, self.top), picture.as_deref())?;
            }
        }
        if let Some(folder) = self.explain.as_ref().filter(|_| good > 0) {
            let pictures = counted(good, "picture");
            console::info(format_args!("{}: {pictures} of where classes are seen", folder.display()));
        }
        if good > 0 {
            printer.end()?;
        }
        self.tell_bad(bad, good)
    }

    /// Says which images could not be read: an error, unless they are to be skipped and others were
    /// good.
    fn tell_bad(&self, mut bad: Vec<Error>, good: usize) -> Result<()> {
        if self.skip_bad && good > 0 {
            bad.iter().for_each(|error| console::note(format_args!("warning: left out {error}")));
            return Ok(());
        }
        let Some(last) = bad.pop() else { return Ok(()) };
        bad.iter().for_each(|error| console::note(format_args!("error: {error}")));
        Err(if bad.len() + good > 0 && !self.skip_bad { last.with_advice(SKIP) } else { last })
    }

    /// Files that were named, with folders replaced by what is in them.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut lister = Lister { watch: &DATA_WATCH, skip_bad: self.skip_bad, ..Lister::default() };
        let mut files = Vec::new();
        for path in &self.images {
            if !path.is_dir() {
                files.push(path.clone());
                continue;
            }
            if run_folder::settings_in(path)?.is_some() {
                let problem = "is a run folder; name the images too: predict IMAGE.. --weights RUN";
                return Err(Error::file(path, problem));
            }
            let found = lister.images(path).map_err(|error| lister.advised(error, path))?;
            if found.is_empty() {
                tell_left_out(&lister.left_out);
                return Err(Error::file(path, format!("holds not {WANTED}")));
            }
            files.extend(found);
        }
        tell_left_out(&lister.left_out);
        Ok(files)
    }

    fn predict_sample(&self, index: usize, trained: &LoadedModel) -> Result<()> {
        let spec = &trained.spec;
        let chosen = self.data.clone().or_else(|| environment::text("CIFAR_ENGINE_DATA"));
        let out = self.out.clone().unwrap_or_else(|| PathBuf::from(format!("sample-{index}.png")));
        check_picture(&out)?;
        let options = DataOptions { data: chosen, skip_bad: self.skip_bad };
        let tried = Tried { weights: trained.path.clone() };
        tried.check_output(&out)?;
        tried.source(spec, &options)?.check_output(&out)?;
        let data = tried.load(spec, &options, self.device.threads)?;
        data.check_kept(&out)?;
        let (set, images) = data.measured();
        if index >= images.len() {
            let last = images.len().saturating_sub(1);
            return Err(Error::Usage(format!(
                "there is no {set} image {index}; they are numbered 0 to {last}"
            )));
        }
        let image = images.subset(&[index as u32]);
        let OpenDevice { mut device, name, .. } =
            self.contact.open(&self.device, || first_contact::evaluation(trained, 1))?;
        console::info(format_args!("device: {name}"));
        let predictor = trained.predictor(device.as_mut(), self.eval_options(trained, 1))?;
        let row = predictor.predict(device.as_mut(), &image)?.remove(0);
        let top = largest(&row, self.top);
        let (predicted, probability) = (spec.classes[top[0].0].as_str(), top[0].1);
        let label = spec.classes[image.labels[0] as usize].as_str();
        let sample = Sample {
            pixels: &image.image(0)?,
            size: image.size,
            what: samples::PREDICTION,
            predicted,
            probability,
            label: Some(label),
            label_probability: None,
        };
        samples::draw(&out, None, &[sample], 1)?;
        let unsure = spec.calibration.is_unsure(probability);
        if self.json {
            let mut result = about(trained);
            let predictions = predictions(&top, &spec.classes);
            for (key, value) in
                [("predicted", json!(predicted)), ("label", json!(label)), ("predictions", predictions)]
            {
                result[key] = value;
            }
            (result["sample"], result["unsure"]) = (json!(index), json!(unsure));
            return console::print_json(&result);
        }
        console::print(format_args!("predicted label: {predicted}"))?;
        console::print(format_args!("original label:  {label}"))?;
        print_top(&top, spec)?;
        console::print(format_args!("picture: {}", out.display()))
    }
}

/// Decodes some images; those that can be read, with their names. The others go into `bad`.
fn load(
    files: &[PathBuf],
    size: usize,
    progress: &ImageProgress<'_>,
    bad: &mut Vec<Error>,
) -> Result<(Vec<String>, Images)> {
    let load = |path: &PathBuf| {
        progress.one()?;
        match path.as_os_str() == "-" {
            true => read_image(stdin().lock(), "standard input", size),
            false => load_image(path, size),
        }
    };
    // In order, however many threads there are: so are the errors.
    let loaded: Vec<Result<Vec<u8>>> = files.par_iter().map(load).collect();
    let (mut names, mut good) = (Vec::new(), Vec::new());
    for (path, pixels) in files.iter().zip(loaded) {
        match pixels {
            Ok(pixels) => {
                names.push(path_text(path).into_owned());
                good.extend(pixels);
            }
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => bad.push(error),
        }
    }
    let (pixels, labels) = (good.into(), vec![0; names.len()]);
    Ok((names, Images { pixels, labels, size, files: Vec::new() }))
}

/// So many of the most probable classes, most probable first.
fn largest(row: &[f32], top: usize) -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = row.iter().copied().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(top);
    ranked
}

/// Prints predictions as they come.
struct Printer<'a> {
    format: Format,
    trained: &'a LoadedModel,
    top: usize,
    /// Whether each image has a picture of where its class is seen.
    explained: bool,
    /// Entries of the one list that is printed at the end.
    entries: Vec<Value>,
}

impl Printer<'_> {
    fn begin(&self) -> Result<()> {
        if self.format != Format::Csv {
            return Ok(());
        }
        let ranks = 1..=self.top.min(self.trained.spec.classes.len());
        let columns: Vec<String> = ranks.map(|rank| format!(",class_{rank},probability_{rank}")).collect();
        let explained = if self.explained { ",explained" } else { "" };
        console::print(format_args!("image{},unsure{explained}", columns.concat()))
    }

    fn print(&mut self, image: &str, top: &[(usize, f32)], picture: Option<&str>) -> Result<()> {
        let spec = &self.trained.spec;
        let classes = &spec.classes;
        let unsure = top.first().and_then(|&(_, p)| spec.calibration.is_unsure(p));
        let entry = || {
            let mut entry = about(self.trained);
            entry["image"] = json!(image);
            entry["predictions"] = predictions(top, classes);
            entry["unsure"] = json!(unsure);
            if let Some(picture) = picture {
                entry["explained"] = json!(picture);
            }
            entry
        };
        match self.format {
            Format::Text => {
                console::print(image)?;
                print_top(top, spec)?;
                picture.map_or(Ok(()), |picture| console::print(format_args!("  explained: {picture}")))
            }
            Format::Jsonl => console::print_json(&entry()),
            Format::Csv => {
                let cells = top.iter().map(|&(class, p)| format!(",{},{p}", cell(&classes[class])));
                let unsure = unsure.map(|unsure| unsure.to_string()).unwrap_or_default();
                let picture = picture.map(|picture| format!(",{}", cell(picture))).unwrap_or_default();
                let cells = cells.collect::<String>();
                console::print(format_args!("{}{cells},{unsure}{picture}", cell(image)))
            }
            Format::Json => {
                self.entries.push(entry());
                Ok(())
            }
        }
    }

    fn end(self) -> Result<()> {
        if self.format == Format::Json { console::print_json(&Value::Array(self.entries)) } else { Ok(()) }
    }
}

/// Which weights a prediction is from.
fn about(trained: &LoadedModel) -> Value {
    json!({"weights": trained.path.to_string_lossy(), "model": trained.spec.architecture})
}

/// `--top`.
fn count_from_1(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "must be a whole number, at least 1".into())
}

fn predictions(top: &[(usize, f32)], classes: &[String]) -> Value {
    let entry =
        |&(class, probability): &(usize, f32)| json!({"class": classes[class], "probability": probability});
    Value::Array(top.iter().map(entry).collect())
}

/// The most probable classes; behind the first it says where the model is unsure.
fn print_top(top: &[(usize, f32)], spec: &Spec) -> Result<()> {
    for (rank, &(class, p)) in top.iter().enumerate() {
        let is_unsure = rank == 0 && spec.calibration.is_unsure(p) == Some(true);
        let least = spec.calibration.unsure_below.filter(|_| is_unsure);
        let unsure = least.map(|least| format!("  unsure: below {:.2} %", 100.0 * least));
        let class = &spec.classes[class];
        console::print(format_args!("  {:6.2} %  {class}{}", 100.0 * p, unsure.unwrap_or_default()))?;
    }
    Ok(())
}

/// The newest `runs/*/best.safetensors`, if there is one.
fn newest_weights() -> Result<Option<PathBuf>> {
    let runs = match fs::read_dir("runs") {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(Error::file(
                "runs",
                format!("cannot be read: {error}; name the weights with --weights"),
            ));
        }
        runs => runs.into_iter().flatten().flatten(),
    };
    let files = runs.map(|entry| entry.path().join("best.safetensors"));
    let dated = files.filter_map(|path: PathBuf| {
        let time = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok()?;
        Some((time, path))
    });
    Ok(dated.max_by_key(|(time, _): &(SystemTime, PathBuf)| *time).map(|(_, path)| path))
}
