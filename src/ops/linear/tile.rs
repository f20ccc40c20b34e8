//! Matrix products on a GPU: the constants of `shaders/include/tile.wgsl`, on which matmul and the
//! convolutions are built.
//!
//! Nothing here depends on the GPU: the same shapes give the same sums, whichever it is.

use std::fmt::{Display, Formatter};

use crate::ops::dispatch::{
    Dispatch, Dispatches, GROUP, Operand, PIECE_BYTES, Reduction, Shader, grid, shader,
};
use crate::ops::norm::scale_shift::Scaled;
use crate::ops::{Activation, Function, function_constants};

/// Depths that a workgroup has in its memory at a time, as in the shader.
const STEP: usize = 16;
/// A slice of the depth has at least as many steps: enough to make up for the partial sums.
const MIN_STEPS: usize = 8;
/// Invocations that fill a large GPU, with the registers they need: two workgroups of 256 on each
/// of some 130 processors.
pub(super) const FULL: f64 = 65_536.0;
/// Multiplications that take as long as to read the operands of one multiplication in a 1 x 1 tile,
/// about.
const LOAD_COST: f64 = 16.0;
/// Multiplications that take as long as to write a partial sum and read it again, about.
const PARTIAL_COST: f64 = 80.0;

/// The part of the output that a workgroup computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileShape {
    /// Rows of the output.
    pub rows: usize,
    /// Columns of the output.
    pub columns: usize,
    /// Whether an invocation computes 8 x 8 elements; else it is 8 x 4.
    pub wide: bool,
}

/// All tiles, the smallest first: large ones reuse what they have read more often, small ones waste
/// less of a small output and give more workgroups.
pub const TILES: [TileShape; 9] = {
    const fn tile(rows: usize, columns: usize, wide: bool) -> TileShape {
        TileShape { rows, columns, wide }
    }
    [
        tile(32, 16, false),
        tile(64, 16, false),
        tile(128, 16, false),
        tile(32, 32, false),
        tile(64, 32, false),
        tile(128, 32, false),
        tile(64, 64, true),
        tile(128, 64, true),
        tile(128, 128, true),
    ]
};

impl TileShape {
    fn invocations(self) -> usize {
        self.rows * self.columns / if self.wide { 64 } else { 32 }
    }

    fn count(self, rows: usize, columns: usize) -> usize {
        rows.div_ceil(self.rows) * columns.div_ceil(self.columns)
    }

    /// The constants of a launch that depend on its tile.
    pub(super) fn constants(self) -> [(&'static str, f64); 6] {
        [
            ("TILE_ROWS", self.rows as f64),
            ("TILE_COLUMNS", self.columns as f64),
            ("WIDE", f64::from(self.wide)),
            ("INVOCATIONS", self.invocations() as f64),
            ("LENGTH_A", (self.rows * STEP / 4) as f64),
            ("LENGTH_B", (self.columns * STEP / 4) as f64),
        ]
    }

    /// The workgroups, in x and y, of a product of so many rows and columns.
    pub(super) fn groups(self, rows: usize, columns: usize) -> [u32; 2] {
        let [x, y, _] = grid(self.count(rows, columns), 1);
        [x, y]
    }
}

impl Display for TileShape {
    fn fmt(&self, formatter: &mut Formatter) -> std::fmt::Result {
        write!(formatter, "{} x {}", self.rows, self.columns)
    }
}

/// How a product is divided among workgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// The part of the output that one workgroup computes.
    pub tile: TileShape,
    /// The depth that one workgroup sums: a multiple of 16.
    pub slice: usize,
}

impl Tiling {
    /// The fastest, by an estimate, for a product of this shape.
    pub fn choose(rows: usize, columns: usize, depth: usize) -> Tiling {
        let most = (depth / (MIN_STEPS * STEP)).min(PIECE_BYTES / (4 * rows * columns)).max(1);
        let slices = std::iter::successors(Some(1), |n| Some(2 * n)).take_while(|n| *n <= most);
        Self::fastest(slices, rows, columns, depth)
    }

