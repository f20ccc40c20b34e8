//! The messages of an ONNX file, as far as the export writes them.
//!
//! Names and numbers of the fields are those of `onnx.proto3` (Open Neural Network Exchange, IR
//! version 8).

use prost::{Enumeration, Message};

/// A file.
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    /// Version of the format.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// The program that wrote it.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// Its version.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// Text for readers.
    #[prost(string, tag = "6")]
    pub doc_string: String,
    /// What is computed.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    /// The sets of operators that the nodes are of.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
    /// What else is to be known.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<Entry>,
}

/// A set of operators; the usual one has no name.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    /// Its name.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Its version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// A key with its value.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Nodes in an order in which they can run, with the constants they read.
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    /// The nodes.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Weights and constants.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    /// What a run is given.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    /// What a run gives.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

/// An application of an operator.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Names of the operands.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the results.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Its name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The operator.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// The operator's settings.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
}

/// A setting of an operator.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The value of a number.
    #[prost(float, tag = "2")]
    pub f: f32,
    /// The value of an integer.
    #[prost(int64, tag = "3")]
    pub i: i64,
    /// The value of a text.
    #[prost(bytes = "vec", tag = "4")]
    pub s: Vec<u8>,
    /// The value of a list of integers.
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    /// Which of them it has.
    #[prost(enumeration = "AttributeKind", tag = "20")]
    pub kind: i32,
}

/// Kind of an [`Attribute`]'s value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum AttributeKind {
    /// None.
    Undefined = 0,
    /// A number.
    Float = 1,
    /// An integer.
    Int = 2,
    /// A text.
    String = 3,
    /// A list of integers.
    Ints = 7,
}

/// Constant numbers.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    /// The shape.
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    /// The type of an element.
    #[prost(enumeration = "ElementType", tag = "2")]
    pub data_type: i32,
    /// Its name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// The elements in row-major order, little-endian.
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
}

/// Type of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum ElementType {
    /// None.
    Undefined = 0,
    /// `f32`.
    Float = 1,
    /// `i64`.
    Int64 = 7,
}

/// An input or output of the graph.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub ty: Option<Type>,
    /// Text for readers.
    #[prost(string, tag = "3")]
    pub doc_string: String,
}

/// A type, always that of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct Type {
    /// The tensor's.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorKind>,
}

/// Type of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorKind {
    /// The type of an element.
    #[prost(enumeration = "ElementType", tag = "1")]
    pub elem_type: i32,
    /// The shape.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShape>,
}

/// A shape, of which dimensions may be unknown.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShape {
    /// The dimensions.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// A dimension.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// A number, or the name of one that a run decides.
    #[prost(oneof = "Size", tags = "1, 2")]
    pub size: Option<Size>,
}

/// Size of a [`Dimension`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Size {
    /// Always the same.
    #[prost(int64, tag = "1")]
    Value(i64),
    /// Decided by a run.
    #[prost(string, tag = "2")]
    Name(String),
}
