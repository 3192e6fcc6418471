"""What the errors of devices mean, as far as their text tells."""

from __future__ import annotations

import re
from typing import NamedTuple


class Known(NamedTuple):
    """A known failure: a pattern of its text, what it means, and what to do."""

    pattern: str
    meaning: str
    mend: str


_KNOWN = (
    Known(
        r"already in use by process with pid (?P<pid>\d+)",
        "process {pid} holds the TPU, which serves one at a time",
        "see it with `ps -fp {pid}` and end it",
    ),
    Known(
        r"libtpu_lockfile|libtpu\.so already in use",
        "another process holds the TPU, or one has left its lock behind",
        "see `sudo lsof -w /dev/accel* /dev/vfio/*`, and if nobody has it, `sudo rm /tmp/libtpu_lockfile`",
    ),
    Known(
        r"/dev/(accel|vfio).*busy|busy.*/dev/(accel|vfio)",
        "another process holds the TPU, which serves one at a time",
        "see it with `sudo lsof -w /dev/accel* /dev/vfio/*` and end it",
    ),
    Known(
        r"/dev/(accel|vfio).*(not permitted|denied)|(not permitted|denied).*/dev/(accel|vfio)",
        "this user may not open the TPU",
        "in a container start it with `docker run --privileged`, else use sudo",
    ),
    Known(
        r"Expected \d+ worker addresses",
        "TPU_PROCESS_ADDRESSES, which Kaggle sets, keeps the TPU from starting",
        "`unset TPU_PROCESS_ADDRESSES CLOUD_TPU_TASK_ID`",
    ),
    Known(
        r"driver .{0,60} is too old",
        "NVIDIA's driver is too old for this build of torch",
        "upgrade the driver, or install torch for an older CUDA, as https://pytorch.org/get-started says",
    ),
    Known(
        r"no kernel image is available",
        "this build of torch has no code for this GPU",
        "install torch for another CUDA, as https://pytorch.org/get-started says",
    ),
    Known(
        r"CUDA.*(busy or unavailable|out of memory)",
        "another process holds the GPU",
        "see it with `nvidia-smi` and end it",
    ),
)


def explain(text: str) -> tuple[str, str] | None:
    """What an error means and what to do about it, None for one that is not known.

    Args:
        text: All that was printed about it.
    """
    for known in _KNOWN:
        match = re.search(known.pattern, text, re.IGNORECASE)
        if match:
            return known.meaning.format(**match.groupdict()), known.mend.format(**match.groupdict())
    return None
