//! Verification of a run: what it left is what its settings and its images make of it, bit for bit.
//!
//! Every epoch of a run has a hash of its weights in `metrics.jsonl`. Here the training is repeated
//! from its beginning, or from a checkpoint that it has kept, in a folder of its own, and the
//! hashes are compared.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::settings::MOST_EPOCHS;
use super::{Observer, Phase, StepProgress};
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::models::LoadedModel;
use crate::report::EpochMetrics;
use crate::report::metrics::{Proof, weights_digest};
use crate::text::counted;

/// An epoch that was computed again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Repeated {
    /// Its number, from 1.
    pub epoch: usize,
    /// SHA-256 of the weights that the run had after it.
    pub expected: String,
    /// That of the weights now.
    pub found: String,
    /// The device that the run computed it on.
    pub by: String,
}

impl Repeated {
    /// Whether the weights are the same, bit for bit.
    pub fn is_equal(&self) -> bool {
        self.expected == self.found
    }

    /// Reasons for a difference, for a message: `now` is the device of the repetition.
    pub fn reason(&self, now: &str) -> String {
        let [then, now] = [self.by.as_str(), now].map(without_threads);
        match then == now {
            true => "the same kind of device computed both, so that the run was changed afterwards, is of \
                     another version of the program, or one of the two computations was faulty"
                .into(),
            false => format!("it was computed by {then}, and now by {now}, which round differently"),
        }
    }
}

/// A device's words without the number of its threads, which changes no bit.
pub(super) fn without_threads(device: &str) -> String {
    let parts: Vec<&str> = device.split(", ").filter(|part| !part.contains(" thread")).collect();
    parts.join(", ")
}

/// Compares a training under way with the history of a run; ends it after so many epochs, or at the
/// first that differs. Everything is passed on to `shown`.
pub struct Verifier<'a> {
    /// The epochs to compute again.
    pub expected: Vec<(usize, Proof)>,
    /// Those that were.
    pub repeated: Vec<Repeated>,
    /// The one who is told of everything.
    pub shown: &'a mut dyn Observer,
}

/// The first so many epochs of a run, each with the proof that it is to be compared by.
///
/// # Errors
/// If the run has fewer, or is of a version that wrote no hashes.
pub fn proofs(history: &[EpochMetrics], epochs: usize) -> Result<Vec<(usize, Proof)>> {
    let finished = history.len();
    if finished < epochs {
        let problem = format!("the run has finished {}, not {epochs}", counted(finished, "epoch"));
        return Err(Error::Usage(problem));
    }
    let proof = |row: &EpochMetrics| Some((row.epoch, row.proof.clone()?));
    let proofs: Option<Vec<_>> = history[..epochs].iter().map(proof).collect();
    proofs.ok_or_else(|| {
        Error::Failed("the run's checkpoint holds no hashes: an older version trained it".into())
    })
}

/// Checks that the lines of a run's `metrics.jsonl` hold these hashes.
///
/// # Errors
/// If it cannot be read, or holds others.
pub fn check_written(file: &Path, proofs: &[(usize, Proof)]) -> Result<()> {
    // A line has some 500 bytes.
    let text = read_text(file, 1000 * MOST_EPOCHS as u64)?;
    let hash = |line: &str| -> Option<(usize, String)> {
        let row: EpochMetrics = serde_json::from_str(line).ok()?;
        Some((row.epoch, row.proof?.weights_sha256))
    };
    let written: BTreeMap<usize, String> = text.lines().filter_map(hash).collect();
    let differs = proofs.iter().find(|(epoch, proof)| written.get(epoch) != Some(&proof.weights_sha256));
    differs.map_or(Ok(()), |(epoch, _)| {
        let problem = format!(
            "does not hold the hash that the run's checkpoint has of epoch {epoch}; it was changed or replaced"
        );
        Err(Error::file(file, problem))
    })
}

impl<'a> Verifier<'a> {
    /// A verifier of these epochs.
    pub fn new(expected: Vec<(usize, Proof)>, shown: &'a mut dyn Observer) -> Verifier<'a> {
        Verifier { expected, repeated: Vec::new(), shown }
    }

    /// Whether nothing more is to be compared.
    pub fn is_done(&self) -> bool {
        self.repeated.len() == self.expected.len() || !self.repeated.iter().all(Repeated::is_equal)
    }
}

impl Observer for Verifier<'_> {
    fn step(&mut self, progress: &StepProgress) {
        self.shown.step(progress);
    }

    fn phase(&mut self, phase: Phase, done: usize, of: usize) {
        self.shown.phase(phase, done, of);
    }

    fn keep_going(&self) -> bool {
        !self.is_done() && self.shown.keep_going()
    }

    fn epoch(&mut self, metrics: &EpochMetrics) {
        self.shown.epoch(metrics);
        if let Some((epoch, proof)) = self.expected.get(self.repeated.len()).cloned()
            && let Some(found) = &metrics.proof
        {
            let (expected, found) = (proof.weights_sha256, found.weights_sha256.clone());
            self.repeated.push(Repeated { epoch, expected, found, by: proof.device });
        }
    }

    fn note(&mut self, text: &str) {
        self.shown.note(text);
    }

    fn warn(&mut self, text: &str) {
        self.shown.warn(text);
    }
}

/// The epoch of a run whose weights a file holds; none where they are those of no epoch.
///
/// # Errors
/// If the file cannot be read.
pub fn epoch_of(weights: &Path, history: &[EpochMetrics]) -> Result<Option<usize>> {
    let model = LoadedModel::open(weights)?;
    let parameters = model.parameters()?;
    let values = model.values(&parameters)?;
    let named = parameters.iter().zip(&values);
    let digest =
        weights_digest(named.map(|(parameter, values)| (parameter.name.as_str(), values.as_slice())));
    let is_of = |row: &&EpochMetrics| row.proof.as_ref().is_some_and(|proof| proof.weights_sha256 == digest);
    // The last of several.
    Ok(history.iter().rev().find(is_of).map(|row| row.epoch))
}
