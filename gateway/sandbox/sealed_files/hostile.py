"""Certificate files that are wrong on purpose, each in one way, by name.

Owns: the variants. What a verifier must say of each stands with the verifier's tests, not here.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from gateway.sandbox import sm2
from gateway.sandbox.sealed_files import Certificate, Owner, SealedFiles, der, ofd, pdf
from gateway.sandbox.sealed_files.identities import (
    ENCRYPTS,
    SIGNS,
    EcIdentity,
    Sm2Identity,
    ec_identity,
    sm2_identity,
    years,
)
from gateway.sandbox.sealed_files.seals import Sealer

PAGE = "Doc_0/Pages/Page_0/Content.xml"
VALUE, SEAL = "Doc_0/Signs/Sign_0/SignedValue.dat", "Doc_0/Signs/Sign_0/Seal.esl"


@dataclass(frozen=True)
class _FixedSigner(Sm2Identity):
    """Signs everything with one r and s."""

    r: int = 0
    s: int = 0

    def sign(self, text: bytes) -> bytes:  # noqa: ARG002 - the text is the point of the others
        """Return r and s, whatever the text."""
        return der.sequence(der.integer(self.r), der.integer(self.s))


class HostileFiles:
    """Makes each variant from a good world, a good certificate, and an owner in it."""

    def __init__(self, world: SealedFiles, certificate: Certificate, owner: str) -> None:
        self._world = world
        self._certificate = certificate
        self._owner: Owner = world.owners[owner]
        self._sealer: Sealer = self._owner.sealer

    def names(self) -> list[str]:
        """Return all variants."""
        return [*self._ofd(), *self._pdf()]

    def make(self, name: str) -> bytes:
        """Return the file of a variant."""
        return {**self._ofd(), **self._pdf()}[name]()

    def _ofd(self) -> Mapping[str, Callable[[], bytes]]:
        return {
            "ofd_swapped_seal": self._swapped_seal,
            "ofd_swapped_seal_file": lambda: self._edited({SEAL: self._sealer.but(seal_id="OTHER").seal}),
            "ofd_unlisted_signer": lambda: self._by(self._sealer.but(signer=self._world.sm2_signer("路人"))),
            "ofd_unlisted_signer_by_digest": lambda: self._by(
                self._sealer.but(signer=self._world.sm2_signer("路人"), by_digest=True)
            ),
            "ofd_foreign_signature": lambda: self._signed_by_another(),
            "ofd_forged_seal": lambda: self._by(self._sealer.but(forger=self._world.sm2_signer("伪造者"))),
            "ofd_forged_old_seal": lambda: self._by(
                self._sealer.but(forger=self._world.sm2_signer("伪造者"), old=True)
            ),
            "ofd_maker_of_another_root": self._maker_of_another_root,
            "ofd_maker_under_a_signer": self._maker_under_a_signer,
            "ofd_signer_as_maker": self._signer_as_maker,
            "ofd_maker_may_not_sign": lambda: self._by(self._sealer.but(maker=self._sm2(usage=ENCRYPTS))),
            "ofd_seal_ended": lambda: self._by(self._sealer.but(ends=self._world.now - timedelta(seconds=1))),
            "ofd_seal_made_later": lambda: self._by(self._sealer.but(created=self._world.now + timedelta(days=1))),
            "ofd_expired_signer": lambda: self._by(self._listing(ends=-0.1)),
            "ofd_signer_not_yet_valid": lambda: self._by(self._listing(begins=0.1)),
            "ofd_signer_for_encryption": lambda: self._by(self._listing(usage=ENCRYPTS)),
            "ofd_signer_without_usage": lambda: self._by(self._listing(usage=None)),
            "ofd_signed_in_future": self._signed_in_future,
            "ofd_r_is_zero": lambda: self._with_signature(0, 1),
            "ofd_r_is_negative": lambda: self._with_signature(-1, 1),
            "ofd_r_is_order": lambda: self._with_signature(sm2.N, 1),
            "ofd_s_is_too_large": lambda: self._with_signature(1, 2**256),
            "ofd_r_and_s_cancel": lambda: self._with_signature(sm2.N - 5, 5),
            "ofd_value_in_ber": self._value_in_ber,
            "ofd_value_with_tail": lambda: self._edited({VALUE: self._entries()[VALUE] + b"\0"}),
            "ofd_value_is_noise": lambda: self._edited({VALUE: b"\x30\x03\x02\x01\x05"}),
            "ofd_wrong_version": lambda: self._by(self._sealer.but(version=2)),
            "ofd_critical_extension": lambda: self._by(self._sealer.but(critical=True)),
            "ofd_digests_by_sha1": lambda: self._entries_by_method("1.3.14.3.2.26"),
            "ofd_plain_signature": lambda: self._edited({ofd.LIST: ofd.listing(1, "Sign")}),
            "ofd_changed_page": lambda: self._edited({PAGE: self._entries()[PAGE].replace("：".encode(), b": ")}),
            "ofd_changed_metadata": lambda: self._edited(
                {"OFD.xml": self._entries()["OFD.xml"].replace(self._certificate.holder.encode(), "别人".encode())}
            ),
            "ofd_added_page": lambda: self._edited({"Doc_0/Pages/Page_1/Content.xml": self._entries()[PAGE]}),
            "ofd_removed_page": self._removed_page,
            "ofd_wrong_scope": lambda: self._of(type_code="11100000000013661B999", identifier=""),
            "ofd_two_types": lambda: self._of(type_code="11100000000013661B999"),
            "ofd_no_type": lambda: self._of(type_code="", identifier=""),
            "ofd_unregistered_seal": lambda: self._by(self._sealer.but(seal_id="NOBODYS")),
            "ofd_unsealed": lambda: self._edited({ofd.LIST: ofd.listing(0)}),
            "ofd_xxe": self._xxe,
            "ofd_hidden_doctype": self._hidden_doctype,
            "ofd_broken_xml": lambda: self._edited({ofd.LIST: b"<Signatures>"}),
            "ofd_reference_to_a_file": lambda: self._edited({ofd.LIST: self._list_to("file:///etc/passwd")}),
            "ofd_reference_outside": lambda: self._edited({ofd.LIST: self._list_to("../../../etc/passwd")}),
            "ofd_bomb": lambda: ofd.zipped({**self._entries(), "Doc_0/Res/zeros.bin": bytes(48 << 20)}),
            "ofd_many_entries": lambda: ofd.zipped(
                {**self._entries(), **{f"Doc_0/Res/{number}": b"" for number in range(1200)}}
            ),
            "ofd_path_traversal": lambda: ofd.zipped(self._entries(), [("../evil.xml", b"x")]),
            "ofd_absolute_name": lambda: ofd.zipped(self._entries(), [("/etc/evil", b"x")]),
            "ofd_double_entry": lambda: ofd.zipped(self._entries(), [(PAGE, b"<Page/>")]),
            "ofd_double_entry_by_case": lambda: ofd.zipped(self._entries(), [(PAGE.upper(), b"<Page/>")]),
            "ofd_link": self._link,
            "ofd_encrypted_entry": self._encrypted_entry,
            "ofd_cut_short": lambda: ofd.zipped(self._entries())[:-30],
            "ofd_something_in_front": lambda: b"PK\x03\x04" + ofd.zipped(self._entries()),
        }

    def _pdf(self) -> Mapping[str, Callable[[], bytes]]:
        return {
            "pdf_appended_update": lambda: pdf.updated(self._sealed_pdf(), 4, pdf.stream("0 0 9 9 re f")),
            "pdf_appended_nothing_visible": lambda: pdf.updated(self._sealed_pdf(), 9, "<<>>"),
            "pdf_appended_bytes": lambda: self._sealed_pdf() + b"\n% more\n",
            "pdf_changed_page": lambda: self._sealed_pdf().replace(b"40 760 Td", b"40 761 Td"),
            "pdf_changed_metadata": lambda: self._sealed_pdf().replace(
                self._certificate.holder.encode("utf-16-be").hex().encode(), "别人啊".encode("utf-16-be").hex().encode()
            ),
            "pdf_broken_signature": self._broken_signature,
            "pdf_unlisted_signer": lambda: self._pdf_by(
                ec_identity("路人", self._world.pdf_root, self._world.now - years(1), self._world.now + years(1))
            ),
            "pdf_signed_in_future": lambda: self._sealed_pdf(days=400),
            "pdf_expired_signer": lambda: self._sealed_pdf(days=-365 * 3),
            "pdf_wrong_scope": lambda: self._pdf_of(type_code="11100000000013661B999", identifier=""),
            "pdf_unsealed": lambda: pdf.objects(
                ["<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[]/Count 0>>", "<<>>"]
            ),
            "pdf_encrypted": lambda: self._sealed_pdf().replace(
                b"/Root 1 0 R/Info", b"/Encrypt<</Filter/Standard>>/Root 1 0 R/Info"
            ),
            "pdf_script": lambda: self._sealed_pdf(extra="/OpenAction<</S/JavaScript/JS(x)>>"),
            "pdf_cut_short": lambda: self._sealed_pdf()[:-200],
            "pdf_no_objects": lambda: b"%PDF-1.7\nstartxref\n0\n%%EOF\n",
            "pdf_table_in_circles": self._table_in_circles,
            "pdf_fields_in_circles": lambda: pdf.objects(
                [
                    "<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[3 0 R]>>>>",
                    "<</Type/Pages/Kids[]/Count 0>>",
                    "<</T(a)/Kids[3 0 R]>>",
                ]
            ),
            "pdf_fields_in_a_net": lambda: pdf.objects(
                [
                    "<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[3 0 R]>>>>",
                    "<</Type/Pages/Kids[]/Count 0>>",
                    *(f"<</T(a)/Kids[{number} 0 R {number} 0 R]>>" for number in range(4, 44)),
                    "<</T(b)/FT/Tx>>",
                ]
            ),
            "pdf_deep_arrays": lambda: pdf.objects(
                [f"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields{'[' * 20000}{']' * 20000}>>>>", "<<>>"]
            ),
            "pdf_signature_is_noise": lambda: self._noise(),
            "pdf_many_objects": lambda: pdf.objects(["<</Type/Catalog/Pages 2 0 R>>", *["<<>>"] * 51000]),
        }

    # --- OFD -------------------------------------------------------------------------------------------------------

    def _entries(self) -> ofd.Entries:
        return self._world.entries(self._certificate, [self._sealer])

    def _by(self, sealer: Sealer) -> bytes:
        return ofd.zipped(self._world.entries(self._certificate, [sealer]))

    def _of(self, **changes: str) -> bytes:
        changed = replace(self._certificate, **changes)  # type: ignore[arg-type]  # all fields that change are texts
        return ofd.zipped(self._world.entries(changed, [self._sealer]))

    def _edited(self, changes: ofd.Entries) -> bytes:
        return ofd.zipped({**self._entries(), **changes})

    def _sm2(self, *, begins: float = -2, ends: float = 3, usage: tuple[int, int] | None) -> Sm2Identity:
        now = self._world.now
        return sm2_identity("签章人", self._world.root, now + years(begins), now + years(ends), usage=usage)

    def _listing(self, *, begins: float = -2, ends: float = 3, usage: tuple[int, int] | None = (0xC0, 6)) -> Sealer:
        signer = self._sm2(begins=begins, ends=ends, usage=usage)
        return self._sealer.but(signer=signer, listed=[signer.certificate])

    def _swapped_seal(self) -> bytes:
        other = replace(self._certificate, holder="另一人")
        entries = self._world.entries(other, [self._sealer])
        return self._edited({VALUE: entries[VALUE], SEAL: entries[SEAL]})

    def _signed_by_another(self) -> bytes:
        stranger = self._world.sm2_signer("冒名者")
        forged = replace(stranger, certificate=self._sealer.signer.certificate)
        return self._by(self._sealer.but(signer=forged))

    def _maker_of_another_root(self) -> bytes:
        now = self._world.now
        root = sm2_identity(self._world.root.name, None, now - years(5), now + years(5), authority=True)
        return self._by(self._sealer.but(maker=sm2_identity("假制章人", root, now - years(3), now + years(3))))

    def _maker_under_a_signer(self) -> bytes:
        now = self._world.now
        signer = self._sm2(begins=-4, usage=SIGNS)
        return self._by(self._sealer.but(maker=sm2_identity("假制章人", signer, now - years(3), now + years(3))))

    def _signer_as_maker(self) -> bytes:
        """Whoever has a certificate for signatures under the makers' anchor makes the owner's seal anew, for itself."""
        stranger = self._sm2(usage=SIGNS)
        return self._by(self._sealer.but(maker=stranger, signer=stranger, listed=[stranger.certificate]))

    def _signed_in_future(self) -> bytes:
        entries = ofd.entries(self._certificate.metadata, self._certificate.lines)
        return ofd.zipped(ofd.seal(entries, [self._sealer], self._world.now + timedelta(days=1)))

    def _with_signature(self, r: int, s: int) -> bytes:
        fake = _FixedSigner(self._sealer.signer.name, self._sealer.signer.secret, self._sealer.signer.certificate, r, s)
        return self._by(self._sealer.but(signer=fake))

    def _value_in_ber(self) -> bytes:
        """The outermost length in more bytes than it needs: BER, and no DER."""
        value = self._entries()[VALUE]
        size = int.from_bytes(value[2:4], "big")
        return self._edited({VALUE: value[:1] + b"\x83" + size.to_bytes(3, "big") + value[4:]})

    def _entries_by_method(self, method: str) -> bytes:
        entries = ofd.entries(self._certificate.metadata, self._certificate.lines)
        return ofd.zipped(ofd.seal(entries, [self._sealer], self._world.now, method=method))

    def _removed_page(self) -> bytes:
        entries = self._entries()
        del entries[PAGE]
        return ofd.zipped(entries)

    def _xxe(self) -> bytes:
        doctype = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
        own = self._entries()["OFD.xml"].replace(b"?>\n", b"?>\n" + doctype)
        return self._edited({"OFD.xml": own.replace(b"</ofd:DocID>", b"&e;</ofd:DocID>")})

    def _hidden_doctype(self) -> bytes:
        """A document type in an encoding in which it cannot be seen by its bytes."""
        text = '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE x [<!ENTITY a "a">]><x>&a;</x>'
        return self._edited({ofd.LIST: text.encode("utf-16")})

    def _list_to(self, path: str) -> bytes:
        return ofd.listing(1).replace(b"/Doc_0/Signs/Sign_0/Signature.xml", path.encode())

    def _link(self) -> bytes:
        link = zipfile.ZipInfo("Doc_0/Res/link")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        return ofd.zipped(self._entries(), [(link, b"/etc/passwd")])

    def _encrypted_entry(self) -> bytes:
        """Say of the first entry, in both places, that it is encrypted."""
        raw = bytearray(ofd.zipped(self._entries()))
        raw[6] |= 1
        raw[raw.index(b"PK\x01\x02") + 8] |= 1
        return bytes(raw)

    # --- PDF -------------------------------------------------------------------------------------------------------

    def _sealed_pdf(self, *, days: int = 0, extra: str = "") -> bytes:
        at = self._world.now + timedelta(days=days)
        return self._world.pdf_by(self._certificate, self._owner.signer, at, extra=extra)

    def _pdf_by(self, signer: EcIdentity) -> bytes:
        return self._world.pdf_by(self._certificate, signer, self._world.now)

    def _pdf_of(self, **changes: str) -> bytes:
        changed = replace(self._certificate, **changes)  # type: ignore[arg-type]  # as above
        return self._world.pdf_by(changed, self._owner.signer, self._world.now)

    def _broken_signature(self) -> bytes:
        """The last byte of the ECDSA signature, which ends the CMS, is another."""
        raw = self._sealed_pdf()
        begin = raw.index(b"/Contents <") + len(b"/Contents <")
        end = begin + len(raw[begin : begin + pdf.ROOM].rstrip(b"0"))
        end += (end - begin) % 2
        last = b"00" if raw[end - 2 : end] != b"00" else b"01"
        return raw[: end - 2] + last + raw[end:]

    def _noise(self) -> bytes:
        raw = self._sealed_pdf()
        begin = raw.index(b"/Contents <") + len(b"/Contents <")
        return (
            raw[:begin]
            + der.sequence(der.octets(b"noise")).hex().encode().ljust(pdf.ROOM, b"0")
            + raw[begin + pdf.ROOM :]
        )

    def _table_in_circles(self) -> bytes:
        raw = self._sealed_pdf()
        start = raw[raw.rindex(b"startxref\n") :].split(b"\n")[1]
        return raw.replace(b"/Info 10 0 R>>", b"/Info 10 0 R/Prev " + start + b">>")
