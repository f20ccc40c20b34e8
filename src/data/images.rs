//! Square images with a class each, wherever their pixels are.

use std::borrow::Cow;

use ndarray::{ArrayView4, CowArray, Ix4};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::pixels::Pixels;
use super::watch::ImageProgress;
use super::{CHANNELS, balance, image_file, split};
use crate::error::{Error, Result};
use crate::memory;
use crate::text::hex;

/// Square colour images with a class each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// `[len, size, size, 3]` row-major: 8-bit red, green and blue of a pixel lie side by side.
    pub pixels: Pixels,
    /// `[len]`: index into [`Dataset::classes`](super::Dataset::classes).
    pub labels: Vec<u32>,
    /// Width and height of every image in pixels.
    pub size: usize,
    /// `[len]`: the file of each, as a path below the data's folder that is fit to print. Empty
    /// where the images are not from files of their own.
    pub files: Vec<String>,
}

impl Images {
    /// `n` black images of class 0.
    pub fn black(n: usize, size: usize) -> Images {
        let pixels = vec![0; n * size * size * CHANNELS].into();
        Images { pixels, labels: vec![0; n], size, files: Vec::new() }
    }

    /// Images `[N, size, size, 3]` of 8-bit red, green and blue, and the class of each.
    ///
    /// # Errors
    /// If they are not square or not coloured, or there is not a label for each.
    pub fn from_array(pixels: ArrayView4<u8>, labels: &[u32]) -> Result<Images> {
        let &[n, size, width, channels] = pixels.shape() else { unreachable!("it has four dimensions") };
        if width != size || channels != CHANNELS || labels.len() != n {
            let problem = format!("{:?} with {} labels", pixels.shape(), labels.len());
            return Err(Error::op(
                "images",
                format!("must be [N, size, size, 3] with N labels, not {problem}"),
            ));
        }
        let (pixels, labels) = (pixels.iter().copied().collect::<Vec<u8>>().into(), labels.to_vec());
        Ok(Images { pixels, labels, size, files: Vec::new() })
    }

