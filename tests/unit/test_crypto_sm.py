"""SM2, SM3 and SM4: the standards' own vectors, a second implementation as oracle, and whatever must be refused.

The oracle is gmalg, which is pure Python; held against it are GmSSL (SM2) and OpenSSL (SM3, SM4) behind our forms.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import gmalg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.crypto.sm2 import DEFAULT_ID, CipherForm, N, SignatureForm, Sm2PrivateKey, Sm2PublicKey, generate
from gateway.crypto.sm4 import SIZES, Sealed, StreamOpen, StreamSeal, Suite, seal, sm3, unseal
from gateway.crypto.sm_keys import (
    UntrustedKeyError,
    private_pem,
    public_pem,
    read_pins,
    read_private,
    read_public,
)
from gateway.minting import Mint

# GM/T 0003.5-2012, annexes A and C (the recommended curve).
SECRET = bytes.fromhex("3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8")
POINT = bytes.fromhex(
    "09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020"
    "CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13"
)
R = 0xF5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3
S = 0xB1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA
C1 = bytes.fromhex(
    "0404EBFC718E8D1798620432268E77FEB6415E2EDE0E073C0F4F640ECD2E149A73"
    "E858F9D81E5430A57B36DAAB8F950A3C64E6EE6A63094D99283AFF767E124DF0"
)
C3 = bytes.fromhex("59983C18F809E262923C53AEC295D30383B54E39D609D160AFCB1908D0BD8766")
C2 = bytes.fromhex("21886CA989CA9C7D58087307CA93092D651EFA")

KEY = Sm2PrivateKey(SECRET)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FEW = settings(max_examples=15, deadline=None)  # the oracle needs some 20 ms a time

signature_forms = pytest.mark.parametrize("form", get_args(SignatureForm))
cipher_forms = pytest.mark.parametrize("form", get_args(CipherForm))
suites = pytest.mark.parametrize("suite", get_args(Suite))


def raw(r: int, s: int) -> bytes:
    return r.to_bytes(32) + s.to_bytes(32)


# --- SM2: vectors and oracle -------------------------------------------------------------------------------------


def test_the_public_key_of_the_standard_follows_from_its_private_key() -> None:
    assert KEY.public.point == POINT


def test_the_signature_of_the_standard_verifies_in_both_forms() -> None:
    message = b"message digest"
    assert KEY.public.verify(message, raw(R, S), "raw")
    assert KEY.public.verify(message, encode_dss_signature(R, S), "der")


def test_the_ciphertext_of_the_standard_opens_in_both_orders() -> None:
    assert KEY.decrypt(C1 + C3 + C2, "c1c3c2") == b"encryption standard"
    assert KEY.decrypt(C1 + C2 + C3, "c1c2c3") == b"encryption standard"


@given(message=st.binary(max_size=300), signer_id=st.binary(min_size=1, max_size=40))
@FEW
def test_what_we_sign_verifies_at_the_oracle_and_the_reverse(message: bytes, signer_id: bytes) -> None:
    """Both under ids of any length: Z must be made alike."""
    oracle = gmalg.SM2(SECRET, signer_id)
    signature = KEY.sign(message, "raw", signer_id)
    assert oracle.verify(message, signature[:32], signature[32:])
    r, s = (part.rjust(32, b"\0") for part in oracle.sign(message))
    assert KEY.public.verify(message, r + s, "raw", signer_id)


@given(plain=st.binary(min_size=1, max_size=255))
@FEW
def test_what_we_encrypt_opens_at_the_oracle_and_the_reverse(plain: bytes) -> None:
    """The oracle itself writes and reads C1C3C2 alone."""
    oracle = gmalg.SM2(SECRET)
    assert oracle.decrypt(KEY.public.encrypt(plain, "c1c3c2")) == plain
    cipher = oracle.encrypt(plain)
    assert KEY.decrypt(cipher, "c1c3c2") == plain
    assert KEY.decrypt(cipher[:65] + cipher[97:] + cipher[65:97], "c1c2c3") == plain


@signature_forms
def test_a_new_key_signs_in_every_form(form: SignatureForm) -> None:
    key = generate()
    assert key.public.verify(b"text", key.sign(b"text", form), form)


@cipher_forms
def test_a_new_key_opens_what_was_encrypted_for_it_in_every_form(form: CipherForm) -> None:
    key = generate()
    assert key.decrypt(key.public.encrypt(bytes(48), form), form) == bytes(48)


def test_a_secret_does_not_show_when_a_key_is_printed() -> None:
    assert SECRET.hex() not in repr(KEY)
    assert repr(SECRET) not in repr(KEY)


# --- SM2: what must not verify, what must not open ---------------------------------------------------------------


@pytest.mark.parametrize(
    "signature",
    [
        raw(0, S), raw(R, 0), raw(0, 0), raw(N, S), raw(R, N), raw(R, N - R), raw(2**256 - 1, S),
        raw(R, S)[:-1], raw(R, S) + b"\0", b"", raw(S, R),
    ],
)  # fmt: skip
def test_a_raw_signature_that_is_malformed_or_out_of_range_is_refused(signature: bytes) -> None:
    """Guard: the range check of `signature_parts`; r + s = n would make the public key drop out of the equation."""
    assert not KEY.public.verify(b"message digest", signature, "raw")


@pytest.mark.parametrize(("r", "s"), [(R, S + N), (R + N, S), (0, 0), (R, N - R)])
def test_a_der_signature_out_of_range_is_refused(r: int, s: int) -> None:
    """DER can hold s + n, which is the same number modulo n: one message would have many signatures."""
    assert not KEY.public.verify(b"message digest", encode_dss_signature(r, s), "der")


def test_what_is_malformed_or_out_of_range_never_reaches_gmssl(capfd: pytest.CaptureFixture[str]) -> None:
    """It prints to stderr when it refuses, and whoever sends nonsense could fill our log. Guard: `signature_parts`.

    GmSSL refuses these too; that is the second line of defence.
    """
    for signature in (raw(0, S), raw(R, N), raw(R, N - R), b"", raw(R, S)[:-1]):
        assert not KEY.public.verify(b"message digest", signature, "raw")
    assert not KEY.public.verify(b"message digest", encode_dss_signature(R, S + N), "der")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("added", [b"\0", b"\x30\x00"])
def test_a_der_signature_with_something_behind_it_is_refused(added: bytes) -> None:
    assert not KEY.public.verify(b"message digest", encode_dss_signature(R, S) + added, "der")


def test_a_signature_counts_for_its_message_its_key_and_its_id_alone() -> None:
    signature = KEY.sign(b"text", "raw")
    assert KEY.public.verify(b"text", signature, "raw", DEFAULT_ID)
    assert not KEY.public.verify(b"texT", signature, "raw")
    assert not KEY.public.verify(b"text", signature, "raw", b"another")
    assert not generate().public.verify(b"text", signature, "raw")


@cipher_forms
@pytest.mark.parametrize("spot", [5, 40, 80, -1])
def test_an_altered_ciphertext_does_not_open(form: CipherForm, spot: int) -> None:
    cipher = bytearray(KEY.public.encrypt(b"a content key...", form))
    cipher[spot] ^= 1
    with pytest.raises(ValueError, match=r"decrypt|form|error parsing"):
        KEY.decrypt(bytes(cipher), form)


@cipher_forms
@pytest.mark.parametrize("cipher", [b"", b"\x04", bytes(97), b"\x04" + bytes(96), b"\x04" + bytes(200), bytes(400)])
def test_what_is_no_ciphertext_is_refused_with_one_kind_of_error(form: CipherForm, cipher: bytes) -> None:
    """One of them begins with a point that is not on the curve: multiplying it would tell something of our key."""
    with pytest.raises(ValueError, match=r"decrypt|form|error parsing"):
        KEY.decrypt(cipher, form)


def test_a_ciphertext_in_the_other_order_does_not_open() -> None:
    with pytest.raises(ValueError, match="decrypt"):
        KEY.decrypt(KEY.public.encrypt(bytes(16), "c1c2c3"), "c1c3c2")


@pytest.mark.parametrize("length", [0, 256])
def test_only_short_texts_are_encrypted_with_sm2(length: int) -> None:
    with pytest.raises(ValueError, match="1 to 255"):
        KEY.public.encrypt(bytes(length), "c1c3c2")


@pytest.mark.parametrize("secret", [bytes(32), (N - 1).to_bytes(32), N.to_bytes(32), b"\xff" * 32, SECRET[:-1], b""])
def test_a_number_out_of_range_is_no_private_key(secret: bytes) -> None:
    with pytest.raises(ValueError, match="not an SM2 private key"):
        Sm2PrivateKey(secret)


@pytest.mark.parametrize("point", [bytes(64), POINT[:-1] + b"\0", POINT[:63], b"\x04" + POINT, b"", POINT[::-1]])
def test_what_is_not_on_the_curve_is_no_public_key(point: bytes) -> None:
    with pytest.raises(ValueError, match="point"):
        Sm2PublicKey(point)


# --- SM3 and SM4 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        (b"abc", "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),
        (b"abcd" * 16, "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"),
    ],
)
def test_the_digests_of_the_standard_come_out(text: bytes, digest: str) -> None:
    """GB/T 32905, annex A."""
    assert sm3(text).hex() == digest


@given(data=st.binary(max_size=300))
@FEW
def test_sm3_agrees_with_the_oracle(data: bytes) -> None:
    oracle = gmalg.SM3()
    oracle.update(data)
    assert sm3(data) == oracle.value()


def test_the_block_of_the_standard_comes_out() -> None:
    """GB/T 32907, annex A.1, as the first block of CBC under a zero vector."""
    block = bytes.fromhex("0123456789abcdeffedcba9876543210")
    sealed = seal("SM4-CBC-HMAC-SM3", block + bytes(32), bytes(16), block, b"")
    assert sealed.text[:16].hex() == "681edf34d206965e86b3e94f536e4246"


def test_the_gcm_vector_of_rfc_8998_comes_out() -> None:
    """RFC 8998, appendix A.1."""
    key, iv = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"), bytes.fromhex("00001234567800000000ABCD")
    plain = b"".join(bytes([value]) * 8 for value in (0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF, 0xEE, 0xAA))
    bound = bytes.fromhex("FEEDFACEDEADBEEFFEEDFACEDEADBEEFABADDAD2")
    sealed = seal("SM4-GCM", key, iv, plain, bound)
    assert sealed.text.hex().upper() == (
        "17F399F08C67D5EE19D0DC9969C4BB7D5FD46FD3756489069157B282BB200735"
        "D82710CA5C22F0CCFA7CBF93D496AC15A56834CBCF98C397B4024A2691233B8D"
    )
    assert sealed.tag.hex().upper() == "83DE3541E4C2B58177E065A9BF7B62EC"


def sealing(suite: Suite, plain: bytes, bound: bytes = b"bound") -> tuple[bytes, Sealed]:
    key = bytes(range(SIZES[suite].key))
    return key, seal(suite, key, bytes(SIZES[suite].iv), plain, bound)


@suites
@given(plain=st.binary(max_size=200), bound=st.binary(max_size=40))
@settings(deadline=None)
def test_what_was_sealed_opens_again(suite: Suite, plain: bytes, bound: bytes) -> None:
    key, sealed = sealing(suite, plain, bound)
    assert unseal(suite, key, sealed, bound) == plain


@suites
@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: Sealed(s.iv, bytes([s.text[0] ^ 1]) + s.text[1:], s.tag),
        lambda s: Sealed(s.iv, s.text[:-16], s.tag),
        lambda s: Sealed(s.iv, b"", s.tag),
        lambda s: Sealed(b"\1" + s.iv[1:], s.text, s.tag),
        lambda s: Sealed(s.iv[1:], s.text, s.tag),
        lambda s: Sealed(s.iv, s.text, b"\1" + s.tag[1:]),
        lambda s: Sealed(s.iv, s.text, s.tag[:12]),
        lambda s: Sealed(s.iv, s.text, b""),
    ],
    ids=["text", "shorter", "empty", "vector", "short vector", "tag", "short tag", "no tag"],
)
def test_nothing_that_was_altered_opens(suite: Suite, spoil: Callable[[Sealed], Sealed]) -> None:
    """Guard for the tags: their length is that of the suite; GCM itself would take a shorter one."""
    key, sealed = sealing(suite, b"a person's data, more than a block of it")
    with pytest.raises(ValueError, match=r"decrypt|length"):
        unseal(suite, key, spoil(sealed), b"bound")


@suites
def test_content_opens_only_with_its_key_and_what_it_is_bound_to(suite: Suite) -> None:
    key, sealed = sealing(suite, b"text")
    for wrong_key, bound in ((key, b"other"), (key[:-1] + b"\xff", b"bound"), (b"\xff" + key[1:], b"bound")):
        with pytest.raises(ValueError, match="decrypt"):
            unseal(suite, wrong_key, sealed, bound)


@given(pieces=st.lists(st.binary(max_size=70), max_size=5))
@settings(deadline=None)
def test_a_stream_is_sealed_as_the_whole_would_be(pieces: list[bytes]) -> None:
    """Whatever the pieces are: who opens it need not know that it was streamed, and its length is known before."""
    key, whole = sealing("SM4-CBC-HMAC-SM3", b"".join(pieces))
    stream = StreamSeal(key, whole.iv, b"bound")
    made = stream.iv + b"".join(map(stream.update, pieces)) + stream.finish()
    assert made == whole.iv + whole.text + whole.tag
    assert len(made) == StreamSeal.size(sum(map(len, pieces)))


@given(plain=st.binary(max_size=100), step=st.integers(1, 60))
@settings(deadline=None)
def test_a_stream_opens_in_whatever_pieces_it_comes(plain: bytes, step: int) -> None:
    key, whole = sealing("SM4-CBC-HMAC-SM3", plain)
    sealed, stream = whole.iv + whole.text + whole.tag, StreamOpen(key, b"bound")
    opened = b"".join(stream.update(sealed[begin : begin + step]) for begin in range(0, len(sealed), step))
    assert opened + stream.finish() == plain


def test_a_stream_that_was_altered_cut_or_meant_for_another_does_not_end_well() -> None:
    """Its tag stands at its end: until then it looks as if it were right, and so `finish` must not be left out."""
    key, whole = sealing("SM4-CBC-HMAC-SM3", b"a person's data, more than a block of it")
    sealed = whole.iv + whole.text + whole.tag
    altered = [sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :] for place in range(len(sealed))]
    cut = [sealed[:length] for length in range(len(sealed))]
    for spoilt, bound in [*((each, b"bound") for each in altered + cut), (sealed + b"X", b"bound"), (sealed, b"other")]:
        stream = StreamOpen(key, bound)
        stream.update(spoilt)
        with pytest.raises(ValueError, match="does not decrypt"):
            stream.finish()


def test_padding_is_looked_at_only_after_the_tag_was_right() -> None:
    """Otherwise whoever asks often enough reads the text (padding oracle): both faults look the same from outside."""
    key, sealed = sealing("SM4-CBC-HMAC-SM3", b"text")
    texts = set()
    for last in range(1, 256):
        altered = Sealed(sealed.iv, sealed.text[:-1] + bytes([sealed.text[-1] ^ last]), sealed.tag)
        with pytest.raises(ValueError, match="decrypt") as refused:
            unseal("SM4-CBC-HMAC-SM3", key, altered, b"bound")
        texts.add(str(refused.value))
    assert len(texts) == 1


# --- key files ---------------------------------------------------------------------------------------------------


def test_keys_are_read_from_every_form_that_is_written() -> None:
    assert read_private(private_pem(KEY)) == read_private(SECRET.hex().encode()) == KEY
    written = (public_pem(KEY.public), POINT.hex().encode(), b"04" + POINT.hex().encode() + b"\n")
    assert {read_public(each).point for each in written} == {POINT}


def as_pem(label: str, der: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n{base64.b64encode(der).decode()}\n-----END {label}-----\n".encode()


def test_the_older_form_which_names_its_curve_is_read() -> None:
    """`EC PRIVATE KEY` (RFC 5915), as OpenSSL and GmSSL write it."""
    head, public = "30770201010420", "a00a06082a811ccf5501822da14403420004"
    der = bytes.fromhex(head) + SECRET + bytes.fromhex(public) + POINT
    assert read_private(as_pem("EC PRIVATE KEY", der)) == KEY


def on_p256() -> tuple[bytes, bytes]:
    key = ec.derive_private_key(int.from_bytes(SECRET), ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), public


def test_a_key_on_another_curve_is_refused() -> None:
    private, public = on_p256()
    with pytest.raises(ValueError, match="another curve"):
        read_private(private)
    with pytest.raises(ValueError, match="another curve"):
        read_public(public)


@pytest.mark.parametrize(
    "material",
    [
        b"", b" \n", b"zz", b"\xff\xfe", SECRET.hex().encode()[:-2],
        "-----BEGIN {0}-----\nAAAA\n-----END {0}-----".format("PRIVATE KEY").encode(),
    ],
)  # fmt: skip
def test_what_is_no_key_is_refused_without_repeating_it(material: bytes) -> None:
    for read in (read_private, read_public):
        with pytest.raises(ValueError, match=r"key|point|PEM|parsing") as refused:
            read(material)
        assert SECRET.hex()[:16] not in str(refused.value)


def test_a_private_key_with_the_public_part_of_another_is_refused() -> None:
    der = base64.b64decode("".join(private_pem(KEY).decode().splitlines()[1:-1]))
    mixed = der[:-64] + generate().public.point
    with pytest.raises(ValueError, match="belong together"):
        read_private(as_pem("PRIVATE KEY", mixed))


# --- pinned keys -------------------------------------------------------------------------------------------------


def pin(key_id: str = "a", begins: str = "2026-01-01T00:00:00Z", ends: str = "2027-01-01T00:00:00Z") -> str:
    public = f'public_key = "{POINT.hex()}"'
    return f'[[key]]\nid = "{key_id}"\nnot_before = {begins}\nnot_after = {ends}\n{public}\n'


def test_several_pinned_keys_are_in_force_at_once() -> None:
    """That is how a peer rolls over: the new key is pinned before it speaks, the old one until it falls silent."""
    pins = read_pins((pin("old") + pin("new", begins="2026-02-01T08:00:00+08:00")).encode())
    assert pins.key("old", NOON).point == pins.key("new", NOON).point == POINT


@pytest.mark.parametrize(
    ("moment", "why"),
    [
        (datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC), "not valid yet"),
        (datetime(2027, 1, 1, tzinfo=UTC), "expired"),
    ],
)
def test_a_key_speaks_only_in_its_term(moment: datetime, why: str) -> None:
    pins = read_pins(pin().encode())
    assert pins.key("a", datetime(2026, 1, 1, tzinfo=UTC))
    assert pins.key("a", datetime(2027, 1, 1, tzinfo=UTC) - timedelta(seconds=1))
    with pytest.raises(UntrustedKeyError, match=why):
        pins.key("a", moment)


def test_a_key_that_is_not_pinned_is_never_found() -> None:
    with pytest.raises(UntrustedKeyError, match="not pinned"):
        read_pins(pin().encode()).key("b", NOON)


@pytest.mark.parametrize(
    "text",
    [
        "", "key = []", "[[key]]", "not toml at all", pin() + pin(), pin("an id with spaces"),
        pin(ends="2026-01-01T00:00:00Z"), pin(begins="2026-01-01T00:00:00"), pin(begins='"2026-01-01"'),
        pin().replace("not_after = 2027-01-01T00:00:00Z\n", ""), pin() + 'use = "sign"\n',
        pin().replace("09f9", "0000"),
    ],
)  # fmt: skip
def test_a_pin_file_that_leaves_anything_open_is_refused(text: str) -> None:
    """A key without term, an id used twice, a time without zone: nobody guesses what was meant."""
    with pytest.raises(ValueError, match=r"."):
        read_pins(text.encode())


CERTIFICATE = """
-----BEGIN CERTIFICATE-----
MIIBpjCCAU2gAwIBAgIUNb61K9fui7o6jp5TmvKnPIUqvnwwCgYIKoEcz1UBg3Uw
KTEWMBQGA1UEAwwNcHJvdmluY2UgdGVzdDEPMA0GA1UECgwG5rWL6K+VMB4XDTI2
MTEyOTE0NTIzOFoXDTM2MTEyNjE0NTIzOFowKTEWMBQGA1UEAwwNcHJvdmluY2Ug
dGVzdDEPMA0GA1UECgwG5rWL6K+VMFkwEwYHKoZIzj0CAQYIKoEcz1UBgi0DQgAE
NoTRs02i3JrFud2E2BO88VQeVFaF3gi0x5XLkacnZxxbfW9dNi3niHJbJFoMC4lL
aLkFmDQ3k09MvGa64Yko3KNTMFEwHQYDVR0OBBYEFEyPsN8jqG8C6+QlYO2pUefE
jeOIMB8GA1UdIwQYMBaAFEyPsN8jqG8C6+QlYO2pUefEjeOIMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoEcz1UBg3UDRwAwRAIgEqELyWFtbnHy//pM5MEXRyq/578IfVfE
rfNc/QYc3T8CIB8ND03edxrsucxwDl2IXmspPf5h4v+SxBSwafd+D2tx
-----END CERTIFICATE-----
"""
"""Made with OpenSSL 3 for this test, with Chinese in its subject; the private key was thrown away."""


def test_a_certificate_is_pinned_with_its_key_and_its_term() -> None:
    """Provinces hand out certificates of a mainland CA; `cryptography` reads all of one but the SM2 key in it."""
    pins = read_pins(f"[[key]]\nid = 'a'\ncertificate = '''{CERTIFICATE}'''\n".encode())
    key = pins.key("a", datetime(2030, 1, 1, tzinfo=UTC))
    assert key.point.hex().startswith("3684d1b34da2dc9ac5b9dd84d813bcf1541e545685de08b4c795cb91a727671c")
    for outside in (datetime(2026, 11, 29, 14, 52, 37, tzinfo=UTC), datetime(2036, 11, 26, 14, 52, 38, tzinfo=UTC)):
        with pytest.raises(UntrustedKeyError):
            pins.key("a", outside)


def test_a_certificate_does_not_stand_beside_a_term_of_its_own() -> None:
    """One of the two would be wrong, and nobody could say which."""
    text = f"[[key]]\nid = 'a'\nnot_after = 2040-01-01T00:00:00Z\ncertificate = '''{CERTIFICATE}'''\n"
    with pytest.raises(ValueError, match="nothing else"):
        read_pins(text.encode())


def test_a_certificate_of_another_kind_of_key_is_refused(tmp_path: Path) -> None:
    Mint(tmp_path).certificate("peer", "peer.test")
    pem = (tmp_path / "peer.cert.pem").read_text(encoding="ascii")
    with pytest.raises(ValueError, match=r"curve|parsing"):
        read_pins(f"[[key]]\nid = 'a'\ncertificate = '''{pem}'''\n".encode())


def test_minted_pairs_and_pins_belong_together(tmp_path: Path) -> None:
    mint = Mint(tmp_path)
    for name in ("current", "retired", "next"):
        mint.sm2_pair(name)
    mint.sm2_pins("province", ["current", "retired@expired", "next@future"])
    pins, now = read_pins((tmp_path / "province.pins.toml").read_bytes()), datetime.now(UTC)
    key = read_private((tmp_path / "current.key.pem").read_bytes())
    assert pins.key("current", now) == key.public == read_public((tmp_path / "current.pub.pem").read_bytes())
    for name in ("retired", "next"):
        with pytest.raises(UntrustedKeyError):
            pins.key(name, now)
