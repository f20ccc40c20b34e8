//! A training step in shards: equal parts of the batch, whose gradients are added up.
//!
//! The graph of a step is cut where its updates begin ([`crate::graph::cut`]). The first half runs
//! for each shard; its gradients, the statistics of its normalisations and its totals are added up
//! in a binary tree of a fixed form; the second half makes the updates by the sums. So a batch may
//! be larger than memory has room for, and the result does not depend on who computes which shard:
//! the processes of a [`Team`] share them.
//!
//! A normalisation is by the images of a shard, and the running statistics follow the mean over the
//! shards: a training in other shards has other bits.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::features::BatchSource;
use super::plans::ModelGraph;
use super::stage::StepContext;
use crate::error::{Error, Result};
use crate::exec::{Device, PlanId};
use crate::graph::cut::Halves;
use crate::graph::{Graph, Source, Value};
use crate::nn::Parameter;
use crate::team::{CHUNK, Team};

/// Most shards of a step.
pub const MOST: usize = 1024;

/// The output of a step that is added up as it is.
const TOTALS: &str = "totals";

/// How the names begin of what is the sum over shards: a gradient, of a loss that is divided by
/// their number, and a statistic, which is divided by it afterwards.
const GRADIENT: &str = "gradient of ";
const STATISTIC: &str = "mean of ";

/// The values of a training step that are added up over shards, by name: gradients as the loss
/// gives them, and the means and variances that running statistics follow.
pub(super) fn added_up(
    graph: &Graph,
    gradients: &[(&Parameter, Value)],
    totals: Value,
) -> Vec<(String, Value)> {
    let mut values = vec![(format!("sum of {TOTALS}"), totals)];
    let gradient =
        |(parameter, value): &(&Parameter, Value)| (format!("{GRADIENT}{}", parameter.name), *value);
    values.extend(gradients.iter().map(gradient));
    let statistics = graph.updates().iter().filter_map(|(state, moved)| {
        let node = graph.nodes().iter().find(|node| node.outputs.contains(moved))?;
        Some((format!("{STATISTIC}{}", graph.name(*state)), *node.inputs.last()?))
    });
    values.extend(statistics);
    // A value may be the gradient of two parameters.
    let mut seen = Vec::new();
    values.retain(|(_, value)| {
        !seen.contains(value) && {
            seen.push(*value);
            true
        }
    });
    values
}

/// The halves of a step.
///
/// # Errors
/// If an update depends on more than what is added up.
pub(super) fn halves(program: &ModelGraph) -> Result<Halves> {
    let halves = program.graph.cut(&program.added_up)?;
    let second = &halves.second;
    let images = second.values().find(|&v| second.source(v) == Source::Input && second.name(v) == "indices");
    if images.is_some() {
        let problem = "an update depends on more than gradients, so the step cannot be made in `shards`";
        return Err(Error::Failed(problem.into()));
    }
    Ok(halves)
}

/// The plan of the first half, and what its runs are added up to.
pub(super) struct Shards {
    /// Of a step, of which this process computes its share.
    count: usize,
    team: Team,
    plan: PlanId,
    /// Names and lengths.
    added_up: Vec<(String, usize)>,
}

impl Shards {
    /// Loads the first half of a step beside the second.
    pub fn load(
        device: &mut dyn Device,
        beside: PlanId,
        first: &Graph,
        program: &ModelGraph,
        (count, team): (usize, &Team),
    ) -> Result<Shards> {
        let plan = device.load_beside(beside, first)?;
        let len = |(name, value): &(String, Value)| (name.clone(), program.graph.ty(*value).len());
        Ok(Shards { count, team: team.clone(), plan, added_up: program.added_up.iter().map(len).collect() })
    }

    /// The plan that computes a shard.
    pub fn plan(&self) -> PlanId {
        self.plan
    }

    /// Computes this process's shards of a step, and writes the sums over all to the plan of the
    /// second half.
    pub fn run(
        &self,
        device: &mut dyn Device,
        images: (&BatchSource, &[u32]),
        at: StepContext,
        second: PlanId,
    ) -> Result<()> {
        let (source, images) = images;
        let (len, own) = (images.len() / self.count, self.team.share(self.count));
        let mut tree = Tree::default();
        for shard in own.clone() {
            source.write(device, self.plan, &images[shard * len..][..len], at.epoch)?;
            // Each has random numbers of its own.
            let step = at.step * self.count + shard;
            device.write(self.plan, "step", [step as u32].as_slice().into())?;
            if shard + 1 < own.end {
                device.run(self.plan)?;
                tree.add(self.read(device)?);
            }
        }
        self.run_last(device, &tree, second)
    }

