//! A step of a training as a page: every tensor of it, in the order in which the plan makes them,
//! each with a picture.
//!
//! [`record`] is what is known of the step, [`picture`] what is shown of a tensor; the page's
//! script draws them.

pub mod picture;
pub mod record;

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::report::page::escape;
use crate::report::scripted;
use crate::text::counted;
use picture::{CHANNELS, ENTRIES, FILTERS, IMAGES, INPUTS, SIDE};
use record::Record;

/// What the record was made of, and whether it is the run's.
#[derive(Serialize)]
pub struct About {
    /// For people.
    pub title: String,
    /// Facts, by their names.
    pub facts: Vec<(&'static str, String)>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// The label of each image of the batch.
    pub labels: Vec<u32>,
    /// Whether the step is the run's, in a sentence.
    pub proof: String,
    /// The same in a word; none where it is not known.
    pub proved: Option<bool>,
}

/// All that the page's script knows.
#[derive(Serialize)]
struct Content<'a> {
    #[serde(flatten)]
    about: &'a About,
    record: &'a Record,
    /// Levels of the pictures, compressed, as text.
    levels: String,
}

/// What is left out.
pub fn not_shown() -> String {
    let images = counted(IMAGES, "image");
    format!(
        "not shown: of a batch all but the first {images}, and of these all but {CHANNELS} channels; of images \
         larger than {SIDE} pixels all but every second row and column, or every third, and so on; of a layer all \
         but {FILTERS} filters, and of these all but {INPUTS} inputs; of a matrix all but {ENTRIES} rows and \
         columns; the data set; what a step of the plan computes and does not store"
    )
}

/// The page.
///
/// # Errors
/// If the record holds numbers that no page can.
pub fn page(record: &Record, about: &About) -> Result<String> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let packed = encoder.write_all(&record.levels).and_then(|()| encoder.finish());
    let packed = packed.map_err(|error| Error::Failed(error.to_string()))?;
    let content = Content { about, record, levels: STANDARD.encode(packed) };
    let body = format!(
        "<style>\n{}</style>\n<h1>{}</h1>\n{}<p class=\"muted\">{}</p>\n",
        include_str!("page.css"),
        escape(&about.title),
        include_str!("page.html"),
        escape(&not_shown())
    );
    scripted::page(&about.title, &body, &content, &[include_str!("page.js")])
}
