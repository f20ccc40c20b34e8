//! What may keep a GPU away that is there: hints for those who miss one.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use wgpu::Backends;

use crate::environment;

/// What a machine has that a GPU needs, as far as it can be seen without one. Nothing is seen but
/// on Linux, where a GPU takes more than a driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Whether this program is static, and so loads no library.
    is_static: bool,
    /// Interfaces that `WGPU_BACKEND` allows, where Vulkan is not among them.
    without_vulkan: Option<String>,
    /// A variable that names files of drivers for the loader, and its value, where none is there.
    nowhere: Option<(&'static str, String)>,
    /// Linux inside of Windows.
    is_wsl: bool,
    /// Whether the loader of Vulkan's drivers is missing.
    lacks_loader: bool,
    /// NVIDIA's card, and what is known of its driver.
    nvidia: Option<Nvidia>,
    /// A card's file that this user may not open.
    closed: Option<PathBuf>,
}

/// What is known of NVIDIA's driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Nvidia {
    /// Whether its file for the loader is there.
    has_icd: bool,
    /// `NVIDIA_DRIVER_CAPABILITIES`, by which a container gets parts of the driver.
    capabilities: Option<String>,
}

/// Folders in which drivers have their files for the loader.
const ICD_FOLDERS: [&str; 3] =
    ["/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
/// Variables that name files of drivers, or folders of them; the loader then looks for no others.
/// It goes by the second, which is the older, where the first is not set.
const DRIVER_VARIABLES: [&str; 2] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];
/// Folders of libraries, where the system keeps no list of them.
const LIBRARIES: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib"];
/// The loader of Vulkan's drivers.
const LOADER: &str = "libvulkan.so.1";

impl Machine {
    /// Looks at this machine.
    pub fn look() -> Machine {
        if !cfg!(target_os = "linux") {
            return Machine::default();
        }
        let interfaces = environment::text("WGPU_BACKEND");
        let version = std::fs::read_to_string("/proc/version").unwrap_or_default();
        Machine {
            is_static: cfg!(target_feature = "crt-static"),
            without_vulkan: interfaces
                .filter(|list| !Backends::from_comma_list(list).contains(Backends::VULKAN)),
            nowhere: DRIVER_VARIABLES
                .into_iter()
                .find_map(|name| Some((name, environment::text(name)?)))
                .filter(|(_, paths)| names_nothing(paths)),
            is_wsl: version.to_lowercase().contains("microsoft"),
            lacks_loader: !has_loader(),
            nvidia: has_nvidia().then(|| Nvidia {
                has_icd: ICD_FOLDERS.iter().any(|folder| holds(folder, "nvidia_icd")),
                capabilities: environment::text("NVIDIA_DRIVER_CAPABILITIES"),
            }),
            closed: entries("/dev/dri").into_iter().find(|path| is_closed(path)),
        }
    }

    /// What to do about what was found; a line each.
    pub fn hints(&self) -> Vec<String> {
        if self.is_static {
            let hint = "this is the static program, which can load no driver: build with cargo to use a GPU";
            return vec![hint.into()];
        }
        if let Some(interfaces) = &self.without_vulkan {
            return vec![format!(
                "WGPU_BACKEND allows {interfaces} only, and Linux has its GPUs by vulkan: unset it"
            )];
        }
        if let Some((variable, paths)) = &self.nowhere {
            return vec![format!(
                "{variable} names no driver's file that is there ({paths}): name one (drivers have theirs in \
                 {}), or unset it",
                ICD_FOLDERS[1]
            )];
        }
        let mut hints = Vec::new();
        if self.lacks_loader {
            hints.push(format!(
                "there is no {LOADER}: install libvulkan1 and mesa-vulkan-drivers (Debian, Ubuntu), or \
                 vulkan-loader and mesa-vulkan-drivers (Fedora)"
            ));
        }
        if self.is_wsl {
            hints.push(
                "WSL2 shows its GPU by Mesa's driver dzn, which some distributions leave out, and only with \
                 WGPU_ALLOW_UNDERLYING_NONCOMPLIANT_ADAPTER=1"
                    .into(),
            );
        } else if let Some(nvidia) = &self.nvidia {
            hints.push(nvidia.hint());
        }
        if let Some(path) = &self.closed {
            let path = path.display();
            hints.push(format!("{path} may not be opened by this user: add the user to its group, render"));
        }
        hints
    }
}

impl Nvidia {
    fn hint(&self) -> String {
        let icd = if self.has_icd { "its nvidia_icd.json is" } else { "no nvidia_icd.json is" };
        let now = match &self.capabilities {
            Some(capabilities) => format!(" (it is {capabilities})"),
            None => String::new(),
        };
        format!(
            "there is an NVIDIA card, but its Vulkan driver does not answer ({icd} there): in a container \
             NVIDIA_DRIVER_CAPABILITIES must contain graphics{now}, and the driver needs the libraries libX11 \
             and libXext (Debian: libx11-6 libxext6)"
        )
    }
}

