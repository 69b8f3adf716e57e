"""Cases, messages and events at the simulated authority of Macau (README.md, "Cases").

Owns: what each document must look like, member by member, and what the services say with each step. Leaves to
`gateway.sandbox.exchange_authority` the wire and the life of a case. Written from README.md; shares nothing with
`adapter.py`. A reason never repeats the value that it complains about; an unknown member is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from stdnum.cn import uscc
from stdnum.iso7064 import mod_11_2

from gateway.sandbox.exchange_authority import CaseSaid, File, MessageSaid, Traits
from gateway.sandbox.exchange_documents import Model, read, wrong
from gateway.sandbox.exchange_wire import Document, Refusal
from gateway.sandbox.left_out import LeftOut

_MACAU = timezone(timedelta(hours=8))


WORDS = "o documento não está conforme"
"""What a refused document is told."""


def _shown(pattern: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            datetime.strptime(text, pattern)  # noqa: DTZ007 - only whether there is such a day or time
        except ValueError:
            raise wrong("is no day or time in the form that is written here") from None
        return text

    return check


Text = Annotated[str, Field(min_length=1, max_length=512)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
Short = Annotated[str, Field(min_length=1, max_length=64)]
Moment = Annotated[str, AfterValidator(_shown("%d/%m/%Y %H:%M:%S"))]
Day = Annotated[str, AfterValidator(_shown("%d/%m/%Y"))]
Area = Annotated[str, Field(pattern=r"^[0-9]{6}$")]
Form = Annotated[dict[Short, Annotated[str, Field(max_length=20_000)]], Field(max_length=500)]


# --- cases -------------------------------------------------------------------------------------------------------


class Service(Model):
    """Which service is applied for."""

    code: Short
    variant: Short | None = None
    name_zh: Text | None = None
    name_pt: Text | None = None


class Origin(Model):
    """Where a case comes from."""

    area: Area
    counter: Short | None = None
    officer: Short | None = None


def _resident(shape: str) -> Callable[[str], bool]:
    """A number of 18 characters that ends in an ISO 7064 MOD 11-2 check character (GB 11643)."""
    return lambda number: re.fullmatch(shape, number) is not None and bool(mod_11_2.is_valid(number))


_NUMBERS: Mapping[str, Callable[[str], bool]] = {
    "BI_RPC": _resident("[1-7][0-9]{16}[0-9X]"),
    "AUT_RESID": _resident("8[123]0000[0-9]{11}[0-9X]"),
    "USCC": lambda number: re.fullmatch("[0-9A-Z]{18}", number) is not None and bool(uscc.is_valid(number)),
}
_OF_ORGANISATIONS = ("USCC", "BRN_HK")


class Applicant(Model):
    """Who applies. Everybody has a name in Latin letters; a card of residents of Macau or Hong Kong is never sent."""

    type: Literal["SINGULAR", "COLECTIVA"]
    name_zh: Text | None = None
    name_hant: Text | None = None
    name_pt: Text
    doc_type: Literal[
        "BI_RPC", "PASSAPORTE", "SALVO_CONDUTO", "SALVO_CONDUTO_TW", "AUT_RESID", "RESID_PERM", "USCC", "BRN_HK"
    ]
    doc_no: Text
    birth_date: Day | None = None
    gender: Literal["M", "F"] | None = None
    phone: Short | None = None

    @model_validator(mode="after")
    def _document(self) -> Applicant:
        if (self.type == "COLECTIVA") != (self.doc_type in _OF_ORGANISATIONS):
            raise wrong("docType does not fit the kind of applicant")
        fits = _NUMBERS.get(self.doc_type)
        if not (fits(self.doc_no) if fits else re.fullmatch(r"[A-Z0-9()/-]{4,30}", self.doc_no)):
            raise wrong("docNo is not a number of its type")
        return self


class Hash(Model):
    """The digest of a file."""

    alg: Literal["SHA-256"]
    value: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Attachment(Model):
    """A file, which was uploaded before."""

    code: Short
    title: Text
    mime_type: Annotated[str, Field(pattern=r"^[a-z]+/[A-Za-z0-9.+-]+$")]
    size: int = Field(ge=0)
    hash: Hash


Attachments = Annotated[list[Attachment], Field(max_length=200)]


class Reservation(Model):
    """A document that follows later, and the undertaking (termo de compromisso) that it will."""

    code: Short
    undertaking: Text


class Case(Model):
    """The body of `POST /v1/cases`."""

    request_no: Id
    service: Service
    submitted_at: Moment
    channel: Literal["BALCAO", "EM_LINHA"]
    origin: Origin
    destination: Annotated[str, Field(pattern="^82[0-9]{4}$")]
    applicant: Applicant
    form_data: Form
    attachments: Attachments
    to_follow: Annotated[list[Reservation], Field(max_length=50)] = Field(default_factory=list)
    consent_no: Short | None = None


def _read_case(document: Document, items: Set[str]) -> CaseSaid:
    case = read(Case, document, WORDS)
    if case.service.code not in items:
        errors = [{"field": "service.code", "reason": "não é um serviço daqui"}]
        raise Refusal(422, "REFUSED", "serviço desconhecido", errors)
    left_out = LeftOut([(one.code, one.undertaking) for one in case.to_follow])
    name = case.applicant.name_zh or case.applicant.name_pt
    return CaseSaid(case.request_no, name, case.service.code, _files(case.attachments), left_out)


def _files(attachments: list[Attachment]) -> list[File]:
    return [
        File(each.code, each.hash.value, each.size, each.mime_type, f"attachments.{place}.hash")
        for place, each in enumerate(attachments)
    ]


# --- messages ----------------------------------------------------------------------------------------------------


class Counter(Model):
    """Where a supplement was handed in."""

    counter: Short | None = None
    officer: Short | None = None


class Message(Model):
    """What every message says: its number, and of which case it is."""

    message_no: Id
    request_no: Id
    protocol: Short


class Supplement(Message):
    """What is handed in later."""

    submitted_at: Moment
    origin: Counter | None = None
    form_data: Form = Field(default_factory=dict)
    attachments: Attachments
    complete: bool


class Withdrawal(Message):
    """The applicant's wish to end the case."""

    asked_at: Moment
    reason: Annotated[str, Field(min_length=1, max_length=2000)]
    officer: Short | None = None


