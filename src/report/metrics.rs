//! Measurements of a run, one row an epoch, and their CSV file.

use std::io::Write;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files::{read_text, write_atomic};
use crate::text::hex;

const HEADER: &str = "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,rate,images_per_s,\
                      seconds,validation_images";

/// A step of a search for a learning rate.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// The learning rate.
    pub rate: f32,
    /// Loss of the step's batch before the step, or of images that are held back after it.
    pub loss: f64,
    /// The mean loss of the steps around it.
    pub smooth: f64,
}

/// Header as it was before the last column.
const OLD_HEADER: &str =
    "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,rate,images_per_s,seconds";

/// A larger table is none: a million epochs take less.
const MOST_BYTES: u64 = 256 << 20;

/// The figures of one epoch. Losses are means over the images; accuracies run from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Counted from 1.
    pub epoch: usize,
    /// Loss on the training images, as they were met in the epoch.
    pub train_loss: f64,
    /// Accuracy on the training images, as they were met in the epoch.
    pub train_accuracy: f64,
    /// None where the epoch was not validated.
    pub validation_loss: Option<f64>,
    /// None where the epoch was not validated.
    pub validation_accuracy: Option<f64>,
    /// The learning rate at the end of the epoch.
    pub rate: f64,
    /// Training throughput.
    pub images_per_s: f64,
    /// Wall-clock time since the end of the epoch before, or since the training was begun or
    /// resumed: preparation of its stage, validation, and saving included.
    pub seconds: f64,
    /// How many images it was validated on; 0 where there were none, or nobody wrote it down.
    #[serde(default)]
    pub validation_images: usize,
    /// What another computation of the epoch can be compared by; none in a run of an older version,
    /// and in the table.
    #[serde(flatten)]
    pub proof: Option<Proof>,
}

/// Proof of an epoch: what it left, and what computed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// SHA-256 of the weights' names and numbers ([`weights_digest`]).
    pub weights_sha256: String,
    /// The device in words. The number of its threads changes nothing, its instruction set does.
    pub device: String,
}

/// SHA-256, in hexadecimal, of weights in the order of the model's layers: of each tensor its name,
/// a zero byte, and its numbers as little-endian `f32`.
pub fn weights_digest<'a>(weights: impl IntoIterator<Item = (&'a str, &'a [f32])>) -> String {
    let mut hash = Sha256::new();
    weights.into_iter().for_each(|(name, values)| add(&mut hash, name, values));
    hex(hash)
}

fn add(hash: &mut Sha256, name: &str, values: &[f32]) {
    hash.update(name);
    hash.update([0]);
    // By blocks, of which each costs the hash a call.
    for block in values.chunks(4096) {
        let bytes: Vec<[u8; 4]> = block.iter().map(|value| value.to_le_bytes()).collect();
        hash.update(bytes.as_flattened());
    }
}

/// [`weights_digest`] of the weights of one training, epoch after epoch. A processor without
/// instructions for it hashes so slowly that what is as it was is not hashed again, up to the first
/// tensor that is not: in fine-tuning, the layers that do not learn.
#[derive(Default)]
pub struct WeightsHash {
    /// The last weights.
    weights: Vec<Vec<f32>>,
    /// The hash after none of them, one, and so on.
    hashes: Vec<Sha256>,
}

impl WeightsHash {
    /// The digest of these weights, whose names are those of the last ones.
    pub fn digest<'a>(&mut self, names: impl Iterator<Item = &'a str>, weights: Vec<Vec<f32>>) -> String {
        let pairs = self.weights.iter().zip(&weights);
        let known = pairs.take_while(|(old, new)| bits(old) == bits(new)).count();
        self.hashes.truncate(known + 1);
        let mut hash = self.hashes.pop().unwrap_or_default();
        for (name, values) in names.zip(&weights).skip(known) {
            self.hashes.push(hash.clone());
            add(&mut hash, name, values);
        }
        self.hashes.push(hash.clone());
        self.weights = weights;
        hex(hash)
    }
}

fn bits(values: &[f32]) -> &[u32] {
    bytemuck::cast_slice(values)
}

impl EpochMetrics {
    /// Whether so few images were validated that chance moves their accuracy by more than epochs
    /// do: by 3 points at 250.
    pub fn few_validated(&self) -> bool {
        (1..250).contains(&self.validation_images)
    }
}

/// Whether the validation loss alone says which epoch is best ([`best`]).
pub fn loss_decides(history: &[EpochMetrics]) -> bool {
    history.iter().any(EpochMetrics::few_validated)
}

