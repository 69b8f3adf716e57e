"""The elements of requests in the form of GB/T 36906, operation by operation.

Owns: which elements each operation takes, under the standard's names. JSON, SOAP and the WSDL are all read off these
models. Leaves to `asked`: what they mean here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime, Base64Bytes, Field

from gateway.edge import Edge, Long, Short, Text

OTHER_NAMES: Mapping[str, str] = {
    "certTypeCode": "CertificateTypeCode",
    "certName": "CertificateType",
    "certNo": "CertificateNumber",
    "certIdentifier": "CertificateID",
    "holder": "CertificateHolder",
    "holderCode": "CertificateHolderCode",
    "holderTypeCode": "CertificateHolderCodeType",
    "useCause": "UseFor",
}
"""Names that provinces' systems use for the same elements."""
DEFAULTED = frozenset({"PurposeCode", "LegalBasis", "HolderRole"})
"""Elements that are filled in before a request is checked, where somebody has said what they are."""


class Sender(Edge):
    """The five elements (五要素), which some operations need not: the token says which system asks.

    `orgName` is held against the organisation of the token, and never believed.
    """

    organisation: Text | None = Field(None, alias="orgName")
    operator: Short | None = Field(None, alias="username")
    item_name: Text | None = Field(None, alias="itemName")
    item_code: Short | None = Field(None, alias="itemCode")
    case: Short | None = Field(None, alias="businessCode")


class ConsentHeld(Edge):
    """A consent that the caller holds, under the caller's own id; an extension of ours."""

    id: Short = Field(alias="ConsentID")
    recipient: Short = Field(alias="Recipient")
    purpose: Text = Field(alias="Purpose")
    fields_covered: list[Text] = Field(alias="Field", min_length=1, max_length=200)
    given_at: AwareDatetime = Field(alias="GivenAt")
    expires_at: AwareDatetime = Field(alias="ExpiresAt")


class Asked(Sender):
    """What goes with every question about a certificate: five elements, purpose (用途), and our extensions.

    Those of `DEFAULTED` need not be sent where the deployment or the client's registration says them.
    """

    operator: Short = Field(alias="username")
    item_name: Text = Field(alias="itemName")
    item_code: Short = Field(alias="itemCode")
    case: Short = Field(alias="businessCode")
    purpose: Text = Field(alias="UseFor")
    purpose_code: Short = Field(alias="PurposeCode")
    legal_basis: Text = Field(alias="LegalBasis")
    holder_role: Literal["applicant", "principal", "party"] = Field(alias="HolderRole")
    agent_name: Text | None = Field(None, alias="AgentName")
    agent_code: Short | None = Field(None, alias="AgentCode")
    agent_code_type: Short | None = Field(None, alias="AgentCodeType")
    mandate: Short | None = Field(None, alias="MandateID")
    consents: list[ConsentHeld] = Field(default_factory=list, max_length=10, alias="Consent")
    issuer: Short | None = Field(None, alias="IssuedIn")
    """The issuing region, by its id here."""


class OfType(Edge):
    """A type of certificate (证照类型), by name or by code."""

    type_name: Text | None = Field(None, alias="CertificateType")
    type_code: Short | None = Field(None, alias="CertificateTypeCode")


class OfHolder(Edge):
    """A holder (持证主体): name and number. A number alone names nobody (domain rule P8)."""

    holder_name: Text = Field(alias="CertificateHolder")
    holder_code: Short = Field(alias="CertificateHolderCode")
    holder_code_type: Short | None = Field(None, alias="CertificateHolderCodeType")
    """Code of GB/T 36903; without it, what the number says by its check character."""


class MaybeOfHolder(Edge):
    """A holder who need not be named, where the certificate is."""

    holder_name: Text | None = Field(None, alias="CertificateHolder")
    holder_code: Short | None = Field(None, alias="CertificateHolderCode")
    holder_code_type: Short | None = Field(None, alias="CertificateHolderCodeType")


class TypesAsked(Sender):
    """`GetCertificateType`: which types the caller may ask about."""


class SurfaceAsked(Sender, OfType):
    """`GetCertRemarkInfo`: what is printed on certificates of a type (照面信息项)."""


class RetrievalAsked(Asked, OfType, OfHolder):
    """`Retrieval`: which certificates a holder has."""


class DataByIdentifier(Asked, MaybeOfHolder):
    """`GetCertificateDataByCertificateID`."""

    identifier: Text = Field(alias="CertificateID")


class DataByHolder(Asked, OfType, OfHolder):
    """`GetCertificateDataByHolder`; of several certificates, the one with this number."""

    number: Text | None = Field(None, alias="CertificateNumber")


class Claim(Edge):
    """What somebody says that a certificate says: an element of GB/T 36903 (`ZZMC`), or a field of its type."""

    name: Text = Field(alias="Name")
    value: Long = Field(alias="Value")


class Verification(Asked, OfType, MaybeOfHolder):
    """`VerifyCertInfo`: what a certificate is worth now, and whether it says what is claimed."""

    identifier: Text | None = Field(None, alias="CertificateID")
    number: Text | None = Field(None, alias="CertificateNumber")
    claims: list[Claim] = Field(default_factory=list, max_length=50, alias="Claim")


class FileWanted(Edge):
    """How a file is wanted: as its issuer has it, or as a copy that is marked as made for `UseFor` (加注件)."""

    copy_wanted: Literal["0", "1"] | None = Field(None, alias="Copy")


class FileByIdentifier(DataByIdentifier, FileWanted):
    """`GetCertificateFileByCertificateID`."""


class FileByHolder(DataByHolder, FileWanted):
    """`GetCertificateFileByHolder`."""


class LinkWanted(Asked, OfType, MaybeOfHolder, FileWanted):
    """`DownloadUrl`: an address that serves the file once. How long it serves is the gateway's to say."""

    identifier: Text | None = Field(None, alias="CertificateID")
    number: Text | None = Field(None, alias="CertificateNumber")
    wished_end: Short | None = Field(None, alias="expiryTime")
    """Read, since systems send it, and not followed: the answer says when the address ends."""


class FileShown(Asked, OfType):
    """`VerifyFile`: the file itself, or the id of one that was uploaded before."""

    content: Base64Bytes | None = Field(None, alias="FileData")
    upload: Short | None = Field(None, alias="FileID")


class CodeShown(Asked, OfType):
    """`QueryByQRCode`: what a code that its holder shows (亮证码) stands for."""

    code: Text = Field(alias="QRCode")
