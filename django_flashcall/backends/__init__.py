"""Backends connect the app to providers; `get_backend` returns the backend of an alias."""

from __future__ import annotations

import os
import threading

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ..conf import BackendConfig, conf
from .base import BaseBackend, CallRequest, Receipt, Report, WebhookRequest

__all__ = [
    "BaseBackend",
    "CallRequest",
    "Receipt",
    "Report",
    "WebhookRequest",
    "get_backend",
]

_lock = threading.Lock()
_instances: dict[str, tuple[BackendConfig, BaseBackend]] = {}


def load_class(config: BackendConfig) -> type[BaseBackend]:
    """Import the class of an entry of ``BACKENDS``.

    Raises:
        ImproperlyConfigured: the class does not exist or is not a backend.
    """
    try:
        found = import_string(config.path)
    except ImportError as error:
        raise ImproperlyConfigured(f"{config.path!r} cannot be imported: {error}.") from None
    if not (isinstance(found, type) and issubclass(found, BaseBackend)):
        raise ImproperlyConfigured(f"{config.path!r} is not a subclass of BaseBackend.")
    return found


def get_backend(alias: str) -> BaseBackend:
    """Return the backend of an alias: one instance per process, recreated if its settings change.

    Raises:
        ImproperlyConfigured: the alias does not exist, or its settings are wrong.
    """
    config = conf.BACKENDS.get(alias)
    if config is None:
        raise ImproperlyConfigured(f"FLASHCALL['BACKENDS'] has no {alias!r}.")
    with _lock:
        known = _instances.get(alias)
        if known is not None and known[0] == config:
            return known[1]
        backend = load_class(config).build(alias, config.options)
        _instances[alias] = config, backend
    if known is not None:
        known[1].close()
    return backend


def _reset() -> None:
    """Reset a forked process: a connection shared with the parent would mix up responses."""
    global _lock
    _lock = threading.Lock()
    _instances.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_reset)
