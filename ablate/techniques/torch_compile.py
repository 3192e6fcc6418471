"""torch_compile: compile the network for speed."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from ablate import devices
from ablate.errors import AblateError
from ablate.techniques.base import Context, Technique


def missing_compiler() -> str | None:
    """What torch.compile would not find on this machine: a C++ compiler, or Python's header files."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"the C++ compiler {compiler}"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return None if header.is_file() else f"Python's header files ({header})"


class TorchCompile(Technique):
    """Compile the network with torch.compile: fewer, fused kernels, after a wait before the first step.

    What comes out differs in its last bits. It pays on a GPU and in long trainings alone. On XLA, which
    compiles whole steps anyway, it is refused.
    """

    name: ClassVar[str] = "torch_compile"
    paper: ClassVar[str] = "Ansel et al. 2024, PyTorch 2, doi 10.1145/3620665.3640366"
    order: ClassVar[int] = 99

    mode: Literal["default", "max-autotune-no-cudagraphs"] = Field(
        "default", description="torch.compile's; the other tries many kernels, which takes long."
    )

    def model(self, model: Any, context: Context) -> Any:
        if missing := missing_compiler():
            raise AblateError(
                f"torch_compile: {missing} is not on this machine; install it (on Debian: "
                "apt install g++ python3-dev), name another in CXX, or leave the technique out."
            )
        from torch import _inductor

        # in place, so that the weights keep their names; dropout draws what it would draw uncompiled
        options = {**_inductor.list_mode_options(self.mode), "fallback_random": True}
        devices.load(context.device).compile(model, options)
        return model
