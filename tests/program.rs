//! A graph as a program: arrays in and out by their names, and what is said of those that do not
//! fit. The doctests of `prelude` and `program` train one.

use cifar_engine::prelude::*;
use ndarray::{Array2, array};

/// `y = x w`, and `w` becomes `2 w` with each run.
fn product() -> Program {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([2, 3]));
    let w = graph.state("w", TensorType::f32([3, 2])).unwrap();
    let y = graph.matmul(x, w).unwrap();
    graph.output("y", y);
    let twice = graph.scale(w, 2.0).unwrap();
    graph.update(w, twice).unwrap();
    Program::new(&graph, device::cpu().unwrap()).unwrap()
}

#[test]
fn arrays_go_in_and_come_out_in_their_shapes_and_any_order_in_memory() {
    let mut program = product();
    let x = array![[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]];
    let w = array![[1.0f32, 0.0, -1.0], [0.5, 2.0, 1.0]];
    program.write("x", &x).unwrap();
    // A view whose columns lie side by side.
    program.write("w", &w.t()).unwrap();
    program.run().unwrap();
    assert_eq!(program.read("y").unwrap(), x.dot(&w.t()).into_dyn());
    assert_eq!(program.read("w").unwrap(), (2.0 * &w.t()).into_dyn());
    program.run().unwrap();
    assert_eq!(program.read("y").unwrap(), (2.0 * x.dot(&w.t())).into_dyn());
    // Every second row of a larger array.
    let large = Array2::from_shape_fn([4, 3], |(i, j)| (3 * i + j) as f32);
    program.write("x", &large.slice(ndarray::s![..;2, ..])).unwrap();
    program.run().unwrap();
    assert_eq!(program.read("y").unwrap(), (4.0 * large.slice(ndarray::s![..;2, ..]).dot(&w.t())).into_dyn());
}

#[test]
fn an_output_is_read_into_an_array_of_any_order() {
    let mut program = product();
    let (x, w) = (array![[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]], array![[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]]);
    program.write("x", &x).unwrap();
    program.write("w", &w).unwrap();
    program.run().unwrap();
    let expected = x.dot(&w);
    let mut all = Array2::<f32>::zeros([4, 2]);
    program.read_into("y", &mut all.slice_mut(ndarray::s![1..3, ..])).unwrap();
    assert_eq!(all.slice(ndarray::s![1..3, ..]), expected);
    assert!(all.row(0).iter().chain(all.row(3)).all(|value| *value == 0.0));
    let mut columns = Array2::<f32>::zeros([2, 2]).reversed_axes();
    program.read_into("y", &mut columns).unwrap();
    assert_eq!(columns, expected);
    let message = program.read_into("y", &mut Array2::zeros([2, 3])).unwrap_err().to_string();
    assert_eq!(message, "y: is f32[2, 2], not an array of [2, 3]");
    let message = program.read_into("w", &mut columns).unwrap_err().to_string();
    assert_eq!(message, "w: is no output of the program; there are: y");
}

#[test]
fn what_does_not_fit_is_named() {
    let mut program = product();
    let zeros = Array2::<f32>::zeros([2, 3]);
    let message = |result: Result<()>| result.unwrap_err().to_string();
    assert_eq!(
        message(program.write("z", &zeros)),
        "z: is no input or state of the program; there are: x, w"
    );
    assert_eq!(message(program.write("w", &zeros)), "w: is f32[3, 2], not an array of [2, 3]");
    let integers = Array2::<u32>::zeros([2, 3]);
    assert!(message(program.write("x", &integers)).starts_with("x: is f32[2, 3]"));
    let read = program.read("x").unwrap_err().to_string();
    assert_eq!(read, "x: is no output or state of the program; there are: y, w");
    assert!(message(program.run()).contains("x"), "nobody wrote it");
    assert_eq!(program.read("y").unwrap_err().to_string(), "y: has no value before the first run");
    let mut graph = Graph::new();
    let labels = graph.input("labels", TensorType::u32([2]));
    graph.output("again", labels);
    let mut program = Program::new(&graph, device::cpu().unwrap()).unwrap();
    program.write("labels", &array![1u32, 2]).unwrap();
    program.run().unwrap();
    assert_eq!(program.read("again").unwrap_err().to_string(), "again: is u32[2]; only f32 is read");
}

#[test]
fn initial_values_are_those_of_the_seed() {
    let begin = |seed| {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::f32([1, 3]));
        let mut layers = Builder::new(&mut graph, Mode::Infer, Norm::default());
        let y = layers.dense("fc", x, 4, Layout::Dense).unwrap();
        let parameters = layers.parameters;
        graph.output("y", y);
        let mut program = Program::new(&graph, device::cpu().unwrap()).unwrap();
        program.initialise(&parameters, seed).unwrap();
        program.read("fc.weight").unwrap()
    };
    assert_eq!(begin(1), begin(1));
    assert_ne!(begin(1), begin(2));
}
