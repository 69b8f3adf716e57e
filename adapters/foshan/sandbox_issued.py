"""Certificates that are named, at the simulated Foshan (README.md, "One certificate").

Owns: the operations by identifier and by shown code, files that are described and then handed out in parts, and
reports of errors. Leaves to `gateway.sandbox.issued`: what there is and what has become of it; to `sandbox_rules.py`:
the rules of each element.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lxml import etree

from adapters.foshan import sandbox_rules as rules
from adapters.foshan.sandbox_cases import Clock
from adapters.foshan.sandbox_register import certificate_reply
from adapters.foshan.sandbox_rules import Record, Rule
from adapters.foshan.sandbox_wire import E, FaultError, filled, local
from gateway.sandbox.issued import UNKNOWN_STATUS, Register, Row

FILE_LIFE = timedelta(minutes=10)
"""How long a file that was described can be fetched."""

_NO_FILE = {"expired": ("22", "证照已过期"), "suspended": ("23", "证照限制使用")}

Work = Callable[[Record], etree._Element]


@dataclass(frozen=True, slots=True)
class IssuedDesk:
    """Answers for single certificates."""

    register: Register
    clock: Clock
    described: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    """Code of a file → the file, and until when it can be fetched."""

    def operations(self) -> Mapping[str, tuple[Rule, Work]]:
        """Return the operations, with the rule of each request."""
        return {
            "GetCertificateDataByCertificateID": (rules.CERTIFICATE_REQUEST, self._by_identifier),
            "GetCertificateDataByCode": (rules.CERTIFICATE_REQUEST, self._by_code),
            "GetCertificateFileByCertificateID": (rules.CERTIFICATE_REQUEST, self._describe),
            "GetCertificateFilePart": (rules.CERTIFICATE_FILE_REQUEST, self._hand_out),
            "SubmitCertificateDispute": (rules.CERTIFICATE_DISPUTE, self._dispute),
            "QueryCertificateDispute": (rules.DISPUTE_QUERY, self._reply),
        }

    def _by_identifier(self, asked: Record) -> etree._Element:
        return self._answer(asked, "Identifier", self.register.named)

    def _by_code(self, asked: Record) -> etree._Element:
        return self._answer(asked, "Code", self.register.shown)

    def _answer(self, asked: Record, name: str, find: Callable[[str], Row | None]) -> etree._Element:
        status, message, row = self._found(asked, name, find)
        return certificate_reply(status, message, [] if row is None else [row])

    def _found(self, asked: Record, name: str, find: Callable[[str], Row | None]) -> tuple[str, str, Row | None]:
        """Return status, message and the certificate."""
        if self.register.wrong.due("unknown_status"):
            return UNKNOWN_STATUS, "", None
        frame = ("UseFor", "OrgName", "UserName", "ItemName", "ItemCode", "BusinessCode")
        if empty := [each for each in (name, *frame) if not asked.get(each, "").strip()]:
            return "12", f"必填参数为空: {', '.join(empty)}", None
        row = find(asked[name])
        return ("10", "没有符合条件的证照", None) if row is None else ("0", "成功", row)

    # --- files

    def _describe(self, asked: Record) -> etree._Element:
        status, message, row = self._found(asked, "Identifier", self.register.named)
        worth = "valid" if row is None else self.register.worth(row, self.clock().date())
        if row is None or worth != "valid":
            why = (status, message) if row is None else _NO_FILE.get(worth, ("21", "证照已撤销、注销或换发"))
            return E.CertificateFileReply(E.Status(why[0]), E.Message(why[1]))
        content, code = self.register.file(row), secrets.token_hex(16)
        self.described[code] = (content, self.clock() + FILE_LIFE)
        document = {
            "@code": code,
            "Name": f"{row['identifier']}.pdf",
            "MediaType": self.register.media_type,
            "Size": len(content),
            "Digest": {"@alg": "SHA-256", "text": hashlib.sha256(content).hexdigest()},
        }
        told = {"Status": status, "Message": message, "Identifier": row["identifier"], "Document": document}
        return filled(E.CertificateFileReply(), told)

    def _hand_out(self, asked: Record) -> etree._Element:
        code, offset = asked["Code"], int(asked["Offset"])
        content, until = self.described.get(code, (b"", self.clock() - FILE_LIFE))
        if until < self.clock():
            raise FaultError("gone", "Code: no such file is to be had here, or no more")
        part = content[offset : offset + int(asked["Length"])]
        told = {"Code": code, "Offset": offset, "Size": len(content), "Content": b64encode(part).decode()}
        return filled(E.CertificateFilePart(), told)

    # --- errors

    def _dispute(self, said: Record) -> etree._Element:
        number = self.register.dispute(said["Ticket"], said["Identifier"])
        if number is None:
            raise FaultError("unknown-document", "Identifier: Foshan has no such certificate")
        return E.DisputeReceipt(E.Ticket(said["Ticket"]), E.DisputeNo(number), E.ReceivedAt(local(self.clock())))

    def _reply(self, query: Record) -> etree._Element:
        number = query["DisputeNo"]
        reply = self.register.reply(number)
        if reply is None:
            return E.NoSuchDispute(E.DisputeNo(number))
        return E.DisputeState(E.DisputeNo(number), E.State(reply[0].upper()), E.Text(reply[1]))
