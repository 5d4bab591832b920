"""What must never be shown, and what others say made fit to be shown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

__all__ = ["Secret", "plain_text"]

PROVIDER_TEXT_LENGTH = 300
"""Characters kept of what a provider says: enough for a sentence, too few to fill a disk."""


class Secret(str):
    """A string that a ``repr``, and so a traceback or a debug page, never shows.

    It is an ordinary string everywhere else: it compares, concatenates and serialises as one.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'********'"


def plain_text(
    text: object, *, length: int = PROVIDER_TEXT_LENGTH, secrets: Iterable[str] = ()
) -> str:
    """Return foreign text as one short line without control characters and without our secrets.

    Args:
        text: what a provider said; anything but a string gives an empty one.
        length: the number of characters to keep.
        secrets: strings that the provider may have echoed, such as the code or the password.
    """
    if not isinstance(text, str):
        return ""
    # Ten times the length bounds the work on a hostile megabyte; a secret that the cut would
    # halve is still whole here.
    text = text[: length * 10]
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    # Category C holds control, format (direction overrides too), surrogate and private characters.
    text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return re.sub(" +", " ", text).strip()[:length]
