//! A device with something of a test's own before and after every run.

use cifar_engine::error::Result;
use cifar_engine::exec::plan::{Plan, Step};
use cifar_engine::exec::{Data, Device, PlanId};
use cifar_engine::graph::rewrite::Rule;

/// What is done around the runs of a device.
pub trait Hook<D> {
    fn before(&mut self, device: &mut D, plan: PlanId) -> Result<()>;

    fn after(&mut self, _: &mut D, _plan: PlanId) -> Result<()> {
        Ok(())
    }

    /// Sees what is written to the inputs.
    fn wrote(&mut self, _input: &str, _data: Data) {}
}

/// A device with a hook; otherwise what the device is.
pub struct Hooked<D, H> {
    pub device: D,
    pub hook: H,
}

impl<D: Device, H: Hook<D> + Send> Device for Hooked<D, H> {
    fn name(&self) -> String {
        self.device.name()
    }

    fn rules(&self) -> &'static [&'static Rule] {
        self.device.rules()
    }

    fn load_plan(&mut self, plan: Plan, beside: Option<PlanId>) -> Result<PlanId> {
        self.device.load_plan(plan, beside)
    }

    fn unload(&mut self, plan: PlanId) -> Result<()> {
        self.device.unload(plan)
    }

    fn run(&mut self, plan: PlanId) -> Result<()> {
        self.hook.before(&mut self.device, plan)?;
        self.device.run(plan)?;
        self.hook.after(&mut self.device, plan)
    }

    fn planned_bytes(&self, plan: &Plan) -> usize {
        self.device.planned_bytes(plan)
    }

    fn profile(&mut self, plan: PlanId, visit: &mut dyn FnMut(usize, &Step, f64)) -> Result<()> {
        self.device.profile(plan, visit)
    }

    fn record(&mut self, plan: PlanId, outputs: &[&str]) -> Result<()> {
        self.device.record(plan, outputs)
    }

    fn collect(&mut self, plan: PlanId, all: bool, visit: &mut dyn FnMut(&[f32])) -> Result<()> {
        self.device.collect(plan, all, visit)
    }

    fn wait(&self) -> Result<()> {
        self.device.wait()
    }

    fn write(&mut self, plan: PlanId, input: &str, data: Data) -> Result<()> {
        self.hook.wrote(input, data);
        self.device.write(plan, input, data)
    }

    fn read(&self, plan: PlanId, output: &str) -> Result<Vec<f32>> {
        self.device.read(plan, output)
    }

    fn read_into(&self, plan: PlanId, output: &str, to: &mut [f32]) -> Result<()> {
        self.device.read_into(plan, output, to)
    }

    fn write_state(&mut self, plan: PlanId, name: &str, data: Data) -> Result<()> {
        self.device.write_state(plan, name, data)
    }

    fn read_state(&self, plan: PlanId, name: &str) -> Result<Vec<f32>> {
        self.device.read_state(plan, name)
    }

    fn read_state_u32(&self, plan: PlanId, name: &str) -> Result<Vec<u32>> {
        self.device.read_state_u32(plan, name)
    }
}
