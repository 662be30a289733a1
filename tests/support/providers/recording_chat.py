"""A chat model that notes each question and always gives the same answer."""

from __future__ import annotations

from collections.abc import Mapping

from shared.models.chat import Answer, ChatModel


class RecordingChat(ChatModel):
    def __init__(self, answer: Mapping[str, object]) -> None:
        self._answer = answer
        self.calls: list[tuple[str, str, int]] = []  # system, user, max_tokens

    async def ask(
        self, system: str, user: str, answer: type[Answer], *, max_tokens: int = 300
    ) -> Answer:
        self.calls.append((system, user, max_tokens))
        return answer.model_validate(self._answer)
