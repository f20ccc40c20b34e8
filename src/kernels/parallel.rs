//! Work sharing whose results never depend on the number of threads: an item is computed wholly by one
//! worker and writes only what it owns.

use std::sync::Mutex;

use rayon::prelude::*;

/// Calls `work(item, scratch)` for every item, on as many workers as `scratch` holds runs of
/// `scratch_each` elements (at least one). Items are handed out in order, one at a time, so uneven ones
/// balance; `scratch` arrives with whatever the last item left in it.
pub fn for_each<I>(
    items: I,
    scratch: &mut [f32],
    scratch_each: usize,
    work: impl Fn(I::Item, &mut [f32]) + Sync,
) where
    I: Iterator + Send,
    I::Item: Send,
{
    let items = Mutex::new(items);
    let next = || items.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
    let worker = |scratch: &mut [f32]| {
        while let Some(item) = next() {
            work(item, scratch);
        }
    };
    if scratch_each == 0 {
        (0..rayon::current_num_threads()).into_par_iter().for_each(|_| worker(&mut []));
    } else {
        scratch.par_chunks_exact_mut(scratch_each).for_each(worker);
    }
}

/// Images of `image` elements in blocks of `rows` rows of `row` elements, the last one of an image of what is left:
/// (image, first row, the rows).
pub fn row_blocks(
    y: &mut [f32],
    image: usize,
    row: usize,
    rows: usize,
) -> impl Iterator<Item = (usize, usize, &mut [f32])> + Send {
    y.chunks_exact_mut(image).enumerate().flat_map(move |(index, image)| {
        image.chunks_mut(rows * row).enumerate().map(move |(block, y)| (index, block * rows, y))
    })
}
