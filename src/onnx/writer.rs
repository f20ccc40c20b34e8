//! A graph of ONNX as it is written, node by node.

use super::proto::{self, AttributeKind, ElementType};

/// Setting of a node.
pub(super) enum Attribute {
    /// A number.
    Float(f32),
    /// An integer.
    Int(i64),
    /// A word.
    Word(&'static str),
    /// A list of integers.
    Ints(Vec<i64>),
}

impl Attribute {
    fn named(self, name: &str) -> proto::Attribute {
        let mut attribute = proto::Attribute { name: name.to_string(), ..proto::Attribute::default() };
        let kind = match self {
            Attribute::Float(value) => {
                attribute.f = value;
                AttributeKind::Float
            }
            Attribute::Int(value) => {
                attribute.i = value;
                AttributeKind::Int
            }
            Attribute::Word(word) => {
                attribute.s = word.as_bytes().to_vec();
                AttributeKind::String
            }
            Attribute::Ints(values) => {
                attribute.ints = values;
                AttributeKind::Ints
            }
        };
        attribute.set_kind(kind);
        attribute
    }
}

/// Nodes and constants so far. Values go by their names.
#[derive(Default)]
pub(super) struct Writer {
    /// In the order in which they can run.
    pub nodes: Vec<proto::Node>,
    /// Weights and constants.
    pub constants: Vec<proto::Tensor>,
    /// Layer of the nodes to come, which names them.
    pub layer: String,
}

impl Writer {
    /// A node; returns the name of its result.
    pub fn apply(&mut self, op: &str, inputs: &[&str], attributes: Vec<(&str, Attribute)>) -> String {
        let stem = format!("{}/{op}", self.layer);
        let taken = |name: &str| self.nodes.iter().any(|node| node.name == name);
        let numbered = (2..).map(|number| format!("{stem}_{number}"));
        let name = std::iter::once(stem.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(stem);
        self.nodes.push(proto::Node {
            input: inputs.iter().map(|input| input.to_string()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: op.to_string(),
            attribute: attributes.into_iter().map(|(name, value)| value.named(name)).collect(),
        });
        name
    }

    /// Constant numbers under a name, unless they are there already; returns it.
    pub fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, ElementType::Float, dims, bytes)
    }

    /// A single number.
    pub fn number(&mut self, value: f32) -> String {
        self.floats(&format!("constant/{value}"), &[], &[value])
    }

    /// Integers, such as axes or places.
    pub fn integers(&mut self, values: &[i64]) -> String {
        let words: Vec<String> = values.iter().map(i64::to_string).collect();
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(&format!("constant/[{}]", words.join(",")), ElementType::Int64, &[values.len()], bytes)
    }

    fn constant(&mut self, name: &str, ty: ElementType, dims: &[usize], raw_data: Vec<u8>) -> String {
        if !self.constants.iter().any(|constant| constant.name == name) {
            let dims = dims.iter().map(|dim| *dim as i64).collect();
            let mut tensor = proto::Tensor { dims, name: name.to_string(), raw_data, data_type: 0 };
            tensor.set_data_type(ty);
            self.constants.push(tensor);
        }
        name.to_string()
    }
}
