"""The short tour: one sign-on, one submission through to its result, one certificate lookup, as outsiders do them.

Owns: three short stories over plain HTTP. It uses nothing of the gateway's inside, so what passes here passes for any
relying system and any agency.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from lxml import html
from yarl import URL

from gateway.sandbox.neighbourhood import Neighbourhood

PORTAL_REDIRECT = "http://127.0.0.1:8400/callback"
SLIP = b"%PDF-1.4\n% a synthetic identity document of the sandbox\n%%EOF\n"
PATIENCE = 30.0
"""Seconds after which a case that has not come to its end is a failure."""

SUBMISSION: Mapping[str, Any] = {
    "place": "foshan",
    "mode": "collect",
    "applicant": {
        "kind": "person",
        "name": "陈小明",
        "document": {"type": "CN_RIC", "number": "44010619900101900X"},
        "birth_date": "1990-01-01",
        "sex": "F",
    },
    "form": {"insured_place": "440600", "destination": "440100", "kind": "resident", "start": "2026-12-01"},
    "purpose_code": "cross-region-service",
    "purpose": "Filing for medical treatment away from home",
    "legal_basis": "statutory duty",
}
LOOKUP: Mapping[str, Any] = {
    "certificate_type": "居民身份证",
    "holder": {"name": "陈小明", "document": {"type": "CN_RIC", "number": "44010619900101900X"}},
    "holder_role": "applicant",
    "operator": "T0001",
    "purpose_code": "cross-region-service",
    "purpose": "Identity check for the case",
    "legal_basis": "statutory duty",
}


class TourError(Exception):
    """Something did not go as it should; the text says what."""


class Tour:
    """Takes the tour and says what it sees."""

    def __init__(
        self, neighbourhood: Neighbourhood, session: aiohttp.ClientSession, say: Callable[[str], None]
    ) -> None:
        self._around = neighbourhood
        self._url = neighbourhood.public_url
        self._session = session
        self._say = say

    async def take(self) -> None:
        """Tell the three stories. Raises TourError."""
        await self.sign_on()
        token = await agency_token(self._session, self._url, self._around.layout.folder)
        case = await self.submission(token)
        await self.certificate(token, case)
        self._say("\nThe tour is complete: everything went as it should.")

    # --- sign-on -----------------------------------------------------------------------------------------------

    async def sign_on(self) -> None:
        """A citizen of Guangdong signs on to a portal that only knows this gateway."""
        self._say("\n1. Sign-on: a citizen of Guangdong signs on to a portal through the gateway")
        verifier, state, nonce = (secrets.token_urlsafe(32) for _ in range(3))
        page = await self._to_sign_in_page(verifier, state, nonce)
        self._say("   portal → gateway → region chooser → Guangdong's own sign-in page")
        back = await self._sign_in(page)
        if back.query.get("state") != state or back.query.get("iss") != self._url:
            raise TourError("the answer to the portal carries another state or issuer")
        self._say("   Guangdong → gateway → portal, with a code, the portal's state and the issuer")
        claims = await self._redeem(back.query["code"], verifier, nonce)
        self._say(f"   ID token verified: {claims['acr']}, subject known to this portal only")

    async def _to_sign_in_page(self, verifier: str, state: str, nonce: str) -> aiohttp.ClientResponse:
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        query = {
            "client_id": "demo-portal",
            "response_type": "code",
            "redirect_uri": PORTAL_REDIRECT,
            "scope": "openid profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        chooser = await self._session.get(f"{self._url}/oauth2/authorize?{urlencode(query)}")
        document = html.fromstring(await chooser.text())
        links = [link for link in document.xpath("//a/@href") if str(link).startswith("/sign-in/guangdong")]
        if not links:
            raise TourError("the chooser does not offer Guangdong")
        return await self._session.get(self._url + str(links[0]))

    async def _sign_in(self, page: aiohttp.ClientResponse) -> URL:
        """Fill the authority's form as a browser would, and follow the redirects to the portal's door."""
        citizen = self._around.account("citizen")
        form = html.fromstring(await page.text(), base_url=str(page.url)).forms[0]
        form.make_links_absolute()
        filled = {**dict(form.form_values()), "account": citizen["account"], "password": citizen["password"]}
        filled["method"] = "3"
        answer = await self._session.post(form.action or page.url, data=filled, allow_redirects=False)
        back = await self._followed(answer)
        if isinstance(back, URL):
            return back
        if back.url.path != "/sign-in/consent":
            raise TourError(f"the sign-on ended at {back.url.path} with {back.status}")
        return await self._agree(back)

    async def _followed(self, answer: aiohttp.ClientResponse) -> URL | aiohttp.ClientResponse:
        """Follow redirects to the portal's door, or to the page that leads no further by itself."""
        while answer.status in {302, 303}:
            target = answer.url.join(URL(answer.headers["Location"], encoded=True))
            if str(target).startswith(PORTAL_REDIRECT):
                return target
            answer = await self._session.get(target, allow_redirects=False)
        return answer

    async def _agree(self, page: aiohttp.ClientResponse) -> URL:
        """Agree on the consent page to all that the portal asks for."""
        form = html.fromstring(await page.text(), base_url=str(page.url)).forms[0]
        form.make_links_absolute()
        asked = {name: value for name, value in form.form_values() if name != "decision"}
        claims = [name.removeprefix("claim.") for name in asked if name.startswith("claim.")]
        self._say(f"   consent: the portal may have {', '.join(claims)}, and nothing else")
        filled = {**asked, "decision": "agree"}
        answer = await self._session.post(str(form.action), data=filled)
        onward = html.fromstring(await answer.text()).get_element_by_id("onward", None)
        if onward is None:
            raise TourError(f"the consent ended at {answer.url.path} with {answer.status}")
        return URL(str(onward.get("href")), encoded=True)

    async def _redeem(self, code: str, verifier: str, nonce: str) -> dict[str, Any]:
        answer = await self._token(
            "demo-portal",
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": PORTAL_REDIRECT,
                "code_verifier": verifier,
            },
        )
        jwks = KeySet.import_key_set({"keys": (await self._json("GET", "/oauth2/jwks"))["keys"]})
        claims = jwt.decode(answer["id_token"], jwks, algorithms=["ES256"]).claims
        if claims["iss"] != self._url or claims["aud"] not in ("demo-portal", ["demo-portal"]):
            raise TourError("the ID token is for somebody else")
        if claims["nonce"] != nonce:
            raise TourError("the ID token carries another nonce")
        return dict(claims)

    # --- submission --------------------------------------------------------------------------------------------

    async def submission(self, token: str) -> dict[str, Any]:
        """An agency in Guangzhou files an item that Foshan decides."""
        self._say("\n2. Submission: an agency in Guangzhou files an item that Foshan decides")
        items = (await self._json("GET", "/v1/items", token))["items"]
        item = items[0]
        self._say(f"   GET /v1/items → {len(items)} items; the first is {item['name']['zh-CN']}")
        blob = await upload_slip(self._session, self._url, token)
        self._say(f"   POST /v1/blobs → {blob['size']} bytes, encrypted at rest")
        body = {
            **SUBMISSION,
            "reference": secrets.token_hex(8),
            "item": item["code"],
            "materials": [{"code": "ID", "blob": blob["id"]}],
        }
        receipt = await self._json("POST", "/v1/submissions", token, body)
        again = await self._json("POST", "/v1/submissions", token, body)
        if again["id"] != receipt["id"]:
            raise TourError("the same application twice became two submissions")
        self._say(f"   POST /v1/submissions → {receipt['id']}; sent twice, still one submission")
        case = await self._until(token, receipt["id"], "COMPLETED")
        self._tell_timeline(case)
        return {"id": receipt["id"], "item": item}

    async def _until(self, token: str, submission_id: str, state: str) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            case = await self._json("GET", f"/v1/submissions/{submission_id}", token)
            if case["state"] == state:
                return case
            await asyncio.sleep(0.2)  # an agency polls; this is one
        raise TourError(f"the case is still {case['state']} after {PATIENCE:.0f} s; delivery: {case['delivery']}")

    def _tell_timeline(self, case: Mapping[str, Any]) -> None:
        for entry in case["timeline"]:
            self._say(f"     {entry['seq']}. {entry['state']:<10} {entry['source']}")
        numbers = case["region_numbers"][0]
        self._say(f"   Foshan's own number {numbers['number']}; it is now with: {case['holder']}")

    # --- certificate -------------------------------------------------------------------------------------------

    async def certificate(self, token: str, case: Mapping[str, Any]) -> None:
        """The same agency checks the applicant's identity card where it was issued, for that case."""
        self._say("\n3. Certificate: the agency looks the applicant's identity card up where it was issued")
        item = {"code": case["item"]["code"], "name": case["item"]["name"]["zh-CN"]}
        body = {**LOOKUP, "item": item, "case": case["id"]}
        answer = await self._json("POST", "/v1/certificates/lookup", token, body)
        found = answer["answers"][0]
        if found["standing"] != "valid":
            raise TourError(f"the certificate is {found['standing']}: {found.get('reason')}")
        certificate = found["certificate"]
        self._say(f"   {found['issuer']} answers live: {found['standing']}, valid until {certificate['valid_until']}")
        self._say(f"   issued by {certificate['issuer']['name']}; evidence {answer['evidence']}")
        number = body["holder"]["document"]["number"]
        wrong = {
            **body,
            "holder": {**body["holder"], "name": "别的人", "document": {"type": "CN_RIC", "number": number}},
        }
        other = await self._json("POST", "/v1/certificates/lookup", token, wrong)
        self._say(f"   the same number under another name: {other['answers'][0]['standing']}")

    # --- HTTP --------------------------------------------------------------------------------------------------

    async def _token(self, client: str, form: Mapping[str, str]) -> dict[str, Any]:
        return await ask_token(self._session, self._url, self._around.layout.folder, client, form)

    async def _json(self, method: str, path: str, token: str | None = None, body: Any = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = await self._session.request(method, self._url + path, json=body, headers=headers)
        return await _checked(answer)


async def agency_token(session: aiohttp.ClientSession, url: str, folder: Path) -> str:
    """Return an access token for the demo agency (client_credentials)."""
    form = {"grant_type": "client_credentials", "scope": "submissions certificates"}
    return str((await ask_token(session, url, folder, "demo-agency", form))["access_token"])


async def ask_token(
    session: aiohttp.ClientSession, url: str, folder: Path, client: str, form: Mapping[str, str]
) -> dict[str, Any]:
    """Ask for a token with private_key_jwt (RFC 7523): the audience is the issuer, nothing else."""
    key = ECKey.import_key((folder / "keys" / f"{client}.pem").read_bytes())
    now = int(time.time())
    who = {"iss": client, "sub": client, "aud": url}
    claims = {**who, "jti": secrets.token_urlsafe(16), "iat": now, "exp": now + 60}
    proof = {
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": jwt.encode({"alg": "ES256", "kid": key.thumbprint()}, claims, key, algorithms=["ES256"]),
    }
    return await _checked(await session.post(f"{url}/oauth2/token", data={**form, **proof}))


async def upload_slip(session: aiohttp.ClientSession, url: str, token: str) -> dict[str, Any]:
    """Upload a small synthetic PDF with its digest (RFC 9530)."""
    digest = base64.b64encode(hashlib.sha256(SLIP).digest()).decode()
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/pdf",
        "Content-Disposition": 'attachment; filename="identity.pdf"',
        "Content-Digest": f"sha-256=:{digest}:",
    }
    return await _checked(await session.post(f"{url}/v1/blobs", data=SLIP, headers=headers))


async def _checked(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    body: dict[str, Any] = await answer.json(content_type=None)
    if answer.status >= 400:
        raise TourError(f"{answer.method} {answer.url.path} answered {answer.status}: {body}")
    return body
