//! A training step allocates nothing, what is unloaded gives its memory back, and images that are
//! decoded at once keep to their budget. Alone in its
//! binary, one test after the other: the allocator counts everything.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use cifar_engine::data::image_file::load_image;
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::cpu::rules::RULES;
use cifar_engine::exec::plan::Plan;
use cifar_engine::exec::{Data, Device, PlanId};
use cifar_engine::graph::rewrite::rewrite;
use cifar_engine::kernels::simd::Isa;
use cifar_engine::train::optimizers::adam::ADAM;
use common::cnn::{self, Size};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
static FREED: AtomicUsize = AtomicUsize::new(0);
/// Most bytes that were held at a time.
static MOST: AtomicUsize = AtomicUsize::new(0);
/// Held by the test that is under way.
static TURN: Mutex<()> = Mutex::new(());

/// The system's allocator, counting.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of the
// caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        let taken = BYTES.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(taken.wrapping_sub(FREED.load(Relaxed)), Relaxed);
        // SAFETY: the caller's promises are those of this method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        FREED.fetch_add(layout.size(), Relaxed);
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

/// Black images.
fn write_data(cpu: &mut Cpu, plan: PlanId) {
    let words = SIZE.data * SIZE.height * SIZE.width * 3 / 4;
    cpu.write_state(plan, "data", Data::U32(&vec![0; words])).unwrap();
    cpu.write_state(plan, "data.labels", Data::U32(&[0; SIZE.data])).unwrap();
}

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
    let _turn = TURN.lock().unwrap();
    for (isa, threads) in [(Isa::detect(), 1), (Isa::detect(), 2), (Isa::Portable, 3)] {
        let mut network = cnn::training(&SIZE, &ADAM);
        rewrite(&mut network.graph, RULES).unwrap();
        let mut cpu = Cpu::new(threads, isa).unwrap();
        let plan = Plan::compile(&network.graph).unwrap();
        let steps = plan.steps.len() - plan.constants;
        let plan = cpu.load_plan(plan, None).unwrap();
        write_data(&mut cpu, plan);

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

#[test]
fn what_is_unloaded_gives_its_memory_back() {
    let _turn = TURN.lock().unwrap();
    let held = || BYTES.load(Relaxed) - FREED.load(Relaxed);
    let network = cnn::training(&SIZE, &ADAM);
    let mut cpu = Cpu::new(2, Isa::detect()).unwrap();
    let needed = cpu.planned_bytes(&cpu.plan(&network.graph).unwrap());
    let mut after = Vec::new();
    for _ in 0..5 {
        let before = held();
        let plan = cpu.load(&network.graph).unwrap();
        let beside = cpu.load_beside(plan, &network.graph).unwrap();
        write_data(&mut cpu, plan);
        // The states live as long as one of the two.
        cpu.unload(plan).unwrap();
        assert!(held() >= before + needed, "{} bytes are held, {needed} are needed", held() - before);
        train(&mut cpu, beside, 0, || ());
        cpu.unload(beside).unwrap();
        after.push(held());
    }
    // What is left is none of a plan: maps that keep their room, and the threads' own queues.
    println!("bytes held after each: {after:?}");
    assert!(after[4] < after[0] + needed / 100, "{after:?}, of {needed} each");
}

/// A small file may hold a large image: four of 144 megapixels, of which each takes 576 MB.
#[test]
fn large_images_wait_for_each_other_until_they_are_scaled() {
    let _turn = TURN.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grey.png");
    image::GrayImage::new(12_000, 12_000).save(&path).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let before = BYTES.load(Relaxed) - FREED.load(Relaxed);
    MOST.store(before, Relaxed);
    let images = pool.broadcast(|_| load_image(&path, 32).unwrap());
    assert!(images.iter().all(|image| image.len() == 32 * 32 * 3));
    let taken = MOST.load(Relaxed) - before;
    println!("{} MiB at most", taken >> 20);
    assert!(taken < 800 << 20, "{taken} bytes at a time");
}
