//! Which GPUs there are, and which one is taken.

use wgpu::{AdapterInfo, Backend, Backends, DeviceType, Features, InstanceDescriptor, InstanceFlags};

use super::absent::Machine;
use crate::console;
use crate::environment;
use crate::error::{Error, Result};
use crate::exec::Precision;
pub use crate::exec::choice::{Choice, Description};

/// A GPU, or a program that plays one.
#[derive(Clone, Debug)]
pub struct Adapter {
    pub(super) inner: wgpu::Adapter,
    /// Its place in the list of all.
    index: usize,
}

impl Adapter {
    /// All adapters of this machine, the best first; a card that two interfaces show is there
    /// twice. `WGPU_BACKEND` (`vulkan`, `metal` or `dx12`) restricts them to one interface. Without
    /// a graphics library there are none.
    ///
    /// # Errors
    /// If `WGPU_BACKEND` names no interface.
    pub fn all() -> Result<Vec<Adapter>> {
        if cfg!(all(target_os = "linux", target_feature = "crt-static")) {
            return Ok(Vec::new()); // a static program cannot load a driver
        }
        let mut descriptor = InstanceDescriptor::new_without_display_handle();
        // Debug builds would look for the validation layers, which are a developer's to ask for.
        descriptor.flags = InstanceFlags::empty();
        let mut descriptor = descriptor.with_env();
        descriptor.backends = backends(environment::text("WGPU_BACKEND").as_deref())?;
        let backends = descriptor.backends;
        let inner = console::hushed(|| {
            let instance = wgpu::Instance::new(descriptor);
            pollster::block_on(instance.enumerate_adapters(backends))
        });
        let mut adapters: Vec<Adapter> = inner.into_iter().map(|inner| Adapter { inner, index: 0 }).collect();
        adapters.sort_by_key(|adapter| {
            let info = adapter.inner.get_info();
            rank(info.vendor, &info.name, info.device_type, info.backend)
        });
        adapters.iter_mut().enumerate().for_each(|(index, adapter)| adapter.index = index);
        Ok(adapters)
    }

    /// Takes an adapter. `WGPU_ADAPTER_NAME` stands in for a name where none is chosen.
    ///
    /// # Errors
    /// [`Error::Failed`] if there is none of this kind: the message lists what there is, and what
    /// may keep a GPU away. As [`Adapter::all`].
    pub fn choose(choice: &Choice) -> Result<Adapter> {
        let adapters = Adapter::all()?;
        Adapter::among(&adapters, choice).cloned().ok_or_else(|| {
            let wanted = match (choice, name_of(choice)) {
                (Choice::Index(index), _) => format!("no GPU {index}"),
                (_, Some(name)) => format!("no GPU whose name contains '{name}'"),
                _ => "no GPU".into(),
            };
            let name = |adapter: &Adapter| format!("{}: {}", adapter.index, adapter.name());
            let names: Vec<String> = adapters.iter().map(name).collect();
            let found = if names.is_empty() { "none at all".into() } else { names.join(", ") };
            let hints = Adapter::hints(&adapters);
            let hints: String = hints.iter().map(|hint| format!("; {hint}")).collect();
            Error::Failed(format!("there is {wanted} (found: {found}){hints}; choose another `device`"))
        })
    }

