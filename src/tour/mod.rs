//! A tour of the engine: one block of a network, from pixels to an updated weight, first on paper
//! and then in the program.
//!
//! The block has every kind of layer that the [`cnn`](crate::models::cnn) has, but for dropout, and
//! numbers so small that all of them can be worked out by hand. It is the [`Block`] that the pages
//! below calculate. Their numbers are doctests; what they print, draw and quote is compared with
//! the source by `tests/tour`.
//!
//! 1. [`step_1_paper`]: the forward pass by hand.
//! 2. [`step_2_graph`]: the same as a [`Graph`](crate::graph::Graph), printed and run.
//! 3. [`step_3_backward`]: each gradient from the chain rule to the line of code, and the nodes
//!    that [`differentiate`](crate::grad::differentiate) adds.
//! 4. [`step_4_rules`]: what a device's rules make of the graph.
//! 5. [`step_5_plan`]: steps and slots of memory.
//! 6. [`step_6_update`]: the weight after one step of learning, which is the one on paper.
//! 7. [`step_7_exercises`], and [`step_8_solutions`] that run.
//!
//! [`glossary`] explains the words, [`map`] says where everything is, and follows one layer from a
//! model down to a vector instruction and to a shader.
//!
//! Who would rather begin with a program finds one in the [`prelude`](crate::prelude).

mod block;
pub mod glossary;
pub mod map;
pub mod step_1_paper;
pub mod step_2_graph;
pub mod step_3_backward;
pub mod step_4_rules;
pub mod step_5_plan;
pub mod step_6_update;
pub mod step_7_exercises;
pub mod step_8_solutions;

pub use block::Block;
