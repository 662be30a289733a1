"""Circuit: a provider that fails is not called; one call at a time finds out if it is back."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from shared.errors import PermanentError, PoisonInput, TransientError, Unavailable
from shared.models.circuit import Circuit
from tests.support.waiting.conditions import wait_until

DOWN = Unavailable("embedding", "down")


def make(*, concurrency: int = 4, first_s: float = 0.1) -> Circuit:
    return Circuit("embedding", "tested", concurrency=concurrency, pause_s=(first_s, 4 * first_s))


def gauge() -> float | None:
    labels = {"model": "tested", "kind": "embedding"}
    return REGISTRY.get_sample_value("eunoe_model_circuit_open", labels)


async def call(circuit: Circuit, error: Exception | None = None) -> None:
    async with circuit.call():
        if error:
            raise error


async def fail(circuit: Circuit, times: int = 3, error: Exception = DOWN) -> None:
    for _ in range(times):
        with pytest.raises(type(error)):
            await call(circuit, error)


async def test_three_failures_in_a_row_open_it() -> None:
    circuit = make()
    await fail(circuit, 2)
    await call(circuit)
    await fail(circuit, 2)
    assert (circuit.state, gauge()) == ("closed", 0)
    await fail(circuit, 1)
    assert (circuit.state, gauge()) == ("open", 1)
    with pytest.raises(Unavailable, match=r"not called after 3 failures \(embedding: down\)") as no:
        await call(circuit)
    assert no.value.retry_after_s is not None
    assert 0 < no.value.retry_after_s <= 0.1


async def test_answers_that_are_no_vectors_open_it_and_refused_inputs_do_not() -> None:
    circuit = make()
    await fail(circuit, 5, PermanentError("refused"))
    await fail(circuit, 5, PoisonInput("fails at this one"))
    assert circuit.state == "closed"
    await fail(circuit, 3, TransientError("nan"))
    assert circuit.state == "open"
    chat = Circuit("chat", "tested", concurrency=1)
    await fail(chat, 5, TransientError("no such object"))
    assert chat.state == "closed"
    await fail(chat, 3)
    assert chat.state == "open"


async def test_the_providers_own_wish_is_obeyed_at_once() -> None:
    circuit = make()
    await fail(circuit, 1, Unavailable("embedding", "busy", retry_after_s=60))
    report = circuit.report()
    assert 59 < float(str(report.pop("retry_in_s"))) <= 60
    assert report == {
        "model": "tested",
        "circuit": "open",
        "failures": 1,
        "error": "embedding: busy",
    }


async def test_one_call_tries_and_its_answer_closes_it() -> None:
    circuit = make()
    await fail(circuit)
    await wait_until(lambda: circuit.state == "half-open", "the pause is over")
    async with circuit.call():
        assert gauge() == 0.5
        with pytest.raises(Unavailable):
            await call(circuit)
    assert (circuit.state, gauge(), circuit.report()["error"]) == ("closed", 0, "")
    await asyncio.gather(*(call(circuit) for _ in range(8)))


async def test_a_failed_trial_doubles_the_pause() -> None:
    circuit = make(first_s=0.05)
    await fail(circuit)
    for longest_s in (0.1, 0.2, 0.2):
        await wait_until(lambda: circuit.state == "half-open", "the pause is over")
        await fail(circuit, 1)
        assert longest_s * 0.8 < float(circuit._pause.remaining_s()) <= longest_s
        assert gauge() == 1


async def test_a_trial_that_is_given_up_lets_the_next_one_try() -> None:
    circuit = make(first_s=0.02)
    await fail(circuit)
    await wait_until(lambda: circuit.state == "half-open", "the pause is over")

    async def hang() -> None:
        async with circuit.call():
            await asyncio.Event().wait()

    trial = asyncio.create_task(hang())
    await asyncio.sleep(0)
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)
    await call(circuit)
    assert circuit.state == "closed"


async def test_who_waited_for_a_turn_is_refused_when_it_opened_meanwhile() -> None:
    circuit = make(concurrency=1, first_s=30)
    made = 0

    async def failing() -> None:
        nonlocal made
        async with circuit.call():
            made += 1
            await asyncio.sleep(0)
            raise DOWN

    answers = await asyncio.gather(*(failing() for _ in range(50)), return_exceptions=True)
    assert all(isinstance(each, Unavailable) for each in answers)
    assert made == 3
