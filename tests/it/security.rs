//! Every item that SECURITY.md names exists.

use std::fs;
use std::path::{Path, PathBuf};

/// A bound as the page states it.
struct Bound {
    constant: String,
    file: String,
    test: Option<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn bounds() -> Vec<Bound> {
    let page = fs::read_to_string(root().join("SECURITY.md")).expect("the page");
    let names = |cell: &str| -> Vec<String> {
        let quoted = cell.split('`').skip(1).step_by(2);
        quoted.map(str::to_owned).collect()
    };
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let rows = rows.map(|line| line.split(" | ").collect::<Vec<_>>());
    rows.filter_map(|cells| {
        let [_, _, constant, test] = &cells[..] else {
            return None;
        };
        let named = names(constant);
        let [constant, file] = &named[..] else {
            return None;
        };
        Some(Bound {
            constant: constant.clone(),
            file: file.clone(),
            test: names(test).into_iter().next(),
        })
    })
    .collect()
}

fn texts(folder: PathBuf, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            texts(path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(fs::read_to_string(path).expect("text"));
        }
    }
}

#[test]
fn each_constant_and_each_test_that_the_page_names_exists() {
    let mut all = Vec::new();
    for folder in ["src", "tests/it", "tests/sim", "tests/fuzz"] {
        texts(root().join(folder), &mut all);
    }
    let bounds = bounds();
    assert!(bounds.len() > 40, "{} bounds are read", bounds.len());
    let mut wrong = Vec::new();
    for Bound {
        constant,
        file,
        test,
    } in bounds
    {
        let there =
            fs::read_to_string(root().join(&file)).is_ok_and(|text| text.contains(&constant));
        if !there {
            wrong.push(format!("{constant} is not in {file}"));
        }
        if let Some(test) = test {
            let name = format!("fn {test}(");
            if !all.iter().any(|text| text.contains(&name)) {
                wrong.push(format!("there is no test {test}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
