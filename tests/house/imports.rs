//! Who imports whom: `use` declarations and paths in code, resolved to the file that defines the name.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::Source;

/// One leaf of a `use` declaration.
struct Import {
    path: Vec<String>,
    /// The name it has here; `*` for a glob.
    name: String,
    public: bool,
}

struct Module {
    file: String,
    imports: Vec<Import>,
    /// Paths in code that begin with `crate` or `super`.
    paths: Vec<Vec<String>>,
}

/// The modules of the crate that are compiled without tests, by path.
pub(crate) struct Graph {
    modules: BTreeMap<Vec<String>, Module>,
}

impl Graph {
    pub(crate) fn new(sources: &[Source]) -> Self {
        let modules = sources
            .iter()
            .filter(|source| !source.is_test())
            .map(|source| {
                let (imports, code) = uses(&source.code);
                let paths = paths(&code);
                let module = Module {
                    file: source.path.clone(),
                    imports,
                    paths,
                };
                (source.module.clone(), module)
            })
            .collect();
        Self { modules }
    }

    /// For each file the files that it imports from. A parent that only re-exports what a child defines does not count as
    /// its importer.
    pub(crate) fn edges(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut edges = BTreeMap::<_, BTreeSet<_>>::new();
        for (path, module) in &self.modules {
            let targets = edges.entry(module.file.as_str()).or_default();
            for import in &module.imports {
                if let Some(target) = self.resolve(path, &import.path, 0) {
                    let reexport = import.public && target.starts_with(path);
                    if target != *path && !reexport {
                        targets.insert(self.modules[&target].file.as_str());
                    }
                }
            }
            for named in &module.paths {
                if let Some(target) = self.resolve(path, named, 0).filter(|t| t != path) {
                    targets.insert(self.modules[&target].file.as_str());
                }
            }
        }
        edges
    }

    /// Groups of two or more files that import each other in a circle.
    pub(crate) fn cycles(&self) -> Vec<Vec<&str>> {
        let edges = self.edges();
        let reach = |from: &str| {
            let mut seen = BTreeSet::new();
            let mut open = vec![from];
            while let Some(file) = open.pop() {
                for next in edges.get(file).into_iter().flatten() {
                    if seen.insert(*next) {
                        open.push(next);
                    }
                }
            }
            seen
        };
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            edges.keys().map(|file| (*file, reach(file))).collect();
        let mut groups = BTreeSet::new();
        for (file, seen) in &reached {
            if seen.contains(file) {
                let group: Vec<&str> = seen
                    .iter()
                    .filter(|other| reached[*other].contains(file))
                    .copied()
                    .collect();
                groups.insert(group);
            }
        }
        groups.into_iter().collect()
    }

    /// The module in which the last name of `path`, as written in `base`, is defined. `None` for what is outside of the
    /// crate.
    fn resolve(&self, base: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
        if depth > 8 {
            return None;
        }
        let mut at = base.to_vec();
        let mut names = path;
        match path.first()?.as_str() {
            "crate" => {
                at.clear();
                names = &path[1..];
            }
            "self" => names = &path[1..],
            "super" => {
                while names.first().is_some_and(|name| name == "super") {
                    at.pop();
                    names = &names[1..];
                }
            }
            first => {
                let child = [base, &[first.to_owned()]].concat();
                let known = self.modules.contains_key(&child)
                    || depth > 0 && self.exported(base, first).is_some();
                if !known {
                    return None;
                }
            }
        }
        for (index, name) in names.iter().enumerate() {
            let child = [&at[..], std::slice::from_ref(name)].concat();
            if self.modules.contains_key(&child) {
                at = child;
                continue;
            }
            let Some(exported) = self.exported(&at, name) else {
                break;
            };
            let whole = [exported, &names[index + 1..]].concat();
            return self.resolve(&at, &whole, depth + 1).or(Some(at));
        }
        self.modules.contains_key(&at).then_some(at)
    }

    fn exported(&self, module: &[String], name: &str) -> Option<&[String]> {
        let module = self.modules.get(module)?;
        module
            .imports
            .iter()
            .find(|import| import.name == name && import.path.last().is_some())
            .map(|import| import.path.as_slice())
    }
}

/// The `use` declarations of `code`, and the code without them.
fn uses(code: &str) -> (Vec<Import>, String) {
    let mut imports = Vec::new();
    let mut other = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = find_use(rest) {
        let (before, after) = rest.split_at(at);
        other.push_str(before);
        let end = after.find(';').unwrap_or(after.len() - 1) + 1;
        let line = before.rsplit(['\n', ';', '}']).next().unwrap_or("");
        let public = line.trim_start().starts_with("pub");
        let tree: String = after["use".len()..end - 1]
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        leaves(&tree, &[], public, &mut imports);
        rest = &after[end..];
    }
    other.push_str(rest);
    (imports, other)
}

fn find_use(code: &str) -> Option<usize> {
    code.match_indices("use ").map(|(at, _)| at).find(|at| {
        code[..*at]
            .chars()
            .next_back()
            .is_none_or(|c| c.is_whitespace())
    })
}

/// Walks a tree such as `a::{b, c::{self, d as e}, f::*}`.
fn leaves(tree: &str, above: &[String], public: bool, found: &mut Vec<Import>) {
    let tree = tree.trim();
    if let Some((head, group)) = tree.split_once('{') {
        let prefix: Vec<String> = above.iter().cloned().chain(segments(head)).collect();
        let group = group.trim_end().strip_suffix('}').unwrap_or(group);
        for part in split_top(group) {
            leaves(part, &prefix, public, found);
        }
        return;
    }
    if tree.is_empty() {
        return;
    }
    let (path, alias) = match tree.split_once(" as ") {
        Some((path, alias)) => (path, Some(alias.trim().to_owned())),
        None => (tree, None),
    };
    let mut path: Vec<String> = above.iter().cloned().chain(segments(path)).collect();
    let glob = path.last().is_some_and(|last| last == "*");
    if glob || path.last().is_some_and(|last| last == "self") && path.len() > 1 {
        path.pop();
    }
    let own = if glob {
        "*".to_owned()
    } else {
        path.last().cloned().unwrap_or_default()
    };
    found.push(Import {
        name: alias.unwrap_or(own),
        path,
        public,
    });
}

fn segments(path: &str) -> impl Iterator<Item = String> {
    path.split("::")
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
}

/// Splits at commas that are in no group.
fn split_top(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut begin = 0;
    let mut parts = Vec::new();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[begin..]);
    parts
}

/// Paths in code that begin with `crate::` or `super::`.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let path: String = code[at..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':')
                .collect();
            found.push(segments(&path).collect());
        }
    }
    found
}
