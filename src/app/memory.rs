//! Keeps the memory of this process, which holds its keys, from being written to disk by a crash.
//!
//! Entry function: [`forbid_dumps`]. The cost: there is no core dump to examine, and other programs of the same user (a
//! debugger, a profiler, strace) cannot attach; those of root can.

/// Forbids core dumps of this process. Where the system refuses, it logs a warning and goes on.
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

/// On other systems the settings of the system decide about dumps.
#[cfg(not(unix))]
mod platform {
    pub(super) fn forbid_dumps() -> std::io::Result<()> {
        Ok(())
    }
}
