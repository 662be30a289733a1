"""Word lists that lie as text files beside the module that uses them."""

from __future__ import annotations

from pathlib import Path


def read_lists(path: Path) -> dict[str, list[str]]:
    """Return the lines of each `[section]`, in order, without blank lines and `# comments`."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in map(str.strip, path.read_text("utf-8").splitlines()):
        if line.startswith("[") and line.endswith("]"):
            lines = sections.setdefault(line[1:-1], [])
        elif line and not line.startswith("# "):
            lines.append(line)
    return sections


def read_words(path: Path) -> dict[str, frozenset[str]]:
    """Return the words of each `[section]`, whose lines hold several words each."""
    return {
        section: frozenset(" ".join(lines).split()) for section, lines in read_lists(path).items()
    }
