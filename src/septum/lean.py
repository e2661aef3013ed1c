"""What the way of a launch takes from `typing` and `contextlib`, without loading them.

`typing` loads `re`, `enum`, `functools` and `collections`, and `NamedTuple` compiles a function for every class: a
quarter of a start, measured in docs/decisions/0001-lean-launch-path.md. Type checkers see the real names; at run time
annotations are never looked at (``from __future__ import annotations``), and here is the little that remains of them.
"""

TYPE_CHECKING = False  # a type checker takes a name like this for true

if TYPE_CHECKING:
    from contextlib import suppress as suppress
    from typing import NamedTuple as NamedTuple
    from typing import Protocol as Protocol
else:
    from _collections import _tuplegetter

    _new = tuple.__new__

    class _Record(tuple):
        """What all named tuples share; see `collections.namedtuple` for the meaning of each name."""

        __slots__ = ()
        _fields = ()
        _field_defaults = {}  # noqa: RUF012

        def __new__(cls, *values, **named):
            fields = cls._fields
            if not named and len(values) == len(fields):
                return _new(cls, values)
            if len(values) > len(fields):
                raise TypeError(f"{cls.__name__} takes {len(fields)} values, not {len(values)}")
            given = dict(zip(fields, values, strict=False))
            if twice := given.keys() & named:
                raise TypeError(f"{cls.__name__} got {', '.join(sorted(twice))} twice")
            given = {**cls._field_defaults, **given, **named}
            if given.keys() != set(fields):
                missing, unknown = sorted(set(fields) - given.keys()), sorted(given.keys() - set(fields))
                raise TypeError(f"{cls.__name__} lacks {missing}, does not know {unknown}")
            return _new(cls, [given[field] for field in fields])

        @classmethod
        def _make(cls, values):
            made = _new(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"{cls.__name__} takes {len(cls._fields)} values, not {len(made)}")
            return made

        def _replace(self, /, **changes):
            if unknown := changes.keys() - set(self._fields):
                raise ValueError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
            return _new(type(self), [changes.get(field, mine) for field, mine in zip(self._fields, self, strict=True)])

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            values = ", ".join(f"{field}={mine!r}" for field, mine in zip(self._fields, self, strict=True))
            return f"{type(self).__name__}({values})"

        def __getnewargs__(self):
            return tuple(self)

    class _Maker(type):
        def __new__(mcs, name, bases, space):
            fields = tuple(space.get("__annotations__", ()))
            if not fields or bases != (_Base,):
                raise TypeError(f"{name}: a NamedTuple has fields, and no other base")
            defaults = {field: space.pop(field) for field in fields if field in space}
            if tuple(defaults) != fields[len(fields) - len(defaults) :]:
                raise TypeError(f"{name}: a field without a default follows one with a default")
            getters = {field: _tuplegetter(place, "") for place, field in enumerate(fields)}
            about = {"__slots__": (), "__match_args__": fields, "_fields": fields, "_field_defaults": defaults}
            return type.__new__(type, name, (_Record,), {**space, **about, **getters})

    _Base = type.__new__(_Maker, "_Base", (), {})

    class _NamedTuple:
        def __mro_entries__(self, bases):
            return (_Base,)

    NamedTuple = _NamedTuple()
    Protocol = object

    class suppress:  # noqa: N801
        """`contextlib.suppress`."""

        def __init__(self, *kinds):
            self._kinds = kinds

        def __enter__(self):
            pass

        def __exit__(self, kind, error, trace):
            return isinstance(error, self._kinds)
