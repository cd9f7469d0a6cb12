//! `diatribe demo`, which demonstrates the program: it ends by itself and successfully.

use serde_json::Value;

use crate::program_support::{complaint, parse, run, text};

/// Runs the demonstration for programs; its lines.
fn lines(args: &[&str]) -> Vec<Value> {
    let output = run(&[&["demo", "--json"], args].concat());
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.lines().map(parse).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

#[test]
fn eight_nodes_have_two_to_five_links_and_all_hear_what_one_says() {
    let lines = lines(&[]);
    let end = lines.last().expect("a last line");
    assert_eq!((&end["type"], &end["ok"]), (&"demo".into(), &true.into()));
    assert!(number(&end["most_links"]) <= 6, "{end}");
    let nodes = end["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 8);
    for node in nodes {
        let links = node["links"].as_array().expect("links");
        assert!((2..=5).contains(&links.len()), "{node}");
        assert!(node["heard_ms"].is_number(), "{node}");
    }
    let online = lines.iter().filter(|line| line["type"] == "online");
    let numbers: Vec<u64> = online.map(|line| number(&line["node"])).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
    // With five links at most, eight nodes do not fit around the one that they all dial.
    let redirected = lines.iter().any(|line| line["type"] == "redirected");
    assert!(redirected, "nobody was redirected");
}

#[test]
fn twenty_nodes_do_too() {
    let lines = lines(&["--nodes", "20"]);
    let end = lines.last().expect("a last line");
    println!("20 nodes were linked after {} ms", end["settled_ms"]);
    assert_eq!(end["nodes"].as_array().map(Vec::len), Some(20));
}

#[test]
fn people_see_who_is_linked_with_whom() {
    let output = run(&["demo"]);
    let out = text(&output.stdout);
    assert!(output.status.success(), "{out}");
    assert!(out.contains("All 8 nodes were linked after"), "{out}");
    for node in 1..=8 {
        let row = format!("\n{node:>6}  ");
        assert!(out.contains(&row), "no row of {node}: {out}");
    }
}

#[test]
fn fewer_nodes_than_can_have_two_links_each_are_refused() {
    assert!(complaint(&["demo", "--nodes", "2"], 2).contains("--nodes"));
}
