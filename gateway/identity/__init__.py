"""Sign-on: the OpenID Provider towards services, the broker towards regions, and the sessions between the two.

Leaves to `gateway.web` everything HTTP, to adapters everything about a region's wire. The rooms:

- a browser's way: `authorization` (the order of things), `broker`, `upstream`, `returns`, `health`, `switches`
- the protocol, in memory: `provider`, `grants`, `requests`, `tokens`, `discovery`
- a client's way: `token_endpoint`, `clients`, `registry`, `assertion`, `certificate_auth`, `proofs`, `dpop`, `mtls`
- what was issued: `families`, `standing`, `verified`, `revocations`, `resources`, `exchanges`
- persons: `persons`, `disclosure`, `consents`, `linking`, `linked`, `mandates`, `delegation`, `codes`
- the end: `logout` and what it is made of
- rows: `records`, and those of each room beside it

`service` puts it all together.
"""
