"""Ratings (好差评): the scores, the closed list of indicators, and until when a bad rating is to be put right.

Owns: the rules. Leaves to `gateway.submissions.ratings`: taking a rating and passing it on.

Sources: GB/T 39735-2020 for the five scores; the national indicator list of the 好差评 system, which no place may add
to or take from; 国办发〔2019〕51号 for what is rated. The codes of the indicators are ours: none is published.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from gateway.domain.working_days import WorkingDays

BAD = 2
"""Scores up to this one are bad (差评): 2 dissatisfied, 1 very dissatisfied."""
CORRECTION_DAYS = 15
"""Working days in which what was rated badly is to be put right and answered."""

ONLINE: Mapping[str, str] = {
    "overall": "整体满意度",
    "handling_efficiency": "办事效率",
    "guide_accuracy": "办事指南精确度",
    "convenience": "办事便捷度",
    "platform_operation": "平台操作性",
}
"""Indicators of ratings that are given online (线上评价), with their names in the national list."""

OFFLINE: Mapping[str, str] = {
    "overall": "整体满意度",
    "service_efficiency": "服务效率",
    "service_level": "服务水平",
    "service_attitude": "服务态度",
}
"""Indicators of ratings that are given on the spot (线下评价)."""

CHANNELS: Mapping[str, Mapping[str, str]] = {
    "pc": ONLINE,
    "mobile": ONLINE,
    "qr": ONLINE,
    "sms": ONLINE,  # it carries a link to the page
    "hall": OFFLINE,
    "kiosk": OFFLINE,
    "hotline": OFFLINE,
}
"""Where a rating may be given (mappings/vocabulary.toml, rating.channel), and the indicators that are asked there."""


def is_bad(score: int) -> bool:
    """Say whether a score opens a correction."""
    return score <= BAD


def correct_on(rated_on: date, days: WorkingDays) -> date:
    """Return the last day of the correction of a bad rating, in the working days of who was rated."""
    return days.add(rated_on, CORRECTION_DAYS)
