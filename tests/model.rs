//! Models as a program of a user's own has them: trained, gone on with, loaded, asked, taken apart;
//! with architectures and optimizers that this crate does not have.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use cifar_engine::exec::cpu::Cpu;
use cifar_engine::kernels::simd::Isa;
use cifar_engine::models::LoadedModel;
use cifar_engine::models::Views;
use cifar_engine::models::pretrained::Attributes;
use cifar_engine::prelude::*;
use common::program::{Bench, json};
use common::stopped::Stopped;
use image::{Rgb, RgbImage};
use ndarray::{Array3, Array4, ArrayView3, Axis, Ix4, arr1, arr2, concatenate, s};

/// Two layers, so small that an epoch is over at once.
fn small(b: &mut Builder, x: Value, config: &Config) -> Result<Value> {
    let x = b.unit("stem", x, |b, x| {
        let x = b.conv2d_unbiased("conv", x, 8, 3, 4, Padding::Same)?;
        let x = b.batch_norm("norm", x)?;
        b.relu("relu", x)
    })?;
    let x = b.unit("average", x, |b, x| b.global_average_pool("average", x))?;
    b.classifier("fc", x, config.classes, config.training)
}

/// w := w - rate (0.5 m + dw), m := 0.5 m + dw.
fn heavy(g: &mut Graph, step: &ParameterStep) -> Result<()> {
    let (w, m) = (step.parameter.value, step.state(g, "weight")?);
    let half = g.scale(m, 0.5)?;
    let next = g.add(half, step.gradient)?;
    let change = g.mul(next, step.rate)?;
    let moved = g.sub(w, change)?;
    g.update(m, next)?;
    g.update(w, moved)
}

static SMALL: Architecture = Architecture::new("small", small);
static HEAVY: Optimizer = Optimizer::new("heavy", 0.1, "weight", heavy);

fn cpu() -> Box<dyn Device> {
    Box::new(Cpu::new(2, Isa::detect()).unwrap())
}

fn data() -> Dataset {
    Dataset::open("shapes").unwrap().part(300)
}

fn choices() -> Choices {
    Choices::default().model(&SMALL).optimizer(&HEAVY).epochs(3).batch_size(50).validation(40)
}

fn bytes(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("last.safetensors")).unwrap()
}

/// An architecture and an optimizer of one's own are trained, interrupted, gone on with, saved and
/// measured, to the same bits as without the interruption.
#[test]
fn own_models_and_optimizers_are_as_good_as_built_in_ones() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    let (mut model, outcome) = Model::train(data(), &choices(), &whole).unwrap();
    assert_eq!(outcome.history.len(), 3);
    assert_eq!(model.spec().architecture.name, "small");
    let accuracy = model.evaluate(&data().test).unwrap().accuracy;
    assert_eq!(accuracy, outcome.test.accuracy);

    let stopped = Model::train_on(cpu(), data(), &choices(), &parts, &mut Stopped(8));
    assert!(matches!(stopped.err(), Some(Error::Interrupted)));
    let (_, resumed) = Model::train(data(), &choices(), &parts).unwrap();
    assert_eq!(resumed.test.accuracy, outcome.test.accuracy);
    assert_eq!(bytes(&parts), bytes(&whole));
    let other = Model::train(data(), &choices().seed(1), &parts).err().unwrap().to_string();
    assert!(other.contains("seed = 0, now 1"), "{other}");

    for path in [whole.clone(), whole.join("best.safetensors")] {
        let mut loaded = Model::load_on(cpu(), path).unwrap();
        assert_eq!(loaded.evaluate(&data().test).unwrap().accuracy, accuracy);
    }
    let empty = Model::load_on(cpu(), folder.path()).err().unwrap().to_string();
    assert!(empty.contains("without best.safetensors"), "{empty}");

    // The program itself does not have this model, and says whose it is.
    let message = Bench::new().run(&format!("evaluate {} --data shapes", whole.display()));
    let message = String::from_utf8(message.stderr).unwrap();
    assert!(message.contains("a model 'small', which only the program that trained it knows"), "{message}");
}

/// `small`, without its activation.
fn straight(b: &mut Builder, x: Value, config: &Config) -> Result<Value> {
    let x = b.unit("stem", x, |b, x| b.conv2d_unbiased("conv", x, 8, 3, 4, Padding::Same))?;
    let x = b.unit("average", x, |b, x| b.global_average_pool("average", x))?;
    b.classifier("fc", x, config.classes, config.training)
}

