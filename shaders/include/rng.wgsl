// The twin of src/kernels/rng.rs, bit for bit: pcg4d (Jarzynski and Olano 2020).
fn pcg4d(counter: vec4<u32>) -> vec4<u32> {
    var v = mix_words(counter * 1664525u + 1013904223u);
    //~ augment: v >> vec4(16u) => v >> vec4(15u)
    v ^= v >> vec4(16u);
    return mix_words(v);
}

fn mix_words(counter: vec4<u32>) -> vec4<u32> {
    var v = counter;
    v.x += v.y * v.w;
    //~ dropout: v.y += v.z * v.x => v.y += v.z
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    return v;
}

// The four numbers at (index, step) of a stream.
fn draw(seed: u32, stream: u32, step: u32, index: u32) -> vec4<u32> {
    return pcg4d(vec4(index, step, stream, seed));
}

// Maps 32 random bits to [0, 1) with 24 bits of precision, exactly.
fn unit(bits: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(bits >> vec4(8u)) * (1.0 / 16777216.0);
}

// Maps 32 random bits to 0..bound by the high half of their product; for bounds below 65536, so
// that no part overflows.
fn below(bits: u32, bound: u32) -> u32 {
    return ((bits >> 16u) * bound + (((bits & 0xffffu) * bound) >> 16u)) >> 16u;
}
