"""The image: what it is built from, what it runs as, and that its command picks the role."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from shared import config
from tests.support.waiting.pace import limit_s

ROOT = Path(__file__).resolve().parents[2]
# What the image sets for Python and pip; every other name must be a setting of ours.
NOT_OURS = re.compile(r"PATH|HOME|PYTHON[A-Z]+|PIP_[A-Z_]+")


def _instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) in order, continuation lines joined, comments dropped."""
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (name, rest.strip())
        for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def _last(instruction: str) -> str:
    return [rest for name, rest in _instructions() if name == instruction][-1]


@pytest.mark.parametrize("role", config.ROLES)
def test_the_command_picks_the_role(role: str, tmp_path: Path) -> None:
    """The entry point itself is run, with a `python` that only repeats its arguments."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$$ $@"\n')
    python.chmod(0o755)
    command = [*json.loads(_last("ENTRYPOINT")), role, "--health"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PATH": str(tmp_path)}
    )
    answer, _ = process.communicate(timeout=limit_s())
    # The same process: a shell left in between would swallow SIGTERM.
    assert answer.split() == [str(process.pid), "-m", f"services.{role}", "--health"]


def test_without_a_command_the_api_runs() -> None:
    assert json.loads(_last("CMD")) == ["api"]


def test_it_runs_as_a_numeric_user_that_is_not_root() -> None:
    user, group = _last("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0


def test_every_base_is_pinned_to_a_python_that_the_project_supports() -> None:
    bases = [rest.split()[0] for name, rest in _instructions() if name == "FROM"]
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.11[\w.]*-slim-\w+", bases[0])


def test_it_installs_exact_versions_and_no_extra() -> None:
    installs = re.findall(r"pip install (.+)", "\n".join(rest for _, rest in _instructions()))
    assert len(installs) == 2
    for arguments in installs:
        assert "-c constraints.txt" in arguments
        assert arguments.split()[-1] == ".", "an extra would bring the embedded stores along"


def test_it_sets_only_variables_that_are_read() -> None:
    names = {
        name
        for instruction, rest in _instructions()
        if instruction == "ENV"
        for name in re.findall(r"(\w+)=", rest)
    }
    ours = {name for name in names if not NOT_OURS.fullmatch(name)}
    assert "EUNOE_HOST" in ours
    assert ours <= config.variables().keys()


def test_it_exposes_the_ports_of_the_settings() -> None:
    api = config.variables()["PORT"][2]
    assert [int(port) for port in _last("EXPOSE").split()] == [api, *config.ADMIN_PORTS.values()]


def test_the_build_context_is_what_is_copied_and_nothing_else() -> None:
    """A forgotten COPY breaks the build, a forgotten exclusion ships secrets or data."""
    copied: set[str] = set()
    for name, rest in _instructions():
        if name == "COPY" and not rest.startswith("--from="):
            copied.update(rest.split()[:-1])
    rules = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in rules
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