/// The epoch whose weights a run keeps: the one with the best validation accuracy, of equals that
/// with the lowest validation loss, and of these the first. Where few images were validated the
/// loss alone decides, which also counts how sure the model was, and what differs by less than
/// hundredths is equal: it is chance, too. None where nothing was validated.
pub fn best(history: &[EpochMetrics]) -> Option<&EpochMetrics> {
    let few = loss_decides(history);
    let rank = |row: &EpochMetrics| {
        let loss = row.validation_loss.unwrap_or(f64::INFINITY);
        if few { (None, -(100.0 * loss).round()) } else { (row.validation_accuracy, -loss) }
    };
    let validated = history.iter().filter(|row| row.validation_accuracy.is_some_and(f64::is_finite));
    validated.reduce(|best, next| if rank(next) > rank(best) { next } else { best })
}

/// Writes the table, an empty cell where a figure is missing. Every number is written so that
/// [`read_csv`] gives back the same bits.
///
/// # Errors
/// [`Error::File`] where `path` cannot be written.
pub fn write_csv(path: impl AsRef<Path>, epochs: &[EpochMetrics]) -> Result<()> {
    let cell = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    write_atomic(path, |file| {
        writeln!(file, "{HEADER}")?;
        for row in epochs {
            writeln!(
                file,
                "{},{},{},{},{},{},{},{},{}",
                row.epoch,
                row.train_loss,
                row.train_accuracy,
                cell(row.validation_loss),
                cell(row.validation_accuracy),
                row.rate,
                row.images_per_s,
                row.seconds,
                row.validation_images
            )?;
        }
        Ok(())
    })
}

/// Writes the same figures as JSON lines: an object an epoch, under the names of the columns.
///
/// # Errors
/// [`Error::File`] where `path` cannot be written.
pub fn write_jsonl(path: impl AsRef<Path>, epochs: &[EpochMetrics]) -> Result<()> {
    write_atomic(path, |file| {
        epochs.iter().try_for_each(|row| {
            serde_json::to_writer(&mut *file, row)?;
            writeln!(file)
        })
    })
}

/// Reads a table that [`write_csv`] wrote.
///
/// # Errors
/// [`Error::File`] where the file cannot be read, or with the line and column of the first cell
/// that is wrong. Epochs must count upwards from 1.
pub fn read_csv(path: impl AsRef<Path>) -> Result<Vec<EpochMetrics>> {
    let path = path.as_ref();
    let text = read_text(path, MOST_BYTES)?;
    parse(&text).map_err(|problem| Error::file(path, problem))
}

fn parse(text: &str) -> std::result::Result<Vec<EpochMetrics>, String> {
    let mut lines = text.lines().enumerate();
    match lines.next() {
        Some((_, HEADER | OLD_HEADER)) => {}
        Some(_) => return Err(format!("not a metrics table; its first line should be {HEADER}")),
        None => return Err("empty; delete it to start a new table".into()),
    }
    let mut epochs: Vec<EpochMetrics> = Vec::new();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let number = index + 1;
        let row = parse_row(line).map_err(|problem| format!("line {number}: {problem}"))?;
        let previous = epochs.last().map_or(0, |last| last.epoch);
        if row.epoch <= previous {
            return Err(format!("line {number}: epoch {} cannot follow epoch {previous}", row.epoch));
        }
        epochs.push(row);
    }
    Ok(epochs)
}

fn parse_row(line: &str) -> std::result::Result<EpochMetrics, String> {
    let columns: Vec<&str> = HEADER.split(',').collect();
    let cells: Vec<&str> = line.split(',').collect();
    let wrong_count = || Err(format!("{} cells, expected {}", cells.len(), columns.len()));
    let [epoch, train_loss, train_accuracy, loss, accuracy, rate, images_per_s, seconds, ref images @ ..] =
        cells[..]
    else {
        return wrong_count();
    };
    let validation_images = match images {
        [] => 0,
        [cell] => number(cell, columns[8])?,
        _ => return wrong_count(),
    };
    Ok(EpochMetrics {
        epoch: number(epoch, columns[0])?,
        train_loss: number(train_loss, columns[1])?,
        train_accuracy: number(train_accuracy, columns[2])?,
        validation_loss: optional(loss, columns[3])?,
        validation_accuracy: optional(accuracy, columns[4])?,
        rate: number(rate, columns[5])?,
        images_per_s: number(images_per_s, columns[6])?,
        seconds: number(seconds, columns[7])?,
        validation_images,
        proof: None,
    })
}

