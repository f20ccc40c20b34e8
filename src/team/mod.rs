//! Processes that compute one training together, on one machine or on many.
//!
//! Each does the same work but for what is shared out among them: shards of a step, batches of an
//! evaluation. What they add up is added in a binary tree of one form, whichever process owns which
//! of its leaves, so the result does not depend on their number. [`Team`] knows how; a [`Link`]
//! carries the numbers: by MPI, where the build has the feature `mpi`.

#[cfg(feature = "mpi")]
pub(crate) mod mpi;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Connection of a process to the others of its team.
pub trait Link: Send + Sync {
    /// Number of this process, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn size(&self) -> usize;

    /// Name of the machine that this process runs on.
    fn host(&self) -> String;

    /// Sends numbers to another process, which calls this with the rank of this one, and receives
    /// what it sends.
    ///
    /// # Errors
    /// If the other process is gone.
    fn swap(&self, partner: usize, sent: &[f32], received: &mut [f32]) -> Result<()>;

    /// The parts of all processes, by rank. All call it, each with its own part.
    ///
    /// # Errors
    /// If a process is gone.
    fn gather(&self, part: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Whether all processes say yes. All call it.
    ///
    /// # Errors
    /// If a process is gone.
    fn all(&self, yes: bool) -> Result<bool>;

    /// Ends all processes of the team with this exit code.
    fn abort(&self, code: i32) -> !;
}

/// Numbers that are exchanged at a time, so many that a message takes longer than its latency.
/// Larger messages do not pass each other at full rate: at 1 Gbit/s over TCP halves of these went
/// with 956 Mbit/s both ways, and messages of a megabyte or more with 500.
pub(crate) const CHUNK: usize = 1 << 16;

/// A process and those that it works with. The default is one that works alone.
///
/// All processes of a team call its methods in the same order.
#[derive(Clone, Default)]
pub struct Team {
    link: Option<Arc<dyn Link>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    has_agreed_to_stop: AtomicBool,
    bytes: AtomicU64,
    waited_ns: AtomicU64,
}

/// Extent of what a process has exchanged with others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Bytes that it has sent.
    pub bytes: u64,
    /// Time in which it has computed nothing for it ([`Team::wait`]).
    pub waited: Duration,
}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of {}", self.rank(), self.size())
    }
}

impl Team {
    /// A team whose processes this link connects.
    pub fn new(link: impl Link + 'static) -> Team {
        Team { link: Some(Arc::new(link)), state: Arc::default() }
    }

