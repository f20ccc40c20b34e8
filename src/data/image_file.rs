//! One image file to pixels: upright, square, 8-bit RGB.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::Path;

use image::error::{LimitError, LimitErrorKind};
use image::metadata::Orientation;
use image::{
    ColorType, DynamicImage, ImageBuffer, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Rgb,
    RgbImage,
};

use ndarray::ArrayView3;

use super::budget::Budget;
use super::{CHANNELS, jpeg};
use crate::error::{Error, Result};
use crate::kernels::scaling::{self, Filter};
use crate::kernels::simd::Isa;

/// Larger sides are taken for a decompression bomb.
const MAX_SIDE: u32 = 20_000;
/// More pixels too; telephones take photographs of 108 megapixels.
const MAX_PIXELS: u64 = 200_000_000;
/// Bytes of the pixels as the file has them: the most pixels, in 8-bit RGB.
const MAX_DECODED: u64 = 3 * MAX_PIXELS;
/// Bytes of the file itself.
const MAX_FILE: u64 = 256 << 20;
/// Number of first bytes by which formats are recognised.
const MAGIC: u64 = 64;

/// What of an image is kept, as files of weights call it: the largest square, in its middle.
pub const CROP: &str = "centre-square";
/// By which filter it is scaled, as they call it: a triangle over the covered pixels where it
/// shrinks, Catmull-Rom where it grows.
pub const FILTER: &str = "triangle-or-catmull-rom";

/// Memory that the images decoded at the same time may take: the largest one that is accepted has
/// it for itself.
static BUDGET: Budget = Budget::new(800 << 20);

/// The formats that can be read, and what they are called.
const FORMATS: [(ImageFormat, &str); 6] = [
    (ImageFormat::Png, "PNG"),
    (ImageFormat::Jpeg, "JPEG"),
    (ImageFormat::WebP, "WebP"),
    (ImageFormat::Gif, "GIF"),
    (ImageFormat::Bmp, "BMP"),
    (ImageFormat::Tiff, "TIFF"),
];

/// A decoded image.
#[derive(Debug, PartialEq, Eq)]
pub struct DecodedImage {
    /// `[size, size, 3]`: 8-bit red, green and blue of a pixel lie side by side.
    pub pixels: Vec<u8>,
    /// Width and height before it was cut and scaled.
    pub original: (u32, u32),
}

/// Decodes the image at `path` to `size` x `size`.
///
/// The format is told by content, not by name. Of an animation the first image is taken. Grey,
/// palette, 16-bit and CMYK images become 8-bit RGB; transparent ones are laid on white; EXIF
/// orientation is applied. An image that is not square loses its longer ends (centre crop), then it
/// is scaled; one of `size` x `size` is left as it is.
///
/// # Errors
/// A file that cannot be read, is of no format that is known, is damaged or cut short, or is
/// absurdly large; the error names the file.
pub fn load(path: &Path, size: usize) -> Result<DecodedImage> {
    decode(path, size).map_err(|problem| Error::file(path, problem))
}

/// The pixels of [`load`].
///
/// # Errors
/// As [`load`].
pub fn load_image(path: &Path, size: usize) -> Result<Vec<u8>> {
    load(path, size).map(|image| image.pixels)
}

/// Width and height of an image as it is stored, of which only the beginning is read; none where
/// that does not say.
pub fn dimensions(path: &Path) -> Option<(u32, u32)> {
    ImageReader::open(path).ok()?.with_guessed_format().ok()?.into_dimensions().ok()
}

/// Advice about one of many images.
pub const SKIP: &str = "`skip_bad` leaves out what cannot be read";

/// [`load_image`] from anything that can be read, such as standard input; `name` is for messages.
///
/// # Errors
/// As [`load`].
pub fn read_image(source: impl Read, name: &str, size: usize) -> Result<Vec<u8>> {
    decode_from(source, size).map(|image| image.pixels).map_err(|problem| Error::file(name, problem))
}

