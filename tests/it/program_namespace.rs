//! The program on machines that lack something: IPv6, every network interface. They are network namespaces of this one,
//! which takes root on Linux: they are ignored by name, and run with `cargo test --test it namespace -- --ignored`.

use std::process::Command;
use std::time::Duration;

use crate::program_support::{Program, diatribe, folder};

/// How long a start may take that has nothing to wait for.
const STARTS_WITHIN: Duration = Duration::from_secs(5);

/// The program in a network namespace of its own, after `setup` has run there.
fn in_namespace(setup: &str, args: &[&str]) -> Command {
    let program = diatribe(args);
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c"]);
    command.arg(format!("{setup} && exec \"$@\"")).arg("sh");
    command.arg(program.get_program()).args(program.get_args());
    command
}

const WITHOUT_IPV6: &str = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && ip link set lo up";

#[test]
#[ignore = "needs network namespaces: run with --ignored as root on Linux"]
fn a_machine_without_ipv6_is_online_on_ipv4_and_obeys_signals() {
    for listen in [
        &["--listen", "9000"][..],
        &[],
        &["--listen", "0.0.0.0:9000"],
    ] {
        let (_folder, path) = folder();
        let mut args = vec!["node", "--json", "--data-dir", &path];
        args.extend(listen);
        let mut node = Program::spawn(in_namespace(WITHOUT_IPV6, &args));
        let online = node.next_within(STARTS_WITHIN, &["online"]);
        assert!(
            online.to_string().contains("/ip4/127.0.0.1/tcp/9000/ws"),
            "{online}"
        );
        node.signal(rustix::process::Signal::TERM);
        let status = node.ends_within(Duration::from_secs(2));
        assert!(status.success(), "{status}");
    }
}

#[test]
#[ignore = "needs network namespaces: run with --ignored as root on Linux"]
fn a_machine_that_lacks_what_was_asked_for_says_what_to_do() {
    for (setup, listen, expected) in [
        ("true", "9000", "no network interface"),
        (
            WITHOUT_IPV6,
            "/ip6/::1/tcp/9000/ws",
            "the machine has no such address",
        ),
    ] {
        let (_folder, path) = folder();
        let args = ["node", "--json", "--data-dir", &path, "--listen", listen];
        let mut node = Program::spawn(in_namespace(setup, &args));
        let status = node.ends_within(STARTS_WITHIN);
        let said = node.stderr();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}
