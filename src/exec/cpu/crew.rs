//! The threads of a CPU device: a rayon pool whose workers stay awake while there is work. Between
//! two steps of a plan rayon's workers would soon fall asleep, and to wake one takes tens of
//! microseconds, hundreds of times in a training step.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use rayon::{ThreadPool, Yield};

use crate::error::{Error, Result};
use crate::kernels::parallel;

/// See the module's documentation.
pub struct Crew {
    pool: ThreadPool,
    duty: Arc<Duty>,
}

/// What the workers have to do. Each keeps to it from the start of the pool to its end: it sleeps,
/// or looks for work.
#[derive(Default)]
struct Duty {
    order: Mutex<Order>,
    changed: Condvar,
    /// Whether the order is to work.
    working: AtomicBool,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Order {
    #[default]
    Rest,
    Work,
    Leave,
}

impl Crew {
    /// Of so many threads; 0 means one a core.
    ///
    /// # Errors
    /// If the operating system gives no threads.
    pub fn new(threads: usize) -> Result<Crew> {
        let pool = parallel::pool(threads).map_err(Error::threads)?;
        let duty = Arc::new(Duty::default());
        let own = duty.clone();
        pool.spawn_broadcast(move |_| own.keep());
        Ok(Crew { pool, duty })
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` on one of the threads, with all of them awake.
    pub fn run<R: Send>(&mut self, work: impl FnOnce() -> R + Send) -> R {
        /// Also after a panic the others rest.
        struct Rest<'a>(&'a Duty);
        impl Drop for Rest<'_> {
            fn drop(&mut self) {
                self.0.order(Order::Rest);
            }
        }
        self.duty.order(Order::Work);
        let _rest = Rest(&self.duty);
        self.pool.install(work)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.duty.order(Order::Leave);
    }
}

impl Duty {
    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn order(&self, order: Order) {
        *self.lock() = order;
        self.working.store(order == Order::Work, Ordering::Release);
        self.changed.notify_all();
    }

    /// What a worker does all its life.
    fn keep(&self) {
        loop {
            let mut order = self.lock();
            while *order == Order::Rest {
                order = self.changed.wait(order).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            if *order == Order::Leave {
                return;
            }
            drop(order);
            while self.working.load(Ordering::Acquire) {
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
            let mut crew = Crew::new(threads).unwrap();
            assert_eq!(crew.threads(), threads);
            let barrier = Barrier::new(threads);
            for _ in 0..100 {
                let others = crew.run(|| rayon::broadcast(|_| barrier.wait().is_leader()));
                assert_eq!(others.into_iter().filter(|leader| *leader).count(), 1);
            }
            let panicked = catch_unwind(AssertUnwindSafe(|| crew.run(|| panic!("planted"))));
            assert!(panicked.is_err());
            assert_eq!(crew.run(rayon::current_num_threads), threads);
        }
    }
}
