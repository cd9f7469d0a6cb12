#!/usr/bin/env python3
"""Counts idioms in the comments of Rust sources, by folder, and fails above a limit.

    tests/house/words.py [--max N] [PATH...]

Comments that say "what is told to whom, so long as it stands" hide the field's terms from whoever searches for them, and
from readers of other languages. Measured in the same way, well-kept libraries of the field (libp2p-gossipsub, yamux,
rustls, snow, tokio) have 0.3 to 2.2 idioms in a thousand words of comments. Without PATH, every folder of src and tests
is counted. With --max N the exit code is 1 when a folder of more than 500 words has more than N in a thousand.
"""

import collections
import pathlib
import re
import sys

IDIOMS = re.compile(
    r"\b(what|whatever|who|whom|whose|whoever|told|said|come|comes|came|so long|so many|so much|stands?|stood)\b", re.I
)
WORDS = re.compile(r"[A-Za-z][A-Za-z'’-]*")
MIN_WORDS = 500


def comments(path):
    """The text of all line comments, without code examples."""
    found, example = [], False
    for line in path.read_text(errors="replace").splitlines():
        match = re.match(r"\s*//[/!]?(.*)", line) or re.search(r"\s//(?!/)(.*)$", line)
        if not match:
            continue
        text = match.group(1)
        if text.strip().startswith("```"):
            example = not example
        elif not example:
            found.append(text)
    return " ".join(found)


def count(paths):
    words, idioms = 0, collections.Counter()
    for path in paths:
        text = comments(path)
        words += len(WORDS.findall(text))
        idioms.update(match.lower() for match in IDIOMS.findall(text))
    return words, idioms


def sources(path):
    found = path.rglob("*.rs") if path.is_dir() else [path]
    return [one for one in found if "generated" not in one.parts]


def main(arguments):
    limit = None
    if arguments[:1] == ["--max"]:
        limit, arguments = float(arguments[1]), arguments[2:]
    root = pathlib.Path(__file__).resolve().parents[2]
    paths = [pathlib.Path(one) for one in arguments]
    if not paths:
        paths = [one for one in sorted((root / "src").iterdir()) + sorted((root / "tests").iterdir())
                 if sources(one) and (one.is_dir() or one.suffix == ".rs")]
    total_words, total, over = 0, collections.Counter(), []
    for path in paths:
        words, idioms = count(sources(path))
        rate = 1000 * idioms.total() / max(1, words)
        most = ", ".join(f"{word} {n}" for word, n in idioms.most_common(6))
        print(f"{path.relative_to(root) if path.is_absolute() else path!s:28} {words:6} words  {rate:5.1f} in 1,000  {most}")
        if limit is not None and words > MIN_WORDS and rate > limit:
            over.append(str(path))
        total_words += words
        total += idioms
    rate = 1000 * total.total() / max(1, total_words)
    print(f"{'all':28} {total_words:6} words  {rate:5.1f} in 1,000")
    if limit is not None and (over or rate > limit):
        print(f"more than {limit:g} in 1,000: {', '.join(over) or 'all'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
