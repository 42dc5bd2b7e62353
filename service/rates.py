"""The store of rates that the settings name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from core.access.rate_store import RateStore


def rate_store(settings: Settings) -> RateStore | None:
    """The store, not opened yet; None if each service counts rates by itself."""
    if settings.rate_store is None:
        return None
    # The client costs 10 MiB and 0.1 s, so it is imported where it is used.
    from core.access.rate_store import RateStore

    return RateStore(settings.rate_store.get_secret_value())


def check_rate_store(settings: Settings) -> None:
    """Raise :class:`SettingsError`, which names the variable, if the store refuses the service.

    A store that cannot be reached is no error: the service serves without it until it can.
    """
    store = rate_store(settings)
    if store is not None:
        asyncio.run(_check(store))


async def _check(store: RateStore) -> None:
    from core.access.shared_rates import StoreAwayError, StoreRefusedError

    try:
        await store.open()
    except StoreRefusedError as error:
        raise SettingsError(f"WEPEOPLE_RATE_STORE: the store refuses: {error}") from None
    except StoreAwayError:
        pass
    finally:
        await store.close()
