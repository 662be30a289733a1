"""Find the places of a text that may name an entity, and the places that are noise.

Each finder yields NamedSpans. The recognizer filters them, and decides between two that overlap
by their `Rank`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

from services.enricher.entities import words as lists


class Rank(IntEnum):
    """How a name was found; a lower rank wins. The order was measured on labelled sentences."""

    STATED = 0  # "Project Atlas", "Dr. Carter": the wording names the category
    NAMED = 1  # a known given name leads it
    KNOWN = 2  # a technology, place or organization of names.txt
    WORDED = 3  # "using X", "met with X", "X said"
    SEEN = 4  # spaCy marked it
    GUESSED = 5  # "X over", "with X": only where nothing else was found


@dataclass(frozen=True, slots=True)
class NamedSpan:
    """`text[start:end]` may be an entity of `category`, called `name`."""

    rank: Rank
    category: str
    name: str
    start: int
    end: int


@dataclass(slots=True)
class Word:
    """A word without its possessive ending; `opens` where a sentence or line begins."""

    text: str
    lower: str
    start: int
    end: int
    opens: bool


_WORD = re.compile(r"[^\W_](?:[\w.+#'’‘&-]*[\w+#])?")
_POSSESSIVE = re.compile(r"['’‘]s?$")
_OPENERS = frozenset('.!?:\n"“„(')

# Bounded and only at a word's start, so that no text makes a search quadratic.
_CAP = r"(?<!\w)[^\W\d_a-z][\w'’‘-]{0,40}"
_LINK = r"(?:(?:van|von|de|der|den|del|la|le|du|di|da|dos)[ ])"
_CAPS = rf"{_CAP}(?:[ ](?:{_LINK}{{0,3}}{_CAP}|[A-Z]\.))?"
_PROJECT = re.compile(
    rf"\bProject[ ](?P<plain>{_CAP}(?:[ ]{_CAP}){{0,2}})"
    r"|\b[Pp]roject:[ ]*(?P<slug>[a-z0-9]+(?:-[a-z0-9]+)*)"
    r"|\b(?:[Pp]roject|[Rr]epo|[Rr]epository)[ ](?:is[ ])?(?:called|named)[ ][\"'“„‘`]?"
    rf"(?P<called>[a-z0-9]+(?:-[a-z0-9]+)+|{_CAP}(?:[ ]{_CAP}){{0,2}})"
    rf"|\b(?:project|repo|repository)[ ][\"'“„‘]?(?P<after>{_CAP})"
)
_TICKED = re.compile(r"(?<!`)`([^`\n]{3,60})`(?!`)")
# A lower-case slug is a project where its last part says what it is part of.
_SLUG = re.compile(
    rf"(?<![\w/.:@-])(?!(?:{lists.any_of('compound_beginnings')})-[a-z]+\b)"
    rf"[a-z][a-z0-9]*(?:-[a-z0-9]+)*-(?:{lists.any_of('project_endings')})(?![\w/@-]|[.:]\w)"
)
_ORGANIZATION = re.compile(
    rf"(?:{_CAP}(?:[ ]|[ ]?&[ ])){{1,4}}(?:{lists.any_of('organization_endings')})\b"
)
_LEADING_WORD = re.compile(
    r"(?:The|A|An|Der|Die|Das|Firma|At|From|For|With|In|By|And|But|Our|Her|His|My)[ ]"
)
_PERSON_WORDED = re.compile(
    r"\b(?:(?:[Mm]et|[Mm]eeting|[Ll]unch|[Dd]inner|[Cc]offee|[Cc]all|[Cc]hat|[Ii]nterview|[Ww]orked|[Pp]aired)"
    r"[ ](?:up[ ])?with"
    r"|(?:[Tt]alk|[Tt]alked|[Tt]alking|[Ss]poke|[Ss]peak|[Ss]peaking)[ ](?:to|with)"
    r"|[Aa]ccording[ ]to|(?:said|asked|wrote|replied|meinte|sagte|fragte|schrieb)"
    r"|(?:[Hh]i|[Hh]ey|[Hh]ello|[Dd]ear|[Tt]hanks|Best|Cheers|Regards),?)"
    rf"[ ](?P<after>{_CAPS})"
    rf"|\b(?P<before>{_CAPS})[ ](?:said|asked|told|replied|answered|thinks"
    r"|mentioned|wrote|reported|suggested|complained|sagte|meinte)\b"
)
_TOOL_NAME = r"(?<!\w)[^\W\d_a-z][\w.+#-]{0,40}[\w+#]"
_TOOL_WORDED = re.compile(
    r"\b(?:[Uu]s(?:e|es|ed|ing)|[Dd]eploy(?:s|ed|ing)?(?:[ ](?:with|via|on|to))?|via|tried|adopted"
    r"|[Ii]nstall(?:s|ed|ing)?|(?:written|rewritten|rewrote|built)(?:[ ]\w+){0,3}[ ](?:in|with|on)"
    r"|[Mm]igrat\w+(?:[ ]\w+){0,3}[ ]to|powered[ ]by)"
    rf"[ ](?P<first>{_TOOL_NAME})(?:(?:,|[ ]and|[ ]or)[ ](?P<second>{_TOOL_NAME}))?"
)
_TOOL_CHOSEN = re.compile(
    rf"\b(?:[Cc]hose|[Pp]icked|[Pp]refers?|[Ss]elected)[ ](?P<left>{_TOOL_NAME})"
    rf"[ ](?:over|instead[ ]of)[ ](?P<right>{_TOOL_NAME})"
)
_EMPLOYER = re.compile(
    r"\b(?:(?:[Ww]ork(?:s|ed|ing)?|job|offer|intern\w*|[Aa]pplied|[Hh]ired|[Ss]tud(?:ies|ied)"
    r"|engineer|developer|designer|consultant|teaches)[ ](?:at|for|from|by)|contrat[ ]avec)"
    rf"[ ](?P<name>{_CAP}(?:[ ]{_CAP}){{0,2}})"
)
_TOOL_GUESSED = re.compile(
    rf"(?P<left>{_TOOL_NAME})[ ](?:vs\.?|versus|over|instead[ ]of)[ ](?P<right>{_TOOL_NAME})?"
)
_WITH_ONE = re.compile(rf"\bwith[ ](?P<name>{_CAP})(?![ ][A-Z])")
_WITH_TWO = re.compile(rf"\bwith[ ](?P<name>{_CAP}[ ]{_LINK}{{0,3}}{_CAP})")
_WORDINGS = (
    (_PERSON_WORDED, Rank.WORDED, "people"),
    (_TOOL_WORDED, Rank.WORDED, "tools"),
    (_TOOL_CHOSEN, Rank.WORDED, "tools"),
    (_EMPLOYER, Rank.WORDED, "organizations"),
    (_TOOL_GUESSED, Rank.GUESSED, "tools"),
    (_WITH_TWO, Rank.GUESSED, "people"),
    (_WITH_ONE, Rank.GUESSED, "tools"),
)
_SPEECH = re.compile(r"\b(?:I|I'm|[Yy]ou|[Yy]our|[Mm]y|me|[Ww]e|us|[Tt]hanks|[Hh]ey|[Hh]i)\b|[!?]")
_SPEAKER = re.compile(rf"^[ ]*(?P<name>{_CAP}(?:[ ]{_CAP})?):[ ]", re.MULTILINE)

_HAS_CODE = re.compile(r"[`{}<>=\\_/@(]|::|[a-z]\.[a-z]|(?:Error|Exception|ERROR|WARN|FATAL)\b")
# Nothing inside is ever an entity.
_NOISE = re.compile(
    r"```.*?(?:```|\Z)"
    r"|\b\w{2,12}://\S+"
    r"|(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,64}\.\w[\w.-]*"
    r"|</?[A-Za-z][^<>\n]{0,200}>"
    r"|\{[^{}\n\"]*+\"[^{}\n:]*+:[^{}\n]*+\}"
    r"|Traceback[ ]\(most.*?(?:\n\n|\Z)"
    r"|(?<![\w.])[~.]{0,2}/[\w.@/-]+|(?<![\w/])[a-z0-9_.-]{1,64}+/[\w./-]+"
    r"|\b[A-Za-z_]\w++(?:\.[A-Za-z_]\w*+){0,16}+\([^()\n]{0,200}\)"
    r"|\b[a-z_]\w+(?:\.[A-Za-z_]\w+)+(?::\d+)?"
    r"|\b\w+_\w+\b"
    r"|\b(?:SELECT|INSERT[ ]INTO|DELETE[ ]FROM|CREATE[ ]TABLE|ALTER[ ]TABLE)\b[^;\n]*",
    re.DOTALL,
)
# Inside an error message only the names of names.txt count, since any word may have a capital.
_MESSAGE = re.compile(
    r"\b\w{0,60}(?:Error|Exception|ERROR|FATAL|PANIC)\b:?[^\n]*"
    r"|^[^\w\n]*+(?:\d{4}-\d\d-\d\d|WARN|WARNING|INFO|DEBUG|TRACE)[T \[:][^\n]*\b"
    r"(?:WARN|ERROR|INFO|DEBUG|Timeout|Exceeded)[^\n]*"
    r"|\bHTTP[ /]?[\d.]*[ ]?[1-5]\d\d\b[^\n,.]*",
    re.MULTILINE,
)
_CODE_SIGNS = re.compile(r"[{}<>=]|;\s*$|\w\(|\)\.|->|::|&&|\|\|")
_CODE_LINE_SIGNS = 3
_MOST_TITLES = 6


def words_of(text: str) -> list[Word]:
    """Return the words of `text` in order; `Alice's` gives Alice."""
    words = []
    end = 0
    for match in _WORD.finditer(text):
        word = match.group()
        if "'" in word or "’" in word or "‘" in word:
            word = _POSSESSIVE.sub("", word)
        start = match.start()
        gap = text[end:start]
        opens = end == 0 or (gap != " " and not _OPENERS.isdisjoint(gap))
        end = match.end()
        words.append(Word(word, word.lower(), start, start + len(word), opens))
    return words


def noise_of(text: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the ranges where nothing is an entity, and those where only known names are."""
    if _HAS_CODE.search(text) is None:
        return [], []
    noise = [m.span() for m in _NOISE.finditer(text) if m.group().lower() not in lists.KNOWN]
    noise += _code_lines(text)
    return noise, [match.span() for match in _MESSAGE.finditer(text)]


