"""`import ablate` is quick, and has the names of the notebook API; the tests' own modules have one each."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import ablate


def test_import_brings_nothing_heavy():
    code = "import ablate, sys; print(len({'torch', 'numpy', 'pandas', 'pydantic'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "0\n"
    )


def test_names_are_there():
    assert ablate.Recipe.__name__ == "Recipe"
    assert ablate.Study.__name__ == "Study"
    assert callable(ablate.effects)
    assert ablate.techniques.MixUp(alpha=0.2).alpha == 0.2
    assert set(ablate.__all__) <= set(dir(ablate))


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'recipes'"):
        ablate.recipes  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        ablate.techniques.Nothing  # noqa: B018


def test_no_two_modules_of_the_tests_share_a_name():
    """Whichever is imported first would stand for both: the tests are no packages."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("*.py"))
    assert [name for name, count in names.items() if count > 1] == ["conftest.py"]
