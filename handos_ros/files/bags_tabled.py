"""Whose hands a table holds, so that a run that goes on replaces its own table and nobody else's."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from handos_ros.errors import DataError

# What a table of hands has, whichever version made it.
_COLUMNS = {"bag", "camera", "picture"}


def check_own_table(table: Path, bags: Collection[str]) -> None:
    """Refuse to replace what is no table of `bags`, or of some of them. Nothing at `table` is fine.

    Raises:
        DataError: naming the table and what it holds, or that it cannot be read.
    """
    try:
        others = sorted(_bags_in(table) - set(bags))
    except FileNotFoundError:
        return
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's are ValueErrors
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DataError(
            f"{table}: is there and is no table of hands ({reason}); --resume does not replace it, "
            "choose another"
        ) from None
    if others:
        named = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        raise DataError(
            f"{table}: holds hands of other bags ({named}); --resume does not replace it, choose another"
        )


def _bags_in(table: Path) -> set[str]:
    """Names of the bags of a table's rows. Raises ValueError where it is no table of hands."""
    if table.suffix == ".csv":
        with table.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            _check(header)
            place = header.index("bag")
            return {row[place] for row in rows if len(row) > place}
    with table.open("rb") as file:
        import pyarrow.parquet

        parquet = pyarrow.parquet.ParquetFile(file)
        _check(parquet.schema_arrow.names)
        return {str(name) for name in parquet.read(columns=["bag"])["bag"].unique().to_pylist()}


def _check(columns: Collection[str]) -> None:
    if not _COLUMNS.issubset(columns):
        raise ValueError("it lacks their columns")
