"""The ring of signing keys: which key signs, what is published, and that a roll-over loses nobody.

What is signed here is verified by joserfc and by `cryptography`, neither of which helped to sign it.
"""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from joserfc import jws
from joserfc.jwk import KeySet, RSAKey

from gateway.cli import main
from gateway.config import Config
from gateway.crypto.jose import UnreadableToken, UnverifiedToken, verified_claims
from gateway.crypto.signing import ALGORITHMS, KeyRing, PemKey, PublicKey, Role
from gateway.errors import StartRefused, Unavailable
from gateway.keys import read_ring
from gateway.minting import signing_key

CLAIMS = {"sub": "粤港澳", "exp": 4_000_000_000, "list": ["a", {"b": None}]}
KEYS = {algorithm: [PemKey(signing_key(algorithm)) for _ in range(3)] for algorithm in ALGORITHMS}
ES256, PS256, EDDSA = (KEYS[algorithm] for algorithm in ALGORITHMS)


def read(token: str, ring: KeyRing, algorithms: Sequence[str] = ALGORITHMS) -> dict[str, Any]:
    """Verify with what the ring publishes, as another party would that has only the JWK set."""
    published = KeySet.import_key_set(ring.public_jwks())  # type: ignore[arg-type] # JSON, as it comes over the wire
    return verified_claims(token, published, algorithms=algorithms, types=["jwt"])


def header(token: str) -> dict[str, Any]:
    part = token.split(".")[0]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


# --- signing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_an_algorithms_key_signs_verifies_with_the_published_set(algorithm: str) -> None:
    ring = KeyRing([ES256[0], PS256[0], EDDSA[0]])
    token = ring.sign(CLAIMS, typ="JWT", algorithm=algorithm)
    assert read(token, ring, [algorithm]) == CLAIMS
    assert header(token) == {"alg": algorithm, "kid": KEYS[algorithm][0].public.thumbprint(), "typ": "JWT"}
    assert "=" not in token


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signature_is_of_these_bytes_alone(algorithm: str) -> None:
    ring = KeyRing([ES256[0], PS256[0], EDDSA[0]])
    head, _, signature = ring.sign(CLAIMS, typ="JWT", algorithm=algorithm).split(".")
    _, other, _ = ring.sign({**CLAIMS, "sub": "other"}, typ="JWT", algorithm=algorithm).split(".")
    with pytest.raises(UnverifiedToken):
        read(f"{head}.{other}.{signature}", ring)


def test_an_ecdsa_signature_always_has_64_octets() -> None:
    """R and S keep their leading zeros (RFC 7518 §3.4); one in 128 signatures would else be short."""
    lengths = {len(ES256[0].sign(str(number).encode())) for number in range(600)}
    assert lengths == {64}


def test_es256_signs_when_nothing_is_asked_for() -> None:
    assert header(KeyRing([EDDSA[0], PS256[0], ES256[0]]).sign(CLAIMS, typ="JWT"))["alg"] == "ES256"


def test_an_algorithm_without_a_key_is_refused_and_never_replaced() -> None:
    ring = KeyRing([ES256[0]], [PS256[0]])
    assert ring.algorithms == ("ES256",)
    for algorithm in ("PS256", "EdDSA", "none", "HS256"):
        with pytest.raises(Unavailable):
            ring.sign(CLAIMS, typ="JWT", algorithm=algorithm)


def test_algorithms_are_told_in_one_order() -> None:
    assert KeyRing([EDDSA[0], PS256[0], ES256[0]]).algorithms == ALGORITHMS


class Elsewhere:
    """A key whose private half is not in this process: all that the ring has is the port."""

    algorithm = "EdDSA"

    def __init__(self, held: PemKey) -> None:
        self.public: PublicKey = held.public
        self.asked: list[bytes] = []
        self._held = held

    def sign(self, octets: bytes) -> bytes:
        self.asked.append(octets)
        return self._held.sign(octets)


def test_a_key_may_be_kept_elsewhere() -> None:
    """An HSM signs octets; it is told nothing of tokens."""
    hsm = Elsewhere(EDDSA[0])
    ring = KeyRing([ES256[0], hsm])
    token = ring.sign(CLAIMS, typ="JWT", algorithm="EdDSA")
    assert read(token, ring) == CLAIMS
    assert hsm.asked == [token.rpartition(".")[0].encode()]


# --- publishing ----------------------------------------------------------------------------------------------------


