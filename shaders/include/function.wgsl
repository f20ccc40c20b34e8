// The table of src/kernels/function.rs, by the rows' numbers; NONE for an activation that is none.
override FUNCTION: u32;
// Whether the derivative is one of the value, not of the argument.
override SLOPE_OF_VALUE: bool;

const NONE = 0xffffffffu;

// Abramowitz and Stegun, 7.1.26.
fn erf_of(x: Value) -> Value {
    let size = abs(x);
    let t = 1.0 / (1.0 + 0.3275911 * size);
    //~ erf: 1.421413741 => 1.4
    let p = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return sign(x) * (1.0 - p * exp(-size * size));
}

// Where the argument is large, some drivers divide two infinities.
fn tanh_of(x: Value) -> Value {
    //~ tanh: Value(15.0) => Value(1.0)
    return tanh(clamp(x, Value(-15.0), Value(15.0)));
}

fn sigmoid_of(x: Value) -> Value {
    //~ sigmoid: 1.0 / (1.0 + exp(-x)) => 1.0 / (1.0 + exp(x))
    return 1.0 / (1.0 + exp(-x));
}

// The probability that a normal number is below x.
fn below(x: Value) -> Value {
    //~ gelu: 0.70710678 => 0.7
    return 0.5 * (1.0 + erf_of(x * 0.70710678));
}

fn gelu_argument(x: Value) -> Value {
    //~ gelu_tanh: 0.044715 * => 0.04 *
    return 0.79788456 * (x + 0.044715 * x * x * x);
}

fn function_of(x: Value) -> Value {
    switch FUNCTION {
        //~ neg: return -x; => return x;
        case 0u: { return -x; }
        //~ abs: return abs(x); => return x;
        case 1u: { return abs(x); }
        //~ exp: case 2u: { return exp(x); => case 2u: { return exp(-x);
        case 2u: { return exp(x); }
        //~ ln: return log(x); => return log2(x);
        case 3u: { return log(x); }
        //~ sqrt: case 4u: { return sqrt(x); => case 4u: { return x;
        case 4u: { return sqrt(x); }
        //~ rsqrt: return 1.0 / sqrt(x); => return sqrt(x);
        case 5u: { return 1.0 / sqrt(x); }
        //~ square: case 6u: { return x * x; => case 6u: { return x;
        case 6u: { return x * x; }
        case 7u: { return tanh_of(x); }
        case 8u: { return sigmoid_of(x); }
        case 9u: { return erf_of(x); }
        //~ relu: case 10u: { return max(x, Value(0.0)); => case 10u: { return x;
        case 10u: { return max(x, Value(0.0)); }
        //~ relu6: case 11u: { return clamp(x, Value(0.0), Value(6.0)); => case 11u: { return clamp(x, Value(0.0), Value(5.0));
        case 11u: { return clamp(x, Value(0.0), Value(6.0)); }
        //~ silu: return x * sigmoid_of(x); => return sigmoid_of(x);
        case 12u: { return x * sigmoid_of(x); }
        case 13u: { return x * below(x); }
        case 14u: { return 0.5 * x * (1.0 + tanh_of(gelu_argument(x))); }
        //~ hard_swish: clamp(x + 3.0 => clamp(x + 2.0
        default: { return x * clamp(x + 3.0, Value(0.0), Value(6.0)) / 6.0; }
    }
}

// The value at x; NaN stays NaN, which `max` and `clamp` may swallow.
fn value_at(x: Value) -> Value {
    return select(function_of(x), x, is_nan(x));
}

// 1 where a condition holds, else 0.
fn indicator(condition: Bools) -> Value {
    return select(Value(0.0), Value(1.0), condition);
}

// The derivative; v is the value if SLOPE_OF_VALUE, else the argument.
fn slope_at(v: Value) -> Value {
    switch FUNCTION {
        //~ neg_grad: return Value(-1.0); => return Value(1.0);
        case 0u: { return Value(-1.0); }
        //~ abs_grad: return sign(v); => return v;
        case 1u: { return sign(v); }
        //~ exp_grad: case 2u: { return v; => case 2u: { return -v;
        case 2u: { return v; }
        //~ ln_grad: case 3u: { return 1.0 / v; => case 3u: { return v;
        case 3u: { return 1.0 / v; }
        //~ sqrt_grad: return 0.5 / v; => return 1.0 / v;
        case 4u: { return 0.5 / v; }
        //~ rsqrt_grad: -0.5 * v * v * v => 0.5 * v * v * v
        case 5u: { return -0.5 * v * v * v; }
        //~ square_grad: return v + v; => return v;
        case 6u: { return v + v; }
        //~ tanh_grad: return 1.0 - v * v; => return 1.0 - v;
        case 7u: { return 1.0 - v * v; }
        //~ sigmoid_grad: return v * (1.0 - v); => return v;
        case 8u: { return v * (1.0 - v); }
        //~ erf_grad: 1.12837917 => 1.1
        case 9u: { return 1.12837917 * exp(-v * v); }
        //~ relu_grad: case 10u: { return indicator(v > Value(0.0)); => case 10u: { return indicator(v > v);
        case 10u: { return indicator(v > Value(0.0)); }
        //~ relu6_grad: (v < Value(6.0)) => (v < Value(5.0))
        case 11u: { return indicator((v > Value(0.0)) & (v < Value(6.0))); }
        case 12u: {
            let s = sigmoid_of(v);
            //~ silu_grad: s + v * s * (1.0 - s) => s + v * s
            return s + v * s * (1.0 - s);
        }
        //~ gelu_grad: 0.39894228 => 0.4
        case 13u: { return below(v) + v * 0.39894228 * exp(-0.5 * v * v); }
        case 14u: {
            let t = tanh_of(gelu_argument(v));
            //~ gelu_tanh_grad: 0.134145 => 0.13
            let inner = 0.79788456 * (1.0 + 0.134145 * v * v);
            return 0.5 * (1.0 + t + v * (1.0 - t * t) * inner);
        }
        default: {
            let inside = indicator((v > Value(-3.0)) & (v < Value(3.0)));
            //~ hard_swish_grad: (2.0 * v + 3.0) => (v + 3.0)
            return indicator(v > Value(3.0)) + inside * (2.0 * v + 3.0) / 6.0;
        }
    }
}

fn activate(x: Value) -> Value {
    if FUNCTION == NONE {
        return x;
    }
    //~ batch_norm_infer: return value_at(x); => return x;
    return value_at(x);
}

// The gradient of the argument x, from that of what `activate` made of it.
fn through(dy: Value, x: Value) -> Value {
    if FUNCTION == NONE {
        return dy;
    }
    if SLOPE_OF_VALUE {
        //~ batch_norm_grad: slope_at(value_at(x)) => slope_at(x + 3.0)
        return dy * slope_at(value_at(x));
    }
    return dy * slope_at(x);
}
