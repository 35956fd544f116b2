"""audit.json and audit.csv: what was measured, and nothing that is not."""

from __future__ import annotations

import base64
import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulse
from pulse.audit.alone import Alone
from pulse.audit.alone import as_json as alone_as_json
from pulse.audit.people import Person
from pulse.audit.study import Study
from pulse.audit.study import as_json as study_as_json
from pulse.errors import PulseError
from pulse.files import make_folder, printable_path, write_text_atomically
from pulse.pretrained import Pretrained

JSON_NAME, CSV_NAME, PAGE_NAME, CARD_NAME = "audit.json", "audit.csv", "audit.html", "audit.md"
SHOWN = 2  # worst and best people of each group that the page shows


@dataclass
class Results:
    """All studies of one generator with one folder of people.

    Attributes:
        about: what was audited: the generator, the folder's name and the column of the groups.
        studies: as `study_as_json` gives them, a method and size each, in order.
        alone: the generator's own samples; None where they were not asked for.
    """

    about: dict[str, Any]
    studies: list[dict[str, Any]] = field(default_factory=list)
    alone: dict[str, Any] | None = None

    @classmethod
    def open(
        cls, out: Path, generator: Pretrained, folder: Path | None, column: str | None
    ) -> Results:
        """What an output folder holds already, to be added to.

        Args:
            out: the output folder.
            generator: that is audited.
            folder: of the people; None for the generator alone.
            column: of the groups; None for the generator alone.

        Raises:
            PulseError: if it holds the audit of something else, or cannot be read.
        """
        about = {
            "generator": generator.name,
            "generator_sha256": generator.sha256,
            "folder": folder.resolve().name if folder else None,
            "column": column,
        }
        path = out / JSON_NAME
        if not path.exists():
            return cls(about)
        try:
            held = json.loads(path.read_text())
            before = cls(held["about"], held["studies"], held["alone"])
            different = [
                f"{name} was {before.about[name]!r}, is {value!r}"
                for name, value in about.items()
                if None not in (value, before.about[name]) and value != before.about[name]
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PulseError(
                f"cannot read {printable_path(path)}: {error!r}; choose another folder with -o"
            ) from error
        if different:
            raise PulseError(
                f"'{out}' holds the audit of something else ({'; '.join(different)}); choose "
                "another folder with -o"
            )
        known = {name: value for name, value in about.items() if value is not None}
        before.about |= known
        return before

    def add(self, study: Study) -> None:
        """Put a study in, in the place of one of the same method and size."""
        new = study_as_json(study) | {"faces": _faces(study)}
        key = (new["method"], new["low_res_px"])
        kept = [s for s in self.studies if (s["method"], s["low_res_px"]) != key]
        self.studies = sorted([*kept, new], key=lambda s: (-s["low_res_px"], s["method"]))

    def add_alone(self, alone: Alone) -> None:
        """Put the generator's own samples in."""
        self.alone = alone_as_json(alone)

    def write(self, out: Path) -> None:
        """Write audit.json and audit.csv.

        Raises:
            PulseError: if they cannot be written.
        """
        make_folder(out)
        content = {
            "pulse": pulse.__version__,
            "about": self.about,
            "studies": self.studies,
            "alone": self.alone,
        }
        write_text_atomically(out / JSON_NAME, json.dumps(content, indent=1) + "\n")
        rows = [
            {"method": s["method"], "low_res_px": s["low_res_px"], **row}
            for s in self.studies
            for row in s["rows"]
        ]
        if rows:
            table = io.StringIO()
            writer = csv.DictWriter(table, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
            write_text_atomically(out / CSV_NAME, table.getvalue())


def _faces(study: Study) -> dict[str, list[dict[str, Any]]]:
    """The worst and best people of each group, by likeness, as the page shows them."""
    shown: dict[str, list[dict[str, Any]]] = {}
    for group in study.sizes:
        people = [p for p in study.people if p.group == group and p.embedding is not None]
        people.sort(key=lambda person: person.values()["distance"])
        ends = [*people[:SHOWN], *people[SHOWN:][-SHOWN:]]
        shown[group] = [_face(person) for person in ends]
    return shown


def _face(person: Person) -> dict[str, Any]:
    values = person.values()
    return {
        "file": person.name,
        "distance": round(values["distance"], 3),
        "error": values["error"],
        "strip": base64.b64encode(person.strip).decode(),
    }
