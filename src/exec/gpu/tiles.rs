//! Which tile each product of a plan gets on this GPU.
//!
//! The ops choose tiles for a large GPU, by an estimate ([`crate::ops::linear::tile`]). A GPU that
//! shares a chip with a CPU has fewer registers and processors, so it gets smaller ones. And as no
//! estimate holds for all GPUs, a GPU may time them: when a plan is loaded, its products run with
//! two or three tiles each, on memory of zeros, and keep the fastest. No bit depends on it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::context::Context;
use super::kept_tiles::KeptTiles;
use super::memory::Region;
use super::pipelines::Pipelines;
use super::program::{Launch, numbers};
use super::submissions;
use crate::error::Result;
use crate::exec::launches::extent;
use crate::exec::plan::{Plan, Step};
use crate::ops::dispatch::{Dispatch, Dispatches, Operand};
use crate::ops::linear::other_tiles::{Product, Room};
use crate::ops::linear::tile::TileShape;

/// Products of fewer multiplications take hardly longer than a launch, whatever their tile.
const LEAST: f64 = 1e7;
/// How long a tile runs at a time: long enough for the host's clock.
const SAMPLE: Duration = Duration::from_millis(4);
/// Launches by which the length of a sample is found.
const FIRST: usize = 4;
/// Launches of a sample at most.
const MOST: f64 = 1000.0;
/// How often each tile of a product is timed; the shortest time counts.
const SAMPLES: usize = 3;
/// The part of the time of a tile that the estimate has before it which a tile must stay below.
const GAIN: f64 = 0.97;

/// How tiles are timed.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Time after which no other product is timed when a plan is loaded. What there was no time for
    /// keeps the tile of the estimate, and has its turn when the next plan is loaded with it.
    pub limit: Duration,
    /// Where the fastest ones are kept; none where they are forgotten with the GPU.
    pub kept: Option<KeptTiles>,
}

/// What the tuning for a plan came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuned {
    /// Products that were timed.
    pub products: usize,
    /// Of these, those that have another tile now than by the estimate.
    pub changed: usize,
    /// Products that there was no time for.
    pub left: usize,
    /// How long it took, without the compilation of shaders.
    pub time: Duration,
}

/// The tiles of a GPU's products.
#[derive(Default)]
pub struct Tiles {
    pub room: Room,
    tuning: Option<Tuning>,
    /// The fastest that were found, by the product's key.
    fastest: HashMap<String, TileShape>,
}

/// A product of a plan that is to be timed, with the tiles it may get.
pub struct Untimed<'a> {
    step: &'a Step,
    work: &'a Dispatches,
    product: Product<'a>,
    tiles: Vec<TileShape>,
}

impl Untimed<'_> {
    /// Its launches, one a tile.
    pub fn launches(&self) -> Vec<Dispatch> {
        self.tiles.iter().map(|&tile| self.product.with_tile(tile)).collect()
    }
}

impl Tiles {
    /// Begins with the fastest that are kept, and times what they lack; or forgets them all.
    pub fn set_tuning(&mut self, tuning: Option<Tuning>) {
        let kept = tuning.as_ref().and_then(|tuning| tuning.kept.as_ref());
        self.fastest = kept.map(KeptTiles::read).unwrap_or_default();
        self.tuning = tuning;
    }

    /// The tile of a product.
    fn of(&self, product: &Product) -> TileShape {
        let by_estimate = || match self.room {
            Room::Large => product.tile,
            Room::Small => product.tiles(self.room).first().copied().unwrap_or(product.tile),
        };
        // One that it cannot have would be from a file of another build.
        let fastest = self.fastest.get(&product.key()).filter(|tile| product.tiles(self.room).contains(tile));
        fastest.copied().unwrap_or_else(by_estimate)
    }

    /// Gives every product of a plan its tile.
    pub fn apply(&self, work: &mut [Dispatches]) {
        for launch in work.iter_mut().flat_map(|work| &mut work.list) {
            if let Some(new) = Product::of(launch).map(|product| product.with_tile(self.of(&product))) {
                *launch = new;
            }
        }
    }

