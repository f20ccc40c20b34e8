//! A trained model as a page: one file that opens from disk in any browser with WebGPU, and *is*
//! the engine.
//!
//! [`program`] turns plans into data: the launches of their steps, by the same shaders as on a GPU.
//! `engine.js` is the host that runs them, as [`crate::exec::gpu`] is here, `image.js` reads images
//! as [`crate::data::image_file`] does; `page.js` is what one sees, `train.js` the training,
//! `check.js` what the GPU can do, `start.js` where the page begins.
//! [`content`] is what the page knows: programs, weights, images, and what a CPU computes
//! from them, which the page is held against; [`training`] is the part of it that trains, as
//! the [`run`] did that the model is from; [`check`] are the cases of the ops.

pub mod check;
pub mod content;
pub mod program;
pub mod run;
pub mod training;

use crate::error::Result;
use crate::report::page::escape;
use crate::report::scripted;
use content::Content;

/// In the order in which they go by each other's names.
const SCRIPTS: [&str; 6] = [
    include_str!("engine.js"),
    include_str!("image.js"),
    include_str!("page.js"),
    include_str!("train.js"),
    include_str!("check.js"),
    include_str!("start.js"),
];

/// The page.
///
/// # Errors
/// If the content holds numbers that are not finite.
pub fn page(content: &Content) -> Result<String> {
    let body = format!(
        "<style>\n{}</style>\n<h1>{}</h1>\n{}",
        include_str!("page.css"),
        escape(&content.title),
        include_str!("page.html")
    );
    scripted::page(&content.title, &body, content, &SCRIPTS)
}
