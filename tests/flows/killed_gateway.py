"""The gateway as it is served, but one process of a group dies at a given step of a delivery.

The first process that reaches the step and can create the file of the token kills itself with SIGKILL, as a power cut
would. Without a step it serves like any other.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from gateway.data import read_config
from gateway.serve import serve
from gateway.submissions.attempt import StepObserver
from gateway.submissions.queue import Claim
from gateway.telemetry import configure_logging
from gateway.waiting import new_event_loop


def dies_at(step: str, token: Path) -> StepObserver:
    """Return an observer that kills this process at the step, unless another process already died there."""

    def observe(reached: str, _claim: Claim) -> None:
        if reached != step:
            return
        try:
            token.touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    return observe


def main(arguments: Sequence[str]) -> None:
    """Serve; the arguments are configuration, step and token."""
    config, step, token = arguments
    configure_logging()
    loop = new_event_loop()
    work = serve(read_config(Path(config)), ready=lambda _bound: None, observe=dies_at(step, Path(token)))
    loop.run_until_complete(work)
