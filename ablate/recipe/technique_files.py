"""Techniques of one's own in a recipe: files that it names are read with it, and travel in it as text.

So a recipe in memory is complete without any file, and a study's folder holds what it was run with.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from ablate import techniques
from ablate.errors import AblateError, Place
from ablate.files import replace_file
from ablate.recipe.load import Document, Location
from ablate.recipe.problems import Problem
from ablate.recipe.schema import RecipeFields
from ablate.written import modules

if TYPE_CHECKING:
    from ablate.recipe.recipe import Recipe

FIELD = "technique_files"
FOLDER = "techniques"
"""The folder of such files beside a recipe that was written by ablate."""


def read_technique_files(document: Document) -> list[Problem]:
    """Put name and text of each file in the place of its path, and tell what is wrong with them.

    A path is relative to the recipe's file that names it, or to the current folder where no file does.

    Args:
        document: The recipe, changed in place.
    """
    given = document.values.get(FIELD)
    if not isinstance(given, list):
        return []  # if it is something else, the schema says so
    document.values[FIELD] = read = list(given)
    problems = []
    for i, one in enumerate(given):
        location: Location = (FIELD, i)
        try:
            read[i] = _read(one, document.place(location)) if isinstance(one, str) else one
        except AblateError as error:
            problems.append(Problem(location, str(error)))
    return problems or list(_unusable(read))


def techniques_of(sources: Mapping[str, str]) -> set[str]:
    """The names of a recipe's own techniques, by the texts of its files."""
    return {name for file, source in sources.items() for name in modules.load(file, source)}


def _read(path: str, place: Place) -> dict[str, str]:
    folder = Path() if place.line is None else Path(place.file).parent
    file = folder / Path(path).expanduser()
    if file.suffix != ".py":
        raise AblateError(f"names {path}, which is no Python file; its name has to end in .py.")
    try:
        return {"name": file.stem, "source": file.read_text(encoding="utf-8-sig")}
    except FileNotFoundError:
        raise AblateError(
            f"names {path}, but there is no file {file}; paths are relative to the recipe."
        ) from None
    except UnicodeDecodeError:
        raise AblateError(f"names {path}, which is not text in UTF-8; save it as such.") from None
    except OSError as error:
        raise AblateError(f"names {path}, which cannot be read ({error.strerror}).") from None


def _unusable(files: list[Any]) -> Iterator[Problem]:
    """Texts that cannot be imported, and names that are taken."""
    installed, defined, seen = techniques.registry(), dict[str, str](), set[str]()
    for i, file in enumerate(files):
        if not isinstance(file, Mapping) or not isinstance(file.get("source"), str):
            continue  # the schema says so
        name = str(file.get("name"))
        try:
            found = modules.load(name, file["source"])
        except AblateError as error:
            yield Problem((FIELD, i), f"cannot be used: {error}")
            continue
        if name in seen:
            yield Problem((FIELD, i), f"is a second file called {name}.py; rename one of the two.")
        seen.add(name)
        for technique in found:
            if why := _taken(technique, installed, defined):
                yield Problem(
                    (FIELD, i), f"has a technique {technique}, but {why}; give it another name in {name}.py."
                )
            defined[technique] = name


def _taken(name: str, installed: Mapping[str, Any], defined: Mapping[str, str]) -> str | None:
    """Why a technique cannot have a name."""
    if name in installed:
        home = installed[name].__module__.split(".")[0]
        return "ablate has one of that name" if home == "ablate" else f"{home} brings one of that name"
    if name in defined:
        return f"{defined[name]}.py has one of that name"
    if name in RecipeFields.model_fields:
        return "that is a field of recipes"
    return None


def write_recipe(recipe: Recipe, folder: Path) -> None:
    """Write `recipe.yaml`, and beside it, in `techniques/`, the files of the recipe's own techniques.

    Args:
        recipe: The recipe.
        folder: Where to; files of techniques that the recipe does not have are removed.

    Raises:
        AblateError: The folder cannot be written.
    """
    values, sources = recipe.to_dict(), recipe.technique_sources
    files = {folder / FOLDER / f"{name}.py": source for name, source in sources.items()}
    for path, source in files.items():
        replace_file(path, partial(Path.write_text, data=source, encoding="utf-8"))
    for path in (folder / FOLDER).glob("*.py"):
        if path not in files:
            path.unlink(missing_ok=True)
    if files:
        values[FIELD] = [f"{FOLDER}/{path.name}" for path in files]
    text = io.StringIO()
    YAML().dump(values, text)
    replace_file(folder / "recipe.yaml", lambda to: to.write_text(text.getvalue()))


def with_technique(document: Document, technique: Any, vary: bool) -> Document:
    """A recipe with a technique, its source and its options, in the study too if asked.

    Args:
        document: The recipe; it stays as it is.
        technique: A technique, or a class of techniques; one that is there already is replaced.
        vary: Whether the study compares variants with it and without.

    Raises:
        AblateError: It is no technique, or its source cannot be taken.
    """
    kind = technique if isinstance(technique, type) else type(technique)
    if not issubclass(kind, techniques.Technique):
        raise AblateError(
            f"with_technique: {kind.__name__} is no technique; derive it from ablate.techniques.Technique."
        )
    if not modules.is_technique(kind):
        raise AblateError(
            f"with_technique: {kind.__name__} has no name of its own; give it one, as in name: "
            'ClassVar[str] = "glow".'
        )
    name, values = kind.name, document.values
    changed = dict(values)
    if techniques.registry().get(name) is not kind:
        changed[FIELD] = [*_others(values.get(FIELD, []), name), {"name": name, "source": _text(kind)}]
    options = {} if kind is technique else technique.model_dump(mode="json", exclude_unset=True)
    changed["techniques"] = dict(values.get("techniques") or {}) | {name: options}
    if vary:
        changed["study"] = _comparing(dict(values.get("study") or {}), name)
    origin = Place(f"with_technique({kind.__name__})")
    places = {
        at: place
        for at, place in document.places.items()
        if at[:1] != (FIELD,) and at[:2] != ("techniques", name)
    }
    return Document(changed, {**places, (FIELD,): origin, ("techniques", name): origin})


def _text(kind: type[techniques.Technique]) -> str:
    from ablate.written.extract import module_text

    return modules.text_of(kind) or module_text(kind)


def _others(files: list[dict[str, str]], name: str) -> list[dict[str, str]]:
    """The files but for that of a technique which is replaced."""
    return [file for file in files if [*modules.load(file["name"], file["source"])] != [name]]


def _comparing(study: dict[str, Any], name: str) -> dict[str, Any]:
    """A study's values with a technique among what is compared."""
    if isinstance(design := study.get("design"), list):
        named = [variant if isinstance(variant, list) else variant.get("on", []) for variant in design]
        return study if [name] in named else study | {"design": [*design, [name]]}
    vary = study.get("vary") or []
    varied = [one for given in vary for one in ([given] if isinstance(given, str) else given)]
    return study if name in varied else study | {"vary": [*vary, name]}
