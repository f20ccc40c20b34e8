//! A trained model on a device: predicts, is measured, and shows its inside.

use std::path::{Path, PathBuf};

use ndarray::{Array3, Array4, ArrayBase, ArrayD, ArrayView3, Data as Stored, Ix4};
use rayon::prelude::*;

use crate::data::image_file::{load_image, square_image};
use crate::data::{Dataset, Images, read_class_names};
use crate::error::{Error, Result};
use crate::exec::{Device, device};
use crate::files::is_file;
use crate::graph::{Graph, Value};
use crate::inside;
use crate::models::LoadedModel;
use crate::models::pretrained::Attributes;
use crate::models::{Architecture, Network, Spec};
use crate::program::Program;
use crate::train::evaluate::{BATCH_SIZE, EvalOptions, Evaluation, Predictor};
use crate::train::optimizers::Optimizer;
use crate::train::run_folder::RunFolder;
use crate::train::schedules::Schedule;
use crate::train::settings::{Choices, Settings};
use crate::train::{self, Observer, Outcome, Unobserved, plans};

/// A trained model with its classes, on a device.
///
/// ```
/// use cifar_engine::prelude::*;
/// use ndarray::Array3;
///
/// let mut model = Model::builtin()?; // or Model::load("runs/mine"), a folder or a file
/// let grey = Array3::from_elem([48, 64, 3], 128); // or model.predict("cat.jpg")
/// let prediction = model.predict_pixels(grey.view())?;
/// let top = prediction.top(2);
/// assert!(top[0].1 >= top[1].1 && top[0].0 == prediction.class());
/// let image = model.input_pixels(grey.view())?;
/// let map = model.grad_cam(&image, "block1.gelu2", prediction.class())?;
/// assert_eq!(map.shape(), [1, 15, 15]); // where in the image the class is seen
/// # Ok::<(), Error>(())
/// ```
pub struct Model {
    trained: LoadedModel,
    device: Box<dyn Device>,
    predictor: Predictor,
}

/// How probable each class is for an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The names of the classes.
    pub classes: Vec<String>,
    /// Probability of each, in the same order; 1 together.
    pub probabilities: Vec<f32>,
}

impl Prediction {
    /// The most probable classes, with their probabilities, the first one first.
    pub fn top(&self, count: usize) -> Vec<(&str, f32)> {
        let classes = self.classes.iter().map(String::as_str);
        let mut ranked: Vec<(&str, f32)> = classes.zip(self.probabilities.iter().copied()).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked.truncate(count);
        ranked
    }

    /// The most probable class.
    pub fn class(&self) -> &str {
        self.top(1).first().map_or("", |(class, _)| class)
    }
}

impl Model {
    /// The model of a weights file, or the best one of a run folder, on the fastest real GPU or
    /// else the CPU ([`device::auto`]).
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or its tensors do not fit its model; if the device fails.
    pub fn load(path: impl AsRef<Path>) -> Result<Model> {
        Model::load_on(device::auto()?, path)
    }

