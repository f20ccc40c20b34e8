//! Event files: the figures of a run for TensorBoard, and for what else reads its files.
//!
//! A file is a row of records: the length of a message in eight bytes, a checksum of these eight,
//! the message, and a checksum of it, numbers little-endian. Format, checksum, names and numbers
//! of the fields are those of TensorFlow's `record_writer` and `event.proto`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};
use prost::Message;

use super::EpochMetrics;
use crate::error::{Error, Result};
use crate::files::{advice, write_atomic};

/// The name of each file, by which TensorBoard knows that it is one.
pub const FILE: &str = "events.out.tfevents.cifar-engine";

/// The version of the format, in the first event of a file.
const VERSION: &str = "brain.Event:2";
const HEADER: usize = 12;
const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// An event: figures of one epoch, or the version of the format.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// The epoch, from 1; 0 of what is of none.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// The version of the format, in the first event only.
    #[prost(string, optional, tag = "3")]
    pub file_version: Option<String>,
    /// The figures, in all others.
    #[prost(message, optional, tag = "5")]
    pub summary: Option<Summary>,
}

/// Figures.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    /// One of each name.
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Figure>,
}

/// A figure.
#[derive(Clone, PartialEq, Message)]
pub struct Figure {
    /// Its name.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// Its value.
    #[prost(float, optional, tag = "2")]
    pub simple_value: Option<f32>,
}

/// The parts of a run that TensorBoard draws into the same charts, each in a folder of its own, and
/// what a row of the history says about it.
const PARTS: [(&str, Row); 2] = [("train", training), ("validation", validation)];

