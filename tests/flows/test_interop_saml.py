"""Our SAML service provider and pysaml2, which knows nothing of us: request, metadata, response and logout both ways.

pysaml2 runs as a program of its own (tests/interop/pysaml2_once.py) with the packages of `make interop`, and signs by
xmlsec1.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from gateway.errors import ForgedCallback, SignOnFailed
from gateway.ports import Callback, SignOnReturn, SignOnStart, SignOutStart, UpstreamIdentity
from gateway.protocols.saml import Profile, Saml, open_saml
from tests.unit.protocol_support import kit
from tests.unit.saml_support import A_DAY, CALLBACK, PASSWORD, US, cert_pem, certificate, pem, rsa_key

PROGRAM = Path(__file__).parent.parent / "interop" / "pysaml2_once.py"
PYTHON = Path(sys.prefix) / "interop" / "bin" / "python"
ORIGIN = "https://idp.test"
SETTINGS = {
    "trust": "pinned",
    "idp_entity_id": f"{ORIGIN}/saml/metadata",
    "sso_path": "/saml/sso",
    "slo_path": "/saml/slo",
}
PERSON = {"userName": ["韦小兰"], "userType": ["1"]}
LOGOUT = "http://gateway.test/sign-in/testland/logout"


def now() -> datetime:
    """pysaml2 reads the system's clock, so here we do too."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Meeting:
    """Both sides, with each other's metadata or keys."""

    saml: Saml
    folder: Path

    async def pysaml2(self, **order: Any) -> dict[str, Any]:
        """Have pysaml2 do something."""
        files = {name: str(self.folder / name) for name in ("key", "certificate", "metadata")}
        process = await asyncio.create_subprocess_exec(
            str(PYTHON), str(PROGRAM), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, cwd=self.folder, env={"PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        output, errors = await process.communicate(json.dumps({"origin": ORIGIN, **files, **order}).encode())
        assert process.returncode == 0, errors.decode()
        done: dict[str, Any] = json.loads(output)
        return done

    async def sign_on(self, spoil: bytes = b"", **order: Any) -> tuple[dict[str, Any], UpstreamIdentity]:
        """Ask, be answered, and read the answer; `spoil` is what the answer loses on its way."""
        start = SignOnStart("state", "nonce", CALLBACK, "zh-CN", levels=(PASSWORD,), fresh=True)
        redirect = await self.saml.sign_on.begin(start)
        how = {"user": "gx-1", "class": PASSWORD, "attributes": PERSON, "sign_response": False, **order}
        said = await self.pysaml2(task="sign-on", url=redirect.url, **how)
        answer = said["response"].encode().replace(spoil, b"") if spoil else said["response"].encode()
        fields = {"SAMLResponse": base64.b64encode(answer).decode(), "RelayState": "state"}
        return said, await self.saml.sign_on.complete(SignOnReturn(fields, redirect.memory, CALLBACK, posted=True))


@asynccontextmanager
async def meeting(folder: Path) -> AsyncIterator[Meeting]:
    since, until = now() - A_DAY, now() + A_DAY
    idp, ours, seal = (certificate(rsa_key(name), since=since, until=until) for name in ("idp", "signing", "ours"))
    secrets = {
        "trust_anchors": cert_pem(idp),
        "signing_key": pem(rsa_key("signing")),
        "signing_certificate": cert_pem(ours),
        "encryption_key": pem(rsa_key("ours")),
        "encryption_certificate": cert_pem(seal),
    }
    (folder / "key").write_bytes(pem(rsa_key("idp")))
    (folder / "certificate").write_bytes(cert_pem(idp))
    async with kit(ORIGIN, settings=SETTINGS, secrets=secrets) as lent:
        profile = Profile({"userType": "userType", "userName": "userName"}, subject="userId")
        saml = open_saml(replace(lent, clock=now), profile)
        (folder / "metadata").write_bytes(saml.metadata())
        yield Meeting(saml, folder)


@pytest.fixture
async def met(tmp_path: Path) -> AsyncIterator[Meeting]:
    assert PYTHON.exists(), "`make interop` installs pysaml2, `make programs` xmlsec1"
    async with meeting(tmp_path) as both:
        yield both


@pytest.mark.parametrize("sign_response", [False, True], ids=["assertion-signed", "both-signed"])
async def test_pysaml2_understands_us_and_we_understand_pysaml2(met: Meeting, sign_response: bool) -> None:
    """It reads our metadata, verifies our request, and signs an answer by xmlsec1 that our verifier takes."""
    said, identity = await met.sign_on(sign_response=sign_response)
    assert (said["issuer"], said["fresh"], said["classes"]) == (US, "true", [PASSWORD])
    assert said["destination"] == CALLBACK
    assert identity.claims == {"userType": "1", "userName": "韦小兰", "userId": identity.subject}
    assert identity.level == PASSWORD
    assert identity.session_ref
    assert identity.subject == said["name_id"]


async def test_what_pysaml2_did_not_sign_like_this_is_refused(met: Meeting) -> None:
    with pytest.raises(SignOnFailed) as refused:
        await met.sign_on(spoil=b"&#x97E6;")
    assert "does not verify" in refused.value.detail


async def test_an_assertion_that_only_the_response_signs_for_is_refused(met: Meeting) -> None:
    """The default of some identity providers: theirs must be told to sign assertions."""
    with pytest.raises(SignOnFailed) as refused:
        await met.sign_on(sign_response=True, sign_assertion=False)
    assert "Assertion is not signed itself" in refused.value.detail


async def test_pysaml2_understands_our_logout(met: Meeting) -> None:
    _, identity = await met.sign_on()
    redirect = await met.saml.sign_out.end(SignOutStart(identity.kept, "state", CALLBACK, "zh-CN"))
    assert redirect is not None
    said = await met.pysaml2(task="read-logout", url=redirect.url)
    assert (said["name_id"], said["sessions"]) == (identity.subject, [identity.session_ref])


async def test_we_understand_a_logout_of_pysaml2(met: Meeting) -> None:
    _, identity = await met.sign_on()
    order = {"task": "logout", "name_id": identity.subject, "session": identity.session_ref, "address": LOGOUT}
    request = (await met.pysaml2(**order, us=US))["request"].encode()

    def posted(message: bytes) -> Callback:
        body = urlencode({"SAMLRequest": base64.b64encode(message).decode()}).encode()
        return Callback("POST", urlsplit(LOGOUT).path, {}, body, now())

    heard = await met.saml.sign_out.ended(posted(request))
    assert (heard.session_ref, heard.subject) == (identity.session_ref, identity.subject)
    with pytest.raises(ForgedCallback):
        await met.saml.sign_out.ended(posted(request.replace(identity.session_ref.encode(), b"another")))
