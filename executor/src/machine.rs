//! What the machine offers: the defaults of `executor.slots` and `executor.memory`.

use std::path::Path;

/// Share of the machine's memory, in percent, that an executor takes when `executor.memory` is not set.
const DEFAULT_MEMORY_PERCENT: u64 = 70;

/// Memory of an executor where the machine does not say how much it has, in bytes.
const UNKNOWN_MACHINE_MEMORY: u64 = 4 << 30;

/// Number of cores that this process may use.
pub(crate) fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
}

/// Bytes that an executor takes when nothing is set: a share of the machine's memory, or of its container's limit.
pub(crate) fn default_memory() -> u64 {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| total_of_meminfo(&text));
    let container = read(Path::new("/sys/fs/cgroup/memory.max")).and_then(|text| text.trim().parse().ok());
    let available = match (machine, container) {
        (Some(machine), Some(container)) => machine.min(container),
        (Some(known), None) | (None, Some(known)) => known,
        (None, None) => return UNKNOWN_MACHINE_MEMORY,
    };
    available / 100 * DEFAULT_MEMORY_PERCENT
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn total_of_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_meminfo_when_read_then_total_in_bytes() {
        let text = "MemTotal:       16384256 kB\nMemFree:  1 kB\n";
        assert_eq!(total_of_meminfo(text), Some(16384256 * 1024));
        assert_eq!(total_of_meminfo("MemFree: 1 kB"), None);
    }

    #[test]
    fn given_any_machine_when_asked_then_there_is_a_core_and_some_memory() {
        assert!(cores() >= 1);
        assert!(default_memory() > 1 << 20);
    }
}
