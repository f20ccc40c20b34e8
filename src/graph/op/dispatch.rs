//! The work of an op on a GPU, as plain data: which shaders run one after the other, with which
//! constants, on which operands, in how many workgroups.
//!
//! This module knows no GPU library; [`crate::exec`] turns the data into pipelines, and any other
//! host of WebGPU could.
//!
//! Conventions that every shader keeps, and that a test reflects it against:
//!
//! - Binding `i` of group 0 is `bindings[i]`: `read` for an input (or scratch that is read as one),
//!   `read_write` for an output or scratch.
//! - Shapes and attributes are `override` constants, so that the compiler unrolls loops and drops
//!   divisions; `constants` gives every one of them.
//! - A binding is as long as its operand, rounded up to whole vectors: any can be read as
//!   `array<vec4<f32>>`.
//! - At most [`MAX_BINDINGS`] storage buffers, no feature beyond standard WebGPU, but for
//!   operands that are stored in half precision ([`Shader::halves`]): shaders compile
//!   in a browser.
//! - A grid over a number of elements is folded by [`grid`]; `include/index.wgsl` unfolds it.

use super::Types;
use crate::graph::{Node, Value};
use crate::tensor::{DType, TensorType};

/// WebGPU guarantees no more storage buffers a dispatch.
pub const MAX_BINDINGS: usize = 8;
/// WebGPU guarantees no more workgroups in a dimension.
pub const MAX_GROUPS: u32 = 65_535;
/// Invocations of a workgroup in elementwise shaders and reductions: WebGPU guarantees no more.
pub const GROUP: usize = 256;
/// WebGPU guarantees that a binding of so many bytes is possible: longer inputs are bound in
/// pieces.
pub const PIECE_BYTES: usize = 128 << 20;

/// A hand-written shader. Its file begins with the names of what it includes, a line each:
/// `//!include index`. Of several, `//!include vec4 | vec1`, the op chooses one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// Stem of its file in `shaders/`.
    pub name: &'static str,
    /// The file's text.
    pub source: &'static str,
    /// The includes that the op chooses.
    pub chosen: &'static [&'static str],
    /// The bindings whose operands are stored in half precision.
    pub halves: Bindings,
}

/// Some of the bindings of a launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bindings(u8);

impl Bindings {
    /// None of them.
    pub const NONE: Bindings = Bindings(0);

    /// Those of these numbers, which are below [`MAX_BINDINGS`].
    pub fn of(numbers: impl IntoIterator<Item = usize>) -> Bindings {
        Bindings(numbers.into_iter().fold(0, |all, number| all | 1 << number))
    }

    /// Whether this one is among them.
    pub fn has(self, number: usize) -> bool {
        number < MAX_BINDINGS && self.0 >> number & 1 == 1
    }
}

/// How a line begins that names an include.
pub const INCLUDE: &str = "//!include ";

macro_rules! includes {
    ($($name:literal),*) => {
        &[$((
            $name,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/include/", $name, ".wgsl")),
        )),*]
    };
}

/// The files of `shaders/include/`.
pub const INCLUDES: &[(&str, &str)] = includes![
    "augment",
    "batch_norm",
    "colours",
    "conv",
    "depthwise",
    "epilogue",
    "function",
    "index",
    "joint",
    "nan",
    "pixels",
    "place",
    "pooled_gradient",
    "rng",
    "rows",
    "scaled",
    "sine",
    "softmax",
    "sum_block",
    "tile",
    "tree",
    "vec1",
    "vec4",
    "whole_gradient",
    "windows"
];

impl Shader {
    /// The WGSL: the file, with its includes in place of the lines that name them, behind what
    /// says how operands are stored.
    pub fn text(&self) -> String {
        let body = self.body();
        self.storage() + &body
    }

    /// The same without what says how operands are stored.
    pub fn body(&self) -> String {
        let lines = self.source.lines().map(|line| match line.strip_prefix(INCLUDE) {
            Some(names) => self.included(names),
            None => line,
        });
        lines.flat_map(|line| [line, "\n"]).collect()
    }

    /// The bindings whose operands may be stored in half precision: those whose number stands in
    /// a type `Stored3` or `StoredValue3` of the shader's text.
    pub fn may_be_halves(&self) -> Bindings {
        let body = self.body();
        Bindings::of(
            (0..MAX_BINDINGS).filter(|i| {
                body.contains(&format!("Stored{i}")) || body.contains(&format!("StoredValue{i}"))
            }),
        )
    }