/// The figures of an epoch, by their names.
type Row = fn(&EpochMetrics) -> Vec<(&'static str, f64)>;

fn training(epoch: &EpochMetrics) -> Vec<(&'static str, f64)> {
    vec![
        ("loss", epoch.train_loss),
        ("accuracy", epoch.train_accuracy),
        ("learning_rate", epoch.rate),
        ("images_per_s", epoch.images_per_s),
    ]
}

fn validation(epoch: &EpochMetrics) -> Vec<(&'static str, f64)> {
    let loss = epoch.validation_loss.map(|loss| ("loss", loss));
    loss.into_iter().chain(epoch.validation_accuracy.map(|accuracy| ("accuracy", accuracy))).collect()
}

/// Writes the history into `folder`: a file in the folder `train`, and one in `validation` where
/// epochs were validated. What a file has already is kept and the rest put behind it, so that a
/// reader that follows it sees each new epoch; one with another history is replaced.
///
/// # Errors
/// If a file cannot be written.
pub fn write(folder: &Path, history: &[EpochMetrics]) -> Result<()> {
    for (part, row) in PARTS {
        if history.iter().any(|epoch| !row(epoch).is_empty()) {
            write_part(&folder.join(part), history, row)?;
        }
    }
    Ok(())
}

fn write_part(folder: &Path, history: &[EpochMetrics], row: Row) -> Result<()> {
    let unwritten = |path: &Path, error| Error::file(path, format!("cannot be written: {}", advice(&error)));
    fs::create_dir_all(folder).map_err(|error| unwritten(folder, error))?;
    let path = folder.join(FILE);
    let there = fs::read(&path).unwrap_or_default();
    let began = message(&there).and_then(|(message, _)| Event::decode(message).ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let trained: f64 = history.iter().map(|epoch| epoch.seconds).sum();
    let bytes = encoded(began.map_or(now - trained, |event| event.wall_time), history, row);
    match bytes.strip_prefix(there.as_slice()).filter(|_| !there.is_empty()) {
        Some([]) => Ok(()),
        Some(new) => {
            let file = OpenOptions::new().append(true).open(&path);
            file.and_then(|mut file| file.write_all(new)).map_err(|error| unwritten(&path, error))
        }
        None => write_atomic(&path, |file| file.write_all(&bytes)),
    }
}

/// The content of a file. The clock of an epoch is the beginning and the time that was trained.
fn encoded(began: f64, history: &[EpochMetrics], row: Row) -> Vec<u8> {
    let version = Event { wall_time: began, file_version: Some(VERSION.into()), ..Event::default() };
    let (mut bytes, mut wall_time) = (Vec::new(), began);
    add(&mut bytes, &version);
    for epoch in history {
        wall_time += epoch.seconds;
        let figure =
            |(tag, value): (&str, f64)| Figure { tag: tag.to_string(), simple_value: Some(value as f32) };
        let value: Vec<Figure> = row(epoch).into_iter().map(figure).collect();
        if !value.is_empty() {
            let (step, summary) = (epoch.epoch as i64, Some(Summary { value }));
            add(&mut bytes, &Event { wall_time, step, file_version: None, summary });
        }
    }
    bytes
}

/// Adds a record.
fn add(bytes: &mut Vec<u8>, event: &Event) {
    let message = event.encode_to_vec();
    let length = (message.len() as u64).to_le_bytes();
    for part in [&length[..], &message] {
        bytes.extend(part);
        bytes.extend(checksum(part).to_le_bytes());
    }
}

/// The checksum, turned and moved, as the format has it: that of data which holds checksums would
/// say little.
fn checksum(bytes: &[u8]) -> u32 {
    CHECKSUM.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The first message of a file's content, and what follows its record; none where that is not
/// whole.
fn message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let length = u64::from_le_bytes(header[..8].try_into().ok()?);
    let (message, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let (sum, rest) = rest.split_at_checked(4)?;
    let is_whole =
        header[8..] == checksum(&header[..8]).to_le_bytes() && sum == checksum(message).to_le_bytes();
    is_whole.then_some((message, rest))
}

/// The events of a file's content, up to the first that is not whole.
pub fn events(mut bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some((message, rest)) = message(bytes) {
        events.extend(Event::decode(message).ok());
        bytes = rest;
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(epochs: usize) -> Vec<EpochMetrics> {
        let epoch = |epoch| EpochMetrics {
            epoch,
            train_loss: 1.0 / epoch as f64,
            train_accuracy: 0.5,
            validation_loss: (epoch != 2).then_some(2.0),
            validation_accuracy: (epoch != 2).then_some(0.25),
            rate: 0.1,
            images_per_s: 1000.0,
            seconds: 60.0,
            validation_images: 10,
            proof: None,
        };
        (1..=epochs).map(epoch).collect()
    }

    #[test]
    fn checksums_are_those_of_the_format() {
        // Of nine digits, as everybody has it for CRC-32C.
        assert_eq!(CHECKSUM.checksum(b"123456789"), 0xe306_9283);
        // Of the length 24 in TensorFlow's own files, as their first record begins.
        assert_eq!(checksum(&24u64.to_le_bytes()).to_le_bytes(), [0xa3, 0x7f, 0x4b, 0x22]);
    }

    #[test]
    fn epochs_are_added_and_a_torn_or_other_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = |part: &str| folder.path().join(part).join(FILE);
        let read = |part: &str| fs::read(file(part)).unwrap();
        write(folder.path(), &history(1)).unwrap();
        let (first, began) = (read("train"), events(&read("train"))[0].clone());
        assert_eq!(began.file_version.as_deref(), Some("brain.Event:2"));
        write(folder.path(), &history(3)).unwrap();
        let all = read("train");
        assert!(all.starts_with(&first) && all.len() > first.len());
        let rows = events(&all);
        let losses: Vec<(i64, f64, f32)> = rows[1..]
            .iter()
            .map(|event| {
                let figures = &event.summary.as_ref().unwrap().value;
                let loss = figures.iter().find(|figure| figure.tag == "loss").unwrap();
                (event.step, event.wall_time - began.wall_time, loss.simple_value.unwrap())
            })
            .collect();
        assert_eq!(losses, [(1, 60.0, 1.0), (2, 120.0, 0.5), (3, 180.0, 1.0 / 3.0)]);
        let steps: Vec<i64> = events(&read("validation")).iter().map(|event| event.step).collect();
        assert_eq!(steps, [0, 1, 3]);
        for torn in [all.len() - 1, all.len() - 40, 5, 0] {
            fs::write(file("train"), &all[..torn]).unwrap();
            write(folder.path(), &history(3)).unwrap();
            assert_eq!(events(&read("train")).len(), 4, "{torn}");
        }
        write(folder.path(), &history(2)).unwrap();
        assert_eq!(events(&read("train")).len(), 3);
    }

    #[test]
    fn a_changed_bit_ends_the_events() {
        let mut bytes = encoded(1e9, &history(3), training);
        assert_eq!(events(&bytes).len(), 4);
        let place = bytes.len() - 30;
        bytes[place] ^= 1;
        assert_eq!(events(&bytes).len(), 3);
    }
}
