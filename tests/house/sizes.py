#!/usr/bin/env python3
"""Measures the sizes of Rust sources: files, functions, and types with all their inherent `impl` blocks.

    tests/house/sizes.py [--check] [PATH...]

With --check the exit code is 1 when a file has more than 500 lines, a function more than 60, a type more than 700, or the
median file more than 160. Files of tests count for the first bar alone. Without PATH, src is measured.
"""

import collections
import pathlib
import re
import statistics
import sys

# Over a bar, and how far: none may grow, and none may be added.
LEFT = {
    "src/sync/reconcile.rs": 525,
    "src/sync/tests/anti_entropy.rs": 518,
    "src/sync/state.rs handle": 103,
    "src/sync/state.rs on_response": 86,
    "src/sync/announce.rs on_fetch_response": 82,
    "src/sync/responder.rs on_request": 81,
    "src/sync/reconcile.rs walk": 62,
    "src/sync/announce.rs on_announce": 61,
    "sync::AntiEntropy": 1249,
}

MAX_FILE, MAX_FUNCTION, MAX_TYPE, MAX_MEDIAN = 500, 60, 700, 160
FUNCTION = re.compile(r"^(\s*)(?:pub(?:\([^)]*\))? )?(?:const )?(?:async )?(?:unsafe )?fn (\w+)")
IMPL = re.compile(r"^impl(?:<[^{]*?>)? (?!.* for )(?:[\w]+::)*(\w+)")
STRUCT = re.compile(r"^(?:pub(?:\([^)]*\))? )?(?:struct|enum) (\w+)")


def is_test(path):
    return "tests" in path.parts or path.name == "tests.rs" or "vectors" in path.stem or "vectors" in path.parts


def body(lines, start):
    """The number of lines from `start` to the closing brace at its indentation, as rustfmt writes it."""
    indent = re.match(r"\s*", lines[start]).group()
    for end in range(start, len(lines)):
        if lines[end].rstrip() in (indent + "}", indent + "};") or (lines[end].rstrip().endswith((";", "}")) and end == start):
            return end - start + 1
    return 1


def measure(paths):
    files, functions, types = [], [], collections.Counter()
    for path in paths:
        lines = path.read_text().splitlines()
        files.append((len(lines), str(path)))
        if is_test(path):
            continue
        for n, line in enumerate(lines):
            if line.startswith("mod tests {"):
                break
            if match := FUNCTION.match(line):
                functions.append((body(lines, n), f"{path}:{n + 1} {match.group(2)}"))
            for pattern in (IMPL, STRUCT):
                if match := pattern.match(line):
                    folder = path.parts[path.parts.index("src") + 1] if "src" in path.parts else ""
                    types[f"{folder}::{match.group(1)}"] += body(lines, n)
    return files, functions, types


def known(name):
    """The name as in LEFT: relative to the package, without the line."""
    name = re.sub(r":\d+ ", " ", name)
    return name[name.index("src/"):] if "src/" in name else name


def main(arguments):
    check = arguments[:1] == ["--check"]
    roots = [pathlib.Path(one) for one in arguments[check:]] or [pathlib.Path(__file__).resolve().parents[2] / "src"]
    paths = [one for root in roots for one in (sorted(root.rglob("*.rs")) if root.is_dir() else [root])]
    paths = [one for one in paths if "generated" not in one.parts]
    files, functions, types = measure(paths)
    rules = [lines for lines, path in files if not is_test(pathlib.Path(path))]
    median = statistics.median(rules) if rules else 0
    over = []
    for title, found, limit in (("files", files, MAX_FILE), ("functions", functions, MAX_FUNCTION),
                                ("types", [(n, name) for name, n in types.items()], MAX_TYPE)):
        found.sort(reverse=True)
        print(f"{title}: {len(found)}, limit {limit}")
        for n, name in found[:8]:
            print(f"  {n:5} {name}")
        over += [f"{name}: {n} lines" for n, name in found if n > max(limit, LEFT.get(known(name), 0))]
    print(f"median file: {median:g} lines, limit {MAX_MEDIAN}")
    if median > MAX_MEDIAN:
        over.append(f"median file: {median:g} lines")
    if check and over:
        print("too long:", *over, sep="\n  ", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
