//! Reading and writing the safetensors format.
//!
//! Its parts are eight bytes of header length (little-endian), a JSON header that gives each
//! tensor's type, shape and byte range, then the values.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};
use serde::ser::{Serialize, SerializeMap, Serializer};
use sha2::{Digest, Sha256};

use super::decode::ValueDecoder;
use super::precision::Precision;
use super::{Tensor, WeightsFile, foreign, layout, printable_shape, shortened};
use crate::console;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::memory;
use crate::text::hex;

/// A header of more than this is no model's: a thousand tensors need about 100 KB.
const MOST_HEADER: u64 = 16 << 20;
const LENGTH_BYTES: u64 = 8;
const METADATA_KEY: &str = "__metadata__";
const NOT_SAFETENSORS: &str =
    "not a safetensors file, or damaged; convert it, or replace it with a whole copy";

/// Reads every tensor of a safetensors file as `f32`, in the file's own (PyTorch's) layout.
///
/// F64 (rounded to F32), F32, F16 and BF16 are read. PyTorch's step counters
/// (`...num_batches_tracked`) are skipped: they are no weights. The file's real size, and what
/// memory is free, are known before anything is allocated, so a header that promises more than
/// there is costs nothing.
///
/// # Errors
/// [`Error::File`] where the file cannot be opened, is cut short or damaged, or holds a tensor of
/// another type, which is named.
pub fn load(path: impl AsRef<Path>) -> Result<WeightsFile> {
    let path = path.as_ref();
    let read = opened(path).and_then(|(mut file, length)| read_all(&mut file, length));
    let read = read.map_err(|problem| Error::file(path, problem))?;
    console::detail(format_args!("read: {}", path.display()));
    Ok(read)
}

/// Reads names, shapes and metadata only: the tensors have no values. So weights of another model
/// can be told before gigabytes of them are read.
///
/// # Errors
/// As [`load`], as far as the header tells.
pub fn outline(path: impl AsRef<Path>) -> Result<WeightsFile> {
    let path = path.as_ref();
    let header = opened(path).and_then(|(mut file, length)| read_header(&mut file, length));
    header.and_then(|header| outlined(&header)).map_err(|problem| Error::file(path, problem))
}

/// The parts of [`load`] fail with the problem alone; `load` adds the path.
type Parsed<T> = std::result::Result<T, String>;

/// [`load`] from memory; `path` is for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(bytes: &[u8], path: impl AsRef<Path>) -> Result<WeightsFile> {
    read_all(&mut { bytes }, bytes.len() as u64).map_err(|problem| Error::file(path, problem))
}

/// A file, and its length.
fn opened(path: &Path) -> Parsed<(BufReader<File>, u64)> {
    // Asked by name before opening: opening a pipe would wait for a writer.
    let found = std::fs::metadata(path).map_err(unopened)?;
    if !found.is_file() {
        return Err("not a file; give a .safetensors file".into());
    }
    let file = File::open(path).map_err(unopened)?;
    Ok((BufReader::new(file), found.len()))
}

/// The header's content, without values and step counters.
fn outlined(header: &Metadata) -> Parsed<WeightsFile> {
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let mut tensors = BTreeMap::new();
    for (name, info) in header.tensors().into_iter().filter(|(name, _)| !is_counter(name)) {
        decoder(&name, info)?;
        tensors.insert(name, Tensor { shape: info.shape.clone(), data: Vec::new() });
    }
    Ok(WeightsFile { tensors, metadata })
}

fn read_all(reader: &mut impl BufRead, length: u64) -> Parsed<WeightsFile> {
    let header = read_header(reader, length)?;
    let mut file = outlined(&header)?;
    let needed = file.tensors.values().filter_map(|tensor| layout::count(&tensor.shape)).sum::<usize>();
    let needed = needed.saturating_mul(size_of::<f32>());
    if memory::available().is_some_and(|free| needed > free) {
        return Err(format!("holds {} of values, more than there is memory for", memory::size(needed)));
    }
    // In the order of their bytes; the header check has shown that they leave no gap.
    for name in header.offset_keys() {
        let info = header.info(&name).ok_or(NOT_SAFETENSORS)?;
        match file.tensors.get_mut(&name) {
            Some(tensor) => tensor.data = read_values(reader, &name, info)?,
            None => pass_over(reader, info)?,
        }
    }
    Ok(file)
}

