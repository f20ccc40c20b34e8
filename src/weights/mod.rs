//! Weights on disk: safetensors files in PyTorch's names and layout, so that torch and timm read
//! what is written here and the other way round.
//!
//! Nothing in this module knows a model.
//!
//! - `file`: [`load`], [`outline`] and [`save`], safe against damaged and hostile files; `foreign`
//!   tells what is none.
//! - [`layout`]: the engine's order of dimensions to PyTorch's and back.
//! - `names`: [`match_names`], which tells every tensor that is missing, unused or misshapen.
//! - `precision`: [`Precision`], the type of the values in a file, and what is lost by a small one.

use std::borrow::Cow;
use std::collections::BTreeMap;

mod decode;
mod file;
mod foreign;
pub mod layout;
mod names;
mod precision;

pub use file::{checksum, digest, load, outline, parse, save, save_as};
pub use layout::Layout;
pub use names::match_names;
pub use precision::{Precision, Rounding};

/// One tensor as it lies on disk: row-major `data` of `shape`, in PyTorch's order of dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Outermost dimension first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Values, as many as the product of `shape`.
    pub data: Vec<f32>,
}

/// The content of a safetensors file; sorted, so that the same content gives the same bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightsFile {
    /// By name, for example `blocks.0.0.conv_dw.weight`.
    pub tensors: BTreeMap<String, Tensor>,
    /// Free text kept beside the tensors, for example the model's name and classes.
    pub metadata: BTreeMap<String, String>,
}

/// A name from a file, cut so that several fit into one message. [`Error`](crate::error::Error)
/// makes what is left safe to print.
fn shortened(name: &str) -> Cow<'_, str> {
    const MOST: usize = 80;
    match name.char_indices().nth(MOST) {
        Some((end, _)) => Cow::Owned(format!("{}...", &name[..end])),
        None => Cow::Borrowed(name),
    }
}

/// A shape as messages print it: `[64, 3, 3, 3]`, cut where a file declares many dimensions.
fn printable_shape(shape: &[usize]) -> String {
    const MOST: usize = 8;
    let mut dims: Vec<String> = shape.iter().take(MOST).map(usize::to_string).collect();
    if shape.len() > MOST {
        dims.push("...".into());
    }
    format!("[{}]", dims.join(", "))
}