    /// All images as an array `[len, size, size, 3]`; those of a file are read into memory.
    ///
    /// # Errors
    /// If the pixels are not as many as `len` images have, or cannot be read.
    pub fn array(&self) -> Result<CowArray<'_, u8, Ix4>> {
        let (images, bytes) = (self.len(), self.pixels.len());
        let dims = [images, self.size, self.size, CHANNELS];
        let array = match self.pixels.bytes()? {
            Cow::Borrowed(pixels) => ArrayView4::from_shape(dims, pixels).map(CowArray::from),
            Cow::Owned(pixels) => ndarray::Array4::from_shape_vec(dims, pixels).map(CowArray::from),
        };
        let problem = || format!("{images} of {0} x {0} pixels do not have {bytes} bytes", self.size);
        array.map_err(|_| Error::op("images", problem()))
    }

    /// Whether the pixels are in a file.
    pub fn is_in_file(&self) -> bool {
        matches!(self.pixels, Pixels::File(_))
    }

    /// The same images with their pixels in memory.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn in_memory(self) -> Result<Images> {
        match self.pixels {
            Pixels::Memory(_) => Ok(self),
            Pixels::File(_) => Ok(Images { pixels: self.pixels.bytes()?.into_owned().into(), ..self }),
        }
    }

    /// So many of the images at most, in their order: of every class as large a share as of all, at
    /// equal distances.
    pub fn part(self, most: usize) -> Images {
        let all = self.len();
        if all <= most {
            return self;
        }
        // Class by class, then at equal distances through that row.
        let mut row: Vec<u32> = (0..all as u32).collect();
        row.sort_by_key(|&place| self.labels[place as usize]);
        let mut places: Vec<u32> = (0..most).map(|i| row[i * all / most]).collect();
        places.sort_unstable();
        self.subset(&places)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image at all.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one image: `size * size * 3`.
    pub fn stride(&self) -> usize {
        self.size * self.size * CHANNELS
    }

    /// Image `i` as `[size, size, 3]`.
    ///
    /// # Errors
    /// If it is in a file that cannot be read.
    ///
    /// # Panics
    /// If `i >= self.len()`, as slice indexing does.
    pub fn image(&self, i: usize) -> Result<Cow<'_, [u8]>> {
        self.pixels.image(i, self.stride())
    }

    /// Copies image `i`.
    ///
    /// # Errors
    /// If it is in a file that cannot be read.
    ///
    /// # Panics
    /// If `i >= self.len()`, or `to` has not the length of an image.
    pub fn read(&self, i: usize, to: &mut [u8]) -> Result<()> {
        assert_eq!(to.len(), self.stride(), "room for an image");
        self.pixels.read(i, to)
    }

    /// Does something with the pixels of every image, in order, of which one at a time is in
    /// memory.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn for_each(&self, mut work: impl FnMut(&[u8])) -> Result<()> {
        match &self.pixels {
            Pixels::Memory(pixels) => pixels.chunks_exact(self.stride().max(1)).for_each(work),
            Pixels::File(_) => {
                let mut image = vec![0; self.stride()];
                for i in 0..self.len() {
                    self.read(i, &mut image)?;
                    work(&image);
                }
            }
        }
        Ok(())
    }

    /// The file of image `i`, if it is from one.
    pub fn file(&self, i: usize) -> Option<&str> {
        self.files.get(i).map(String::as_str)
    }

    /// Checks that every label is one of so many classes, and that there are as many pixels as the
    /// images have.
    ///
    /// # Errors
    /// Names the first image whose label is not, or the two numbers of bytes.
    pub fn check_labels(&self, classes: usize) -> Result<()> {
        let (bytes, wanted) = (self.pixels.len(), self.len().saturating_mul(self.stride()));
        if bytes != wanted {
            let size = self.size;
            let problem =
                format!("{} images of {size} pixels a side have {wanted} bytes, not {bytes}", self.len());
            return Err(Error::Failed(problem));
        }
        match self.labels.iter().position(|&label| label as usize >= classes) {
            None => Ok(()),
            Some(i) => {
                let problem =
                    format!("image {i} has the label {}, but there are {classes} classes", self.labels[i]);
                Err(Error::Failed(problem))
            }
        }
    }

    /// The images at `indices`, in that order (an index may occur twice): copies, or those of the
    /// same file.
    ///
    /// # Panics
    /// If an index is out of range, as slice indexing does.
    pub fn subset(&self, indices: &[u32]) -> Images {
        let pixels = self.pixels.subset(indices, self.stride());
        let labels = indices.iter().map(|&i| self.labels[i as usize]).collect();
        let files = indices.iter().filter_map(|&i| self.files.get(i as usize).cloned()).collect();
        Images { pixels, labels, size: self.size, files }
    }

    /// Takes `n` images out, a random choice that depends on `seed` only, and returns them. Both
    /// parts keep the stored order, and the last image of a class stays, so there may be fewer
    /// ([`split::validation`]). No second copy of the images that stay is made.
    ///
    /// # Errors
    /// If no image would be left.
    pub fn split_validation(&mut self, n: usize, seed: u32) -> Result<Images> {
        let taken = split::validation(&self.labels, n, seed)?;
        let part = self.subset(&taken);
        self.remove(&taken);
        Ok(part)
    }

    /// Removes the images at `taken`, which rises.
    fn remove(&mut self, taken: &[u32]) {
        let (stride, mut taken, mut to) = (self.stride(), taken.iter().peekable(), 0);
        for from in 0..self.len() {
            if taken.next_if(|&&next| next as usize == from).is_some() {
                continue;
            }
            self.pixels.move_up(from, to, stride);
            self.labels[to] = self.labels[from];
            if !self.files.is_empty() {
                self.files.swap(to, from);
            }
            to += 1;
        }
        self.pixels.truncate(to, stride);
        self.labels.truncate(to);
        self.files.truncate(to);
    }

    /// The same images with left and right exchanged, in memory.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn mirrored(&self) -> Result<Images> {
        let mut pixels = self.pixels.bytes()?.into_owned();
        mirror(&mut pixels, self.size);
        Ok(self.with(pixels))
    }

    /// Copies in memory, moved down and to the right by so many pixels, or the other way by a
    /// negative number; what comes in is their reflection, the pixels at the border not repeated.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn shifted(&self, by: isize) -> Result<Images> {
        let mut pixels = vec![0; self.pixels.len()];
        let mut rest = pixels.as_mut_slice();
        self.for_each(|image| {
            let (to, others) = std::mem::take(&mut rest).split_at_mut(image.len());
            shift(image, self.size, by, to);
            rest = others;
        })?;
        Ok(self.with(pixels))
    }

    /// The same without the names of their files.
    pub(crate) fn without_files(&self) -> Images {
        let (pixels, labels) = (self.pixels.clone(), self.labels.clone());
        Images { pixels, labels, size: self.size, files: Vec::new() }
    }

    fn with(&self, pixels: Vec<u8>) -> Images {
        Images {
            pixels: pixels.into(),
            labels: self.labels.clone(),
            size: self.size,
            files: self.files.clone(),
        }
    }

    /// SHA-256 of pixels and labels, in hexadecimal: tells whether these are the same images as
    /// before.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn digest(&self) -> Result<String> {
        let mut hash = Sha256::new();
        self.add_to(&mut hash)?;
        Ok(hex(hash))
    }

    /// Adds pixels and labels to a digest.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) fn add_to(&self, hash: &mut Sha256) -> Result<()> {
        self.for_each(|image| hash.update(image))?;
        self.labels.iter().for_each(|label| hash.update(label.to_le_bytes()));
        Ok(())
    }

    /// The same images scaled to `size` x `size`; unchanged (not even copied) if they have that
    /// size.
    ///
    /// # Errors
    /// If the scaled images do not fit into memory, or the progress is told to stop.
    pub(super) fn resized(self, size: usize, progress: &ImageProgress) -> Result<Images> {
        if size == self.size || self.is_empty() {
            return Ok(Images { size, ..self });
        }
        let mut pixels = allocate(self.len(), size)?;
        pixels.par_chunks_mut(size * size * CHANNELS).enumerate().try_for_each(|(i, to)| {
            progress.one()?;
            image_file::resize_square(&self.image(i)?, self.size, size).map(|p| to.copy_from_slice(&p))
        })?;
        Ok(Images { pixels: pixels.into(), size, ..self })
    }

    /// How many images each of `classes` classes has: `[classes]`.
    pub fn counts(&self, classes: usize) -> Vec<usize> {
        balance::counts(&self.labels, classes)
    }
}

