"""Our side of Guangxi (广西壮族自治区): sign-on and single logout by SAML 2.0, cases by the provinces' exchange.

Owns: what Guangxi calls the things that it says of a person. Leaves to `gateway.protocols.saml` and
`gateway.protocols.province`: the wires and all of their checks. The contracts are README.md beside this file and
docs/province-exchange.md.
"""

from __future__ import annotations

from gateway.ports import Adapter, Kit
from gateway.protocols.province import open_exchange
from gateway.protocols.saml import Profile, open_saml

ATTRIBUTES = ("userType", "userName", "certificateType", "certificateNumber", "sex", "birthday", "mobile", "email")
"""The attributes of a person that are taken over, under their own names; the persistent name becomes `userId`."""

OF_ORGANISATION = {
    **{name: name for name in ("corpId", "enterpriseName", "creditCode", "legalPersonName", "agentRole")},
    "userName": "agentName",
    "certificateType": "agentCertificateType",
    "certificateNumber": "agentCertificateNumber",
    "mobile": "agentMobile",
}
"""The attributes of the organisation that a person signs on for; the person is whom its document calls the agent."""

ROLES = {"经办人": "handler", "法定代表人": "legal_representative"}


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the region offers; makes no network call. Raises StartRefused."""
    profile = Profile(
        {name: name for name in ATTRIBUTES},
        subject="userId",
        organisation=OF_ORGANISATION,
        role="agentRole",
        roles=ROLES,
    )
    saml = open_saml(kit, profile)
    cases = open_exchange(kit, saml.wire)
    return Adapter(
        sign_on=saml.sign_on,
        submissions=cases.submissions,
        feed=cases.feed,
        certificates=cases.certificates,
        issued=cases.issued,
        notices=cases.notices,
        catalogue=cases.catalogue,
        messages=cases.messages,
        results=cases.results,
        sign_out=saml.sign_out,
        trust_confirmed_at=saml.trust_confirmed_at,
        metadata=saml.metadata,
        probe=saml.wire.probe,
    )