def test_every_key_is_published_and_nothing_private_is() -> None:
    ring = KeyRing([ES256[0], PS256[0], EDDSA[0], ES256[1]], [ES256[2], PS256[1]])
    published = ring.public_jwks()["keys"]
    assert [key["kid"] for key in published] == [
        key.public.thumbprint() for key in (ES256[0], PS256[0], EDDSA[0], ES256[1], ES256[2], PS256[1])
    ]
    for key in published:
        assert set(key) <= {"kty", "crv", "x", "y", "n", "e", "kid", "use", "alg"}
        assert (key["use"], key["alg"] in ALGORITHMS) == ("sig", True)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_roll_over_loses_no_token_at_any_step(algorithm: str) -> None:
    """Whoever holds the key set of one step verifies what the next step signs, and the other way round.

    Replicas are restarted one after the other, and others cache the set for minutes.
    """
    old, new, _ = KEYS[algorithm]
    rest = [key for name, keys in KEYS.items() if name != algorithm for key in keys[:1]]
    steps = [
        KeyRing([old, *rest]),
        KeyRing([old, *rest], [new]),
        KeyRing([new, old, *rest]),
        KeyRing([new, *rest]),
    ]
    signed = [ring.sign(CLAIMS, typ="JWT", algorithm=algorithm) for ring in steps]
    for before, after in ((0, 1), (1, 2), (2, 3)):
        assert read(signed[after], steps[before]) == CLAIMS
        if before != 2:  # the last step comes when no token of the old key is left
            assert read(signed[before], steps[after]) == CLAIMS
    assert [header(token)["kid"] for token in signed] == [key.public.thumbprint() for key in (old, old, new, new)]


def test_without_publishing_ahead_a_token_would_be_lost() -> None:
    """What the roll-over guards against, seen once: the ring of before knows nothing of a key that signs now."""
    with pytest.raises(UnverifiedToken):
        read(KeyRing([ES256[1], ES256[0]]).sign(CLAIMS, typ="JWT"), KeyRing([ES256[0]]))


def test_roles_are_as_the_places_say() -> None:
    ring = KeyRing([ES256[0], PS256[0], ES256[1]], [PS256[1], EDDSA[0]])
    found = [ring.role_of(key) for key in (ES256[0], PS256[0], ES256[1], PS256[1], EDDSA[0])]
    assert found == [Role.SIGNS, Role.SIGNS, Role.PUBLISHED, Role.UPCOMING, Role.UPCOMING]


