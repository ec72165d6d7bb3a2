"""The snippets of the guides, by name, as their Markdown has them.

A comment in front of a block names it, and says what it adds to LocalAI if it is counted:

    <!-- check NAME -->
    <!-- check NAME, step 3 Go: FILE -->

A block of output begins with ```text and needs no name.
"""

import dataclasses
import re
from pathlib import Path

BLOCK = re.compile(
    r"(?:^ *<!-- check ([\w-]+)(?:, step (\d(?: \S+)?): (\S+))? -->\n)?"
    r"^( *)```([^\n]*)\n(.*?)^\4```$",
    re.MULTILINE | re.DOTALL,
)
# A line of a place that stands for a snippet.
MARK = re.compile(r"^[ \t]*(?:#|//) snippet: ([\w-]+)\n", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Snippet:
    guide: str
    name: str  # "": none
    language: str
    text: str
    step: str  # of which it is a part of the change, with the language; "": none
    file: str  # of LocalAI's


def read(docs: Path) -> list[Snippet]:
    """Every block of the guides."""
    found = []
    for guide in sorted([*docs.glob("integration-*.md"), docs / "supervisors.md"]):
        for name, step, file, indent, language, text in BLOCK.findall(guide.read_text()):
            # Only the indentation of the block itself goes: that of the code is part of it.
            text = re.sub(f"^{indent}", "", text, flags=re.MULTILINE)
            found.append(Snippet(guide.name, name, language, text, step, file))
    return found