/// Exchanges left and right of images that lie one behind the other.
pub(crate) fn mirror(pixels: &mut [u8], size: usize) {
    for row in pixels.chunks_exact_mut((size * CHANNELS).max(1)) {
        let (pixels, _) = row.as_chunks_mut::<CHANNELS>();
        pixels.reverse();
    }
}

/// Copies an image as [`Images::shifted`] moves it.
pub(crate) fn shift(image: &[u8], size: usize, by: isize, to: &mut [u8]) {
    let last = size as isize - 1;
    let from = |to: usize| (last - (last - (to as isize - by).abs()).abs()).max(0) as usize;
    for (place, pixel) in to.chunks_exact_mut(CHANNELS).enumerate() {
        let at = (from(place / size) * size + from(place % size)) * CHANNELS;
        pixel.copy_from_slice(&image[at..at + CHANNELS]);
    }
}

/// Zeroed room for `n` images. Where the system refuses that much memory, this is an error rather
/// than an abort; a system that promises more than it has may still end the program later.
pub(super) fn allocate(n: usize, size: usize) -> Result<Vec<u8>> {
    let bytes = n.saturating_mul(size * size * CHANNELS);
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(bytes).map_err(|_| {
        Error::Failed(format!(
            "{n} images of {size}x{size} need {} of memory; choose a smaller size",
            memory::size(bytes)
        ))
    })?;
    pixels.resize(bytes, 0);
    Ok(pixels)
}
