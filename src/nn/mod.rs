//! Layers: each adds its nodes to a graph and its parameters to a list.
//!
//! A model is a function that calls these in order ([`crate::models`]).

pub mod compose;
pub mod init;
mod layer;
mod parameter;
pub mod whitening;

use std::ops::Range;

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::ops::Function;
use crate::ops::conv::{Conv, Padding};
use crate::ops::linear::matmul::Matmul;
use crate::ops::map::dropout::Dropout;
use crate::ops::map::unary::Unary;
use crate::ops::movement::reshape::Reshape;
use crate::ops::norm::batch_norm::BatchNorm;
use crate::ops::norm::batch_norm_infer::BatchNormInfer;
use crate::ops::optim::moving_average::MovingAverage;
use crate::ops::pool::max_pool::MaxPool;
use crate::tensor::{Shape, TensorType};
use crate::weights::Layout;
pub use init::Init;
pub use layer::{Layer, value_of};
pub use parameter::{Parameter, Role};

/// Batch normalisation's constants.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Norm {
    /// Added to variances.
    pub epsilon: f32,
    /// Weight of the new batch in the running statistics (PyTorch's convention).
    pub momentum: f32,
}

/// PyTorch's constants.
impl Default for Norm {
    fn default() -> Self {
        Norm { epsilon: 1e-5, momentum: 0.1 }
    }
}

/// Purpose that a model is built for.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Batch statistics, dropout. `step` is the `u32 [1]` that dropout draws from.
    Train {
        /// The step, `u32 [1]`.
        step: Value,
        /// Seed of the masks.
        seed: u32,
    },
    /// Stored statistics, which stay as they are, and dropout: for fine-tuning on so few images
    /// that the statistics of a batch are mostly chance.
    Tune {
        /// The step, `u32 [1]`.
        step: Value,
        /// Seed of the masks.
        seed: u32,
    },
    /// Stored statistics, no dropout.
    Infer,
}

/// Settings of a model that matter in training only.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Training {
    /// Rate of the dropout before the classifier.
    pub dropout: f32,
    /// Whether the classifier's weights begin at zero. Random logits are at first worse than none,
    /// and the gradient they send back can switch off the layer before for good.
    pub zero_classifier: bool,
}

/// All units of any model.
pub const WHOLE: Range<usize> = 0..usize::MAX;

/// Builds a model, or some of its units, into a graph.
pub struct Builder<'g> {
    /// The graph that is built into.
    pub graph: &'g mut Graph,
    mode: Mode,
    norm: Norm,
    /// Parameters so far, in the order of their layers.
    pub parameters: Vec<Parameter>,
    /// Layers so far, in order.
    pub layers: Vec<Layer>,
    dropouts: u32,
    /// The units that the model has declared so far, built or not.
    pub units: Vec<String>,
    /// The units to build.
    part: Range<usize>,
    in_unit: bool,
    /// How convolutions' weights begin, by the side of their window, and the channels that go in
    /// and come out.
    pub convolution_init: fn(kernel: usize, inputs: usize, outputs: usize) -> Init,
}

impl<'g> Builder<'g> {
    /// A builder of a whole model.
    pub fn new(graph: &'g mut Graph, mode: Mode, norm: Norm) -> Self {
        let (parameters, layers, units) = (Vec::new(), Vec::new(), Vec::new());
        Builder {
            graph,
            mode,
            norm,
            parameters,
            layers,
            dropouts: 0,
            units,
            part: WHOLE,
            in_unit: false,
            convolution_init: Init::glorot_uniform,
        }
    }

    /// Builds these units only: the output of the unit before them is what the model is to be
    /// given.
    pub fn only(self, part: Range<usize>) -> Self {
        Builder { part, ..self }
    }

