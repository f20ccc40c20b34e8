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

use super::features::BatchSource;
use super::plans::ModelGraph;
use super::stage::StepContext;
use crate::error::{Error, Result};
use crate::exec::{Device, PlanId};
use crate::graph::cut::Halves;
use crate::graph::{Graph, Source, Value};
use crate::nn::Parameter;
use crate::team::Team;

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
        let mut tree = Tree::default();
        let len = images.len() / self.count;
        for shard in self.team.share(self.count) {
            source.write(device, self.plan, &images[shard * len..][..len], at.epoch)?;
            // Each has random numbers of its own.
            let step = at.step * self.count + shard;
            device.write(self.plan, "step", [step as u32].as_slice().into())?;
            device.run(self.plan)?;
            tree.add(self.read(device)?);
        }
        let mut sums = tree.sum();
        self.team.add_up(&mut sums)?;
        self.write(device, second, sums)
    }

    /// All values of a shard, one after the other.
    fn read(&self, device: &dyn Device) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.added_up.iter().map(|(_, len)| len).sum()];
        let mut rest = values.as_mut_slice();
        for (name, len) in &self.added_up {
            let (own, behind) = rest.split_at_mut(*len);
            device.read_into(self.plan, name, own)?;
            rest = behind;
        }
        Ok(values)
    }

    /// Writes sums to the second half, statistics as means.
    fn write(&self, device: &mut dyn Device, second: PlanId, mut sums: Vec<f32>) -> Result<()> {
        let mut rest = sums.as_mut_slice();
        for (name, len) in &self.added_up {
            let (own, behind) = rest.split_at_mut(*len);
            if name.starts_with(STATISTIC) {
                own.iter_mut().for_each(|value| *value /= self.count as f32);
            }
            device.write(second, name, (&*own).into())?;
            rest = behind;
        }
        Ok(())
    }
}

/// A sum in a binary tree: of eight terms `((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7))`, with as many
/// held at a time as it is high.
#[derive(Default)]
struct Tree {
    /// Sums of powers of two of terms, the largest first, with their numbers.
    sums: Vec<(usize, Vec<f32>)>,
}

impl Tree {
    fn add(&mut self, mut term: Vec<f32>) {
        let mut terms = 1;
        while let Some((_, mut sum)) = self.sums.pop_if(|(count, _)| *count == terms) {
            sum.iter_mut().zip(&term).for_each(|(sum, term)| *sum += term);
            (term, terms) = (sum, 2 * terms);
        }
        self.sums.push((terms, term));
    }

    /// The sum of a power of two of terms.
    fn sum(mut self) -> Vec<f32> {
        self.sums.pop().map(|(_, sum)| sum).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_has_one_form() {
        // One after the other they would be the first, which has no digit left for a 1.
        let large = (1 << 24) as f32;
        let terms = [large, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
        let mut tree = Tree::default();
        terms.iter().for_each(|term| tree.add(vec![*term, 1.0]));
        assert_eq!(tree.sum(), [large + 6.0, 8.0]);
        let mut one = Tree::default();
        one.add(vec![7.0]);
        assert_eq!(one.sum(), [7.0]);
    }
}
