//! Public items are documented in sentences, and names of functions tell the truth.

use crate::source::{Source, sources};

/// Idioms that hide a term of the field; see CONTRIBUTING for the words that are used instead.
const BANNED: &[&str] = &[
    "so long as",
    "for so long",
    "so many",
    "whoever",
    "is told",
    "are told",
    "was told",
    "comes to nothing",
    "came to nothing",
    "stands in the way",
];

/// One documented item: where it is, its documentation, and its declaration up to the body.
struct Item {
    place: String,
    doc: String,
    declaration: String,
}

impl Item {
    fn is_public(&self) -> bool {
        self.declaration.starts_with("pub ")
    }

    fn function(&self) -> Option<&str> {
        let (before, after) = self.declaration.split_once("fn ")?;
        let words = ["pub", "const", "async", "unsafe"];
        let is_function = before
            .split_whitespace()
            .all(|word| words.contains(&word) || word.starts_with("pub("));
        is_function.then(|| after.split(['(', '<']).next().unwrap_or(after))
    }
}

#[test]
fn no_documentation_is_a_single_word_or_refers_to_the_same() {
    check(|item| {
        let words = item.doc.split_whitespace().count();
        (words == 1)
            .then_some("has one word of documentation")
            .or_else(|| {
                item.doc
                    .starts_with("The same")
                    .then_some("begins with \"The same\"")
            })
            .map(str::to_owned)
    });
}

#[test]
fn public_items_are_documented_without_idioms() {
    check(|item| {
        let doc = item.doc.to_lowercase();
        let found = BANNED.iter().find(|idiom| doc.contains(**idiom));
        found
            .filter(|_| item.is_public())
            .map(|idiom| format!("says \"{idiom}\""))
    });
}

#[test]
fn functions_that_ask_change_nothing() {
    check(|item| {
        let asks = item
            .function()
            .is_some_and(|name| ["is_", "has_", "are_"].iter().any(|p| name.starts_with(p)));
        (asks && item.declaration.contains("&mut self")).then(|| "takes &mut self".to_owned())
    });
}

#[test]
fn public_functions_that_can_fail_say_how() {
    check(|item| {
        let returns = item
            .declaration
            .split_once("->")
            .map_or("", |(_, after)| after);
        let fails = item.function().is_some()
            && item.is_public()
            && (returns.contains("Result<") || returns.contains("io::Result"));
        (fails && !item.doc.contains("# Errors")).then(|| "has no \"# Errors\"".to_owned())
    });
}

fn check(wrong: impl Fn(&Item) -> Option<String>) {
    let found: Vec<String> = sources()
        .iter()
        .filter(|source| !source.is_test() && !source.is_generated())
        .flat_map(items)
        .filter_map(|item| wrong(&item).map(|text| format!("{} {text}", item.place)))
        .collect();
    assert!(found.is_empty(), "{}: {found:#?}", found.len());
}

/// All items, fields and variants of a file with a doc comment, and all functions with or without.
fn items(source: &Source) -> Vec<Item> {
    let mut found = Vec::new();
    let mut doc: Vec<&str> = Vec::new();
    let lines: Vec<&str> = source.text.lines().collect();
    let mut attribute = false;
    for (at, line) in lines.iter().enumerate() {
        let line = line.trim();
        if line.starts_with("mod tests {") {
            break;
        }
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim());
            continue;
        }
        if attribute || line.starts_with("#[") {
            attribute = !line.ends_with(']');
            continue;
        }
        let declaration = declaration(&lines[at..]);
        let item = Item {
            place: format!(
                "{}:{} {}",
                source.path,
                at + 1,
                line.trim_end_matches('{').trim()
            ),
            doc: std::mem::take(&mut doc).join("\n").trim().to_owned(),
            declaration,
        };
        if !item.doc.is_empty() || item.function().is_some() {
            found.push(item);
        }
    }
    found
}

/// The lines of a declaration up to its body, as one.
fn declaration(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines.iter().take(16) {
        let line = line.trim();
        let end = line.find(['{', ';']);
        text.push_str(&line[..end.unwrap_or(line.len())]);
        text.push(' ');
        if end.is_some() || line.is_empty() {
            break;
        }
    }
    text
}
