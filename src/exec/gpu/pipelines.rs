//! Compiled shaders.
//!
//! Each combination of shader, entry point and constants is compiled once, whichever plans and
//! steps use it; what is new in a plan is compiled in parallel.

use std::collections::HashMap;

use rayon::prelude::*;
use wgpu::{
    BindGroupLayout, BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingType, BufferBindingType,
    ComputePipeline, ComputePipelineDescriptor, ErrorFilter, PipelineCompilationOptions, PipelineLayout,
    PipelineLayoutDescriptor, ShaderModule, ShaderModuleDescriptor, ShaderSource, ShaderStages,
};

use super::context::describe;
use super::unchecked;
use crate::ops::dispatch::{Dispatch, Shader};

/// For each binding, whether the shader writes to it.
type Access = Vec<bool>;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    shader: Shader,
    entry: &'static str,
    /// The bits of the values, which can be compared.
    constants: Vec<(&'static str, u64)>,
    access: Access,
}

pub struct Pipelines {
    /// Whether wgpu adds its checks: indices are clamped to their arrays, and loops end.
    checked: bool,
    modules: HashMap<Shader, Made<ShaderModule>>,
    layouts: HashMap<Access, (BindGroupLayout, PipelineLayout)>,
    compiled: HashMap<Key, Made<ComputePipeline>>,
}

/// Something that a driver made, and, if it refused to, what it said.
struct Made<T> {
    it: T,
    refusal: Option<String>,
}

impl<T> Made<T> {
    /// Refusals are this thing's then, and no faults of the device. They belong to the thread that
    /// asks, so several may.
    fn by(device: &wgpu::Device, make: impl FnOnce() -> T) -> Made<T> {
        let filters = [ErrorFilter::Internal, ErrorFilter::Validation];
        let scopes = filters.map(|filter| device.push_error_scope(filter));
        let it = make();
        // The last one is closed first, and each is closed.
        let errors = scopes.into_iter().rev().map(|scope| pollster::block_on(scope.pop()));
        let errors: Vec<Option<wgpu::Error>> = errors.collect();
        Made { it, refusal: errors.iter().flatten().map(describe).next() }
    }
}

impl Pipelines {
    pub fn new(checked: bool) -> Pipelines {
        let (modules, layouts, compiled) = Default::default();
        Pipelines { checked, modules, layouts, compiled }
    }

    /// Compiles what of these is new, on the threads of the pool that this is called in; returns
    /// how many pipelines that were. What the driver refuses is [`Pipelines::refused`].
    pub fn compile(&mut self, device: &wgpu::Device, dispatches: &[&Dispatch]) -> usize {
        let mut new = HashMap::new();
        for &dispatch in dispatches {
            let key = key(dispatch);
            let module = || Made::by(device, || module(device, &dispatch.shader, self.checked));
            self.modules.entry(dispatch.shader).or_insert_with(module);
            self.layouts.entry(key.access.clone()).or_insert_with_key(|access| layout(device, access));
            if !self.compiled.contains_key(&key) {
                new.insert(key, dispatch);
            }
        }
        let count = new.len();
        let compile = |(key, dispatch): (Key, &Dispatch)| {
            let module = &self.modules[&key.shader];
            let descriptor = ComputePipelineDescriptor {
                label: Some(dispatch.shader.name),
                layout: Some(&self.layouts[&key.access].1),
                module: &module.it,
                entry_point: Some(dispatch.entry),
                compilation_options: PipelineCompilationOptions {
                    constants: &dispatch.constants,
                    // Shaders write before they read (`tests/ops.rs`). Some drivers let a single
                    // invocation write the zeros, others do not wait for them.
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            };
            let Made { it, refusal } = Made::by(device, || device.create_compute_pipeline(&descriptor));
            (key, Made { it, refusal: module.refusal.clone().or(refusal) })
        };
        let compiled: Vec<(Key, Made<ComputePipeline>)> = new.into_par_iter().map(compile).collect();
        self.compiled.extend(compiled);
        count
    }

    /// The pipeline of a dispatch that has been compiled, and the layout of its bindings.
    pub fn get(&self, dispatch: &Dispatch) -> (&ComputePipeline, &BindGroupLayout) {
        let key = key(dispatch);
        (&self.compiled[&key].it, &self.layouts[&key.access].0)
    }

    /// What the driver said to a dispatch that was to be compiled, if it refused.
    pub fn refused(&self, dispatch: &Dispatch) -> Option<&str> {
        self.compiled.get(&key(dispatch))?.refusal.as_deref()
    }
}

fn key(dispatch: &Dispatch) -> Key {
    Key {
        shader: dispatch.shader,
        entry: dispatch.entry,
        constants: dispatch.constants.iter().map(|(name, value)| (*name, value.to_bits())).collect(),
        access: dispatch.bindings.iter().map(|operand| operand.is_written()).collect(),
    }
}

fn module(device: &wgpu::Device, shader: &Shader, checked: bool) -> ShaderModule {
    let source = ShaderSource::Wgsl(shader.text().into());
    let descriptor = ShaderModuleDescriptor { label: Some(shader.name), source };
    match checked {
        true => device.create_shader_module(descriptor),
        false => unchecked::module(device, descriptor),
    }
}

/// Explicit, so that an entry point need not use every binding.
fn layout(device: &wgpu::Device, access: &Access) -> (BindGroupLayout, PipelineLayout) {
    let entry = |(binding, &writes): (usize, &bool)| BindGroupLayoutEntry {
        binding: binding as u32,
        visibility: ShaderStages::COMPUTE,
        ty: BindingType::Buffer {
            ty: BufferBindingType::Storage { read_only: !writes },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    };
    let entries: Vec<BindGroupLayoutEntry> = access.iter().enumerate().map(entry).collect();
    let bindings =
        device.create_bind_group_layout(&BindGroupLayoutDescriptor { label: None, entries: &entries });
    let pipeline = device.create_pipeline_layout(&PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&bindings)],
        immediate_size: 0,
    });
    (bindings, pipeline)
}
