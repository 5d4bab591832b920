"""Phone numbers: what people type becomes E.164, and E.164 becomes what others may see."""

from __future__ import annotations

import unicodedata

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberType, ValidationResult

from .conf import conf
from .exceptions import InvalidPhone

__all__ = ["country", "is_allowed", "mask", "parse"]

MAX_TYPED_LENGTH = 64
"""Characters of a number as typed: E.164 has 15 digits, the rest is punctuation."""

MAX_DIGITS = 15
"""Digits of a number at most, its country code included (ITU-T E.164, section 6.1)."""

_TYPE_NAMES = {PhoneNumberType.to_string(kind).lower(): kind for kind in PhoneNumberType.values()}
_NAME_OF_TYPE = {kind: name for name, kind in _TYPE_NAMES.items()}


def parse(typed: str) -> str:
    """Return a number in E.164, with the plus.

    Args:
        typed: a number as a person writes it: in any script's digits, with blanks, dashes, dots and
            brackets, with or without country code (then of ``DEFAULT_REGION``), or a ``tel:`` URI
            (RFC 3966) without parameters.

    Raises:
        InvalidPhone: it is no phone number, or one with an extension.
    """
    text = typed.strip()
    if text[:4].lower() == "tel:":
        text = text[4:]
    # phonenumbers finds a number *within* a text, and reads letters as keys of a phone. Here the
    # text is the number: letters, controls and parameters make it another thing.
    if len(text) > MAX_TYPED_LENGTH or not all(map(_belongs, text)):
        raise InvalidPhone
    text = "".join(map(_plain, text))
    region = conf.DEFAULT_REGION
    number = _read(text, region)
    if number is None and text.startswith(str(phonenumbers.country_code_for_region(region))):
        # The country code without its plus, before a number that is not assigned.
        number = _read(f"+{text}", region)
    if number is None:
        raise InvalidPhone
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def parse_prefix(typed: str) -> str:
    """Return the beginning of a number, or a whole one, with the plus: ``8 (916)`` is ``+7916``.

    Args:
        typed: as `parse` takes it, and with a country code or the trunk prefix of
            ``DEFAULT_REGION``, unless it is whole.

    Raises:
        InvalidPhone: no number begins like this, or it may be meant in more than one way.
    """
    try:
        return parse(typed)
    except InvalidPhone:
        pass
    text = "".join(map(_plain, typed.strip()))
    if len(typed) > MAX_TYPED_LENGTH or not all(map(_belongs, typed.strip())):
        raise InvalidPhone
    digits = "".join(character for character in text if character.isdecimal())
    region = conf.DEFAULT_REGION
    code = str(phonenumbers.country_code_for_region(region))
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
    trunk = (metadata.national_prefix if metadata else None) or ""
    if text[:1] in ("+", "＋"):
        pass
    elif digits.startswith("00"):  # as it is dialled from most of the world (ITU-T E.164, annex)
        digits = digits[2:]
    elif trunk and digits.startswith(trunk):
        digits = code + digits[len(trunk) :]
    elif not digits.startswith(code):
        raise InvalidPhone
    if not 1 <= len(digits) <= MAX_DIGITS or not _begins_a_country_code(digits):
        raise InvalidPhone
    return f"+{digits}"


def is_allowed(phone: str) -> bool:
    """Tell whether ``ALLOWED_COUNTRIES`` and ``NUMBER_TYPES`` let a number in E.164 be called."""
    countries = conf.ALLOWED_COUNTRIES
    if countries is not None and country(phone) not in countries:
        return False
    return _NAME_OF_TYPE[phonenumbers.number_type(_number(phone))] in conf.NUMBER_TYPES


def country(phone: str) -> str:
    """Return the ISO 3166 code of a number's country, the main one where several share a code."""
    number = _number(phone)
    return phonenumbers.region_code_for_number(number) or phonenumbers.region_code_for_country_code(
        number.country_code or 0
    )


def mask(phone: str) -> str:
    """Return a number with its country code and last four digits alone: ``+7******4567``."""
    if not phone.startswith("+"):
        return "*" * len(phone)
    digits = phone[1:]
    try:
        code = str(_number(phone).country_code)
    except phonenumbers.NumberParseException:
        code = ""
    # A number so short that four digits are most of it shows two.
    shown = 4 if len(digits) - len(code) >= 8 else 2
    return f"+{code}{'*' * (len(digits) - len(code) - shown)}{digits[-shown:]}"


def prefix(phone: str) -> str:
    """Return a number without its last four digits: the range that it was sold in."""
    return phone[:-4]


def _number(phone: str) -> PhoneNumber:
    return phonenumbers.parse(phone, None)


def _begins_a_country_code(digits: str) -> bool:
    codes = map(str, phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
    return any(code.startswith(digits[:3]) or digits.startswith(code) for code in codes)


def _read(text: str, region: str) -> PhoneNumber | None:
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    possible = phonenumbers.is_possible_number_with_reason(number)
    return None if number.extension or possible != ValidationResult.IS_POSSIBLE else number


def _plain(character: str) -> str:
    """Make the blanks, dashes and digits of all scripts those that phonenumbers knows."""
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


def _belongs(character: str) -> bool:
    """Tell whether a character is a digit of any script or the punctuation of a number."""
    category = unicodedata.category(character)
    # Zs: blanks, the non-breaking ones too; Pd: dashes; Cf: soft hyphens and the like, which come
    # along when a number is copied from a page.
    return category in ("Nd", "Zs", "Pd", "Cf") or character in "+＋().（）．/~\u2212\t"