fn decode(path: &Path, size: usize) -> std::result::Result<DecodedImage, String> {
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err("this is a folder; name the images in it, for example FOLDER/*.png".into());
    }
    decode_from(file, size)
}

fn decode_from(mut file: impl Read, size: usize) -> std::result::Result<DecodedImage, String> {
    // The first bytes tell the format, so that nothing else is read any further.
    let mut bytes = Vec::new();
    file.by_ref().take(MAGIC).read_to_end(&mut bytes).map_err(unreadable)?;
    let format = image::guess_format(&bytes).ok();
    let known = FORMATS.iter().find(|(known, _)| Some(*known) == format);
    let (format, name) = known.ok_or_else(|| foreign(&bytes))?;
    read_rest(file, &mut bytes, MAX_FILE)?;
    if let Some(problem) = jpeg::problem(&bytes).filter(|_| *format == ImageFormat::Jpeg) {
        return Err(format!("unreadable image: {problem}"));
    }
    let reader = ImageReader::with_format(Cursor::new(&bytes), *format);
    decode_limited(reader, size).map_err(|error| format!("unreadable image: {}", plain(&error, name)))
}

/// Kind of a file that is of none of [`FORMATS`], by its first bytes.
fn foreign(bytes: &[u8]) -> String {
    let brand = bytes.get(4..12).unwrap_or_default();
    let names = FORMATS.map(|(_, name)| name).join(", ");
    match brand {
        _ if bytes.is_empty() => "empty, of no bytes".into(),
        [b'f', b't', b'y', b'p', b'h' | b'm', ..] => {
            "a HEIC image, which cannot be read here; convert it, for example by heif-convert FILE.heic FILE.jpg".into()
        }
        [b'f', b't', b'y', b'p', b'a', b'v', ..] => {
            "an AVIF image, which cannot be read here; convert it, for example by avifdec FILE.avif FILE.png".into()
        }
        _ if bytes.starts_with(b"version https://git-lfs") => {
            "a pointer of Git LFS, not the image; fetch it by git lfs pull".into()
        }
        _ => format!("none of {names} (judged by its content)"),
    }
}

/// Reads on to the end, which must come before `limit` bytes in all. No length is asked for
/// beforehand: a pipe or device has none.
fn read_rest(source: impl Read, bytes: &mut Vec<u8>, limit: u64) -> std::result::Result<(), String> {
    let room = limit.saturating_sub(bytes.len() as u64);
    source.take(room.saturating_add(1)).read_to_end(bytes).map_err(unreadable)?;
    match bytes.len() as u64 > limit {
        true => Err(format!("more than {limit} bytes are too many for an image")),
        false => Ok(()),
    }
}

fn unreadable(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist; check the path".into(),
        io::ErrorKind::PermissionDenied => "no permission to read it".into(),
        io::ErrorKind::IsADirectory => {
            "this is a folder; name the images in it, for example FOLDER/*.png".into()
        }
        _ => format!("cannot be read: {error}"),
    }
}

/// The decoders' own words are about their insides.
fn plain(error: &ImageError, format: &str) -> String {
    match error {
        ImageError::Limits(limit) if matches!(limit.kind(), LimitErrorKind::InsufficientMemory) => {
            format!("too large (the limit is {} MB of decoded pixels)", MAX_DECODED / 1_000_000)
        }
        ImageError::Limits(_) => {
            let megapixels = MAX_PIXELS / 1_000_000;
            format!("too large (the limits are {MAX_SIDE} pixels a side and {megapixels} megapixels)")
        }
        ImageError::Unsupported(_) => format!("a kind of {format} that is not supported; convert it"),
        _ => format!("the {format} data is damaged or cut short"),
    }
}

