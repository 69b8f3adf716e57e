"""What is said of a case later, at the simulated authority of Guangdong (README.md, "Messages").

Owns: the records of supplements, withdrawals, ratings and complaints, taking each once, and what it does to its case.
Leaves to others: the course of a case (`sandbox_cases`), and signatures. The notebook holds numbers, kinds and digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator

from adapters.guangdong.sandbox_case import (
    FormField,
    Identifier,
    Known,
    Material,
    Moment,
    Record,
    Text,
    parsed,
    read_record,
)
from adapters.guangdong.sandbox_cases import Intake, beijing, refusal


def _assess_time(text: str) -> str:
    if len(text) != 19 or parsed(text, "%Y-%m-%d %H:%M:%S") is None:
        raise ValueError("not a time as yyyy-MM-dd HH:mm:ss")
    return text


Words = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"\S")]


class Message(Record):
    """What every message has: its own number, and the two numbers of its case."""

    xxbh: Identifier
    wwbh: Identifier
    sblsh: Identifier

    @field_validator("xxbh")
    @classmethod
    def _same_as_header(cls, value: str, info: ValidationInfo) -> str:
        known = info.context
        if isinstance(known, Known) and known.submission_id != value:
            raise ValueError("differs from the header x-pearl-message-id")
        return value


class Supplement(Message):
    """What is handed in after a notice, or was deferred (补正受理)."""

    bzsj: Moment
    ckbh: Text | None = None
    blrgh: Text | None = None
    bdxx: list[FormField] = Field(default_factory=list)
    clxx: list[Material]
    sfbq: Literal["0", "1"]


class Withdrawal(Message):
    """The applicant's wish to end the case (撤回申请)."""

    chsj: Moment
    chyy: Words
    blrgh: Text | None = None


class Rating(Message):
    """A rating (好差评), in the names of the rating interfaces."""

    xxbh: Identifier = Field(alias="assess_id")
    sblsh: Identifier = Field(alias="projectNo")
    task_code: Text
    assess_role: Literal["1", "2"]
    satisfaction: Annotated[int, Field(ge=1, le=5)]
    eval_detail: Text | None = None
    writing_evaluation: Text | None = None
    pf: Literal["1", "2", "3", "4", "5", "6", "7"]
    assess_time: Annotated[str, AfterValidator(_assess_time)]
    is_default: Literal["0", "1"]


class Complaint(Message):
    """A complaint (投诉)."""

    tsnr: Words
    tssj: Moment
    lxfs: Text | None = None


_KINDS: Mapping[str, type[Message]] = {
    "supplements": Supplement,
    "withdrawals": Withdrawal,
    "ratings": Rating,
    "complaints": Complaint,
}
"""Where each kind is handed in."""


class Refusal(Exception):
    """Why a message that is well written is not taken; the text quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Mailroom:
    """Where messages about cases are handed in, and where one can ask for them."""

    intake: Intake

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of README.md, "Messages"."""
        root = "/ebus/pearl/v1"
        posts = [web.post(f"{root}/{name}", self._taking(kind)) for name, kind in _KINDS.items()]
        return [*posts, web.get(f"{root}/messages/{{xxbh}}", self._show)]

    def _taking(self, kind: type[Message]) -> Callable[[web.Request], Any]:
        async def take(request: web.Request) -> web.Response:
            body = await request.read()
            message = read_record(kind, body, self.intake.known(request.headers.get("x-pearl-message-id")))
            if not isinstance(message, Message):
                return refusal(422, "the message cannot be taken", errors=message)
            try:
                return self._taken(request.app, message, body)
            except Refusal as reason:
                return refusal(422, str(reason))

        return take

    def _taken(self, app: web.Application, message: Message, body: bytes) -> web.Response:
        """Do what the message says, the first time it comes; answer the same each time."""
        book = self.intake.notebook
        entry = book.get("messages", message.xxbh)
        if entry is None:
            self._act(message)
            entry = {
                "xxbh": message.xxbh,
                "kind": type(message).__name__.lower(),
                "wwbh": message.wwbh,
                "jssj": f"{beijing(self.intake.clock):%Y%m%d%H%M%S}",
                "digest": hashlib.sha256(body).hexdigest(),
            }
            book.put("messages", message.xxbh, entry)
            self.intake.courier.go_on(app, message.wwbh)
        book.count("arrivals", message.xxbh)
        return _reply(entry)

    def _act(self, message: Message) -> None:
        case = self.intake.notebook.get("cases", message.wwbh)
        if case is None or case["sblsh"] != message.sblsh:
            raise Refusal("no such case here")
        match message:
            case Supplement():
                self._supplement(message)
            case Withdrawal():
                self._withdraw(message)
            case Rating():
                self._rate(message, case)

    def _supplement(self, message: Supplement) -> None:
        plan = self.intake.courier.plan(message.wwbh)
        if not plan.waits:
            raise Refusal("nothing was asked for, or it is no longer waited for")
        if message.sfbq == "1":
            self.intake.courier.replan(message.wwbh, plan.supplemented())

    def _withdraw(self, message: Withdrawal) -> None:
        plan = self.intake.courier.plan(message.wwbh)
        if not plan.may_be_withdrawn:
            raise Refusal("the case is decided or has ended")
        self.intake.courier.replan(message.wwbh, plan.withdrawn())

    def _rate(self, message: Rating, case: Mapping[str, Any]) -> None:
        plan, rated = self.intake.courier.plan(message.wwbh), case.get("rated", [])
        if not plan.is_completed:
            raise Refusal("there is nothing to rate before the case is completed")
        if message.assess_role in rated:
            raise Refusal("this role was rated already")
        self.intake.courier.replan(message.wwbh, plan, rated=[*rated, message.assess_role])

    async def _show(self, request: web.Request) -> web.Response:
        entry = self.intake.notebook.get("messages", request.match_info["xxbh"])
        return refusal(404, "no such message here") if entry is None else _reply(entry)


def _reply(entry: Mapping[str, Any]) -> web.Response:
    return web.json_response({"code": "200", "message": "ok", "data": {name: entry[name] for name in ("xxbh", "jssj")}})
