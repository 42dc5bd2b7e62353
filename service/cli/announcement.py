"""The text or the line that `serve` prints as soon as the service accepts traffic."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
from typing import TYPE_CHECKING, Final

from service.cli.help import PROGRAM
from service.cli.output import print_json_line, print_text

if TYPE_CHECKING:
    from service.demo import DemoAccess
    from service.runtime import Ready
    from service.settings import Settings

_EVENT: Final = (
    '{"events": [{"eventType": "ticket.resolved", "category": "project_management", '
    '"actor": {"externalId": "crm-user-42"}, "duration": 240, '
    '"metadata": {"ticket_id": "SUP-431"}}]}'
)
_SNAPSHOT: Final = (
    '{"snapshotType": "tickets_open", "actor": {"externalId": "crm-user-42"}, '
    '"metrics": {"open": {"value": 12, "unit": "count"}, "load": "normal"}}'
)


def announce(settings: Settings, ready: Ready, *, as_json: bool) -> None:
    """Print where the service is, and with a demo how to try it; with --json the ready line."""
    note = _links_note(settings, ready)
    if as_json:
        _print_ready_line(ready)
        if note is not None:
            logging.getLogger(__name__).warning("%s", note)
    else:
        _print_welcome(ready, note, has_tls=settings.grpc_tls_certificate is not None)


def _links_note(settings: Settings, ready: Ready) -> str | None:
    """A word on links that other machines cannot follow, though they reach the service."""
    from service.runtime import is_every_interface
    from service.settings import host_and_port

    host, _ = host_and_port(settings.http)
    if settings.public_url is not None or not is_every_interface(host):
        return None
    return (
        f"Links in answers and pages lead to {ready.http}, which is this machine alone. "
        "Set WEPEOPLE_PUBLIC_URL to the URL at which clients reach the service."
    )


def _print_ready_line(ready: Ready) -> None:
    line = {"event": "ready", "http": ready.http}
    if ready.grpc is not None:
        line["grpc"] = ready.grpc
    if ready.demo is not None and ready.demo.key is not None:
        line["demoKey"] = ready.demo.key
    if ready.demo is not None:
        line["console"] = _console_link(ready.http, ready.demo)
    print_json_line(line)


def _console_link(url: str, demo: DemoAccess) -> str:
    from http_api.paths import organization_path, sign_in_link

    return sign_in_link(url, demo.link, organization_path(demo.organization_id))


def _print_welcome(ready: Ready, note: str | None, *, has_tls: bool) -> None:
    from http_api.paths import OVERVIEW_PATH
    from http_api.site import grpcurl

    lines = ["", "WePeople ingest is ready.", "", f"  HTTP  {ready.http}"]
    if ready.grpc is not None:
        lines.append(f"  gRPC  {ready.grpc}")
    lines.append(f"  docs  {ready.http}{OVERVIEW_PATH}")
    if ready.demo is not None:
        lines += ["", "The console, by a link that signs in once:", ""]
        lines.append(f"  {_console_link(ready.http, ready.demo)}")
    if note is not None:
        lines += ["", note]
    if ready.demo is not None:
        command = _command()
        organization = shlex.quote(ready.demo.app.partition("/")[0])
        if ready.demo.key is None:
            lines += [
                "",
                "There is a demo key already, which cannot be shown again. For another one:",
                "",
                f"  {command} key create {shlex.quote(ready.demo.app)}",
            ]
        else:
            lines += ["", "Try it:", "", *_curl_lines(ready.http, ready.demo.key)]
            if ready.grpc is not None:
                lines += ["", *_grpcurl_lines(ready.grpc, ready.demo.key, grpcurl(has_tls=has_tls))]
        lines += ["", "See what came in:", "", f"  {command} events {organization} --follow"]
    print_text("\n".join([*lines, "", "Ctrl-C stops it.", ""]))


def _command() -> str:
    """How this program was called, if its bare name would not be found."""
    return PROGRAM if shutil.which(PROGRAM) else shlex.quote(sys.argv[0])


def _curl_lines(url: str, key: str) -> list[str]:
    authorization = f"-H 'Authorization: Bearer {key}'"
    return [
        f"  curl {url}/api/v1/ingest/ping {authorization}",
        "",
        f"  curl {url}/api/v1/ingest/events {authorization} \\",
        "    -H 'Content-Type: application/json' \\",
        f"    -d '{_EVENT}'",
        "",
        f"  curl {url}/api/v1/ingest/snapshots {authorization} \\",
        "    -H 'Content-Type: application/json' \\",
        f"    -d '{_SNAPSHOT}'",
    ]


def _grpcurl_lines(address: str, key: str, command: str) -> list[str]:
    return [
        f"  {command} -emit-defaults -H 'authorization: Bearer {key}' \\",
        f"    {address} wepeople.ingest.v1.IngestService/Ping",
    ]
