//! The table of elementwise functions: a row has a name, the formula and the derivative.
//!
//! The CPU kernels, the reference and the gradient follow from it, and so does what joins a
//! convolution or a normalisation as its activation; `shaders/include/function.wgsl` has the same
//! table for a GPU, by the rows' numbers.

use crate::elementwise::ITEM;
use crate::parallel;
use crate::real::Real;
use crate::simd::{Isa, Kernel, Simd};

/// Argument of the derivative of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The argument.
    X,
    /// The value, so that the argument need not be kept.
    Y,
}

/// Makes the table's rows to what is needed of them, each formula for both kinds of numbers.
macro_rules! functions {
    ($($(#[$doc:meta])* $row:ident, $name:literal, |$x:ident| $value:expr, $of:ident |$v:ident| $slope:expr;)*) => {
        /// An elementwise function.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Function {
            $($(#[$doc])* $row,)*
        }

        impl Function {
            /// All functions.
            pub const ALL: &[Function] = &[$(Function::$row),*];

            /// The name that messages and tables use.
            pub fn name(self) -> &'static str {
                match self {
                    $(Function::$row => $name,)*
                }
            }

            /// The name of its gradient.
            pub fn gradient_name(self) -> &'static str {
                match self {
                    $(Function::$row => concat!($name, "_grad"),)*
                }
            }

            /// The argument of [`Function::slope`].
            pub fn slope_of(self) -> Of {
                match self {
                    $(Function::$row => Of::$of,)*
                }
            }

            /// The value at x.
            #[inline(always)]
            pub fn value<T: Real>(self, x: T) -> T {
                match self {
                    $(Function::$row => { let $x = x; $value })*
                }
            }

            /// The derivative, where [`Function::slope_of`] has the value `v`.
            #[inline(always)]
            pub fn slope<T: Real>(self, v: T) -> T {
                match self {
                    $(Function::$row => { let $v = v; $slope })*
                }
            }

            /// Calls a loop with the value of this function, compiled for it alone.
            #[inline(always)]
            fn with_value(self, each: impl WithFunction) {
                match self {
                    $(Function::$row => each.run(#[inline(always)] |x| Function::$row.value(x)),)*
                }
            }

            /// The same with its derivative.
            #[inline(always)]
            fn with_slope(self, each: impl WithFunction) {
                match self {
                    $(Function::$row => each.run(#[inline(always)] |v| Function::$row.slope(v)),)*
                }
            }
        }
    };
}

fn c<T: Real>(value: f64) -> T {
    T::of(value)
}

/// `sqrt(2 / pi)` and the factor of the cube, of GELU by tanh.
const TANH_GELU: [f64; 2] = [0.797_884_560_802_865_4, 0.044_715];

/// The argument of GELU's tanh.
#[inline(always)]
fn gelu_argument<T: Real>(x: T) -> T {
    c::<T>(TANH_GELU[0]) * (x + c::<T>(TANH_GELU[1]) * x * x * x)
}

/// The probability that a normal number is below x.
#[inline(always)]
fn below<T: Real>(x: T) -> T {
    c::<T>(0.5) * (c::<T>(1.0) + (x * c(std::f64::consts::FRAC_1_SQRT_2)).erf())
}

functions! {
    /// `-x`.
    Neg, "neg", |x| -x, Y |_y| c(-1.0);
    /// `|x|`; its slope at 0 is 0.
    Abs, "abs", |x| x.abs(), X |x| T::indicator(x > c(0.0)) - T::indicator(x < c(0.0));
    /// `e^x`.
    Exp, "exp", |x| x.exp(), Y |y| y;
    /// The natural logarithm.
    Ln, "ln", |x| x.ln(), X |x| c::<T>(1.0) / x;
    /// The square root.
    Sqrt, "sqrt", |x| x.sqrt(), Y |y| c::<T>(0.5) / y;
    /// `1 / sqrt(x)`.
    Rsqrt, "rsqrt", |x| c::<T>(1.0) / x.sqrt(), Y |y| c::<T>(-0.5) * y * y * y;
    /// `x^2`.
    Square, "square", |x| x * x, X |x| x + x;
    /// The hyperbolic tangent.
    Tanh, "tanh", |x| x.tanh(), Y |y| c::<T>(1.0) - y * y;
    /// `1 / (1 + e^-x)`.
    Sigmoid, "sigmoid", |x| x.sigmoid(), Y |y| y * (c::<T>(1.0) - y);
    /// The error function.
    Erf, "erf", |x| x.erf(), X |x| c::<T>(std::f64::consts::FRAC_2_SQRT_PI) * (-(x * x)).exp();
    /// `max(x, 0)`.
    Relu, "relu", |x| x.between(0.0, f64::INFINITY), Y |y| T::indicator(y > c(0.0));
    /// `min(max(x, 0), 6)`.
    Relu6, "relu6", |x| x.between(0.0, 6.0), Y |y| T::indicator(y > c(0.0) && y < c(6.0));
    /// `x sigmoid(x)` (Hendrycks and Gimpel 2016; Elfwing et al. 2017), also called swish.
    Silu, "silu", |x| x * x.sigmoid(), X |x| {
        let s = x.sigmoid();
        s + x * s * (c::<T>(1.0) - s)
    };
    /// `x` times the probability that a normal number is below it (Hendrycks and Gimpel 2016).
    Gelu, "gelu", |x| x * below(x), X |x| {
        below(x) + x * c(0.398_942_280_401_432_7) * (c::<T>(-0.5) * x * x).exp()
    };
    /// GELU with tanh for that probability, as GPT-2 has it.
    GeluTanh, "gelu_tanh", |x| c::<T>(0.5) * x * (c::<T>(1.0) + gelu_argument(x).tanh()), X |x| {
        let t = gelu_argument(x).tanh();
        let inner = c::<T>(TANH_GELU[0]) * (c::<T>(1.0) + c::<T>(3.0 * TANH_GELU[1]) * x * x);
        c::<T>(0.5) * (c::<T>(1.0) + t + x * (c::<T>(1.0) - t * t) * inner)
    };
    /// `x min(max(x + 3, 0), 6) / 6` (Howard et al., "Searching for MobileNetV3", 2019).
    HardSwish, "hard_swish", |x| x * (x + c(3.0)).between(0.0, 6.0) / c(6.0), X |x| {
        let inside = T::indicator(x > c(-3.0) && x < c(3.0));
        T::indicator(x > c(3.0)) + inside * (x + x + c(3.0)) / c(6.0)
    };
}

/// A function that is applied to a result, or none.
pub type Activation = Option<Function>;

/// The lowest and the highest value that something is cut to.
pub type Clamp = (f32, f32);

/// The range that an activation cuts to, which some kernels do as they write: all numbers for none,
/// and for one that is more than a cut ([`beyond_clamp`]).
pub fn clamp_of(activation: Activation) -> Clamp {
    match activation {
        Some(Function::Relu) => (0.0, f32::INFINITY),
        Some(Function::Relu6) => (0.0, 6.0),
        _ => (f32::NEG_INFINITY, f32::INFINITY),
    }
}

/// The activation, if it is more than a cut.
pub fn beyond_clamp(activation: Activation) -> Activation {
    activation.filter(|function| !matches!(function, Function::Relu | Function::Relu6))
}

/// Applies an activation to what a kernel has just written. A cut has a loop of its own: it is
/// called for short rows, where the way through the whole table would take longer than the work.
pub fn activate(isa: Isa, activation: Activation, y: &mut [f32]) {
    match activation {
        None => {}
        Some(Function::Relu | Function::Relu6) => isa.run(ClampTo { clamp: clamp_of(activation), y }),
        Some(function) => isa.run(Values { function, y }),
    }
}

struct ClampTo<'a> {
    clamp: Clamp,
    y: &'a mut [f32],
}

impl Kernel for ClampTo<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for y in self.y {
            *y = y.clamp(self.clamp.0, self.clamp.1);
        }
    }
}

/// Value of an activation at x.
pub fn activated<T: Real>(activation: Activation, x: T) -> T {
    activation.map_or(x, |function| function.value(x))
}

/// The derivative of an activation at x.
pub fn activation_slope<T: Real>(activation: Activation, x: T) -> T {
    activation.map_or(T::of(1.0), |function| function.slope_at(x))
}

impl Function {
    /// The derivative at the argument x.
    #[inline(always)]
    pub fn slope_at<T: Real>(self, x: T) -> T {
        match self.slope_of() {
            Of::X => self.slope(x),
            Of::Y => self.slope(self.value(x)),
        }
    }

    /// `y = f(y)` for every element.
    pub fn apply(self, isa: Isa, y: &mut [f32]) {
        parallel::for_each(y.chunks_mut(ITEM), &mut [], 0, |y, _| isa.run(Values { function: self, y }));
    }

    /// `dy = dy f'(v)` for every element, where [`Function::slope_of`] has the value `v`.
    pub fn apply_slope(self, isa: Isa, dy: &mut [f32], v: &[f32]) {
        let items = dy.chunks_mut(ITEM).zip(v.chunks(ITEM));
        parallel::for_each(items, &mut [], 0, |(dy, v), _| isa.run(Slopes { function: self, dy, v }));
    }
}

/// A loop over elements that is given what to compute of each.
trait WithFunction {
    fn run(self, f: impl Fn(f32) -> f32);
}

/// `y = f(y)` for a few elements.
pub struct Values<'a> {
    /// f.
    pub function: Function,
    /// Arguments, which become values.
    pub y: &'a mut [f32],
}

impl Kernel for Values<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.function.with_value(Replace(self.y));
    }
}

struct Replace<'a>(&'a mut [f32]);

impl WithFunction for Replace<'_> {
    #[inline(always)]
    fn run(self, f: impl Fn(f32) -> f32) {
        for y in self.0 {
            *y = f(*y);
        }
    }
}

/// `dy = dy f'(v)` for a few elements, as [`Function::apply_slope`].
pub struct Slopes<'a> {
    /// f.
    pub function: Function,
    /// Gradients of the values, which become those of the arguments.
    pub dy: &'a mut [f32],
    /// Arguments or values of f, as [`Function::slope_of`] says.
    pub v: &'a [f32],
}

impl Kernel for Slopes<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.function.with_slope(MultiplyBy { dy: self.dy, v: self.v });
    }
}

struct MultiplyBy<'a> {
    dy: &'a mut [f32],
    v: &'a [f32],
}

impl WithFunction for MultiplyBy<'_> {
    #[inline(always)]
    fn run(self, f: impl Fn(f32) -> f32) {
        for (dy, v) in self.dy.iter_mut().zip(self.v) {
            *dy *= f(*v);
        }
    }
}