    /// The fastest that does not cut the depth.
    pub fn choose_whole(rows: usize, columns: usize, depth: usize) -> Tiling {
        Self::fastest(std::iter::once(1), rows, columns, depth)
    }

    fn fastest(slices: impl Iterator<Item = usize>, rows: usize, columns: usize, depth: usize) -> Tiling {
        let tilings = slices.flat_map(|slices| {
            let slice = depth.div_ceil(slices).next_multiple_of(STEP).max(STEP);
            TILES.map(|tile| Tiling { tile, slice })
        });
        let cost = |tiling: &Tiling| tiling.cost([rows, columns, depth], FULL);
        tilings.min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap_or(Tiling { tile: TILES[0], slice: STEP })
    }

    /// Slices of a depth.
    fn slices(self, depth: usize) -> usize {
        depth.div_ceil(self.slice).max(1)
    }

    /// The time a product of so many rows, columns and depths takes, in multiplications: those of
    /// the padded tiles, their operands, what stands idle because there are too few workgroups or a
    /// few too many for a GPU that so many invocations fill, and the partial sums.
    pub(super) fn cost(self, [rows, columns, depth]: [usize; 3], full: f64) -> f64 {
        let TileShape { rows: tile_rows, columns: tile_columns, .. } = self.tile;
        let (tiles, slices) = (self.tile.count(rows, columns), self.slices(depth));
        let products = (tiles * tile_rows * tile_columns) as f64 * depth as f64;
        let loads = 1.0 / tile_rows.min(rows) as f64 + 1.0 / tile_columns.min(columns) as f64;
        // The last of the workgroups that follow each other leave some of a GPU idle.
        let rounds = (tiles * slices * self.tile.invocations()) as f64 / full;
        let busy = rounds / rounds.ceil();
        let partials = if slices > 1 { (slices * rows * columns) as f64 } else { 0.0 };
        products * (1.0 + LOAD_COST * loads) / busy + PARTIAL_COST * partials
    }
}

/// Work of a shader around `include/epilogue.wgsl` on a finished sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue {
    /// Added first: one element a column.
    pub bias: Option<Operand>,
    /// Added next: of the output's shape.
    pub residual: Option<Operand>,
    /// Where the sum is stored as it is then.
    pub kept: Option<Operand>,
    /// Applied last.
    pub activation: Activation,
    /// Instead of all this the sum is multiplied by a function's slope, which is one of this
    /// operand ([`Function::slope_of`]).
    pub slope: Option<(Function, Operand)>,
}

impl Epilogue {
    /// With a bias at most.
    pub fn biased(bias: Option<Operand>) -> Epilogue {
        Epilogue { bias, ..Epilogue::default() }
    }

    /// The constants of `include/epilogue.wgsl`, and of the function.
    pub fn constants(&self) -> Vec<(&'static str, f64)> {
        let other = match (self.residual, self.slope) {
            (None, None) => 0.0,
            (Some(_), _) => 1.0,
            (None, Some(_)) => 2.0,
        };
        let function = self.slope.map_or(self.activation, |(function, _)| Some(function));
        let own = [
            ("BIAS", f64::from(self.bias.is_some())),
            ("OTHER", other),
            ("KEPT", f64::from(self.kept.is_some())),
        ];
        own.into_iter().chain(function_constants(function)).collect()
    }

    /// Operands behind the shader's `bias`, `other` and `kept`: every binding must be, where there
    /// is none, to anything that is read, or to scratch.
    pub fn bindings(&self, read: Operand, scratch: Operand) -> [Operand; 3] {
        let other = self.residual.or(self.slope.map(|(_, v)| v));
        [self.bias.unwrap_or(read), other.unwrap_or(read), self.kept.unwrap_or(scratch)]
    }
}

