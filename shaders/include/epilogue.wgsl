// What becomes of a finished sum: bias, residual and activation, or the slope of one.
override BIAS: bool;
// What the shader's `other` holds: nothing, what is added before the activation, or what the
// function's slope is one of.
override OTHER: u32;
// Whether the values before the activation are stored, too, in `kept`.
override KEPT: bool;

const ADDED = 1u;
const SLOPE = 2u;

// `shift` is the bias, if there is one, `beside` what `other` holds.
fn before_activation(sum: Value, shift: Value, beside: Value) -> Value {
    var z = sum;
    if BIAS {
        //~ grouped_conv2d: z += shift => z -= shift
        z += shift;
    }
    if OTHER == ADDED {
        //~ conv2d: z += beside => z -= beside
        z += beside;
    }
    return z;
}

fn after_activation(z: Value, beside: Value) -> Value {
    if OTHER == SLOPE {
        //~ conv2d_input_grad: return z * slope_at(beside); => return z;
        //~ grouped_conv2d_input_grad: return z * slope_at(beside); => return z;
        return z * slope_at(beside);
    }
    return activate(z);
}
