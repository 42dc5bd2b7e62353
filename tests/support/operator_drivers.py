"""The two hands of an operator: the command line and the management API, as one set of methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import httpx

from http_api.manage import models, records, rights
from http_api.paths import MANAGE_PATH
from tests.service.cli.command import Result

Json = dict[str, Any]
PAGE: Final = 2  # so that a list takes several pages


class RefusedError(Exception):
    """A request that was refused. ``is_invalid``: for a value, whatever there is."""

    def __init__(self, message: str, *, is_invalid: bool) -> None:
        super().__init__(message)
        self.is_invalid = is_invalid


class OperatorDriver(Protocol):
    """What operators do. Organizations, apps, keys and workers are named by their ids."""

    hand: str

    def organizations(self) -> list[Json]: ...
    def organization(self, org: str) -> Json: ...
    def create_organization(self, name: str, quota: int | None = None) -> Json: ...
    def update_organization(self, org: str, **change: Any) -> Json: ...
    def remove_organization(self, org: str, name: str, *, dry_run: bool = False) -> Json: ...
    def apps(self, org: str) -> list[Json]: ...
    def create_app(self, org: str, slug: str, name: str, *types: str) -> Json: ...
    def allow(self, org: str, app: str, *types: str) -> Json: ...
    def deny(self, org: str, app: str, *types: str) -> Json: ...
    def remove_app(self, org: str, app: str, slug: str, *, dry_run: bool = False) -> Json: ...
    def keys(self, org: str, app: str) -> list[Json]: ...
    def create_key(self, org: str, app: str, rate: int = 60) -> Json: ...
    def key(self, org: str, key: str) -> Json: ...
    def revoke_key(self, org: str, key: str) -> Json: ...
    def rotate_key(self, org: str, key: str) -> Json: ...
    def workers(self, org: str) -> list[Json]: ...
    def create_worker(self, org: str, name: str, email: str | None = None) -> Json: ...
    def worker(self, org: str, worker: str) -> Json: ...
    def rename_worker(self, org: str, worker: str, name: str) -> Json: ...
    def merge_worker(self, org: str, worker: str, name: str, into: str) -> Json: ...
    def erase_worker(self, org: str, worker: str, name: str) -> Json: ...
    def events(self, org: str, **only: str) -> list[Json]: ...
    def snapshots(self, org: str, **only: str) -> list[Json]: ...
    def cards(self, org: str, **only: str) -> list[Json]: ...
    def usage(self, org: str, minutes: int) -> Json: ...
    def rejections(self, org: str, **only: str) -> list[Json]: ...
    def audit(self, org: str) -> list[Json]: ...


def _options(values: dict[str, Any]) -> list[str]:
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def _key(shown: Json) -> Json:
    """A key without what the command line alone tells: it knows both of the secrets."""
    assert shown.pop("needsPreviousSecret") is False
    return shown


class CommandLine:
    """Operators' commands, run in this process."""

    hand = "command line"

    def __init__(self, run: Callable[..., Result]) -> None:
        self._run = run

    def _json(self, *arguments: str) -> Any:
        result = self._run(*arguments, "--json")
        if result.code:
            raise RefusedError(result.err, is_invalid=result.code == 2)
        return result.json()

    def organizations(self) -> list[Json]:
        return list(self._json("org", "list"))

    def organization(self, org: str) -> Json:
        return dict(self._json("org", "show", org))

    def create_organization(self, name: str, quota: int | None = None) -> Json:
        shown = "none" if quota is None else str(quota)
        return dict(self._json("org", "create", name, "--quota", shown))

    def update_organization(self, org: str, **change: Any) -> Json:
        given: list[str] = []
        for member, value in change.items():
            match member, value:
                case "monthlyQuota", _:
                    given += ["--quota", "none" if value is None else str(value)]
                case "developerApi", _:
                    given.append("--developer-api" if value else "--no-developer-api")
                case "requestsPerSecond", _:
                    given += ["--rate", str(value)]
                case _:
                    given += [f"--{member}", str(value)]
        return dict(self._json("org", "update", org, *given))

    def remove_organization(self, org: str, name: str, *, dry_run: bool = False) -> Json:
        return dict(self._json("org", "remove", org, "--dry-run" if dry_run else "--yes"))

    def apps(self, org: str) -> list[Json]:
        return list(self._json("app", "list", org))

    def create_app(self, org: str, slug: str, name: str, *types: str) -> Json:
        allowed = ["--allow", *types] if types else []
        return dict(self._json("app", "create", org, slug, "--name", name, *allowed))

    def allow(self, org: str, app: str, *types: str) -> Json:
        return dict(self._json("app", "allow", app, *types))

    def deny(self, org: str, app: str, *types: str) -> Json:
        return dict(self._json("app", "deny", app, *types))

    def remove_app(self, org: str, app: str, slug: str, *, dry_run: bool = False) -> Json:
        return dict(self._json("app", "remove", app, "--dry-run" if dry_run else "--yes"))

    def keys(self, org: str, app: str) -> list[Json]:
        return list(map(_key, self._json("key", "list", app)))

    def create_key(self, org: str, app: str, rate: int = 60) -> Json:
        return dict(self._json("key", "create", app, "--rate", str(rate)))

    def key(self, org: str, key: str) -> Json:
        return _key(self._json("key", "show", key))

    def revoke_key(self, org: str, key: str) -> Json:
        return dict(self._json("key", "revoke", key))

    def rotate_key(self, org: str, key: str) -> Json:
        return dict(self._json("key", "rotate", key))

    def workers(self, org: str) -> list[Json]:
        return list(self._json("worker", "list", org))

    def create_worker(self, org: str, name: str, email: str | None = None) -> Json:
        given = [] if email is None else ["--email", email]
        return dict(self._json("worker", "create", org, "--name", name, *given))

    def worker(self, org: str, worker: str) -> Json:
        return dict(self._json("worker", "show", org, worker))

    def rename_worker(self, org: str, worker: str, name: str) -> Json:
        return dict(self._json("worker", "rename", org, worker, name))

    def merge_worker(self, org: str, worker: str, name: str, into: str) -> Json:
        return dict(self._json("worker", "merge", org, worker, into, "--yes"))

    def erase_worker(self, org: str, worker: str, name: str) -> Json:
        return dict(self._json("worker", "erase", org, worker, "--yes"))

    def events(self, org: str, **only: str) -> list[Json]:
        return list(self._json("events", org, *_options(only)))

    def snapshots(self, org: str, **only: str) -> list[Json]:
        return list(self._json("snapshots", org, "--history", *_options(only)))

    def cards(self, org: str, **only: str) -> list[Json]:
        return list(self._json("snapshots", org, *_options(only)))

    def usage(self, org: str, minutes: int) -> Json:
        return dict(self._json("usage", org, "--minutes", str(minutes)))

    def rejections(self, org: str, **only: str) -> list[Json]:
        return list(self._json("rejections", org, *_options(only)))

    def audit(self, org: str) -> list[Json]:
        return list(self._json("audit", org))


