//! `cifar-engine export`: a trained model as a file that needs no `cifar-engine`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use super::loading::{DataOptions, Tried};
use super::options::ViewOptions;
use crate::console;
use crate::error::{Error, Result};
use crate::exec::device;
use crate::files::write_atomic;
use crate::inspect::web;
use crate::inspect::web::content::{Content, IMAGES};
use crate::inspect::web::run::Run;
use crate::models::LoadedModel;
use crate::onnx;
use crate::text::bytes;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine export runs/cnn-cifar10-1 --onnx cnn.onnx
  cifar-engine export runs/cnn-cifar10-1 --web cnn.html
  cifar-engine export best.safetensors --data pictures/ --web model.html")]
#[group(id = "what", required = true, multiple = true, args = ["web", "onnx"])]
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
        self.onnx.iter().chain(&self.web).try_for_each(|out| tried.check_output(out))?;
        if self.onnx.is_some() && self.onnx == self.web {
            return Err(Error::Usage("--onnx and --web name the same file".into()));
        }
        if let Some(path) = &self.onnx {
            write(path, &onnx::file(&model, self.views.or(model.spec.views))?)?;
        }
        if let Some(path) = &self.web {
            write(path, self.page(&tried, &model)?.as_bytes())?;
        }
        Ok(())
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

fn write(path: &Path, content: &[u8]) -> Result<()> {
    write_atomic(path, |file| file.write_all(content))?;
    console::print_own(format_args!("{}: {}", path.display(), bytes(content.len() as u64)))
}
