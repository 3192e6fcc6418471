"""`import ablate` is quick, and has the names of the notebook API."""

from __future__ import annotations

import subprocess
import sys

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
