"""What made a finished bag: a record in its metadata, by which a later run knows whether it is its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from handos_ros.errors import DataError

JOB = "handos_job"
"""Key of the record in metadata.yaml's custom_data."""


def finished_by(final: Path) -> dict[str, str] | None:
    """The record of the finished bag `final`, {} for one without, None where there is no finished bag.

    Raises:
        DataError: if the system does not let it be read.
    """
    try:
        text = (final / "metadata.yaml").read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"{final}: cannot be read: {error.strerror or error}") from None
    try:
        custom = yaml.safe_load(text)["rosbag2_bagfile_information"]["custom_data"]
        return {str(key): str(value) for key, value in json.loads(custom[JOB]).items()}
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # made by an earlier version, or recorded


def record(job: Mapping[str, Any]) -> dict[str, str]:
    """A short word for each of a job's values: bags may have hundreds of topics and files."""
    return {
        key: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
        for key, value in job.items()
    }


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """Names of what is not the same in two jobs, or in two records."""
    return ", ".join(sorted(key.replace("_", " ") for key in {*a, *b} if a.get(key) != b.get(key)))
