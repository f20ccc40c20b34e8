//! `cifar-engine data`: what there is to know about images before a training.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::loading::{options_of_program, tell_left_out};
use super::options::image_size;
use super::relabel;
use super::table::{Side, Table};
use super::watching::DATA_WATCH;
use crate::console;
use crate::data::balance::{self, counts};
use crate::data::doubles::{Double, doubles};
use crate::data::image_file::SKIP;
use crate::data::left_out::{LeftOut, Reason};
use crate::data::{self, DataSource, Dataset, Images, image_file};
use crate::error::{Error, Result, escaped};
use crate::exec::device;
use crate::files::check_picture;
use crate::ops::augment::{Augmentations, forms};
use crate::report::sheet::{self, Row, Section};
use crate::text::{counted, grouped};
use crate::train::augmented::draws;
use crate::train::settings::{Choices, Settings};

/// Side to which photographs are scaled to be compared and shown.
const SIDE: usize = 96;
/// Doubled images that are listed without --verbose.
const LISTED: usize = 10;
/// Images of a row of the picture.
const ROW: usize = 8;
/// Classes of the picture at most, and images whose augmentations are shown.
const CLASSES: usize = 40;
const AUGMENTED: usize = 6;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine data photos/
  cifar-engine data photos/ --out photos.png --augment flip,crop=0.5,colour=0.3
  cifar-engine data cifar10 --json
  cifar-engine data photos/ --apply runs/mine/likely-wrong-labels.csv

Two images are alike if hardly more than a scaling or a compression lies between them. Mirrored
and turned copies are not looked for, nor are wrong labels, unless an image is in two classes.")]
pub struct Data {
    /// auto, cifar10, shapes, or a path, as for `train --data`.
    #[arg(value_name = "DATA", value_hint = ValueHint::AnyPath)]
    source: String,

    /// Draw images of each class, and what augmentation makes of some.
    #[arg(long, value_name = "FILE.png", value_hint = ValueHint::FilePath)]
    out: Option<PathBuf>,

    /// The augmentation to draw, as for `train` [default: that of the default recipe].
    #[arg(long, value_name = "LIST", long_help = format!("The augmentation to draw [default: that of the default recipe]: {}", forms()))]
    augment: Option<Augmentations>,

    /// Side to which the images are scaled to be drawn, as for `train` [default: 96 for a folder of
    /// images, 32 for CIFAR-10 and shapes].
    #[arg(long, value_name = "PIXELS", value_parser = image_size)]
    image_size: Option<usize>,

    /// Decides what is held back for the test and for validation, and what is drawn.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u32,

    /// Move the images that a table names, such as a run's likely-wrong-labels.csv, from the folder
    /// of their class (label) to that of another (predicted), beside it. Says what it would do;
    /// with --yes it does it. All rows are checked first, and no file is overwritten.
    #[arg(long, value_name = "FILE.csv", value_hint = ValueHint::FilePath, conflicts_with_all = ["out", "json"])]
    apply: Option<PathBuf>,

    /// Move the images of --apply.
    #[arg(long, requires = "apply")]
    yes: bool,

    /// Leave out folders that may not be read; images that cannot be read are told in any case.
    #[arg(long)]
    skip_bad: bool,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Data {
    pub fn run(self) -> Result<()> {
        let source: DataSource = self.source.parse()?;
        if let Some(table) = &self.apply {
            return relabel::apply(&source, table, self.yes);
        }
        if let Some(out) = &self.out {
            check_picture(out)?;
            source.check_output(out)?;
        }
        let side = if source.is_image_folder() { SIDE } else { data::DEFAULT_SIZE };
        let mut settings = Settings { image_size: self.image_size.unwrap_or(side), ..self.settings() };
        settings.check()?;
        // Images that cannot be read are told, not an end; a folder may be a whole class.
        let options = data::Options {
            image_size: Some(settings.image_size),
            seed: self.seed,
            skip_bad: true,
            ..options_of_program()
        };
        let data = data::load(&source, &options)?;
        if let Some(folder) = data.left_out.first(Reason::Closed).filter(|_| !self.skip_bad) {
            let problem = "no permission to read it; change its permissions";
            return Err(Error::file(folder, problem).with_advice(SKIP));
        }
        Choices::default().resolve(&mut settings, &data)?;
        let facts = Facts::of(&data, &source, &settings)?;
        match self.json {
            true => console::print_json(&facts.json())?,
            false => facts.print()?,
        }
        if let Some(path) = &self.out {
            data.check_kept(path)?;
            draw(path, &data, &settings)?;
            console::info(format_args!("{}: images of each class, and augmented ones", path.display()));
        }
        Ok(())
    }

    fn settings(&self) -> Settings {
        let usual = Settings::default();
        Settings { seed: self.seed, augment: self.augment.unwrap_or(usual.augment), ..usual }
    }
}

/// The sets of the source by name; validation images that `train` would take of the training images
/// are among these.
fn sets(data: &Dataset) -> [(&'static str, &Images); 3] {
    [("training", &data.train), ("validation", &data.validation), ("test", &data.test)]
}

/// An image by its number in all sets, one after the other.
fn place(data: &Dataset, number: usize) -> (&'static str, &Images, usize) {
    let mut at = number;
    for (name, images) in sets(data) {
        match at.checked_sub(images.len()) {
            Some(rest) => at = rest,
            None => return (name, images, at),
        }
    }
    unreachable!("number {number} is one of the images")
}

/// An image as it is named to people.
struct Named<'a> {
    set: &'static str,
    class: &'a str,
    what: String,
}

/// What is known about the data.
struct Facts<'a> {
    data: &'a Dataset,
    /// Images of each class that `train` would train on, validate with and test on.
    counts: [Vec<usize>; 3],
    doubles: Vec<Double>,
    /// Width, height and number of each image of a file.
    sizes: Vec<(u32, u32, usize)>,
    warnings: Vec<String>,
}

