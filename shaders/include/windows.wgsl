// Windows of a pooling: that of y[n, p, q, column] looks at the pixels of x from
// [p * STRIDE - PADDING, q * STRIDE - PADDING] on.
override LENGTH: u32;
override HEIGHT: u32;
override WIDTH: u32;
// Values of a pixel.
override COLUMNS: u32;
override OUT_HEIGHT: u32;
override OUT_WIDTH: u32;
override WINDOW: u32;
override STRIDE: u32;
// Pixels by which windows may reach over every border.
override PADDING: u32;

// The windows that look at a row, or a pixel of it.
struct Windows {
    first: u32,
    last: u32,
}

// Those of `out` that look at row `at`, counted from the padding's first.
fn windows_over(at: u32, out: u32) -> Windows {
    //~ max_pool_grad: min(at / STRIDE, => min(at / STRIDE - 1u,
    //~ max_pool_places_grad: min(at / STRIDE, => min(at / STRIDE - 1u,
    let last = min(at / STRIDE, out - 1u);
    return Windows(select((at - WINDOW) / STRIDE + 1u, 0u, at < WINDOW), last);
}