    /// [`Model::load`] on a device of choice.
    ///
    /// # Errors
    /// As for [`Model::load`].
    pub fn load_on(device: Box<dyn Device>, path: impl AsRef<Path>) -> Result<Model> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() {
            return Err(Error::Usage("the path of the weights is empty".into()));
        }
        let weights = if path.is_dir() { path.join("best.safetensors") } else { path.to_path_buf() };
        if path.is_dir() && !is_file(&weights)? {
            return Err(Error::file(path, "is a folder without best.safetensors, not that of a run"));
        }
        Model::of(LoadedModel::open(&weights)?, device)
    }

    /// The model that is built into the program: a `fast` of CIFAR-10's classes.
    ///
    /// # Errors
    /// If the device fails.
    pub fn builtin() -> Result<Model> {
        Model::of(LoadedModel::built_in(&Attributes::default(), None)?, device::auto()?)
    }

    /// A loaded model on a device.
    ///
    /// # Errors
    /// If the device fails.
    pub fn of(trained: LoadedModel, mut device: Box<dyn Device>) -> Result<Model> {
        let options = EvalOptions { batch_size: 1, views: trained.spec.views };
        let predictor = trained.predictor(device.as_mut(), options)?;
        Ok(Model { trained, device, predictor })
    }

    /// Trains a model by the default recipe, but for what is chosen; returns the best one, and how
    /// it came about. The folder is that of a new run, or of one that is to go on; it gets the
    /// weights, the history and the report.
    ///
    /// ```
    /// use cifar_engine::prelude::*;
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let folder = folder.path().join("run");
    /// let data = Dataset::open("shapes")?.part(400);
    /// let choices = Choices::default().epochs(1).batch_size(50);
    /// let (model, outcome) = Model::train(data, &choices, folder)?;
    /// println!("{:.1} % of the test images are right", 100.0 * outcome.test.accuracy);
    /// # assert_eq!(model.spec().classes.len(), 10);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// If the choices do not suit each other, the data or the run; if a loss is not finite, or the
    /// folder cannot be written.
    pub fn train(data: Dataset, choices: &Choices, folder: impl Into<PathBuf>) -> Result<(Model, Outcome)> {
        Model::train_on(device::auto()?, data, choices, folder, &mut Unobserved)
    }

    /// [`Model::train`] on a device of choice, watched by an observer, which may stop it.
    ///
    /// # Errors
    /// As for [`Model::train`]; [`Error::Interrupted`] if the observer stops it.
    pub fn train_on(
        mut device: Box<dyn Device>,
        data: Dataset,
        choices: &Choices,
        folder: impl Into<PathBuf>,
        observer: &mut dyn Observer,
    ) -> Result<(Model, Outcome)> {
        let (run, settings) = run_of(&data, choices, folder.into(), observer)?;
        let outcome = train::train(device.as_mut(), &settings, data, &run, observer)?;
        Ok((Model::of(LoadedModel::open(&run.best())?, device)?, outcome))
    }

    /// The model for images of another size, if it suits any ([`Architecture::one_size`]).
    ///
    /// # Errors
    /// If it does not suit images of this size, or the device fails.
    pub fn sized(self, image_size: usize) -> Result<Model> {
        let Model { trained, mut device, predictor } = self;
        predictor.unload(device.as_mut())?;
        Model::of(trained.sized(image_size)?, device)
    }

    /// The model with names for its classes: the lines of a file, one for each.
    ///
    /// # Errors
    /// If the file cannot be read, or does not have as many lines as the model has classes; a
    /// first line 'background' may be too many.
    pub fn named(mut self, file: impl AsRef<Path>) -> Result<Model> {
        let classes = self.trained.spec.classes.len();
        self.trained.spec.classes = read_class_names(file.as_ref(), classes)?;
        Ok(self)
    }

    /// The model's description: architecture, classes, size and scaling of its images.
    pub fn spec(&self) -> &Spec {
        &self.trained.spec
    }

    /// The classes of an image file of any size and of any format that the program reads. Of one
    /// that is not square, the middle.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn predict(&mut self, image: impl AsRef<Path>) -> Result<Prediction> {
        let pixels = load_image(image.as_ref(), self.trained.spec.image_size)?;
        self.predict_bytes(pixels)
    }

    /// The classes of an image `[height, width, 3]` of 8-bit red, green and blue, of any size. Of
    /// one that is not square, the middle.
    ///
    /// # Errors
    /// If it has no pixels, or not three channels.
    pub fn predict_pixels(&mut self, pixels: ArrayView3<u8>) -> Result<Prediction> {
        let pixels = square_image(pixels, self.trained.spec.image_size)?;
        self.predict_bytes(pixels)
    }

    fn predict_bytes(&mut self, pixels: Vec<u8>) -> Result<Prediction> {
        let Spec { image_size: size, classes, .. } = &self.trained.spec;
        let images = Images { pixels: pixels.into(), labels: vec![0], size: *size, files: Vec::new() };
        let rows = self.predictor.predict(self.device.as_mut(), &images)?;
        let probabilities = rows.into_iter().next().unwrap_or_default();
        Ok(Prediction { classes: classes.clone(), probabilities })
    }

    /// The classes of many image files, in their order; faster than one by one.
    ///
    /// # Errors
    /// As for [`Model::predict`]; of several files that cannot be read, the first is told.
    pub fn predict_all(&mut self, images: &[impl AsRef<Path>]) -> Result<Vec<Prediction>> {
        let Spec { image_size: size, classes, .. } = &self.trained.spec;
        let (size, classes) = (*size, classes.clone());
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let paths: Vec<&Path> = images.iter().map(AsRef::as_ref).collect();
        let pixels: Vec<Result<Vec<u8>>> = paths.par_iter().map(|path| load_image(path, size)).collect();
        let pixels = pixels.into_iter().collect::<Result<Vec<_>>>()?.concat();
        let (pixels, labels) = (pixels.into(), vec![0; paths.len()]);
        let images = Images { pixels, labels, size, files: Vec::new() };
        let logits = self.evaluate(&images)?.logits;
        let calibration = self.trained.spec.calibration;
        let rows = logits.outer_iter().map(|row| calibration.probabilities(row));
        Ok(rows.map(|probabilities| Prediction { classes: classes.clone(), probabilities }).collect())
    }

    /// Accuracy, loss and logits on images of the model's size.
    ///
    /// # Errors
    /// If there are none, they are of another size, or a label is none of the model's classes.
    pub fn evaluate(&mut self, images: &Images) -> Result<Evaluation> {
        let size = self.trained.spec.image_size;
        if images.size != size {
            let problem = format!("the images have {} pixels a side, the model takes {size}", images.size);
            return Err(Error::Failed(problem));
        }
        let options = EvalOptions { batch_size: BATCH_SIZE, views: self.trained.spec.views };
        self.trained.evaluate(self.device.as_mut(), "evaluated", images, options, |_, _| true)
    }

    /// An image file as the model's graph takes it: `[1, size, size, 3]`, each channel scaled as in
    /// its training.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn input(&self, image: impl AsRef<Path>) -> Result<Array4<f32>> {
        self.input_bytes(load_image(image.as_ref(), self.trained.spec.image_size)?)
    }

    /// [`Model::input`] of an image as [`Model::predict_pixels`] takes it.
    ///
    /// # Errors
    /// If it has no pixels, or not three channels.
    pub fn input_pixels(&self, pixels: ArrayView3<u8>) -> Result<Array4<f32>> {
        self.input_bytes(square_image(pixels, self.trained.spec.image_size)?)
    }

    fn input_bytes(&self, pixels: Vec<u8>) -> Result<Array4<f32>> {
        let spec = &self.trained.spec;
        let size = spec.image_size;
        let image = Images { pixels: pixels.into(), labels: vec![0], size, files: Vec::new() };
        Ok(spec.scaled(image.array()?.view()))
    }

    /// Outputs of a layer, `[N, ..]`, for images `[N, size, size, 3]` as of [`Model::input`].
    ///
    /// # Errors
    /// If there is no such layer; names all. If the images have another size.
    pub fn activation<S>(&mut self, images: &ArrayBase<S, Ix4>, layer: &str) -> Result<ArrayD<f32>>
    where
        S: Stored<Elem = f32>,
    {
        inside::activation(&self.trained, self.device.as_mut(), images.view(), layer)
    }

    /// Grad-CAM: how much each place of a layer's output speaks for a class, `[N, height, width]`
    /// ([`inside::grad_cam`]), for images as of [`Model::input`].
    ///
    /// # Errors
    /// If there is no such layer, its outputs are no images, or not one class is called so.
    pub fn grad_cam<S>(&mut self, images: &ArrayBase<S, Ix4>, layer: &str, class: &str) -> Result<Array3<f32>>
    where
        S: Stored<Elem = f32>,
    {
        let classes = &self.trained.spec.classes;
        let places: Vec<usize> = (0..classes.len()).filter(|place| classes[*place] == class).collect();
        let class = match places[..] {
            [place] => place,
            [] => return Err(Error::op(class, "is no class of the model")),
            _ => return Err(Error::op(class, "is what several classes of the model are called")),
        };
        inside::grad_cam(&self.trained, self.device.as_mut(), images.view(), layer, class)
    }

    /// Adds the model, as it predicts by a single view, to a graph: `images` `[N, size, size, 3]`
    /// as of [`Model::input`].
    ///
    /// # Errors
    /// If `images` have another shape.
    pub fn build(&self, graph: &mut Graph, images: Value) -> Result<Network> {
        Network::of(&self.trained.spec, graph, images)
    }

    /// A graph with the model in it, on a device, with the model's weights.
    ///
    /// # Errors
    /// If there is too little memory, or the device cannot compute an op.
    pub fn program(&self, graph: &Graph, network: &Network, device: Box<dyn Device>) -> Result<Program> {
        let mut program = Program::new(graph, device)?;
        let values = self.trained.values(&network.parameters)?;
        let (device, plan) = program.device();
        plans::write_parameters(device, plan, &network.parameters, &values)?;
        Ok(program)
    }
}

