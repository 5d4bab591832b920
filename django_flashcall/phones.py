"""Phone numbers: convert typed numbers to E.164, check and mask them."""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from functools import lru_cache

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberType, ValidationResult

from .conf import conf
from .exceptions import InvalidPhone

__all__ = ["country", "is_allowed", "mask", "parse"]

MAX_TYPED_LENGTH = 64
"""Maximum length of a typed number: 15 digits (E.164), the rest is punctuation."""

MAX_DIGITS = 15
"""Maximum number of digits, including the country code (ITU-T E.164, section 6.1)."""

SHOWN_OF_RANGE = 6
"""Characters of a range that are shown to those who may not see whole numbers."""

_TYPE_NAMES = {PhoneNumberType.to_string(kind).lower(): kind for kind in PhoneNumberType.values()}
_NAME_OF_TYPE = {kind: name for name, kind in _TYPE_NAMES.items()}


def parse(typed: str) -> str:
    """Return a number in E.164 format, with the plus sign.

    Args:
        typed: a number as people write it: digits of any script, spaces, dashes, dots and
            brackets; without a country code it belongs to ``DEFAULT_REGION``. Or a ``tel:`` URI
            (RFC 3966) without parameters.

    Raises:
        InvalidPhone: it is not a phone number, or it has an extension.
    """
    text = typed.strip()
    if text[:4].lower() == "tel:":
        text = text[4:]
    if len(text) > MAX_TYPED_LENGTH:
        raise InvalidPhone
    return _to_e164(text, conf.DEFAULT_REGION)


@lru_cache(maxsize=256)  # a request parses its number in its form and in its service
def _to_e164(text: str, region: str) -> str:
    # phonenumbers finds numbers *within* a text and converts letters to digits. Here the whole
    # text must be the number.
    if not all(map(_is_phone_character, text)):
        raise InvalidPhone
    text = "".join(map(_to_ascii, text))
    number = _parse(text, region)
    if number is None and text.startswith(str(phonenumbers.country_code_for_region(region))):
        # phonenumbers misses a country code without a plus if the number is unassigned.
        number = _parse(f"+{text}", region)
    if number is None:
        raise InvalidPhone
    found = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if len(found) > MAX_DIGITS + 1:  # phonenumbers takes 17 national digits
        raise InvalidPhone
    return found


def parse_prefix(typed: str) -> str:
    """Return a prefix or a whole number with the plus sign: ``8 (916)`` becomes ``+7916``.

    Args:
        typed: in the format of `parse`. A prefix needs a country code or the trunk prefix of
            ``DEFAULT_REGION``.

    Raises:
        InvalidPhone: no number starts like this, or it is ambiguous.
    """
    with suppress(InvalidPhone):
        number = parse(typed)
        # In some countries, the beginning of a number is as long as others.
        if phonenumbers.is_valid_number(_number(number)):
            return number
    text = "".join(map(_to_ascii, typed.strip()))
    if len(typed) > MAX_TYPED_LENGTH or not all(map(_is_phone_character, typed.strip())):
        raise InvalidPhone
    digits = "".join(character for character in text if character.isdecimal())
    region = conf.DEFAULT_REGION
    code = str(phonenumbers.country_code_for_region(region))
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
    trunk = (metadata.national_prefix if metadata else None) or ""
    if text[:1] in ("+", "＋"):
        pass
    elif digits.startswith("00"):  # international prefix of most countries (ITU-T E.164, annex)
        digits = digits[2:]
    elif trunk and digits.startswith(trunk):
        digits = code + digits[len(trunk) :]
    elif not digits.startswith(code):
        raise InvalidPhone
    if not 1 <= len(digits) <= MAX_DIGITS or not _begins_a_country_code(digits):
        raise InvalidPhone
    return f"+{digits}"


def is_allowed(phone: str) -> bool:
    """Return True if ``ALLOWED_COUNTRIES`` and ``NUMBER_TYPES`` allow this E.164 number."""
    countries = conf.ALLOWED_COUNTRIES
    if countries is not None and country(phone) not in countries:
        return False
    return _NAME_OF_TYPE[phonenumbers.number_type(_number(phone))] in conf.NUMBER_TYPES


def country(phone: str) -> str:
    """Return the ISO 3166 code of a number's country, or the main country of a shared code."""
    number = _number(phone)
    return phonenumbers.region_code_for_number(number) or phonenumbers.region_code_for_country_code(
        number.country_code or 0
    )


def mask(phone: str) -> str:
    """Return a number with only its country code and last four digits: ``+7******4567``."""
    if not phone.startswith("+"):
        return "*" * len(phone)
    digits = phone[1:]
    try:
        code = str(_number(phone).country_code)
    except phonenumbers.NumberParseException:
        code = ""
    # Show only two digits of a short number.
    shown = 4 if len(digits) - len(code) >= 8 else 2
    return f"+{code}{'*' * (len(digits) - len(code) - shown)}{digits[-shown:]}"


def mask_range(prefix: str) -> str:
    """Return the beginning of a range: all of it, beside masked numbers, would tell whole ones."""
    return prefix if len(prefix) <= SHOWN_OF_RANGE else f"{prefix[:SHOWN_OF_RANGE]}…"


def prefix(phone: str) -> str:
    """Return the range of a number: all but its last four digits."""
    return phone[:-4]


@lru_cache(maxsize=256)
def _number(text: str, region: str | None = None) -> PhoneNumber:
    return phonenumbers.parse(text, region)


def _begins_a_country_code(digits: str) -> bool:
    codes = map(str, phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
    return any(code.startswith(digits[:3]) or digits.startswith(code) for code in codes)


def _parse(text: str, region: str) -> PhoneNumber | None:
    try:
        # With a plus, it is the same in every region.
        number = _number(text) if text.startswith("+") else _number(text, region)
    except phonenumbers.NumberParseException:
        return None
    possible = phonenumbers.is_possible_number_with_reason(number)
    return None if number.extension or possible != ValidationResult.IS_POSSIBLE else number


def _to_ascii(character: str) -> str:
    """Convert a space, dash or digit of any script to the ASCII one that phonenumbers knows."""
    match unicodedata.category(character):
        case "Zs":
            return " "
        case "Pd":
            return "-"
        case "Cf":
            return ""
        case "Nd":
            return str(unicodedata.decimal(character))
    return character


def _is_phone_character(character: str) -> bool:
    """Return True for a digit of any script and for punctuation of phone numbers."""
    category = unicodedata.category(character)
    # Zs: spaces, also non-breaking ones; Pd: dashes; Cf: soft hyphens and other invisible
    # characters that are copied with a number from a web page.
    return category in ("Nd", "Zs", "Pd", "Cf") or character in "+＋().（）．/~\u2212\t"
