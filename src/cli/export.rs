//! `cifar-engine export`: a trained model as a file that needs no `cifar-engine`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use super::loading::{DataOptions, Tried};
use super::options::ViewOptions;
use crate::console;
use crate::error::{Error, Result};
use crate::exec::device;
use crate::files::{check_no_picture, write_atomic};
use crate::inspect::web;
use crate::inspect::web::content::{Content, IMAGES};
use crate::inspect::web::run::Run;
use crate::models::LoadedModel;
use crate::onnx;
use crate::text::{bytes, grouped};
use crate::weights::{self, Precision, Rounding, WeightsFile};

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine export runs/cnn-cifar10-1 --onnx cnn.onnx
  cifar-engine export runs/cnn-cifar10-1 --web cnn.html
  cifar-engine export runs/photos-1 --torch photos.safetensors --half
  cifar-engine export best.safetensors --data pictures/ --web model.html")]
#[group(id = "what", required = true, multiple = true, args = ["web", "onnx", "torch"])]
pub struct Export {
    /// The weights, as `train` writes them, a run folder, for its best ones, or builtin.
    #[arg(value_name = "RUN|WEIGHTS", value_hint = ValueHint::AnyPath)]
    weights: PathBuf,

    /// Write an ONNX file, for ONNX Runtime and the converters to CoreML, TensorFlow Lite and
    /// OpenVINO: from pixels to probabilities, as `predict` has them.
    #[arg(long, value_name = "FILE.onnx", value_hint = ValueHint::FilePath)]
    onnx: Option<PathBuf>,

    #[command(flatten)]
    views: ViewOptions,

    /// Write the weights for PyTorch, under the names of timm's or torchvision's model, where one
    /// of them has it; how images are prepared is in the metadata.
    #[arg(long, value_name = "FILE.safetensors", value_hint = ValueHint::FilePath)]
    torch: Option<PathBuf>,

    /// Write the values for PyTorch in half precision, a file of half the size.
    #[arg(long, requires = "torch")]
    half: bool,

    /// Write a page that is the engine: it predicts, trains and checks the GPU in any browser with
    /// WebGPU, from disk and without a network.
    #[arg(long, value_name = "FILE.html", value_hint = ValueHint::FilePath)]
    web: Option<PathBuf>,

    /// Images of the page at most, as many as 2 MB of pixels are, and no fewer than 10.
    #[arg(long, default_value_t = IMAGES as u32, value_name = "N",
        value_parser = clap::value_parser!(u32).range(10..=IMAGES as i64))]
    images: u32,

    #[command(flatten)]
    data: DataOptions,
}

impl Export {
    pub fn run(self) -> Result<()> {
        let (tried, model) = Tried::open(&self.weights)?;
        self.check_outputs(&tried)?;
        if let Some(path) = &self.onnx {
            write(path, &onnx::file(&model, self.views.or(model.spec.views))?)?;
        }
        if let Some(path) = &self.web {
            write(path, self.page(&tried, &model)?.as_bytes())?;
        }
        if let Some(path) = &self.torch {
            self.write_torch(path, &model)?;
        }
        Ok(())
    }

    /// Checks that what is written is neither read nor written twice.
    fn check_outputs(&self, tried: &Tried) -> Result<()> {
        let outputs =
            [("onnx", "onnx", &self.onnx), ("web", "html", &self.web), ("torch", "safetensors", &self.torch)];
        let outputs = outputs.map(|(option, ending, path)| Some((option, path.as_ref()?, ending)));
        let outputs: Vec<_> = outputs.into_iter().flatten().collect();
        for (i, (option, path, ending)) in outputs.iter().enumerate() {
            tried.check_output(path)?;
            check_no_picture(path, ending)?;
            if let Some((other, ..)) = outputs[..i].iter().find(|(_, earlier, _)| earlier == path) {
                return Err(Error::Usage(format!("--{other} and --{option} name the same file")));
            }
        }
        Ok(())
    }

    fn write_torch(&self, path: &Path, model: &LoadedModel) -> Result<()> {
        let file = model.for_pytorch();
        if self.half {
            check_rounding(&file, &model.path)?;
        }
        let precision = if self.half { Precision::Half } else { Precision::Full };
        weights::save_as(path, &file, precision)?;
        let size = bytes(std::fs::metadata(path).map_err(|e| Error::file(path, e.to_string()))?.len());
        match model.spec.in_pytorch() {
            Some(expression) => {
                console::print_own(format_args!("{}: {size}, for {expression}", path.display()))
            }
            None => {
                let names = "neither timm nor torchvision has it: under the engine's own names";
                let architecture = model.spec.architecture;
                console::print_own(format_args!("{}: {size}, a {architecture}; {names}", path.display()))
            }
        }
    }

    fn page(&self, tried: &Tried, model: &LoadedModel) -> Result<String> {
        let data = tried.load(&model.spec, &self.data, 0)?;
        let (set, images) = data.measured();
        let mut cpu = device::cpu()?;
        let images = (images.clone(), self.images as usize);
        let run = Run::of(&tried.weights)?;
        let content = Content::new((model, run.as_ref()), images, (&data.name, set), cpu.as_mut())?;
        content.missing.iter().for_each(|what| console::note(format_args!("note: the page lacks {what}")));
        web::page(&content)
    }
}

/// Refuses values that half precision makes infinite, and tells of those that it makes zero.
fn check_rounding(file: &WeightsFile, path: &Path) -> Result<()> {
    let Rounding { too_large, vanishing } = Rounding::of(file);
    if let (count @ 1.., tensor) = too_large {
        let problem = format!("{} of its values, the first in {tensor}, would be infinite", grouped(count));
        return Err(Error::file(path, format!("{problem} as f16, which ends at 65504; leave out --half")));
    }
    if let (count @ 1.., tensor) = vanishing {
        console::note(format_args!(
            "warning: {} of its values, the first in {tensor}, are smaller than the smallest f16 and become 0",
            grouped(count)
        ));
    }
    Ok(())
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    write_atomic(path, |file| file.write_all(content))?;
    console::print_own(format_args!("{}: {}", path.display(), bytes(content.len() as u64)))
}
