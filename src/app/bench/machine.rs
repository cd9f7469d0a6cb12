//! Resource use of this process, its children and the rest of the machine, as the system reports it.
//!
//! Entry type: [`Meter`]. The rule it keeps: a figure that the system does not report is left out, not guessed.

use std::fs;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The jiffies of Linux's user interface, in all its configurations.
const JIFFIES_A_SECOND: f64 = 100.0;
/// Fields of the first line of `/proc/stat` that are no work: idle, and waiting for a disk.
const IDLE_FIELDS: [usize; 2] = [3, 4];
/// Fields after this one are counted in the first ones already.
const LAST_FIELD: usize = 7;
/// Where the time in the program is in `/proc/PID/stat`, behind the name; that in the system follows.
const CPU_FIELD: usize = 11;

/// Measures from its start on.
#[derive(Debug)]
pub(crate) struct Meter {
    started: Instant,
    own: Option<Duration>,
    busy: Option<f64>,
}

/// The resources that a measured interval took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// The processor time of the processes that are measured.
    pub(crate) cpu: Option<Duration>,
    /// The share of all processors that other processes took.
    pub(crate) others_cpu_percent: Option<f64>,
    /// The most memory that one of them has had.
    pub(crate) peak_rss_bytes: Option<u64>,
    /// The sum of that over all of them.
    pub(crate) total_rss_bytes: Option<u64>,
}

impl Meter {
    pub(crate) fn start() -> Meter {
        // Lets the peak begin anew; where it cannot, it is that of the process so far.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Meter {
            started: Instant::now(),
            own: own_cpu(),
            busy: busy_seconds(),
        }
    }

    /// Returns the resources that this process has used since the start.
    pub(crate) fn stop(&self) -> Cost {
        let (cpu, peak) = (self.own(), memory("/proc/self/status", "VmHWM:"));
        Cost {
            cpu,
            others_cpu_percent: self.others(cpu),
            peak_rss_bytes: peak,
            total_rss_bytes: peak,
        }
    }

    /// Returns the sum for processes that measured themselves. This process is not one of them, nor does it count
    /// as load from others.
    pub(crate) fn stop_for(&self, processes: &[Cost]) -> Cost {
        let cpu: Option<Duration> = processes.iter().map(|cost| cost.cpu).sum();
        let peaks: Option<Vec<u64>> = processes.iter().map(|cost| cost.peak_rss_bytes).collect();
        Cost {
            cpu,
            others_cpu_percent: self.others_beside(cpu),
            peak_rss_bytes: peaks.as_ref().and_then(|peaks| peaks.iter().copied().max()),
            total_rss_bytes: peaks.map(|peaks| peaks.iter().sum()),
        }
    }

    /// The share of all processors that was neither this process's nor the one's that took `cpu`.
    pub(crate) fn others_beside(&self, cpu: Option<Duration>) -> Option<f64> {
        self.others(cpu.zip(self.own()).map(|(cpu, own)| cpu + own))
    }

    fn own(&self) -> Option<Duration> {
        let (now, then) = own_cpu().zip(self.own)?;
        Some(now.saturating_sub(then))
    }

    /// The share of all processors that was not `ours`.
    fn others(&self, ours: Option<Duration>) -> Option<f64> {
        let (now, then) = busy_seconds().zip(self.busy)?;
        let others = (now - then - ours?.as_secs_f64()).max(0.0);
        let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        Some(100.0 * others / (processors * self.started.elapsed().as_secs_f64()))
    }
}

/// Returns the time of a clock that all processes of the machine share, for intervals between processes.
#[cfg(unix)]
pub(crate) fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    timespec(now)
}

#[cfg(not(unix))]
pub(crate) fn monotonic() -> Duration {
    use std::sync::LazyLock;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

#[cfg(unix)]
fn own_cpu() -> Option<Duration> {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(timespec(used))
}

#[cfg(not(unix))]
fn own_cpu() -> Option<Duration> {
    None
}

#[cfg(unix)]
fn timespec(time: rustix::time::Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The seconds that all processors have worked since the machine started.
fn busy_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields = stat.lines().next()?.split_whitespace().skip(1);
    let busy: u64 = fields
        .enumerate()
        .filter(|(n, _)| !IDLE_FIELDS.contains(n) && *n <= LAST_FIELD)
        .filter_map(|(_, jiffies)| jiffies.parse::<u64>().ok())
        .sum();
    Some(busy as f64 / JIFFIES_A_SECOND)
}

/// A figure of a process's status file, in bytes.
fn memory(status: &str, name: &str) -> Option<u64> {
    let status = fs::read_to_string(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// The memory that another process has now.
pub(crate) fn rss_of(process: u32) -> Option<u64> {
    memory(&format!("/proc/{process}/status"), "VmRSS:")
}

/// The processor time of another process so far, to a hundredth of a second.
pub(crate) fn cpu_of(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it may hold anything, spaces and brackets too.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(CPU_FIELD);
    let jiffies = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(jiffies as f64 / JIFFIES_A_SECOND))
}

/// Lets this process open as many files as it may be allowed to: a hundred nodes need more than
/// systems give at first.
#[cfg(unix)]
pub(crate) fn open_more_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // The old limit stays when a higher one is refused.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(not(unix))]
pub(crate) fn open_more_files() {}