@pytest.mark.parametrize(
    ("signing", "upcoming", "words"),
    [
        ([], [], "ES256"),
        ([PS256[0]], [], "ES256"),
        ([PS256[0]], [ES256[0]], "ES256"),
        ([ES256[0], ES256[0]], [], "twice"),
        ([ES256[0]], [ES256[0]], "twice"),
    ],
)
def test_a_ring_that_could_not_serve_is_not_made(signing: list[PemKey], upcoming: list[PemKey], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        KeyRing(signing, upcoming)


# --- what is a key -------------------------------------------------------------------------------------------------


def pem(key: Any, encryption: Any = None) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"", "no private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key"),
        (pem(ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"secret")), "without a password"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "P-256"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "P-256"),
        (pem(ed448.Ed448PrivateKey.generate()), "Ed25519"),
        (pem(rsa.generate_private_key(65537, 1024)), "2048"),  # noqa: S505 - to be refused
    ],
)  # fmt: skip
def test_a_key_that_no_algorithm_of_ours_can_use_is_refused(octets: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PemKey(octets)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_kind_of_a_key_decides_its_algorithm(algorithm: str) -> None:
    assert PemKey(signing_key(algorithm)).algorithm == algorithm


def test_a_published_rsa_key_verifies_nothing_that_was_signed_in_the_old_way() -> None:
    """PKCS #1 v1.5 by the same key: one key, one algorithm (RFC 8725 §3.1)."""
    private = rsa.generate_private_key(65537, 2048)
    key = PemKey(pem(private))
    ring = KeyRing([ES256[0], key])
    forged = jws.serialize_compact({"alg": "RS256", "typ": "JWT"}, b"{}", RSAKey.import_key(private), ["RS256"])
    with pytest.raises(UnreadableToken, match="must be signed with"):
        read(forged, ring)


# --- the configuration ---------------------------------------------------------------------------------------------


def config(folder: Path, signing: Sequence[str], upcoming: Sequence[str] = ()) -> Config:
    named = {"signing": [f"file:{name}" for name in signing], "upcoming": [f"file:{name}" for name in upcoming]}
    keys = {**named, "at_rest": ["env:X"], "references": "env:X"}
    store = {"url": "sqlite:///x", "blobs": "x"}
    base = {"public_url": "https://gateway.test", "store": store, "keys": keys, "regions": {"guangdong": {}}}
    return Config.model_validate({**base, "folder": folder})


def test_every_key_that_is_wrong_is_named_in_one_go(tmp_path: Path) -> None:
    (tmp_path / "good.pem").write_bytes(signing_key("ES256"))
    (tmp_path / "bad.pem").write_bytes(b"bad")
    with pytest.raises(StartRefused) as refused:
        read_ring(config(tmp_path, ["good.pem", "bad.pem"], ["absent.pem", "bad.pem"]))
    found = {problem.field: problem.reason for problem in refused.value.problems}
    assert set(found) == {"keys.signing.1", "keys.upcoming.0", "keys.upcoming.1"}
    assert "no private key" in found["keys.signing.1"]


def test_a_ring_that_signs_with_nothing_that_all_understand_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ed.pem").write_bytes(signing_key("EdDSA"))
    with pytest.raises(StartRefused) as refused:
        read_ring(config(tmp_path, ["ed.pem"]))
    assert "ES256" in refused.value.problems[0].reason


# --- the commands --------------------------------------------------------------------------------------------------

CONFIG = """
public_url = "https://gateway.test"
[store]
url = "sqlite:///pearl.db"
blobs = "blobs"
[keys]
signing = ["file:one.pem", "file:two.pem"]
upcoming = ["file:three.pem"]
at_rest = ["file:at-rest.key"]
references = "file:at-rest.key"
[sign_on]
session_seconds = 7200
[regions.guangdong]
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    (tmp_path / "pearl.toml").write_text(CONFIG)
    (tmp_path / "at-rest.key").write_bytes(bytes(32))
    for name, algorithm in (("one", "ES256"), ("two", "ES256"), ("three", "EdDSA")):
        (tmp_path / f"{name}.pem").write_bytes(signing_key(algorithm))
        (tmp_path / f"{name}.pem").chmod(0o600)
    return tmp_path


def pearl(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["keys", *map(str, arguments)])
    return result.exit_code, result.output


def test_the_list_says_what_each_key_does(deployment: Path) -> None:
    code, output = pearl("list", "--config", deployment / "pearl.toml", "--json")
    found = [(row["place"], row["algorithm"], row["role"], row["from"]) for row in json.loads(output)]
    assert code == 0
    assert found == [
        ("keys.signing.0", "ES256", "signs", "file:one.pem"),
        ("keys.signing.1", "ES256", "published", "file:two.pem"),
        ("keys.upcoming.0", "EdDSA", "upcoming", "file:three.pem"),
    ]
    table = pearl("list", "--config", deployment / "pearl.toml")[1]
    assert all(row["kid"] in table for row in json.loads(output))


def test_a_check_of_good_keys_says_which_sign(deployment: Path) -> None:
    code, output = pearl("check", "--config", deployment / "pearl.toml")
    kid = PemKey((deployment / "one.pem").read_bytes()).public.thumbprint()
    assert (code, "nothing is wrong" in output, f"ES256 by {kid}" in output) == (0, True, True)


def test_a_check_finds_a_key_that_others_can_read(deployment: Path) -> None:
    (deployment / "two.pem").chmod(0o640)
    code, output = pearl("check", "--config", deployment / "pearl.toml")
    assert (code, "keys.signing.1" in output, "chmod 600" in output) == (1, True, True)


def test_a_check_finds_a_key_that_cannot_be_used(deployment: Path) -> None:
    (deployment / "three.pem").write_bytes(b"broken")
    code, output = pearl("check", "--config", deployment / "pearl.toml")
    assert (code, "keys.upcoming.0" in output) == (1, True)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_new_key_is_for_its_owner_alone_and_comes_with_the_next_steps(deployment: Path, algorithm: str) -> None:
    file = deployment / "new.pem"
    code, output = pearl("mint", file, "--algorithm", algorithm, "--config", deployment / "pearl.toml")
    key = PemKey(file.read_bytes())
    assert (code, key.algorithm) == (0, algorithm)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key.public.thumbprint() in output
    assert "BEGIN" not in output
    assert "After 5 minutes or more" in output
    assert "another 120 minutes" in output  # of the session: an ID token is a hint for as long


def test_a_first_key_can_be_made_before_there_is_a_configuration(tmp_path: Path) -> None:
    code, output = pearl("mint", tmp_path / "first.pem", "--config", tmp_path / "absent.toml")
    assert (code, "keys.upcoming" in output) == (0, True)


def test_a_key_is_never_written_over_a_file(deployment: Path) -> None:
    before = (deployment / "one.pem").read_bytes()
    code, output = pearl("mint", deployment / "one.pem", "--config", deployment / "pearl.toml")
    assert (code, (deployment / "one.pem").read_bytes()) == (1, before)
    assert "never written over" in output
