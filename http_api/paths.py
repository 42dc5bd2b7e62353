"""The paths that clients rely on (contract sections 1 and 11), and the methods that read."""

from typing import Final

PING_PATH: Final = "/api/v1/ingest/ping"
EVENTS_PATH: Final = "/api/v1/ingest/events"
SNAPSHOTS_PATH: Final = "/api/v1/ingest/snapshots"

# Pages for people; the path of the reference page is core.error_codes.REFERENCE_PATH.
OVERVIEW_PATH: Final = "/developers"
GUIDE_PATH: Final = "/developers/docs"
EXPLORER_PATH: Final = "/developers/explorer"
ASSETS_PATH: Final = "/developers/assets"

# For operators (contract section 14).
MANAGE_PATH: Final = "/api/v1/manage"
CONSOLE_PATH: Final = "/console"
SIGN_IN_PATH: Final = f"{CONSOLE_PATH}/sign-in"

# The OpenAPI document.
DOCUMENT_PATH: Final = "/openapi/v1.yaml"
JSON_DOCUMENT_PATH: Final = "/openapi.json"

# HEAD is answered wherever GET is (RFC 9110, section 9.3.2); the server leaves out the body.
READING: Final = ["GET", "HEAD"]
ENDPOINT_METHODS: Final = {PING_PATH: READING, EVENTS_PATH: ["POST"], SNAPSHOTS_PATH: ["POST"]}


def is_api(path: str) -> bool:
    """Whether a path belongs to the API, which speaks JSON to everybody."""
    return is_below(path, "/api")


def is_below(path: str, folder: str) -> bool:
    """Whether a path is that of the folder or in it."""
    return path == folder or path.startswith(f"{folder}/")


def sign_in_link(base_url: str, secret: str, path: str = "") -> str:
    """Return a link to the console that signs in once, and then leads to a path of it.

    The page behind it has a button, which keeps programs that look at links from using it up.
    """
    return f"{base_url}{SIGN_IN_PATH}?link={secret}{path and f'&next={path}'}"


def organization_path(organization_id: str) -> str:
    """Return the path of an organization's page in the console."""
    return f"{CONSOLE_PATH}/organizations/{organization_id}"


def both_spellings(path: str) -> tuple[str, ...]:
    """Return the path without and with a slash at its end, which makes no difference to pages."""
    return (path,) if path == "/" else (path, f"{path}/")