fn number<T: FromStr>(cell: &str, column: &str) -> std::result::Result<T, String> {
    let shown: String = cell.chars().take(40).flat_map(char::escape_debug).collect();
    cell.parse().map_err(|_| format!("{column} is \"{shown}\", which is no number"))
}

fn optional(cell: &str, column: &str) -> std::result::Result<Option<f64>, String> {
    if cell.is_empty() { Ok(None) } else { number(cell, column).map(Some) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_has_not_changed_is_in_the_digest() {
        let names = ["frozen", "also", "last"];
        let mut weights = vec![vec![1.0; 5000], vec![-0.0, f32::NAN], vec![3.0]];
        let mut hash = WeightsHash::default();
        let mut seen = BTreeSet::new();
        // Nothing, each of them, and all.
        for changed in [&[][..], &[], &[2], &[1], &[0], &[0, 1, 2], &[], &[2]] {
            changed.iter().for_each(|&place| *weights[place].last_mut().unwrap() += 1.0);
            if changed == [1] {
                weights[1][0] = -weights[1][0]; // which no comparison of numbers tells
            }
            let whole = weights_digest(names.into_iter().zip(weights.iter().map(Vec::as_slice)));
            assert_eq!(hash.digest(names.into_iter(), weights.clone()), whole, "{changed:?}");
            seen.insert(whole);
        }
        assert_eq!(seen.len(), 6);
    }

    fn row(epoch: usize) -> EpochMetrics {
        EpochMetrics {
            epoch,
            train_loss: 1.0 / 3.0,
            train_accuracy: 0.1 + 0.2,
            validation_loss: (epoch > 1).then_some(f64::MIN_POSITIVE),
            validation_accuracy: (epoch > 1).then_some(0.5),
            rate: 1e-3,
            images_per_s: f64::INFINITY,
            seconds: 12.75,
            validation_images: 10 * (epoch - 1),
            proof: None,
        }
    }

    #[test]
    fn round_trip_keeps_every_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let rows = vec![row(1), row(2), row(7)];
        write_csv(&path, &rows).unwrap();
        assert_eq!(read_csv(&path).unwrap(), rows);
        write_csv(&path, &[]).unwrap();
        assert_eq!(read_csv(&path).unwrap(), []);
    }

    #[test]
    fn text_is_as_documented() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let mut first = row(1);
        (first.train_loss, first.train_accuracy, first.images_per_s) = (f64::NAN, 0.25, 1000.0);
        write_csv(&path, &[first]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{HEADER}\n1,NaN,0.25,,,0.001,1000,12.75,0\n"));
        assert!(read_csv(&path).unwrap()[0].train_loss.is_nan());
    }

    #[test]
    fn json_lines_say_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let (weights_sha256, device) = ("0f".into(), "cpu, 2 threads".into());
        let proof = Some(Proof { weights_sha256, device });
        let rows = [
            EpochMetrics { images_per_s: 1.5, ..row(1) },
            EpochMetrics { images_per_s: 2.5, proof, ..row(2) },
        ];
        write_jsonl(&path, &rows).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let read: Vec<EpochMetrics> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, rows);
    }

    #[test]
    fn wrong_tables_name_line_and_column() {
        let good = "1,0.5,0.5,,,0.1,100,1,0";
        let cases = [
            (String::new(), "empty"),
            ("a,b\n1,2".into(), "first line"),
            (format!("{HEADER}\n{good}\n2,0.5"), "line 3: 2 cells"),
            (format!("{HEADER}\n{good}\n2,0.5,high,,,0.1,1,1"), "line 3: train_accuracy is \"high\""),
            (format!("{HEADER}\n{good}\n{good}"), "line 3: epoch 1 cannot follow epoch 1"),
            (format!("{HEADER}\n0{}", &good[1..]), "epoch 0 cannot follow"),
            (format!("{HEADER}\n-1{}", &good[1..]), "epoch is \"-1\""),
            (format!("{HEADER}\n{good},0"), "line 2: 10 cells, expected 9"),
        ];
        for (text, expected) in cases {
            let message = parse(&text).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
        assert_eq!(parse(&format!("{HEADER}\r\n{good}\r\n\r\n")).unwrap().len(), 1);
        // As tables were before they had the last column.
        let old = parse(&format!("{OLD_HEADER}\n{}\n", &good[..good.len() - 2])).unwrap();
        assert_eq!(old[0].validation_images, 0);
        assert!(matches!(read_csv("no such file").unwrap_err(), Error::File { .. }));
    }
}
