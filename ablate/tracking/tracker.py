"""The handle of whoever runs a study on the process that tells W&B. Imports nothing of W&B.

W&B can be slow, wrong or gone: no call here raises for its sake, and none but the last one takes any time.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from ablate.tracking.modes import choose

SENT, AGAIN, REFUSED = 0, 75, 77
"""The process's exit codes: all was sent; it may go better next time; a person has to do something."""
_TRIES = 3
"""Processes that may end one after the other at the end without having sent anything whole."""
_PAUSES = (1.0, 5.0, 15.0, 60.0)
"""Seconds before the process is started again, the last one from then on; when finishing, the first."""
PATIENCE, SHARE = 2.0, 0.01
"""How long W&B is waited for when it does not answer at the end: seconds, or a share of the study's time."""
STUCK = 10.0
"""Seconds after which it is given up though it answers, if none of the study's runs gets through."""
PATIENT = (8.0, 45.0)
"""Seconds that somebody who waits for nothing else waits for an answer, and for a run."""
UPLOAD = 900.0
"""Seconds for a run that has weights with it, which is no matter of rows."""
_QUIET = 2.0
"""Seconds after which it is shown what is being waited for."""
SLOW = 1.0
"""Seconds that a service which is well does not take for a small answer."""


class Tracker:
    """Tells W&B what a study does, from the files in its folder.

    Args:
        folder: The study's.
        mode: auto, online, offline or off.
        note: Shows a sentence to the person.
        weights: Whether the weights that predict go along.
        everything: Whether what was sent before is looked at again.
        quiet: Whether problems are not shown: whoever asked looks at `problems`.

    Raises:
        AblateError: There is no such mode.
    """

    def __init__(
        self,
        folder: Path,
        mode: str,
        note: Callable[[str], None],
        *,
        weights: bool = False,
        everything: bool = False,
        quiet: bool = False,
    ):
        self.folder, self.mode, self._note, self._quiet = folder, choose(mode), note, quiet
        self._weights = weights
        options = ["--weights"] * weights + ["--all"] * everything
        words = ["-m", "ablate.tracking.process", str(folder), self.mode, *options]
        self._command = [sys.executable, *words]
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self.problems: list[str] = []
        """What has gone wrong, as clauses that name the next step."""
        self._closing = threading.Event()
        self._finishing = threading.Event()
        self._ended = threading.Event()
        self._begun = self._moved = time.monotonic()
        self._unanswered: float | None = None
        """Since when there has been no good answer to a question that was asked."""
        self._asks = False
        self._answers: bool | None = None
        self._progress = (0, 0)
        self._slow = SLOW
        self.online = False
        """Whether W&B has answered."""
        self.sent = self.mode == "off"
        """Whether everything was sent."""

    def start(self) -> None:
        """Follow the folder from now on; it has its plan and its recipe. Once is enough."""
        if self.mode == "off" or self._thread is not None:
            return
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=self._keep_running, daemon=True)
        self._thread.start()

    def finish(self, patient: bool = False) -> None:
        """Send the rest: all outputs are written. Ctrl-C gives it up.

        Args:
            patient: Whether W&B may be slow. Else it is waited for by how long the study took, and not at all
                if it did not answer before.
        """
        if self.mode == "off" or self._closing.is_set():
            return
        self.start()
        with suppress(KeyboardInterrupt):
            self._wait(patient)
        self.abandon()
        if not self.sent and not self.problems:
            unheard = "it does not answer; look at the network and WANDB_BASE_URL"
            self._say(unheard if self._asks and not self.online else "it did not take everything in time")
        elif self.sent and self.problems and self._answers and not self._quiet:
            self._note(f"W&B: everything of {self.folder} has been sent after all")

    def abandon(self) -> None:
        """End at once; nothing happens a second time."""
        self._closing.set()
        self._finishing.set()
        self._kill()
        if self._thread is not None:
            self._thread.join(5)

    def _wait(self, patient: bool) -> None:
        """Wait until everything is sent, as long as W&B answers."""
        began = self._moved = time.monotonic()
        silent, stuck = max(PATIENCE, SHARE * (began - self._begun)), STUCK
        if patient:
            silent, stuck, self._slow = *PATIENT, math.inf
            stuck = UPLOAD if self._weights else stuck
        elif self._answers is False:
            return
        self._finishing.set()
        self._write("finish")
        show = began + _QUIET
        while not self._ended.wait(0.05):
            now = time.monotonic()
            if self._answers is False and not self.online and not patient:
                return
            if self._unanswered is not None and now - max(self._unanswered, began) > silent:
                return
            if now - self._moved > stuck:
                return
            if now > show and self._progress[1]:
                show = now + 5 * _QUIET
                self._note("W&B: sending {} of {} runs".format(*self._progress))

    def _keep_running(self) -> None:
        """Have a process send, and another one if that ends for reasons that may pass."""
        tries = vain = 0
        while not self._closing.is_set():
            sent, finishing = self._progress[0], self._finishing.is_set()
            code = self._run()
            self.sent = code == SENT
            vain = vain + 1 if finishing and self._progress[0] == sent else 0
            if code in (SENT, REFUSED) or vain == _TRIES:
                break
            if self._finishing.is_set():
                self._closing.wait(_PAUSES[0])
            else:
                self._finishing.wait(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1
        self._ended.set()

    def _run(self) -> int:
        """One process from its beginning to its end; gives its exit code."""
        try:
            # whatever ends it, wandb's temporary files do not stay behind
            with tempfile.TemporaryDirectory(prefix="ablate-", ignore_cleanup_errors=True) as temporary:
                self._process = self._begin(temporary)
                return self._follow(self._process)
        except OSError as error:
            self._say(f"the process that tells W&B cannot be started ({error.strerror})")
            return -1

    def _begin(self, temporary: str) -> subprocess.Popen[str]:
        with self._log() as log:
            return subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"TMPDIR": temporary},
                start_new_session=True,
            )

    def _follow(self, process: subprocess.Popen[str]) -> int:
        """Hear a process until it ends; gives its exit code."""
        if self._closing.is_set():
            self._kill()
        if self._finishing.is_set():
            self._write("finish")
        assert process.stdout is not None
        for line in process.stdout:
            self._hear(line)
        code = process.wait()
        self._kill()  # what it has left behind
        return code

    def _hear(self, line: str) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            return
        if "online" in message:
            self._asks, self._unanswered = message["online"], None
        if "asking" in message and self._unanswered is None:
            self._unanswered = time.monotonic()
        if "note" in message:
            self._say(message["note"])
        if "answers" in message:
            self._answers = message["answers"]
            self.online = self.online or bool(self._answers)
            if self._answers and message["seconds"] < self._slow:
                self._unanswered = None
        if "sent" in message:
            if message["sent"] > self._progress[0]:  # more than any process before has sent
                self._moved = time.monotonic()
            self._progress = max(message["sent"], self._progress[0]), message["of"]

    def _say(self, problem: str) -> None:
        """Show what is wrong, with the next step; one problem a study is enough."""
        if not self.problems and not self._quiet:
            self._note(f"W&B: {problem}; the study goes on, and `ablate sync {self.folder}` sends it later.")
        self.problems.append(problem)

    def _log(self) -> IO[bytes]:
        try:
            (self.folder / "logs").mkdir(parents=True, exist_ok=True)
            return (self.folder / "logs" / "wandb.log").open("ab")
        except OSError:
            return Path(os.devnull).open("ab")

    def _write(self, word: str) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError, ValueError):
                process.stdin.write(word + "\n")
                process.stdin.flush()

    def _kill(self) -> None:
        """End the process and all that it has started."""
        if self._process is not None:
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
