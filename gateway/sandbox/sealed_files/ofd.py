"""OFD files (GB/T 33190) of any size, with metadata and any number of seals.

Owns: the entries, the order in which they lie, and the list of digests. Leaves seals to `seals`.
"""

from __future__ import annotations

import base64
import zipfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from io import BytesIO
from xml.sax.saxutils import escape, quoteattr

from gateway.sandbox.sealed_files.seals import Sealer, sm3

NAMESPACE = 'xmlns:ofd="http://www.ofdspec.org/2016"'
LIST = "Doc_0/Signs/Signatures.xml"
Entries = dict[str, bytes]


def entries(metadata: Mapping[str, str], lines: Sequence[str], *, scan: bytes = b"") -> Entries:
    """Return the entries of a document of one page, ready to be sealed; `scan` is a picture that makes it larger."""
    custom = "".join(
        f"<ofd:CustomData Name={quoteattr(name)}>{escape(value)}</ofd:CustomData>" for name, value in metadata.items()
    )
    found = {
        "OFD.xml": _xml(
            f'<ofd:OFD {NAMESPACE} Version="1.1" DocType="OFD"><ofd:DocBody><ofd:DocInfo>'
            f"<ofd:DocID>{sm3(custom.encode()).hex()[:32]}</ofd:DocID><ofd:CustomDatas>{custom}</ofd:CustomDatas>"
            "</ofd:DocInfo><ofd:DocRoot>Doc_0/Document.xml</ofd:DocRoot>"
            f"<ofd:Signatures>{LIST}</ofd:Signatures></ofd:DocBody></ofd:OFD>"
        ),
        "Doc_0/Document.xml": _xml(
            f"<ofd:Document {NAMESPACE}><ofd:CommonData><ofd:MaxUnitID>{100 + len(lines)}</ofd:MaxUnitID><ofd:PageArea>"
            "<ofd:PhysicalBox>0 0 210 297</ofd:PhysicalBox></ofd:PageArea><ofd:PublicRes>PublicRes.xml</ofd:PublicRes>"
            '</ofd:CommonData><ofd:Pages><ofd:Page ID="1" BaseLoc="Pages/Page_0/Content.xml"/></ofd:Pages>'
            "</ofd:Document>"
        ),
        "Doc_0/PublicRes.xml": _xml(
            f'<ofd:Res {NAMESPACE} BaseLoc="Res"><ofd:Fonts><ofd:Font ID="3" FontName="宋体"/></ofd:Fonts></ofd:Res>'
        ),
        "Doc_0/Pages/Page_0/Content.xml": _xml(
            f'<ofd:Page {NAMESPACE}><ofd:Content><ofd:Layer ID="2">{"".join(map(_line, range(len(lines)), lines))}'
            "</ofd:Layer></ofd:Content></ofd:Page>"
        ),
    }
    if scan:
        found["Doc_0/Res/scan.jpg"] = scan
    return found


def _xml(body: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode()


def _line(number: int, text: str) -> str:
    """Return one line of text, 4 mm high; ASCII is half as wide as Chinese."""
    steps = " ".join("2.2" if character.isascii() else "4" for character in text[:-1])
    delta = f' DeltaX="{steps}"' if steps else ""
    return (
        f'<ofd:TextObject ID="{100 + number}" Boundary="20 {30 + 9 * number} 180 8" Font="3" Size="4">'
        f'<ofd:TextCode X="0" Y="6"{delta}>{escape(text)}</ofd:TextCode></ofd:TextObject>'
    )


def seal(
    found: Mapping[str, bytes], sealers: Sequence[Sealer], at: datetime, *, method: str = "1.2.156.10197.1.401"
) -> Entries:
    """Return the entries with the seals on them; each covers what was there before it, but for the list of seals."""
    sealed = dict(found)
    for number, sealer in enumerate(sealers):
        folder = f"Doc_0/Signs/Sign_{number}"
        description = _description(sealed, folder, at, method)
        sealed[f"{folder}/Signature.xml"] = description
        own = sealer.seal
        sealed[f"{folder}/Seal.esl"] = own
        sealed[f"{folder}/SignedValue.dat"] = sealer.sign(
            sm3(description), f"/{folder}/Signature.xml", at, seal=own
        )  # fmt: skip
    sealed[LIST] = listing(len(sealers))
    return sealed


def listing(count: int, kind: str = "Seal") -> bytes:
    """Return Signatures.xml."""
    lines = "".join(
        f'<ofd:Signature ID="{number + 1}" Type="{kind}" BaseLoc="/Doc_0/Signs/Sign_{number}/Signature.xml"/>'
        for number in range(count)
    )
    return _xml(f"<ofd:Signatures {NAMESPACE}><ofd:MaxSignId>{count}</ofd:MaxSignId>{lines}</ofd:Signatures>")


def _description(sealed: Mapping[str, bytes], folder: str, at: datetime, method: str) -> bytes:
    references = "".join(
        f'<ofd:Reference FileRef="/{name}"><ofd:CheckValue>{base64.b64encode(sm3(data)).decode()}</ofd:CheckValue>'
        "</ofd:Reference>"
        for name, data in sealed.items()
    )
    return _xml(
        f'<ofd:Signature {NAMESPACE}><ofd:SignedInfo><ofd:Provider ProviderName="pearl-sandbox" Version="1"/>'
        f"<ofd:SignatureMethod>1.2.156.10197.1.501</ofd:SignatureMethod>"
        f"<ofd:SignatureDateTime>{at:%Y%m%d%H%M%SZ}</ofd:SignatureDateTime>"
        f'<ofd:References CheckMethod="{method}">{references}</ofd:References>'
        '<ofd:StampAnnot ID="1" PageRef="1" Boundary="130 220 40 40"/>'
        f"<ofd:Seal><ofd:BaseLoc>/{folder}/Seal.esl</ofd:BaseLoc></ofd:Seal></ofd:SignedInfo>"
        f"<ofd:SignedValue>/{folder}/SignedValue.dat</ofd:SignedValue></ofd:Signature>"
    )


def zipped(found: Mapping[str, bytes], more: Sequence[tuple[zipfile.ZipInfo | str, bytes]] = ()) -> bytes:
    """Return the package; `more` are further entries, whatever their names."""
    target = BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (*found.items(), *more):
            archive.writestr(name, data)
    return target.getvalue()
