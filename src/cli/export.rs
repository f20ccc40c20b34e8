//! `cifar-engine export`: a trained model as a file that needs no `cifar-engine`.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::loading::{DataOptions, Tried};
use crate::console;
use crate::error::Result;
use crate::exec::device;
use crate::files::write_atomic;
use crate::inspect::web;
use crate::inspect::web::content::{Content, IMAGES};
use crate::models::LoadedModel;
use crate::text::bytes;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine export runs/cnn-cifar10-1 --web cnn.html
  cifar-engine export best.safetensors --data pictures/ --web model.html")]
pub struct Export {
    /// The weights, as `train` writes them, or a run folder, for its best ones.
    #[arg(value_name = "RUN|WEIGHTS", value_hint = ValueHint::AnyPath)]
    weights: PathBuf,

    /// Write a page that is the engine: it predicts, trains and checks the GPU in any browser with
    /// WebGPU, from disk and without a network.
    #[arg(long, value_name = "FILE.html", required = true, value_hint = ValueHint::FilePath)]
    web: PathBuf,

    /// Images of the page at most, as many as 2 MB of pixels are, and no fewer than 10.
    #[arg(long, default_value_t = IMAGES as u32, value_name = "N",
        value_parser = clap::value_parser!(u32).range(10..=IMAGES as i64))]
    images: u32,

    #[command(flatten)]
    data: DataOptions,
}

impl Export {
    pub fn run(self) -> Result<()> {
        let tried = Tried::at(&self.weights)?;
        let model = LoadedModel::open(&tried.weights)?;
        let data = tried.load(&model.spec, &self.data, 0)?;
        let (set, images) = data.measured();
        let mut cpu = device::cpu()?;
        let images = (images.clone(), self.images as usize);
        let content = Content::new(&model, images, (&data.name, set), cpu.as_mut())?;
        let page = web::page(&content)?;
        write_atomic(&self.web, |file| file.write_all(page.as_bytes()))?;
        console::print_own(format_args!("{}: {}", self.web.display(), bytes(page.len() as u64)))
    }
}
