//! Checkpoints, which a training saves so that it can be continued as if it had never stopped.
//!
//! A checkpoint is one safetensors file: the model's parameters, whatever else the steps change
//! (moments, averages), and as metadata how far the training is, its settings, and a digest of
//! all of it. Nothing is saved that follows from these: the order of the images, dropout and
//! augmentation are functions of the seed and the step ([`crate::kernels::rng`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::optimizers::OPTIMIZERS;
use super::plans::Totals;
use super::settings::Settings;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::models::MODELS;
use crate::report::EpochMetrics;
use crate::text::hex;
use crate::weights::{self, Tensor, WeightsFile};

/// How far a training is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The stage under way, from 0; only fine-tuning has several.
    pub stage: usize,
    /// Finished epochs of the stage.
    pub stage_epochs: usize,
    /// Finished steps of the epoch under way.
    pub step: usize,
    /// Sums over these steps.
    pub totals: Totals,
    /// Time that these steps took.
    pub seconds: f64,
    /// Wall-clock time since the end of the epoch before: these steps and all else, such as saving.
    #[serde(default)]
    pub elapsed: f64,
    /// The finished epochs of all stages.
    pub history: Vec<EpochMetrics>,
}

impl Progress {
    /// The finished epochs of the stage under way.
    pub fn of_stage(&self) -> &[EpochMetrics] {
        let first = self.history.len().saturating_sub(self.stage_epochs);
        &self.history[first..]
    }
}

/// Fingerprint of a run: all that must be the same for it to be continued.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFingerprint {
    /// The run's settings, as its `settings.toml` has them.
    pub settings: String,
    /// Digest of the training images.
    pub images: String,
    /// Digest of the test images; none in a checkpoint of an older version.
    pub test: Option<String>,
    /// The names of the classes, one a line; none in a checkpoint of an older version.
    pub classes: Option<String>,
    /// In fine-tuning, digest of the weights to begin with.
    pub pretrained: Option<String>,
    /// Of a model or an optimizer that the program has not: digest of the graph of a step. A name
    /// alone does not tell that its code is still the same.
    pub graph: Option<String>,
}

/// A state of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What the training is one of; a checkpoint of another one is refused.
    pub fingerprint: RunFingerprint,
    /// How far it has come.
    pub progress: Progress,
    /// By the name they have on the device, in the engine's layout.
    pub states: BTreeMap<String, Vec<f32>>,
}

const FORMAT: &str = "cifar-engine checkpoint 3";
/// Had a SHA-256 in place of a checksum, which takes some processors a tenth of a second; the first
/// had no digests but that of the training images, which are then all that is compared.
const OLD_FORMATS: [&str; 2] = ["cifar-engine checkpoint 1", "cifar-engine checkpoint 2"];
const DAMAGED: &str = "is no checkpoint of this version, or damaged; the weights in last.safetensors beside it may be \
                       whole, and without the checkpoint `resume` begins the run again";

