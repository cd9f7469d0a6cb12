//! Has the program linked with packed relocations where the C library understands them (glibc from 2.36
//! on): the list of them, half a MiB that each start reads and that stays in memory, shrinks to nothing.
//! A program that was linked so does not start where glibc is older.

use std::process::Command;

/// The first glibc that understands them.
const GLIBC: (u32, u32) = (2, 36);

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    // What is on another machine cannot be asked.
    let is_native = var("HOST") == var("TARGET");
    let has_glibc = var("CARGO_CFG_TARGET_OS") == "linux" && var("CARGO_CFG_TARGET_ENV") == "gnu";
    if is_native && has_glibc && glibc().is_some_and(|version| version >= GLIBC) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The machine's, as `getconf` says it: "glibc 2.36".
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf")
        .arg("GNU_LIBC_VERSION")
        .output()
        .ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    let minor = minor.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