fn decode_limited(
    mut reader: ImageReader<Cursor<&Vec<u8>>>,
    size: usize,
) -> std::result::Result<DecodedImage, ImageError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(2 * MAX_DECODED);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    // Decoders check sides only, so the products are checked here.
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    let limits = [
        (pixels > MAX_PIXELS, LimitErrorKind::DimensionError),
        (decoder.total_bytes() > MAX_DECODED, LimitErrorKind::InsufficientMemory),
    ];
    if let Some((_, kind)) = limits.into_iter().find(|(is_over, _)| *is_over) {
        return Err(ImageError::Limits(LimitError::from_kind(kind)));
    }
    // Broken metadata of an otherwise good image is no reason to refuse it.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    // Until the large image is scaled, not only decoded.
    let _share = BUDGET.take(memory(pixels, decoder.total_bytes(), decoder.color_type()));
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(fit(if image.color().has_alpha() { on_white(image) } else { image.into_rgb8() }, size))
}

/// Bytes that an image takes while it is decoded: its pixels as the file has them, and as RGB where
/// that is not the same. A grey image of a few kilobytes has three bytes a pixel in the end.
fn memory(pixels: u64, decoded: u64, color: ColorType) -> u64 {
    match color {
        ColorType::Rgb8 => decoded,
        color if color.has_alpha() => decoded + (4 + 3) * pixels,
        _ => decoded + 3 * pixels,
    }
}