class Complaint(Message):
    """What somebody complains of."""

    text: Annotated[str, Field(min_length=1, max_length=2000)]
    made_at: Moment
    contact: Annotated[str, Field(min_length=1, max_length=256)] | None = None


def _supplement(document: Document) -> MessageSaid:
    said = read(Supplement, document, WORDS)
    files = _files(said.attachments)
    return MessageSaid(said.message_no, said.request_no, said.protocol, files, complete=said.complete)


def _withdrawal(document: Document) -> MessageSaid:
    said = read(Withdrawal, document, WORDS)
    return MessageSaid(said.message_no, said.request_no, said.protocol)


def _complaint(document: Document) -> MessageSaid:
    said = read(Complaint, document, WORDS)
    return MessageSaid(said.message_no, said.request_no, said.protocol)


# --- what the services say ---------------------------------------------------------------------------------------

_STATES: Mapping[str, str] = {
    "RECEIVED": "RECEBIDO",
    "ACCEPTED": "ADMITIDO",
    "NOT_ACCEPTED": "NAO_ADMITIDO",
    "SUPPLEMENT_NOTICE": "SUPRIMENTO",
    "SPECIAL": "SUSPENSO",
    "RESUMED": "RETOMADO",
    "DECIDED": "DECIDIDO",
    "COMPLETED": "CONCLUIDO",
    "DELIVERED": "ENTREGUE",
    "ACCEPTED_TOLERANT": "ADMITIDO_COM_RESERVA",
    "NOT_WITHIN_POWER": "INCOMPETENCIA",
    "SUPPLEMENTED": "SUPRIMENTO_RECEBIDO",
    "SUPPLEMENT_EXPIRED": "SUPRIMENTO_EXPIRADO",
    "EXTENDED": "PRORROGADO",
    "TOLERANCE_BREACHED": "RESERVA_NAO_CUMPRIDA",
    "WITHDRAWN": "DESISTENCIA",
    "RETURNED": "DEVOLVIDO",
    "VOID": "ANULADO",
}