impl Checkpoint {
    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let progress = serde_json::to_string(&self.progress);
        let progress = progress.map_err(|error| Error::file(path, format!("cannot be written: {error}")))?;
        let RunFingerprint { settings, images, test, classes, pretrained, graph } = self.fingerprint.clone();
        let entries = [
            ("format", Some(FORMAT.to_string())),
            ("settings", Some(settings)),
            ("pictures", Some(images)),
            ("test", test),
            ("classes", classes),
            ("pretrained", pretrained),
            ("graph", graph),
            ("progress", Some(progress)),
        ];
        let tensor = |(name, data): (&String, &Vec<f32>)| {
            (name.clone(), Tensor { shape: vec![data.len()], data: data.clone() })
        };
        let mut file = WeightsFile {
            metadata: entries
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_string(), value?)))
                .collect(),
            tensors: self.states.iter().map(tensor).collect(),
        };
        file.metadata.insert("digest".into(), weights::checksum(&file)?);
        weights::save(path, &file)
    }

    /// Reads what [`Checkpoint::save`] wrote.
    ///
    /// # Errors
    /// If it cannot be read, or any bit of its content is not what was written.
    pub fn load(path: &Path) -> Result<Checkpoint> {
        let begin_again = "or delete it, and resuming begins the run again";
        let mut file = weights::load(path).map_err(|error| error.with_advice(begin_again))?;
        let damaged = || Error::file(path, DAMAGED);
        let digest = file.metadata.remove("digest").ok_or_else(damaged)?;
        let optional = |key: &str| file.metadata.get(key).cloned();
        let entry = |key: &str| optional(key).ok_or_else(damaged);
        let found = match entry("format")?.as_str() {
            FORMAT => weights::checksum(&file)?,
            old if OLD_FORMATS.contains(&old) => weights::digest(&file)?,
            _ => return Err(damaged()),
        };
        if found != digest {
            return Err(damaged());
        }
        let (settings, images) = (entry("settings")?, entry("pictures")?);
        let (test, classes) = (optional("test"), optional("classes"));
        let (pretrained, graph) = (optional("pretrained"), optional("graph"));
        let fingerprint = RunFingerprint { settings, images, test, classes, pretrained, graph };
        let progress: Progress = serde_json::from_str(&entry("progress")?).map_err(|_| damaged())?;
        let counted = progress.history.iter().enumerate().all(|(i, row)| row.epoch == i + 1);
        if !counted || progress.stage_epochs > progress.history.len() {
            return Err(damaged());
        }
        let states = file.tensors.into_iter().map(|(name, tensor)| (name, tensor.data)).collect();
        Ok(Checkpoint { fingerprint, progress, states })
    }
}

impl RunFingerprint {
    /// That of a training with these settings on this data, before a part of it is held back for
    /// validation; in fine-tuning, with the digest of the weights to begin with.
    ///
    /// # Errors
    /// If the images cannot be read.
    pub fn of(settings: &Settings, data: &Dataset, pretrained: Option<String>) -> Result<RunFingerprint> {
        Ok(RunFingerprint {
            settings: settings.to_toml(),
            images: data.training_digest()?,
            test: Some(data.test.digest()?),
            classes: Some(data.classes.join("\n")), // no name holds one
            pretrained,
            graph: None,
        })
    }

    /// Takes note of what a step computes, where the program has not this model or optimizer.
    pub fn with_graph(mut self, settings: &Settings, graph: &Graph) -> RunFingerprint {
        if !MODELS.contains(&settings.model) || !OPTIMIZERS.contains(&settings.optimizer) {
            self.graph = Some(hex(Sha256::new_with_prefix(graph.to_string())));
        }
        self
    }

    /// Checks that a run with this identity may go on from a checkpoint with that of `saved`.
    ///
    /// # Errors
    /// A usage error that names the settings that differ, with both values, or what else does.
    pub fn check(&self, saved: &RunFingerprint) -> Result<()> {
        check_same(&saved.settings, &self.settings)?;
        if saved.pretrained.is_some() && self.pretrained != saved.pretrained {
            let file = flat(&self.settings).remove("finetune.pretrained").unwrap_or_default();
            let advice = "put those back, give their place with `pretrained`, or start another run";
            let problem = "are not the weights that this run was begun with";
            return Err(Error::Usage(format!("{file}: these {problem}; {advice}")));
        }
        // The graph depends on the number of images.
        if self.images != saved.images {
            let problem = "the training images are not those that this run was begun with";
            return Err(Error::Usage(format!(
                "{problem}; give their place with `data`, or start another run"
            )));
        }
        if saved.graph.is_some() && self.graph != saved.graph {
            let problem = "the code of the model or the optimizer is not what this run was begun with";
            return Err(Error::Usage(format!("{problem}; train it in another folder")));
        }
        if saved.classes.is_some() && self.classes != saved.classes {
            return Err(Error::Usage(renamed(saved, self)));
        }
        Ok(())
    }

