"""The one way Corral writes a value: annotated fields, slots, frozen, equality and a readable repr.

``dataclasses`` would do the same, but importing it costs more CPU than all of ``corral --version``
(it pulls in ``inspect``), so the forty lines here replace it on the hot path. A type checker sees a
frozen dataclass.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, dataclass_transform
else:

    def dataclass_transform(**_options):
        return lambda cls: cls


_MISSING = object()


@dataclass_transform(frozen_default=True, kw_only_default=False)
class _RecordType(type):
    """Turns the annotated fields of a class body into slots; a default in the body stays a default."""

    def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> _RecordType:
        own = list(body.get("__annotations__", ()))
        inherited = [field for base in bases for field in getattr(base, "_fields", ())]
        defaults: dict[str, Any] = {}
        for base in bases:
            defaults.update(getattr(base, "_defaults", {}))
        defaults.update({field: body.pop(field) for field in own if field in body})
        body["__slots__"] = tuple(own)
        body["_fields"] = (*inherited, *own)
        body["_defaults"] = defaults
        return super().__new__(mcs, name, bases, body)


class Record(metaclass=_RecordType):
    """A frozen value with named fields, positional or by keyword; no field may be added or changed."""

    if TYPE_CHECKING:
        _fields: ClassVar[tuple[str, ...]]
        _defaults: ClassVar[dict[str, Any]]
    else:

        def __init__(self, *args, **kwargs):
            fields = self._fields
            if len(args) > len(fields):
                raise TypeError(f"{type(self).__name__} takes {len(fields)} values, not {len(args)}")
            put = object.__setattr__
            for field, value in zip(fields, args, strict=False):
                put(self, field, value)
            for field in fields[len(args) :]:
                value = kwargs.pop(field, _MISSING)
                if value is _MISSING:
                    value = self._defaults.get(field, _MISSING)
                    if value is _MISSING:
                        raise TypeError(f"{type(self).__name__} needs {field}")
                put(self, field, value)
            if kwargs:
                raise TypeError(f"{type(self).__name__} has no field {', '.join(kwargs)}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, field) == getattr(other, field) for field in self._fields)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, field) for field in self._fields)))

    def __repr__(self) -> str:
        inside = ", ".join(f"{field}={getattr(self, field)!r}" for field in self._fields)
        return f"{type(self).__name__}({inside})"
