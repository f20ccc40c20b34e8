//! Tiles of products: whichever a GPU chooses, the bits are the same, and what was timed once is
//! not timed again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use cifar_engine::error::{Error, Result};
use cifar_engine::exec::gpu::{Gpu, KeptTiles, Tuned, Tuning};
use cifar_engine::exec::plan::Plan;
use cifar_engine::exec::{Data, Device};
use cifar_engine::graph::{Graph, Value};
use cifar_engine::ops::dispatch::Dispatch;
use cifar_engine::ops::linear::matmul::Matmul;
use cifar_engine::ops::linear::other_tiles::{Product, Room};
use cifar_engine::ops::linear::tile::TileShape;
use cifar_engine::ops::{Op, Types};
use cifar_engine::selftest::case::{Case, to_words};
use cifar_engine::selftest::cases;
use cifar_engine::tensor::TensorType;

use super::common::gpu::{self, Altered};
use super::write;

/// What kind of product a launch is, of those that the shader treats apart.
fn kind(launch: &Dispatch) -> String {
    let constant = |name| launch.constant(name).unwrap_or(0.0);
    let (is_cut, gather) = (constant("SLICES") > 1.0, constant("GATHER"));
    format!("{} {} {is_cut} {gather}", launch.shader.name, launch.entry)
}

/// For each kind of product the case with the most elements that has one.
fn a_case_of_each_kind() -> BTreeMap<String, Case> {
    let mut found: BTreeMap<String, Case> = BTreeMap::new();
    let size = |case: &Case| case.types().outputs[0].len();
    for case in cases::all().into_iter().filter(Case::has_shaders) {
        for launch in &case.op.gpu(&case.types()).list {
            if Product::of(launch).is_some() {
                let entry = found.entry(kind(launch)).or_insert_with(|| case.clone());
                if size(&case) > size(entry) {
                    *entry = case.clone();
                }
            }
        }
    }
    found
}

/// The op with the products of its launches in this tile, where they can have it.
fn in_tiles(
    case: &Case,
    tile: TileShape,
) -> Altered<impl Fn(&Types) -> cifar_engine::ops::dispatch::Dispatches + use<>> {
    let op = case.op.clone();
    let work = {
        let op = op.clone();
        move |types: &Types| {
            let mut work = op.gpu(types);
            for launch in &mut work.list {
                let changed = Product::of(launch)
                    .filter(|product| product.tiles(Room::Large).contains(&tile))
                    .map(|product| product.with_tile(tile));
                *launch = changed.unwrap_or_else(|| launch.clone());
            }
            work
        }
    };
    Altered { op, work }
}

/// A quarter of the tiles that the products of a case can have, another one for each number; all
/// where there are few.
fn tiles_of(case: &Case, number: usize) -> Vec<TileShape> {
    let work = case.op.gpu(&case.types());
    let tiles: Vec<TileShape> =
        work.list.iter().filter_map(Product::of).flat_map(|product| product.tiles(Room::Large)).collect();
    let few = tiles.len() <= 4;
    let wanted = |(i, _): &(usize, TileShape)| few || (i + number).is_multiple_of(4);
    tiles.into_iter().enumerate().filter(wanted).map(|(_, tile)| tile).collect()
}