/// A run that is gone on with by other code under the same name would be a mixture of two.
#[test]
fn a_run_goes_on_with_its_own_code_only() {
    static OTHER_CODE: AtomicBool = AtomicBool::new(false);
    static ONE: Architecture = Architecture::new("one of two", |b, x, config| {
        if OTHER_CODE.load(Ordering::Relaxed) {
            return straight(b, x, config);
        }
        let x = b.unit("stem", x, |b, x| {
            let x = b.conv2d_unbiased("conv", x, 8, 3, 4, Padding::Same)?;
            b.relu("relu", x)
        })?;
        let x = b.unit("average", x, |b, x| b.global_average_pool("average", x))?;
        b.classifier("fc", x, config.classes, config.training)
    });
    let folder = tempfile::tempdir().unwrap();
    let choices = choices().model(&ONE);
    let stopped = Model::train_on(cpu(), data(), &choices, folder.path(), &mut Stopped(7));
    assert!(matches!(stopped.err(), Some(Error::Interrupted)));
    OTHER_CODE.store(true, Ordering::Relaxed);
    let message = Model::train(data(), &choices, folder.path()).err().unwrap().to_string();
    OTHER_CODE.store(false, Ordering::Relaxed);
    assert!(message.contains("the code of the model or the optimizer is not"), "{message}");
    Model::train(data(), &choices, folder.path()).unwrap();
}

