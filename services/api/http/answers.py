"""Answers: one model per answer renders it and describes it in the OpenAPI document.

    class FoundAnswer(Success):
        \"""A memory.\"""  # the description of the component `Found`
        memory: MemoryAnswer
        note: Absent[str] = None  # None leaves the key out; `str | None` would answer null
    Route("GET", "/memory/{memory_id}", fetch, "Read a memory", returns=FoundAnswer)
    return json_answer(FoundAnswer(memory=…))

A class is named after its component with `Answer` behind it. Keys keep the order of the fields.
Bodies may hold more keys than are described; they always hold the keys of AutoMem's bodies.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from aiohttp import web
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, to_json

from shared.domain.memory import iso

_T = TypeVar("_T")


class _LeftOut:
    """Describes a field that is left out where it is None as optional, and never null."""

    @staticmethod
    def __get_pydantic_json_schema__(
        core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        alternatives = handler(core_schema)["anyOf"]
        [present] = [schema for schema in alternatives if schema != {"type": "null"}]
        return dict(present)


Absent = Annotated[_T | None, _LeftOut, Field(exclude_if=lambda value: value is None)]
OnlyTrue = Annotated[bool, Field(exclude_if=operator.not_)]
Id = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
# Its value is given in milliseconds, and answered as ISO 8601 with `+00:00`.
Time = Annotated[
    str, BeforeValidator(iso), WithJsonSchema({"type": "string", "format": "date-time"})
]
# The stores say "" where there is none.
NoneIfEmpty = Annotated[str | None, BeforeValidator(lambda text: text or None)]
Unit = Annotated[float, Field(json_schema_extra={"minimum": 0, "maximum": 1})]


class Answer(BaseModel):
    """The body of an answer, or a part of one.

    It is made from keywords, or by `model_validate` from an object whose attributes have the
    names of the fields (or the name that `attribute` gives); so are its parts.
    """

    model_config = ConfigDict(
        from_attributes=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        defer_build=True,  # until the first answer: 60 models would delay the start
    )


def attribute(*path: str, default: Any = ...) -> Any:
    """Return a field whose value is the attribute at `path` of the object that is validated.

    It is `default` where the attribute is missing, for instance as an object on the path is None.
    """
    return Field(default, validation_alias=AliasChoices(AliasPath(*path)))


class Success(Answer):
    """An answer with AutoMem's `status` key."""

    status: Literal["success"] = "success"


class ErrorAnswer(Answer):
    """Every error; `error`, `message` and `detail` say the same, for different clients."""

    status: Literal["error"] = "error"
    code: int
    error: str
    message: str
    detail: str
    request_id: str


def json_answer(
    body: Answer | Mapping[str, Any], *, status: int = 200, **headers: str
) -> web.Response:
    return web.Response(
        body=to_json(body),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def error_answer(
    status: int, message: str, *, request_id: str, retry_after_s: float | None = None
) -> web.Response:
    body = ErrorAnswer(
        code=status, error=message, message=message, detail=message, request_id=request_id
    )
    headers = {}
    if retry_after_s is not None:
        headers["Retry_After"] = str(max(1, round(retry_after_s)))
    return json_answer(body, status=status, **headers)