    /// A unit of the model: between two of them it can be cut in two, and one after the other they
    /// are frozen and trained. Each takes the output of the one before, and every layer lies in
    /// one.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn unit(
        &mut self,
        name: &str,
        x: Value,
        build: impl FnOnce(&mut Self, Value) -> Result<Value>,
    ) -> Result<Value> {
        let number = self.units.len();
        self.units.push(name.to_string());
        if !self.part.contains(&number) {
            return Ok(x);
        }
        self.in_unit = true;
        let y = build(self, x);
        self.in_unit = false;
        y
    }

    /// Checks that normalisations gather the statistics that they are to have after a training.
    ///
    /// # Errors
    /// If they were built as for predictions.
    pub(crate) fn check_learns(&self) -> Result<()> {
        let norm = self.layers.iter().find(|layer| layer.kind == "batch_norm");
        match (self.mode, norm) {
            (Mode::Infer, Some(norm)) => {
                let problem = "keeps the statistics it begins with in Mode::Infer; build it in Mode::Train";
                Err(Error::op(format!("batch_norm '{}'", norm.name), problem))
            }
            _ => Ok(()),
        }
    }

    /// Whether the last of the units declared is one of those that are built.
    pub(crate) fn builds_last(&self) -> bool {
        self.part.contains(&self.units.len().saturating_sub(1))
    }

    fn parameter(
        &mut self,
        name: String,
        shape: impl Into<Shape>,
        layout: Layout,
        init: Init,
    ) -> Result<Value> {
        let shape = shape.into();
        let value = self.graph.state(&name, TensorType::f32(shape.clone()))?;
        let role = if shape.dims().len() > 1 { Role::Weight } else { Role::Bias };
        self.parameters.push(Parameter { name, value, shape, layout, init, role, classifier: false });
        Ok(value)
    }

    /// A parameter that no gradient moves.
    fn fixed(&mut self, name: String, shape: impl Into<Shape>, layout: Layout, init: Init) -> Result<Value> {
        let value = self.parameter(name, shape, layout, init)?;
        if let Some(parameter) = self.parameters.last_mut() {
            parameter.role = Role::Fixed;
        }
        Ok(value)
    }

    fn statistic(&mut self, name: String, channels: usize, start: f32) -> Result<Value> {
        self.fixed(name, [channels], Layout::AsIs, Init::Constant(start))
    }

    /// A layer of one's own: its nodes, and its line of the table, in which `kind` says what it is.
    ///
    /// # Errors
    /// Those of `build`; if another layer has the name, or it lies in no unit of a model that is
    /// built in parts.
    pub fn layer(
        &mut self,
        name: &str,
        kind: &'static str,
        build: impl FnOnce(&mut Self) -> Result<Value>,
    ) -> Result<Value> {
        self.layer_of_window(name, kind, None, build)
    }

    /// [`Builder::layer`] with a window of some side and stride.
    fn layer_of_window(
        &mut self,
        name: &str,
        kind: &'static str,
        window: Option<(usize, usize)>,
        build: impl FnOnce(&mut Self) -> Result<Value>,
    ) -> Result<Value> {
        if self.part != WHOLE && !self.in_unit {
            let problem = format!("layer '{name}' lies in no unit of its model, which cannot be cut then");
            return Err(Error::Failed(problem));
        }
        if self.layers.iter().any(|layer| layer.name == name) {
            return Err(Error::op(name, "is the name of two layers of the model"));
        }
        let before = self.parameters.len();
        self.graph.set_layer(name);
        let y = build(self);
        self.graph.set_layer("");
        let y = y?;
        let parameters = self.parameters[before..].iter().map(|p| p.shape.len()).sum();
        let output = self.graph.ty(y).shape.clone();
        self.layers.push(Layer { name: name.to_string(), kind, window, output, value: y, parameters });
        Ok(y)
    }

    /// A convolution with bias: x `[N, H, W, C]` to `[N, P, Q, channels]`.
    pub fn conv2d(
        &mut self,
        name: &str,
        x: Value,
        channels: usize,
        kernel: usize,
        stride: usize,
        padding: Padding,
    ) -> Result<Value> {
        self.layer_of_window(name, "conv2d", Some((kernel, stride)), |b| {
            let w = b.conv2d_weight(name, x, channels, kernel)?;
            let bias = b.parameter(format!("{name}.bias"), [channels], Layout::AsIs, Init::Constant(0.0))?;
            b.graph.apply1(Conv::new(stride, padding, 1).with_bias(), &[x, w, bias])
        })
    }

    /// [`Builder::conv2d`] without the bias, which a batch normalisation after it would take away
    /// again.
    pub fn conv2d_unbiased(
        &mut self,
        name: &str,
        x: Value,
        channels: usize,
        kernel: usize,
        stride: usize,
        padding: Padding,
    ) -> Result<Value> {
        self.layer_of_window(name, "conv2d", Some((kernel, stride)), |b| {
            let w = b.conv2d_weight(name, x, channels, kernel)?;
            b.graph.apply1(Conv::new(stride, padding, 1), &[x, w])
        })
    }

    /// Size of the last dimension of an operand.
    fn channels(&self, x: Value) -> Result<usize> {
        self.graph.check_own(x, "the input of a layer")?;
        Ok(self.graph.ty(x).shape.last())
    }

    fn conv2d_weight(&mut self, name: &str, x: Value, channels: usize, kernel: usize) -> Result<Value> {
        let depth = self.channels(x)?;
        let init = (self.convolution_init)(kernel, depth, channels);
        self.parameter(format!("{name}.weight"), [kernel, kernel, depth, channels], Layout::Convolution, init)
    }

    /// A convolution whose weights whiten the patches of the images that the model is to learn
    /// ([`whitening`]), and stay as they are; its bias learns as a training begins. x `[N, H, W,
    /// 3]` to `[N, H - kernel + 1, W - kernel + 1, channels]`.
    pub fn whitening(&mut self, name: &str, x: Value, kernel: usize) -> Result<Value> {
        self.layer_of_window(name, "whitening", Some((kernel, 1)), |b| {
            let (depth, channels) = (b.channels(x)?, whitening::filter_count(kernel));
            let (shape, init) = ([kernel, kernel, depth, channels], Init::Whitening { kernel });
            let w = b.fixed(format!("{name}.weight"), shape, Layout::Convolution, init)?;
            let init = Init::of_fan_in(kernel * kernel * depth);
            let bias = b.parameter(format!("{name}.bias"), [channels], Layout::AsIs, init)?;
            b.parameters.last_mut().into_iter().for_each(|bias| bias.role = Role::StemBias);
            b.graph.apply1(Conv::new(1, Padding::Symmetric(0), 1).with_bias(), &[x, w, bias])
        })
    }

    /// A depthwise convolution without bias: x `[N, H, W, C]` to `[N, P, Q, C]`.
    pub fn depthwise_conv2d(
        &mut self,
        name: &str,
        x: Value,
        kernel: usize,
        stride: usize,
        padding: Padding,
    ) -> Result<Value> {
        self.layer_of_window(name, "depthwise", Some((kernel, stride)), |b| {
            let channels = b.channels(x)?;
            let init = Init::GlorotUniform { fan_in: kernel * kernel, fan_out: kernel * kernel };
            let shape = [kernel, kernel, 1, channels];
            let w = b.parameter(format!("{name}.weight"), shape, Layout::Convolution, init)?;
            b.graph.apply1(Conv::new(stride, padding, channels), &[x, w])
        })
    }

    /// Batch normalisation over all dimensions but the last.
    pub fn batch_norm(&mut self, name: &str, x: Value) -> Result<Value> {
        self.batch_norm_of(name, x, Role::Bias)
    }

    /// [`Builder::batch_norm`] whose scale stays 1.
    pub fn unscaled_batch_norm(&mut self, name: &str, x: Value) -> Result<Value> {
        self.batch_norm_of(name, x, Role::Fixed)
    }

    /// Batch normalisation whose scale is of this role.
    fn batch_norm_of(&mut self, name: &str, x: Value, scale: Role) -> Result<Value> {
        self.layer(name, "batch_norm", |b| {
            let channels = b.channels(x)?;
            let Norm { epsilon, momentum } = b.norm;
            let activation = None;
            let gamma =
                b.parameter(format!("{name}.weight"), [channels], Layout::AsIs, Init::Constant(1.0))?;
            b.parameters.last_mut().into_iter().for_each(|gamma| gamma.role = scale);
            let beta = b.parameter(format!("{name}.bias"), [channels], Layout::AsIs, Init::Constant(0.0))?;
            let mean = b.statistic(format!("{name}.running_mean"), channels, 0.0)?;
            let variance = b.statistic(format!("{name}.running_var"), channels, 1.0)?;
            if let Mode::Tune { .. } | Mode::Infer = b.mode {
                let inputs = [x, gamma, beta, mean, variance];
                return b.graph.apply1(BatchNormInfer { epsilon, residual: false, activation }, &inputs);
            }
            let outputs = b.graph.apply(BatchNorm { epsilon, activation }, &[x, gamma, beta])?;
            let rows = (b.graph.ty(x).len() / channels) as f32;
            let unbiased = if rows > 1.0 { rows / (rows - 1.0) } else { 1.0 };
            for (running, batch, scale) in [(mean, outputs[1], 1.0), (variance, outputs[2], unbiased)] {
                let new = b.graph.apply1(MovingAverage { momentum, scale }, &[running, batch])?;
                b.graph.update(running, new)?;
            }
            Ok(outputs[0])
        })
    }

    /// `max(x, 0)`, of any shape.
    ///
    /// # Errors
    /// As for [`Builder::layer`].
    pub fn relu(&mut self, name: &str, x: Value) -> Result<Value> {
        self.layer(name, "relu", |b| b.graph.apply1(Unary { function: Function::Relu }, &[x]))
    }

    /// `min(max(x, 0), 6)`, of any shape.
    ///
    /// # Errors
    /// As for [`Builder::layer`].
    pub fn relu6(&mut self, name: &str, x: Value) -> Result<Value> {
        self.layer(name, "relu6", |b| b.graph.apply1(Unary { function: Function::Relu6 }, &[x]))
    }

    /// GELU, by the error function, of every element.
    pub fn gelu(&mut self, name: &str, x: Value) -> Result<Value> {
        self.layer(name, "gelu", |b| b.graph.apply1(Unary { function: Function::Gelu }, &[x]))
    }

    /// A function of every element.
    ///
    /// # Errors
    /// As for [`Builder::layer`].
    pub fn map(&mut self, name: &str, function: Function, x: Value) -> Result<Value> {
        self.layer(name, function.name(), |b| b.graph.map(function, x))
    }

    /// `x + y`, of one shape.
    pub fn add(&mut self, name: &str, x: Value, y: Value) -> Result<Value> {
        self.layer(name, "add", |b| b.graph.add(x, y))
    }

    /// The mean over all pixels: `[N, H, W, C]` to `[N, C]`.
    pub fn global_average_pool(&mut self, name: &str, x: Value) -> Result<Value> {
        self.layer(name, "average", |b| b.graph.mean(x, 1..3))
    }

    /// Max pooling of windows side by side.
    pub fn max_pool(&mut self, name: &str, x: Value, window: usize) -> Result<Value> {
        self.max_pool_of(name, x, MaxPool::side_by_side(window))
    }

    /// Max pooling of windows that may overlap each other and the borders.
    pub fn max_pool_of(&mut self, name: &str, x: Value, pool: MaxPool) -> Result<Value> {
        let MaxPool { window, stride, .. } = pool;
        self.layer_of_window(name, "max_pool", Some((window, stride)), |b| b.graph.apply1(pool, &[x]))
    }

    /// `[N, ...]` to `[N, features]`.
    pub fn flatten(&mut self, name: &str, x: Value) -> Result<Value> {
        self.layer(name, "flatten", |b| {
            b.graph.check_own(x, "the input of a layer")?;
            match *b.graph.dims(x) {
                [batch, ref rest @ ..] if batch > 0 => {
                    let shape = [batch, rest.iter().product()].into();
                    b.graph.apply1(Reshape { shape }, &[x])
                }
                _ => Err(Error::op(format!("flatten '{name}'"), format!("takes no {}", b.graph.ty(x)))),
            }
        })
    }

    /// A dense layer: `[N, features]` to `[N, outputs]`. `layout` says how its weights are laid out
    /// on disk.
    pub fn dense(&mut self, name: &str, x: Value, outputs: usize, layout: Layout) -> Result<Value> {
        let fan_in = self.channels(x)?;
        self.dense_from(name, x, outputs, layout, Init::GlorotUniform { fan_in, fan_out: outputs })
    }

    /// The last unit: dropout, and the dense layer that tells the classes, whose weights may begin
    /// at zero. Fine-tuning begins it anew.
    pub fn classifier(&mut self, name: &str, x: Value, classes: usize, training: Training) -> Result<Value> {
        self.unit(name, x, |b, x| {
            let x = b.dropout("dropout", x, training.dropout)?;
            let before = b.parameters.len();
            let logits = match training.zero_classifier {
                true => b.dense_from(name, x, classes, Layout::Dense, Init::Constant(0.0))?,
                false => b.dense(name, x, classes, Layout::Dense)?,
            };
            b.parameters[before..].iter_mut().for_each(|parameter| parameter.classifier = true);
            Ok(logits)
        })
    }

    /// [`Builder::classifier`] whose dense layer has no bias and begins by `init`, unless at zero.
    pub fn unbiased_classifier(
        &mut self,
        name: &str,
        x: Value,
        classes: usize,
        training: Training,
        init: Init,
    ) -> Result<Value> {
        self.unit(name, x, |b, x| {
            let x = b.dropout("dropout", x, training.dropout)?;
            let init = if training.zero_classifier { Init::Constant(0.0) } else { init };
            b.layer(name, "dense", |b| {
                let shape = [b.channels(x)?, classes];
                let w = b.parameter(format!("{name}.weight"), shape, Layout::Dense, init)?;
                b.parameters.last_mut().into_iter().for_each(|weight| weight.classifier = true);
                b.graph.apply1(Matmul::default(), &[x, w])
            })
        })
    }

    fn dense_from(
        &mut self,
        name: &str,
        x: Value,
        outputs: usize,
        layout: Layout,
        init: Init,
    ) -> Result<Value> {
        self.layer(name, "dense", |b| {
            let inputs = b.channels(x)?;
            if !matches!(layout, Layout::Dense | Layout::DenseAfterFlatten { .. }) {
                return Err(Error::op(
                    format!("dense '{name}'"),
                    format!("has no layout {layout:?} on disk"),
                ));
            }
            let w = b.parameter(format!("{name}.weight"), [inputs, outputs], layout, init)?;
            let bias = b.parameter(format!("{name}.bias"), [outputs], Layout::AsIs, Init::Constant(0.0))?;
            b.graph.apply1(Matmul::default(), &[x, w, bias])
        })
    }

    /// Dropout in training, nothing in inference.
    pub fn dropout(&mut self, name: &str, x: Value, rate: f32) -> Result<Value> {
        let (Mode::Train { step, seed } | Mode::Tune { step, seed }) = self.mode else { return Ok(x) };
        let seed = seed.wrapping_add(self.dropouts);
        self.dropouts += 1;
        self.layer(name, "dropout", |b| b.graph.apply1(Dropout { rate, seed }, &[x, step]))
    }
}