impl<'a> Facts<'a> {
    fn of(data: &'a Dataset, source: &DataSource, settings: &Settings) -> Result<Facts<'a>> {
        let split = data.labels_after_split(settings.validation, settings.seed);
        let nothing = split.is_err().then(|| "nothing is left to measure a training on".to_string());
        let (train, validation) = split.unwrap_or_else(|_| (data.train.labels.clone(), Vec::new()));
        let counts =
            [&train, &validation, &data.test.labels].map(|labels| counts(labels, data.classes.len()));
        let all = sets(data).map(|(_, images)| images);
        let doubles = doubles(&all, &DATA_WATCH)?;
        let count = all.iter().map(|images| images.len()).sum();
        let sizes = match &data.folder {
            Some(folder) if source.is_image_folder() => sizes(data, folder, count),
            _ => Vec::new(),
        };
        let warnings = balance::warnings(&data.classes, &train, &validation, &data.test.labels)
            .into_iter()
            .chain(nothing)
            .collect();
        Ok(Facts { data, counts, doubles, sizes, warnings })
    }

    fn named(&self, number: usize) -> Named<'_> {
        let (set, images, at) = place(self.data, number);
        let class = &self.data.classes[images.labels[at] as usize];
        let what = images.file(at).map_or_else(|| format!("{set} image {at}"), String::from);
        Named { set, class, what }
    }

    fn print(&self) -> Result<()> {
        let data = self.data;
        let mut table = Table::new([
            ("training", Side::Right),
            ("validation", Side::Right),
            ("test", Side::Right),
            ("class", Side::Left),
        ]);
        for (number, class) in data.classes.iter().enumerate() {
            let cells = self.counts.iter().map(|counts| grouped(counts[number])).chain([class.clone()]);
            table.push(cells.collect::<Vec<_>>());
        }
        let totals = self.counts.iter().map(|counts| grouped(counts.iter().sum()));
        table.push(totals.chain(["all".to_string()]).collect::<Vec<_>>());
        table.print()?;
        if let Some(line) = self.size_line() {
            console::print(line)?;
        }
        for warning in &self.warnings {
            console::print(format_args!("warning: {warning}"))?;
        }
        tell_left_out(&data.left_out);
        self.print_doubles()
    }

    fn size_line(&self) -> Option<String> {
        let short = |size: &(u32, u32, usize)| size.0.min(size.1);
        let mut order = self.sizes.clone();
        order.sort_by_key(short);
        let told = |(width, height, number): (u32, u32, usize)| {
            format!("{width}x{height} ({})", escaped(&self.named(number).what))
        };
        let (first, last) = (*order.first()?, *order.last()?);
        let middle = short(&order[order.len() / 2]);
        Some(format!("sizes: {} to {}; median of the shorter sides {middle}", told(first), told(last)))
    }

