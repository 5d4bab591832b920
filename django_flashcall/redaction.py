"""Hide secrets, and make texts of providers safe to show."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

__all__ = ["Secret", "plain_text"]

PROVIDER_TEXT_LENGTH = 300
"""Maximum length of a provider's text: enough for a sentence, too short to fill a disk."""


class Secret(str):
    """A string whose ``repr`` is masked, so that tracebacks and debug pages do not show it.

    Otherwise it is an ordinary string: it compares, concatenates and serialises like one.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'********'"


def plain_text(text: object, *, secrets: Iterable[str] = ()) -> str:
    """Return a provider's text as one short line without control characters and secrets.

    Args:
        text: the text; anything but a string returns an empty string.
        secrets: strings to remove, such as the code or the password: the provider may echo them.
    """
    if not isinstance(text, str):
        return ""
    hidden = sorted(filter(None, secrets), key=len, reverse=True)
    # Limit the work on a huge text. What is cut off could begin with a part of a secret.
    whole, text = text, text[: PROVIDER_TEXT_LENGTH * 10]
    for secret in hidden:
        text = text.replace(secret, "***")
    if len(whole) > PROVIDER_TEXT_LENGTH * 10 and hidden:
        text = text[: -len(hidden[0])]
    # Category C: control, format (also direction overrides), surrogate and private characters.
    text = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return re.sub(" +", " ", text).strip()[:PROVIDER_TEXT_LENGTH]
