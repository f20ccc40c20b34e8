//! The one font of every picture, built into the program.
//!
//! Machines without a screen often have none installed, and the same run should give the same
//! picture everywhere.

use std::borrow::Cow;
use std::sync::OnceLock;

use ab_glyph::{Font, FontRef};
use plotters::style::{FontFamily, FontStyle, register_font};

use crate::error::{Error, Result, acts, escaped_where};

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

/// `text` as pictures show it: characters that the font has no glyph for, which would all be the
/// same box, and those that act on the text around them are shown as escapes, so that different
/// names stay different. A font of the system would be nicer to read, but the same run would then
/// give other pictures elsewhere.
pub(super) fn drawable(text: &str) -> Cow<'_, str> {
    static FACE: OnceLock<Option<FontRef<'static>>> = OnceLock::new();
    let face = FACE.get_or_init(|| FontRef::try_from_slice(dejavu::sans::regular()).ok());
    let known = |c: char| face.as_ref().is_none_or(|face| face.glyph_id(c).0 != 0);
    escaped_where(text, |c| acts(c) || !known(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_glyphs_stay_different() {
        for text in ["cat 97 % ✓", "Käse", "кошка", "γάτα", "a–b…"] {
            assert_eq!(drawable(text), text);
        }
        assert_eq!(drawable("猫x"), r"\u{732b}x");
        assert_eq!(drawable("犬"), r"\u{72ac}");
        assert_eq!(drawable("a\nb\u{202e}"), r"a\nb\u{202e}");
    }
}
