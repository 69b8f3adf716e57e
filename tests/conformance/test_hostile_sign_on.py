"""Every region's sign-on against its own simulated authority turned hostile: nobody is ever signed on.

A region joins this suite unasked: it is found by its `region.toml`, and its authority says which attacks it knows (the
modes given to `authority_app` whose names begin with `hostile_`). No test knows a region or an attack by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.errors import RegionError, SignOnFailed
from gateway.ports import OnceOnly, UpstreamIdentity
from gateway.sandbox.authority import MISBEHAVIOUR
from tests.conformance.regions_support import Place, offering, opened, visiting

OFTEN = 1_000
"""How often an authority may attack, at most: what is left afterwards tells whether it did."""


@offering("sign_on")
async def test_a_hostile_authority_signs_nobody_on_and_leaves_nothing_behind(place: Place) -> None:
    """An attack is the only thing that is wrong: before it and after it, the same person signs on in the same way.

    Each attack meets an adapter that has seen nothing yet (an attack on what is fetched once would find it kept), and
    an authority that remembers earlier sign-ons (so that it can repeat one). What an attacker sent must not stay with
    the adapter either: the honest sign-on that follows succeeds.
    """
    assert hostile_modes(place), f"the authority of {place.id} knows no attack"
    honest = await sign_on(place)
    levels, spent = (honest.level,), honest.once
    for mode in hostile_modes(place):
        async with opened(place.config, place.id) as region:
            newly = replace(place, region=region)
            place.authority.app[MISBEHAVIOUR].order(mode, OFTEN)
            somebody = await tricked(newly, levels, spent)
            attacked = place.authority.app[MISBEHAVIOUR].active[mode] < OFTEN
            place.authority.behave()
            assert attacked, f"{place.id} was told to attack by {mode} and did nothing of the kind"
            assert not somebody, f"{place.id} attacked by {mode}, and somebody was signed on"
            assert (await sign_on(newly, levels)).subject == honest.subject, f"{mode} left something behind"


def hostile_modes(place: Place) -> list[str]:
    """Return the attacks that the region's authority knows."""
    return [mode for mode in place.authority.app[MISBEHAVIOUR].known if mode.startswith("hostile_")]


async def sign_on(place: Place, levels: Sequence[str] = ()) -> UpstreamIdentity:
    """Sign the region's first person on, by a proof made now. Raises what the adapter raises."""
    provider = place.region.adapter.sign_on
    assert provider is not None
    async with visiting(place, place.people()[0]) as visit:
        return await provider.complete(await visit.sign_in({}, levels=levels, fresh=True))


async def tricked(place: Place, levels: Sequence[str], spent: OnceOnly | None) -> bool:
    """Say whether the gateway would sign somebody on.

    What the adapter lets out is held against what the core alone refuses: an assertion that was used before, and a
    level that does not suffice.
    """
    try:
        identity = await sign_on(place, levels)
    except (SignOnFailed, RegionError):
        return False
    used = identity.once is not None and spent is not None and identity.once.value == spent.value
    return not used and identity.level in levels
