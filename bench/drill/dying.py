"""A gateway as it is served, which kills itself at a given step of a delivery.

`python -m bench.drill.dying CONFIG STEP COUNT`: when STEP is reached for the COUNT-th time the process sends itself
SIGKILL, as a power cut would. With the step `none` it serves like any other.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from gateway.data import read_config
from gateway.serve import serve
from gateway.submissions.attempt import StepObserver
from gateway.submissions.queue import Claim
from gateway.telemetry import configure_logging
from gateway.waiting import new_event_loop


def dies_at(step: str, count: int) -> StepObserver:
    """Return an observer that kills this process when the step is reached for the count-th time."""
    left = count

    def observe(reached: str, _claim: Claim) -> None:
        nonlocal left
        left -= reached == step
        if reached == step and left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return observe


def main() -> None:
    """Serve."""
    config, step, count = sys.argv[1:4]
    configure_logging()
    loop = new_event_loop()
    observe = dies_at(step, int(count))
    loop.run_until_complete(serve(read_config(Path(config)), ready=lambda _bound: None, observe=observe))


if __name__ == "__main__":
    main()
