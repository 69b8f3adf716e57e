"""Single certificates in the SOAP profile: what an answer must say before it is believed."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from gateway.errors import RegionRefused, RegionUncertain
from gateway.ports import CertificateFile, CertificateReply, DisputeReply
from tests.unit.protocol_support import Seen
from tests.unit.test_protocol_soap import DOCUMENT, FILE, NS, Answer, answering, foshan, message_of

ASKED = f'<CertificateRequest xmlns="{NS}"><Identifier>1.2.A</Identifier></CertificateRequest>'.encode()
REPORT = f'<CertificateDispute xmlns="{NS}"><Ticket>D1</Ticket></CertificateDispute>'.encode()


def describing(inner: str) -> Answer:
    """Describe a file so, and hand its parts out rightly."""

    def answer(seen: Seen) -> bytes:
        message = message_of(seen)
        if message.tag == f"{{{NS}}}CertificateRequest":
            return answering(f'<CertificateFileReply xmlns="{NS}">{inner}</CertificateFileReply>')(seen)
        code, offset, length = (message.findtext(f"{{{NS}}}{name}") or "" for name in ("Code", "Offset", "Length"))
        part = base64.b64encode(FILE[int(offset) : int(offset) + int(length)]).decode()
        told = {"Code": code, "Offset": offset, "Size": str(len(FILE)), "Content": part}
        parts = "".join(f"<{name}>{text}</{name}>" for name, text in told.items())
        return answering(f'<CertificateFilePart xmlns="{NS}">{parts}</CertificateFilePart>')(seen)

    return answer


async def asked(answer: Answer, operation: str, *given: Any) -> Any:
    async with foshan(answer) as (adapter, _):
        assert adapter.issued is not None
        return await getattr(adapter.issued, operation)(*given)


async def test_a_file_is_described_and_then_comes_in_parts() -> None:
    inner = f"<Status>0</Status><Message/><Identifier>1.2.A</Identifier>{DOCUMENT}"
    async with foshan(describing(inner)) as (adapter, far):
        assert adapter.issued is not None
        file = await adapter.issued.file(ASKED)
        assert isinstance(file, CertificateFile)
        assert (file.size, len(far.seen)) == (len(FILE), 2)
        assert b"".join([piece async for piece in file.body]) == FILE


@pytest.mark.parametrize(
    "inner",
    [
        "",
        "<Status>0</Status>",
        f"<Status>0</Status><Message/><Identifier>1.2.B</Identifier>{DOCUMENT}",
        f"<Status>0</Status><Message/><Identifier>1.2.A</Identifier>{DOCUMENT.replace('JD01', '..')}",
    ],
)
async def test_a_description_that_does_not_fit_is_none(inner: str) -> None:
    with pytest.raises(RegionUncertain):
        await asked(describing(inner), "file", ASKED)


async def test_a_status_says_why_there_is_no_file() -> None:
    reply = await asked(describing("<Status>22</Status><Message>over</Message>"), "file", ASKED)
    assert reply == CertificateReply("22", "over")


@pytest.mark.parametrize(
    "inner",
    [
        "<Ticket>D2</Ticket><DisputeNo>Y1</DisputeNo>",
        "<Ticket>D1</Ticket><DisputeNo>..</DisputeNo>",
        "<Ticket>D1</Ticket>",
    ],
)
async def test_a_receipt_must_be_for_the_report(inner: str) -> None:
    with pytest.raises(RegionUncertain):
        await asked(answering(f'<DisputeReceipt xmlns="{NS}">{inner}</DisputeReceipt>'), "dispute", REPORT)


async def test_what_became_of_a_report_is_told_of_that_report() -> None:
    told = (
        f'<DisputeState xmlns="{NS}"><DisputeNo>Y1</DisputeNo><State>REJECTED</State><Text>无误</Text></DisputeState>'
    )
    assert await asked(answering(told), "disputed", "Y1") == DisputeReply("rejected", "无误")
    for wrong in (told.replace("Y1", "Y2"), told.replace("REJECTED", "PERHAPS")):
        with pytest.raises(RegionUncertain):
            await asked(answering(wrong), "disputed", "Y1")
    none = f'<NoSuchDispute xmlns="{NS}"><DisputeNo>Y1</DisputeNo></NoSuchDispute>'
    with pytest.raises(RegionRefused):
        await asked(answering(none), "disputed", "Y1")