/// Elements of the scratch that `kept` is bound to where nothing is kept.
pub const NOTHING_KEPT: usize = 4;

/// Sums over the rows of a tile of Y, column by column, that are gathered while these are in
/// registers: for each tile's rows two vectors of columns.
#[derive(Clone, Copy, Debug)]
pub enum Gather {
    /// Means, then the sums of squared deviations from them.
    Moments,
    /// Y is the gradient of a normalisation's output, g the part of it that passes the activation:
    /// sums of g (x - mean), then of g.
    NormGrad {
        /// The normalisation's.
        activation: Activation,
        /// The normalisation's input, of the shape of Y.
        x: Operand,
        /// Scales and shifts.
        scale_shift: Operand,
        /// Means.
        mean: Operand,
    },
}

/// A product Y = A B that a shader around `include/tile.wgsl` computes.
pub struct TiledProduct {
    /// After `epilogue` and `tile`.
    pub shader: Shader,
    /// Those that are the shader's own.
    pub constants: Vec<(&'static str, f64)>,
    /// A, `[rows, depth]` or whatever the shader reads it from.
    pub a: Operand,
    /// B, `[depth, columns]` or whatever the shader reads it from.
    pub b: Operand,
    /// Normalisation of A as it is read, and scales and shifts of its channels; none that is more
    /// than a cut.
    pub input: Option<(Scaled, Operand)>,
    /// Work on Y as it is written.
    pub epilogue: Epilogue,
    /// Number of such products, one after the other in memory.
    pub count: usize,
    /// Rows of A and Y.
    pub rows: usize,
    /// Columns of B and Y.
    pub columns: usize,
    /// Columns of A and rows of B.
    pub depth: usize,
    /// Whether A's and B's contiguous runs are multiples of four elements.
    pub vectors: [bool; 2],
}

impl TiledProduct {
    /// Computes output 0. With more than one slice, Y's rows must be those of the output, and there
    /// may be one product alone.
    pub fn dispatches(&self, tiling: Tiling) -> Dispatches {
        let slices = tiling.slices(self.depth);
        if slices == 1 {
            let list = vec![self.dispatch(tiling, self.epilogue, Operand::Output(0), None)];
            return Dispatches { scratch: vec![NOTHING_KEPT], list };
        }
        let length = self.rows * self.columns;
        let product = self.dispatch(tiling, Epilogue::default(), Operand::Scratch(1), None);
        let sum = sum_partials(Partials { slices, length, columns: self.columns, at: 1 }, self.epilogue);
        Dispatches { scratch: vec![NOTHING_KEPT, slices * length], list: vec![product, sum] }
    }

    /// Computes output 0 and, into scratch 0, what is gathered; returns how the rows are divided,
    /// too. None of a product that is cut, of which there are several, or whose rows are no whole
    /// vectors.
    pub fn gathering(&self, tiling: Tiling, gather: Gather) -> Option<(Dispatches, Reduction)> {
        if tiling.slices(self.depth) > 1 || self.count > 1 || !self.columns.is_multiple_of(4) {
            return None;
        }
        let reduction = Reduction::in_blocks(self.rows, self.columns, tiling.tile.rows);
        let list = vec![self.dispatch(tiling, self.epilogue, Operand::Output(0), Some(gather))];
        Some((Dispatches { scratch: vec![reduction.partial(2, self.columns)], list }, reduction))
    }