    /// The products of a plan that have not been timed and are worth it, the largest first; none
    /// where nothing is timed. `work` are the dispatches of each step. A step that may take more
    /// than so many seconds is not run for that.
    pub fn untimed<'a>(&self, plan: &'a Plan, work: &'a [Dispatches], most: f64) -> Vec<Untimed<'a>> {
        if self.tuning.is_none() {
            return Vec::new();
        }
        let mut seen = HashSet::new();
        let may_run = |step: &Step| submissions::seconds(step.op.cost(&step.types)) <= most;
        let launches = plan.steps.iter().zip(work).filter(|(step, _)| may_run(step));
        let launches =
            launches.flat_map(|(step, work)| work.list.iter().map(move |launch| (step, work, launch)));
        let mut untimed: Vec<Untimed> = launches
            .filter_map(|(step, work, launch)| {
                let product = Product::of(launch)?;
                let tiles = product.candidates(self.room);
                Some(Untimed { step, work, product, tiles })
            })
            .filter(|Untimed { product, tiles, .. }| {
                let key = product.key();
                let is_worth_it = product.multiplications() >= LEAST && tiles.len() > 1;
                is_worth_it && !self.fastest.contains_key(&key) && seen.insert(key)
            })
            .collect();
        let size = |untimed: &Untimed| untimed.product.multiplications();
        untimed.sort_by(|a, b| size(b).total_cmp(&size(a)));
        untimed
    }

    /// Whether more products may be timed for a plan.
    pub fn has_time(&self, tuned: &Tuned) -> bool {
        self.tuning.as_ref().is_some_and(|tuning| tuned.time < tuning.limit)
    }

    /// Times products whose launches are compiled, as long as there is time, and adds to what was
    /// done for their plan.
    ///
    /// # Errors
    /// If the GPU fails.
    pub fn tune(
        &mut self,
        context: &Context,
        pipelines: &Pipelines,
        untimed: &[Untimed],
        tuned: &mut Tuned,
    ) -> Result<()> {
        let mut found = HashMap::new();
        for untimed in untimed {
            if !self.has_time(tuned) {
                tuned.left += 1;
                continue;
            }
            let begin = Instant::now();
            let Some(tile) = fastest(context, pipelines, untimed)? else { continue };
            tuned.time += begin.elapsed();
            tuned.products += 1;
            tuned.changed += usize::from(tile != self.of(&untimed.product));
            found.insert(untimed.product.key(), tile);
        }
        let kept = self.tuning.as_ref().and_then(|tuning| tuning.kept.as_ref());
        if let Some(kept) = kept.filter(|_| !found.is_empty()) {
            kept.add(&found);
        }
        self.fastest.extend(found);
        Ok(())
    }
}

/// The fastest of a product's tiles; none where the driver refuses the shaders of all.
fn fastest(context: &Context, pipelines: &Pipelines, untimed: &Untimed) -> Result<Option<TileShape>> {
    let launches = untimed.tiles.iter().copied().zip(untimed.launches());
    let (tiles, launches): (Vec<TileShape>, Vec<Dispatch>) =
        launches.filter(|(_, launch)| pipelines.refused(launch).is_none()).unzip();
    if launches.is_empty() {
        return Ok(None);
    }
    let mut memory: HashMap<Operand, (Region, usize)> = HashMap::new();
    for &operand in &launches[0].bindings {
        let new = match operand.numbers() {
            Some(bits) => numbers(context, &[bits])?,
            None => {
                let (_, bytes) = extent(untimed.step, untimed.work, operand);
                (context.storage("operand of a product that is timed", bytes).into(), bytes)
            }
        };
        memory.insert(operand, new);
    }
    context.check()?;
    let launches: Vec<Launch> = launches
        .iter()
        .map(|launch| {
            let bound: Vec<_> = launch.bindings.iter().map(|operand| memory[operand].clone()).collect();
            Launch::new(context, pipelines, launch, &bound, launch.groups)
        })
        .collect();
    // In its first run a driver may still prepare a shader.
    let first = launches.iter().map(|launch| seconds(context, launch, 1)).collect::<Result<Vec<f64>>>()?;
    let once = match first[0] > SAMPLE.as_secs_f64() {
        true => seconds(context, &launches[0], 1)?,
        false => seconds(context, &launches[0], FIRST)? / FIRST as f64,
    };
    let count = (SAMPLE.as_secs_f64() / once.max(1e-9)).clamp(1.0, MOST) as usize;
    // One run that takes long tells enough.
    let samples = if once > SAMPLE.as_secs_f64() { 1 } else { SAMPLES };
    let mut shortest = vec![f64::INFINITY; launches.len()];
    for _ in 0..samples {
        for (launch, shortest) in launches.iter().zip(&mut shortest) {
            *shortest = shortest.min(seconds(context, launch, count)?);
        }
    }
    let mut best = 0;
    for tile in 1..launches.len() {
        if shortest[tile] < GAIN * shortest[best] {
            best = tile;
        }
    }
    Ok(Some(tiles[best]))
}

/// Seconds of so many runs of a launch, one after the other.
fn seconds(context: &Context, launch: &Launch, count: usize) -> Result<f64> {
    let mut encoder = context.device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    (0..count).for_each(|_| launch.encode(&mut pass));
    drop(pass);
    let begin = Instant::now();
    context.queue.submit([encoder.finish()]);
    context.wait(None)?;
    Ok(begin.elapsed().as_secs_f64())
}
