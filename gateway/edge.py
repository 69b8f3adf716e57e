"""What arrives from outside: strict models, read as a whole, every wrong field named and no value repeated.

Owns: reading JSON bodies into pydantic models. Leaves to each module its own shapes.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from gateway.errors import FieldProblem, InvalidRequest

M = TypeVar("M", bound=BaseModel)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def plain(text: str) -> str:
    """Refuse control characters but tab and line ends: no region can carry them, and PostgreSQL stores no NUL."""
    if _CONTROL.search(text):
        raise PydanticCustomError("control_character", "holds a control character")
    return text


_Plain = AfterValidator(plain)
Short = Annotated[str, StringConstraints(min_length=1, max_length=64, strip_whitespace=True), _Plain]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True), _Plain]
Long = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True), _Plain]


class Edge(BaseModel):
    """Base of what arrives from outside: strict about names, silent about values."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def parse_json(model: type[M], body: bytes) -> M:
    """Read a JSON body into a model. Raises InvalidRequest with one problem per wrong field."""
    try:
        data: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        problem = FieldProblem("(body)", f"is not JSON: {error.msg} at {where}", "not_json")
        raise InvalidRequest("The body is not JSON.", problems=[problem], code="request.not_json") from None
    return check(model, data)


def check(model: type[M], data: Any) -> M:
    """Check data against a model. Raises InvalidRequest with one problem per wrong field, never a value."""
    try:
        # Not by way of JSON text again: orjson reads deeper nesting than it writes.
        return model.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        problems = [
            FieldProblem(".".join(map(str, d["loc"])) or "(body)", _reason(d["type"], d["msg"]), d["type"])
            for d in details
        ]
        raise InvalidRequest("Some fields are not valid; see `problems`.", problems=problems) from None


def _reason(kind: str, message: str) -> str:
    words = {"extra_forbidden": "is not a known field; look at the spelling", "missing": "is required"}
    return words.get(kind, message)
