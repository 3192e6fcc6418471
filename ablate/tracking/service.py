"""W&B's service itself: who is asked, and whether it answers. Small questions beside wandb's own client."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import requests

_VIEWER = "query Viewer { viewer { id entity } }"
_LINES = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
    model(name: $project, entityName: $entity) {
        bucket(name: $name, missingOk: true) { id historyLineCount }
    }
}"""
_PAGE = """query HistoryPage(
    $project: String!, $entity: String, $name: String!, $minStep: Int64!, $maxStep: Int64!, $samples: Int!
) {
    project(name: $project, entityName: $entity) {
        run(name: $name) { history(minStep: $minStep, maxStep: $maxStep, samples: $samples) }
    }
}"""
_DELETE = "mutation DeleteRun($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }"
_ROWS = 1000
"""Rows on a page of history, as wandb's own client asks for them."""
TIMEOUT = 5.0
"""Seconds for a small question."""


@dataclass(frozen=True)
class Account:
    """Where W&B is, and who asks.

    Args:
        url: The address of the service.
        key: The API key; None where wandb has other credentials.
        project: The project that runs go to.
        entity: Whose it is; None for the key's own.
    """

    url: str
    key: str | None
    project: str
    entity: str | None


class Problem(Exception):
    """Why W&B cannot be told.

    Args:
        message: What is wrong and the next step; a sentence without its beginning and its end.
        lasting: Whether it stays so until a person does something.
    """

    def __init__(self, message: str, *, lasting: bool = False):
        super().__init__(message)
        self.lasting = lasting


def find_account() -> Account | None:
    """The account that wandb would use, from `WANDB_*`, its settings files or netrc; None without a key.

    Raises:
        Problem: The key that is there cannot be one.
    """
    from wandb.errors import AuthenticationError
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    settings = wandb_setup.singleton().settings
    try:
        found = wbauth.authenticate_session(
            host=settings.base_url, source="ablate", prompt=False, update_session=False
        )
    except AuthenticationError as error:
        raise Problem(
            f"the API key for {settings.base_url} is none ({_short(error)}); set WANDB_API_KEY or run "
            "`wandb login --relogin`",
            lasting=True,
        ) from None
    if found is None:
        return None
    key = found.api_key if isinstance(found, wbauth.AuthApiKey) else None
    return Account(settings.base_url.rstrip("/"), key, settings.project or "ablate", settings.entity)


class Service:
    """Asks the service small questions.

    Args:
        account: Where and as whom.
    """

    def __init__(self, account: Account):
        self.account = account
        self._session = requests.Session()
        if account.key is not None:
            self._session.auth = ("api", account.key)

    def viewer(self) -> tuple[str | None, float]:
        """Whose account it is, where the service tells, and how many seconds the answer took.

        Raises:
            Problem: There is no answer, or none that W&B would give.
        """
        began = time.monotonic()
        found = self._ask(_VIEWER, {})
        if self.account.key is not None and "viewer" in found and found["viewer"] is None:
            raise self._refused()
        return (found.get("viewer") or {}).get("entity"), time.monotonic() - began

    def lines(self, entity: str | None, project: str, run: str) -> int | None:
        """How many rows of history the service has of a run; None where it does not tell.

        Raises:
            Problem: There is no answer.
        """
        bucket = self._bucket(entity, project, run)
        return None if bucket is None else int(bucket.get("historyLineCount") or 0)

    def unbroken(self, entity: str | None, project: str, run: str) -> int:
        """How many rows of history the service has of a run from the first on, each step once, none lacking.

        Raises:
            Problem: There is no answer.
        """
        count = 0
        while True:
            page = {"minStep": count, "maxStep": count + _ROWS, "samples": _ROWS}
            answer = self._ask(_PAGE, {"entity": entity, "project": project, "name": run, **page})
            found = ((answer.get("project") or {}).get("run") or {}).get("history") or []
            for row in found:
                if json.loads(row)["_step"] != count:
                    return count
                count += 1
            if len(found) < _ROWS:
                return count

    def delete(self, entity: str | None, project: str, run: str) -> None:
        """Delete a run, if it is there; its id cannot be had again.

        Raises:
            Problem: There is no answer, or the key may not do that.
        """
        bucket = self._bucket(entity, project, run)
        if bucket and not self._ask(_DELETE, {"id": bucket["id"]}).get("deleteRun"):
            raise Problem(
                f"{self.account.url} does not let the run {run} of {project}, which lacks rows, be deleted; "
                "delete it there",
                lasting=True,
            )

    def _bucket(self, entity: str | None, project: str, run: str) -> dict[str, Any] | None:
        """What the service tells of a run, empty where it has none; None where it does not tell."""
        answer = self._ask(_LINES, {"entity": entity, "project": project, "name": run})
        return (answer["model"] or {}).get("bucket") or {} if "model" in answer else None

    def _ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        url = self.account.url
        try:
            answer = self._session.post(
                f"{url}/graphql", json={"query": query, "variables": variables}, timeout=TIMEOUT
            )
        except requests.exceptions.ProxyError:
            raise Problem(
                f"the proxy on the way to {url} does not let through; look at HTTPS_PROXY and HTTP_PROXY"
            ) from None
        except requests.exceptions.Timeout:
            raise Problem(f"{url} does not answer; look at the network and WANDB_BASE_URL") from None
        except requests.RequestException as error:
            raise Problem(
                f"{url} cannot be reached ({_short(error)}); look at the network and WANDB_BASE_URL"
            ) from None
        if answer.status_code in (401, 403) and self.account.key is not None:
            raise self._refused()
        if answer.status_code >= 400:
            raise Problem(f"{url} answers with the error {answer.status_code}")
        try:
            content = answer.json()
            data = content["data"]
        except (ValueError, TypeError, KeyError):
            raise Problem(
                f"{url} answers nonsense: it is no W&B, or a proxy or a sign-in page is before it; look at "
                "WANDB_BASE_URL and the network"
            ) from None
        return data if isinstance(data, dict) else {}

    def _refused(self) -> Problem:
        return Problem(
            f"{self.account.url} does not accept the API key; set WANDB_API_KEY or run "
            "`wandb login --relogin`",
            lasting=True,
        )


def as_problem(error: Exception) -> Problem:
    """What an error of wandb's client or of the files means for a person."""
    from ablate.errors import AblateError

    if isinstance(error, Problem):
        return error
    if isinstance(error, (AblateError, PermissionError)):
        return Problem(str(error).rstrip("."), lasting=True)
    text = " ".join(str(error).split())
    lowered = text.lower()
    if any(word in lowered for word in ("permission denied", "not found", "403", "404")):
        return Problem(
            f"its project cannot be written ({_cut(text)}); look at WANDB_PROJECT and WANDB_ENTITY, and at "
            "what the API key may do",
            lasting=True,
        )
    return Problem(f"its client stopped with: {_cut(text) or type(error).__name__}")


def _cut(text: str) -> str:
    return text[:160].rstrip(".")


def _short(error: Exception) -> str:
    """The innermost reason of an error, in one line."""
    inner: BaseException = error
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
    lines = (str(inner) or type(inner).__name__).strip().splitlines()
    text = lines[0].rpartition(": ")[2] if isinstance(inner, OSError) else lines[0]
    return text[:120].rstrip(".")
