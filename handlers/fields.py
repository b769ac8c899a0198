"""The kinds of fields requests are made of: each finite, in range and, where it is long, bounded.

Upper bounds that are settings stand in :class:`~handlers.parts.Limits`, which travels as the
validation's context; ``x-limit`` marks them for ``openapi.py`` to fill in.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    StringConstraints,
    ValidationInfo,
)
from pydantic.alias_generators import to_camel
from pydantic.aliases import AliasChoices, AliasGenerator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

LARGEST_ID = 2**63 - 1
LONGEST_NAME = 255


class Request(BaseModel):
    """A request's fields, in snake_case or camelCase; unknown ones, which old clients send, do no harm."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="ignore",
        alias_generator=AliasGenerator(validation_alias=lambda name: AliasChoices(name, to_camel(name))),
    )


@dataclass(frozen=True, slots=True)
class AtMost:
    """A number, or a length, no larger than the limit of that name."""

    limit: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check after everything else."""
        return core_schema.with_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Leave a mark for the limit."""
        return {**handler(schema), "x-limit": self.limit}

    def _check(self, value: Any, info: ValidationInfo) -> Any:
        most = getattr(info.context, self.limit)
        if isinstance(value, Sized):
            if len(value) > most:
                raise ValueError(f"at most {most} at once")
        elif value > most:
            raise ValueError(f"must be at most {most}")
        return value


def _number(value: object) -> object:
    """Turn a text of digits into its number: old clients, and every query string, send them."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        return int(value)
    return value


def _reference(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_ID:
        return value
    if isinstance(value, str) and 0 < len(value.strip()) <= LONGEST_NAME and value.isprintable():
        return value.strip()
    raise ValueError("must be a project's number or name")


def _split(value: object) -> object:
    """Split a text at its commas; a list is taken as it is."""
    if not isinstance(value, str):
        return value
    return [prompt for part in value.split(",") if (prompt := part.strip())]


Digits = Annotated[str, StringConstraints(pattern="^[0-9]{1,19}$")]
AnId = Annotated[int, Field(ge=0, le=LARGEST_ID)]
ACount = Annotated[int, Field(ge=1)]
ASeed = Annotated[int, Field(ge=0, lt=2**32)]
Text = Annotated[str, AtMost("prompt_characters")]

Id = Annotated[AnId, BeforeValidator(_number, json_schema_input_type=AnId | Digits)]
Count = Annotated[ACount, BeforeValidator(_number, json_schema_input_type=ACount | Digits)]
Seed = Annotated[ASeed, BeforeValidator(_number, json_schema_input_type=ASeed | Digits)]
Cosine = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
ImageIds = Annotated[list[AnId], Field(fail_fast=True), AtMost("ids")]
ProjectRef = Annotated[
    int | str,
    PlainValidator(
        _reference,
        json_schema_input_type=AnId
        | Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME)],
    ),
]
Prompts = Annotated[
    list[Text],
    Field(fail_fast=True),
    AtMost("prompts"),
    BeforeValidator(_split, json_schema_input_type=str | Annotated[list[Text], AtMost("prompts")]),
]