_SAYS: Mapping[str, Mapping[str, Any]] = {
    "ACCEPTED": {"officer": "F0007"},
    "NOT_ACCEPTED": {
        "officer": "F0007",
        "remarks": {"zh": "不符合受理條件", "pt": "Não reúne os requisitos"},
        "legalBasis": {"zh": "《行政程序法典》", "pt": "Código do Procedimento Administrativo"},
        "appeal": {"zh": "十五日內可提出聲明異議", "pt": "Reclamação no prazo de quinze dias"},
    },
    "SUPPLEMENT_NOTICE": {
        "officer": "F0007",
        "remarks": {"pt": "Faltam documentos"},
        "legalBasis": {"pt": "Código do Procedimento Administrativo"},
    },
    "SUPPLEMENT_EXPIRED": {"remarks": {"zh": "逾期未補正"}},
    "ACCEPTED_TOLERANT": {"officer": "F0007", "remarks": {"zh": "容缺受理"}},
    "NOT_WITHIN_POWER": {"remarks": {"zh": "不屬於本機關職權", "pt": "Incompetência"}},
    "SPECIAL": {"officer": "F0012", "remarks": {"zh": "專家評審"}, "prazo": {"dias": 30, "unidade": "DIAS_UTEIS"}},
    "EXTENDED": {"officer": "F0012", "remarks": {"zh": "經批准延長"}, "prazo": {"dias": 10, "unidade": "DIAS_UTEIS"}},
    "TOLERANCE_BREACHED": {"remarks": {"zh": "承諾期限內未補交"}},
    "DECIDED": {"officer": "F0012"},
    "COMPLETED": {"result": {"code": "CONCLUIDO", "textZh": "完成"}},
    "DELIVERED": {"entrega": "BALCAO"},
    "WITHDRAWN": {"remarks": {"pt": "Desistência do requerente"}},
    "RETURNED": {"remarks": {"zh": "退回申請人"}, "result": {"code": "DEVOLVIDO", "textZh": "退回"}},
    "VOID": {"remarks": {"zh": "作廢"}, "result": {"code": "ANULADO", "textPt": "Anulado"}},
}
"""What is said with a step; the same for every case, and about nobody."""

_DUE = {"SUPPLEMENT_NOTICE": 15, "ACCEPTED_TOLERANT": 20, "EXTENDED": 14}
"""A step → days until the day that it sets."""

_REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "SUPPLEMENT_NOTICE": {"request": {"zh": "請提供正本", "pt": "Apresentar o original"}, "original": True},
    "ACCEPTED_TOLERANT": {"request": {"zh": "可在承諾期限內補交"}},
}
_WANTED = {"SUPPLEMENT_NOTICE": "asked_for", "ACCEPTED_TOLERANT": "to_follow"}
"""A step → where the page of a case has the codes of what is wanted."""


def _numbers(count: int) -> Document:
    return {"number": f"MO{count:012d}", "short": f"{count:04X}"}


def _protocol(page: Mapping[str, Any]) -> str:
    return f"{page['number']}/{page['short']}"


def _receipt(page: Mapping[str, Any]) -> Document:
    received = datetime.fromtimestamp(page["received"], _MACAU)
    return {
        "requestNo": page["id"],
        "protocol": _protocol(page),
        "receivedAt": f"{received:%d/%m/%Y %H:%M:%S}",
        "receivedBy": "Serviço de teste",
    }


def _event(page: Mapping[str, Any], step: str, event_id: str, now: float) -> Document:
    event: Document = {
        "eventNo": event_id,
        "requestNo": page["id"],
        "protocol": _protocol(page),
        "state": _STATES[step],
        "occurredAt": int(now),
        **_SAYS.get(step, {}),
    }
    if step in _DUE:
        last = datetime.fromtimestamp(now, UTC).astimezone(_MACAU) + timedelta(days=_DUE[step])
        event["deadline"] = f"{last:%d/%m/%Y}"
    if wanted := page.get(_WANTED.get(step, "")):
        event["documentsWanted"] = [{"code": code, **_REQUESTS[step]} for code in wanted]
    return event


TRAITS = Traits(
    region="macau",
    read_case=_read_case,
    numbers=_numbers,
    receipt=_receipt,
    event=_event,
    wrapped=False,
    listed=False,
    messages={"supplements": _supplement, "withdrawals": _withdrawal, "complaints": _complaint},
    questions=False,
    lists={"deferred": "toFollow"},
)
"""What is Macau's own in its exchange. It can be asked nothing."""
