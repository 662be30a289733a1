"""Work notes that nobody wrote: varied, full of names, the same for the same seed."""

from __future__ import annotations

import random


def _each(text: str) -> tuple[str, ...]:
    """The parts of `text` between bars."""
    return tuple(" ".join(part.split()) for part in text.split("|"))


_FIRST = _each(
    """Alice | Bob | Carol | David | Erin | Farid | Grace | Hiro | Ingrid | Jorge | Katya | Liam |
    Mei | Nadia | Omar | Priya | Quentin | Rosa | Stefan | Tara | Umberto | Vera | Wanda |
    Xavier | Yusuf | Zoe"""
)
_LAST = _each(
    """Anders | Bauer | Castro | Dvorak | Eriksen | Fischer | Garcia | Haddad | Ivanov | Jensen |
    Kowalski | Lindqvist | Moreau | Nakamura | Okafor | Petrov | Quist | Rossi | Schmidt |
    Tanaka | Ueda | Varga | Weber | Xu | Yilmaz | Zhang"""
)
_FIRMS = _each(
    """Acme Corp | Globex | Initech | Umbra Systems | Stark Logistics | Wayne Foods | Nordlicht
    GmbH | Tessellate Labs | Blue Harbor Bank | Kestrel Air | Orchid Health | Granite Insurance"""
)
_PLACES = _each(
    """Berlin | Lisbon | Osaka | Toronto | Nairobi | Austin | Zurich | Warsaw | Dublin |
    Melbourne"""
)
_TOOLS = _each(
    """Postgres | Kafka | Kubernetes | Terraform | Grafana | RabbitMQ | ClickHouse | Elasticsearch
    | Airflow | Jenkins | Ansible | Vault | Nginx | Celery | dbt"""
)
_PROJECTS = _each(
    """billing | onboarding | search | payroll | checkout | inventory | analytics | mobile |
    support"""
)
_TROUBLES = _each(
    """ran out of disk | lost its leader twice | answered with timeouts | leaked file descriptors |
    doubled its latency | dropped every fifth message | refused new connections | woke the
    on-call"""
)
_HABITS = _each(
    """prefers short meetings before noon | reviews every migration by hand | writes tests first |
    keeps a paper notebook | never deploys on a Friday | asks for numbers before opinions |
    likes window seats on the train | drinks only green tea"""
)
_REASONS = _each(
    """because the old one could not be audited | to halve the cost of storage | after the outage
    in March | since nobody understood the previous design | so that the auditors stop asking |
    to make the nightly run finish before six"""
)
_THINGS = _each(
    """the contract | the roadmap | the incident report | the budget for next year | the hiring
    plan | the data retention policy | the new pricing | the office move | the penetration test"""
)


def _person(rng: random.Random) -> str:
    return f"{rng.choice(_FIRST)} {rng.choice(_LAST)}"


def note(rng: random.Random) -> str:
    """One or two sentences of 10 to 45 words."""
    who, other = _person(rng), _person(rng)
    firm, place, tool = rng.choice(_FIRMS), rng.choice(_PLACES), rng.choice(_TOOLS)
    project, thing = rng.choice(_PROJECTS), rng.choice(_THINGS)
    number, hour = rng.randint(2, 990), rng.randint(7, 19)
    opening = rng.choice(
        (
            f"{who} from {firm} met {other} in {place} to discuss {thing}.",
            (
                f"We moved the {project} service from {tool} to {rng.choice(_TOOLS)}"
                f" {rng.choice(_REASONS)}."
            ),
            (
                f"The {project} cluster {rng.choice(_TROUBLES)} at {hour}:{rng.randint(10, 59)};"
                f" {who} restarted {tool} and wrote it up."
            ),
            f"{who} {rng.choice(_HABITS)}.",
            f"Decided with {other} that {firm} gets a discount of {number} euros on {project}.",
            f"{firm} signed {thing} for {number} seats, and {who} runs the rollout in {place}.",
            (
                f"Benchmark of {tool}: {number} requests per second on the {project} workload,"
                f" {rng.randint(2, 80)} ms at the ninety-ninth percentile."
            ),
            (
                f"Ticket {project.upper()}-{number}: {who} suspects {tool},"
                f" {other} suspects the network in {place}."
            ),
        )
    )
    closing = rng.choice(
        (
            "",
            f" Follow-up on {rng.choice(('Monday', 'Tuesday', 'Thursday'))} at {hour} o'clock.",
            f" {other} will tell {rng.choice(_FIRMS)} before the end of the quarter.",
            f" The next step is {thing}, owned by {other}.",
            f" See also the notes on {rng.choice(_PROJECTS)} from {place}.",
        )
    )
    return opening + closing


def notes(count: int, *, seed: int = 1) -> list[str]:
    """`count` different notes."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[note(rng)] = None
    return list(found)
