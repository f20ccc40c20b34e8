//! How much memory is free for this process.
//!
//! It is the least of what the machine has, what its control group leaves (a container's limit),
//! and what its own limits leave (`ulimit -v`, `ulimit -d`).

use std::fs;
use std::path::Path;

use crate::text;

/// Bytes that this process can still take, by the narrowest of its limits; none where the system
/// tells none.
pub fn available() -> Option<usize> {
    let proc = |name: &str| fs::read_to_string(Path::new("/proc").join(name)).unwrap_or_default();
    let machine = number(&proc("meminfo"), "MemAvailable:").map(|kib| kib << 10);
    let group = left_by_groups(&proc("self/cgroup"), Path::new("/sys/fs/cgroup"));
    let all = [machine, group, left_by_limits(&proc("self/limits"), &proc("self/status"))];
    all.into_iter().flatten().min()
}

/// The number behind the first `name` in lines of `NAME NUMBER`.
fn number(text: &str, name: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Bytes that the limits of the address space and of data leave.
fn left_by_limits(limits: &str, status: &str) -> Option<usize> {
    let left =
        |limit: &str, used: &str| Some(number(limits, limit)?.saturating_sub(number(status, used)? << 10));
    let all = [left("Max address space", "VmSize:"), left("Max data size", "VmData:")];
    all.into_iter().flatten().min()
}

/// Bytes that the control groups leave that `/proc/self/cgroup` lists. A group's limit counts for
/// those below it; in a container the outer ones, and their names, are out of sight.
fn left_by_groups(groups: &str, root: &Path) -> Option<usize> {
    let path_of = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        match parts.next()? {
            "" => Some((root.to_path_buf(), parts.next()?.to_string())),
            controllers if controllers.split(',').any(|name| name == "memory") => {
                Some((root.join("memory"), parts.next()?.to_string()))
            }
            _ => None,
        }
    };
    let left = groups.lines().filter_map(path_of).flat_map(|(root, path)| {
        let folders: Vec<_> =
            Path::new(path.trim_start_matches('/')).ancestors().map(|a| root.join(a)).collect();
        folders.into_iter().filter_map(|folder| left_by_group(&folder))
    });
    left.min()
}

/// Bytes that one group leaves, by the files of version 2 or 1. What it holds of files can be given
/// back.
fn left_by_group(folder: &Path) -> Option<usize> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let bytes = |new: &str, old: &str| read(new).or_else(|| read(old))?.trim().parse::<usize>().ok();
    let limit = bytes("memory.max", "memory.limit_in_bytes")?;
    let used = bytes("memory.current", "memory.usage_in_bytes")?;
    let stat = read("memory.stat").unwrap_or_default();
    let files =
        number(&stat, "total_inactive_file ").or_else(|| number(&stat, "inactive_file ")).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(files)))
}

/// An amount of memory, for messages.
pub fn size(bytes: usize) -> String {
    text::bytes(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_group_counts_by_either_version() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/memory.max", "1000\n");
        write("a/memory.current", "300\n");
        write("a/memory.stat", "anon 200\ninactive_file 100\n");
        write("a/b/memory.max", "max\n");
        write("a/b/memory.current", "5\n");
        assert_eq!(left_by_groups("0::/a/b\n", root.path()), Some(800));
        assert_eq!(left_by_groups("0::/\n", root.path()), None);
        write("memory/memory.limit_in_bytes", "500\n");
        write("memory/memory.usage_in_bytes", "100\n");
        let old = "5:cpu,cpuacct:/x\n4:memory:/docker/unseen\n0::/a\n";
        assert_eq!(left_by_groups(old, root.path()), Some(400));
    }

    #[test]
    fn limits_of_the_process_count() {
        let limits = "Max data size             unlimited            unlimited            bytes     \n\
                      Max address space         2048000              unlimited            bytes     \n";
        assert_eq!(left_by_limits(limits, "VmSize:\t    1000 kB\nVmData:\t 1 kB\n"), Some(1_024_000));
        assert_eq!(left_by_limits("", ""), None);
    }
}
