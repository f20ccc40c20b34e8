// What an invocation reads, computes and writes at a time: here four neighbouring channels, where
// their number is a multiple of 4. vec1.wgsl takes this file's place where it is not; shaders read
// alike over both. In memory a value may be of halves (README.md).
alias Value = vec4<f32>;
alias Bits = vec4<u32>;
alias Bools = vec4<bool>;
