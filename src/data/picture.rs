//! One picture file to pixels: PNG and JPEG of any kind, upright, square, 8-bit RGB.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer, ImageDecoder, ImageFormat, ImageReader, Limits, Rgb, RgbImage};

use super::CHANNELS;
use crate::error::{Error, Result};

/// Larger sides are taken for a decompression bomb.
const MAX_SIDE: u32 = 20_000;
/// Decoded bytes: 100 megapixels of 8-bit RGB. A class folder is decoded on many threads at once.
const MAX_DECODED: u64 = 300 << 20;
/// Bytes of the file itself.
const MAX_FILE: u64 = 256 << 20;

/// Decodes the picture at `path` to `[size, size, 3]` bytes, RGB interleaved.
///
/// The format is told by content, not by name. Grey, palette, 16-bit and CMYK pictures become 8-bit RGB;
/// transparent ones are laid on white; EXIF orientation is applied. A picture that is not square loses
/// its longer ends (centre crop), then it is scaled; one of `size` x `size` is left as it is.
///
/// # Errors
/// A file that cannot be read, is neither PNG nor JPEG, is damaged or cut short, or is absurdly large;
/// the error names the file.
pub fn load_picture(path: &Path, size: usize) -> Result<Vec<u8>> {
    decode(path).map(|picture| fit(picture, size).into_raw()).map_err(|problem| {
        // Decoder messages may span lines; ours never do.
        Error::file(path, problem.split_whitespace().collect::<Vec<_>>().join(" "))
    })
}

fn decode(path: &Path) -> std::result::Result<RgbImage, String> {
    let length = fs::metadata(path).map_err(|e| e.to_string())?.len();
    if length > MAX_FILE {
        return Err(format!("{length} bytes are too many for a picture (limit {MAX_FILE})"));
    }
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    let reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    match reader.format() {
        Some(ImageFormat::Png) => {}
        Some(ImageFormat::Jpeg) if jpeg_ends(&bytes) => {}
        Some(ImageFormat::Jpeg) => return Err("unreadable picture: the JPEG data is cut short".into()),
        _ => return Err("neither a PNG nor a JPEG picture (judged by its content)".into()),
    }
    decode_limited(reader).map_err(|e| format!("unreadable picture: {e}"))
}

fn decode_limited(mut reader: ImageReader<Cursor<&Vec<u8>>>) -> std::result::Result<RgbImage, String> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(2 * MAX_DECODED);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| e.to_string())?;
    // The JPEG decoder checks sides only, so the product is checked here.
    if decoder.total_bytes() > MAX_DECODED {
        let (width, height) = decoder.dimensions();
        return Err(format!("{width}x{height} pixels are too many"));
    }
    // Broken metadata of an otherwise good picture is no reason to refuse it.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
    picture.apply_orientation(orientation);
    Ok(if picture.color().has_alpha() { on_white(picture) } else { picture.into_rgb8() })
}

fn on_white(picture: DynamicImage) -> RgbImage {
    let picture = picture.into_rgba8();
    let blend = |colour: u8, alpha: u8| {
        let (colour, alpha) = (u32::from(colour), u32::from(alpha));
        ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    ImageBuffer::from_fn(picture.width(), picture.height(), |x, y| {
        let [r, g, b, a] = picture.get_pixel(x, y).0;
        Rgb([r, g, b].map(|colour| blend(colour, a)))
    })
}

/// Whether JPEG data reaches its end marker. The decoder fills missing rows with grey and reports
/// nothing, so a cut-short file would otherwise be trained on.
fn jpeg_ends(bytes: &[u8]) -> bool {
    let mut at = 2; // after the start marker
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            (0xff, 0xd9) => return true,
            // Fill bytes, stuffed data bytes and restart markers carry no length.
            (0xff, 0xff) => at += 1,
            (0xff, 0x00 | 0x01 | 0xd0..=0xd8) => at += 2,
            // A segment; its length covers itself. Skipping it skips the end marker of an embedded preview.
            (0xff, _) => match bytes.get(at + 2..at + 4) {
                Some(length) => at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2),
                None => return false,
            },
            _ => at += 1, // entropy-coded data
        }
    }
    false
}

/// Centre-cropped to a square, then scaled to `size`.
fn fit(picture: RgbImage, size: usize) -> RgbImage {
    let (width, height) = picture.dimensions();
    let side = width.min(height);
    let square = if width == height {
        picture
    } else {
        imageops::crop_imm(&picture, (width - side) / 2, (height - side) / 2, side, side).to_image()
    };
    if side as usize == size { square } else { scale(&square, size) }
}

/// Triangle averages over all covered pixels when shrinking; Catmull-Rom keeps edges when enlarging.
fn scale<C: std::ops::Deref<Target = [u8]>>(square: &ImageBuffer<Rgb<u8>, C>, size: usize) -> RgbImage {
    let filter = if (size as u32) < square.width() { FilterType::Triangle } else { FilterType::CatmullRom };
    imageops::resize(square, size as u32, size as u32, filter)
}