/// Reads and checks the header against the file's size. `Metadata` itself refuses overlaps, gaps,
/// and ranges that are not what type and shape ask for.
fn read_header(reader: &mut impl BufRead, file_bytes: u64) -> Parsed<Metadata> {
    if let Some(other) = foreign::kind(reader.fill_buf().map_err(unreadable)?) {
        return Err(other);
    }
    let mut length = [0; LENGTH_BYTES as usize];
    let after_length =
        file_bytes.checked_sub(LENGTH_BYTES).ok_or("empty or cut short; replace it with a whole copy")?;
    reader.read_exact(&mut length).map_err(unreadable)?;
    let length = u64::from_le_bytes(length);
    let data_bytes = after_length.checked_sub(length).ok_or(NOT_SAFETENSORS)?;
    if length > MOST_HEADER {
        return Err(format!("its header takes {length} bytes, over the limit of {MOST_HEADER}"));
    }
    let mut header = vec![0; length as usize]; // at most MOST_HEADER, and no more than the file has
    reader.read_exact(&mut header).map_err(unreadable)?;
    let header: Metadata =
        serde_json::from_slice(&header).map_err(|error| format!("{NOT_SAFETENSORS} ({error})"))?;
    let promised = header.data_len() as u64;
    if promised > data_bytes {
        return Err(format!(
            "cut short: its header promises {promised} bytes of values, it has {data_bytes}; \
             replace it with a whole copy"
        ));
    }
    if promised < data_bytes {
        return Err(format!(
            "has {} bytes that belong to no tensor; replace it with a whole copy",
            data_bytes - promised
        ));
    }
    Ok(header)
}

/// Whether a tensor is a step counter of PyTorch's.
fn is_counter(name: &str) -> bool {
    name.ends_with("num_batches_tracked")
}

fn decoder(name: &str, info: &TensorInfo) -> Parsed<ValueDecoder> {
    ValueDecoder::of(info.dtype).ok_or_else(|| {
        format!(
            "tensor {} is of type {}; only F64, F32, F16 and BF16 can be read",
            shortened(name),
            info.dtype
        )
    })
}

/// The values of the next tensor in the file, decoded in pieces.
fn read_values(reader: &mut impl Read, name: &str, info: &TensorInfo) -> Parsed<Vec<f32>> {
    const PIECE: usize = 1 << 20; // a whole number of values of any type
    let decoder = decoder(name, info)?;
    let mut left = info.data_offsets.1.saturating_sub(info.data_offsets.0);
    let mut values = Vec::new();
    let reserved = values.try_reserve_exact(left / decoder.bytes());
    reserved.map_err(|_| format!("there is no memory for its tensor {}", shortened(name)))?;
    let mut piece = vec![0; left.min(PIECE)];
    while left > 0 {
        let piece = &mut piece[..left.min(PIECE)];
        reader.read_exact(piece).map_err(unreadable)?;
        decoder.decode(piece, &mut values);
        left -= piece.len();
    }
    Ok(values)
}

fn pass_over(reader: &mut impl Read, info: &TensorInfo) -> Parsed<()> {
    let bytes = info.data_offsets.1.saturating_sub(info.data_offsets.0) as u64;
    std::io::copy(&mut reader.take(bytes), &mut std::io::sink()).map(|_| ()).map_err(unreadable)
}

fn unopened(error: std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "does not exist; check the path".into(),
        _ => format!("cannot be opened: {error}"),
    }
}

fn unreadable(error: std::io::Error) -> String {
    format!("cannot be read: {error}")
}

/// Writes a safetensors file, whole or not at all. Tensors and metadata are in the order of their
/// names, so the same content always gives the same bytes.
///
/// # Errors
/// [`Error::File`] where the file cannot be written, a tensor's values do not fill its shape, or a
/// tensor has the name that the format keeps for metadata.
pub fn save(path: impl AsRef<Path>, weights: &WeightsFile) -> Result<()> {
    let path = path.as_ref();
    save_as(path, weights, Precision::Full)
}