fn on_white(image: DynamicImage) -> RgbImage {
    let image = image.into_rgba8();
    let blend = |colour: u8, alpha: u8| {
        let (colour, alpha) = (u32::from(colour), u32::from(alpha));
        ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    ImageBuffer::from_fn(image.width(), image.height(), |x, y| {
        let [r, g, b, a] = image.get_pixel(x, y).0;
        Rgb([r, g, b].map(|colour| blend(colour, a)))
    })
}

/// Centre-cropped to a square, then scaled to `size`.
fn fit(image: RgbImage, size: usize) -> DecodedImage {
    let original = image.dimensions();
    let square = centre(image);
    let side = square.width() as usize;
    let pixels = square.into_raw();
    DecodedImage { pixels: if side == size { pixels } else { scale(&pixels, side, size) }, original }
}

/// The square in the middle, in the memory of the whole.
fn centre(image: RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    let side = width.min(height);
    let [stride, row, left, top] =
        [width, side, (width - side) / 2, (height - side) / 2].map(|pixels| pixels as usize);
    let mut bytes = image.into_raw();
    for y in 0..row {
        let from = CHANNELS * ((top + y) * stride + left);
        bytes.copy_within(from..from + CHANNELS * row, CHANNELS * row * y);
    }
    bytes.truncate(CHANNELS * row * row);
    RgbImage::from_raw(side, side, bytes).unwrap_or_else(|| unreachable!("as many bytes as it has pixels"))
}

/// Triangle averages over all covered pixels when shrinking; Catmull-Rom keeps edges when
/// enlarging.
fn scale(square: &[u8], from: usize, to: usize) -> Vec<u8> {
    let filter = if to < from { Filter::Triangle } else { Filter::CatmullRom };
    scaling::square(Isa::detect(), square, from, to, filter)
}

/// An image `[height, width, 3]` as [`load_image`] makes one of a file: `[size, size, 3]`.
///
/// # Errors
/// If it has no pixels, or not three channels.
pub fn square_image(pixels: ArrayView3<u8>, size: usize) -> Result<Vec<u8>> {
    let &[height, width, channels] = pixels.shape() else { unreachable!("it has three dimensions") };
    let sides = u32::try_from(width).ok().zip(u32::try_from(height).ok());
    let image = sides
        .filter(|(width, height)| channels == CHANNELS && width.min(height) > &0)
        .and_then(|(width, height)| RgbImage::from_raw(width, height, pixels.iter().copied().collect()));
    let problem =
        || Error::op("image", format!("an array {:?} is none of [height, width, 3]", pixels.shape()));
    Ok(fit(image.ok_or_else(problem)?, size).pixels)
}

/// Scales one `[from, from, 3]` image to `[to, to, 3]`.
///
/// # Errors
/// If `pixels` does not hold `from * from * 3` bytes.
pub fn resize_square(pixels: &[u8], from: usize, to: usize) -> Result<Vec<u8>> {
    if from == 0 || pixels.len() != from * from * CHANNELS {
        return Err(Error::op("resize", format!("{} bytes are no {from}x{from} image", pixels.len())));
    }
    Ok(scale(pixels, from, to))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::imageops::FilterType;
    use image::{GrayImage, ImageEncoder, Luma, Rgba, RgbaImage, codecs::jpeg::JpegEncoder};
    use tempfile::TempDir;

    use super::*;

    fn saved(image: impl Into<DynamicImage>, name: &str) -> (TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        image.into().save_with_format(&path, ImageFormat::Png).unwrap();
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
    fn a_image_of_the_right_size_is_untouched_whatever_its_name() {
        let image = RgbImage::from_fn(8, 8, |x, y| Rgb([x as u8, y as u8, 7]));
        let (_dir, path) = saved(image.clone(), "png-inside.jpg");
        assert_eq!(load_image(&path, 8).unwrap(), image.into_raw());
    }

    #[test]
    fn grey_and_sixteen_bit_become_rgb() {
        let (_dir, path) = saved(GrayImage::from_pixel(8, 8, Luma([77])), "grey.png");
        assert_eq!(load_image(&path, 8).unwrap(), vec![77; 192]);
        let deep: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_pixel(8, 8, Luma([0xffff]));
        let (_dir, path) = saved(deep, "deep.png");
        assert_eq!(load_image(&path, 8).unwrap(), vec![255; 192]);
    }

    #[test]
    fn transparency_shows_white() {
        let (_dir, path) = saved(RgbaImage::from_pixel(8, 8, Rgba([0, 100, 255, 51])), "glass.png");
        assert_eq!(load_image(&path, 8).unwrap()[..3], [204, 224, 255]);
    }

    #[test]
    fn the_centre_is_kept_and_scaled() {
        // Only the middle 10x10 of this 30x10 image is green.
        let wide =
            RgbImage::from_fn(30, 10, |x, _| if x / 10 == 1 { Rgb([0, 255, 0]) } else { Rgb([255, 0, 0]) });
        let (_dir, path) = saved(wide, "wide.png");
        for size in [5, 10, 20] {
            let pixels = load_image(&path, size).unwrap();
            assert_eq!(pixels, [0, 255, 0].repeat(size * size), "size {size}");
        }
    }

    /// The bytes of `image`, by which models were trained before.
    #[test]
    fn images_are_scaled_as_the_crate_of_images_does() {
        let sizes =
            [(97, 96), (96, 97), (32, 96), (301, 64), (64, 65), (200, 7), (3, 50), (1, 9), (1411, 96)];
        for (from, to) in sizes {
            let byte = |x: u32, y: u32, c: u32| (x * x * 7 + y * 131 + x * y * (c + 3) + 50 * c) as u8;
            let image = RgbImage::from_fn(from, from, |x, y| Rgb([0, 1, 2].map(|c| byte(x, y, c))));
            let filter = if to < from { FilterType::Triangle } else { FilterType::CatmullRom };
            let expected = image::imageops::resize(&image, to, to, filter).into_raw();
            let scaled = resize_square(&image, from as usize, to as usize).unwrap();
            let worst = scaled.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max();
            assert_eq!(worst, Some(0), "{from} to {to}");
        }
    }

    #[test]
    fn exif_orientation_is_applied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("turned.jpg");
        for (orientation, red_at) in [(1, [0, 8]), (2, [15, 8]), (6, [8, 0]), (8, [8, 15])] {
            fs::write(&path, jpeg(orientation)).unwrap();
            let pixels = load_image(&path, 16).unwrap();
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
                let error = load_image(&path, 16).unwrap_err().to_string();
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
            let error = load_image(&path, 16).unwrap_err().to_string();
            assert!(error.contains("unreadable image: ") && !error.contains('\n'), "{error}");
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
        let error = load_image(&path, 32).unwrap_err().to_string();
        assert!(error.contains("too many") || error.to_lowercase().contains("limit"), "{error}");
    }

    #[test]
    fn memory_is_counted_in_the_pixels_that_come_out() {
        assert_eq!(memory(100, 100, ColorType::L8), 400);
        assert_eq!(memory(100, 300, ColorType::Rgb8), 300);
        assert_eq!(memory(100, 800, ColorType::Rgba16), 1500);
        let (largest, budget) = (memory(MAX_PIXELS, MAX_PIXELS, ColorType::L8), 800 << 20);
        assert!(largest <= budget && 12_000 * 9_000 <= MAX_PIXELS);
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
        let error = load_image(&path, 8).unwrap_err().to_string();
        assert!(
            error.ends_with("page.png: none of PNG, JPEG, WebP, GIF, BMP, TIFF (judged by its content)"),
            "{error}"
        );
        assert!(load_image(&dir.path().join("none.png"), 8).is_err());
    }

    #[test]
    fn a_damaged_png_is_told_in_plain_words() {
        let (_dir, path) = saved(halves(64, 64), "bad.png");
        let whole = fs::read(&path).unwrap();
        for at in [20, 35, 45, whole.len() / 2, whole.len() - 14] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            fs::write(&path, bytes).unwrap();
            let Err(error) = load_image(&path, 64) else { continue };
            let text = error.to_string();
            assert!(text.contains("bad.png: unreadable image: the PNG data is damaged"), "{text}");
        }
        fs::write(&path, &whole[..40]).unwrap();
        let text = load_image(&path, 64).unwrap_err().to_string();
        assert!(text.ends_with("unreadable image: the PNG data is damaged or cut short"), "{text}");
    }

    #[test]
    fn a_folder_is_answered_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let text = load_image(dir.path(), 8).unwrap_err().to_string();
        assert!(
            text.ends_with("this is a folder; name the images in it, for example FOLDER/*.png"),
            "{text}"
        );
    }

    #[test]
    fn no_more_than_the_limit_is_read_from_a_source_without_end() {
        let mut bytes = vec![1; 10];
        let problem = read_rest(io::repeat(7), &mut bytes, 1000).unwrap_err();
        assert!(problem.contains("more than 1000 bytes"), "{problem}");
        assert_eq!(bytes.len(), 1001);
        read_rest(&[7; 990][..], &mut vec![1; 10], 1000).unwrap();
        assert!(read_rest(&[7; 991][..], &mut vec![1; 10], 1000).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn devices_without_end_are_refused_and_pipes_are_read() {
        use std::io::Write;
        use std::os::fd::AsRawFd;
        let text = load_image(Path::new("/dev/zero"), 8).unwrap_err().to_string();
        assert!(text.contains("none of PNG, JPEG"), "{text}");
        let (_dir, path) = saved(halves(8, 8), "piped.png");
        let (reader, mut writer) = io::pipe().unwrap();
        let png = fs::read(path).unwrap();
        let writing =
            std::thread::spawn(move || png.chunks(5).for_each(|part| writer.write_all(part).unwrap()));
        let named = format!("/proc/self/fd/{}", reader.as_raw_fd());
        assert_eq!(load_image(Path::new(&named), 8).unwrap(), halves(8, 8).into_raw());
        writing.join().unwrap();
    }

    #[test]
    fn resizing_checks_its_input() {
        assert!(resize_square(&[0; 5], 2, 4).is_err());
        assert_eq!(resize_square(&[9; 12], 2, 4).unwrap(), [9; 48]);
    }
}
