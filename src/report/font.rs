//! The one font of every picture, built into the program: machines without a screen often have
//! none installed, and the same run should give the same picture everywhere.

use std::sync::OnceLock;

use plotters::style::{FontFamily, FontStyle, register_font};

use crate::error::{Error, Result};

/// The family under which the font is known once [`register`] was called.
pub(super) const FAMILY: FontFamily<'static> = FontFamily::Name("DejaVu Sans");

/// Makes the font known to the drawing library; work is done on the first call only.
pub(super) fn register() -> Result<()> {
    static DONE: OnceLock<bool> = OnceLock::new();
    let usable = *DONE.get_or_init(|| {
        let faces = [(FontStyle::Normal, dejavu::sans::regular()), (FontStyle::Bold, dejavu::sans::bold())];
        faces.into_iter().all(|(style, bytes)| register_font(FAMILY.as_str(), style, bytes).is_ok())
    });
    if usable { Ok(()) } else { Err(Error::Failed("the built-in font cannot be read".into())) }
}