/// Paths in a folder; none where it cannot be read.
fn entries(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Whether a folder has a file whose name begins so.
fn holds(folder: &str, beginning: &str) -> bool {
    let begins = |path: &PathBuf| path.file_name().is_some_and(|name| is_named(name, beginning));
    entries(folder).iter().any(begins)
}

fn is_named(name: &std::ffi::OsStr, beginning: &str) -> bool {
    name.to_string_lossy().starts_with(beginning)
}

/// Whether none of some paths is a driver's file, which is JSON, or a folder of such.
fn names_nothing(paths: &str) -> bool {
    let is_one = |path: &Path| path.is_dir() || path.is_file() && path.extension() == Some("json".as_ref());
    !std::env::split_paths(paths).any(|path| is_one(&path))
}

fn has_nvidia() -> bool {
    let on_path = |name: &str| {
        let folders = environment::value("PATH").unwrap_or_default();
        std::env::split_paths(&folders).any(|folder| folder.join(name).exists())
    };
    holds("/dev", "nvidia") || on_path("nvidia-smi")
}

/// Whether the system's list of libraries has the loader, or a folder of libraries.
fn has_loader() -> bool {
    let list = std::fs::read("/etc/ld.so.cache").unwrap_or_default();
    let own = environment::value("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = std::env::split_paths(&own).chain(LIBRARIES.map(PathBuf::from));
    list.windows(LOADER.len()).any(|bytes| bytes == LOADER.as_bytes())
        || folders.into_iter().any(|folder| folder.join(LOADER).exists())
}

/// Whether a path is a card's file to compute with, and not for this user.
fn is_closed(path: &Path) -> bool {
    let is_card = path.file_name().is_some_and(|name| is_named(name, "renderD"));
    let opened = || OpenOptions::new().read(true).write(true).open(path);
    is_card && opened().is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one hint of a machine.
    fn hint(machine: &Machine) -> String {
        let hints = machine.hints();
        assert_eq!(hints.len(), 1, "{hints:?}");
        assert!(!hints[0].contains('\n'));
        hints[0].clone()
    }

    #[test]
    fn each_hint_is_given_where_it_applies() {
        assert!(Machine::default().hints().is_empty(), "nothing is wrong with it");
        let nvidia = Nvidia { has_icd: true, capabilities: Some("compute,utility".into()) };
        let container = Machine { nvidia: Some(nvidia), ..Machine::default() };
        let text = hint(&container);
        for part in
            ["its nvidia_icd.json is there", "must contain graphics (it is compute,utility)", "libX11"]
        {
            assert!(text.contains(part), "{text}");
        }
        let bare = Machine { nvidia: Some(Nvidia::default()), ..Machine::default() };
        assert!(hint(&bare).contains("(no nvidia_icd.json is there)"));
        let closed = Machine { closed: Some("/dev/dri/renderD128".into()), ..Machine::default() };
        assert!(hint(&closed).contains("/dev/dri/renderD128"));
        assert!(hint(&Machine { lacks_loader: true, ..Machine::default() }).contains("vulkan-loader"));
        // Windows has the driver there, and what Linux lacks of NVIDIA's is no reason.
        let wsl = Machine { is_wsl: true, ..container.clone() };
        assert!(hint(&wsl).contains("WGPU_ALLOW_UNDERLYING_NONCOMPLIANT_ADAPTER=1"));
        let nowhere = Some(("VK_DRIVER_FILES", "/none.json".into()));
        let misled = Machine { nowhere, is_wsl: true, ..container.clone() };
        let text = hint(&misled);
        assert!(text.contains("VK_DRIVER_FILES names no driver's file that is there (/none.json)"), "{text}");
        let both = Machine { lacks_loader: true, ..container.clone() };
        assert_eq!(both.hints().len(), 2);
        let of_static = Machine { is_static: true, ..misled };
        assert!(hint(&of_static).contains("can load no driver"), "what else it lacks is no matter");
        let other = Machine { without_vulkan: Some("dx12".into()), lacks_loader: true, ..container };
        assert!(hint(&other).contains("unset it"), "with what is not asked for nothing can be wrong");
    }

    #[test]
    fn a_path_that_is_there_is_enough_for_the_loader() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("passwd");
        std::fs::write(&other, "").unwrap();
        assert!(names_nothing(&other.to_string_lossy()));
        let (there, not) = (folder.path().display(), folder.path().join("none.json"));
        let not = not.display();
        assert!(names_nothing(&format!("{not}")) && names_nothing(&format!("{not}:/none.json")));
        assert!(!names_nothing(&format!("{not}:{there}")));
    }
}
