// The numbers for vec4 i of a launch, which may do the work of several: those of each block of 256
// elements (BLOCK in src/graph/op/dispatch.rs), or of all.
fn numbers_at(i: u32) -> vec4<f32> {
    return numbers[min(i / 64u, arrayLength(&numbers) - 1u)];
}