    /// The adapter of a list of all that is chosen, if it is there.
    pub fn among<'a>(adapters: &'a [Adapter], choice: &Choice) -> Option<&'a Adapter> {
        let name = name_of(choice);
        adapters.iter().find(|adapter| match choice {
            Choice::Index(index) => adapter.index == *index,
            Choice::Real if adapter.is_software() => false,
            _ => name.as_ref().is_none_or(|name| adapter.is_called(name)),
        })
    }

    /// Whether `WGPU_ADAPTER_NAME` says which is taken where none is chosen.
    pub fn is_named_by_variable() -> bool {
        name_of(&Choice::Any).is_some()
    }

    /// The same card by the interface that comes next in a list of all, if there is one.
    pub fn by_next_interface<'a>(&self, adapters: &'a [Adapter]) -> Option<&'a Adapter> {
        let cards: Vec<Card> = adapters.iter().map(|adapter| Card::of(&adapter.inner.get_info())).collect();
        next_interface(&cards, self.index).map(|next| &adapters[next])
    }

    /// What may keep a real GPU away, if there is none in this list of all: each in one line, with
    /// what to do.
    pub fn hints(adapters: &[Adapter]) -> Vec<String> {
        match adapters.iter().all(Adapter::is_software) {
            true => Machine::look().hints(),
            false => Vec::new(),
        }
    }

    /// Name by the driver.
    pub fn name(&self) -> String {
        self.inner.get_info().name
    }

    /// Whether it computes on the CPU, far slower than the CPU backend does.
    pub fn is_software(&self) -> bool {
        self.inner.get_info().device_type == DeviceType::Cpu
    }

    /// Description for people and JSON.
    pub fn description(&self) -> Description {
        let (info, limits) = (self.inner.get_info(), self.inner.limits());
        Description {
            index: self.index,
            kind: match info.device_type {
                DeviceType::DiscreteGpu => "discrete",
                DeviceType::IntegratedGpu => "integrated",
                DeviceType::VirtualGpu => "virtual",
                DeviceType::Cpu => "software",
                DeviceType::Other => "other",
            },
            name: info.name,
            interface: info.backend.to_str(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            pci: Some(info.device_pci_bus_id).filter(|address| !address.is_empty()),
            buffer_bytes: limits.max_buffer_size,
            binding_bytes: limits.max_storage_buffer_binding_size,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            invocations: limits.max_compute_invocations_per_workgroup,
            half_precision: self.has_half_precision(),
            features: self.inner.features().iter_names().map(|(name, _)| name.to_lowercase()).collect(),
        }
    }

    /// Whether its shaders can store numbers in half precision.
    pub fn has_half_precision(&self) -> bool {
        self.inner.features().contains(Features::SHADER_F16)
    }

    /// Checks that its shaders can store numbers in this precision.
    ///
    /// # Errors
    /// If they cannot.
    pub fn check_precision(&self, precision: Precision) -> Result<()> {
        let problem = "has no half precision: its driver does not offer shader-f16; choose `precision` f32, or another `device`";
        match precision == Precision::F32 || self.has_half_precision() {
            true => Ok(()),
            false => Err(Error::op(self.name(), problem)),
        }
    }

    fn is_called(&self, name: &str) -> bool {
        self.name().to_lowercase().contains(&name.to_lowercase())
    }
}

/// A card as an interface shows it.
#[derive(Debug)]
struct Card {
    vendor: u32,
    device: u32,
    interface: Backend,
}

impl Card {
    fn of(info: &AdapterInfo) -> Card {
        Card { vendor: info.vendor, device: info.device, interface: info.backend }
    }
}

/// Where the card that is `at` a place of a list comes again, by another interface. What is before
/// it is not looked at: there it was taken from.
fn next_interface(cards: &[Card], at: usize) -> Option<usize> {
    let Card { vendor, device, interface } = *cards.get(at)?;
    let is_it = |card: &Card| (card.vendor, card.device) == (vendor, device) && card.interface != interface;
    (at + 1..cards.len()).find(|&place| is_it(&cards[place]))
}

/// What a name of an adapter must contain, by the choice, or by the variable where it names none.
fn name_of(choice: &Choice) -> Option<String> {
    match choice {
        Choice::Named(name) => Some(name.clone()),
        Choice::Real | Choice::Any => environment::text("WGPU_ADAPTER_NAME"),
        Choice::Index(_) => None,
    }
}

/// Qualcomm's number among the makers of cards.
const QUALCOMM: u32 = 0x5143;

/// Order of the adapters: the kind of card first, then the interface. Vulkan comes before DirectX
/// 12, whose old compiler takes long, and on some drivers compiles wrongly; but on Qualcomm's cards
/// it is Vulkan's compiler that does.
fn rank(vendor: u32, name: &str, kind: DeviceType, interface: Backend) -> (u8, u8) {
    let kind = match kind {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    };
    let is_qualcomm = vendor == QUALCOMM || name.contains("Adreno");
    let interface = match interface {
        Backend::Dx12 if is_qualcomm => 0,
        Backend::Vulkan | Backend::Metal => 1,
        Backend::Dx12 => 2,
        _ => 3,
    };
    (kind, interface)
}