    /// Computes the last shard. The sums of a value over the processes are exchanged while the next
    /// values are computed.
    fn run_last(&self, device: &mut dyn Device, tree: &Tree, second: PlanId) -> Result<()> {
        let names: Vec<&str> = self.added_up.iter().map(|(name, _)| name.as_str()).collect();
        let (computed, to_exchange) = channel::<Vec<Sum>>();
        let sums = thread::scope(|scope| {
            let exchange = scope.spawn(|| self.exchange(to_exchange));
            let mut bucket = Vec::new();
            let outcome = device.run_telling(self.plan, &names, &mut |number, values| {
                let mut values = values.to_vec();
                tree.complete(number, &mut values);
                bucket.push(Sum { number, values });
                if bucket.iter().map(|sum| sum.values.len()).sum::<usize>() >= CHUNK {
                    let _ = computed.send(std::mem::take(&mut bucket)); // an error is found at the end
                }
            });
            let _ = computed.send(bucket);
            drop(computed);
            let sums = self.team.wait(|| exchange.join());
            outcome?;
            sums.unwrap_or_else(|panic| resume_unwind(panic))
        })?;
        sums.into_iter().try_for_each(|sum| self.write(device, second, sum))
    }

    /// Adds up buckets over the processes, in the order in which all of them compute them.
    fn exchange(&self, buckets: Receiver<Vec<Sum>>) -> Result<Vec<Sum>> {
        let mut done = Vec::new();
        for mut sums in buckets {
            let mut values: Vec<f32> = sums.iter().flat_map(|sum| &sum.values).copied().collect();
            self.team.add_up(&mut values)?;
            let mut rest = values.as_slice();
            for sum in &mut sums {
                let (own, behind) = rest.split_at(sum.values.len());
                sum.values.copy_from_slice(own);
                rest = behind;
            }
            done.append(&mut sums);
        }
        Ok(done)
    }

    /// All values of a shard.
    fn read(&self, device: &dyn Device) -> Result<Vec<Vec<f32>>> {
        let read = |(name, len): &(String, usize)| {
            let mut values = vec![0.0; *len];
            device.read_into(self.plan, name, &mut values).map(|()| values)
        };
        self.added_up.iter().map(read).collect()
    }

    /// Writes a sum to the second half, a statistic as a mean.
    fn write(&self, device: &mut dyn Device, second: PlanId, mut sum: Sum) -> Result<()> {
        let (name, _) = &self.added_up[sum.number];
        if name.starts_with(STATISTIC) {
            sum.values.iter_mut().for_each(|value| *value /= self.count as f32);
        }
        device.write(second, name, sum.values.as_slice().into())
    }
}

/// The sum of one of the values over shards.
struct Sum {
    /// Place in the list of what is added up.
    number: usize,
    values: Vec<f32>,
}

/// A sum in a binary tree: of eight terms `((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7))`, with as many
/// held at a time as it is high. A term is a list of values.
#[derive(Default)]
struct Tree {
    /// Sums of powers of two of terms, the largest first, with their numbers.
    sums: Vec<(usize, Vec<Vec<f32>>)>,
}

impl Tree {
    fn add(&mut self, mut term: Vec<Vec<f32>>) {
        let mut terms = 1;
        while let Some((_, sum)) = self.sums.pop_if(|(count, _)| *count == terms) {
            term.iter_mut().zip(&sum).for_each(|(term, sum)| add(sum, term));
            terms *= 2;
        }
        self.sums.push((terms, term));
    }

    /// Adds all before it to one of the values of the last term, of a power of two of them.
    fn complete(&self, number: usize, last: &mut [f32]) {
        self.sums.iter().rev().for_each(|(_, sum)| add(&sum[number], last));
    }
}

/// Adds values to others.
fn add(values: &[f32], to: &mut [f32]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_has_one_form() {
        // One after the other they would be the first, which has no digit left for a 1.
        let large = (1 << 24) as f32;
        let (terms, last) = ([large, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], &mut [1.0]);
        let mut tree = Tree::default();
        terms.iter().for_each(|term| tree.add(vec![vec![*term], vec![1.0]]));
        tree.complete(0, last);
        assert_eq!(last, &[large + 6.0]);
        let mut of_ones = [1.0];
        tree.complete(1, &mut of_ones);
        assert_eq!(of_ones, [8.0]);
        Tree::default().complete(0, &mut of_ones);
        assert_eq!(of_ones, [8.0]);
    }
}
