"""ablate.written.extract: a class of a cell, a script or a module becomes a module with all that it uses."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.manager import start_new_kernel
from traitlets.config import Config

from ablate.errors import AblateError
from ablate.techniques.base import Technique
from ablate.written.extract import module_text
from ablate.written.modules import load

START = "from typing import ClassVar\nimport math\nimport ablate\nfrom ablate.techniques import Technique"
GLOW = '''
class Glow(Technique):
    """Images glow."""

    name: ClassVar[str] = "glow"
    gain: float = 1.5

    def rates(self, rates, context):
        return {body}
'''

Run = Callable[..., None]


class Cells:
    """A notebook: cells that are run one after the other."""

    def __init__(self) -> None:
        self.shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))

    def run(self, *cells: str) -> None:
        for cell in cells:
            self.shell.run_cell(cell, store_history=True).raise_error()

    def glow(self, body: str) -> type[Technique]:
        """The class of a cell whose one method returns what `body` says."""
        self.run(GLOW.format(body=body))
        return self["Glow"]

    def __getitem__(self, name: str) -> Any:
        return self.shell.user_ns[name]


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cells]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # which IPython replaces
    cells = Cells()
    try:
        cells.run(START)
        yield cells
    finally:
        cells.shell.reset(new_session=False)
        InteractiveShell.clear_instance()


def rates(text: str, *given: float) -> list[float]:
    """What the technique of a module's text makes of rates."""
    return load("glow", text)["glow"]().rates([*given], None)


def test_the_module_says_all(cells: Cells):
    cells.run(
        "from collections import *\nimport numpy as np, os.path\nWIDE = 2 ** 3\nBIASES = (0.5, -1.0)",
        "def soften(x, by=WIDE):  # rarely 2\n    return x / by",
    )
    cells.run('''
from dataclasses import dataclass, field as attribute
unused = 3


# What it grows by.
@dataclass
class Growth:
    by: float = BIASES[0]
    log: list = attribute(default_factory=list)


class Glow(Technique):
    """Images glow."""

    name: ClassVar[str] = "glow"
    gain: float = 1.5   # of all

    def rates(self, rates, context: "Context | None" = None) -> list[float]:
        grown = OrderedDict((rate, soften(rate + Growth().by)) for rate in rates)
        return [float(np.float64(value)) + math.pi for value in grown.values()]
''')
    text = module_text(cells["Glow"])
    assert (
        text
        == '''\
"""The technique glow, as it was written in a notebook or a script."""

import math
import numpy as np
from ablate.techniques.base import Technique
from collections import OrderedDict
from dataclasses import dataclass, field as attribute
from typing import ClassVar


WIDE = 8


def soften(x, by=WIDE):  # rarely 2
    return x / by


BIASES = (0.5, -1.0)


# What it grows by.
@dataclass
class Growth:
    by: float = BIASES[0]
    log: list = attribute(default_factory=list)


class Glow(Technique):
    """Images glow."""

    name: ClassVar[str] = "glow"
    gain: float = 1.5   # of all

    def rates(self, rates, context: "Context | None" = None) -> list[float]:
        grown = OrderedDict((rate, soften(rate + Growth().by)) for rate in rates)
        return [float(np.float64(value)) + math.pi for value in grown.values()]
'''
    )
    assert rates(text, 7.5) == [1 + 3.141592653589793]


def test_running_the_cell_again_gives_the_same_text_and_other_code_another(cells: Cells):
    texts = [module_text(cells.glow(body)) for body in ("[1.0]", "[1.0]", "[2.0]", "[1.0]")]
    assert texts[0] == texts[1] == texts[3] != texts[2]
    assert rates(texts[2]) == [2.0]


def test_a_helper_of_another_cell_counts_as_it_is_now(cells: Cells):
    cells.run("def helper(x):\n    return x + 1")
    glow = cells.glow("[helper(rate) for rate in rates]")
    before = module_text(glow)
    cells.run("def helper(x):\n    return x + 2")
    after = module_text(glow)
    assert (rates(before, 1.0), rates(after, 1.0)) == ([2.0], [3.0])


def test_a_helper_that_another_cell_has_replaced(cells: Cells):
    cells.run("def helper(x):\n    return x + 1\n" + GLOW.format(body="[helper(rate) for rate in rates]"))
    cells.run("def helper(x):\n    return x + 2")
    assert rates(module_text(cells["Glow"]), 1.0) == [3.0]


