//! A training step allocates nothing. Alone in its binary, with one test: the allocator counts
//! everything.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::cpu::rules::RULES;
use cifar_engine::exec::{Data, Device, PlanId};
use cifar_engine::graph::plan::Plan;
use cifar_engine::graph::rewrite::rewrite;
use cifar_engine::kernels::simd::Isa;
use cifar_engine::train::optimizers::adam::ADAM;
use common::cnn::{self, Size};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of the
// caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promises are those of this method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SIZE: Size = Size { data: 40, ..Size::narrow(4) };
const STEPS: usize = 500;
/// rayon hands work to a pool from outside through a queue that grows by a block every 63 jobs (1.5
/// KB); a run is one job. One block more for where the count begins, and a few for what its
/// workers' own queues and their garbage collection may still do after the warm-up.
const ALLOWED: usize = STEPS / 63 + 1 + 8;

/// Feeds and runs one training step, as a training loop does.
fn train(cpu: &mut Cpu, plan: PlanId, step: u32, visit: impl FnMut() + Send) {
    let indices: [u32; SIZE.batch] = std::array::from_fn(|n| (7 * step + n as u32) % SIZE.data as u32);
    cpu.write(plan, "indices", Data::U32(&indices)).unwrap();
    cpu.write(plan, "step", Data::U32(&[step])).unwrap();
    cpu.write(plan, "rate", Data::F32(&[0.001])).unwrap();
    cpu.write(plan, "one", Data::F32(&[1.0])).unwrap();
    let mut visit = visit;
    cpu.run_with(plan, |_, _, _| visit()).unwrap();
}

/// Allocations, and their bytes, of `STEPS` steps after a warm-up.
fn allocations(cpu: &mut Cpu, plan: PlanId, visit: impl Fn() + Send + Copy) -> (usize, usize) {
    (0..100).for_each(|step| train(cpu, plan, step, visit));
    let before = (ALLOCATIONS.load(Relaxed), BYTES.load(Relaxed));
    (0..STEPS as u32).for_each(|step| train(cpu, plan, 100 + step, visit));
    (ALLOCATIONS.load(Relaxed) - before.0, BYTES.load(Relaxed) - before.1)
}

#[test]
fn a_training_step_allocates_nothing() {
    for (isa, threads) in [(Isa::detect(), 1), (Isa::detect(), 2), (Isa::Portable, 3)] {
        let mut network = cnn::training(&SIZE, &ADAM);
        rewrite(&mut network.graph, RULES).unwrap();
        let mut cpu = Cpu::new(threads, isa).unwrap();
        let plan = Plan::compile(&network.graph).unwrap();
        let steps = plan.steps.len() - plan.constants;
        let plan = cpu.load_plan(plan).unwrap();

        let (count, bytes) = allocations(&mut cpu, plan, || ());
        println!("{isa}, {threads} threads: {count} allocations, {bytes} bytes in {STEPS} training steps");
        assert!(count <= ALLOWED, "{isa}, {threads} threads: {count} allocations, {ALLOWED} allowed");

        // One allocation an op is seen, so one in any op would be: more than one a run is over the
        // bound.
        let planted = || drop(std::hint::black_box(Box::new(1u8)));
        let (count, _) = allocations(&mut cpu, plan, planted);
        assert!(count >= STEPS * steps && STEPS > ALLOWED, "planted allocations went unseen: {count}");
    }
}
