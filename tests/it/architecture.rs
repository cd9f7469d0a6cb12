//! ARCHITECTURE.md, CONTRIBUTING.md, docs/protocol.md: every file and function that they name exists.

use std::fs;
use std::path::Path;

const PAGES: [&str; 3] = ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/protocol.md"];

/// The folders of names that are checked.
const FOLDERS: [&str; 5] = ["src/", "tests/", "proto/", "docs/", "examples/"];

/// Returns the names of `page` in backticks that begin with one of the folders, without patterns such as `NAME` and `*`.
fn names(page: &str) -> Vec<String> {
    let quoted = page.split('`').skip(1).step_by(2);
    let paths = quoted.filter(|text| FOLDERS.iter().any(|folder| text.starts_with(folder)));
    paths
        .filter(|path| !path.contains("NAME") && !path.contains('*') && !path.contains(' '))
        .map(str::to_owned)
        .collect()
}

/// Returns whether the text of a source defines the function.
fn defines(text: &str, function: &str) -> bool {
    ["(", "<"]
        .iter()
        .any(|end| text.contains(&format!("fn {function}{end}")))
}

#[test]
fn each_file_and_each_function_that_the_pages_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    let mut functions = 0;
    for page in PAGES {
        let text = fs::read_to_string(root.join(page)).expect("the page");
        for name in names(&text) {
            let (path, function) = match name.split_once("::") {
                Some((path, function)) => (path, Some(function)),
                None => (name.as_str(), None),
            };
            let file = root.join(path);
            if !file.exists() {
                wrong.push(format!("{page}: there is no {path} (of {name})"));
            } else if let Some(function) = function {
                functions += 1;
                let text = fs::read_to_string(&file).expect("a source");
                if !defines(&text, function) {
                    wrong.push(format!("{page}: there is no function {name}"));
                }
            }
        }
    }
    assert!(functions > 30, "{functions} functions are read");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
