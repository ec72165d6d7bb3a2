"""The links of the Markdown files that git knows, and of the files that are given with --published.

A link into this repository must name a file that is there, and a heading that it has.
A page of docs/ has relative links to docs/ alone: it is a page of the book too.
What a registry shows (--published: a crate's README.md, a wheel's METADATA) has absolute links alone:
relative ones lead nowhere there.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
REPOSITORY = "https://github.com/mudler/localai-parentwatch"
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINKS = re.compile(r'\]\(\s*<?([^)\s>]+)|^\[[^]^][^]]*\]:\s*(\S+)|(?:href|src)="([^"]+)"', re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The names that GitHub gives to the headings."""
    text = re.sub(r"^(```|~~~).*?^\1", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+\s+(.*?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def wrong(link: str, path: Path, published: bool) -> str | None:
    """What is wrong with a link of the file."""
    name, _, anchor = link.partition("#")
    if name.startswith(REPOSITORY + "/blob/main/"):
        target = ROOT / name.removeprefix(REPOSITORY + "/blob/main/")
    elif re.match(r"[a-z]+:", name):
        return None
    elif name and published:
        return "is relative"
    else:
        target = path.parent / name if name else path
        if path.is_relative_to(DOCS) and not target.resolve().is_relative_to(DOCS):
            return f"leads out of the book: begin it with {REPOSITORY}/blob/main/"
    if not target.exists():
        return "leads nowhere"
    if anchor and target.suffix == ".md" and anchor not in anchors(target):
        return "has no such heading"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--published", nargs="+", type=Path, default=[])
    published = parser.parse_args().published
    listed = subprocess.check_output(["git", "ls-files", "*.md"], cwd=ROOT, text=True)
    files = published or [ROOT / name for name in listed.splitlines()]
    faults = 0
    contents = DOCS / "SUMMARY.md"
    pages = {DOCS / page for page in re.findall(r"\]\((.*?)\)", contents.read_text())}
    for path in files:
        if path.is_relative_to(DOCS) and path not in {contents, *pages}:
            print(f"{path}: is no page of the book: name it in {contents}", file=sys.stderr)
            faults += 1
    for path in files:
        links = ["".join(groups) for groups in LINKS.findall(CODE.sub("", path.read_text()))]
        if published and not links:
            print(f"{path}: has no link: is it the right file?", file=sys.stderr)
            faults += 1
        for link in links:
            if fault := wrong(link, path, bool(published)):
                print(f"{path}: {link} {fault}", file=sys.stderr)
                faults += 1
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
