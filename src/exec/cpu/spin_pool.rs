//! The threads of a CPU device: a rayon pool whose workers stay awake while there is work.
//!
//! Between two steps of a plan rayon's workers would soon fall asleep, and to wake one takes tens
//! of microseconds, hundreds of times in a training step.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use rayon::{ThreadPool, Yield};

use crate::error::{Error, Result};
use crate::kernels::parallel;

/// A thread pool whose workers spin between the steps of a plan, and are parked between plans.
pub struct SpinPool {
    pool: ThreadPool,
    state: Arc<SpinState>,
}

/// The workers' common state, which each follows from the start of the pool to its end: it is
/// parked, or spins in search of work.
#[derive(Default)]
struct SpinState {
    order: Mutex<SpinOrder>,
    changed: Condvar,
    /// Whether the order is to spin.
    spinning: AtomicBool,
}

/// An order to the workers.
#[derive(Clone, Copy, Default, PartialEq)]
enum SpinOrder {
    #[default]
    Parked,
    Spinning,
    Exit,
}

impl SpinPool {
    /// A pool of so many threads; 0 means one a core.
    ///
    /// # Errors
    /// If the operating system gives no threads.
    pub fn new(threads: usize) -> Result<SpinPool> {
        let pool = parallel::pool(threads).map_err(Error::threads)?;
        let state = Arc::new(SpinState::default());
        let own = state.clone();
        pool.spawn_broadcast(move |_| own.follow());
        Ok(SpinPool { pool, state })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` on one of the threads, with all of them awake.
    pub fn run<R: Send>(&mut self, work: impl FnOnce() -> R + Send) -> R {
        /// Parks the workers when it is dropped: after a panic, too.
        struct Park<'a>(&'a SpinState);
        impl Drop for Park<'_> {
            fn drop(&mut self) {
                self.0.order(SpinOrder::Parked);
            }
        }
        self.state.order(SpinOrder::Spinning);
        let _park = Park(&self.state);
        self.pool.install(work)
    }
}

impl Drop for SpinPool {
    fn drop(&mut self) {
        self.state.order(SpinOrder::Exit);
    }
}

impl SpinState {
    fn lock(&self) -> MutexGuard<'_, SpinOrder> {
        self.order.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn order(&self, order: SpinOrder) {
        *self.lock() = order;
        self.spinning.store(order == SpinOrder::Spinning, Ordering::Release);
        self.changed.notify_all();
    }

    /// The loop of a worker, from its start to its end.
    fn follow(&self) {
        loop {
            let mut order = self.lock();
            while *order == SpinOrder::Parked {
                order = self.changed.wait(order).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            if *order == SpinOrder::Exit {
                return;
            }
            drop(order);
            while self.spinning.load(Ordering::Acquire) {
                if rayon::yield_now() != Some(Yield::Executed) {
                    // Other threads of the machine may have work to do.
                    std::thread::yield_now();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;

    use super::*;

    /// That every thread takes part shows in a barrier, at which one that is missing would be
    /// waited for in vain.
    #[test]
    fn all_threads_work_run_after_run_and_after_a_panic() {
        for threads in [1, 2, 5] {
            let mut pool = SpinPool::new(threads).unwrap();
            assert_eq!(pool.threads(), threads);
            let barrier = Barrier::new(threads);
            for _ in 0..100 {
                let others = pool.run(|| rayon::broadcast(|_| barrier.wait().is_leader()));
                assert_eq!(others.into_iter().filter(|leader| *leader).count(), 1);
            }
            let panicked = catch_unwind(AssertUnwindSafe(|| pool.run(|| panic!("planted"))));
            assert!(panicked.is_err());
            assert_eq!(pool.run(rayon::current_num_threads), threads);
        }
    }
}
