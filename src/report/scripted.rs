//! Pages with scripts in them: one file, which loads nothing.

use std::fmt::Write;

use serde::Serialize;

use super::page::shell;
use crate::error::{Error, Result};

/// Nothing may be loaded, whatever a page is asked to show.
const POLICY: &str =
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:";

/// A page whose scripts find what they are about as JSON in the element `content`.
///
/// # Errors
/// If that holds numbers that are not finite.
pub(crate) fn page(title: &str, body: &str, content: &impl Serialize, scripts: &[&str]) -> Result<String> {
    let json = serde_json::to_string(content).map_err(|error| Error::Failed(error.to_string()))?;
    let mut body = body.to_string();
    // No text in it may end the element: in JSON a slash may be escaped.
    let _ = writeln!(
        body,
        "<script type=\"application/json\" id=\"content\">{}</script>",
        json.replace("</", "<\\/").replace("<!--", "<\\u0021--")
    );
    for script in scripts {
        let _ = writeln!(body, "<script>\n{script}</script>");
    }
    let policy = format!("<head>\n<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">");
    Ok(shell(title, &body).replacen("<head>", &policy, 1))
}