@pytest.mark.parametrize(
    ("cell", "body", "given", "found"),
    [
        ("from operator import *", "[mul(rate, 3) for rate in rates]", 2.0, 6.0),
        ("double = lambda x: 2 * x", "[double(rate) for rate in rates]", 2.0, 4.0),
        ("def f(x): return 3 * x\ng = f", "[g(rate) for rate in rates]", 2.0, 6.0),
        (
            "import functools\n@functools.cache\ndef f(x):\n    return 3 * x",
            "[f(rate) for rate in rates]",
            2.0,
            6.0,
        ),
        (
            "def outer(x):\n    def inner(y):\n        return math.sqrt(y)\n    return inner(x)",
            "[outer(rate) for rate in rates]",
            9.0,
            3.0,
        ),
        (
            "def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n > 0 and even(n - 1)",
            "[float(even(rate)) for rate in rates]",
            4,
            1.0,
        ),
        ("a = 1; b = 2; c = a + b", "[rate * c for rate in rates]", 2.0, 6.0),
        (
            "try:\n    import no_such as best\nexcept ImportError:\n    best = None",
            "[rate if best is None else 0 for rate in rates]",
            2.0,
            2.0,
        ),
        ("import os.path\nimport os as system", "[float(os.path.isabs('/')) for rate in rates]", 2.0, 1.0),
        ("from enum import Enum\nclass Kind(Enum):\n    A = 3.0", "[Kind.A.value]", 2.0, 3.0),
        ("NOTHING = None", "[float(NOTHING is None) for rate in rates]", 2.0, 1.0),
        ("x: int = 4\nx += 1", "[float(x) for rate in rates]", 2.0, 5.0),
        (
            "from __future__ import annotations\ndef f(x: Unknown) -> Unknown: return x",
            "[f(rate) for rate in rates]",
            2.0,
            2.0,
        ),
        ("", "[len(str(rate)) * 1.0 for rate in rates]", 2.0, 3.0),
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_what_a_class_may_use(cells: Cells, cell: str, body: str, given: float, found: float, together: bool):
    whole = [cell + "\n\n" + GLOW.format(body=body)] if together else [cell, GLOW.format(body=body)]
    if together or "best = None" not in cell:  # which value it has is no function and no import
        cells.run(*whole)
        assert rates(module_text(cells["Glow"]), given) == [found]


def test_values_that_are_made_in_the_same_cell_are_made_again(cells: Cells):
    cells.run(
        "TABLE = {'a': [1.0, 2.0]}\nSUM = math.fsum(TABLE['a'])\n"
        "weigh = __import__('functools').partial(max, TABLE['a'][1])\n"
        + GLOW.format(body="[weigh(rate) + SUM for rate in rates]")
    )
    text = module_text(cells["Glow"])
    assert "SUM = 3.0" in text
    assert rates(text, 1.0, 5.0) == [5.0, 8.0]


def test_a_base_class_without_methods_of_an_earlier_cell(cells: Cells):
    cells.run("class Limits:\n    low = 1.0\n    high = 2.0")
    cells.run("class Limits:\n    low = 1.0\n    high = 3.0")
    glow = cells.glow("[min(max(rate, Limits.low), Limits.high) for rate in rates]")
    assert rates(module_text(glow), 0.0, 9.0) == [1.0, 3.0]


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        (
            "thing = object()",
            "Glow: uses thing, an object of this session, which cannot be written into a file",
        ),
        (
            "thing = [1, 2]",
            "Glow: uses thing, a list of this session, .*; define it in the same cell as Glow",
        ),
        ("thing = {}; thing[1] = thing", "Glow: uses thing, a dict of this session"),
        ("thing = float('nan')", "Glow: uses thing, a float of this session"),
        ("thing = 1; del thing", "Glow: uses thing, which is not defined here; define it first."),
        ("def thing(): return other", "Glow: uses other, which is not defined here"),
        ("thing = get_ipython().user_ns", "Glow: uses thing, a dict of this session"),
        ("import types; thing = types.ModuleType('made')", "Glow: uses thing, a module of this session"),
    ],
)
def test_what_cannot_be_written_into_a_file_is_named(cells: Cells, cell: str, told: str):
    cells.run(cell)
    with pytest.raises(AblateError, match=told):
        module_text(cells.glow("[thing]"))


@pytest.mark.parametrize(
    ("first", "then"),
    [("BY = 2.0", "BY = 3.0"), ("BY = [2.0]", "BY.append(1)"), ("import math as m", "m = ablate")],
)
def test_a_name_that_has_changed_since_is_refused(cells: Cells, first: str, then: str):
    name = "m" if " as m" in first else "BY"
    cells.run(first + "\n" + GLOW.format(body=f"[{name}]"), then)
    with pytest.raises(AblateError, match=f"Glow: uses {name}, which has changed since; run the cell"):
        module_text(cells["Glow"])


