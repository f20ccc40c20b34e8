// What depthwise convolution and its gradients share: the geometry, and four neighbouring pixels of one column.
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
