"""What the simulated province of the case exchange tells of certificates: a second reading of the contract.

Owns: `certificateShare`, files that are listed and then fetched once, and a notice as it is pushed. Leaves to
`gateway.sandbox.issued`: what there is and what has become of it; to `province_authority`: the wire. It shares no code
with the gateway. Source: docs/province-exchange.md.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gateway.sandbox.issued import MEDIA_TYPE, UNKNOWN_STATUS, Change, Compose, Letter, Register, Row
from gateway.sandbox.province_cases import CHINA, Clock
from gateway.sandbox.province_documents import Entry, RefusedError, certificate, filled, is_held_by, state_word
from gateway.sandbox.province_signature import Signing, notice_text

FILES = "certificates"
"""Stands in the address of a file where the number of a case stands for its documents."""

FILE_LIFE = 60
"""Seconds for which a file that was listed can be fetched."""

_FRAME = (
    "servicecode", "systemName", "areaCode", "areaName", "deptName", "operName", "taskCode", "taskName", "projectNo",
    "queryCause",
)  # fmt: skip
_HOLDER = ("certificateTypeName", "certificateHolderName", "certificateHolderTypeCode", "certificateHolderCode")
_NO_FILE = {"expired": ("22", "证照已过期"), "suspended": ("23", "证照限制使用")}
_REPLIES = {"open": "核查中", "corrected": "已更正", "rejected": "无误"}


@dataclass(frozen=True, slots=True)
class CertificateRoom:
    """Where certificates are asked about."""

    register: Register
    clock: Clock
    listed: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    """`fileCode` → the file, and until when it can be fetched (Unix seconds)."""

    def operations(self, told: Sequence[str]) -> Mapping[str, Callable[[Entry], Entry]]:
        """Return the interfaces of `certificateShare`. `told` is what is told of single certificates."""
        single: Mapping[str, Mapping[str, Callable[[Entry], Entry]]] = {
            "data": {"getCertificateByIdentifier": self._by_identifier},
            "code": {"getCertificateByShowCode": self._by_code},
            "file": {"getCertificateFile": self._file},
            "dispute": {"sendObjection": self._dispute, "queryObjection": self._reply},
        }
        by_holder = {
            "getPersonListByHolder": lambda asked: self._by_holder(asked, legal=False),
            "getLegalPersonListByHolder": lambda asked: self._by_holder(asked, legal=True),
        }
        return {**by_holder, **{name: work for each in told for name, work in single[each].items()}}

    def _by_holder(self, asked: Entry, *, legal: bool) -> Entry:
        self._require(asked, *_FRAME, *_HOLDER)
        if (asked["certificateHolderTypeCode"] == "001") != legal:
            raise RefusedError("12", "接口与持证主体不符", "certificateHolderTypeCode")
        of_type = [row for row in self.register.all() if row["type_name"] == asked["certificateTypeName"]]
        if not of_type:
            raise RefusedError("13", "没有该证照类型")
        found = [self.register.told(row) for row in of_type if is_held_by(row, asked)]
        if not found:
            raise RefusedError("10", "没有符合条件的证照")
        return {"dataList": [certificate(row) for row in found]}

    def _by_identifier(self, asked: Entry) -> Entry:
        self._require(asked, "certificateIdentifier", *_FRAME)
        return {"dataList": [certificate(_there(self.register.named(asked["certificateIdentifier"])))]}

    def _by_code(self, asked: Entry) -> Entry:
        self._require(asked, "certificateShowCode", *_FRAME)
        return {"dataList": [certificate(_there(self.register.shown(asked["certificateShowCode"])))]}

    def _require(self, asked: Entry, *names: str) -> None:
        if self.register.wrong.due("unknown_status"):
            raise RefusedError(UNKNOWN_STATUS, "")
        if missing := [name for name in names if not filled(asked, name)]:
            raise RefusedError("12", "必填项缺失", *missing)

    # --- files

    def _file(self, asked: Entry) -> Entry:
        """List the file of a certificate that is in force."""
        self._require(asked, "certificateIdentifier", *_FRAME)
        row = _there(self.register.named(asked["certificateIdentifier"]))
        worth = self.register.worth(row, datetime.fromtimestamp(self.clock(), CHINA).date())
        if worth != "valid":
            raise RefusedError(*_NO_FILE.get(worth, ("21", "证照已撤销、注销或换发")))
        content, code = self.register.file(row), secrets.token_hex(16)
        self.listed[code] = (content, self.clock() + FILE_LIFE)
        described = {
            "certificateIdentifier": row["identifier"],
            "fileCode": code,
            "fileName": f"{row['identifier']}.ofd",
            "fileType": MEDIA_TYPE,
            "fileSize": str(len(content)),
            "fileDigest": hashlib.sha256(content).hexdigest(),
        }
        return {"dataList": [described]}

    def fetched(self, code: str) -> tuple[bytes, bytes, str]:
        """Hand a listed file out, once: what was listed, what is sent, and its media type. Raises RefusedError."""
        content, until = self.listed.pop(code, (b"", 0.0))
        if until < self.clock():
            raise RefusedError("18", "证照文件已不再提供")
        return content, content, MEDIA_TYPE

    # --- errors

    def _dispute(self, said: Entry) -> Entry:
        self._require(said, "objectionNo", "certificateIdentifier", "objectionContent", *_FRAME)
        number = self.register.dispute(said["objectionNo"], said["certificateIdentifier"])
        if number is None:
            raise RefusedError("12", "没有该证照", "certificateIdentifier")
        received = f"{datetime.fromtimestamp(self.clock(), CHINA):%Y-%m-%d %H:%M:%S}"
        return {"objectionNo": said["objectionNo"], "acceptNo": number, "receiveTime": received}

    def _reply(self, asked: Entry) -> Entry:
        self._require(asked, "acceptNo")
        reply = self.register.reply(asked["acceptNo"])
        if reply is None:
            raise RefusedError("10", "没有该异议")
        return {"acceptNo": asked["acceptNo"], "handleState": _REPLIES[reply[0]], "handleOpinion": reply[1]}


def _there(row: Row | None) -> Row:
    if row is None:
        raise RefusedError("10", "没有该证照")
    return row


def notice_composer(region: str, signing: Signing, clock: Clock) -> Compose:
    """Return what writes and signs a notice; a forged one is signed with a key that nobody knows."""

    def compose(change: Change, forged: bool) -> Letter:
        data = {
            "notice_no": change.number,
            "certificate_identifier": change.identifier,
            "status": state_word(change.state),
            "change_time": f"{datetime.fromtimestamp(change.at, CHINA):%Y-%m-%d %H:%M:%S}",
            **({"successor_identifier": change.replaced_by} if change.replaced_by else {}),
        }
        head = {"servicecode": "certificateShare", "interfaceName": "sendStateNotice"}
        body = json.dumps({"head": head, "data": data}, ensure_ascii=False).encode()
        key = signing.stranger() if forged else signing
        stamp = {
            "key": key.key_id,
            "time": str(int(clock() * 1000)),
            "nonce": secrets.token_hex(16),
            "digest": hashlib.sha256(body).hexdigest(),
        }
        sign = b64encode(key.sign(notice_text("POST", f"/callbacks/{region}/certificates", stamp))).decode()
        headers = {f"X-Pearl-{name}": value for name, value in {**stamp, "sign": sign}.items()}
        return Letter("certificates", body, {**headers, "Content-Type": "application/json"})

    return compose
