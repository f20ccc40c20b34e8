//! A network and an optimizer of one's own: trained, saved, gone on with and measured like those of
//! the program.
//!
//!     cargo run --release --example own_model            CIFAR-10, which is downloaded
//!     cargo run --release --example own_model shapes     made images: no download
//!
//! A second call goes on where the first was interrupted.

use cifar_engine::prelude::*;

static TINY: Architecture = Architecture::new("tiny", tiny);
static SIGN: Optimizer = Optimizer::new("sign", 5e-3, "average", sign);

/// Three stages of convolution, normalisation and pooling: images to a logit for each class.
fn tiny(b: &mut Builder, images: Value, config: &Config) -> Result<Value> {
    let mut x = images;
    for (stage, channels) in [(1, 16), (2, 32), (3, 64)] {
        x = b.unit(&format!("stage{stage}"), x, |b, x| {
            let x = b.conv2d_unbiased(&format!("conv{stage}"), x, channels, 3, 1, Padding::Same)?;
            let x = b.batch_norm(&format!("bn{stage}"), x)?;
            let x = b.relu(&format!("relu{stage}"), x)?;
            b.max_pool(&format!("pool{stage}"), x, 2)
        })?;
    }
    x = b.unit("average", x, |b, x| b.global_average_pool("average", x))?;
    b.classifier("fc", x, config.classes, config.training)
}

/// A step of equal length for every weight, against the sign of an average of its gradients:
/// average := 0.9 average + 0.1 gradient, w := w - rate average / sqrt(average² + 1e-20).
fn sign(g: &mut Graph, step: &ParameterStep) -> Result<()> {
    let (w, average) = (step.parameter.value, step.state(g, SIGN.moment)?);
    let (kept, new) = (g.scale(average, 0.9)?, g.scale(step.gradient, 0.1)?);
    let next = g.add(kept, new)?;
    let square = g.map(Function::Square, next)?;
    let tiny = g.constant(1e-20, [1])?;
    let square = g.add(square, tiny)?;
    let inverse = g.map(Function::Rsqrt, square)?;
    let direction = g.mul(next, inverse)?;
    let change = g.mul(direction, step.rate)?;
    let moved = g.sub(w, change)?;
    g.update(average, next)?;
    g.update(w, moved)
}

fn main() -> Result<()> {
    let source = std::env::args().nth(1).unwrap_or("cifar10".into());
    let folder = format!("runs/tiny-{source}");
    let choices = Choices::default().model(&TINY).optimizer(&SIGN).epochs(5);
    let data = Dataset::open(&source)?;
    let test = data.test.clone();
    let (_, outcome) = Model::train(data, &choices, &folder)?;
    let trained = outcome.test.accuracy;

    // In another program, which did not train it, its name has to be made known first.
    TINY.register()?;
    let mut model = Model::load(&folder)?;
    let loaded = model.evaluate(&test)?.accuracy;
    let first = model.predict_pixels(test.array()?.outer_iter().next().ok_or(Error::Interrupted)?)?;
    println!("{:.2} % when trained, {:.2} % when loaded", 100.0 * trained, 100.0 * loaded);
    println!("the first test image: {:.3?}", first.top(3));
    Ok(())
}
