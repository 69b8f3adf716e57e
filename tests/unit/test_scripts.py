"""Simplified and traditional Chinese: what a conversion says does not depend on what is in memory."""

from __future__ import annotations

from gateway.mapping import scripts


def test_a_dictionary_that_was_let_go_of_is_there_again_for_the_next_text() -> None:
    """A process lets go of them once its mappings were tried; the first case that needs one must not notice."""
    converter = scripts.of_script("hant-hk")
    before = converter.say("陈晓东")
    scripts.rest()
    assert (converter.say("陈晓东"), before) == ("陳曉東", "陳曉東")