    /// What `Stored3` and `StoredValue3` are, for the bindings that may be halves: the type of an
    /// element of binding 3, and of a `Value`.
    pub fn storage(&self) -> String {
        let body = self.body();
        let is_single = body.contains("alias Value = f32;");
        let aliases = (0..MAX_BINDINGS).flat_map(|i| {
            let element = if self.halves.has(i) { "f16" } else { "f32" };
            let value = if is_single { element.into() } else { format!("vec4<{element}>") };
            [(format!("Stored{i}"), element.to_string()), (format!("StoredValue{i}"), value)]
        });
        let used = aliases.filter(|(name, _)| body.contains(name.as_str()));
        let aliases: String = used.map(|(name, ty)| format!("alias {name} = {ty};\n")).collect();
        let feature = if aliases.contains("f16") { "enable f16;\n" } else { "" };
        format!("{feature}{aliases}")
    }

    /// The include of that name; of several, the one that is chosen.
    fn included(&self, names: &str) -> &'static str {
        let is_meant = |name: &str| names == name || self.chosen.contains(&name);
        let file = INCLUDES.iter().find(|(name, _)| names.split(" | ").any(|n| n == *name) && is_meant(name));
        file.unwrap_or_else(|| unreachable!("{}: no include is '{names}'", self.name)).1
    }
}

/// The shader of a name, with the includes that it is given to choose from:
/// `shader!("batch_norm_grad", "vec4", "whole_gradient")`.
macro_rules! shader {
    ($name:literal $(, $chosen:literal)*) => {
        $crate::graph::op::dispatch::Shader {
            name: $name,
            source: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $name, ".wgsl")),
            chosen: &[$($chosen),*],
            halves: $crate::graph::op::dispatch::Bindings::NONE,
        }
    };
}
pub(crate) use shader;

/// The same, for a shader over `Value`: the variant for four neighbouring channels at a time where
/// their number is a multiple of 4, for a single one elsewhere. See `include/vec4.wgsl`, and
/// [`width`].
macro_rules! wide_shader {
    ($channels:expr, $name:literal $(, $chosen:literal)*) => {
        match $crate::graph::op::dispatch::width($channels) {
            4 => $crate::graph::op::dispatch::shader!($name, "vec4" $(, $chosen)*),
            _ => $crate::graph::op::dispatch::shader!($name, "vec1" $(, $chosen)*),
        }
    };
}
pub(crate) use wide_shader;

/// Elements of a `Value` in a shader chosen by `wide_shader!` for so many channels.
pub fn width(channels: usize) -> usize {
    if channels.is_multiple_of(4) { 4 } else { 1 }
}

/// The memory behind a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// One of the op's inputs; never one that shares memory with an output.
    Input(usize),
    /// Piece `.1` of input `.0`, which may be larger than a binding: [`PIECE_BYTES`] from there on,
    /// or what is left.
    InputPiece(usize, usize),
    /// One of the op's outputs; of an op that works in place, it holds the input.
    Output(usize),
    /// One that an earlier dispatch wrote, to a shader that takes it for an input.
    OutputInput(usize),
    /// One of the temporary buffers in [`Dispatches::scratch`].
    Scratch(usize),
    /// The same of one of these.
    ScratchInput(usize),
    /// The bits of four numbers of the op, which a launch reads as data, so that it shares its
    /// pipeline with others.
    Numbers([u32; 4]),
    /// The same of a launch that [`may_be_joined`], which has them for each [`BLOCK`] of the
    /// operands before it; the operands after it are one for all.
    BlockNumbers([u32; 4]),
}

/// Elements for which a joined launch has the same [`Operand::BlockNumbers`]; each dispatch's
/// operands begin at a multiple of so many.
pub const BLOCK: usize = 256;

/// One launch of a shader.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch {
    /// The shader that runs.
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

impl Operand {
    /// The bits of the numbers, if it is some.
    pub fn numbers(self) -> Option<[u32; 4]> {
        match self {
            Operand::Numbers(bits) | Operand::BlockNumbers(bits) => Some(bits),
            _ => None,
        }
    }

    /// What it is of an op's operands, if it is one.
    fn of<'a, T>(self, inputs: &'a [T], outputs: &'a [T]) -> Option<&'a T> {
        match self {
            Operand::Input(i) | Operand::InputPiece(i, _) => inputs.get(i),
            Operand::Output(i) | Operand::OutputInput(i) => outputs.get(i),
            _ => None,
        }
    }

    /// The value of a node that it is, if it is one.
    pub fn value_of(self, node: &Node) -> Option<Value> {
        self.of(&node.inputs, &node.outputs).copied()
    }

    /// Whether a launch writes to it.
    pub fn is_written(self) -> bool {
        matches!(self, Operand::Output(_) | Operand::Scratch(_))
    }
}

