//! Outputs of the frozen part of a model (features): computed once for every image, instead of in
//! every epoch.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::plans::{self, write_record};
use crate::data::Images;
use crate::data::images::{mirror, shift};
use crate::error::{Error, Result};
use crate::exec::{Device, PlanId};
use crate::files::{advice, open_plain};
use crate::memory;
use crate::models::{Spec, View};
use crate::ops::augment::{Augment, EMPTY};
use crate::ops::loss::softmax_cross_entropy::IGNORE;
use crate::team::Team;
use crate::tensor::Shape;

/// Images a step of the computation.
const BATCH_SIZE: usize = 64;

/// Up to this size features are kept in memory, if there is twice as much; beyond it in a file.
const MOST_IN_MEMORY: usize = 3 << 30;
/// The same for features of images that are in a file: they are not to fill what these leave.
const MOST_BESIDE_FILE: usize = 256 << 20;

/// Inputs of a plan in addition to step and rates.
pub enum BatchSource {
    /// It finds the images by their `indices` itself.
    Images,
    /// Of the images in a file those of the batch, beside their `indices`.
    Streamed(Streamed),
    /// Rows of `features`, and `labels`.
    Features(Features),
}

/// Images in a file, a batch at a time.
pub struct Streamed {
    images: Images,
    /// The view of them that is shown, if not themselves.
    view: Option<View>,
}

impl BatchSource {
    /// That of plans which take this set ([`plans::ImageSet`]).
    pub fn of(images: &Images) -> BatchSource {
        BatchSource::seen(images, None)
    }

    /// [`BatchSource::of`] by a view of the images; of those in memory it is for the caller to
    /// upload.
    pub(super) fn seen(images: &Images, view: Option<View>) -> BatchSource {
        match images.is_in_file() {
            true => BatchSource::Streamed(Streamed { images: images.without_files(), view }),
            false => BatchSource::Images,
        }
    }

    /// Writes a plan's inputs for the images `indices`; one that is [`EMPTY`] is an empty place.
    /// Epochs take turns with the augmented copies.
    ///
    /// # Errors
    /// If the plan has other inputs, or a file of images or features cannot be read.
    pub fn write(&self, device: &mut dyn Device, plan: PlanId, indices: &[u32], epoch: usize) -> Result<()> {
        let features = match self {
            BatchSource::Images => return device.write(plan, "indices", indices.into()),
            BatchSource::Streamed(images) => return images.write(device, plan, indices),
            BatchSource::Features(features) => features,
        };
        let (images, len) = (features.labels.len(), features.shape.len());
        let mut rows = vec![0.0; indices.len() * len];
        let mut labels = vec![IGNORE; indices.len()];
        for ((&index, row), label) in indices.iter().zip(rows.chunks_exact_mut(len)).zip(&mut labels) {
            if let Some(&known) = features.labels.get(index as usize) {
                *label = known;
                features.store.read((epoch % features.copies * images + index as usize) * len, row)?;
            }
        }
        device.write(plan, "features", rows.as_slice().into())?;
        device.write(plan, "labels", labels.as_slice().into())
    }
}

impl Streamed {
    fn write(&self, device: &mut dyn Device, plan: PlanId, indices: &[u32]) -> Result<()> {
        let (stride, record) = (self.images.stride(), Augment::record(self.images.size));
        let mut words = vec![0; indices.len() * record];
        let mut labels = vec![IGNORE; indices.len()];
        for ((&index, words), label) in indices.iter().zip(words.chunks_exact_mut(record)).zip(&mut labels) {
            if let Some(&known) = self.images.labels.get(index as usize) {
                *label = known;
                write_record(words, stride, |pixels| self.read(index as usize, pixels))?;
            }
        }
        device.write(plan, "images", words.as_slice().into())?;
        device.write(plan, "labels", labels.as_slice().into())?;
        device.write(plan, "indices", indices.into())
    }

    /// An image as the view shows it.
    fn read(&self, i: usize, pixels: &mut [u8]) -> Result<()> {
        let size = self.images.size;
        self.images.read(i, pixels)?;
        let Some(view) = &self.view else { return Ok(()) };
        if view.by != 0 {
            let itself = pixels.to_vec();
            shift(&itself, size, view.by, pixels);
        }
        if view.mirrored {
            mirror(pixels, size);
        }
        Ok(())
    }
}

/// The features of a set of images.
pub struct Features {
    store: Store,
    /// Shape of one image's features.
    shape: Shape,
    labels: Vec<u32>,
    copies: usize,
}

/// Features that are to be computed.
pub struct FeatureJob<'a> {
    /// A plan that has the model's parameters.
    pub beside: PlanId,
    /// The device's name for the images.
    pub name: &'a str,
    /// The images.
    pub images: &'a Images,
    /// What is done to the images first.
    pub augment: Augment,
    /// How often every image is computed, each time augmented otherwise.
    pub copies: usize,
    /// The model's units before this one are computed.
    pub until: usize,
    /// Where a file may be put that is too large for memory.
    pub folder: &'a Path,
    /// The processes that share the batches; each has all features afterwards.
    pub team: &'a Team,
}

