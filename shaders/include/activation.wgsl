// 0: none, 1: ReLU, 2: ReLU6.
override ACTIVATION: u32;

// NaN stays NaN, so that a broken activation shows in the loss: `max` may swallow it.
fn activate(v: Value) -> Value {
    if ACTIVATION == 0u {
        return v;
    }
    var y = max(v, Value(0.0));
    if ACTIVATION == 2u {
        y = min(y, Value(6.0));
    }
    return select(y, v, is_nan(v));
}

// Whether the activation's value (or its argument) lies where its slope is 1.
fn passes(y: Value) -> Bools {
    if ACTIVATION == 0u {
        return Bools(true);
    }
    if ACTIVATION == 1u {
        return y > Value(0.0);
    }
    return (y > Value(0.0)) & (y < Value(6.0));
}
