"""The log of a training: one JSON object a line, each with the time and the images seen."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from pulse.errors import PulseError
from pulse.files import printable_path

LOG_NAME = "log.jsonl"


class TrainingLog:
    """Appends lines to RUN/log.jsonl.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG_NAME

    def write(self, event: str, images: int, record: Mapping[str, object]) -> None:
        """Append one line.

        Raises:
            PulseError: if it cannot be written.
        """
        line = {"event": event, "images": images, "time": round(time.time(), 1), **record}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise PulseError(
                f"cannot write {printable_path(self.path)}: {error.strerror}; check the folder "
                "and the free space"
            ) from error
