"""Unpickles arrays and nothing else: a pickle that asks for anything that could run code is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handos_ros.errors import ModelError


def load_arrays(path: str | Path) -> dict[str, Any]:
    """Read a pickled dictionary of arrays, as written by Python 2 or 3.

    SciPy's sparse matrices come out dense, chumpy's arrays plain; neither package is needed or run.

    Returns:
        The dictionary; entries that are no arrays (strings, numbers) as they are.

    Raises:
        ModelError: naming the file, and what in it was refused.
    """
    try:
        with open(path, "rb") as file:
            content = _Unpickler(file, encoding="latin1").load()
    except OSError as error:
        raise ModelError(f"{path}: cannot read the file: {error.strerror}") from None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except Exception as error:  # what a damaged pickle raises has no common base
        raise ModelError(f"{path}: not a pickle, or a damaged one ({error})") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds a {type(content).__name__}, not a dictionary of arrays")
    try:
        return {str(key): _plain(value) for key, value in content.items()}
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ModelError(f"{path}: holds an array that cannot be read ({error!r})") from None


class _Parts:
    """Stands in for an object of another package: keeps what was pickled of it, runs nothing."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Parts):
    """A NumPy array: version, shape, dtype, whether by columns, bytes (or a list of objects)."""


class _Chumpy(_Parts):
    """A chumpy array."""


class _SparseColumns(_Parts):
    """A SciPy csc matrix."""


class _SparseRows(_Parts):
    """A SciPy csr matrix."""


class _Dtype:
    """A NumPy dtype: its code (`f8`) and byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def plain(self) -> np.dtype:
        if self.code[:1] not in ("f", "i", "u", "b"):
            raise ValueError(f"an array of {self.code}")
        return np.dtype(("" if self.order == "|" else self.order) + self.code)


def _reconstruct(cls: type, *_: Any) -> _Array:
    """NumPy's `_reconstruct`; shape and content come with the state that follows."""
    return _new(cls)


def _frombuffer(buffer: Any, dtype: _Dtype, shape: tuple, order: str) -> _Array:
    """NumPy's way to pickle an array by protocol 5."""
    array = _Array()
    array.state = (1, shape, dtype, order == "F", bytes(buffer))
    return array


def _new(cls: type, *_: Any) -> Any:
    """Python 2's `copy_reg._reconstructor`, for the stand-ins only."""
    if not (isinstance(cls, type) and issubclass(cls, _Parts)):
        raise ModelError(f"refused to unpickle an object of the type {cls!r}")
    return cls()


def _bytes(text: str, encoding: str) -> bytes:
    """`_codecs.encode` as Python 3 uses it to pickle bytes by old protocols."""
    if encoding != "latin1":
        raise ModelError(f"refused to unpickle a call of codecs.encode for {encoding!r}")
    return text.encode("latin1")


def _scalar(dtype: _Dtype, raw: str | bytes) -> Any:
    return np.frombuffer(_raw(raw), dtype.plain())[0]


def _raw(data: str | bytes) -> bytes:
    return data.encode("latin1") if isinstance(data, str) else data


_ALLOWED: dict[str, Any] = {
    "copy_reg._reconstructor": _new, "copyreg._reconstructor": _new,
    "__builtin__.object": object, "builtins.object": object,
    "_codecs.encode": _bytes,
    "numpy.ndarray": _Array, "numpy.dtype": _Dtype,
}  # fmt: skip
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED |= {f"{_core}.multiarray._reconstruct": _reconstruct, f"{_core}.multiarray.scalar": _scalar}
    _ALLOWED |= {f"{_core}.numeric._frombuffer": _frombuffer}
for _layout, _class in (("csc", _SparseColumns), ("csr", _SparseRows)):
    _ALLOWED |= {f"scipy.sparse.{module}.{_layout}_matrix": _class for module in (_layout, f"_{_layout}")}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "chumpy" or module.startswith("chumpy."):
            return _Chumpy
        try:
            return _ALLOWED[f"{module}.{name}"]
        except KeyError:
            raise ModelError(f"refused to unpickle {module}.{name}: it is no array") from None

    def persistent_load(self, pid: Any) -> Any:
        raise ModelError("refused to unpickle a reference to something outside of the file")


def _plain(value: Any) -> Any:
    """What a stand-in stands for, as a plain array; anything else as it is."""
    if isinstance(value, _Array):
        return _from_array(*value.state)
    if isinstance(value, _Chumpy):
        return _from_chumpy(value.state)
    if isinstance(value, _SparseColumns):
        return _from_sparse(value.state, by_rows=False)
    if isinstance(value, _SparseRows):
        return _from_sparse(value.state, by_rows=True)
    return value


def _from_array(_: int, shape: tuple, dtype: _Dtype, by_columns: bool, data: Any) -> NDArray:
    return np.frombuffer(_raw(data), dtype.plain()).reshape(shape, order="F" if by_columns else "C")


def _from_chumpy(state: dict[str, Any]) -> NDArray:
    """A `Ch` holds its array under `x`; a `Select` picks `idxs` of the flattened array under `a`."""
    if "x" in state:
        return np.asarray(_plain(state["x"]))
    picked = np.asarray(_plain(state["a"])).ravel()[np.asarray(_plain(state["idxs"]))]
    shape = state.get("preferred_shape")
    return picked if shape is None else picked.reshape(_plain(shape))


def _from_sparse(state: dict[str, Any], *, by_rows: bool) -> NDArray:
    rows, columns = (int(n) for n in _plain(state.get("_shape", state.get("shape"))))
    if not 0 < rows * columns <= 10**7:
        raise ValueError(f"a sparse matrix of {rows} x {columns}")
    dense = np.zeros((rows, columns) if by_rows else (columns, rows))
    major = np.repeat(np.arange(len(dense)), np.diff(_plain(state["indptr"])))
    np.add.at(dense, (major, _plain(state["indices"])), _plain(state["data"]).astype(np.float64))
    return dense if by_rows else dense.T