/// Scales one `[from, from, 3]` picture to `[to, to, 3]`.
///
/// # Errors
/// If `pixels` does not hold `from * from * 3` bytes.
pub fn resize_square(pixels: &[u8], from: usize, to: usize) -> Result<Vec<u8>> {
    let square: ImageBuffer<Rgb<u8>, &[u8]> = Some(pixels)
        .filter(|p| p.len() == from * from * CHANNELS)
        .and_then(|p| ImageBuffer::from_raw(from as u32, from as u32, p))
        .ok_or_else(|| Error::op("resize", format!("{} bytes are no {from}x{from} picture", pixels.len())))?;
    Ok(scale(&square, to).into_raw())
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, ImageEncoder, Luma, Rgba, RgbaImage, codecs::jpeg::JpegEncoder};
    use tempfile::TempDir;

    use super::*;

    fn saved(picture: impl Into<DynamicImage>, name: &str) -> (TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        picture.into().save_with_format(&path, ImageFormat::Png).unwrap();
        (dir, path)
    }

    fn halves(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(
            width,
            height,
            |x, _| if x < width / 2 { Rgb([200, 0, 0]) } else { Rgb([0, 0, 100]) },
        )
    }

    /// A 16x16 JPEG, red left and blue right, with an EXIF block that holds only an orientation.
    fn jpeg(orientation: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 100);
        let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        encoder.set_exif_metadata(exif).unwrap();
        encoder.write_image(&halves(16, 16), 16, 16, image::ExtendedColorType::Rgb8).unwrap();
        bytes
    }

    #[test]
    fn a_picture_of_the_right_size_is_untouched_whatever_its_name() {
        let picture = RgbImage::from_fn(8, 8, |x, y| Rgb([x as u8, y as u8, 7]));
        let (_dir, path) = saved(picture.clone(), "png-inside.jpg");
        assert_eq!(load_picture(&path, 8).unwrap(), picture.into_raw());
    }

    #[test]
    fn grey_and_sixteen_bit_become_rgb() {
        let (_dir, path) = saved(GrayImage::from_pixel(8, 8, Luma([77])), "grey.png");
        assert_eq!(load_picture(&path, 8).unwrap(), vec![77; 192]);
        let deep: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_pixel(8, 8, Luma([0xffff]));
        let (_dir, path) = saved(deep, "deep.png");
        assert_eq!(load_picture(&path, 8).unwrap(), vec![255; 192]);
    }

    #[test]
    fn transparency_shows_white() {
        let (_dir, path) = saved(RgbaImage::from_pixel(8, 8, Rgba([0, 100, 255, 51])), "glass.png");
        assert_eq!(load_picture(&path, 8).unwrap()[..3], [204, 224, 255]);
    }

    #[test]
    fn the_centre_is_kept_and_scaled() {
        // Only the middle 10x10 of this 30x10 picture is green.
        let wide =
            RgbImage::from_fn(30, 10, |x, _| if x / 10 == 1 { Rgb([0, 255, 0]) } else { Rgb([255, 0, 0]) });
        let (_dir, path) = saved(wide, "wide.png");
        for size in [5, 10, 20] {
            let pixels = load_picture(&path, size).unwrap();
            assert_eq!(pixels, [0, 255, 0].repeat(size * size), "size {size}");
        }
    }

    #[test]
    fn exif_orientation_is_applied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("turned.jpg");
        for (orientation, red_at) in [(1, [0, 8]), (2, [15, 8]), (6, [8, 0]), (8, [8, 15])] {
            fs::write(&path, jpeg(orientation)).unwrap();
            let pixels = load_picture(&path, 16).unwrap();
            let at = 3 * (red_at[1] * 16 + red_at[0]);
            assert!(
                pixels[at] > 150 && pixels[at + 2] < 50,
                "orientation {orientation}: {:?}",
                &pixels[at..at + 3]
            );
        }
    }

    #[test]
    fn every_truncation_of_a_jpeg_or_png_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.jpg");
        let (_png_dir, png) = saved(halves(16, 16), "whole.png");
        for whole in [jpeg(1), fs::read(png).unwrap()] {
            for kept in (0..whole.len() - 16).step_by(7) {
                fs::write(&path, &whole[..kept]).unwrap();
                let error = load_picture(&path, 16).unwrap_err().to_string();
                assert!(error.contains("cut.jpg: ") && !error.contains('\n'), "{kept} bytes: {error}");
            }
        }
    }

    #[test]
    fn a_jpeg_that_ends_at_once_is_refused_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stub.jpg");
        for inside in [&[][..], &[0xff, 0xe0, 0, 4, 1, 2], &jpeg(1)[2..100]] {
            fs::write(&path, [&[0xff, 0xd8, 0xff, 0xe1, 0, 2], inside, &[0xff, 0xd9]].concat()).unwrap();
            let error = load_picture(&path, 16).unwrap_err().to_string();
            assert!(error.contains("unreadable picture: ") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_decompression_bomb_is_refused_by_its_header() {
        let (_dir, path) = saved(halves(16, 16), "bomb.png");
        let mut bytes = fs::read(&path).unwrap();
        bytes[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]); // 16384 x 16384
        let crc = crc(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.to_be_bytes());
        fs::write(&path, bytes).unwrap();
        let error = load_picture(&path, 32).unwrap_err().to_string();
        assert!(error.contains("too many") || error.to_lowercase().contains("limit"), "{error}");
    }

    fn crc(bytes: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    }

    #[test]
    fn other_content_is_named_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page.png");
        fs::write(&path, "<html>not found</html>").unwrap();
        let error = load_picture(&path, 8).unwrap_err().to_string();
        assert!(
            error.ends_with("page.png: neither a PNG nor a JPEG picture (judged by its content)"),
            "{error}"
        );
        assert!(load_picture(&dir.path().join("none.png"), 8).is_err());
    }

    #[test]
    fn resizing_checks_its_input() {
        assert!(resize_square(&[0; 5], 2, 4).is_err());
        assert_eq!(resize_square(&[9; 12], 2, 4).unwrap(), [9; 48]);
    }
}
