"""A W&B backend on this machine, as far as the real client needs one: it keeps what it is sent.

A run's history is kept by line number, as the service keeps it: the client says at which line its rows begin,
and asks, when it goes on with a run, how many there are. `loopback` serves it over HTTP, with faults.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

KEY = "0123456789" * 4
ENTITY = "local"
HISTORY, EVENTS, SUMMARY, OUTPUT = (
    "wandb-history.jsonl",
    "wandb-events.jsonl",
    "wandb-summary.json",
    "output.log",
)


class Refused(Exception):
    """What the service refuses, as it does: an HTTP status and a sentence."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


@dataclass
class Run:
    """What has arrived of one run.

    Attributes:
        told: What `upsertBucket` was told last, by the names of its variables.
        lines: By file of the stream, then by line number.
        changed: History lines that were sent a second time with something else in them.
        files: The content of each uploaded file.
        exit_code: None until the client has said that the run is finished.
        received: How many history lines have been received, those that had come before counted again.
    """

    id: str
    entity: str
    project: str
    told: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    changed: list[tuple[str, str]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None
    received: int = 0

    @property
    def name(self) -> str:
        """What people see."""
        return str(self.told.get("displayName") or self.id)

    @property
    def group(self) -> str | None:
        """The group's name."""
        return self.told.get("groupName")

    @property
    def job_type(self) -> str | None:
        """Such as `trial`."""
        return self.told.get("jobType")

    @property
    def notes(self) -> str | None:
        """The run's notes, in Markdown."""
        return self.told.get("notes")

    @property
    def tags(self) -> list[str]:
        """The run's tags."""
        return list(self.told.get("tags") or [])

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, without the client's own entry."""
        told = json.loads(self.told.get("config") or "{}")
        return {name: entry["value"] for name, entry in told.items() if name != "_wandb"}

    @property
    def client(self) -> dict[str, Any]:
        """What the client writes of itself into the configuration: versions, rules of metrics."""
        told = json.loads(self.told.get("config") or "{}")
        return dict(told.get("_wandb", {}).get("value", {}))

    @property
    def summary(self) -> dict[str, Any]:
        """The summary, as it stands."""
        told = list(self.lines.get(SUMMARY, {}).values()) or [self.told.get("summaryMetrics") or "{}"]
        return dict(json.loads(told[-1]))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The history, one row per line."""
        lines = self.lines.get(HISTORY, {})
        return [json.loads(lines[number]) for number in sorted(lines)]

    @property
    def steps(self) -> list[int]:
        """The steps of the rows, in the rows' order."""
        return [row["_step"] for row in self.rows]

    @property
    def gaps(self) -> list[int]:
        """Numbers of history lines that never came, though later ones did."""
        lines = self.lines.get(HISTORY, {})
        return [number for number in range(max(lines, default=-1) + 1) if number not in lines]

    def resume_status(self) -> dict[str, Any]:
        """What the client asks for before it goes on with a run."""
        counts = {name: max(self.lines.get(name, {}), default=-1) + 1 for name in (HISTORY, EVENTS, OUTPUT)}
        tails = {name: [lines[max(lines)]] for name, lines in self.lines.items() if lines}
        return {
            "id": self.id,
            "name": self.id,
            "displayName": self.name,
            "summaryMetrics": json.dumps(self.summary),
            "logLineCount": counts[OUTPUT],
            "historyLineCount": counts[HISTORY],
            "eventsLineCount": counts[EVENTS],
            "historyTail": json.dumps(tails.get(HISTORY, [])),
            "eventsTail": json.dumps(tails.get(EVENTS, [])),
            "config": self.told.get("config") or "{}",
            "tags": self.tags,
            "notes": self.notes,
            "wandbConfig": json.dumps({"t": self.client["t"]} if "t" in self.client else {}),
        }

    def stream(self, body: dict[str, Any]) -> None:
        """Take what the client streams: lines of files, from a line number on, and that it is finished."""
        for name, chunk in (body.get("files") or {}).items():
            lines = self.lines.setdefault(name, {})
            for number, line in enumerate(chunk["content"], chunk["offset"]):
                if name == HISTORY and lines.get(number, line) != line:
                    self.changed.append((lines[number], line))
                lines[number] = line
            self.received += len(chunk["content"]) if name == HISTORY else 0
        self.exit_code = body.get("exitcode") if body.get("complete") else None


@dataclass
class Artifact:
    """One version of an artifact: `told` as `createArtifact` was told, and the content of its files."""

    id: str
    told: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    committed: bool = False

    @property
    def name(self) -> str:
        """The name of its collection."""
        return str((self.told.get("artifactCollectionNames") or [self.told.get("artifactCollectionName")])[0])

    @property
    def type(self) -> str:
        """Such as `dataset`."""
        return str(self.told["artifactTypeName"])

    @property
    def run(self) -> str:
        """The id of the run that logged it."""
        return str(self.told["runName"])


class Backend:
    """Everything that has arrived, and the answers to what the client asks.

    Attributes:
        runs: By id.
        artifacts: In the order of their creation.
        deleted: The ids of deleted runs, which are never given again.
        views: What `upsertView` was told, by the view's id: reports and saved views.
        keys: Which keys are right.
        projects: Which projects there are; None: any is made when it is first named.
        asked: The names of all operations, one per request, those included that a fault has met.
        unknown: Operations that were asked for and are not known here.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.artifacts: list[Artifact] = []
        self.deleted: set[str] = set()
        self.views: dict[str, dict[str, Any]] = {}
        self.keys = {KEY}
        self.projects: set[str] | None = None
        self.asked: list[str] = []
        self.unknown: list[str] = []
        self.url = ""

    @property
    def trials(self) -> dict[str, Run]:
        """The runs of trials, by the name that people see."""
        return {run.name: run for run in self.runs.values() if run.job_type == "trial"}

    @property
    def study(self) -> Run:
        """The one run of job type `study`."""
        (found,) = (run for run in self.runs.values() if run.job_type == "study")
        return found

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The answer to a GraphQL request: the fields of `data`."""
        operation = operation_of(query)
        answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "UpsertBucket": self._upsert,
            "RunResumeStatus": self._resume_status,
            "CreateRunFiles": self._create_files,
            "CreateArtifact": self._create_artifact,
            "CreateArtifactManifest": self._manifest("createArtifactManifest"),
            "UpdateArtifactManifest": self._manifest("updateArtifactManifest"),
            "CreateArtifactFiles": self._create_artifact_files,
            "CommitArtifact": self._commit,
            "ArtifactType": self._artifact_type,
            "DeleteRun": self._delete,
            "HistoryPage": self._history_page,
            "upsertView": self._upsert_view,
            "UpsertView2": self._upsert_view,
            "GetProjects": self._list_projects,
            "View": self._find_views,
        }
        if operation in answers:
            return answers[operation](variables)
        if operation in CONSTANT:
            return CONSTANT[operation]
        self.unknown.append(operation)
        return {}

    def upload(self, path: str, content: bytes) -> None:
        """Take a file whose address was given out before."""
        kind, name, file = path.split("/", 2)
        if kind == "run":
            self.runs[name].files[file] = content
        elif kind == "manifest":
            self._artifact(name).manifest = json.loads(content)
        else:
            self._artifact(name).files[file] = content

    def stream(self, entity: str, project: str, run: str, body: dict[str, Any]) -> dict[str, Any]:
        """Take a piece of a run's stream."""
        if run not in self.runs:
            raise Refused(404, f"run {entity}/{project}/{run} not found during file_stream")
        self.runs[run].stream(body)
        return {"limits": {}, "exitcode": None}

    def _checked(self, entity: str | None, project: str | None, operation: str) -> tuple[str, str]:
        entity, project = entity or ENTITY, project or "uncategorized"
        if entity != ENTITY:
            raise Refused(404, f"entity {entity} not found during {operation}")
        if self.projects is not None and project not in self.projects:
            raise Refused(403, "permission denied")
        return entity, project

    def _upsert(self, told: dict[str, Any]) -> dict[str, Any]:
        known = self.runs.get(told.get("name") or told.get("id") or "")
        if told.get("name") in self.deleted:
            raise Refused(409, f"run {told['name']} was previously created and deleted; try a new run name")
        if new := known is None:
            entity, project = self._checked(told.get("entity"), told.get("project"), "upsertBucket")
            known = self.runs.setdefault(told["name"], Run(told["name"], entity, project))
        known.told |= {name: value for name, value in told.items() if value is not None}
        project_of = {"id": "p", "name": known.project, "entity": {"id": "e", "name": known.entity}}
        shown = known.resume_status() | {"description": None, "sweepName": None, "project": project_of}
        return {"upsertBucket": {"bucket": shown, "inserted": new}}

    def _delete(self, asked: dict[str, Any]) -> dict[str, Any]:
        del self.runs[asked["id"]]
        self.deleted.add(asked["id"])
        return {"deleteRun": {"clientMutationId": None}}

    def _resume_status(self, asked: dict[str, Any]) -> dict[str, Any]:
        entity, project = self._checked(asked.get("entity"), asked.get("project"), "model")
        known = self.runs.get(asked["name"])
        bucket = known.resume_status() if known else None
        return {
            "model": {"id": "p", "name": project, "entity": {"id": "e", "name": entity}, "bucket": bucket}
        }

    def _history_page(self, asked: dict[str, Any]) -> dict[str, Any]:
        known = self.runs.get(asked["name"])
        rows = [
            json.dumps(row)
            for row in (known.rows if known else [])
            if asked["minStep"] <= row["_step"] < asked["maxStep"]
        ]
        return {"project": {"run": {"history": rows[: asked["samples"]]} if known else None}}

    def _create_files(self, asked: dict[str, Any]) -> dict[str, Any]:
        files = [
            {"name": name, "uploadUrl": f"{self.url}/upload/run/{asked['run']}/{name}"}
            for name in asked["files"]
        ]
        return {"createRunFiles": {"runID": asked["run"], "uploadHeaders": [], "files": files}}

    def _artifact(self, name: str) -> Artifact:
        (found,) = (one for one in self.artifacts if one.id == name)
        return found

    def _create_artifact(self, asked: dict[str, Any]) -> dict[str, Any]:
        made = Artifact(f"artifact-{len(self.artifacts)}", asked["input"])
        versions = [one for one in self.artifacts if one.name == made.name and one.committed]
        same = [one for one in versions if one.told["digest"] == made.told["digest"]]
        if not same:
            self.artifacts.append(made)
        found = same[0] if same else made
        latest = {"id": versions[-1].id} if versions else None
        shown = {
            "id": found.id,
            "state": "COMMITTED" if found.committed else "PENDING",
            "artifactSequence": {"id": found.name, "latestArtifact": latest},
        }
        return {"createArtifact": {"artifact": shown}}

    def _manifest(self, field_name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def answer(asked: dict[str, Any]) -> dict[str, Any]:
            name = asked.get("artifactID") or asked["artifactManifestID"]
            url = f"{self.url}/upload/manifest/{name}/wandb_manifest.json"
            file = {"id": name, "name": "wandb_manifest.json", "uploadUrl": url, "uploadHeaders": []}
            return {field_name: {"artifactManifest": {"id": name, "file": file}}}

        return answer

    def _create_artifact_files(self, asked: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for file in asked["input"]["artifactFiles"]:
            path = f"{file['artifactID']}/{file['name']}"
            node = {"id": path, "name": file["name"], "displayName": file["name"], "storagePath": path}
            node |= {"uploadUrl": f"{self.url}/upload/artifact/{path}", "uploadHeaders": []}
            edges.append(
                {"node": node | {"uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]}}}
            )
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _artifact_type(self, asked: dict[str, Any]) -> dict[str, Any]:
        known = [one for one in self.artifacts if one.name == asked["name"].partition(":")[0]]
        artifact = {"artifactType": {"name": known[-1].type}} if known else None
        return {"project": {"artifact": artifact}}

    def _upsert_view(self, told: dict[str, Any]) -> dict[str, Any]:
        if told.get("id") and told["id"] not in self.views:
            raise Refused(404, f"view {told['id']} not found during upsertView")
        known = told.get("id") or f"view-{len(self.views)}"
        new = known not in self.views
        self.views.setdefault(known, {}).update({k: v for k, v in told.items() if v is not None})
        project = {"id": "p", "name": told.get("projectName"), "entityName": told.get("entityName")}
        view = {
            "name": "",
            "type": "",
            "displayName": "",
            "description": "",
            "spec": "{}",
            "updatedAt": "2026-01-01T00:00:00",
        }
        shown = view | self.views[known] | {"id": known, "project": project}
        return {"upsertView": {"view": shown, "inserted": new}}

    def _list_projects(self, asked: dict[str, Any]) -> dict[str, Any]:
        node = {"id": "p", "entityName": ENTITY, "createdAt": "", "isBenchmark": False, "user": None}
        edges = [{"node": node | {"name": name}} for name in {run.project for run in self.runs.values()}]
        return {"models": {"pageInfo": {"endCursor": None, "hasNextPage": False}, "edges": edges}}

    def _find_views(self, asked: dict[str, Any]) -> dict[str, Any]:
        views = [{"id": id_} | told for id_, told in self.views.items() if told["name"] == asked["viewName"]]
        return {"project": {"allViews": {"edges": [{"node": view} for view in views]}}}

    def _commit(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = self._artifact(asked["artifactID"])
        found.committed = True
        return {"commitArtifact": {"artifact": {"id": found.id, "digest": found.told["digest"]}}}


USER = {
    "id": "u",
    "username": ENTITY,
    "entity": ENTITY,
    "email": "local@example.com",
    "admin": False,
    "flags": "{}",
    "teams": {"edges": [{"node": {"name": ENTITY}}]},
}
CONSTANT: dict[str, dict[str, Any]] = {
    "Viewer": {"viewer": USER},
    "ServerFeaturesQuery": {"serverInfo": {"features": []}},
    "OrganizationCoreWeaveOrganizationID": {"entity": {"organization": {"coreWeaveOrganizationId": None}}},
    "ClientIDMapping": {"clientIDMapping": None},
    "FetchArtifactDigestAlgorithm": {"project": {"artifactType": None}},
    "XXHashDigestsEnabled": {"entity": {"xxhashDigestsEnabled": False}},
    "MarkRunFilesUploaded": {"markRunFilesUploaded": {"success": True}},
    "UseArtifact": {"useArtifact": {"artifact": {"id": "artifact-0"}}},
}


def operation_of(query: str) -> str:
    """The name of a GraphQL operation."""
    found = re.search(r"\b(?:query|mutation)\s+(\w+)", query)
    return found[1] if found else query.strip()[:80]