/// The interfaces that `WGPU_BACKEND` names, by a list with commas; all where it is unset.
fn backends(value: Option<&str>) -> Result<Backends> {
    let Some(value) = value else { return Ok(Backends::all()) };
    let wrong = |name: &&str| Backends::from_comma_list(name).is_empty();
    match value.split(',').find(wrong) {
        None => Ok(Backends::from_comma_list(value)),
        Some(name) => Err(Error::Usage(format!(
            "the environment variable WGPU_BACKEND names no interface '{}': vulkan, metal or dx12, or leave it unset",
            name.trim()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places of a made-up list, in the order in which they come.
    fn order(list: &[(u32, &str, DeviceType, Backend)]) -> Vec<usize> {
        let mut places: Vec<usize> = (0..list.len()).collect();
        places.sort_by_key(|&at| rank(list[at].0, list[at].1, list[at].2, list[at].3));
        places
    }

    #[test]
    fn vulkan_comes_before_directx_but_on_qualcomm() {
        use Backend::{Dx12, Vulkan};
        use DeviceType::{Cpu, DiscreteGpu, IntegratedGpu};
        let laptop = [
            (0x1414, "Basic Render", Cpu, Dx12),
            (0x8086, "Iris", IntegratedGpu, Dx12),
            (0x10de, "RTX", DiscreteGpu, Dx12),
            (0x8086, "Iris", IntegratedGpu, Vulkan),
            (0x10de, "RTX", DiscreteGpu, Vulkan),
        ];
        assert_eq!(order(&laptop), [4, 2, 3, 1, 0]);
        let snapdragon = [
            (0x5143, "Snapdragon X", IntegratedGpu, Vulkan),
            (0x5143, "Snapdragon X", IntegratedGpu, Dx12),
            // By a layer over DirectX, under the maker's number of the layer.
            (0x1414, "Qualcomm Adreno X1", IntegratedGpu, Vulkan),
            (0x1414, "Qualcomm Adreno X1", IntegratedGpu, Dx12),
        ];
        assert_eq!(order(&snapdragon), [1, 3, 0, 2]);
        let twins = [(0x10de, "H200", DiscreteGpu, Vulkan), (0x10de, "H200", DiscreteGpu, Vulkan)];
        assert_eq!(order(&twins), [0, 1], "cards of one kind keep the driver's order");
    }

    #[test]
    fn a_card_is_looked_for_by_the_next_interface_and_no_other_card_is() {
        use Backend::{Dx12, Gl, Vulkan};
        let list = |cards: &[(u32, Backend)]| -> Vec<Card> {
            cards.iter().map(|&(device, interface)| Card { vendor: 0x10de, device, interface }).collect()
        };
        // Of two cards, the first by three interfaces, the second by two.
        let both = list(&[(1, Vulkan), (2, Vulkan), (1, Dx12), (2, Dx12), (1, Gl)]);
        let next: Vec<Option<usize>> = (0..5).map(|at| next_interface(&both, at)).collect();
        assert_eq!(next, [Some(2), Some(3), Some(4), None, None]);
        // Of one kind, the second is not the first by another interface.
        let twins = list(&[(1, Vulkan), (1, Vulkan), (1, Dx12), (1, Dx12)]);
        let next: Vec<Option<usize>> = (0..4).map(|at| next_interface(&twins, at)).collect();
        assert_eq!(next, [Some(2), Some(2), None, None]);
        assert_eq!(next_interface(&list(&[(1, Vulkan)]), 0), None);
    }

    #[test]
    fn a_misspelt_interface_is_an_error_that_names_the_variable() {
        assert_eq!(backends(None).unwrap(), Backends::all());
        assert_eq!(backends(Some("Vulkan, dx12")).unwrap(), Backends::VULKAN | Backends::DX12);
        for wrong in ["vulcan", "vulkan,directx"] {
            let error = backends(Some(wrong)).unwrap_err().to_string();
            assert!(error.contains("WGPU_BACKEND"), "{error}");
        }
    }
}
