//! Work sharing whose results never depend on the number of threads: an item is computed wholly by
//! one worker and writes only what it owns.

use std::cell::Cell;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::{ThreadPool, ThreadPoolBuilder};

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// A flag that is set when this goes, also by a panic.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs `work`, and in it every [`for_each`] on the calling thread only: what runs is itself a
/// share of the work.
pub fn alone(work: impl FnOnce()) {
    /// Also after a panic the thread works with the others again, if it did before.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _before = Before(ALONE.replace(true));
    work();
}

/// A pool of so many threads; 0 means one a core. There is no other pool: what runs in parallel
/// runs in one of these, so that `--threads` holds for everything.
///
/// # Errors
/// If the operating system gives no threads.
pub fn pool(threads: usize) -> Result<ThreadPool, PoolError> {
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, NonZero::get),
        threads => threads,
    };
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|source| PoolError { threads, source })
}

/// The error of threads that the operating system does not give.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {threads} threads: {source}")]
pub struct PoolError {
    threads: usize,
    source: rayon::ThreadPoolBuildError,
}

/// How many threads [`for_each`] runs on from here.
pub fn workers() -> usize {
    if ALONE.get() { 1 } else { rayon::current_num_threads() }
}

/// Elements of a worker's share of `len`, where each is worked out for itself and that takes next
/// to no time: a multiple of `lanes`.
pub fn share(len: usize, lanes: usize) -> usize {
    len.div_ceil(workers()).next_multiple_of(lanes)
}

/// Calls `work(item, scratch)` for every item, on as many workers as `scratch` holds runs of
/// `scratch_each` elements (at least one). Items are handed out in order, one at a time, so uneven
/// ones balance; `scratch` arrives with whatever the last item left in it.
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
    let room = scratch.len().checked_div(scratch_each).unwrap_or(usize::MAX);
    each_worker(workers().min(room), scratch, scratch_each, &worker);
}

/// Calls `worker` on `count` threads (at least one), each with its own run of the scratch.
fn each_worker(count: usize, scratch: &mut [f32], each: usize, worker: &(impl Fn(&mut [f32]) + Sync)) {
    if count <= 1 {
        return worker(&mut scratch[..each]);
    }
    let (begun, done) = (&AtomicBool::new(false), &AtomicBool::new(false));
    let half = count / 2;
    let (own, others) = scratch.split_at_mut(half * each);
    rayon::join(
        || {
            each_worker(half, own, each, worker);
            // Awake, where `join` would soon sleep. What nobody has begun by now is left to it:
            // this thread runs it.
            while begun.load(Ordering::Acquire) && !done.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
        },
        || {
            begun.store(true, Ordering::Release);
            let _done = SetAtEnd(done);
            each_worker(count - half, others, each, worker);
        },
    );
}

/// Images of `image` elements in blocks of `rows` rows of `row` elements, the last one of an image
/// of what is left: (image, first row, the rows).
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

/// Work on each block of rows of an output as soon as it is written, while it is in the cache: it
/// is changed, or reduced into a part of its own. Blocks depend on the shape only, not on the
/// number of threads.
pub struct Epilogue<'a> {
    parts: &'a mut [f32],
    /// Elements of a part; none for as many as the block has.
    each: Option<usize>,
    finish: Option<Finish<'a>>,
}

/// Function of a block and its part.
type Finish<'a> = &'a (dyn Fn(OutputBlock, &mut [f32]) + Sync);

/// An output, and what is to be done with its blocks.
pub struct Destination<'a> {
    /// The output, whole.
    pub y: &'a mut [f32],
    /// Work on each block once it is written.
    pub epilogue: Epilogue<'a>,
}

impl<'a> From<&'a mut [f32]> for Destination<'a> {
    fn from(y: &'a mut [f32]) -> Self {
        Destination { y, epilogue: Epilogue::none() }
    }
}

/// A block of rows of an output.
pub struct OutputBlock<'a> {
    /// Where it begins in the output, in elements.
    pub from: usize,
    /// Its elements, whole rows.
    pub rows: &'a mut [f32],
}

impl<'a> Epilogue<'a> {
    /// Calls `finish(block, part)` for every block, with parts of `each` elements that hold any
    /// values.
    pub fn new(parts: &'a mut [f32], each: usize, finish: Finish<'a>) -> Epilogue<'a> {
        Epilogue { parts, each: Some(each), finish: Some(finish) }
    }

    /// Calls `finish(block, part)` for every block, with the same part of `other`, which is as long
    /// as the output.
    pub fn beside(other: &'a mut [f32], finish: Finish<'a>) -> Epilogue<'a> {
        Epilogue { parts: other, each: None, finish: Some(finish) }
    }

    /// Does nothing.
    pub fn none() -> Epilogue<'a> {
        Epilogue { parts: &mut [], each: Some(0), finish: None }
    }

    /// Whether there is something to do.
    pub fn is_some(&self) -> bool {
        self.finish.is_some()
    }

    /// Gives each block of an output, in order, what is to be called when it is written.
    pub fn with<B: Block>(
        self,
        blocks: impl Iterator<Item = B> + Send,
    ) -> impl Iterator<Item = (B, impl FnOnce(OutputBlock) + Send)> + Send {
        let Epilogue { parts, each, finish } = self;
        let mut rest = parts;
        blocks.map(move |block| {
            let len = each.unwrap_or_else(|| block.elements()).min(rest.len());
            let (part, more) = std::mem::take(&mut rest).split_at_mut(len);
            rest = more;
            let finish = move |written: OutputBlock| {
                if let Some(finish) = finish {
                    finish(written, part);
                }
            };
            (block, finish)
        })
    }
}

/// A block of an output, with what its kernel needs to know of it.
pub trait Block: Send {
    /// How many elements it has.
    fn elements(&self) -> usize;
}

impl Block for &mut [f32] {
    fn elements(&self) -> usize {
        self.len()
    }
}

impl Block for (usize, &mut [f32]) {
    fn elements(&self) -> usize {
        self.1.len()
    }
}

impl Block for (usize, usize, &mut [f32]) {
    fn elements(&self) -> usize {
        self.2.len()
    }
}
