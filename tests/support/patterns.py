"""Every regular expression of the product, and texts made to slow each of them down.

Patterns are found by reading the source: each call of `re.…` gives its pattern, so one that is
added tomorrow is found too. The texts come from the pattern's own parse tree.
"""

from __future__ import annotations

import ast
import importlib
import itertools
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from types import CodeType, FrameType, ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
_CALLS = ("compile", "match", "fullmatch", "search", "sub", "subn", "findall", "finditer", "split")
_ANCHORED = {"match", "fullmatch"}
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
_OF_CATEGORY = {
    sre.CATEGORY_DIGIT: "1",
    sre.CATEGORY_NOT_DIGIT: "a\n",
    sre.CATEGORY_SPACE: " \n",
    sre.CATEGORY_NOT_SPACE: "a",
    sre.CATEGORY_WORD: "a1_",
    sre.CATEGORY_NOT_WORD: "-\n",
}
_NAME_OF_CATEGORY = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}
# One of each kind of character that a class may mean.
_PROBES = "aZ1_ \n.,-'\"([{<:;/@#!?`\u0301é约"
_WORDS = ("Word ", "WORD", "a. ", "Dr. ", "a, b; ", "1.2-", '"a"', "(a)", "Aa", "a\n", " \n")
_ENDINGS = ("", "!", " z\0")


@dataclass(frozen=True)
class Found:
    """A pattern, where it is written, and the methods by which it is used there."""

    place: str
    pattern: re.Pattern[str]
    uses: frozenset[str]

    def run(self, text: str) -> None:
        """Use the pattern on `text` as the product does; all but anchored uses look everywhere."""
        if self.uses - _ANCHORED:
            for _ in self.pattern.finditer(text):
                pass
        for use in self.uses & _ANCHORED:
            getattr(self.pattern, use)(text)


class TooSlow(AssertionError):
    """A call used more CPU time than it may."""


def modules() -> Iterator[tuple[ModuleType, ast.Module]]:
    """Every module of the product that can be imported, with its syntax tree."""
    for path in sorted(
        itertools.chain(*((ROOT / top).rglob("*.py") for top in ("shared", "services")))
    ):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield importlib.import_module(name), ast.parse(path.read_text("utf-8"))


def patterns_of(
    module: ModuleType, tree: ast.Module, samples: Mapping[str, Sequence[object]]
) -> Iterator[Found]:
    """Patterns of one module; what a function builds from its locals needs `samples` of them.

    Raises: KeyError naming the local that has no sample.
    """
    assert not any(
        isinstance(node, ast.ImportFrom) and node.module == "re" for node in ast.walk(tree)
    )
    for call in _calls(tree):
        place = f"{module.__name__}:{call.lineno}"
        for pattern in _evaluated(call, vars(module), place, samples):
            yield Found(place, pattern, _uses(call, tree))


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in {"re", "regex"}
            and node.func.attr in _CALLS
        ):
            yield node


def _evaluated(
    call: ast.Call, names: dict[str, Any], place: str, samples: Mapping[str, Sequence[object]]
) -> Iterator[re.Pattern[str]]:
    """The call's pattern, once for each sample of a local name in it."""
    try:
        pattern, *flags = eval(_arguments(call), names)  # noqa: S307 - the product's own source
    except NameError as error:
        name = str(error.name)
        if name not in samples:
            message = f"{place}: give samples of {name}, of which a pattern is built"
            raise KeyError(message) from None
        for sample in samples[name]:
            yield from _evaluated(call, names | {name: sample}, place, samples)
    else:
        yield pattern if isinstance(pattern, re.Pattern) else re.compile(pattern, *flags)


def _arguments(call: ast.Call) -> CodeType:
    """Code that gives the call's pattern and, of `re.compile`, its flags."""
    assert isinstance(call.func, ast.Attribute)
    wanted = call.args[:1]
    if call.func.attr == "compile":
        wanted = [*call.args, *(each.value for each in call.keywords)]
    tree = ast.Expression(ast.Tuple(wanted, ast.Load()))
    return compile(ast.fix_missing_locations(tree), "pattern", "eval")


def _uses(call: ast.Call, tree: ast.Module) -> frozenset[str]:
    """The methods called on the pattern; on one that has no name: every kind of them."""
    assert isinstance(call.func, ast.Attribute)
    if call.func.attr != "compile":
        return frozenset({call.func.attr})
    names = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is call
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    uses = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in names
    }
    return frozenset(uses & set(_CALLS)) or frozenset({"finditer"})


def adversarial(pattern: re.Pattern[str], size: int) -> Iterator[str]:
    """Texts of `size` characters: repeats of what the pattern names, and almost-matches."""
    tree = parser.parse(pattern.pattern, pattern.flags)
    atoms = list(dict.fromkeys(_atoms(tree)))
    words = list(dict.fromkeys(_pumped(tree, None)))[:6]
    units = [*_PROBES, *atoms, *words, *(word[:-1] for word in words if len(word) > 1), *_WORDS]
    marks = [atom for atom in atoms if not atom.isalpha()]
    paired = [*marks[:6], *[atom for atom in atoms if atom.isalpha()][:3]]
    for unit in dict.fromkeys(units):
        for ending in _ENDINGS:
            yield _filled("", unit, ending, size)
    for one, other in itertools.permutations(paired, 2):
        yield _filled("", one + other, "!", size)
    for repeat in _repeats(tree):
        for before in _pumped(tree, repeat):
            head, _, body = before.partition("\x1f")
            if body:
                yield _filled(head, body, "\0", size)
                yield _filled(head, body, "z!", size)
            for one, other in itertools.permutations(marks[:4], 2):
                yield _filled(head, one + other, "\0", size)


