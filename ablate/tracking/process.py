"""The process that tells W&B: `python -m ablate.tracking.process STUDY MODE [--weights] [--all]`.

It follows the study's folder until its standard input says `finish`, sends what is left, and ends. When its
standard input is closed, whoever started it has gone, and it ends at once. On its standard output it tells, a
line of JSON each: `{"online": whether W&B is asked or files are written}`, `{"asking": true}` and then
`{"answers": whether it does, "seconds": …}`, `{"note": problem}`, `{"sent": n, "of": m}`. Whatever goes wrong
ends it, and another one goes on from what has arrived: see `tracker`.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import Timeout

from ablate.tracking import environment
from ablate.tracking.notes import Notes
from ablate.tracking.pulse import Pulse
from ablate.tracking.sender import Sender, Tell
from ablate.tracking.service import Account, Service, as_problem, find_account
from ablate.tracking.tracker import AGAIN, REFUSED, SENT

_LOOK = 0.5
"""Seconds between looks at the folder."""


def main(words: list[str]) -> int:
    """Send a study until it is finished; gives the exit code.

    Args:
        words: Of the command line.
    """
    folder, mode, options = Path(words[0]), words[1], words[2:]
    tell, finishing = _connect()
    os.nice(10)
    environment.prepare(folder)
    try:
        notes = Notes(folder)
        with _alone(notes, tell):
            _send(folder, mode, options, notes, tell, finishing)
    except Exception as error:
        traceback.print_exc()
        problem = as_problem(error)
        tell({"note": str(problem)})
        return REFUSED if problem.lasting else AGAIN
    return SENT


def _send(
    folder: Path, mode: str, options: list[str], notes: Notes, tell: Tell, finishing: threading.Event
) -> None:
    account = None if mode == "offline" else find_account()
    if account is None and mode == "online":
        note = "there is no API key, so only files are written; run `wandb login` or set WANDB_API_KEY"
        tell({"note": note})
    tell({"online": account is not None})
    pulse = None if account is None else _answering(account, tell, finishing)

    from ablate.tracking.client import Client  # wandb takes its time: not before it is needed

    if account is None or pulse is None:
        client = Client(
            folder, os.environ.get("WANDB_PROJECT") or "ablate", os.environ.get("WANDB_ENTITY"), True
        )
        sender = Sender(notes, client, "offline", None, tell, "--weights" in options)
    else:
        entity = account.entity or pulse.entity
        client = Client(folder, account.project, entity, False)
        place = f"{account.url} {entity or ''}/{account.project}"
        if "--all" in options:
            notes.forget(place)
        sender = Sender(notes, client, place, pulse.service, tell, "--weights" in options)
    while not finishing.wait(_LOOK):
        if pulse is None or pulse.problem is None:
            sender.look()
            importlib.import_module("ablate.analysis.plots")  # for the end, while nobody waits
            importlib.import_module("ablate.analysis.saved")
    sender.finish()


def _answering(account: Account, tell: Tell, finishing: threading.Event) -> Pulse:
    """Wait until the service answers."""
    pulse = Pulse(Service(account), tell, finishing)
    pulse.start()
    pulse.asked.wait()
    while pulse.problem is not None:
        if pulse.problem.lasting:
            raise pulse.problem
        time.sleep(0.2)
    return pulse


def _alone(notes: Notes, tell: Tell) -> Any:
    """The lock, since two processes that send the same runs would mix their rows."""
    try:
        return notes.lock.acquire(timeout=5)
    except Timeout:
        tell({"note": f"another process is sending {notes.folder.parent}; it goes on when that has ended"})
        return notes.lock.acquire()


def _connect() -> tuple[Tell, threading.Event]:
    """Take over standard input and output: what tells whoever started this, and what they set."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what wandb prints goes to the log
    finishing = threading.Event()

    def tell(message: dict[str, Any]) -> None:
        with suppress(OSError):
            out.write(json.dumps(message) + "\n")

    def listen() -> None:
        for line in sys.stdin:
            if line.strip() == "finish":
                finishing.set()
        os.killpg(os.getpgrp(), signal.SIGKILL)  # wandb's own process too

    threading.Thread(target=listen, daemon=True).start()
    return tell, finishing


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # wandb's exit hooks would wait for the network
