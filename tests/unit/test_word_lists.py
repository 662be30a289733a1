"""Word lists in text files are read as they are written, and are part of the package."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from shared.word_lists import read_lists

ROOT = Path(__file__).parents[2]


def test_sections_hold_their_lines_without_comments(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# about\n\n[tools]\n# a note\nC#\n  F#  \nMicrosoft Word\n\n[none]\n", "utf-8")
    assert read_lists(path) == {"tools": ["C#", "F#", "Microsoft Word"], "none": []}


@pytest.mark.parametrize("top", ["shared", "services"])
def test_every_list_is_installed_with_the_package(top: str) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    globs = settings["tool"]["setuptools"]["package-data"][top]
    installed = {path for glob in globs for path in (ROOT / top).glob(glob)}
    lists = set((ROOT / top).rglob("*.txt"))
    assert lists
    assert lists <= installed
