//! The table of elementwise functions: a row has a name, the formula and the derivative. The CPU
//! kernel, the reference and the gradient follow from it; `shaders/include/function.wgsl` has the
//! same table for a GPU, by the rows' numbers.

use crate::kernels::functions::{self, Real};
use crate::kernels::simd::Isa;

/// What the derivative of a function is a function of.
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

            /// What [`Function::slope`] is given.
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

            /// `y = f(y)` for every element.
            pub(crate) fn apply(self, isa: Isa, y: &mut [f32]) {
                match self {
                    $(Function::$row => functions::each(isa, y, #[inline(always)] |x| Function::$row.value(x)),)*
                }
            }

            /// `dy = dy f'(v)` for every element.
            pub(crate) fn apply_slope(self, isa: Isa, dy: &mut [f32], v: &[f32]) {
                match self {
                    $(Function::$row => {
                        functions::each_with(isa, dy, v, #[inline(always)] |dy, v| dy * Function::$row.slope(v))
                    })*
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