#[test]
fn no_bit_depends_on_a_tile() {
    let Some(mut gpu) = gpu::open_with(false) else { return };
    let kinds = a_case_of_each_kind();
    assert!(kinds.len() > 12, "{:?}", kinds.keys());
    let mut graph = Graph::new();
    let mut nodes: Vec<(String, Vec<Value>)> = Vec::new();
    for (number, (kind, case)) in kinds.iter().enumerate() {
        let input =
            |(i, (ty, _)): (usize, &(TensorType, _))| graph.input(&format!("{number} {i}"), ty.clone());
        let inputs: Vec<Value> = case.inputs.iter().enumerate().map(input).collect();
        let expected = graph.apply_shared(case.op.clone(), &inputs).unwrap();
        nodes.push((format!("{kind}: its own"), expected));
        for tile in tiles_of(case, number) {
            let found = graph.apply_shared(Arc::new(in_tiles(case, tile)), &inputs).unwrap();
            nodes.push((format!("{kind}: {tile}"), found));
        }
    }
    for (n, (_, values)) in nodes.iter().enumerate() {
        values.iter().enumerate().for_each(|(i, &value)| graph.output(&format!("{n} {i}"), value));
    }
    let plan = gpu.load_plan(Plan::compile(&graph).unwrap(), None).unwrap();
    for (number, case) in kinds.values().enumerate() {
        for (i, (ty, _)) in case.inputs.iter().enumerate() {
            let values: Vec<f32> =
                to_words(&case.values(i), ty.dtype).into_iter().map(f32::from_bits).collect();
            write(ty.dtype, &values, &mut |data: Data| {
                gpu.write(plan, &format!("{number} {i}"), data).unwrap()
            });
        }
    }
    gpu.run(plan).unwrap();
    let mut expected: Vec<Vec<u32>> = Vec::new();
    for (n, (name, values)) in nodes.iter().enumerate() {
        let read = |i: usize| -> Vec<u32> {
            gpu.read(plan, &format!("{n} {i}")).unwrap().into_iter().map(f32::to_bits).collect()
        };
        let found: Vec<Vec<u32>> = (0..values.len()).map(read).collect();
        if name.ends_with("its own") {
            assert!(found[0].iter().any(|&bits| bits != 0), "{name}: all is 0");
            expected = found;
        } else {
            assert!(found == expected, "{name}: other bits");
        }
    }
}

/// Two products that are worth being timed, one of them twice, and one that is not.
fn products() -> Graph {
    let mut graph = Graph::new();
    let mut input = |name: &str, shape: [usize; 2]| graph.input(name, TensorType::f32(shape));
    let [a, b, c] = [("a", [32_768, 16]), ("b", [16, 128]), ("c", [16, 4])].map(|(n, shape)| input(n, shape));
    let products = [graph.matmul(a, b), graph.matmul(a, b), graph.matmul(a, c)].map(Result::unwrap);
    let gradient = Matmul { a_transposed: true, ..Matmul::default() };
    let gradient = graph.apply1(gradient, &[a, products[0]]).unwrap();
    for (i, value) in products.into_iter().chain([gradient]).enumerate() {
        graph.output(&i.to_string(), value);
    }
    graph
}

/// The outputs of the products, computed on a GPU that has such room.
fn computed(gpu: &mut Gpu, room: Room) -> Vec<Vec<u32>> {
    gpu.set_room(room);
    let plan = gpu.plan(&products()).unwrap();
    let inputs = plan.inputs.clone();
    let id = gpu.load_plan(plan, None).unwrap();
    for input in inputs {
        let values: Vec<f32> = (0..input.ty.len()).map(|i| ((i * 31) % 23) as f32 / 23.0 - 0.4).collect();
        gpu.write(id, &input.name, values.as_slice().into()).unwrap();
    }
    gpu.run(id).unwrap();
    let read = |i: usize| gpu.read(id, &i.to_string()).unwrap().into_iter().map(f32::to_bits).collect();
    let found = (0..4).map(read).collect();
    gpu.unload(id).unwrap();
    found
}

/// A GPU that times tiles so, and what it tells of that.
fn tuning(tuning: Tuning) -> Option<(Gpu, Receiver<Tuned>)> {
    let mut gpu = gpu::open_with(false)?;
    let (send, told) = channel();
    gpu.set_tuning(Some(tuning));
    gpu.on_tune(move |tuned| send.send(tuned).unwrap());
    Some((gpu, told))
}

#[test]
fn a_gpu_with_little_room_gets_other_tiles_and_the_same_bits() {
    let Some(mut gpu) = gpu::open_with(false) else { return };
    let (send, compiled) = channel();
    gpu.on_compile(move |count, _| send.send(count).unwrap());
    let expected = computed(&mut gpu, Room::Large);
    assert!(compiled.try_iter().sum::<usize>() > 0 && expected[3].iter().any(|&bits| bits != 0));
    assert_eq!(computed(&mut gpu, Room::Small), expected);
    assert!(compiled.try_iter().sum::<usize>() > 0, "the same tiles");
    assert_eq!(computed(&mut gpu, Room::Large), expected);
    assert_eq!(compiled.try_iter().sum::<usize>(), 0);
}