impl Dispatch {
    /// The value of a constant, if the launch has it.
    pub fn constant(&self, name: &str) -> Option<f64> {
        self.constants.iter().find(|(own, _)| *own == name).map(|(_, value)| *value)
    }

    /// Of a launch that [`may_be_joined`]: the operands of which it treats every block by itself,
    /// then its numbers, and then the operands that are one for all.
    pub fn joinable(&self) -> Option<(&[Operand], [u32; 4], &[Operand])> {
        let is_of_blocks = |operand: &Operand| matches!(operand, Operand::BlockNumbers(_));
        let at = self.bindings.iter().position(is_of_blocks)?;
        let bits = self.bindings[at].numbers().unwrap_or_default();
        Some((&self.bindings[..at], bits, &self.bindings[at + 1..]))
    }

    /// The bindings of operands that are stored in half precision.
    fn halves(&self, types: &Types) -> Bindings {
        let is_half = |operand: Operand| {
            let ty = operand.of(&types.inputs, &types.outputs);
            ty.is_some_and(|ty| ty.dtype == DType::F16)
        };
        Bindings::of((0..self.bindings.len()).filter(|&i| is_half(self.bindings[i])))
    }

    /// The same launch on other operands.
    pub fn with_operands(mut self, operand: impl Fn(Operand) -> Operand) -> Dispatch {
        self.bindings.iter_mut().for_each(|binding| *binding = operand(*binding));
        self
    }
}

/// All launches of an op, in order; each sees what those before it wrote.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dispatches {
    /// Elements (of 4 bytes) of each temporary buffer; their contents are undefined at the start.
    pub scratch: Vec<usize>,
    /// In the order in which they run.
    pub list: Vec<Dispatch>,
}

impl Dispatches {
    /// The same launches on other operands.
    pub fn with_operands(mut self, operand: impl Fn(Operand) -> Operand) -> Dispatches {
        self.list = self.list.into_iter().map(|dispatch| dispatch.with_operands(&operand)).collect();
        self
    }

    /// The same launches, of shaders that read and write the operands as these types say that they
    /// are stored.
    pub fn stored_as(mut self, types: &Types) -> Dispatches {
        for dispatch in &mut self.list {
            let halves = dispatch.halves(types);
            if halves != Bindings::NONE {
                let may_be = dispatch.shader.may_be_halves();
                // A shader that knows none copies bits.
                dispatch.shader.halves = Bindings(halves.0 & may_be.0);
            }
        }
        self
    }

    /// These launches, with their one output of `len` elements in temporary memory; and its number.
    pub fn into_scratch(mut self, len: usize) -> (Dispatches, usize) {
        let to = self.scratch.len();
        self.scratch.push(len);
        let work = self.with_operands(|operand| match operand {
            Operand::Output(_) => Operand::Scratch(to),
            other => other,
        });
        (work, to)
    }

    /// These launches and then those of another op, which has temporary memory of its own and gets
    /// `operand` of its inputs and outputs.
    pub fn then(mut self, next: Dispatches, operand: impl Fn(Operand) -> Operand) -> Dispatches {
        let own = self.scratch.len();
        self.scratch.extend(&next.scratch);
        let next = next.with_operands(|of_next| match of_next {
            Operand::Scratch(i) => Operand::Scratch(own + i),
            Operand::ScratchInput(i) => Operand::ScratchInput(own + i),
            other => operand(other),
        });
        self.list.extend(next.list);
        self
    }
}

impl From<Dispatch> for Dispatches {
    fn from(dispatch: Dispatch) -> Self {
        Dispatches { scratch: Vec::new(), list: vec![dispatch] }
    }
}

/// Workgroups for `count` elements, `each` to a group, folded into two dimensions where one is too
/// short. The last row may be incomplete: shaders compare their index with the count.
pub fn grid(count: usize, each: usize) -> [u32; 3] {
    let groups = count.div_ceil(each) as u32;
    let rows = groups.div_ceil(MAX_GROUPS);
    [groups.div_ceil(rows.max(1)), rows, 1]
}