def units(pattern: re.Pattern[str]) -> list[str]:
    """A few strings that the pattern accepts or nearly accepts, and characters of each kind."""
    words = _pumped(parser.parse(pattern.pattern, pattern.flags), None)[:2]
    return [*_PROBES, *_WORDS, *(word + " " for word in words)]


def _filled(head: str, unit: str, ending: str, size: int) -> str:
    room = max(0, size - len(head) - len(ending))
    return head + (unit * (room // len(unit) + 1))[:room] + ending


def _atoms(tree: Any) -> Iterator[str]:
    for op, value in tree:
        if op in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            yield from _characters(op, value)
        for inner in _inside(op, value):
            yield from _atoms(inner)


def _inside(op: Any, value: Any) -> list[Any]:
    if op in _REPEATS:
        return [value[2]]
    if op is sre.BRANCH:
        return list(value[1])
    if op is sre.SUBPATTERN:
        return [value[-1]]
    if op in (sre.ASSERT, sre.ASSERT_NOT):
        return [value[1]]
    return [value] if op is sre.ATOMIC_GROUP else []


def _characters(op: Any, value: Any) -> Iterator[str]:
    """Up to three characters that the element accepts."""
    if op is sre.LITERAL:
        yield chr(value)
    elif op is sre.IN and value[0][0] is not sre.NEGATE:
        for kind, each in value[:3]:
            if kind is sre.LITERAL:
                yield chr(each)
            elif kind is sre.RANGE:
                yield chr(each[0])
            elif kind is sre.CATEGORY:
                yield from _OF_CATEGORY[each]
    else:
        accepts = re.compile(_source(op, value), re.DOTALL)
        yield from [probe for probe in _PROBES if accepts.match(probe)][:3]


def _source(op: Any, value: Any) -> str:
    if op is sre.NOT_LITERAL:
        return f"[^{re.escape(chr(value))}]"
    if op is not sre.IN:
        return "."
    parts = []
    for kind, each in value[1:]:
        if kind is sre.LITERAL:
            parts.append(re.escape(chr(each)))
        elif kind is sre.RANGE:
            parts.append(f"{re.escape(chr(each[0]))}-{re.escape(chr(each[1]))}")
        else:
            parts.append(_NAME_OF_CATEGORY[each])
    return f"[^{''.join(parts)}]"


def _repeats(tree: Any) -> Iterator[Any]:
    """Every repeated element that may repeat more than a few times."""
    for element in tree:
        op, value = element
        if op in _REPEATS and value[1] > 3:
            yield value
        for inner in _inside(op, value):
            yield from _repeats(inner)


def _pumped(tree: Any, pump: Any) -> list[str]:
    """Strings that the pattern (nearly) accepts; with `pump`, those up to it, then its body."""
    found = [""]
    for op, value in tree:
        if value is pump and op in _REPEATS:
            bodies = _pumped(value[2], None)[:4]
            return [f"{head}\x1f{body}" for head in found[:3] for body in bodies]
        choices = _choices(op, value, pump)
        if done := [text for text in choices if "\x1f" in text]:
            return [head + text for head in found[:3] for text in done]
        found = [head + text for head in found for text in choices or [""]][:12]
    return found


def _choices(op: Any, value: Any, pump: Any) -> list[str]:
    if op in _REPEATS:
        inner = _pumped(value[2], pump)
        if pump is not None and any("\x1f" in each for each in inner):
            return inner
        return [each * max(1, value[0]) for each in inner[:3]]
    if op is sre.BRANCH:
        return [text for branch in value[1] for text in _pumped(branch, pump)[:3]]
    if op in (sre.ASSERT, sre.ASSERT_NOT, sre.AT):
        return []
    if inside := _inside(op, value):
        return _pumped(inside[0], pump)
    return list(_characters(op, value)) if op is not sre.GROUPREF else []


def cpu_s(function: Callable[[], object], *, limit_s: float) -> float:
    """CPU time of one call in this thread; the call is broken off after `limit_s`."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TooSlow(f"more than {limit_s} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
    began = time.thread_time()
    try:
        function()
    except TooSlow:
        return float("inf")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return time.thread_time() - began


def slowest_of(
    run: Callable[[str], object], texts: Iterable[str], *, limit_s: float
) -> tuple[str, float] | None:
    """The first text that takes longer than `limit_s` three times over, and its least time."""
    for text in texts:
        taken = cpu_s(lambda: run(text), limit_s=10 * limit_s)  # noqa: B023 - called at once
        for _ in range(2):
            if limit_s < taken < float("inf"):
                taken = min(taken, cpu_s(lambda: run(text), limit_s=10 * limit_s))  # noqa: B023
        if taken > limit_s:
            return text, taken
    return None
