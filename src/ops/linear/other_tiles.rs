//! The other tiles that the launch of a product could have: a tile's shape changes the time, and no
//! bit of the result.
//!
//! Every element is the sum over its depth in one order, whichever invocation computes it. What
//! would change the order stays: where the depth is cut and, where sums over the rows of a tile are
//! gathered, how many these are.

use super::tile::{FULL, TILES, TileShape, Tiling};
use crate::ops::dispatch::Dispatch;

/// Invocations that fill a small GPU, such as one that shares a chip with a CPU.
const SMALL_FULL: f64 = FULL / 8.0;

/// What a GPU has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// For the ops' own tiles, the largest of which take 104 to 112 registers an invocation.
    #[default]
    Large,
    /// For tiles of 8 x 4 elements an invocation, which take 64 to 80 registers.
    Small,
}

/// A launch of a product, whose tile can be another one.
pub struct Product<'a> {
    launch: &'a Dispatch,
    /// Rows, columns and depth.
    shape: [usize; 3],
    /// The depth that one workgroup sums.
    slice: usize,
    /// The tile that it has.
    pub tile: TileShape,
    keeps_rows: bool,
}

impl<'a> Product<'a> {
    /// None of a launch that computes no product in tiles.
    pub fn of(launch: &'a Dispatch) -> Option<Product<'a>> {
        let constant = |name| launch.constant(name).map(|value| value as usize);
        let [rows, columns] = [constant("TILE_ROWS")?, constant("TILE_COLUMNS")?];
        Some(Product {
            launch,
            shape: [constant("ROWS")?, constant("COLUMNS")?, constant("DEPTH")?],
            slice: constant("SLICE")?,
            tile: TILES.into_iter().find(|tile| (tile.rows, tile.columns) == (rows, columns))?,
            keeps_rows: launch.constant("GATHER")? > 0.0,
        })
    }

    /// Multiplications of the product, without those of padding.
    pub fn multiplications(&self) -> f64 {
        let products = self.launch.groups[2] as f64 / self.shape[2].div_ceil(self.slice).max(1) as f64;
        products * self.shape.map(|length| length as f64).iter().product::<f64>()
    }

    /// What tells it from other products, whatever its tile: its shader and its constants.
    pub fn key(&self) -> String {
        let shader = &self.launch.shader;
        let of_tile = self.tile.constants();
        let others =
            self.launch.constants.iter().filter(|(name, _)| of_tile.iter().all(|(own, _)| own != name));
        let constants: String = others.map(|(name, value)| format!(" {name} {value}")).collect();
        let count = self.launch.groups[2];
        format!("{} {} {:?} {count}{constants}", shader.name, self.launch.entry, shader.halves)
    }

    /// The tiles that it can have, the fastest by an estimate first.
    pub fn tiles(&self, room: Room) -> Vec<TileShape> {
        let full = if room == Room::Small { SMALL_FULL } else { FULL };
        let cost = |tile: TileShape| Tiling { tile, slice: self.slice }.cost(self.shape, full);
        let mut tiles: Vec<TileShape> =
            TILES.into_iter().filter(|tile| !self.keeps_rows || tile.rows == self.tile.rows).collect();
        tiles.sort_by(|a, b| match room {
            Room::Small if a.wide != b.wide => a.wide.cmp(&b.wide),
            _ => cost(*a).total_cmp(&cost(*b)),
        });
        tiles
    }

    /// Those of [`Self::tiles`] that are worth being timed: the first one, the first whose
    /// invocations compute more elements or fewer than its, and the best of the others.
    pub fn candidates(&self, room: Room) -> Vec<TileShape> {
        let tiles = self.tiles(room);
        let Some(&first) = tiles.first() else { return Vec::new() };
        let other = tiles.iter().copied().find(|tile| tile.wide != first.wide);
        let next = tiles.iter().copied().find(|&tile| tile != first && Some(tile) != other);
        [Some(first), other, next].into_iter().flatten().collect()
    }

    /// The launch with one of [`Self::tiles`].
    pub fn with_tile(&self, tile: TileShape) -> Dispatch {
        let mut launch = self.launch.clone();
        for (name, value) in tile.constants() {
            let own = launch.constants.iter_mut().filter(|(own, _)| *own == name);
            own.for_each(|(_, own)| *own = value);
        }
        let [rows, columns, _] = self.shape;
        let [x, y] = tile.groups(rows, columns);
        launch.groups = [x, y, launch.groups[2]];
        launch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::matmul;
    use crate::ops::dispatch::Operand;
    use crate::ops::linear::matmul::on_gpu;
    use crate::ops::linear::tile::Gather;

    fn launch(rows: usize, columns: usize, depth: usize, gather: Option<Gather>) -> Dispatch {
        let product =
            matmul::Product { m: rows, n: columns, k: depth, a_transposed: false, b_transposed: false };
        let product = on_gpu(&product, [Operand::Input(0), Operand::Input(1)]);
        let tiling = Tiling::choose(rows, columns, depth);
        let work = match gather {
            Some(gather) => product.gathering(tiling, gather).unwrap().0,
            None => product.dispatches(tiling),
        };
        work.list[0].clone()
    }

    #[test]
    fn large_gpus_keep_their_tiles_and_small_ones_get_narrow_ones() {
        for (rows, columns, depth) in
            [(65_536, 128, 1152), (4096, 64, 576), (1152, 128, 32_768), (512, 10, 2048)]
        {
            let launch = launch(rows, columns, depth, None);
            let product = Product::of(&launch).unwrap();
            assert_eq!(product.with_tile(product.tile), launch);
            assert_eq!(product.tiles(Room::Large)[0], product.tile, "the same estimate");
            assert_eq!(product.multiplications(), (rows * columns * depth) as f64);
            for room in [Room::Large, Room::Small] {
                assert_eq!(product.tiles(room).len(), TILES.len());
                let candidates = product.candidates(room);
                assert!(candidates.len() == 3 && candidates.iter().any(|tile| !tile.wide), "{candidates:?}");
                for tile in candidates {
                    let other = product.with_tile(tile);
                    let other = Product::of(&other).unwrap();
                    assert_eq!((other.tile, other.key()), (tile, product.key()));
                    assert_eq!(other.launch.groups[2], launch.groups[2], "cut alike");
                }
            }
            assert!(!product.tiles(Room::Small)[0].wide);
        }
    }

    #[test]
    fn gathered_sums_keep_the_rows_of_a_tile() {
        let launch = launch(65_536, 128, 64, Some(Gather::Moments));
        let product = Product::of(&launch).unwrap();
        let tiles = product.tiles(Room::Small);
        assert!(tiles.len() > 1 && tiles.iter().all(|tile| tile.rows == product.tile.rows), "{tiles:?}");
    }

    #[test]
    fn products_differ_by_shape_and_what_is_no_product_has_no_tiles() {
        let [a, b] = [64, 68].map(|columns| launch(4096, columns, 64, None));
        assert_ne!(Product::of(&a).unwrap().key(), Product::of(&b).unwrap().key());
        let mut other = a;
        other.constants.retain(|(name, _)| *name != "TILE_ROWS");
        assert!(Product::of(&other).is_none());
    }
}
