"""Messages from plain values to CDR, the bytes in which ROS 2 sends and records them.

rosbags' own serialiser wants an object for every point; a mesh has thousands, which costs more than the
network. Here a message is a dict, and an array of points is one NumPy array.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

_DTYPES = {
    "bool": "u1", "byte": "u1", "char": "u1", "uint8": "u1", "int8": "i1", "int16": "<i2", "uint16": "<u2",
    "int32": "<i4", "uint32": "<u4", "int64": "<i8", "uint64": "<u8", "float32": "<f4", "float64": "<f8",
}  # fmt: skip


def serialize(values: Mapping[str, Any], msgtype: str, typestore: Typestore) -> bytes:
    """The CDR bytes (little endian, with their header) of a message.

    Args:
        values: field name -> value. A message in it is a mapping, or a sequence of numbers where its
            fields are numbers of one type (Point: x y z). An array of messages is a sequence of
            mappings, or an (N, fields) array of numbers likewise. A field left out is 0, "" or empty.
        msgtype: such as `std_msgs/msg/Header`.
        typestore: knows `msgtype` and the types in it.

    Raises:
        KeyError: naming a value whose field the message does not have.
        ValueError: naming a field that got the wrong number of values.
    """
    writer = _Writer(typestore)
    writer.message(msgtype, values)
    return b"\x00\x01\x00\x00" + bytes(writer.buffer)


class _Writer:
    def __init__(self, typestore: Typestore) -> None:
        self.buffer = bytearray()
        self.typestore = typestore

    def message(self, msgtype: str, values: Any) -> None:
        flat = _flat(self.typestore, msgtype)
        if flat is not None and not isinstance(values, Mapping):
            dtype, count = flat
            self._numbers(np.asarray(values, dtype), dtype, count, msgtype)
            return
        fields = self.typestore.fielddefs[msgtype][1]
        unknown = set(values) - {name for name, _ in fields}
        if unknown:
            raise KeyError(f"{msgtype} has no field {', '.join(sorted(unknown))}")
        for name, desc in fields:
            self._field(f"{msgtype}.{name}", desc, values.get(name))

    def _field(self, name: str, desc: Any, value: Any) -> None:
        kind, rest = desc
        if kind == Nodetype.BASE:
            self._base(rest[0], value)
        elif kind == Nodetype.NAME:
            self.message(rest, {} if value is None else value)
        else:
            element, count = rest
            if kind == Nodetype.SEQUENCE:
                items: Any = () if value is None else value
                self._pack("I", 4, len(items))
                count = len(items)
            else:
                items = [None] * count if value is None else value
                if len(items) != count:
                    raise ValueError(f"{name} takes {count} values, got {len(items)}")
            if count:
                self._items(name, element, items, count, empty=value is None)

    def _items(self, name: str, element: Any, items: Any, count: int, *, empty: bool) -> None:
        kind, rest = element
        if kind == Nodetype.BASE and rest[0] != "string":
            dtype = _DTYPES[rest[0]]
            self._numbers(np.zeros(count, dtype) if empty else np.asarray(items, dtype), dtype, count, name)
            return
        flat = _flat(self.typestore, rest) if kind == Nodetype.NAME else None
        if flat is not None and isinstance(items, np.ndarray):
            dtype, width = flat
            self._numbers(items.astype(dtype, copy=False), dtype, count * width, name)
            return
        for item in items:
            self._field(name, element, item)

    def _numbers(self, array: np.ndarray, dtype: str, count: int, name: str) -> None:
        if array.size != count:
            raise ValueError(f"{name} takes {count} numbers, got {array.size}")
        self._align(np.dtype(dtype).itemsize)
        self.buffer += np.ascontiguousarray(array).data.cast("B")

    def _base(self, base: str, value: Any) -> None:
        if base == "string":
            encoded = (value or "").encode()
            self._pack("I", 4, len(encoded) + 1)
            self.buffer += encoded + b"\0"
            return
        dtype = np.dtype(_DTYPES[base])
        self._align(dtype.itemsize)
        self.buffer += np.asarray(value or 0, dtype).tobytes()

    def _pack(self, code: str, size: int, value: int) -> None:
        self._align(size)
        self.buffer += struct.pack("<" + code, value)

    def _align(self, size: int) -> None:
        self.buffer += bytes(-len(self.buffer) % size)


def _flat(typestore: Typestore, msgtype: str) -> tuple[str, int] | None:
    """Type and number of the fields of a message that is nothing but numbers of one type."""
    fields: Sequence[Any] = typestore.fielddefs[msgtype][1]
    return _flat_fields(tuple((desc[0], desc[1] if desc[0] == Nodetype.BASE else None) for _, desc in fields))


@cache
def _flat_fields(fields: tuple[Any, ...]) -> tuple[str, int] | None:
    bases = {rest[0] if kind == Nodetype.BASE else None for kind, rest in fields}
    if len(bases) != 1:
        return None
    base = bases.pop()
    return (_DTYPES[base], len(fields)) if base in _DTYPES else None