#[test]
fn what_would_be_noticed_late_or_never_is_told_at_once() {
    static MORE: Architecture = Architecture::new("more", |b, x, config| {
        let x = b.unit("average", x, |b, x| b.global_average_pool("average", x))?;
        b.classifier("fc", x, config.classes + 3, config.training)
    });
    let folder = tempfile::tempdir().unwrap();
    let refused = |data: Dataset, choices: &Choices, folder: &Path| {
        Model::train(data, choices, folder).err().unwrap().to_string()
    };
    let run = folder.path().join("run");
    let message = refused(data(), &choices().model(&MORE), &run);
    assert!(message.contains("ends in f32[50, 13], but [50, 10] are a logit for each"), "{message}");
    let other = Dataset { test: Images::black(5, 16), ..data() };
    let message = refused(other, &choices(), &run);
    assert_eq!(message, "the test images have 16 pixels a side, the training images 32");
    let mut lies = data();
    lies.train.size = 31;
    assert!(refused(lies, &choices(), &run).contains("31 pixels a side have"), "size");
    let mut lies = data();
    lies.train.labels.pop();
    assert!(refused(lies, &choices(), &run).contains("have 918528 bytes, not 921600"), "labels");
    assert_eq!(refused(Dataset::default(), &choices(), &run), "the data has no training images");
    assert_eq!(refused(data(), &choices(), Path::new("")), "the folder of the run has no name");
    assert!(!run.exists());
    // Some of each class, though they lie one after the other.
    let mut sorted = data().train.subset(&[0; 90]);
    sorted.labels = (0..90).map(|i| i / 30).collect();
    assert_eq!(sorted.part(9).labels, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
}

#[test]
fn one_name_is_one_model() {
    static TWIN: Architecture = Architecture::new("cnn", small);
    let message = TWIN.register().unwrap_err().to_string();
    assert_eq!(message, "there is another model 'cnn'; give this one another name");
    SMALL.register().unwrap();
    SMALL.register().unwrap();
    assert_eq!(Architecture::names().filter(|name| *name == "small").count(), 1);
    let twin = Model::train(data(), &Choices::default().model(&TWIN), "nowhere").err().unwrap();
    assert_eq!(twin.to_string(), message);
}

/// An image that is not square, as pixels.
fn picture() -> Array3<u8> {
    Array3::from_shape_fn([50, 70, 3], |(row, column, c)| (row * 3 + column * (c + 1)) as u8)
}

#[test]
fn a_prediction_is_that_of_the_program() {
    let bench = Bench::new();
    let pixels = picture();
    let pixel = |x, y| Rgb([0, 1, 2].map(|c| pixels[[y as usize, x as usize, c]]));
    RgbImage::from_fn(70, 50, pixel).save(bench.path("odd name é.png")).unwrap();
    let mut model = Model::builtin().unwrap();
    let prediction = model.predict(bench.path("odd name é.png")).unwrap();
    assert_eq!(model.predict_pixels(pixels.view()).unwrap(), prediction);

    std::fs::copy(bench.path("odd name é.png"), bench.path("a.png")).unwrap();
    let told = json(&bench.ok("predict a.png --weights builtin --json --top 10"));
    let told = told[0]["predictions"].as_array().unwrap();
    assert_eq!(told.len(), 10);
    for (told, (class, probability)) in told.iter().zip(prediction.top(10)) {
        assert_eq!(told["class"], class);
        assert!((told["probability"].as_f64().unwrap() - f64::from(probability)).abs() < 1e-6);
    }
    assert!((prediction.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
}

#[test]
fn what_is_no_image_is_told() {
    let mut model = Model::builtin().unwrap();
    let bytes = [0u8; 24];
    for shape in [[2, 3, 4], [0, 8, 3], [8, 0, 3], [4, 6, 1]] {
        let view = ArrayView3::from_shape(shape, &bytes[..shape.iter().product()]).unwrap();
        let message = model.predict_pixels(view).unwrap_err().to_string();
        assert!(message.contains("none of [height, width, 3]"), "{shape:?}: {message}");
    }
    let message = model.evaluate(&Images::black(1, 48)).unwrap_err().to_string();
    assert_eq!(message, "the images have 48 pixels a side, the model takes 32");
    assert!(model.predict("no such file").unwrap_err().to_string().contains("no such file"));
    let pixels = Array4::<u8>::zeros([2, 8, 8, 3]);
    let message = Images::from_array(pixels.view(), &[0]).unwrap_err().to_string();
    assert!(message.contains("[2, 8, 8, 3] with 1 labels"), "{message}");
    let images = Images::from_array(pixels.view(), &[0, 1]).unwrap();
    assert_eq!(images.array().unwrap(), pixels);
}

/// A loaded model in a graph of one's own gives the logits of its evaluation, and the gradient of
/// one of them by a layer in its midst is what a small step there changes.
#[test]
fn a_model_can_be_taken_apart() {
    let bench = Bench::new();
    let image = picture().slice(s![..32, ..32, ..]).to_owned();
    let pixel = |x, y| Rgb([0, 1, 2].map(|c| image[[y as usize, x as usize, c]]));
    RgbImage::from_fn(32, 32, pixel).save(bench.path("a.png")).unwrap();
    let mut trained = LoadedModel::built_in(&Attributes::default(), None).unwrap();
    trained.spec.views = Views::default(); // a graph sees an image once
    let mut model = Model::of(trained, cpu()).unwrap();
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([1, 32, 32, 3]));
    let network = model.build(&mut graph, x).unwrap();
    let layer = network.layer("block1.gelu2").unwrap();
    let chosen = graph.input("chosen", TensorType::f32([1, 10]));
    let gradient = differentiate(&mut graph, &[(network.logits, chosen)], &[x, layer]).unwrap();
    let named = [("logits", network.logits), ("dx", gradient[0]), ("dlayer", gradient[1])];
    named.into_iter().for_each(|(name, value)| graph.output(name, value));
    let mut program = model.program(&graph, &network, cpu()).unwrap();
    let input = model.input(bench.path("a.png")).unwrap();
    let class = Array4::from_shape_fn([1, 1, 1, 10], |(.., c)| f32::from(c == 3));
    program.write("chosen", &class.into_shape_with_order([1, 10]).unwrap()).unwrap();
    let mut logits = |input: &Array4<f32>| {
        program.write("x", input).unwrap();
        program.run().unwrap();
        (program.read("logits").unwrap(), program.read("dx").unwrap(), program.read("dlayer").unwrap())
    };
    let (found, dx, dlayer) = logits(&input);
    let pixels = Images::from_array(image.view().insert_axis(ndarray::Axis(0)), &[0]).unwrap();
    let expected = model.evaluate(&pixels).unwrap().logits;
    assert!((found - expected.into_dyn()).iter().all(|apart| apart.abs() < 1e-4));
    assert_eq!(dlayer.shape(), [1, 15, 15, 64]);

    let by = 2e-5;
    let direction = dx.mapv(|slope| by * slope.signum()).into_dimensionality::<Ix4>().unwrap();
    let (more, less) = (logits(&(&input + &direction)).0, logits(&(&input - &direction)).0);
    let (change, told) = ((more[[0, 3]] - less[[0, 3]]) / 2.0, by * dx.mapv(f32::abs).sum());
    assert!((change / told - 1.0).abs() < 0.2, "{change} for {told}");
    let message = network.layer("relu99").unwrap_err().to_string();
    assert!(message.contains("is no layer of the model; there are: stem,"), "{message}");
}

/// Where the mean over all pixels is all that follows a layer, but for the classifier, the gradient
/// of a class by a channel is the classifier's weight over the number of pixels (Zhou et al. 2016).
#[test]
fn grad_cam_of_the_last_feature_map_is_the_class_activation_map() {
    let folder = tempfile::tempdir().unwrap();
    let (mut model, _) = Model::train(data(), &choices(), folder.path()).unwrap();
    let images = [picture(), picture().slice_move(s![.., ..;-1, ..])];
    let images = images.map(|pixels| model.input_pixels(pixels.view()).unwrap());
    let images = concatenate(Axis(0), &[images[0].view(), images[1].view()]).unwrap();
    let features = model.activation(&images, "relu").unwrap();
    assert_eq!(features.shape(), [2, 8, 8, 8]);
    let weights = cifar_engine::weights::load(folder.path().join("best.safetensors")).unwrap();
    let fc = &weights.tensors["fc.weight"]; // [classes, channels] on disk
    let classes = model.spec().classes.clone();
    let mut above_zero = Vec::new();
    for (number, class) in classes.iter().enumerate() {
        let map = model.grad_cam(&images, "relu", class).unwrap();
        for ((image, row, column), &found) in map.indexed_iter() {
            let term = |c| fc.data[number * 8 + c] / 64.0 * features[[image, row, column, c]];
            let sum = (0..8).map(term).sum::<f32>();
            assert!((found - sum.max(0.0)).abs() < 1e-6, "{class}: {found} for {sum}");
            above_zero.push(found > 0.0);
        }
    }
    assert!(above_zero.contains(&true) && above_zero.contains(&false));

    let mut broken = images.clone();
    broken[[1, 5, 5, 0]] = f32::NAN;
    let message = model.grad_cam(&broken, "relu", &classes[0]).unwrap_err().to_string();
    assert_eq!(message, "images: has values that are not finite numbers");

    // What another layer is asked for leaves the predictions as they were.
    let before = model.predict_pixels(picture().view()).unwrap();
    assert!(model.grad_cam(&images, "fc", &classes[0]).unwrap_err().to_string().contains("no places"));
    let message = model.grad_cam(&images, "relu", "no class").unwrap_err().to_string();
    assert_eq!(message, "no class: is no class of the model");
    let message = model.activation(&images, "relu9").unwrap_err().to_string();
    assert!(message.contains("there are: conv, norm, relu, average"), "{message}");
    let message = model.activation(&images.slice(s![.., 1.., .., ..]), "relu").unwrap_err().to_string();
    assert!(message.contains("takes images f32[N, 32, 32, 3], not f32[2, 31, 32, 3]"), "{message}");
    assert_eq!(model.predict_pixels(picture().view()).unwrap(), before);
}

#[test]
fn many_images_are_told_as_one_by_one() {
    let bench = Bench::new();
    let mut model = Model::builtin().unwrap();
    let names: Vec<_> = (0..131).map(|i| bench.path(&format!("image {i}.png"))).collect();
    for (i, name) in names.iter().enumerate() {
        let pixel = |x, y| Rgb([0, 1, 2].map(|c| (x * (i as u32 % 7) + y * c) as u8));
        RgbImage::from_fn(30 + i as u32, 40, pixel).save(name).unwrap();
    }
    let together = model.predict_all(&names).unwrap();
    assert_eq!(together.len(), names.len());
    for (name, together) in names.iter().zip(&together) {
        let alone = model.predict(name).unwrap();
        assert_eq!(alone.class(), together.class());
        let apart = alone.probabilities.iter().zip(&together.probabilities).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f32::max) < 1e-5);
    }
    let none: [&str; 0] = [];
    assert_eq!(model.predict_all(&none).unwrap(), []);
    let bad = [names[0].clone(), bench.path("missing.png"), bench.path("missing too.png")];
    assert!(model.predict_all(&bad).unwrap_err().to_string().contains("missing.png"));
}

