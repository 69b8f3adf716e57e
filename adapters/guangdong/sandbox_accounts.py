"""The accounts of the simulated authority of Guangdong and what tokeninfo tells of them (README.md, "Attributes").

Owns: the attributes of a natural person, of a legal person with its handler, and of a natural account under a legal
person's; the levels of an account's methods in both forms; and the lies that a hostile authority tells. Leaves to
`sandbox_signon`: who is signed on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

WAYS: Mapping[str, Mapping[str, str]] = {
    "1": {"1": "PLV", "2": "CA", "3": "YSS", "4": "GW"},
    "2": {"1": "IC", "2": "CA", "3": "YSS", "4": "GW"},
}
"""Kind of user → method of a session → its name among the levels."""

_BEIJING = timezone(timedelta(hours=8))
_ENROLLED = "20230220090000"
_BUSINESS = ["zzlx=91", "djzt=1", "sfzy=1", "sfxw=1", "zczb=1000000", "zczbbz=156", "clrq=20180301", "lxdh=-1"]
"""What the business registry adds to every organisation here; `-1` is what it does not know."""


@dataclass(frozen=True, slots=True)
class Proof:
    """How somebody proved who they are: by which method, when (Unix seconds), and whether to tell it in list form."""

    method: str
    at: float
    listed: bool


Told = dict[str, Any]
Lie = Callable[[Told, Mapping[str, Any], Sequence[Mapping[str, Any]]], Told]


def subject_of(person: Mapping[str, Any]) -> str:
    """Return `useridcode` of the account that a person signs on with."""
    return f"UC{person['uid']}"


def level_of(person: Mapping[str, Any], method: str) -> str:
    """Return the level that a method of this account has."""
    levels: Mapping[str, str] = person["levels"]
    return levels.get(WAYS[person["usertype"]].get(method, ""), "L0")


def told_of(person: Mapping[str, Any], proof: Proof) -> Told:
    """Return what tokeninfo answers."""
    organisation = person.get("organisation")
    if organisation is None:
        return _account(person, proof) | _natural(person)
    if person["usertype"] == "2":
        return _account(person, proof) | _legal(organisation) | _handled_by(person)
    child = _account(person, proof) | _natural(person) | {"parent_uidcode": organisation["code"]}
    parent = {"useridcode": organisation["code"], "usertype": "2", "isreal": "true"} | _legal(organisation)
    return {"userobj": child, "pareobj": parent, "user_creditable_level": child["creditable_level_of_account"]}


def _account(person: Mapping[str, Any], proof: Proof) -> Told:
    levels: Mapping[str, str] = person["levels"]
    best = max(levels.values(), default="L0")
    return {
        "uid": person["uid"],
        "useridcode": subject_of(person),
        "telephonenumber": person.get("mobile", ""),
        "mail": person.get("mail", ""),
        "area": person["area"],
        "usertype": person["usertype"],
        "origin": "gdbs",
        "accout_type": proof.method,  # the wire misspells it
        "createtime": _ENROLLED,
        "uversion": "1",
        "isreal": "false" if best == "L0" else "true",
        "realtype": next((way for way in ("PLV", "SI", "IC", "DC") if way in levels), ""),
        "creditable_level_of_account": best,
        "creditable_level_of_account_way": _listed(person, proof) if proof.listed else _in_line(person),
    }


def _natural(person: Mapping[str, Any]) -> Told:
    return {
        "cn": person["name"],
        "idcardtype": person["id_type"],
        "idcardnumber": person["id_number"],
        "sex": person["sex"],
    }


def _legal(organisation: Mapping[str, Any]) -> Told:
    return {
        "cn": organisation["name"],
        "idcardtype": organisation["id_type"],
        "idcardnumber": organisation["id_number"],
        "address": organisation.get("address", "-1"),
        "legal_person": organisation["legal_person"],
        "legal_id_type": organisation["legal_id_type"],
        "legal_code": organisation["legal_code"],
        "attributes": [*_BUSINESS, f"xzqhdm={organisation['region_code']}"],
    }


def _handled_by(person: Mapping[str, Any]) -> Told:
    return {
        "link_person_name": person["name"],
        "link_person_type": person["id_type"],
        "link_person_code": person["id_number"],
    }


def _in_line(person: Mapping[str, Any]) -> str:
    return "||".join(f"{level}@{way}@{_unique(person['uid'], way)}" for way, level in person["levels"].items())


def _listed(person: Mapping[str, Any], proof: Proof) -> list[dict[str, str]]:
    """The list form: of the session's method it also says when it was proved."""
    mine = WAYS[person["usertype"]].get(proof.method)
    return [
        {
            "identity_level": level,
            "way_code": way,
            "auth_time": moment(proof.at) if way == mine else "-1",
            "credential_no": person["id_number"],
            "user_name": person["name"],
            "auth_identification": "-1",
            "uniqueid": _unique(person["uid"], way),
        }
        for way, level in person["levels"].items()
    ]