def test_a_class_that_another_has_replaced_is_refused(cells: Cells):
    old = cells.glow("[1.0]")
    cells.glow("[2.0]")
    with pytest.raises(AblateError, match="another Glow has been defined since; make the technique anew"):
        module_text(old)


def test_a_class_inside_a_function_is_refused(cells: Cells):
    cells.run(
        "def make():\n"
        + textwrap.indent(GLOW.format(body="[1.0]"), "    ")
        + "    return Glow\nGlow = make()"
    )
    with pytest.raises(AblateError, match=r"Glow: is defined inside make.<locals>; define it at the top"):
        module_text(cells["Glow"])


def test_a_class_without_a_source_is_refused(cells: Cells):
    cells.run(f"exec({GLOW.format(body='[1.0]')!r})")
    with pytest.raises(
        AblateError, match="Glow: its source cannot be found; define it in a file, or in a note"
    ):
        module_text(cells["Glow"])


SCRIPT = """\
from ablate.written.extract import module_text

if __name__ == "__main__":
    print(module_text(Glow), end="")
"""


def test_a_script_gives_the_same_as_a_cell(cells: Cells, tmp_path: Path):
    text = (
        START
        + "\nfrom operator import *\nHALF = 0.5\n"
        + GLOW.format(body="[mul(rate, HALF) for rate in rates]")
    )
    (tmp_path / "script.py").write_text(text + "\n\n" + SCRIPT)
    printed = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=True
    ).stdout
    cells.run(text)
    assert printed == module_text(cells["Glow"])
    assert "import mul\n" in printed
    assert "__main__" not in printed


def test_a_kernel_gives_the_same_as_a_shell(cells: Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "kernel"))
    bounds = "class Bounds:\n    low = {}"
    notebook = [START, bounds.format(1.0), bounds.format(2.0), GLOW.format(body="[max(Bounds.low, *rates)]")]
    notebook += ["from ablate.written.extract import module_text\nprint(module_text(Glow), end='')"]
    manager, client = start_new_kernel(kernel_name="python3")
    printed: list[str] = []
    try:
        for cell in notebook:
            reply = client.execute_interactive(
                cell,
                timeout=60,
                output_hook=lambda message: printed.append(message["content"].get("text", "")),
            )
            assert reply["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    cells.run(*notebook[:-1])
    assert "".join(printed) == module_text(cells["Glow"])
    assert rates("".join(printed), 0.5, 1.5) == [2.0]


def test_a_class_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "tricks_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text("def half(x):\n    return x / 2\n")
    (package / "glow.py").write_text(
        "from __future__ import annotations\n\nfrom .parts import half\n" + START + "\nBY = 3.0\n\n\n"
        "def more(x):\n    return half(x) * BY\n\n\ndef unused(): ...\n"
        + GLOW.format(body="[more(rate) for rate in rates]")
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = module_text(importlib.import_module("tricks_of_mine.glow").Glow)
    assert "from tricks_of_mine.parts import half\n" in text
    assert text.splitlines()[2] == "from __future__ import annotations"
    assert "unused" not in text
    assert rates(text, 4.0) == [6.0]
    for name in [name for name in sys.modules if name.startswith("tricks_of_mine")]:
        del sys.modules[name]


def test_everything_from_fastai(cells: Cells):
    cells.run("from fastai.vision.all import *")
    cells.run("""
class Dimmed(Transform):
    def __init__(self, by): store_attr()
    def encodes(self, x: TensorImage): return torch.clamp(x * self.by + imagenet_stats[0][0], 0, 1)


class Glow(Technique):
    name: ClassVar[str] = "glow"

    def batch_transforms(self, context):
        return [Dimmed(0.5), partial(F.relu, inplace=False), nn.Identity(), L(1)]
""")
    text = module_text(cells["Glow"])
    assert "*" not in text.split("class")[0]
    assert "from fastai.torch_core import TensorImage\n" in text
    assert "import torch.nn.functional as F\n" in text
    import torch
    from fastai.vision.all import TensorImage

    dimmed, *_ = load("glow", text)["glow"]().batch_transforms(None)
    assert torch.allclose(dimmed(TensorImage(torch.ones(1))), TensorImage(torch.tensor([0.5 + 0.485])))
