//! Shapes, element types, and the aligned host buffer every CPU kernel works on.

use std::fmt;

/// Element type. Bytes (image pixels) travel packed four to a `U32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// Unsigned integer.
    U32,
    /// IEEE half precision, in which a GPU may store what steps of a plan hand to each other
    /// ([`crate::exec::Precision`]). No input, state or output has it, and no op computes in it.
    F16,
}

impl DType {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::F16 => 2,
        }
    }
}

/// Dimensions of a dense row-major tensor, outermost first. A scalar has no dimensions.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// Outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// Number of elements. Shapes in a [`Graph`](crate::graph::Graph) are checked to be so small
    /// that this cannot overflow.
    pub fn len(&self) -> usize {
        self.0.iter().product()
    }

    /// Whether a dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The innermost dimension: channels of an NHWC activation; 1 for a scalar.
    pub fn last(&self) -> usize {
        self.0.last().copied().unwrap_or(1)
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Shape(dims.to_vec())
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Shape(dims.to_vec())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.0.iter().map(usize::to_string).collect();
        write!(f, "[{}]", dims.join(", "))
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Shape and element type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Its dimensions.
    pub shape: Shape,
    /// Type of the elements.
    pub dtype: DType,
}

impl TensorType {
    /// A tensor of `f32`.
    pub fn f32(shape: impl Into<Shape>) -> Self {
        TensorType { shape: shape.into(), dtype: DType::F32 }
    }

    /// A tensor of `u32`.
    pub fn u32(shape: impl Into<Shape>) -> Self {
        TensorType { shape: shape.into(), dtype: DType::U32 }
    }

    /// Dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.len()
    }

    /// Whether a dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.shape.is_empty()
    }

    /// Number of bytes.
    pub fn bytes(&self) -> usize {
        self.dtype.bytes() * self.len()
    }

    /// Elements of four bytes that hold it.
    pub fn words(&self) -> usize {
        self.bytes().div_ceil(4)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dtype = match self.dtype {
            DType::F32 => "f32",
            DType::U32 => "u32",
            DType::F16 => "f16",
        };
        write!(f, "{dtype}{}", self.shape)
    }
}

/// One cache line; the unit of allocation, so that vector loads never straddle two lines.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct CacheLine([f32; 16]);

/// A zero-initialised, 64-byte aligned run of four-byte elements, read as `f32` or `u32`.
#[derive(Clone, Default)]
pub struct Buffer {
    lines: Vec<CacheLine>,
    len: usize,
}

impl Buffer {
    /// `len` zeros. All of the memory is written once: the standard allocator has no lazily zeroed
    /// memory of this alignment.
    pub fn zeroed(len: usize) -> Self {
        Buffer { lines: vec![CacheLine([0.0; 16]); len.div_ceil(16)], len }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements as `f32`.
    pub fn f32(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// The elements as `f32`, to be written.
    pub fn f32_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }

    /// The elements as `u32`: the same bits.
    pub fn u32(&self) -> &[u32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// The elements as `u32`, to be written.
    pub fn u32_mut(&mut self) -> &mut [u32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl From<&[f32]> for Buffer {
    fn from(data: &[f32]) -> Self {
        let mut buffer = Buffer::zeroed(data.len());
        buffer.f32_mut().copy_from_slice(data);
        buffer
    }
}

impl From<&[u32]> for Buffer {
    fn from(data: &[u32]) -> Self {
        let mut buffer = Buffer::zeroed(data.len());
        buffer.u32_mut().copy_from_slice(data);
        buffer
    }
}
