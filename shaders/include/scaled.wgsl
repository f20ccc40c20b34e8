// A normalisation of what is read, by scale and shift, and the cut that its activation is.
override SCALED: bool;
// Nothing, ReLU or ReLU6.
override CUT: u32;

const RELU = 1u;
const RELU6 = 2u;

fn scaled(x: Value, scale: Value, shift: Value) -> Value {
    let y = fma(x, scale, shift);
    if CUT == RELU {
        //~ conv2d: return select(max(y, Value(0.0)), y, is_nan(y)); => return y;
        return select(max(y, Value(0.0)), y, is_nan(y));
    }
    if CUT == RELU6 {
        //~ grouped_conv2d: Value(6.0)), y, is_nan => Value(5.0)), y, is_nan
        return select(clamp(y, Value(0.0), Value(6.0)), y, is_nan(y));
    }
    return y;
}
