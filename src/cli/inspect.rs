//! `cifar-engine inspect`: the inside of a trained model, as a page.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::contact::ContactOptions;
use super::device::{DeviceOptions, OpenDevice};
use super::loading::{DataOptions, Tried};
use super::signals::goes_on;
use super::{progress, stopped};
use crate::console;
use crate::data::Images;
use crate::data::image_file::load_image;
use crate::error::{Result, path_text};
use crate::exec::Device;
use crate::files::{check_no_picture, write_atomic};
use crate::inside::look::{Asked, ClassMap, Look, Silent, batch_size};
use crate::inside::page;
use crate::models::LoadedModel;
use crate::report::analysis::{Analysis, Prediction};
use crate::report::page::{escape, shell};
use crate::train::evaluate::{BATCH_SIZE, EvalOptions};
use crate::train::first_contact;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine inspect runs/mine                    its worst mistakes
  cifar-engine inspect runs/mine --image cat.jpg    what it sees in an image
  cifar-engine inspect builtin --image cat.jpg --layer block1.gelu2
  cifar-engine inspect runs/mine --json")]
pub struct Inspect {
    /// A run folder, a file of weights, or builtin.
    #[arg(value_name = "RUN|WEIGHTS")]
    weights: PathBuf,

    /// An image to look into, instead of the worst mistakes; several times for several.
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,

    /// A layer whose outputs are shown; several times for several [default: one of each size].
    #[arg(long = "layer", value_name = "NAME")]
    layers: Vec<String>,

    #[command(flatten)]
    data: DataOptions,

    /// Where to write the page.
    #[arg(long, value_name = "FILE", default_value = "inspect.html", conflicts_with = "json")]
    out: PathBuf,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceOptions,

    #[command(flatten)]
    contact: ContactOptions,
}

/// Classes of which maps are made for an image that is named.
const TOP: usize = 3;

impl Inspect {
    /// Looks inside the model, and writes a page about it.
    ///
    /// # Errors
    /// If weights, images or layers cannot be had, or the page cannot be written.
    pub fn run(self) -> Result<()> {
        let (tried, model) = Tried::open(&self.weights)?;
        if !self.json {
            tried.check_output(&self.out)?;
            check_no_picture(&self.out, "html")?;
        }
        let OpenDevice { mut device, name, .. } =
            self.contact.open(&self.device, || first_contact::evaluation(&model, 1))?;
        console::info(format_args!("device: {name}"));
        let (look, sections) = match self.images.is_empty() {
            true => self.mistakes(&model, &tried, device.as_mut())?,
            false => self.named(&model, device.as_mut())?,
        };
        if self.json {
            let about = json!({"weights": model.path.to_string_lossy(), "model": model.spec.architecture,
                "classes": model.spec.classes, "inside": look});
            return console::print_json(&about);
        }
        let title = format!("Inside {}: {}", model.spec.architecture, model.path.display());
        let not_shown =
            "Not shown: layers other than these, channels after the first 16, gradients of the weights.";
        let body = format!("<h1>{}</h1>{sections}<p class=\"muted\">{not_shown}</p>", escape(&title));
        let page = shell(&title, &body);
        write_atomic(&self.out, |file| std::io::Write::write_all(file, page.as_bytes()))?;
        print(&look)?;
        console::print(format_args!("page: {}", self.out.display()))
    }

    /// The model's worst mistakes on the images that it is measured on.
    fn mistakes(
        &self,
        model: &LoadedModel,
        tried: &Tried,
        device: &mut dyn Device,
    ) -> Result<(Look, String)> {
        let data = tried.load(&model.spec, &self.data, self.device.threads)?;
        let (set, images) = data.measured();
        let together = batch_size(BATCH_SIZE, model.spec.image_size);
        let options = EvalOptions { batch_size: together, views: model.spec.views };
        let bar = progress::bar(set, 0);
        let result = model.evaluate(device, set, images, options, |done, of| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
            !stopped()
        });
        bar.finish_and_clear();
        let analysis = Analysis::calibrated(result?.logits.view(), &images.labels, model.spec.calibration);
        page::measured(model, device, (images, &analysis), &self.layers, &mut goes_on)
    }

    /// The images that were named.
    fn named(&self, model: &LoadedModel, device: &mut dyn Device) -> Result<(Look, String)> {
        let size = model.spec.image_size;
        let pixels: Vec<Vec<u8>> =
            self.images.iter().map(|path| load_image(path, size)).collect::<Result<_>>()?;
        let files = self.images.iter().map(|path| path_text(path).into_owned()).collect();
        let images = Images { pixels: pixels.concat().into(), labels: vec![0; pixels.len()], size, files };
        let together = batch_size(BATCH_SIZE, size).min(images.len());
        let options = EvalOptions { batch_size: together, views: model.spec.views };
        let rows = model.evaluate(device, "named", &images, options, |_, _| !stopped())?;
        let mut classes = Vec::new();
        let mut told = Vec::new();
        for (image, logits) in rows.logits.outer_iter().enumerate() {
            let mut ranked: Vec<usize> = (0..logits.len()).collect();
            ranked.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
            for class in ranked.into_iter().take(TOP) {
                let labels = vec![class as u32; images.len()];
                let labelled = Analysis::calibrated(rows.logits.view(), &labels, model.spec.calibration);
                classes.push((image, class));
                told.extend(labelled.predictions.iter().find(|p| p.index == image).copied());
            }
        }
        let asked =
            Asked { sample: &Images::default(), images: &images, classes: &classes, layers: &self.layers };
        let look = Look::at(model, device, &asked, &mut goes_on)?;
        let names = &model.spec.classes;
        let caption = |map: &ClassMap| {
            let is_told = |p: &&Prediction| p.index == map.image && p.label == map.class;
            let probability = told.iter().find(is_told).map_or(0.0, |p| p.label_probability);
            let (class, file) = (escape(&names[map.class]), escape(&images.files[map.image]));
            format!("{class} {:.1}&nbsp;%<br><span class=\"muted\">{file}</span>", 100.0 * probability)
        };
        let sections = page::sections(&look, &images, &caption)?;
        Ok((look, sections))
    }
}

/// The look in a few lines.
fn print(look: &Look) -> Result<()> {
    for activation in &look.activations {
        let [height, width, channels] = activation.dims;
        console::print(format_args!(
            "{}: {height} x {width} x {channels}, {:.3} to {:.3}, {:.0} % zero",
            activation.layer,
            activation.smallest,
            activation.largest,
            100.0 * activation.zeros
        ))?;
    }
    for Silent { layer, channels, silent } in look.silent.iter().filter(|layer| !layer.silent.is_empty()) {
        let silent = silent.len();
        console::print(format_args!(
            "{layer}: {silent} of {channels} channels are zero on all {} images",
            look.images
        ))?;
    }
    Ok(())
}