    /// Number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.rank())
    }

    /// Number of processes.
    pub fn size(&self) -> usize {
        self.link.as_ref().map_or(1, |link| link.size())
    }

    /// Whether this process is the one that writes the files and talks to the user.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Whether others were meant to work with this process: then it has a link, even if none came.
    pub fn is_linked(&self) -> bool {
        self.link.is_some()
    }

    /// The link, where there is another process.
    fn others(&self) -> Option<&dyn Link> {
        self.link.as_deref().filter(|link| link.size() > 1)
    }

    /// The share of this process in `count` things, a multiple of the number of processes:
    /// neighbours, so that the tree of their sums has branches of whole processes.
    pub fn share(&self, count: usize) -> Range<usize> {
        let own = count / self.size();
        self.rank() * own..(self.rank() + 1) * own
    }

    /// Checks that so many shards can be shared out.
    ///
    /// # Errors
    /// A usage error, if there are more processes, or their number is no power of two: only such a
    /// number shares out a tree evenly.
    pub fn check_shards(&self, shards: usize) -> Result<()> {
        let size = self.size();
        let problem = match size.is_power_of_two() {
            false => format!("a training takes 1, 2, 4, 8 .. processes, not {size}"),
            true if size > shards => {
                format!(
                    "`shards` {shards} is too few for {size} processes; choose {size} or more, or start fewer"
                )
            }
            true => return Ok(()),
        };
        Err(Error::Usage(problem))
    }

    /// Adds up what the processes have, element by element, as `((0 + 1) + (2 + 3)) + ..`; each has
    /// the sums afterwards, in the same bits.
    ///
    /// Partners at a distance of 1, 2, 4 .. swap halves of what they still add up, and then, the
    /// other way round, the sums: a process sends `2 (P - 1) / P` times the values.
    ///
    /// # Errors
    /// If a process is gone.
    pub fn add_up(&self, values: &mut [f32]) -> Result<()> {
        let Some(link) = self.others() else { return Ok(()) };
        values.chunks_mut(CHUNK).try_for_each(|chunk| self.add_up_chunk(link, chunk))
    }

    fn add_up_chunk(&self, link: &dyn Link, values: &mut [f32]) -> Result<()> {
        let (mut part, mut given) = (0..values.len(), Vec::new());
        let distances = std::iter::successors(Some(1), |distance| Some(2 * distance));
        for distance in distances.take_while(|distance| *distance < link.size()) {
            let partner = link.rank() ^ distance;
            let middle = part.start + part.len() / 2;
            let halves = [part.start..middle, middle..part.end];
            given.push((partner, halves.clone()));
            let [own, other] = if link.rank() < partner { halves } else { reversed(halves) };
            let mut theirs = vec![0.0; own.len()];
            self.swap(link, partner, &values[other], &mut theirs)?;
            values[own.clone()].iter_mut().zip(&theirs).for_each(|(sum, value)| *sum += value);
            part = own;
        }
        for (partner, [low, high]) in given.into_iter().rev() {
            let (before, after) = values.split_at_mut(high.start);
            let (low, high) = (&mut before[low], &mut after[..high.len()]);
            let (own, other) = if link.rank() < partner { (low, high) } else { (high, low) };
            self.swap(link, partner, own, other)?;
        }
        Ok(())
    }

    fn swap(&self, link: &dyn Link, partner: usize, sent: &[f32], received: &mut [f32]) -> Result<()> {
        self.state.bytes.fetch_add(4 * sent.len() as u64, Ordering::Relaxed);
        link.swap(partner, sent, received)
    }

    /// Does something that only waits for other processes, and counts the time.
    pub fn wait<T>(&self, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let done = work();
        self.state.waited_ns.fetch_add(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
        done
    }

    /// Extent of what this process has exchanged so far by [`Team::add_up`].
    pub fn traffic(&self) -> Traffic {
        let State { bytes, waited_ns, .. } = &*self.state;
        let waited = Duration::from_nanos(waited_ns.load(Ordering::Relaxed));
        Traffic { bytes: bytes.load(Ordering::Relaxed), waited }
    }

    /// The numbers of all processes, by rank.
    ///
    /// # Errors
    /// If a process is gone.
    pub fn gather_numbers(&self, part: Vec<f32>) -> Result<Vec<Vec<f32>>> {
        let Some(link) = self.others() else { return Ok(vec![part]) };
        let parts = link.gather(bytemuck::cast_slice(&part))?;
        Ok(parts.iter().map(|part| bytemuck::pod_collect_to_vec(part)).collect())
    }

    /// What the first process makes, in all of them.
    ///
    /// # Errors
    /// Those of `make`, in the first process.
    pub fn from_first(&self, make: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
        let made = if self.is_first() { make()? } else { Vec::new() };
        match self.others() {
            Some(link) => Ok(link.gather(&made)?.swap_remove(0)),
            None => Ok(made),
        }
    }

    /// Whether all processes say yes: the same answer in all of them.
    pub fn all(&self, yes: bool) -> bool {
        let Some(link) = self.others() else { return yes };
        let all = link.all(yes).unwrap_or(false);
        self.state.has_agreed_to_stop.fetch_or(!all, Ordering::Relaxed);
        all
    }

    /// Whether one of them has said no to [`Team::all`]: all know that the work ends.
    pub fn has_agreed_to_stop(&self) -> bool {
        self.state.has_agreed_to_stop.load(Ordering::Relaxed)
    }

    /// Names of the machines that the processes run on, each once, in the order of their first
    /// processes.
    ///
    /// # Errors
    /// If a process is gone.
    pub fn hosts(&self) -> Result<Vec<String>> {
        let Some(link) = &self.link else { return Ok(Vec::new()) };
        let mut hosts: Vec<String> = Vec::new();
        for host in link.gather(link.host().as_bytes())? {
            let host = String::from_utf8_lossy(&host).into_owned();
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        Ok(hosts)
    }

    /// Checks that facts, named, are the same in all processes.
    ///
    /// # Errors
    /// If one has another than the first: which fact, and on which machines.
    pub fn check_alike(&self, facts: &[(&str, String)]) -> Result<()> {
        let Some(link) = self.others() else { return Ok(()) };
        let values: Vec<&String> = facts.iter().map(|(_, value)| value).collect();
        let own = serde_json::to_vec(&(link.host(), values));
        let own = own.map_err(|error| Error::Failed(format!("a fact is no text: {error}")))?;
        let read = |part: &Vec<u8>| serde_json::from_slice::<(String, Vec<String>)>(part);
        let all: std::result::Result<Vec<_>, _> = link.gather(&own)?.iter().map(read).collect();
        let all = all.map_err(|_| Error::Failed(other_program()))?;
        let (first, expected) = &all[0];
        for (rank, (host, found)) in all.iter().enumerate() {
            if found.len() != expected.len() {
                return Err(Error::Failed(other_program()));
            }
            let differs = (0..facts.len()).find(|&i| found[i] != expected[i]);
            if let Some(i) = differs {
                let [found, expected] = first_difference(&found[i], &expected[i]);
                let whose = format!("process {rank}, on {host}, differs from process 0, on {first}");
                let problem = format!("in the {}: {found}, not {expected}", facts[i].0);
                return Err(Error::Failed(format!("{whose}, {problem}; all need the same")));
            }
        }
        Ok(())
    }

    /// Name of this process among others, for messages.
    pub fn name(&self) -> String {
        let host = self.link.as_ref().map(|link| format!(", on {}", link.host()));
        format!("process {}{}", self.rank(), host.unwrap_or_default())
    }

    /// Ends all processes with this exit code; the others may wait for this one. Returns where this
    /// one is alone.
    pub fn abort(&self, code: u8) {
        if let Some(link) = self.others() {
            link.abort(code.into());
        }
    }
}

fn reversed<T>([low, high]: [T; 2]) -> [T; 2] {
    [high, low]
}

fn other_program() -> String {
    "the processes of the team are not of one version of the program; install the same on all machines".into()
}

/// The first lines of two texts that are not the same, as much of them as a message has room for
/// from shortly before where they differ.
fn first_difference(one: &str, other: &str) -> [String; 2] {
    const MOST: usize = 60;
    let lines = one.lines().zip(other.lines());
    let same = lines.take_while(|(one, other)| one == other).count();
    let lines = [one, other].map(|text| text.lines().nth(same).unwrap_or("nothing"));
    let chars = lines[0].chars().zip(lines[1].chars());
    let start = chars.take_while(|(one, other)| one == other).count().saturating_sub(MOST / 3);
    lines.map(|line| {
        let part: String = line.chars().skip(start).take(MOST).collect();
        let before = if start > 0 { ".." } else { "" };
        let after = if line.chars().count() > start + MOST { ".." } else { "" };
        format!("{before}{part}{after}")
    })
}

#[cfg(test)]
mod tests {
    use super::first_difference;

    #[test]
    fn what_differs_is_shown_however_long_the_lines_are() {
        let [one, other] =
            ["one", "other"].map(|name| format!("seed = 1\ndata = {}/{name}\n", "a".repeat(200)));
        assert_eq!(
            first_difference(&one, &other),
            [format!("..{}/one", "a".repeat(18)), format!("..{}/other", "a".repeat(18))]
        );
        assert_eq!(first_difference("a = 1", "a = 2\nb = 3"), ["a = 1", "a = 2"]);
        assert_eq!(
            first_difference("a = 1", &format!("a = 1\n{}", "b".repeat(99))),
            ["nothing".into(), format!("{}..", "b".repeat(60))]
        );
    }
}