#[test]
fn tiles_are_timed_once_and_what_there_is_no_time_for_later() {
    let folder = tempfile::tempdir().unwrap();
    let kept = KeptTiles::new(folder.path(), "a GPU", "its driver");
    let limited = |limit| tuning(Tuning { limit, kept: Some(kept.clone()) });
    let Some((mut gpu, told)) = limited(Duration::ZERO) else { return };
    let expected = computed(&mut gpu, Room::Large);
    let nothing = Tuned { left: 2, ..Tuned::default() };
    assert_eq!(told.try_iter().map(|t| Tuned { time: Duration::ZERO, ..t }).collect::<Vec<_>>(), [nothing]);
    assert!(kept.read().is_empty());

    let (mut gpu, told) = limited(Duration::from_secs(600)).unwrap();
    assert_eq!(computed(&mut gpu, Room::Small), expected);
    let found: Vec<Tuned> = told.try_iter().collect();
    assert!(found.len() == 1 && found[0].products == 2 && found[0].left == 0, "{found:?}");
    assert_eq!(computed(&mut gpu, Room::Large), expected);
    assert_eq!(told.try_iter().count(), 0, "timed again by the same GPU");
    assert_eq!(kept.read().len(), 2);

    let (mut gpu, told) = limited(Duration::from_secs(600)).unwrap();
    assert_eq!(computed(&mut gpu, Room::Large), expected);
    assert_eq!(told.try_iter().count(), 0, "timed again by another process");
}

/// A product of 32,768 rows, 128 columns and a depth of 16, computed by this op.
fn by_op(gpu: &mut Gpu, op: Arc<dyn Op>) -> Result<Vec<f32>> {
    let mut graph = Graph::new();
    let [a, b] = [("a", [32_768, 16]), ("b", [16, 128])].map(|(n, ty)| graph.input(n, TensorType::f32(ty)));
    let product = graph.apply_shared(op, &[a, b])?[0];
    graph.output("product", product);
    let plan = gpu.load(&graph)?;
    for (name, len) in [("a", 32_768 * 16), ("b", 16 * 128)] {
        let values: Vec<f32> = (0..len).map(|i| ((i * 31) % 23) as f32 / 23.0 - 0.4).collect();
        gpu.write(plan, name, values.as_slice().into())?;
    }
    gpu.run(plan)?;
    gpu.read(plan, "product")
}

#[test]
fn a_tile_whose_shader_a_driver_refuses_is_left_out() {
    let Some(mut gpu) = gpu::open_with(false) else { return };
    let plain: Arc<dyn Op> = Arc::new(Matmul::default());
    let expected = by_op(&mut gpu, plain.clone()).unwrap();
    let shapes = [[32_768, 16], [16, 128], [32_768, 128]].map(TensorType::f32);
    let [a, b, product] = shapes;
    let work = plain.gpu(&Types { inputs: vec![a, b], outputs: vec![product] });
    let candidates = Product::of(&work.list[0]).unwrap().candidates(Room::Large);
    assert!(candidates.len() > 1);
    for tile in candidates {
        let TileShape { rows, columns, .. } = tile;
        let is_it = format!("u32(TILE_ROWS == {rows}u) * u32(TILE_COLUMNS == {columns}u)");
        let too_large: &'static str =
            format!("@workgroup_size(INVOCATIONS * (1u + 10000u * {is_it}))").leak();
        let refused = || gpu::corrupted(plain.clone(), "@workgroup_size(INVOCATIONS)", too_large);
        let folder = tempfile::tempdir().unwrap();
        let kept = KeptTiles::new(folder.path(), "a GPU", "its driver");
        let limit = Duration::from_secs(600);
        let (mut gpu, told) = tuning(Tuning { limit, kept: Some(kept.clone()) }).unwrap();
        assert_eq!(by_op(&mut gpu, refused()).unwrap(), expected, "{tile}");
        assert_eq!(told.try_iter().map(|tuned| tuned.products).collect::<Vec<_>>(), [1]);
        let found = kept.read();
        assert!(found.len() == 1 && found.values().all(|found| *found != tile), "{tile}: {found:?}");
    }
    // Where none is timed, there is no other.
    let refused = gpu::corrupted(plain.clone(), "@workgroup_size(INVOCATIONS)", "@workgroup_size(100000)");
    let error = by_op(&mut gpu, refused).unwrap_err();
    assert!(matches!(&error, Error::Uncompiled(text) if text.contains("Workgroup")), "{error}");
    assert_eq!(by_op(&mut gpu, plain).unwrap(), expected, "it can do everything else");
}
