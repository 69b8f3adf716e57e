"""Reading the documents of a simulated signed REST exchange, strictly and with every error at once.

Owns: what all its documents have in common. Leaves to the authorities of the regions: which fields there are, and the
words of a refusal. A part of the second reading of docs/signed-rest.md: it shares no code with the gateway.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from gateway.sandbox.exchange_wire import Document, Refusal


class Model(BaseModel):
    """A document, or an object in one."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel)


M = TypeVar("M", bound=Model)


def read(kind: type[M], document: Document, words: str) -> M:
    """Return the document. Raises Refusal in these words that lists every error at once."""
    try:
        return kind.model_validate(document)
    except ValidationError as problems:
        errors = [{"field": ".".join(map(str, each["loc"])), "reason": each["msg"]} for each in problems.errors()]
        raise Refusal(422, "REFUSED", words, errors) from None


def wrong(reason: str) -> PydanticCustomError:
    """Return what a check of a field raises, with its reason as it stands."""
    return PydanticCustomError("wrong", "{reason}", {"reason": reason})