/// The run in a folder that is to go on by these choices, or a new one.
fn run_of(
    data: &Dataset,
    choices: &Choices,
    folder: PathBuf,
    observer: &mut dyn Observer,
) -> Result<(RunFolder, Settings)> {
    if folder.as_os_str().is_empty() {
        return Err(Error::Usage("the folder of the run has no name".into()));
    }
    // A run that goes on is read from its files, which hold these names.
    choices.model.map_or(Ok(()), Architecture::register)?;
    choices.optimizer.map_or(Ok(()), Optimizer::register)?;
    choices.schedule.map_or(Ok(()), Schedule::register)?;
    if RunFolder::is_saved(&folder) {
        let (run, begun) = RunFolder::open(folder)?;
        let settings = choices.apply_to(&begun);
        settings.check()?;
        settings.check_resumes(&begun)?;
        return Ok((run, settings));
    }
    if data.train.is_empty() {
        return Err(Error::Failed("the data has no training images".into()));
    }
    let (size, mut settings) = (data.train.size, choices.settings());
    if choices.image_size.is_some_and(|chosen| chosen != size) {
        return Err(Error::Usage(format!("the images have {size} pixels a side, another size is chosen")));
    }
    settings.image_size = size;
    settings.check()?;
    for note in choices.resolve(&mut settings, data)? {
        observer.note(&format!("note: {note}"));
    }
    settings.check_against(data.training_len(settings.validation))?;
    let run = RunFolder::create(Some(folder), &settings, &data.name)?;
    Ok((run, settings))
}
