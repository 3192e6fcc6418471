"""What the fork server imports before it forks a process for each job; `preloaded` comes after it.

Python's garbage collection would look at everything again and again while it is imported, for nothing.
"""

import gc
import sys
from importlib import import_module

_MODULES = ("ablate.training.stage", "ablate.training.mixing", "ablate.executors.local")

gc.disable()
sys.modules["wandb"] = None  # type: ignore[assignment]  # timm imports it, which takes time and is no use here
try:
    for name in _MODULES:
        import_module(name)
finally:
    del sys.modules["wandb"]
