//! What an op does on a GPU, as plain data: which shaders run one after the other, with which constants, on
//! which operands, in how many workgroups. This module knows no GPU library; [`crate::exec`] turns the data into
//! pipelines, and any other host of WebGPU could.
//!
//! Conventions that every shader keeps, and that a test reflects it against:
//!
//! - Binding `i` of group 0 is `bindings[i]`: `read` for an input, `read_write` for an output or scratch.
//! - Shapes and attributes are `override` constants, so that the compiler unrolls loops and drops divisions;
//!   `constants` gives every one of them.
//! - At most [`MAX_BINDINGS`] storage buffers, no feature beyond standard WebGPU: shaders compile in a browser.
//! - A grid over a number of elements is folded by [`grid`]; `include/index.wgsl` unfolds it.

/// WebGPU guarantees no more storage buffers a dispatch.
pub const MAX_BINDINGS: usize = 8;
/// WebGPU guarantees no more workgroups in a dimension.
pub const MAX_GROUPS: u32 = 65_535;
/// WebGPU guarantees that a binding of so many bytes is possible: longer inputs are bound in pieces.
pub const PIECE_BYTES: usize = 128 << 20;

/// A hand-written shader: the WGSL of the files it includes, and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// Stem of its file in `shaders/`.
    pub name: &'static str,
    /// To be concatenated.
    pub sources: &'static [&'static str],
}

/// The shader of a name, after those of `shaders/include/` that it needs: `shader!("augment", "index", "rng")`.
macro_rules! shader {
    ($name:literal $(, $include:literal)*) => {
        $crate::ops::dispatch::Shader {
            name: $name,
            sources: &[
                $(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/include/", $include, ".wgsl")),)*
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl")),
            ],
        }
    };
}
pub(crate) use shader;

/// What a binding is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// One of the op's inputs; never one that shares memory with an output.
    Input(usize),
    /// Piece `.1` of input `.0`, which may be larger than a binding: [`PIECE_BYTES`] from there on, or what is left.
    /// A piece past the end is bound to the first one.
    InputPiece(usize, usize),
    /// One of the op's outputs; of an op that works in place, it holds the input.
    Output(usize),
    /// One of the temporary buffers in [`Dispatches::scratch`].
    Scratch(usize),
}

/// One launch of a shader.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch {
    /// What runs.
    pub shader: Shader,
    /// Its entry point.
    pub entry: &'static str,
    /// Values of all its `override` constants; booleans as 0 and 1.
    pub constants: Vec<(&'static str, f64)>,
    /// In the order of the binding numbers.
    pub bindings: Vec<Operand>,
    /// Workgroups in x, y, z.
    pub groups: [u32; 3],
}

/// All launches of an op, in order; each sees what those before it wrote.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dispatches {
    /// Elements (of 4 bytes) of each temporary buffer; their contents are undefined at the start.
    pub scratch: Vec<usize>,
    /// In the order in which they run.
    pub list: Vec<Dispatch>,
}

impl From<Dispatch> for Dispatches {
    fn from(dispatch: Dispatch) -> Self {
        Dispatches { scratch: Vec::new(), list: vec![dispatch] }
    }
}

/// Workgroups for `count` elements, `each` to a group, folded into two dimensions where one is too short.
/// The last row may be incomplete: shaders compare their index with the count.
pub fn grid(count: usize, each: usize) -> [u32; 3] {
    let groups = count.div_ceil(each) as u32;
    let rows = groups.div_ceil(MAX_GROUPS);
    [groups.div_ceil(rows.max(1)), rows, 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_covers_its_elements_within_the_limits() {
        for count in [1, 255, 256, 257, 65_535 * 256, 65_535 * 256 + 1, 300_000_000] {
            let [x, y, z] = grid(count, 256);
            assert!(x <= MAX_GROUPS && y <= MAX_GROUPS && z == 1, "{count}");
            assert!(x as usize * y as usize * 256 >= count, "{count}");
            assert!((x as usize * y as usize - count.div_ceil(256)) < y as usize, "{count}: too many groups");
        }
    }
}
