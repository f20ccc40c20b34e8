// What depthwise convolution and its gradients share: the geometry, and four neighbouring pixels of
// one column.
override HEIGHT: u32;
override WIDTH: u32;
// Values of a pixel.
override COLUMNS: u32;
override OUT_HEIGHT: u32;
override OUT_WIDTH: u32;
override KERNEL_HEIGHT: u32;
override KERNEL_WIDTH: u32;
override STRIDE: u32;
override PAD_TOP: u32;
override PAD_LEFT: u32;

struct Four {
    a: Value,
    b: Value,
    c: Value,
    d: Value,
}

fn multiply_add(weight: Value, x: Four, sums: Four) -> Four {
    return Four(
        fma(weight, x.a, sums.a),
        fma(weight, x.b, sums.b),
        fma(weight, x.c, sums.c),
        fma(weight, x.d, sums.d),
    );
}

@group(0) @binding(3) var<storage, read> other: array<StoredValue3>;
@group(0) @binding(4) var<storage, read_write> kept: array<StoredValue4>;

// What is stored at `at`.
fn finished(at: u32, sum: Value, shift: Value) -> Value {
    var beside = Value(0.0);
    if OTHER != 0u {
        beside = Value(other[at]);
    }
    let z = before_activation(sum, shift, beside);
    if KEPT {
        //~ grouped_conv2d: (z) => (sum)
        kept[at] = StoredValue4(z);
    }
    return after_activation(z, beside);
}
