//! The sources of the crate as text: which files there are, their module paths, and code without comments and strings.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of `src`.
pub(crate) struct Source {
    /// Relative to the package, with forward slashes.
    pub(crate) path: String,
    /// `["overlay", "links"]` for `src/overlay/links.rs`; empty for `src/lib.rs`.
    pub(crate) module: Vec<String>,
    pub(crate) text: String,
    /// The text with comments and the contents of strings blanked, and without what only tests compile.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn is_test(&self) -> bool {
        self.module
            .iter()
            .any(|part| part == "tests" || part.ends_with("vectors"))
    }

    pub(crate) fn is_generated(&self) -> bool {
        self.path.contains("/generated/")
    }
}

/// All files of `src`, sorted by path.
pub(crate) fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 100, "the sources were not found");
    found.sort();
    found.into_iter().map(|path| read(root, &path)).collect()
}

fn read(root: &Path, path: &PathBuf) -> Source {
    let text = fs::read_to_string(path).expect("a source file is text");
    let path = path.strip_prefix(root).expect("below the package");
    let path = path
        .to_str()
        .expect("names of files are UTF-8")
        .replace('\\', "/");
    let inner = path
        .strip_prefix("src/")
        .and_then(|p| p.strip_suffix(".rs"))
        .expect("a Rust file in src");
    let mut module: Vec<String> = inner.split('/').map(str::to_owned).collect();
    if module
        .last()
        .is_some_and(|l| ["mod", "lib"].contains(&l.as_str()))
    {
        module.pop();
    }
    let code = without_tests(&blanked(&text));
    Source {
        path,
        module,
        text,
        code,
    }
}

/// The same length and lines, with comments and the contents of strings and characters replaced by spaces.
fn blanked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let blank = |out: &mut String, part: &[char]| {
        out.extend(part.iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
    };
    while at < chars.len() {
        let end = token_end(&chars, at);
        match end {
            Some(end) => blank(&mut out, &chars[at..end]),
            None => out.push(chars[at]),
        }
        at = end.unwrap_or(at + 1);
    }
    out
}

/// Where the comment, string or character that begins at `at` ends; `None` when none begins there.
fn token_end(chars: &[char], at: usize) -> Option<usize> {
    let rest = &chars[at..];
    let before = at.checked_sub(1).map(|i| chars[i]);
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let length = match rest {
        ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => {
            rest.windows(2)
                .position(|w| w == ['*', '/'])
                .unwrap_or(rest.len() - 2)
                + 2
        }
        ['r', '"' | '#', ..] if !in_word || before == Some('b') => raw_string(rest)?,
        ['"', ..] => quoted(rest, '"')?,
        ['\'', '\\', ..] => quoted(rest, '\'')?,
        ['\'', _, '\'', ..] => 3,
        _ => return None,
    };
    Some(at + length)
}

fn raw_string(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let body = 2 + hashes;
    (body..rest.len())
        .find(|&i| {
            rest[i] == '"'
                && rest
                    .get(i + 1..i + 1 + hashes)
                    .is_some_and(|t| t.iter().all(|c| *c == '#'))
        })
        .map(|i| i + 1 + hashes)
}

fn quoted(rest: &[char], quote: char) -> Option<usize> {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// Cuts each item that `#[cfg(test)]` stands before, and everything from `mod tests {` on.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let item = &rest[at + "#[cfg(test)]".len()..];
        let mut depth = 0_i32;
        let end = item
            .char_indices()
            .find(|(_, c)| {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                (*c == '}' || *c == ';') && depth == 0
            })
            .map_or(item.len(), |(i, _)| i + 1);
        rest = &item[end..];
    }
    kept.push_str(rest);
    kept
}
