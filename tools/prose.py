#!/usr/bin/env python3
"""Measures how plainly the code and the documents are written.

    python3 tools/prose.py [ROOT] [--worst] [--max-pointing N] [--max-repeated N]

pointing     Share of the words in Rust doc comments (/// and //!) that point at something instead
             of naming it: it, that, those, who, what, one, others, such. ripgrep has 5.7 %,
             linkerd2-proxy 4.6, ntpd-rs 3.8, quinn 3.6.
repeated     Share of the names of structs, enums, traits and types that stand for more than one
             type in the workspace; tests and benches are left out. ntpd-rs has 2 %, ripgrep 6.5,
             quinn 7.5.
wide lines   Lines over 100 columns in README.md, CONTRIBUTING.md, SECURITY.md and docs/**/*.md;
             tables, headings, code blocks and lines with a link are left out.
sentences    Words in a sentence of the same files. ripgrep's guide has 20, ntpd-rs 18.

ROOT is the root of the repository by default. --worst also lists the doc comments with the highest
share, the repeated names, the wide lines and the longest sentences. Each --max option (there are
--max-wide and --max-sentence, too) makes the program exit with 1 above that ceiling.
"""
import argparse
import collections
import os
import re
import sys

POINTING = re.compile(
    r"\b(it|its|that|them|they|those|these|this|their|who|whom|whose|what|one|ones|other|others"
    r"|somebody|nobody|whoever|such)\b",
    re.I,
)
SKIPPED_FOLDERS = {"target", "tests", "bench", "fuzz", ".git", "testing"}
TEST_FILE = re.compile(r"(tests?|twin|.*_tests?)(_|\.)")
DOC_COMMENT = re.compile(r"\s*//[/!]\s?(.*)")
TYPE_NAME = re.compile(r"\s*(?:pub(?:\([^)]*\))?\s+)?(?:struct|enum|trait|type)\s+([A-Z]\w+)")
ASSOCIATED_TYPE = re.compile(r"\s+type\s")
COLUMNS = 100


def arguments():
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", nargs="?", default=here)
    parser.add_argument("--worst", action="store_true")
    parser.add_argument("--max-pointing", type=float)
    parser.add_argument("--max-repeated", type=float)
    parser.add_argument("--max-wide", type=float)
    parser.add_argument("--max-sentence", type=float)
    return parser.parse_args()


def rust_files(root):
    for folder, below, files in os.walk(root):
        below[:] = sorted(b for b in below if b not in SKIPPED_FOLDERS)
        for name in sorted(files):
            if name.endswith(".rs") and not TEST_FILE.match(name):
                yield os.path.join(folder, name)


def read_code(root):
    """Returns the doc comments as (path, line, text) and the places of each type name."""
    comments, names = [], collections.defaultdict(set)
    for path in rust_files(root):
        block, start = [], 0
        for number, line in enumerate(open(path, errors="replace"), 1):
            doc = DOC_COMMENT.match(line)
            if doc:
                if not block:
                    start = number
                block.append(doc.group(1))
                continue
            if block:
                comments.append((path, start, " ".join(block)))
                block = []
            name = TYPE_NAME.match(line)
            if name and not ASSOCIATED_TYPE.match(line):
                names[name.group(1)].add(f"{path}:{number}")
        if block:
            comments.append((path, start, " ".join(block)))
    return comments, names


def documents(root):
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"):
        path = os.path.join(root, name)
        if os.path.exists(path):
            yield path
    for folder, below, files in os.walk(os.path.join(root, "docs")):
        below.sort()
        for name in sorted(files):
            if name.endswith(".md"):
                yield os.path.join(folder, name)


def read_documents(root):
    """Returns the number of lines, the wide lines, and the sentences as (words, path, text)."""
    lines, wide, sentences = 0, [], []
    for path in documents(root):
        code, prose = False, []
        for number, line in enumerate(open(path, errors="replace"), 1):
            if line.startswith("```"):
                code = not code
            if code or line.startswith(("|", "    ", "#", "```", "<!--")) or "http" in line:
                continue
            lines += 1
            if len(line.rstrip("\n")) > COLUMNS:
                wide.append(f"{path}:{number}")
            prose.append(line.strip())
        for sentence in re.split(r"(?<=[.!?:])\s+", " ".join(prose)):
            count = len(re.findall(r"[A-Za-z']+", sentence))
            if count > 2:
                sentences.append((count, path, sentence))
    return lines, wide, sentences


def main():
    args = arguments()
    comments, names = read_code(args.root)
    words = points = 0
    scored = []
    for path, start, text in comments:
        count, pointing = len(re.findall(r"[A-Za-z']+", text)), len(POINTING.findall(text))
        words += count
        points += pointing
        if count >= 12:
            scored.append((pointing / count, path, start, text))
    repeated = {name: places for name, places in names.items() if len(places) > 1}
    lines, wide, sentences = read_documents(args.root)
    pointing_share = 100 * points / max(words, 1)
    repeated_share = 100 * len(repeated) / max(len(names), 1)
    sentence_words = sum(count for count, _, _ in sentences) / max(len(sentences), 1)
    print(
        f"pointing words {pointing_share:.1f} % of {words} words in doc comments; "
        f"repeated type names {repeated_share:.1f} % ({len(repeated)} of {len(names)}); "
        f"wide lines {len(wide)} of {lines}; words in a sentence {sentence_words:.1f}"
    )
    if args.worst:
        for share, path, start, text in sorted(scored, reverse=True)[:40]:
            print(f"{share:.0%} {path}:{start} {text[:160]}")
        for name, places in sorted(repeated.items(), key=lambda item: -len(item[1])):
            print(name, len(places), " ".join(sorted(places)))
        for place in wide:
            print("wide", place)
        for count, path, sentence in sorted(sentences, reverse=True)[:20]:
            print(count, "words", path, sentence[:160])
    failed = False
    for what, value, ceiling in (
        ("pointing words", pointing_share, args.max_pointing),
        ("repeated type names", repeated_share, args.max_repeated),
        ("wide lines", len(wide), args.max_wide),
        ("words in a sentence", sentence_words, args.max_sentence),
    ):
        if ceiling is not None and round(value, 1) > ceiling:
            print(f"prose: {what}: {value:.1f} is above the ceiling of {ceiling}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