class ManagementApi:
    """The management API of a running service; its answers are checked against its models."""

    hand = "api"
    _FILTERS: Final = {"app": "appId", "worker": "workerId", "request": "requestId"}

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._client = httpx.Client(base_url=f"{url}{MANAGE_PATH}", headers=headers, timeout=60)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _request(
        self,
        method: str,
        path: str,
        model: type[models.Model],
        body: Json | None = None,
        parameters: Json | None = None,
    ) -> Json:
        answer = self._client.request(method, path, json=body, params=parameters or {})
        if answer.is_error:
            error = models.Error.model_validate_json(answer.content).error
            raise RefusedError(error.message, is_invalid=error.code == "invalid_value")
        model.model_validate_json(answer.content)
        return dict(answer.json())

    def _list(self, path: str, model: type[models.Model], parameters: Json) -> list[Json]:
        found: list[Json] = []
        wanted = {self._FILTERS.get(name, name): value for name, value in parameters.items()}
        while True:
            page = self._request("GET", path, model, None, {**wanted, "limit": PAGE})
            found += page["items"]
            if page["nextCursor"] is None:
                return found
            wanted["cursor"] = page["nextCursor"]

    def organizations(self) -> list[Json]:
        return self._list("/organizations", rights.OrganizationPage, {})

    def organization(self, org: str) -> Json:
        return self._request("GET", f"/organizations/{org}", rights.Organization)

    def create_organization(self, name: str, quota: int | None = None) -> Json:
        body = {"name": name, "monthlyQuota": quota}
        return self._request("POST", "/organizations", rights.Organization, body)

    def update_organization(self, org: str, **change: Any) -> Json:
        return self._request("PATCH", f"/organizations/{org}", rights.Organization, change)

    def remove_organization(self, org: str, name: str, *, dry_run: bool = False) -> Json:
        wanted = {"dryRun": True} if dry_run else {"confirm": name}
        path = f"/organizations/{org}"
        return self._request("DELETE", path, rights.OrganizationRemoval, None, wanted)

    def apps(self, org: str) -> list[Json]:
        return self._list(f"/organizations/{org}/apps", rights.AppPage, {})

    def create_app(self, org: str, slug: str, name: str, *types: str) -> Json:
        body = {"slug": slug, "name": name, "allowedEventTypes": types}
        return self._request("POST", f"/organizations/{org}/apps", rights.App, body)

    def allow(self, org: str, app: str, *types: str) -> Json:
        path = f"/organizations/{org}/apps/{app}/whitelist/allow"
        return self._request("POST", path, rights.App, {"eventTypes": types})

    def deny(self, org: str, app: str, *types: str) -> Json:
        path = f"/organizations/{org}/apps/{app}/whitelist/deny"
        return self._request("POST", path, rights.App, {"eventTypes": types})

    def remove_app(self, org: str, app: str, slug: str, *, dry_run: bool = False) -> Json:
        wanted = {"dryRun": True} if dry_run else {"confirm": slug}
        path = f"/organizations/{org}/apps/{app}"
        return self._request("DELETE", path, rights.AppRemoval, None, wanted)

    def keys(self, org: str, app: str) -> list[Json]:
        return self._list(f"/organizations/{org}/keys", rights.KeyPage, {"app": app})

    def create_key(self, org: str, app: str, rate: int = 60) -> Json:
        path = f"/organizations/{org}/apps/{app}/keys"
        return self._request("POST", path, rights.MadeKey, {"requestsPerSecond": rate})

    def key(self, org: str, key: str) -> Json:
        return self._request("GET", f"/organizations/{org}/keys/{key}", rights.Key)

    def revoke_key(self, org: str, key: str) -> Json:
        return self._request("POST", f"/organizations/{org}/keys/{key}/revoke", rights.Key)

    def rotate_key(self, org: str, key: str) -> Json:
        path = f"/organizations/{org}/keys/{key}/rotate"
        return self._request("POST", path, rights.MadeKey, {})

    def workers(self, org: str) -> list[Json]:
        return self._list(f"/organizations/{org}/workers", records.WorkerPage, {})

    def create_worker(self, org: str, name: str, email: str | None = None) -> Json:
        body = {"displayName": name, "email": email}
        return self._request("POST", f"/organizations/{org}/workers", records.Worker, body)

    def worker(self, org: str, worker: str) -> Json:
        path = f"/organizations/{org}/workers/{worker}"
        shown = self._request("GET", path, records.Worker)
        return {**shown, **self._request("GET", f"{path}/activity", records.Activity)}

    def rename_worker(self, org: str, worker: str, name: str) -> Json:
        path = f"/organizations/{org}/workers/{worker}"
        return self._request("PATCH", path, records.Worker, {"displayName": name})

    def merge_worker(self, org: str, worker: str, name: str, into: str) -> Json:
        path = f"/organizations/{org}/workers/{worker}/merge"
        body, confirmed = {"into": into}, {"confirm": name}
        return self._request("POST", path, records.MergedWorker, body, confirmed)

    def erase_worker(self, org: str, worker: str, name: str) -> Json:
        path = f"/organizations/{org}/workers/{worker}/erase"
        return self._request("POST", path, records.ErasedWorker, None, {"confirm": name})

    def events(self, org: str, **only: str) -> list[Json]:
        return self._list(f"/organizations/{org}/events", records.EventPage, only)

    def snapshots(self, org: str, **only: str) -> list[Json]:
        return self._list(f"/organizations/{org}/snapshots", records.SnapshotPage, only)

    def cards(self, org: str, **only: str) -> list[Json]:
        return self._list(f"/organizations/{org}/cards", records.SnapshotPage, only)

    def usage(self, org: str, minutes: int) -> Json:
        path = f"/organizations/{org}/usage"
        return self._request("GET", path, records.Usage, None, {"minutes": minutes})

    def rejections(self, org: str, **only: str) -> list[Json]:
        return self._list(f"/organizations/{org}/rejections", records.RejectionPage, only)

    def audit(self, org: str) -> list[Json]:
        return self._list("/audit", records.AuditPage, {"organizationId": org})
