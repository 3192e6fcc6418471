"""ablate.written.modules: a text becomes techniques, or says with file and line why it does not."""

from __future__ import annotations

import ast
import inspect
import sys
import traceback
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate import techniques
from ablate.errors import AblateError
from ablate.techniques.base import Technique, source_hash
from ablate.written import modules

GLOW = '''\
"""Make images glow."""
from typing import ClassVar

from ablate.techniques import Technique

OFFSET, DIVISOR = 3, 4.0


def brightened(x, gain: float):
    # a comment
    low, high = 0.0, 1.0
    return min(max(x * gain + OFFSET / DIVISOR, low), high)


class Glow(Technique):
    """Images glow."""

    name: ClassVar[str] = "glow"
    gain: float = 1.5

    def rates(self, rates, context):
        return [brightened(rate, self.gain) for rate in rates]

    def sampler(self, context, epoch):
        raise KeyError(epoch)
'''


def test_a_text_gives_its_techniques():
    found = modules.load("glow", GLOW)
    assert [*found] == ["glow"]
    glow = found["glow"](gain=0.5)
    assert isinstance(glow, Technique)
    assert glow.rates([0.1, 5.0], None) == [0.8, 1.0]
    assert modules.load("glow", GLOW)["glow"] is found["glow"]
    assert "glow" not in techniques.registry()


def test_two_versions_do_not_mix():
    other = GLOW.replace("OFFSET, DIVISOR = 3, 4.0", "OFFSET, DIVISOR = 3, 10.0")
    before, after = ({"glow": source} for source in (GLOW, other))
    for sources, wanted in [(before, 0.75), (after, 0.3), (before, 0.75)]:
        assert techniques.build("glow", {}, sources).rates([0.0], None) == [wanted]
    with pytest.raises(KeyError):
        techniques.build("glow")


def test_a_text_may_have_several_techniques_and_other_classes():
    more = GLOW + '\nclass Dim(Glow):\n    name: ClassVar[str] = "dim"\n\nclass Other:\n    name = "other"\n'
    assert [*modules.load("two", more)] == ["glow", "dim"]
    sources = {"two": more}
    assert set(techniques.known(sources)) - set(techniques.registry()) == {"glow", "dim"}
    assert set(techniques.registry()) < set(techniques.known(sources))


def test_tracebacks_and_inspect_show_its_lines():
    glow = modules.load("glow", GLOW)["glow"]
    assert modules.text_of(glow) == GLOW == inspect.getsource(inspect.getmodule(glow))
    assert inspect.getsource(glow.sampler).splitlines()[-1] == "        raise KeyError(epoch)"
    with pytest.raises(KeyError) as caught:
        glow().sampler(None, 0)
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.line, last.lineno) == ("raise KeyError(epoch)", len(GLOW.splitlines()))
    assert modules.text_of(techniques.build("mixup").__class__) is None


def test_the_source_is_part_of_the_identity():
    glow = techniques.build("glow", {}, {"glow": GLOW})
    wanted = blake2b(GLOW.encode(), digest_size=16).hexdigest()
    assert glow.identity({}) == {"name": "glow", "version": 1, "options": {"gain": 1.5}, "source": wanted}
    renamed = techniques.build("glow", {}, {"other": GLOW})  # what the file is called changes nothing
    assert renamed.identity({}) == glow.identity({})


@pytest.mark.parametrize("name", ["mixup", "tta", "normalize"])
def test_ablate_s_own_have_versions_instead(name: str):
    assert source_hash(techniques.registry()[name]) is None
    assert "source" not in techniques.build(name).identity({})


def test_a_technique_that_derives_from_ablate_s_own_has_a_source():
    text = "import ablate\nfrom typing import ClassVar\nclass Mine(ablate.techniques.MixUp):\n"
    mine = modules.load("mine", text + '    name: ClassVar[str] = "mine"\n')["mine"]
    assert mine().identity({})["source"]


@given(st.data())
def test_every_edit_of_the_code_changes_the_identity(data: st.DataObject):
    tree = ast.parse(GLOW)
    numbers = [
        node for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in (3, 4.0, 1.5)
    ]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    edit = data.draw(st.sampled_from(["number", "statement", "operator", "default"]))
    if edit == "number":
        data.draw(st.sampled_from(numbers)).value += data.draw(st.integers(1, 10**6))
    elif edit == "statement":
        body = data.draw(st.sampled_from(functions)).body
        body.insert(data.draw(st.integers(0, len(body) - 1)), ast.Pass())
    elif edit == "operator":
        operations = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp)]
        data.draw(st.sampled_from(operations)).op = ast.Sub()
    else:
        functions[0].args.defaults = [ast.Constant(data.draw(st.floats(0, 9)))]
    before, after = ast.unparse(ast.parse(GLOW)), ast.unparse(ast.fix_missing_locations(tree))
    assert before != after
    identities = [techniques.build("glow", {}, {"glow": text}).identity({}) for text in (before, after)]
    assert identities[0]["source"] != identities[1]["source"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\ny = (2\n", "glow.py:2: this is not valid Python: '.' was never closed."),
        ("x = 1\n", "glow.py: there is no technique in it; write a class that derives from"),
        ("import no_such_package_here\n", r"glow.py:1: cannot be imported here \(No module named 'no_such"),
        ("from math import no_such_name\n", "glow.py:1: cannot be imported here .*install what it needs"),
        ("def f():\n    return 1 / 0\n\nf()\n", r"glow.py:2: fails .* \(ZeroDivisionError: division by zero"),
        ("raise SystemExit\n", r"glow.py:1: fails when it is imported \(SystemExit: no message\)"),
        (
            "class Glow:\n    name = 'glow'\n",
            "glow.py: Glow is no technique; derive it from ablate.techniques",
        ),
        (
            "from ablate.techniques import Technique\nclass Glow(Technique):\n    pass\n",
            "glow.py: Glow has no name; give it one",
        ),
        (
            "from ablate.techniques import Technique\nclass Glow(Technique):\n    name = 'my glow'\n",
            "glow.py: a technique is named 'my glow'; a name is one word",
        ),
        (
            "from ablate.techniques import Technique\nclass Glow(Technique):\n    name = 'glow'\n    a = 2\n",
            "glow.py:2: fails when it is imported .PydanticUserError: A non-annotated attribute",
        ),
        ("x = '\0'", "glow.py: .*null bytes"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, told: str):
    with pytest.raises(AblateError, match=told) as caught:
        modules.load("glow", text)
    assert "\n" not in str(caught.value)


def test_a_module_that_fails_is_not_left_behind():
    with pytest.raises(AblateError):
        modules.load("half", "x = 1\nraise ValueError\n")
    assert not [name for name in sys.modules if name.startswith(f"{modules.PREFIX}half")]