/// The one launch of a shader whose invocations compute a value (or a vec4) each, of `values`,
/// which it knows as `LENGTH`.
pub fn each_value(
    shader: Shader,
    values: usize,
    constants: &[(&'static str, f64)],
    bindings: Vec<Operand>,
) -> Dispatches {
    let constants = [constants, &[("LENGTH", values as f64)]].concat();
    Dispatches::from(Dispatch { shader, entry: "main", constants, bindings, groups: grid(values, GROUP) })
}

/// The launch of a shader whose invocations treat a vec4 each, of `elements`, and by the same rule
/// whatever operands these are of: so a device may let one launch do the work of several.
/// `operands` have that many elements; `wholes`, such as a rate, are one for all. Between the two
/// are bound the `numbers`, in which launches may differ (`include/joint.wgsl`).
pub fn may_be_joined(
    shader: Shader,
    elements: usize,
    constants: &[(&'static str, f64)],
    operands: &[Operand],
    numbers: [f32; 4],
    wholes: &[Operand],
) -> Dispatch {
    let numbers = Operand::BlockNumbers(numbers.map(f32::to_bits));
    let bindings = [operands, &[numbers], wholes].concat();
    let groups = grid(elements.div_ceil(4), GROUP);
    Dispatch { shader, entry: "main", constants: constants.to_vec(), bindings, groups }
}

/// How a matrix `[rows, channels]` is cut to be reduced over its rows, for the shaders with
/// `include/rows.wgsl`. First a workgroup reduces a block of rows, of `lanes` columns; then a
/// workgroup a column merges the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduction {
    rows: usize,
    /// In values.
    columns: usize,
    lanes: usize,
    /// Rows of a block.
    span: usize,
    blocks: usize,
}

impl Reduction {
    /// Cuts a tensor, whose channels are its last dimension, into enough blocks to fill a large
    /// GPU, but none so small that an invocation has fewer than four rows.
    pub fn new(x: &TensorType) -> Self {
        const FULL: usize = 512;
        let channels = x.shape.last();
        let (rows, columns) = (x.len() / channels, channels / width(channels));
        let lanes = lanes(columns);
        let least = 4 * GROUP / lanes;
        let blocks = rows.div_ceil(least).clamp(1, FULL.div_ceil(columns.div_ceil(lanes)));
        let span = rows.div_ceil(blocks).next_multiple_of(least).max(least);
        Reduction { rows, columns, lanes, span, blocks: rows.div_ceil(span).max(1) }
    }

    /// The same where a block has so many rows.
    pub fn in_blocks(rows: usize, channels: usize, span: usize) -> Self {
        let columns = channels / width(channels);
        Reduction { rows, columns, lanes: lanes(columns), span, blocks: rows.div_ceil(span) }
    }

    /// Blocks of rows.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Rows, values of a row and blocks, for a shader that takes them as data.
    pub fn numbers(&self) -> Operand {
        Operand::Numbers([self.rows, self.columns, self.blocks, 0].map(|number| number as u32))
    }

    /// Elements of a row, where these are whole vectors.
    pub fn channels(&self) -> usize {
        4 * self.columns
    }

    /// Elements of `vectors` vectors with an element for each channel of each block.
    pub fn partial(&self, vectors: usize, channels: usize) -> usize {
        vectors * self.blocks * channels
    }

    /// The constants of `include/rows.wgsl`.
    pub fn constants(&self) -> Vec<(&'static str, f64)> {
        let Reduction { rows, columns, lanes, span, blocks } = *self;
        let named =
            [("ROWS", rows), ("COLUMNS", columns), ("LANES", lanes), ("SPAN", span), ("BLOCKS", blocks)];
        named.map(|(name, value)| (name, value as f64)).to_vec()
    }

    /// Workgroups of the first stage.
    pub fn block_groups(&self) -> [u32; 3] {
        [self.columns.div_ceil(self.lanes) as u32, self.blocks as u32, 1]
    }

    /// Workgroups of the second stage.
    pub fn total_groups(&self) -> [u32; 3] {
        [self.columns as u32, 1, 1]
    }

    /// Workgroups with an invocation for each value of the matrix.
    pub fn value_groups(&self) -> [u32; 3] {
        grid(self.rows * self.columns, GROUP)
    }
}

/// Columns of a workgroup: 32 vec4s are 512 bytes in a row, more than any GPU fetches at a time.
pub fn lanes(columns: usize) -> usize {
    columns.next_power_of_two().min(32)
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

    #[test]
    fn a_reduction_covers_its_rows_and_fills_a_gpu() {
        for (rows, channels) in
            [(0, 4), (1, 1), (5, 3), (1000, 16), (131_072, 32), (6272, 1024), (524_288, 32), (64, 2048)]
        {
            let r = Reduction::new(&TensorType::f32([rows, channels]));
            assert!(r.blocks * r.span >= rows && (r.blocks - 1) * r.span < rows.max(1), "{r:?}");
            assert!(r.lanes * r.block_groups()[0] as usize >= r.columns && 256 % r.lanes == 0, "{r:?}");
            let groups = r.blocks * r.block_groups()[0] as usize;
            assert!(groups >= 256 || rows * channels < 256 * 4096, "{r:?}: only {groups} groups");
        }
    }
}
