//! Where the pixels of a set of images are: in memory, or in a file that may be larger than it.
//!
//! A file is read by position, an image at a time, and not mapped: the system keeps what was read
//! in memory while nobody else needs it, and an error of the disk stays an error. Every image that
//! is read is checked by its checksum.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};

/// Pixels of images of one size, one image behind the other.
#[derive(Clone, Debug)]
pub enum Pixels {
    /// In memory.
    Memory(Vec<u8>),
    /// In a file.
    File(Records),
}

/// Some of the images of a file, in any order. A choice of them costs no pixels.
#[derive(Clone, Debug)]
pub struct Records {
    file: Arc<RecordFile>,
    numbers: Vec<u32>,
}

/// A file of images of one size, from its beginning on.
#[derive(Debug)]
pub(super) struct RecordFile {
    pub path: PathBuf,
    pub file: PositionedFile,
    /// Bytes of an image.
    pub stride: usize,
    /// The checksum of each image.
    pub sums: Vec<u32>,
}

/// What tells that a bit of an image is another one than it was.
pub(super) fn checksum(pixels: &[u8]) -> u32 {
    crc32fast::hash(pixels)
}

impl Default for Pixels {
    fn default() -> Pixels {
        Pixels::Memory(Vec::new())
    }
}

impl From<Vec<u8>> for Pixels {
    fn from(pixels: Vec<u8>) -> Pixels {
        Pixels::Memory(pixels)
    }
}

impl PartialEq for Pixels {
    /// Whether they are the same in memory, or the same images of the same file.
    fn eq(&self, other: &Pixels) -> bool {
        match (self, other) {
            (Pixels::Memory(one), Pixels::Memory(other)) => one == other,
            (Pixels::File(one), Pixels::File(other)) => {
                one.numbers == other.numbers && one.file.path == other.file.path
            }
            _ => false,
        }
    }
}

impl Eq for Pixels {}

impl Pixels {
    /// How many bytes they have.
    pub fn len(&self) -> usize {
        match self {
            Pixels::Memory(pixels) => pixels.len(),
            Pixels::File(records) => records.numbers.len() * records.file.stride,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them; those of a file are read into memory.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        match self {
            Pixels::Memory(pixels) => Ok(pixels.into()),
            Pixels::File(records) => {
                let mut pixels = vec![0; self.len()];
                let images = pixels.chunks_exact_mut(records.file.stride.max(1));
                images.enumerate().try_for_each(|(i, to)| records.read(i, to))?;
                Ok(pixels.into())
            }
        }
    }

    /// Image `i`, of so many bytes.
    ///
    /// # Errors
    /// If the file cannot be read.
    ///
    /// # Panics
    /// If there is no such image.
    pub(super) fn image(&self, i: usize, stride: usize) -> Result<Cow<'_, [u8]>> {
        match self {
            Pixels::Memory(pixels) => Ok(pixels[i * stride..(i + 1) * stride].into()),
            Pixels::File(records) => {
                let mut image = vec![0; stride];
                records.read(i, &mut image)?;
                Ok(image.into())
            }
        }
    }

    /// Copies image `i`, of the length of `to`.
    ///
    /// # Errors
    /// If the file cannot be read.
    ///
    /// # Panics
    /// If there is no such image.
    pub(super) fn read(&self, i: usize, to: &mut [u8]) -> Result<()> {
        match self {
            Pixels::Memory(pixels) => to.copy_from_slice(&pixels[i * to.len()..(i + 1) * to.len()]),
            Pixels::File(records) => records.read(i, to)?,
        }
        Ok(())
    }

    /// The images at `indices`, of so many bytes each.
    pub(super) fn subset(&self, indices: &[u32], stride: usize) -> Pixels {
        match self {
            Pixels::Memory(pixels) => {
                let mut subset = Vec::with_capacity(indices.len() * stride);
                for &i in indices {
                    subset.extend_from_slice(&pixels[i as usize * stride..(i as usize + 1) * stride]);
                }
                Pixels::Memory(subset)
            }
            Pixels::File(Records { file, numbers }) => {
                let numbers = indices.iter().map(|&i| numbers[i as usize]).collect();
                Pixels::File(Records { file: file.clone(), numbers })
            }
        }
    }

    /// Puts image `from` in the place of image `to`, which comes before it.
    pub(super) fn move_up(&mut self, from: usize, to: usize, stride: usize) {
        match self {
            Pixels::Memory(pixels) => pixels.copy_within(from * stride..(from + 1) * stride, to * stride),
            Pixels::File(records) => records.numbers.swap(from, to),
        }
    }

    /// Leaves the first so many images.
    pub(super) fn truncate(&mut self, images: usize, stride: usize) {
        match self {
            Pixels::Memory(pixels) => pixels.truncate(images * stride),
            Pixels::File(records) => records.numbers.truncate(images),
        }
    }
}

impl Records {
    pub(super) fn new(file: Arc<RecordFile>, numbers: Vec<u32>) -> Records {
        Records { file, numbers }
    }

    fn read(&self, i: usize, to: &mut [u8]) -> Result<()> {
        let RecordFile { path, file, stride, sums } = &*self.file;
        let number = self.numbers[i];
        let read = file.read(to, u64::from(number) * *stride as u64);
        read.map_err(|error| unreadable(path, &error))?;
        if checksum(to) == sums[number as usize] {
            return Ok(());
        }
        let problem = format!("its image {number} is damaged: other bytes were written");
        Err(Error::file(path, format!("{problem}; delete the file and begin again, and it is made anew")))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::file(path, format!("cannot be read any more ({error}); begin again, and it is made anew"))
}

/// A file that threads read and write at places of their own.
#[derive(Debug)]
pub(super) struct PositionedFile {
    file: File,
    /// Where the system knows no such calls: whoever moves the file's one place.
    #[cfg(not(unix))]
    place: std::sync::Mutex<()>,
}

impl PositionedFile {
    pub fn new(file: File) -> PositionedFile {
        PositionedFile {
            file,
            #[cfg(not(unix))]
            place: std::sync::Mutex::new(()),
        }
    }

    /// Fills the buffer with what lies from a place on.
    #[cfg(unix)]
    pub fn read(&self, to: &mut [u8], at: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, to, at)
    }

    /// Writes all of it from a place on.
    #[cfg(unix)]
    pub fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, at)
    }

    #[cfg(not(unix))]
    pub fn read(&self, to: &mut [u8], at: u64) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let _place = self.place.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (&self.file).seek(SeekFrom::Start(at))?;
        (&self.file).read_exact(to)
    }

    #[cfg(not(unix))]
    pub fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        use std::io::{Seek, SeekFrom, Write};
        let _place = self.place.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (&self.file).seek(SeekFrom::Start(at))?;
        (&self.file).write_all(bytes)
    }
}
