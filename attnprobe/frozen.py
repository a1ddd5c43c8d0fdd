"""Frozen dataclasses that are quick to make: for the modules that a first call imports.

``dataclasses`` writes and compiles six methods for each class, which takes a millisecond where the
class has a dozen fields: of a process's first call that was a third. Here a class has fields of its
own and methods that are the same functions for all. ``fields``, ``replace`` and ``asdict`` of
``dataclasses`` work, and so do ``__post_init__`` and fields with plain defaults.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool) -> Callable[[Any], Any]:
        """Return the decorator; ``frozen`` is always True, and says so where it is used."""
        assert frozen
        return _made


def _made(cls: Any) -> Any:
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    fields = dataclasses.fields(made)
    made._field_names = tuple(field.name for field in fields)
    made._field_defaults = {
        field.name: field.default for field in fields if field.default is not dataclasses.MISSING
    }
    made._field_values = _getter(*made._field_names)
    for name, method in _METHODS.items():
        setattr(made, name, method)
    return made


def _getter(*names: str) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that returns the values of fields as a tuple."""
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda row: (get(row),)


def _init(self: Any, *given: Any, **named: Any) -> None:
    names = self._field_names
    values = dict(zip(names, given, strict=False))
    twice = values.keys() & named.keys()
    values = {**self._field_defaults, **values, **named}
    if len(given) > len(names) or twice or len(values) != len(names) or values.keys() - set(names):
        raise TypeError(
            f"{type(self).__name__} has the fields {', '.join(names)}; {len(given)} values and "
            f"{', '.join(named) or 'no names'} were given"
        )
    self.__dict__.update((name, values[name]) for name in names)
    check = getattr(self, "__post_init__", None)
    if check is not None:
        check()


def _repr(self: Any) -> str:
    told = (
        f"{name}={value!r}" for name, value in zip(self._field_names, _values(self), strict=True)
    )
    return f"{type(self).__qualname__}({', '.join(told)})"


def _eq(self: Any, other: object) -> Any:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _values(self: Any) -> tuple[Any, ...]:
    values: tuple[Any, ...] = type(self)._field_values(self)
    return values


def _set(self: Any, name: str, value: Any) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delete(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


_METHODS: dict[str, Any] = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _set,
    "__delattr__": _delete,
}