    /// Whether the test images are others than those of `saved`. That changes no weights, only what
    /// the run's accuracy means.
    pub fn has_other_test(&self, saved: &RunFingerprint) -> bool {
        saved.test.is_some() && self.test != saved.test
    }
}

/// Message where the same images have classes of other names, with the first that differs.
fn renamed(saved: &RunFingerprint, now: &RunFingerprint) -> String {
    let [was, is] =
        [saved, now].map(|fingerprint| fingerprint.classes.as_deref().unwrap_or_default().lines());
    let (was, is) = was.zip(is).find(|(was, is)| was != is).unwrap_or_default();
    let problem = format!("the class {was} of this run is called {is} in the data now");
    problem + "; give it its name again, or start another run"
}

/// The settings that may differ between a run and its continuation: where images and weights are
/// (their content is checked apart), which files are written besides, and how many epochs there
/// are. Whoever resumes checks that the schedule allows for those.
const FREE: [&str; 5] = ["data", "epochs", "keep_checkpoints", "tensorboard", "finetune.pretrained"];

/// Checks that two texts of settings say the same, but for the free ones.
///
/// # Errors
/// A usage error that names what differs, with both values.
pub fn check_same(begun: &str, now: &str) -> Result<()> {
    let differing = differences(begun, now);
    if differing.is_empty() {
        return Ok(());
    }
    let advice = "go on with its own settings, or start another run";
    Err(Error::Usage(format!("this run was begun with other settings: {}; {advice}", differing.join(", "))))
}

/// `NAME = OLD, now NEW`, for each setting that differs.
fn differences(old: &str, new: &str) -> Vec<String> {
    let (old, new) = (flat(old), flat(new));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let value = |settings: &BTreeMap<String, String>, name: &str| settings.get(name).cloned();
    // Where only the classifier is trained, all epochs are its own.
    let only_head = [&old, &new].map(|settings| value(settings, "finetune.unfreeze") == Some("0".into()));
    let is_free =
        |name: &str| FREE.contains(&name) || name == "finetune.head_epochs" && only_head == [true; 2];
    let differs = |name: &&String| !is_free(name) && value(&old, name) != value(&new, name);
    let shown = |settings, name: &str| value(settings, name).unwrap_or("unset".into());
    let line = |name: &String| format!("{name} = {}, now {}", shown(&old, name), shown(&new, name));
    names.into_iter().filter(differs).map(line).collect()
}

