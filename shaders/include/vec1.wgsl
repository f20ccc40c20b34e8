// What an invocation reads, computes and writes at a time: here a single element. See vec4.wgsl.
alias Value = f32;
alias Bits = u32;
alias Bools = bool;