    fn dispatch(&self, tiling: Tiling, epilogue: Epilogue, y: Operand, gather: Option<Gather>) -> Dispatch {
        let Tiling { tile, slice } = tiling;
        let [across, down] = tile.groups(self.rows, self.columns);
        let mut constants = vec![
            ("ROWS", self.rows as f64),
            ("COLUMNS", self.columns as f64),
            ("DEPTH", self.depth as f64),
            ("A_VECTORS", f64::from(self.vectors[0])),
            ("B_VECTORS", f64::from(self.vectors[1])),
        ];
        constants.extend(tile.constants());
        constants.extend([("SLICE", slice as f64), ("SLICES", tiling.slices(self.depth) as f64)]);
        let [mut bias, mut other, kept] = epilogue.bindings(self.b, Operand::Scratch(0));
        let mut scale_shift = self.input.map_or(self.b, |(_, both)| both);
        let mut own = epilogue.constants();
        if let Some(Gather::NormGrad { activation, x, scale_shift: both, mean }) = gather {
            (bias, other, scale_shift) = (mean, x, both);
            own = Epilogue { activation, ..epilogue }.constants();
        }
        let number = gather.map_or(0.0, |gather| if let Gather::Moments = gather { 1.0 } else { 2.0 });
        constants.push(("GATHER", number));
        constants.extend(own);
        constants.extend(Scaled::constants(self.input.map(|(scaled, _)| scaled)).unwrap_or_default());
        constants.extend(&self.constants);
        Dispatch {
            shader: self.shader,
            entry: if self.columns.is_multiple_of(4) { "vectors" } else { "scalars" },
            constants,
            bindings: vec![self.a, self.b, bias, y, other, kept, scale_shift],
            groups: [across, down, (self.count * tiling.slices(self.depth)) as u32],
        }
    }
}

/// Partial results of output 0, one after the other in scratch.
pub(crate) struct Partials {
    /// How many there are.
    pub slices: usize,
    /// Elements of each.
    pub length: usize,
    /// Elements of a row.
    pub columns: usize,
    /// The number of the scratch; scratch 0 holds [`NOTHING_KEPT`].
    pub at: usize,
}

/// Adds up partial results.
pub(crate) fn sum_partials(
    Partials { slices, length, columns, at }: Partials,
    epilogue: Epilogue,
) -> Dispatch {
    // Each invocation adds at least four, but for the last ones.
    let ways = (slices / 4).next_power_of_two().min(16);
    let mut constants = vec![("WAYS", ways as f64), ("ELEMENTS", (GROUP / ways) as f64)];
    constants.extend(epilogue.constants());
    let [bias, other, kept] = epilogue.bindings(Operand::Input(0), Operand::Scratch(0));
    Dispatch {
        shader: shader!("partial_sums"),
        entry: "main",
        constants,
        // As data, so that one pipeline serves most products.
        bindings: vec![
            Operand::Scratch(at),
            bias,
            Operand::Output(0),
            other,
            kept,
            Operand::Numbers([length, slices, columns, 0].map(|number| number as u32)),
        ],
        groups: grid(length, GROUP / ways),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(rows: usize, columns: usize, depth: usize) -> (usize, usize, usize) {
        let tiling = Tiling::choose(rows, columns, depth);
        (tiling.tile.rows, tiling.tile.columns, tiling.slices(depth))
    }

    #[test]
    fn large_products_get_large_tiles_and_small_ones_enough_workgroups() {
        assert_eq!(chosen(4096, 4096, 4096), (128, 128, 1));
        // Few rows, few columns: a tile that is not much larger.
        assert_eq!(chosen(512 * 1024, 10, 288), (128, 16, 1));
        assert_eq!(chosen(512 * 1024, 32, 288), (128, 32, 1));
        // The gradients of weights: slices of a long depth, but not too many.
        for (rows, columns, depth) in [(27, 32, 512 * 1024), (1152, 128, 512 * 64), (512, 10, 512)] {
            let Tiling { tile, slice } = Tiling::choose(rows, columns, depth);
            let slices = depth.div_ceil(slice);
            assert!(tile.count(rows, columns) * slices * tile.invocations() >= 1024, "{tile:?} {slices}");
            assert!(slice >= MIN_STEPS * STEP && slice.is_multiple_of(STEP), "{slice}");
        }
    }
}