#[test]
fn a_model_takes_another_size_and_other_names() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let (model, _) = Model::train(data(), &choices(), folder.path()).unwrap();
    let names = bench.path("names.txt");
    std::fs::write(&names, "background\n猫\nb\nc\nd\ne\nf\ng\nh\ni\nj\n").unwrap();
    let mut larger = model.named(&names).unwrap().sized(64).unwrap();
    let input = larger.input_pixels(picture().view()).unwrap();
    assert_eq!(input.shape(), [1, 64, 64, 3]);
    assert_eq!(larger.activation(&input, "relu").unwrap().shape(), [1, 16, 16, 8]);
    assert_eq!(larger.predict_pixels(picture().view()).unwrap().classes[0], "猫");
    assert!(larger.sized(7).err().unwrap().to_string().contains("8 to 1024 pixels a side, not 7"));
    let cnn = Choices::default().model(&cifar_engine::models::cnn::CNN).epochs(1).batch_size(50);
    let (cnn, _) = Model::train(data(), &cnn, folder.path().join("cnn")).unwrap();
    let problem = cnn.sized(64).err().unwrap().to_string();
    assert!(problem.contains("fc1.weight"), "{problem}");
    std::fs::write(&names, "crane\nb\nc\nd\ne\nf\ng\nh\ni\ncrane\n").unwrap();
    let mut cranes = Model::builtin().unwrap().named(&names).unwrap();
    let input = cranes.input_pixels(picture().view()).unwrap();
    let problem = cranes.grad_cam(&input, "stem", "crane").unwrap_err().to_string();
    assert_eq!(problem, "crane: is what several classes of the model are called");
    std::fs::write(&names, "one\ntwo\n").unwrap();
    let problem = Model::builtin().unwrap().named(&names).err().unwrap().to_string();
    assert!(problem.contains("has 2 names, but the model has 10 classes"), "{problem}");
}