    fn print_doubles(&self) -> Result<()> {
        if self.doubles.is_empty() {
            return console::print("no image is there twice");
        }
        let (mut across, mut in_two_classes) = (0, 0);
        for double in &self.doubles {
            let [first, second] = [double.first, double.second].map(|number| self.named(number));
            across += usize::from(first.set != second.set);
            in_two_classes += usize::from(first.class != second.class);
        }
        console::print(format_args!(
            "{} there before, the same or alike: {across} of them in another set, {in_two_classes} in another class",
            counted(self.doubles.len(), "image")
        ))?;
        let mut worst: Vec<&Double> = self.doubles.iter().collect();
        worst.sort_by_key(|double| {
            let [first, second] = [double.first, double.second].map(|number| self.named(number));
            (first.class == second.class, first.set == second.set, !double.same, double.second)
        });
        let all = console::says(console::Level::Verbose);
        for double in worst.iter().take(if all { usize::MAX } else { LISTED }) {
            let [first, second] = [double.first, double.second].map(|number| self.named(number));
            let how = if double.same { "is" } else { "is like" };
            let [first, second] =
                [first, second].map(|n| format!("{} ({}, {})", escaped(&n.what), n.set, escaped(n.class)));
            console::print(format_args!("  {second} {how} {first}"))?;
        }
        match worst.len().checked_sub(LISTED) {
            Some(more @ 1..) if !all => {
                console::print(format_args!("  and {more} more: --verbose or --json"))
            }
            _ => Ok(()),
        }
    }

    fn json(&self) -> Value {
        let data = self.data;
        let classes = data.classes.iter().enumerate().map(|(i, class)| {
            let [training, validation, test] = self.counts.each_ref().map(|counts| counts[i]);
            json!({ "class": class, "training": training, "validation": validation, "test": test })
        });
        let image = |number: usize| {
            let Named { set, class, what } = self.named(number);
            json!({ "image": what, "set": set, "class": class })
        };
        let doubles = self.doubles.iter().map(|double| {
            let kind = if double.same { "same" } else { "alike" };
            json!({ "first": image(double.first), "second": image(double.second), "kind": kind })
        });
        let sizes = self.sizes.iter().map(|(width, height, number)| {
            json!({ "image": self.named(*number).what, "width": width, "height": height })
        });
        json!({
            "name": data.name,
            "classes": classes.collect::<Vec<_>>(),
            "sizes": sizes.collect::<Vec<_>>(),
            "doubles": doubles.collect::<Vec<_>>(),
            "left_out": left_out(&data.left_out),
            "warnings": self.warnings,
        })
    }
}

fn left_out(left_out: &LeftOut) -> Vec<String> {
    left_out.lines().map(|line| line.trim_start_matches("left out: ").to_string()).collect()
}

/// Sizes of the images that are from files below a folder.
fn sizes(data: &Dataset, folder: &Path, images: usize) -> Vec<(u32, u32, usize)> {
    let size = |number: usize| {
        let (_, images, at) = place(data, number);
        let (width, height) = image_file::dimensions(&folder.join(images.file(at)?))?;
        Some((width, height, number))
    };
    (0..images).into_par_iter().filter_map(size).collect()
}

/// Draws some images of each class, and what the augmentation makes of a few.
fn draw(path: &Path, data: &Dataset, settings: &Settings) -> Result<()> {
    let train = &data.train;
    let mut rows = Vec::new();
    for (number, class) in data.classes.iter().enumerate().take(CLASSES) {
        let of_class: Vec<usize> = (0..train.len()).filter(|i| train.labels[*i] as usize == number).collect();
        let shown = of_class.len().min(ROW);
        let images = (0..shown).map(|i| train.image(of_class[i * of_class.len() / shown]));
        let images = images.collect::<Result<_>>()?;
        rows.push(Row { name: class.clone(), images });
    }
    let left = data.classes.len().saturating_sub(CLASSES);
    let more =
        if left > 0 { format!(", the first {CLASSES} of {} classes", CLASSES + left) } else { String::new() };
    let first = Section { heading: format!("{}: training images by class{more}", data.name), rows };
    let some = train.clone().part(AUGMENTED);
    let epochs = draws(device::cpu()?.as_mut(), &some, settings, ROW - 1)?;
    let row = |i: usize| {
        let augmented = epochs.iter().map(|epoch| epoch.image(i));
        let name = data.classes[some.labels[i] as usize].clone();
        let images = std::iter::once(some.image(i)).chain(augmented).collect::<Result<_>>()?;
        Ok(Row { name, images })
    };
    let rows = (0..some.len()).map(row).collect::<Result<_>>()?;
    let heading = format!("An image, and what {} makes of it in {} epochs", settings.augment, ROW - 1);
    sheet::draw(path, &[first, Section { heading, rows }], train.size)
}
