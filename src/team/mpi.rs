//! Links by MPI, the library by which the processes of a cluster talk.

use std::thread::{sleep, yield_now};
use std::time::Duration;

use ::mpi::collective::{CommunicatorCollectives, SystemOperation};
use ::mpi::datatype::PartitionMut;
use ::mpi::environment::{Universe, initialize_with_threading, processor_name};
use ::mpi::point_to_point::{Destination, Source};
use ::mpi::request::{Request, Scope, scope};
use ::mpi::topology::{Communicator, SimpleCommunicator};
use ::mpi::{Count, Threading};

use super::{Link, Team};
use crate::error::{Error, Result};

/// The processes that `mpirun` or `srun` has started.
struct World {
    rank: usize,
    size: usize,
    /// Ends MPI when it is dropped.
    _universe: Universe,
}

/// Joins the processes that were started together.
///
/// # Errors
/// If MPI is in use already, or knows no threads.
pub fn join() -> Result<Team> {
    // A training calls it from one thread at a time, which need not be the first.
    let Some((universe, threading)) = initialize_with_threading(Threading::Serialized) else {
        return Err(Error::Failed("MPI was initialised before".into()));
    };
    if threading < Threading::Serialized {
        return Err(Error::Failed(
            "this MPI library knows no threads; use one that was built with them".into(),
        ));
    }
    let world = SimpleCommunicator::world();
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    Ok(Team::new(World { rank, size, _universe: universe }))
}

/// Most elements of a message, by the type that MPI counts in.
fn count(len: usize) -> Result<Count> {
    len.try_into().map_err(|_| Error::Failed(format!("{len} elements are too many for a message")))
}

/// Waits for the end of a request. MPI's own waiting would take all of a core, which other threads
/// of this process, or another process, may compute on.
fn finish<'a, D: ?Sized, S: Scope<'a>>(mut request: Request<'a, D, S>) {
    const AT_ONCE: usize = 200;
    const PAUSE: Duration = Duration::from_micros(20);
    for polls in 0.. {
        match request.test() {
            Ok(_) => return,
            Err(unfinished) => request = unfinished,
        }
        if polls < AT_ONCE { yield_now() } else { sleep(PAUSE) }
    }
}

impl Link for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn host(&self) -> String {
        processor_name().unwrap_or_else(|_| "a machine whose name is no UTF-8".into())
    }

    fn swap(&self, partner: usize, sent: &[f32], received: &mut [f32]) -> Result<()> {
        count(sent.len().max(received.len()))?;
        let world = SimpleCommunicator::world();
        let partner = world.process_at_rank(partner as i32);
        scope(|scope| {
            let receive = partner.immediate_receive_into(scope, received);
            let send = partner.immediate_send(scope, sent);
            finish(receive);
            finish(send);
        });
        Ok(())
    }

    fn all(&self, yes: bool) -> Result<bool> {
        let (own, mut all) = (u8::from(yes), 0u8);
        let world = SimpleCommunicator::world();
        scope(|scope| finish(world.immediate_all_reduce_into(scope, &own, &mut all, SystemOperation::min())));
        Ok(all == 1)
    }

    fn gather(&self, part: &[u8]) -> Result<Vec<Vec<u8>>> {
        let world = SimpleCommunicator::world();
        let (own, mut counts) = (count(part.len())?, vec![0 as Count; self.size]);
        scope(|scope| finish(world.immediate_all_gather_into(scope, &own, &mut counts[..])));
        let starts: Vec<usize> = counts
            .iter()
            .scan(0, |end, &count| Some(std::mem::replace(end, *end + count as usize)))
            .collect();
        let total = counts.iter().map(|&count| count as usize).sum();
        let first: Vec<Count> = starts.iter().map(|&start| count(start)).collect::<Result<_>>()?;
        let mut all = vec![0u8; total];
        let mut parts = PartitionMut::new(&mut all, &counts[..], &first[..]);
        scope(|scope| finish(world.immediate_all_gather_varcount_into(scope, part, &mut parts)));
        let own = |(&start, &count): (&usize, &Count)| all[start..][..count as usize].to_vec();
        Ok(starts.iter().zip(&counts).map(own).collect())
    }

    fn abort(&self, code: i32) -> ! {
        SimpleCommunicator::world().abort(code)
    }
}
