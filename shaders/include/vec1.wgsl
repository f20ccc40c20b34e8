// What an invocation reads, computes and writes at a time: here a single element. See vec4.wgsl.
alias Value = f32;
alias Bits = u32;
alias Bools = bool;

// Of what belongs to four neighbouring elements, the part of value i.
fn part(all: vec4<f32>, i: u32) -> Value {
    return all[i % 4u];
}
