"""Whether a machine can run a study's stages: its store, its versions, its data."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from ablate.data.inspect import file_hash
from ablate.errors import AblateError
from ablate.executors.base import Needs
from ablate.executors.fitness import Token, check_data, check_python, check_versions, check_weights
from ablate.recipe.recipe import Recipe
from ablate.study.job import Job
from ablate.study.plan import versions
from ablate.study.prepare import prepare, presizes_of
from ablate.study.store import Store


@pytest.fixture
def token(tmp_path: Path) -> Token:
    store = Store(tmp_path / "store")
    store.make_writable()
    return Token(store.root / ".work" / ".ray-run", "run")


def test_a_store_is_the_same_where_its_token_is(token: Token):
    token.write()
    token.check()
    token.remove()
    assert list(token.path.parent.iterdir()) == []


@pytest.mark.parametrize("there", [None, "another run"])
def test_a_store_without_the_token_is_another_one(token: Token, there: str | None):
    if there:
        token.path.write_text(there)
    with pytest.raises(
        AblateError, match=r"^the stage store .*/store is another folder there, or none; set ABLATE_STORE"
    ):
        token.check()


def test_a_store_has_to_be_writable(token: Token):
    """A folder is in the way of the probe; root may write anywhere else."""
    token.write()
    token.path.with_name(f".ray-run.{platform.node()}.{os.getpid()}").mkdir()
    with pytest.raises(
        AblateError, match=r"^the stage store .* cannot be written there \(.*\); let the user that Ray"
    ):
        token.check()


def test_a_token_disturbs_no_store(token: Token):
    token.write()
    store = Store(token.path.parent.parent)
    store.sweep()
    assert store.keys() == []
    token.check()


def test_python_is_the_same_up_to_the_minor_version():
    major, minor, _ = platform.python_version_tuple()
    check_python(f"{major}.{minor}.99")
    with pytest.raises(
        AblateError, match=rf"^has Python {platform.python_version()}, and the study is run with 3\.1\.2;"
    ):
        check_python("3.1.2")


def test_packages_are_the_same():
    check_versions({"timm": metadata.version("timm")})
    with pytest.raises(
        AblateError, match=r"^has timm .*, and the study is run with 0\.1, which gives other numbers;"
    ):
        check_versions({"timm": "0.1"})


def test_a_package_that_is_missing_is_named(monkeypatch):
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    versions.cache_clear()
    with pytest.raises(AblateError, match=r"^has no torch; install ablate there with what it needs\.$"):
        check_versions({"torch": "2.9"})


@pytest.fixture
def needs(photos: Path) -> Needs:
    recipe = Recipe.from_dict(
        {
            "name": "p",
            "data": {
                "root": str(photos),
                "table": "table.csv",
                "image": {"column": "image"},
                "split": {"column": "is_val"},
            },
            "model": {"arch": "test_vit", "pretrained": False},
            "size": 32,
            "phases": [{"name": "one", "epochs": 1}],
        }
    )
    presizes = tuple((one.shorter, one.quality) for one in presizes_of(recipe))
    return Needs(recipe.to_dict(), False, presizes, tuple(prepare(recipe).identities), {}, "")


def test_the_same_data_are_kept_in_this_machines_cache(needs: Needs, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "other machine"))
    presized = check_data(needs, lambda text: None)
    assert [*presized] == [32]
    assert presized[32].folder.is_relative_to(tmp_path / "other machine")
    assert len(presized[32]) == 24
    assert presized[32][0] is not None


def test_an_image_that_differs_is_found(needs: Needs, photos: Path):
    (photos / "cat" / "0.jpg").write_bytes((photos / "dog" / "0.jpg").read_bytes())
    with pytest.raises(
        AblateError, match=r"^sees other data: the train images of fold 0 are not those of the study;"
    ):
        check_data(needs, lambda text: None)


def test_data_that_are_not_there_are_named(needs: Needs, photos: Path):
    (photos / "table.csv").unlink()
    with pytest.raises(AblateError, match=re.escape(str(photos / "table.csv"))):
        check_data(needs, lambda text: None)


def test_a_study_of_a_sample_looks_at_the_sample(needs: Needs):
    recipe = Recipe.from_dict(dict(needs.recipe))
    quick = replace(needs, quick=True, identities=tuple(prepare(recipe, quick=True).identities))
    check_data(quick, lambda text: None)


def test_initial_weights_are_those_of_the_key(tmp_path: Path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"some")
    fits = {"kind": "fit", "model": {"arch": "none", "weights": file_hash(weights)}}
    for settings in (fits, {"kind": "preflight", "stages": [fits]}):
        check_weights(Job("k", "l", settings, "f", {}, weights=str(weights)))
    check_weights(Job("k", "l", {"kind": "fit", "model": {"arch": "none", "weights": None}}, "f", {}))
    weights.write_bytes(b"others")
    with pytest.raises(
        AblateError, match=r"^model\.weights: .*weights\.safetensors is another file there than"
    ):
        check_weights(Job("k", "l", fits, "f", {}, weights=str(weights)))