def _code_lines(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for line in text.splitlines(keepends=True):
        if len(_CODE_SIGNS.findall(line)) >= _CODE_LINE_SIGNS:
            yield start, start + len(line)
        start += len(line)


def stated_projects(text: str) -> Iterator[NamedSpan]:
    for match in _PROJECT.finditer(text) if "roject" in text or "epo" in text else ():
        name = match[match.lastgroup or 0]
        yield NamedSpan(Rank.STATED, "projects", name, match.start(), match.end())
    for match in _TICKED.finditer(text) if "`" in text else ():
        inner = match[1].strip()
        is_known = inner.lower() in lists.KNOWN
        if not is_known and (inner[:1].isupper() or "-" in inner) and len(inner.split()) <= 4:
            yield NamedSpan(Rank.STATED, "projects", inner, match.start(), match.end())
    for match in _SLUG.finditer(text) if "-" in text else ():
        yield NamedSpan(Rank.STATED, "projects", match.group(), *match.span())


def stated_organizations(text: str) -> Iterator[NamedSpan]:
    """Yield names whose last word says that they are organizations: `Nordwind GmbH`."""
    for match in _ORGANIZATION.finditer(text):
        name = _LEADING_WORD.sub("", match.group())
        if " " in name:
            start = match.end() - len(name)
            yield NamedSpan(Rank.STATED, "organizations", name, start, match.end())


def known_names(words: list[Word], seen: set[int]) -> Iterator[NamedSpan]:
    """Yield the names of names.txt, the longest at each place; `seen` are where spaCy's start.

    A longer name that spaCy marked wins over a place or organization in it: Air France.
    """
    end = 0
    for index, word in enumerate(words):
        if word.start >= end and word.lower in lists.KNOWN_FIRST_WORDS:
            span = _known_at(words, index, seen)
            if span is not None:
                yield span
                end = span.end


def _known_at(words: list[Word], index: int, seen: set[int]) -> NamedSpan | None:
    for count in range(min(lists.KNOWN_MOST_WORDS, len(words) - index), 0, -1):
        run = words[index : index + count]
        entry = lists.KNOWN.get(" ".join(word.lower for word in run))
        if entry is None or any(b.start - a.end != 1 for a, b in pairwise(run)):
            continue
        if (name := _spelling(run, *entry)) and _is_name_here(words, index, run, seen):
            rank = Rank.KNOWN if entry[0] == "tools" else Rank.SEEN
            return NamedSpan(rank, entry[0], name, run[0].start, run[-1].end)
    return None


def _spelling(run: list[Word], category: str, usual: str) -> str | None:
    """Return the name as it is to be stored, or None where the spelling means another word.

    `redis` is Redis; `rust` and `lyon` are not Rust and Lyon.
    """
    written = " ".join(word.text for word in run)
    if category == "tools" and run[0].lower not in lists.ORDINARY_WORD_TOOLS:
        return written if written[0].isupper() else usual
    if all(word.text[0] == known[0] for word, known in zip(run, usual.split(), strict=True)):
        return usual if written.isupper() and not usual.isupper() else written
    return None


def _is_name_here(words: list[Word], index: int, run: list[Word], seen: set[int]) -> bool:
    """Return whether a tool is meant, although the word is a given name or opens a sentence."""
    following = words[index + len(run)] if index + len(run) < len(words) else None
    first = run[0]
    if len(run) > 1:
        return True
    if (
        first.lower in lists.TOOLS_AND_GIVEN
        and following is not None
        and following.start - first.end == 1
    ):
        return not following.text[0].isupper() or following.lower in lists.KNOWN
    if first.lower in lists.ORDINARY_WORD_TOOLS and first.opens:
        return first.start in seen or following is None or following.lower in lists.AFTER_A_TOOL
    return True


def named_people(words: list[Word]) -> Iterator[NamedSpan]:
    """Yield the names that follow a title or begin with a known given name."""
    end = 0
    for index, word in enumerate(words):
        if index < end or not word.text[0].isupper():
            continue
        if word.lower in lists.HONORIFICS:
            following = _after_titles(words, index)
            if following is not None and _surname(words[following]):
                end = _name_end(words, following)
                yield _person(Rank.STATED, words[following:end])
        elif word.lower in lists.GIVEN and not word.text.isupper():
            end = _name_end(words, index)
            if end - index > 1 or not _is_word_too(words, index):
                yield _person(Rank.NAMED, words[index:end])


def _person(rank: Rank, run: list[Word]) -> NamedSpan:
    name = " ".join(word.text for word in run)
    return NamedSpan(rank, "people", name, run[0].start, run[-1].end)


def _after_titles(words: list[Word], index: int) -> int | None:
    """Return the index of the word after titles such as `Frau Dr.`, if there is one."""
    for at in range(index + 1, min(index + _MOST_TITLES + 1, len(words))):
        if words[at].start - words[at - 1].end > 2:
            return None
        if words[at].lower not in lists.HONORIFICS:
            return at
    return None


def _is_word_too(words: list[Word], index: int) -> bool:
    """Return whether a given name that opens a sentence is an ordinary word: `Mark my words`."""
    word, following = words[index], words[index + 1 : index + 2]
    is_ordinary = word.opens and word.lower in lists.GIVEN_AND_ORDINARY
    return is_ordinary and any(each.lower in lists.AFTER_AN_ORDINARY_WORD for each in following)


def _surname(word: Word) -> bool:
    return (
        word.text[0].isupper()
        and word.lower not in lists.STOPWORDS
        and word.lower not in lists.KNOWN
    )


def _name_end(words: list[Word], index: int) -> int:
    """Return the index after the name that starts at `index`: particles, then a surname."""
    end = index + 1
    while end < len(words) and end - index < 4 and _apart_by_space(words, end):
        word = words[end]
        if (
            word.lower in lists.PARTICLES
            and end + 1 < len(words)
            and _apart_by_space(words, end + 1)
        ):
            end += 1
            continue
        if not _surname(word) or word.text.isupper():
            break
        end += 1
    while words[end - 1].lower in lists.PARTICLES:
        end -= 1
    return max(end, index + 1)


def _apart_by_space(words: list[Word], index: int) -> bool:
    before = words[index - 1]
    gap = words[index].start - before.end
    return gap == 1 or (gap == 2 and len(before.text) == 1)


def worded(text: str) -> Iterator[NamedSpan]:
    """Yield the names whose category the words around them tell."""
    for pattern, rank, category in _WORDINGS:
        for match in pattern.finditer(text):
            for group, name in match.groupdict().items():
                if name:
                    yield NamedSpan(rank, category, name, *match.span(group))


def speakers(text: str) -> Iterator[NamedSpan]:
    """Yield `Caroline` of a line `Caroline: …`, unless it is a role or a heading.

    An unknown name counts only where speech follows: `I`, `you`, a question.
    """
    lines = list(_SPEAKER.finditer(text)) if ":" in text else []
    speech = [each.start() for each in _SPEECH.finditer(text)] if lines else []
    for match in lines:
        names = match["name"].lower().split()
        is_speaker = names[0] in lists.GIVEN or (speech and speech[-1] >= match.end())
        if is_speaker and lists.NO_SPEAKER.isdisjoint(names):
            yield NamedSpan(Rank.WORDED, "people", match["name"], *match.span("name"))
