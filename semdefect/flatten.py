"""Nested figures and parameters by one name each."""

from typing import Any


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values in nested dicts by the keys that lead to them, joined by dots; a list is one value."""
    values: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        values |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return values


def differences(before: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs of flat dicts, sorted by name: values before and now, None where there is none; 2 equals 2.0."""

    def compared(values: dict[str, Any], name: str) -> tuple[bool, bool, Any]:
        value = values.get(name)
        return name in values, isinstance(value, bool), value  # True is no 1

    changed = [name for name in sorted(before | now) if compared(before, name) != compared(now, name)]
    return {name: (before.get(name), now.get(name)) for name in changed}