/// [`save`] with the values in a precision; those that half precision cannot hold are the caller's
/// matter ([`Rounding`](super::Rounding)).
///
/// # Errors
/// As [`save`].
pub fn save_as(path: &Path, weights: &WeightsFile, precision: Precision) -> Result<()> {
    let header = header_bytes(weights, precision).map_err(|problem| Error::file(path, problem))?;
    write_atomic(path, |file| write_parts(file, &header, weights, precision))
}

/// SHA-256, in hexadecimal, of the bytes that [`save`] writes.
///
/// # Errors
/// As [`save`], of which it is the part that needs no file.
pub fn digest(weights: &WeightsFile) -> Result<String> {
    let mut hash = Sha256::new();
    hand_to(weights, |bytes| hash.update(bytes))?;
    Ok(hex(hash))
}

/// CRC-32, in hexadecimal, of the bytes that [`save`] writes: tells damage, though not malice, and
/// takes a twentieth of the time of [`digest`].
///
/// # Errors
/// As [`save`].
pub fn checksum(weights: &WeightsFile) -> Result<String> {
    let mut sum = crc32fast::Hasher::new();
    hand_to(weights, |bytes| sum.update(bytes))?;
    Ok(format!("{:08x}", sum.finalize()))
}

/// Hands the bytes that [`save`] writes to a function, in blocks.
fn hand_to(weights: &WeightsFile, take: impl FnMut(&[u8])) -> Result<()> {
    let header = header_bytes(weights, Precision::Full).map_err(Error::Failed)?;
    let mut out = BufWriter::with_capacity(1 << 16, Taking(take));
    write_parts(&mut out, &header, weights, Precision::Full).map_err(|e| Error::Failed(e.to_string()))
}

/// A writer to a function.
struct Taking<F>(F);

impl<F: FnMut(&[u8])> Write for Taking<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        (self.0)(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn write_parts(
    out: &mut impl Write,
    header: &[u8],
    weights: &WeightsFile,
    precision: Precision,
) -> std::io::Result<()> {
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header)?;
    let mut values = weights.tensors.values().flat_map(|tensor| &tensor.data);
    values.try_for_each(|value| precision.write(*value, out))?;
    out.flush()
}

fn header_bytes(weights: &WeightsFile, precision: Precision) -> Parsed<Vec<u8>> {
    let mut tensors = Vec::with_capacity(weights.tensors.len());
    let mut start = 0;
    for (name, tensor) in &weights.tensors {
        if name == METADATA_KEY {
            return Err(format!("a tensor cannot be called {METADATA_KEY}"));
        }
        if layout::count(&tensor.shape) != Some(tensor.data.len()) {
            let (shape, values) = (printable_shape(&tensor.shape), tensor.data.len());
            return Err(format!("tensor {} has {values} values for the shape {shape}", shortened(name)));
        }
        let end = start + precision.bytes() * tensor.data.len();
        let info =
            TensorInfo { dtype: precision.dtype(), shape: tensor.shape.clone(), data_offsets: (start, end) };
        tensors.push((name.as_str(), info));
        start = end;
    }
    let header = Header { metadata: &weights.metadata, tensors: &tensors };
    let mut bytes = serde_json::to_vec(&header).map_err(|error| format!("cannot be written: {error}"))?;
    // The format asks that values begin at a multiple of eight; spaces are allowed after the JSON.
    bytes.resize(bytes.len().next_multiple_of(LENGTH_BYTES as usize), b' ');
    Ok(bytes)
}

/// The header in a fixed order. The crate's own writer keeps metadata in a hash map, whose order
/// changes from run to run.
struct Header<'a> {
    metadata: &'a BTreeMap<String, String>,
    tensors: &'a [(&'a str, TensorInfo)],
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA_KEY, self.metadata)?;
        }
        for (name, info) in self.tensors {
            map.serialize_entry(name, info)?;
        }
        map.end()
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
