"""Sign-on: the OpenID Provider towards services, the broker towards regions, and the sessions between the two.

Owns: who may ask (`clients`), what they get (`tokens`, `persons`), the protocol (`provider`, on Authlib's grants) and
the way through a person's own region (`broker`). Leaves to `gateway.web.sign_on` everything HTTP, to adapters
everything about a region's wire.
"""
