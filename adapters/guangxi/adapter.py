"""Our side of Guangxi (广西壮族自治区): sign-on and single logout by SAML 2.0.

Owns: what Guangxi calls the things that it says of a person. Leaves to `gateway.protocols.saml`: the wire and all
of its checks. The contract is README.md beside this file.
"""

from __future__ import annotations

from gateway.ports import Adapter, Kit
from gateway.protocols.saml import Profile, open_saml

ATTRIBUTES = ("userType", "userName", "certificateType", "certificateNumber", "sex", "birthday", "mobile", "email")
"""The attributes that are taken over, under their own names; the persistent name becomes `userId`."""


def open_adapter(kit: Kit) -> Adapter:
    """Compose what the region offers; makes no network call. Raises StartRefused."""
    saml = open_saml(kit, Profile({name: name for name in ATTRIBUTES}, subject="userId"))
    return Adapter(
        sign_on=saml.sign_on,
        sign_out=saml.sign_out,
        trust_confirmed_at=saml.trust_confirmed_at,
        metadata=saml.metadata,
        probe=saml.wire.probe,
    )
