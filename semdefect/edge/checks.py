"""Checks of what an exported model says about itself: each complaint names the field and the fix."""

import math
from collections.abc import Mapping
from typing import Any

from semdefect.errors import UserError


def field(content: Mapping[str, Any], key: str, prefix: str = "") -> Any:
    """The value of ``key``, which is ``prefix + key`` in messages.

    Raises:
        UserError: when it is missing.
    """
    if key not in content:
        raise UserError(f"model metadata: {prefix}{key} is missing; export the model again")
    return content[key]


def number(value: Any, name: str, lowest: float, highest: float) -> float:
    """``value`` as a finite float within both limits.

    Raises:
        UserError: when it is none.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if math.isfinite(found) and lowest <= found <= highest:
            return found
    span = f"from {lowest:g} to {highest:g}" if math.isfinite(highest) else f"of at least {lowest:g}"
    raise wrong(name, f"a finite number {span}", value)


def digits(value: Any, name: str) -> str:
    """``value``, if it is the SHA-256 of a file in 64 lower-case hexadecimal digits.

    Raises:
        UserError: when it is not.
    """
    if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value
    raise wrong(name, "64 lower-case hexadecimal digits", value)


def wrong(name: str, wanted: str, value: Any) -> UserError:
    """What to raise where field ``name`` is not ``wanted``."""
    shown = str(value) if len(str(value)) <= 60 else str(value)[:57] + "..."
    return UserError(f"model metadata: {name} must be {wanted}, not {shown}; export the model again")
