//! Keeps what is in this process's memory, its keys among it, from being written to a disk by a crash.
//!
//! Entry function: [`forbid_dumps`]. What it costs: there is no core dump to look into afterwards, and other programs of the
//! same user (a debugger, a profiler, strace) cannot attach; those of root can.

/// Forbids core dumps of this process. Where the system cannot be told, a warning says so, and the program goes on.
pub(crate) fn forbid_dumps() {
    if let Err(error) = platform::forbid_dumps() {
        tracing::warn!(%error, "a crash may write this program's memory, with its keys, to a disk: core dumps cannot be forbidden");
    }
}

#[cfg(unix)]
mod platform {
    use std::io;

    use rustix::process::{Resource, Rlimit, setrlimit};

    pub(super) fn forbid_dumps() -> io::Result<()> {
        // Where a program takes the dumps, such as systemd-coredump, the limit does not count, but this does.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            use rustix::process::{DumpableBehavior, set_dumpable_behavior};
            set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        }
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        Ok(setrlimit(Resource::Core, none)?)
    }
}

/// Elsewhere what a crash leaves is for the system's settings.
#[cfg(not(unix))]
mod platform {
    pub(super) fn forbid_dumps() -> std::io::Result<()> {
        Ok(())
    }
}