/// Settings by their full names, such as `finetune.unfreeze`. Those that an older version wrote are
/// as this one would write them.
fn flat(settings: &str) -> BTreeMap<String, String> {
    let rewritten = toml::from_str::<Settings>(settings).map(|settings| settings.to_toml());
    let table: toml::Table = rewritten.as_deref().unwrap_or(settings).parse().unwrap_or_default();
    let mut flat = BTreeMap::new();
    for (name, value) in table {
        match value {
            toml::Value::Table(inner) => {
                flat.extend(
                    inner.into_iter().map(|(key, value)| (format!("{name}.{key}"), value.to_string())),
                );
            }
            value => {
                flat.insert(name, value.to_string());
            }
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::metrics::Proof;

    fn fingerprint(settings: &str, images: &str) -> RunFingerprint {
        let (test, classes, pretrained) = (Some("t".into()), Some("cat\ndog".into()), Some("w".into()));
        let (settings, images, graph) = (settings.into(), images.into(), Some("g".into()));
        RunFingerprint { settings, images, test, classes, pretrained, graph }
    }

    fn checkpoint() -> Checkpoint {
        let row = EpochMetrics {
            epoch: 1,
            train_loss: 1.0 / 3.0,
            train_accuracy: 0.1 + 0.2,
            validation_loss: None,
            validation_accuracy: Some(0.7),
            rate: 1e-3,
            images_per_s: 1e4 / 3.0,
            seconds: 2.5,
            validation_images: 30,
            proof: Some(Proof { weights_sha256: "0f".into(), device: "cpu".into() }),
        };
        let totals = Totals { loss: 100.0 / 7.0, correct: 12.0, count: 64.0 };
        Checkpoint {
            fingerprint: fingerprint("seed = 1\n", "abc"),
            progress: Progress { step: 2, totals, history: vec![row], ..Progress::default() },
            states: [
                ("a.weight".to_string(), vec![0.1, -0.0, f32::MIN_POSITIVE]),
                ("b".into(), vec![3.0; 40]),
            ]
            .into(),
        }
    }

    #[test]
    fn every_bit_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        checkpoint().save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), checkpoint());
    }

    /// As earlier versions wrote them.
    #[test]
    fn checkpoints_with_a_sha_256_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        for format in OLD_FORMATS {
            checkpoint().save(&path).unwrap();
            let mut file = weights::load(&path).unwrap();
            file.metadata.remove("digest");
            file.metadata.insert("format".into(), format.into());
            for (digest, is_read) in
                [(weights::digest(&file).unwrap(), true), (weights::checksum(&file).unwrap(), false)]
            {
                let mut file = file.clone();
                file.metadata.insert("digest".into(), digest);
                weights::save(&path, &file).unwrap();
                assert_eq!(Checkpoint::load(&path).ok(), is_read.then(checkpoint), "{format}");
            }
        }
    }

    /// A flipped bit is refused, or lies where it means nothing (the padding of the header).
    #[test]
    fn no_damage_goes_unseen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        checkpoint().save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut refused = 0;
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bytes).unwrap();
            match Checkpoint::load(&path) {
                Ok(loaded) => assert_eq!(loaded, checkpoint(), "a wrong byte {at} was accepted"),
                Err(error) => {
                    assert!(error.to_string().contains("checkpoint.safetensors"), "{error}");
                    refused += 1;
                }
            }
        }
        assert!(refused > whole.len() - 16, "{refused} of {}", whole.len());
        for kept in (0..whole.len()).step_by(11) {
            std::fs::write(&path, &whole[..kept]).unwrap();
            assert!(Checkpoint::load(&path).is_err(), "{kept} bytes");
        }
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        let old = fingerprint("rate = 0.1\nseed = 1\nepochs = 5\n", "x");
        let same = fingerprint("epochs = 9\nseed = 1\nrate = 0.1\n", "x");
        same.check(&old).unwrap();
        let new = fingerprint("rate = 0.2\nema = 0.9\nseed = 1\n", "x");
        let message = new.check(&old).unwrap_err().to_string();
        assert!(message.contains("ema = unset, now 0.9, rate = 0.1, now 0.2;"), "{message}");
        let other = RunFingerprint { images: "y".into(), ..same.clone() };
        assert!(other.check(&old).unwrap_err().to_string().contains("images are not those"));
        let other = RunFingerprint {
            settings: format!("{}[finetune]\npretrained = \"p.safetensors\"\n", same.settings),
            pretrained: Some("v".into()),
            ..same.clone()
        };
        let message = other.check(&old).unwrap_err().to_string();
        assert!(message.contains("p.safetensors") && message.contains("not the weights"), "{message}");
        // What an older version did not save is not compared.
        other.check(&RunFingerprint { pretrained: None, test: None, classes: None, ..old.clone() }).unwrap();
        let other = RunFingerprint { classes: Some("cat\nfox".into()), ..same.clone() };
        let message = other.check(&old).unwrap_err().to_string();
        assert!(message.contains("the class dog of this run is called fox"), "{message}");
        let other = RunFingerprint { graph: Some("h".into()), ..same.clone() };
        assert!(other.check(&old).unwrap_err().to_string().contains("in another folder"));
        let other = RunFingerprint { test: Some("u".into()), ..same.clone() };
        assert!(other.has_other_test(&old) && !same.has_other_test(&old));
    }
}
