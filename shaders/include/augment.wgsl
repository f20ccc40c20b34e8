// The twins of `Image::draw` and `Image::constant` in src/ops/augment/mod.rs.
override SEED: u32;
override STREAM: u32;

// The random numbers of image n of a batch, four a draw.
fn image_draw(n: u32, step: u32, number: u32) -> vec4<u32> {
    //~ cutout: number % 2u => 0u
    return draw(SEED, STREAM, step, 2u * n + number % 2u + ((number / 2u) << 24u));
}

// Those of image `index` of the data set, the same in every step.
fn image_constant(index: u32) -> vec4<u32> {
    return draw(SEED, STREAM, 0xffffffffu, index);
}
