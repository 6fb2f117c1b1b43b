//! CPU time of processes, from proc(5): what a request costs whoever else is using the machine.

use std::fs;

/// `sysconf(_SC_CLK_TCK)`: 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process, its threads, and its children: the living ones and those that it has waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family(pub(crate) u32);

impl Family {
    /// Seconds of CPU time so far.
    pub(crate) fn seconds(self) -> f64 {
        let mine = stat(self.0);
        let children: f64 =
            children_of(self.0).into_iter().filter_map(stat).map(|stat| stat.own + stat.waited_for).sum();
        (mine.map_or(0.0, |stat| stat.own + stat.waited_for) + children) / TICKS_PER_SECOND
    }

    /// Seconds of CPU time of the process and its threads alone.
    pub(crate) fn own_seconds(self) -> f64 {
        stat(self.0).map_or(0.0, |stat| stat.own) / TICKS_PER_SECOND
    }

    /// Resident memory of the process itself, in KiB.
    pub(crate) fn resident_kib(self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap_or_default()
    }
}

/// Seconds of CPU time of all these.
pub(crate) fn seconds(families: &[Family]) -> f64 {
    families.iter().map(|family| family.seconds()).sum()
}

struct Stat {
    own: f64,
    waited_for: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything; numbers start behind the last one. `utime` is field 14.
    let fields: Vec<f64> = text.rsplit_once(')')?.1.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // The state (field 3) is a letter, so that the first number is field 4.
    let field = |number: usize| fields.get(number - 4).copied();
    Some(Stat { own: field(14)? + field(15)?, waited_for: field(16)? + field(17)? })
}

fn children_of(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}
