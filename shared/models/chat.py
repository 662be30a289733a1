"""ChatModel: ask a language model one question and get one validated object."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from shared.config import ChatSettings, EmbeddingSettings
from shared.errors import PermanentError, TransientError
from shared.models.circuit import Circuit
from shared.models.outbound import HARMLESS, isolate_bad_input
from shared.models.prices import Meter
from shared.models.providers.openai_client import connect, is_official, observed_openai_call
from shared.models.types import Endpoint

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Answer = TypeVar("Answer", bound=BaseModel)


class ChatModel:
    """A model of an OpenAI-compatible endpoint that answers in JSON of a given schema."""

    def __init__(self, model: str, client: AsyncOpenAI, endpoint: Endpoint) -> None:
        self.name = model
        self._client = client
        self._timeout_s = endpoint.timeout_s
        self._meter = Meter(model, endpoint.prices)
        self.circuit = Circuit("chat", model, concurrency=endpoint.concurrency)
        # OpenAI's newer models refuse `max_tokens`; other servers know only that one.
        official = is_official(endpoint.base_url)
        self._limit = "max_completion_tokens" if official else "max_tokens"

    async def ask(
        self, system: str, user: str, answer: type[Answer], *, max_tokens: int = 300
    ) -> Answer:
        """Return the model's answer as an `answer`, whose fields must bound what they accept.

        Raises: TransientError for a rate limit or an answer that is no such object (call again);
        Unavailable where the provider is down or the operator must act; PermanentError where the
        model refuses, or answers more than `max_tokens`.
        """
        # Without `strict`, which servers support differently; the answer is validated anyway.
        schema = {"name": answer.__name__, "schema": answer.model_json_schema()}
        wanted = {"type": "json_schema", "json_schema": schema}
        options: Any = {self._limit: max_tokens, "response_format": wanted}
        complete = partial(self._completion, system, options)
        async with self.circuit.call():
            return _validated(await isolate_bad_input(complete, user, HARMLESS), answer)

    async def close(self) -> None:
        await self._client.close()

    async def _completion(self, system: str, options: Any, user: str) -> Any:
        messages: Any = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        async with observed_openai_call("chat", self.name, self._timeout_s):
            try:
                completion = await self._client.chat.completions.create(
                    model=self.name, messages=messages, **options
                )
            except ValueError as error:
                raise TransientError("chat: the answer is no JSON") from error
        usage = getattr(completion, "usage", None)
        self._meter.spent(
            input=getattr(usage, "prompt_tokens", None) or 0,
            output=getattr(usage, "completion_tokens", None) or 0,
        )
        return completion


async def open_chat(settings: ChatSettings, provider: EmbeddingSettings) -> ChatModel | None:
    """Return the chat model at OPENAI_API_KEY / OPENAI_BASE_URL.

    None where neither is set, or CLASSIFICATION_MODEL is `none`.
    """
    if settings.model.strip().lower() in ("", "none"):
        return None
    key, url = provider.openai_api_key, provider.openai_base_url
    if not key and not url:
        return None
    endpoint = Endpoint(key, url, settings.timeout_s, settings.concurrency, provider.prices)
    return ChatModel(settings.model, await connect(endpoint), endpoint)


def _validated(completion: Any, answer: type[Answer]) -> Answer:
    try:
        choice = completion.choices[0]
        refusal = getattr(choice.message, "refusal", None)
        content = choice.message.content
    except (AttributeError, IndexError, TypeError) as error:
        raise TransientError("chat: the answer is not a completion") from error
    if refusal or choice.finish_reason == "content_filter":
        raise PermanentError("chat: the model refused")
    if choice.finish_reason == "length":
        raise PermanentError("chat: the answer exceeds max_tokens")
    try:
        return answer.model_validate_json(content or "")
    except ValidationError as error:
        # Not chained: pydantic's message quotes the answer, which quotes the memory.
        raise TransientError(f"chat: {error.error_count()} faults in the answer") from None
