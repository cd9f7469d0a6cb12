//! SIGHUP has a node read its peer lists again, and costs nothing else.

use libp2p::PeerId;
use rustix::process::Signal;

use crate::program_support::{Program, file, folder};

#[test]
fn a_peer_that_the_lists_no_longer_admit_loses_its_link_and_the_others_keep_theirs() {
    let (folder, _path) = folder();
    // A list with nobody in it is refused at the start.
    let denied = file(&folder, "denied", &PeerId::random().to_string());
    let mut node = Program::node(&["--deny", &format!("@{denied}")]);
    let mut stays = Program::node(&["--dial", &node.address()]);
    let mut goes = Program::node(&["--dial", &node.address()]);
    for peer in [&mut stays, &mut goes] {
        peer.next("link_up");
        node.next("link_up");
    }

    file(&folder, "denied", &format!("{}\n", goes.id()));
    node.signal(Signal::HUP);
    let down = node.next("link_down");
    assert_eq!(down["peer_id"], goes.id());
    assert!(
        down["reason"]
            .as_str()
            .is_some_and(|r| r.contains("peer lists")),
        "{down}"
    );
    // A denied peer is refused when it returns, which may be reported before the end of its link.
    let (mut is_down, mut is_refused) = (false, false);
    while !(is_down && is_refused) {
        let line = goes.next_of(&["link_down", "refused"]);
        is_down |= line["type"] == "link_down";
        is_refused |= line["code"] == "POLICY";
    }
    // The other one has its link still.
    stays.say("still here");
    assert_eq!(node.texts(1), ["still here"]);
}

#[test]
fn lists_that_cannot_be_read_again_change_nothing_and_are_named() {
    let (folder, _path) = folder();
    let mut peer = Program::node(&[]);
    let trusted = file(&folder, "trusted", &format!("{}\n", peer.id()));
    let mut node = Program::node(&["--trust", &format!("@{trusted}"), "--dial", &peer.address()]);
    node.next("link_up");
    peer.next("link_up");
    file(&folder, "trusted", "nobody in particular\n");
    node.signal(Signal::HUP);
    let error = node.next("error");
    assert!(
        error["reason"]
            .as_str()
            .is_some_and(|r| r.contains("line 1")),
        "{error}"
    );
    peer.say("still here");
    assert_eq!(node.texts(1), ["still here"]);
}