/// The parts of [`training`] by hand give the same bits.
#[test]
fn a_training_is_its_parts() {
    let build = |graph: &mut Graph| {
        let x = graph.input("x", TensorType::f32([4, 2]));
        let labels = graph.input("labels", TensorType::u32([4]));
        (x, labels)
    };
    let write = |program: &mut Program| {
        program.write("x", &arr2(&[[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])).unwrap();
        program.write("labels", &arr1(&[0u32, 1, 1, 0])).unwrap();
    };
    let layers = |layers: &mut Builder, x, labels| {
        let x = layers.dense("fc1", x, 8, Layout::Dense).unwrap();
        let x = layers.map("tanh", Function::Tanh, x).unwrap();
        let x = layers.dense("fc2", x, 2, Layout::Dense).unwrap();
        layers.graph.cross_entropy(x, labels).unwrap()
    };
    let mut graph = Graph::new();
    let (x, labels) = build(&mut graph);
    let mut builder = Builder::new(&mut graph, Mode::Infer, Norm::default());
    let loss = layers(&mut builder, x, labels);
    assert_eq!(builder.layers[1].kind, "tanh");
    let mut whole = training(builder, loss, &ADAM, 5, cpu()).unwrap();
    write(&mut whole);
    (0..20).for_each(|_| whole.step(0.01).unwrap());

    let mut graph = Graph::new();
    let (x, labels) = build(&mut graph);
    let mut builder = Builder::new(&mut graph, Mode::Infer, Norm::default());
    let loss = layers(&mut builder, x, labels);
    let parameters = builder.parameters;
    graph.output("loss", loss);
    minimise(&mut graph, loss, &parameters, &ADAM).unwrap();
    let mut parts = Program::new(&graph, cpu()).unwrap();
    parts.initialise(&parameters, 5).unwrap();
    write(&mut parts);
    parts.write("rate", &arr1(&[0.01])).unwrap();
    for step in 0..20 {
        parts.write("step", &arr1(&[step])).unwrap();
        parts.run().unwrap();
    }
    assert_eq!(whole.read("fc1.weight").unwrap(), parts.read("fc1.weight").unwrap());
    let again = minimise(&mut graph, loss, &parameters, &ADAM).unwrap_err().to_string();
    assert!(again.contains("is updated already"), "{again}");

    let mut graph = Graph::new();
    let (x, labels) = build(&mut graph);
    let mut builder = Builder::new(&mut graph, Mode::Infer, Norm::default());
    let x = builder.batch_norm("norm", x).unwrap();
    let loss = layers(&mut builder, x, labels);
    let message = training(builder, loss, &ADAM, 5, cpu()).err().unwrap().to_string();
    assert!(message.contains("batch_norm 'norm'") && message.contains("Mode::Train"), "{message}");

    // A model that draws masks by the step shares it with the optimizer.
    let mut graph = Graph::new();
    let (x, labels) = build(&mut graph);
    let step = graph.input("step", TensorType::u32([1]));
    let mode = Mode::Train { step, seed: 3 };
    let mut builder = Builder::new(&mut graph, mode, Norm::default());
    let x = builder.dropout("dropout", x, 0.5).unwrap();
    let loss = layers(&mut builder, x, labels);
    let mut masked = training(builder, loss, &ADAM, 5, cpu()).unwrap();
    write(&mut masked);
    let mut losses = [0.0; 3];
    for loss in &mut losses {
        masked.step(0.0).unwrap();
        *loss = masked.read("loss").unwrap()[0];
    }
    assert!(losses[0] != losses[1] || losses[1] != losses[2], "{losses:?}");
    let message = Program::new(&Graph::new(), cpu()).unwrap().step(0.1).unwrap_err().to_string();
    assert!(message.contains("rate"), "{message}");
}
