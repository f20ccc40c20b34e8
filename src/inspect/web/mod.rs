//! A trained model as a page: one file that opens from disk in any browser with WebGPU, and *is*
//! the engine.
//!
//! [`program`] turns plans into data: the launches of their steps, by the same shaders as on a GPU.
//! `engine.js` is the host that runs them, as [`crate::exec::gpu`] is here; `page.js` is what one
//! sees. [`content`] is what the page knows: programs, weights, images, and what a CPU computes
//! from them, which the page is held against; [`check`] are the cases of the ops.

pub mod check;
pub mod content;
pub mod program;

use std::fmt::Write;

use crate::error::{Error, Result};
use crate::report::page::{escape, shell};
use content::Content;

/// Nothing may be loaded, whatever a page is asked to show.
const POLICY: &str =
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:";

/// The page.
///
/// # Errors
/// If the content holds numbers that are not finite.
pub fn page(content: &Content) -> Result<String> {
    let json = serde_json::to_string(content).map_err(|error| Error::Failed(error.to_string()))?;
    let mut body = format!(
        "<style>\n{}</style>\n<h1>{}</h1>\n{}",
        include_str!("page.css"),
        escape(&content.title),
        include_str!("page.html")
    );
    // No text in it may end the element: in JSON a slash may be escaped.
    let _ = writeln!(
        body,
        "<script type=\"application/json\" id=\"content\">{}</script>",
        json.replace("</", "<\\/").replace("<!--", "<\\u0021--")
    );
    for script in [include_str!("engine.js"), include_str!("page.js")] {
        let _ = writeln!(body, "<script>\n{script}</script>");
    }
    let policy = format!("<head>\n<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">");
    Ok(shell(&content.title, &body).replacen("<head>", &policy, 1))
}
