"""A small, strict service provider for SAML 2.0: the Web Browser SSO profile and single logout, and nothing else of it.

`documents` reads XML, `signatures` and `encryption` open it, `responses` judges it, `trust` says whose word counts,
`party` who we are, `sign_on` and `sign_out` speak with the core, `opening` puts them together. There is no unsigned
state in this code, no sign-on that the identity provider began, no artifact, no holder of key. Why it is our own stands
in docs/decisions.md.
"""

from gateway.protocols.saml.opening import Saml, open_saml
from gateway.protocols.saml.sign_on import Profile

__all__ = ["Profile", "Saml", "open_saml"]
