"""Files at URLs, through fsspec: which file system, what tells that a file has changed, what can go wrong."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ablate.errors import AblateError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def is_url(place: str) -> bool:
    """Whether a place is a URL, which fsspec opens, not a path."""
    return "://" in place


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the URL's path in it."""
    import fsspec

    with reaching(url):
        return fsspec.core.url_to_fs(url)


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Tell in one sentence what went wrong with a URL; its servers and libraries raise as they please."""
    try:
        yield
    except AblateError:
        raise
    except ImportError as error:
        protocol = url.partition("://")[0]
        raise AblateError(
            f"{url}: {protocol} needs another package; install it with `pip install 'fsspec[{protocol}]'` "
            f"({error})."
        ) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        if isinstance(error, FileNotFoundError) and not error.__cause__:
            raise AblateError(f"{url}: there is no such shard; correct data.shards.") from None
        # of a web server that does not answer, fsspec says FileNotFoundError
        cause = error.__cause__ or error
        reason = (str(cause) or type(cause).__name__).partition("\n")[0]
        raise AblateError(
            f"{url}: cannot be reached ({reason}); check the address and the network."
        ) from None


def remote_stamp(information: dict[str, Any]) -> str:
    """What changes when a remote file does, out of all that file systems tell."""
    marks = ("ETag", "etag", "md5Hash", "Content-MD5", "Last-Modified", "LastModified", "mtime", "created")
    told = [str(information[mark]) for mark in marks if information.get(mark)]
    return ":".join([str(information.get("size")), *told])