impl Features {
    /// Computes the features by the parameters of the plan `beside`.
    ///
    /// # Errors
    /// If the image size does not suit the model, memory or disk do not suffice, or `goes_on` says
    /// no, which is asked before each batch with how many are done, of how many:
    /// [`Error::Interrupted`].
    pub fn compute(
        device: &mut dyn Device,
        spec: &Spec,
        job: &FeatureJob,
        mut goes_on: impl FnMut(usize, usize) -> bool,
    ) -> Result<Features> {
        let FeatureJob { beside, name, images, augment, copies, until, folder, team } = *job;
        let batch_size = BATCH_SIZE.min(images.len());
        let batches = images.len().div_ceil(batch_size);
        // A copy is an epoch.
        let augment = Augment { epoch_steps: batches, ..augment };
        let graph = plans::features(spec, augment, (name, images), batch_size, until)?;
        let shape = Shape::from(&graph.dims(graph.outputs()[0].1)[1..]);
        let plan = device.load_beside(beside, &graph)?;
        plans::upload(device, plan, name, images)?;
        let source = BatchSource::of(images);
        let most = if images.is_in_file() { MOST_BESIDE_FILE } else { MOST_IN_MEMORY };
        let mut store = Store::new(copies * images.len() * shape.len(), most, folder, name)?;
        for copy in 0..copies {
            // All are asked before each round of a batch for each of them.
            for round in (0..batches).step_by(team.size()) {
                let (step, mut own) = (copy * batches + round + team.rank(), Vec::new());
                if !goes_on(copy * batches + round, copies * batches) {
                    return Err(Error::Interrupted);
                }
                let first = (round + team.rank()) * batch_size;
                if first < images.len() {
                    let used = batch_size.min(images.len() - first);
                    let index = |i: usize| if i < used { (first + i) as u32 } else { EMPTY };
                    let indices: Vec<u32> = (0..batch_size).map(index).collect();
                    source.write(device, plan, &indices, 0)?;
                    device.write(plan, "step", [step as u32].as_slice().into())?;
                    device.run(plan)?;
                    own = device.read(plan, "features")?;
                    own.truncate(used * shape.len());
                }
                team.gather_numbers(own)?.iter().try_for_each(|part| store.append(part))?;
            }
        }
        device.unload(plan)?;
        Ok(Features { store, shape, labels: images.labels.clone(), copies })
    }

    /// Shape of one image's features.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// How often there is every image, each time augmented otherwise.
    pub fn copies(&self) -> usize {
        self.copies
    }

    /// All of them, `[copies, images, ..]`.
    ///
    /// # Errors
    /// If a file of features cannot be read.
    pub fn rows(&self) -> Result<Vec<f32>> {
        let mut rows = vec![0.0; self.copies * self.labels.len() * self.shape.len()];
        self.store.read(0, &mut rows)?;
        Ok(rows)
    }

    /// Labels of the images, in their order.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }
}

/// Numbers that are written once, in order, and then read anywhere.
enum Store {
    Memory(Vec<f32>),
    /// Deleted when it is dropped.
    File {
        path: PathBuf,
        file: Mutex<File>,
    },
}

impl Store {
    fn new(len: usize, most: usize, folder: &Path, name: &str) -> Result<Store> {
        // The epochs need memory too.
        let room = memory::available().map_or(usize::MAX, |free| free / 2);
        let mut values = Vec::new();
        if 4 * len <= most.min(room) && values.try_reserve_exact(len).is_ok() {
            return Ok(Store::Memory(values));
        }
        Store::file(folder.join(format!("{name}-features.tmp")))
    }

    /// An empty file, which goes with its owner: even with one that is killed, where a file can
    /// lose its name while it is open.
    fn file(path: PathBuf) -> Result<Store> {
        let opened = open_plain(&path).and_then(|file| file.set_len(0).map(|()| file));
        let file = opened.map_err(|error| Error::file(&path, advice(&error)))?;
        if cfg!(unix) {
            let _ = std::fs::remove_file(&path);
        }
        Ok(Store::File { path, file: Mutex::new(file) })
    }

    fn append(&mut self, values: &[f32]) -> Result<()> {
        match self {
            Store::Memory(all) => all.extend_from_slice(values),
            Store::File { path, file } => {
                let file = file.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
                let written = file.write_all(bytemuck::cast_slice(values));
                written.map_err(|error| Error::file(path, advice(&error)))?;
            }
        }
        Ok(())
    }

    /// Reads what was written from `at` on.
    fn read(&self, at: usize, to: &mut [f32]) -> Result<()> {
        match self {
            Store::Memory(all) => to.copy_from_slice(&all[at..at + to.len()]),
            Store::File { path, file } => {
                let mut file = file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                let sought = file.seek(SeekFrom::Start(4 * at as u64));
                let read = sought.and_then(|_| file.read_exact(bytemuck::cast_slice_mut(to)));
                read.map_err(|error| Error::file(path, format!("cannot be read: {error}")))?;
            }
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Store::File { path, .. } = self {
            // Where it still has a name. If this fails, it is in nobody's way, and the next run
            // takes its place.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_what_memory_holds_and_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tmp");
        std::fs::write(&path, "what a killed run left").unwrap();
        let mut stores = [Store::Memory(Vec::new()), Store::file(path.clone()).unwrap()];
        for store in &mut stores {
            store.append(&[1.0, -2.5, 3.0]).unwrap();
            store.append(&[4.0, 0.1]).unwrap();
            let mut found = [0.0; 3];
            store.read(2, &mut found).unwrap();
            assert_eq!(found, [3.0, 4.0, 0.1]);
        }
        assert_eq!(path.exists(), !cfg!(unix), "it goes even with a process that is killed");
        drop(stores);
        assert!(!path.exists());
    }
}
