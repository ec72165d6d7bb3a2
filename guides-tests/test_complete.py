"""No snippet is left out, and the guide's counts are those of the snippets."""

import re
from collections import Counter
from pathlib import Path

import snippets

HERE = Path(__file__).resolve().parent


def test_every_snippet_is_tried(request):
    found = snippets.read(request.config.getoption("docs"))
    nameless = [f"{s.guide}: {s.text}" for s in found if s.language != "text" and not s.name]
    assert not nameless, "without a name"
    names = Counter(s.name for s in found if s.name)
    assert not [name for name, count in names.items() if count > 1], "the same name twice"
    tried = set()
    for path in [*HERE.glob("test_*.py"), *(HERE / "places").rglob("*")]:
        if path.is_file():
            tried.update(
                re.findall(r'snippet\("([\w-]+)"\)|snippet: ([\w-]+)$', path.read_text(), re.MULTILINE)
            )
    assert {one or other for one, other in tried} == set(names)


def test_counts(request):
    """How many files and lines LocalAI changes in each step."""
    docs = request.config.getoption("docs")
    guide = (docs / "integration-localai.md").read_text()
    table = re.search(r"<!-- counts -->\n.*?\n\n", guide, re.DOTALL)[0]
    told = {
        row.replace(",", ""): (int(files), int(lines))
        for row, files, lines in re.findall(r"^\| (\d[^|]*) \| (\d+) \| (\d+) \|$", table, re.MULTILINE)
    }
    counted = {}
    for step in sorted({s.step for s in snippets.read(docs) if s.step}):
        parts = [s for s in snippets.read(docs) if s.step == step]
        lines = sum(bool(line.strip()) for s in parts for line in s.text.splitlines())
        counted[step] = (len({s.file for s in parts}), lines)
    assert told == counted
