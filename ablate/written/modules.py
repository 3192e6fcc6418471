"""Techniques that come as text: a file that a recipe names, or what was written in a notebook's cell.

The text travels with the recipe and with every job, and each process makes a module of it; nothing is
pickled.
"""

from __future__ import annotations

import io
import linecache
import re
import sys
import traceback
from functools import cache
from types import ModuleType
from typing import TypeGuard

from ablate.errors import AblateError
from ablate.sealed import checksum
from ablate.techniques.base import Technique

PREFIX = "ablate_written_"
"""How the names of modules begin that are made of such texts."""
_LONGEST = 200


def is_technique(member: object) -> TypeGuard[type[Technique]]:
    """Whether something is a class of techniques with a name of its own."""
    return isinstance(member, type) and issubclass(member, Technique) and "name" in vars(member)


@cache
def load(name: str, source: str) -> dict[str, type[Technique]]:
    """The techniques that a text defines, by name; in one process the same text gives the same classes.

    Args:
        name: What the file is called, without `.py`.
        source: The text of a Python module.

    Raises:
        AblateError: It cannot be imported, or there is no technique in it; file and line are told.
    """
    module = _module(name, source)
    own = [
        member
        for member in vars(module).values()
        if isinstance(member, type) and member.__module__ == module.__name__
    ]
    found = {member.name: member for member in own if is_technique(member)}
    for called in found:
        if not isinstance(called, str) or not called.isidentifier():
            raise AblateError(
                f"{name}.py: a technique is named {called!r}; a name is one word of letters, digits and _, "
                'as in name: ClassVar[str] = "glow".'
            )
    if not found:
        raise AblateError(f"{name}.py: {_why_none(own)}")
    return found


def text_of(technique: type[Technique]) -> str | None:
    """The whole text that a technique was loaded from; None if it was not loaded by `load`."""
    if not technique.__module__.startswith(PREFIX):
        return None
    return "".join(linecache.getlines(str(sys.modules[technique.__module__].__file__)))


def _why_none(own: list[type]) -> str:
    """What is missing in a text without a technique."""
    for member in own:
        if issubclass(member, Technique):
            return f'{member.__name__} has no name; give it one, as in name: ClassVar[str] = "glow".'
    for member in own:
        if "name" in vars(member):
            return f"{member.__name__} is no technique; derive it from ablate.techniques.Technique."
    return (
        "there is no technique in it; write a class that derives from ablate.techniques.Technique and has "
        "a name."
    )


def _module(name: str, source: str) -> ModuleType:
    digest = checksum(source.encode())
    module = ModuleType(f"{PREFIX}{re.sub(r'[^0-9A-Za-z_]', '_', name)}_{digest}")
    file = module.__file__ = f"technique_files/{digest[:8]}/{name}.py"
    # so tracebacks and `inspect` find the lines; no time means that there is no file to compare them with
    linecache.cache[file] = (len(source), None, [*io.StringIO(source)], file)
    sys.modules[module.__name__] = module  # pydantic looks annotations up there
    try:
        exec(compile(source, file, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise AblateError(_told(error, name, file)) from error
    return module


def _told(error: BaseException, name: str, file: str) -> str:
    """Why a text cannot be imported, with the line."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    place = f"{name}.py" if line is None else f"{name}.py:{line}"
    text = " ".join(str(error).split())[:_LONGEST] or "no message"
    if isinstance(error, SyntaxError):
        return f"{place}: this is not valid Python: {error.msg}."
    if isinstance(error, ImportError):
        return (
            f"{place}: cannot be imported here ({text}); install what it needs, or write what it takes from "
            "there into the file itself."
        )
    return f"{place}: fails when it is imported ({type(error).__name__}: {text}); mend it there."
