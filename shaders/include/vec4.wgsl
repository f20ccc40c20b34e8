// What an invocation reads, computes and writes at a time: here four neighbouring elements, where their number (or that
// of the channels) is a multiple of 4. vec1.wgsl takes this file's place where it is not; shaders read alike over both.
alias Value = vec4<f32>;
alias Bits = vec4<u32>;
alias Bools = vec4<bool>;

// Of what belongs to four neighbouring elements, the part of value i.
fn part(all: vec4<f32>, i: u32) -> Value {
    return all;
}
