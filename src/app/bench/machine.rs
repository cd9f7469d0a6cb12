//! What the system says of this process and of the others on the machine.
//!
//! Entry type: [`Meter`]. The rule it keeps: what a system does not tell is left out, not guessed.

use std::fs;
use std::time::{Duration, Instant};

/// The jiffies of Linux's user interface, in all its configurations.
const JIFFIES_A_SECOND: f64 = 100.0;
/// Fields of the first line of `/proc/stat` that are no work: idle, and waiting for a disk.
const IDLE_FIELDS: [usize; 2] = [3, 4];
/// Fields after this one are counted in the first ones already.
const LAST_FIELD: usize = 7;

/// Measures from its start on.
#[derive(Debug)]
pub(crate) struct Meter {
    started: Instant,
    own: Option<Duration>,
    busy: Option<f64>,
}

/// What it came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// The processor time of this process.
    pub(crate) cpu: Option<Duration>,
    /// The share of all processors that other processes took.
    pub(crate) others_cpu_percent: Option<f64>,
    /// The most memory that this process has had.
    pub(crate) peak_rss_bytes: Option<u64>,
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

    pub(crate) fn stop(&self) -> Cost {
        let cpu = own_cpu()
            .zip(self.own)
            .map(|(now, then)| now.saturating_sub(then));
        let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let others = busy_seconds()
            .zip(self.busy)
            .zip(cpu)
            .map(|((now, then), own)| {
                let others = (now - then - own.as_secs_f64()).max(0.0);
                100.0 * others / (processors * self.started.elapsed().as_secs_f64())
            });
        Cost {
            cpu,
            others_cpu_percent: others,
            peak_rss_bytes: peak_rss_bytes(),
        }
    }
}

/// Time on one clock for all processes of the machine, so that they can measure what is between them.
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

fn peak_rss_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}
