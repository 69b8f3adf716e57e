"""The status codes of answers in the form of GB/T 36906, and what of ours becomes which of them: the one table.

Owns: codes and their words. 0 to 113 are those of a provincial implementation of the standard; from 900 on they are
ours, where that list has none. An issuer that could not be heard is 900 and never 10: nobody may read a failure as
"there is no such certificate". Leaves to `gateway.errors` and `gateway.domain.certificate`: what happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

from gateway import errors
from gateway.domain.certificate import Standing
from gateway.errors import FieldProblem, GatewayError


class Status(IntEnum):
    """`head.status`."""

    OK = 0
    NO_MATCH = 10
    NOT_AUTHENTICATED = 11
    MISSING = 12
    TYPE_UNKNOWN = 13
    REVOKED = 21
    EXPIRED = 22
    RESTRICTED = 23
    NO_GRANT = 100
    HOLDER_CODE_TYPE = 103
    WRONG_TYPE = 113
    UNVERIFIABLE = 900
    CLAIM_DIFFERS = 901
    NOT_PERMITTED = 902
    INVALID = 903
    CONFLICT = 904
    NOT_OFFERED = 905
    NOT_GENUINE = 906
    GATEWAY = 909


WORDS: Mapping[Status, str] = {
    Status.OK: "成功",
    Status.NO_MATCH: "没有匹配的证照",
    Status.NOT_AUTHENTICATED: "身份认证失败",
    Status.MISSING: "必填参数为空",
    Status.TYPE_UNKNOWN: "证照类型不存在或未发布",
    Status.REVOKED: "证照已撤销、注销或被替代",
    Status.EXPIRED: "证照已过有效期",
    Status.RESTRICTED: "证照限制使用",
    Status.NO_GRANT: "没有该类证照的使用权限",
    Status.HOLDER_CODE_TYPE: "持证主体代码类型无效",
    Status.WRONG_TYPE: "证照类型代码不符",
    Status.UNVERIFIABLE: "暂时无法核验，不代表证照不存在",
    Status.CLAIM_DIFFERS: "核验内容与证照不符",
    Status.NOT_PERMITTED: "不符合使用规定",
    Status.INVALID: "参数无效",
    Status.CONFLICT: "与已有记录冲突",
    Status.NOT_OFFERED: "签发地不提供该操作",
    Status.NOT_GENUINE: "证照文件验证未通过",
    Status.GATEWAY: "网关暂时不能提供服务",
}
"""`head.message`."""

OF_STANDING: Mapping[Standing, Status] = {
    Standing.VALID: Status.OK,
    Standing.MATCH: Status.OK,
    Standing.EXPIRED: Status.EXPIRED,
    Standing.REVOKED: Status.REVOKED,
    Standing.SUPERSEDED: Status.REVOKED,
    Standing.RESTRICTED: Status.RESTRICTED,
    Standing.NOT_FOUND: Status.NO_MATCH,
    Standing.NO_MATCH: Status.NO_MATCH,
    Standing.UNVERIFIABLE: Status.UNVERIFIABLE,
}
"""A superseded certificate is one that was cancelled for another, which the answer names (关联证照标识)."""

OF_ERROR: Mapping[type[GatewayError], Status] = {
    errors.NotAuthenticated: Status.NOT_AUTHENTICATED,
    errors.NotPermitted: Status.NOT_PERMITTED,
    errors.InvalidRequest: Status.INVALID,
    errors.BodyTooLarge: Status.INVALID,
    errors.NotFound: Status.INVALID,
    errors.Conflict: Status.CONFLICT,
    errors.RegionError: Status.UNVERIFIABLE,
    errors.NotOffered: Status.NOT_OFFERED,
    errors.MappingFailed: Status.UNVERIFIABLE,
    errors.CertificateUnconfirmed: Status.UNVERIFIABLE,
}
"""A subclass has its parent's; what is not listed is the gateway's own trouble."""

_OF_CODE: Mapping[str, Status] = {
    "policy.no_grant": Status.NO_GRANT,
    "auth.insufficient_scope": Status.NO_GRANT,
    "certificate.not_found": Status.NO_MATCH,
}
_OF_PROBLEM: Sequence[tuple[Status, frozenset[str], frozenset[str]]] = (
    (Status.MISSING, frozenset(), frozenset({"missing"})),
    (Status.HOLDER_CODE_TYPE, frozenset({"CertificateHolderCodeType"}), frozenset()),
    (
        Status.TYPE_UNKNOWN,
        frozenset({"CertificateType", "CertificateTypeCode", "CertificateID"}),
        frozenset({"unknown", "unknown_type", "nobody_to_ask"}),
    ),
    (Status.WRONG_TYPE, frozenset({"CertificateType", "CertificateTypeCode"}), frozenset({"differs"})),
)
"""Status, elements and codes of a problem that make it so, the first that fits; an empty set stands for all."""


def status_of(error: GatewayError, problems: Sequence[FieldProblem]) -> Status:
    """Return the status of a refusal; `problems` are its own, under the names of elements."""
    if error.stable_code in _OF_CODE:
        return _OF_CODE[error.stable_code]
    kind = next((OF_ERROR[one] for one in type(error).__mro__ if one in OF_ERROR), Status.GATEWAY)
    if kind is not Status.INVALID:
        return kind
    return next((status for status, *row in _OF_PROBLEM if any(_fits(one, *row) for one in problems)), kind)


def _fits(problem: FieldProblem, elements: frozenset[str], codes: frozenset[str]) -> bool:
    return (not elements or problem.field in elements) and (not codes or problem.code in codes)


def overall(standings: Sequence[Standing], *, unheard: bool) -> Status:
    """Return the status of several certificates together: of the one that is worth most.

    Where there is none, `unheard` says that somebody who may have one was not heard or not asked: that is 900, not 10.
    """
    found = [one for one in _ORDER if one in standings]
    if found:
        return OF_STANDING[found[0]]
    return Status.UNVERIFIABLE if unheard else Status.NO_MATCH


_ORDER = (
    Standing.VALID, Standing.MATCH, Standing.EXPIRED, Standing.RESTRICTED, Standing.SUPERSEDED, Standing.REVOKED,
    Standing.UNVERIFIABLE,
)  # fmt: skip