def moment(at: float) -> str:
    """Return Unix seconds as `yyyyMMddHHmmss`, Beijing time."""
    return datetime.fromtimestamp(at, _BEIJING).strftime("%Y%m%d%H%M%S")


def _unique(uid: str, way: str) -> str:
    return hashlib.sha256(f"{uid}/{way}".encode()).hexdigest()[:32]


# --- lies --------------------------------------------------------------------------------------------------------


def _somebody_else(told: Told, person: Mapping[str, Any], people: Sequence[Mapping[str, Any]]) -> Told:
    other = next(one for one in people if one["uid"] != person["uid"] and "organisation" not in one)
    return told | _natural(other) | {"uid": other["uid"], "useridcode": subject_of(other)}


def _other_organisation(told: Told, person: Mapping[str, Any], _people: Sequence[Mapping[str, Any]]) -> Told:
    parent = {"useridcode": "UCGD-ELSEWHERE", "usertype": "2", "cn": "别家有限公司", "idcardtype": "49"}
    child = told | {"useridcode": subject_of(person), "usertype": "1", "parent_uidcode": "UCGD-ITS-OWN"}
    return {"userobj": child, "pareobj": parent | {"idcardnumber": "91440300MA5T00029H"}}


def _dated(told: Told, seconds: float) -> Told:
    """Move the time of every proof in the list form by so many seconds."""
    ways = told["creditable_level_of_account_way"]
    for way in ways if isinstance(ways, list) else []:
        if way["auth_time"] != "-1":
            said = datetime.strptime(way["auth_time"], "%Y%m%d%H%M%S").replace(tzinfo=_BEIJING)
            way["auth_time"] = moment(said.timestamp() + seconds)
    return told


LIES: Mapping[str, tuple[str, Lie]] = {
    "hostile_attributes_of_another": ("answers tokeninfo with the attributes of another person", _somebody_else),
    "hostile_no_subject": (
        "leaves useridcode out of the attributes",
        lambda told, *_: {name: value for name, value in told.items() if name != "useridcode"},
    ),
    "hostile_account_maximum": (
        "tells the best level of the account and no level of the session's method",
        lambda told, *_: told | {"creditable_level_of_account": "L3", "creditable_level_of_account_way": "L3@SI@x"},
    ),
    "hostile_levels_without_reality": (
        "says isreal=false beside levels above L0",
        lambda told, *_: told | {"isreal": "false"},
    ),
    "hostile_level_above_the_best": (
        "gives a method more than the best level of the account",
        lambda told, *_: told | {"creditable_level_of_account": "L1"},
    ),
    "hostile_two_truths": (
        "names the method of the session twice, differently",
        lambda told, *_: told | {"attributes": ["accout_type=4", "kzsx=1"]},
    ),
    "hostile_stale_proof": (
        "passes a proof of yesterday off for one made now",
        lambda told, *_: _dated(told, -86_400),
    ),
    "hostile_proof_to_come": ("dates the proof an hour ahead", lambda told, *_: _dated(told, 3_600)),
    "hostile_unknown_kind": ("signs on a kind of user that nobody knows", lambda told, *_: told | {"usertype": "3"}),
    "hostile_no_handler": (
        "answers for a legal person without saying who handles the account",
        lambda told, *_: told | {"usertype": "2", "link_person_name": "-1", "link_person_code": ""},
    ),
    "hostile_mixed_accounts": (
        "puts a natural account under a legal person that is not its own",
        _other_organisation,
    ),
    "hostile_objects_for_texts": (
        "puts an object where a text belongs",
        lambda told, *_: told | {"useridcode": {"$ne": ""}, "accout_type": ["3"]},
    ),
    "hostile_huge_document": (
        "answers with more than a MiB",
        lambda told, *_: told | {"pad": "x" * (1 << 21)},
    ),
}
"""What a hostile authority can lie about in tokeninfo: mode → what happens, and how."""


def spoken(told: Told) -> bytes:
    """Return the attributes as bytes: what the gateway keeps the digest of."""
    return json.dumps(told, ensure_ascii=False).encode()
