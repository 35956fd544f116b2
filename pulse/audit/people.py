"""One person measured: the photograph against every face that was imagined from it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pulse.audit.skin import Tone, skin_tone, skin_windows
from pulse.candidates import Candidate, spread_of
from pulse.faces.detect import detect_faces
from pulse.faces.embedding import SAME_PERSON, face_embedding
from pulse.faces.prepare import Face
from pulse.images import to_image, to_tensor

Array = NDArray[np.float64]
Attribute = Callable[[NDArray[np.uint8]], str]

STRIP_PX, STRIP_CANDIDATES = 96, 4  # of the picture that shows a person's outcome on the page


@dataclass(frozen=True)
class Measure:
    """Something measured of each person.

    Attributes:
        name: as in audit.json.
        words: as in tables.
        better: "higher", "lower", or "zero" for signed shifts; None where neither is better.
        digits: after the point, in tables.
    """

    name: str
    words: str
    better: str | None
    digits: int = 3


MEASURES = (
    Measure("within", "share within the tolerance", "higher", 2),
    Measure("error", "mean squared error", "lower", 5),
    Measure("distance", "dlib distance to the photograph", "lower"),
    Measure("alike", f"share nearer than {SAME_PERSON} to it", "higher", 2),
    Measure("psnr_db", "PSNR, dB", "higher", 1),
    Measure("lightness_shift", "shift of the skin's lightness, L*", "zero", 1),
    Measure("ita_shift_deg", "shift of the skin's ITA, degrees", "zero", 1),
    Measure("lightness_miss", "L* of the skin missed by", "lower", 1),
    Measure("ita_miss_deg", "ITA of the skin missed by, degrees", "lower", 1),
    Measure("spread", "spread between candidates", None),
)
SHIFTS = tuple(measure for measure in MEASURES if measure.better == "zero")
# What a stranger of the same group gives: an answer that is no nearer has kept nobody's likeness.
BASELINES = (
    Measure("distance_other", "dlib distance to others of the group", None),
    Measure("alike_other", f"share of others nearer than {SAME_PERSON}", None, 2),
)


@dataclass(frozen=True)
class Answer:
    """One candidate, measured.

    Attributes:
        number: of the candidate.
        error: mean squared error in the downscaled space.
        within: whether that is within the tolerance.
        distance: of the embeddings of candidate and photograph; NaN where no face was found.
        psnr_db: against the photograph.
        tone: of its skin; None where no face was found in the photograph.
        attribute: what the user's function says of it; None without one.
    """

    number: int
    error: float
    within: bool
    distance: float
    psnr_db: float
    tone: Tone | None
    attribute: str | None


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Person:
    """One photograph with its answers.

    Attributes:
        name: of the file, relative to the folder.
        group: what the person says.
        answers: of each candidate.
        spread: mean standard deviation between candidates.
        tone: of the photograph's skin; None where no face was found in the aligned picture.
        attribute: what the user's function says of the photograph.
        embedding: (128,) of the photograph; None where no face was found.
        low_res: hash of the low-resolution picture in 8 bits.
        strip: a small JPEG: low resolution, photograph, some candidates.
    """

    name: str
    group: str
    answers: tuple[Answer, ...]
    spread: float
    tone: Tone | None
    attribute: str | None
    embedding: Array | None
    low_res: str
    strip: bytes = field(repr=False)

    def values(self) -> dict[str, float]:
        """Every measure but the baselines: means over candidates, NaN where not measured."""
        distances = np.array([answer.distance for answer in self.answers])
        light, angle = self._shifts()
        return {
            "within": float(np.mean([answer.within for answer in self.answers])),
            "error": float(np.mean([answer.error for answer in self.answers])),
            "distance": float(distances.mean()),
            "alike": float((distances < SAME_PERSON).mean())
            if np.isfinite(distances).all()
            else float("nan"),
            "psnr_db": float(np.mean([answer.psnr_db for answer in self.answers])),
            "lightness_shift": float(light.mean()),
            "ita_shift_deg": float(angle.mean()),
            "lightness_miss": float(np.abs(light).mean()),
            "ita_miss_deg": float(np.abs(angle).mean()),
            "spread": self.spread,
        }

    def _shifts(self) -> tuple[Array, Array]:
        """Candidate minus photograph: L* and ITA."""
        tones = [answer.tone for answer in self.answers if answer.tone]
        if self.tone is None or not tones:
            return np.array([np.nan]), np.array([np.nan])
        light = np.array([tone.lightness - self.tone.lightness for tone in tones])
        return light, np.array([tone.ita_deg - self.tone.ita_deg for tone in tones])


def measure_person(
    path: Path, group: str, face: Face, candidates: Sequence[Candidate],
    attribute: Attribute | None = None,
) -> Person:  # fmt: skip
    """Measure one person.

    Landmarks are those of the photograph: candidates share its low-resolution picture and with it
    its pose, and windows at other places would compare other skin.

    Args:
        path: of the photograph.
        group: of the person.
        face: that was searched for, from a photograph.
        candidates: that were found.
        attribute: the user's own function of a picture.
    """
    assert face.aligned is not None
    truth = face.aligned
    found = detect_faces(truth)
    landmarks = found[0].landmarks if found else None
    embedding = face_embedding(truth, landmarks) if landmarks is not None else None
    answers = [_measure(c, truth, landmarks, embedding, attribute) for c in candidates]
    pixels = to_image(face.low_res)
    return Person(
        name=path.name,
        group=group,
        answers=tuple(answers),
        spread=spread_of([c.image for c in candidates]).mean().item(),
        tone=_tone(truth, landmarks),
        attribute=attribute(np.asarray(truth)) if attribute else None,
        embedding=embedding,
        low_res=hashlib.sha256(pixels.tobytes()).hexdigest(),
        strip=_strip([pixels, truth, *(c.to_pil() for c in candidates[:STRIP_CANDIDATES])]),
    )


def _measure(
    candidate: Candidate, truth: Image.Image, landmarks: Array | None, embedding: Array | None,
    attribute: Attribute | None,
) -> Answer:  # fmt: skip
    image = candidate.to_pil()
    distance = float("nan")
    if landmarks is not None and embedding is not None:
        distance = float(np.linalg.norm(face_embedding(image, landmarks) - embedding))
    misfit = (candidate.image.cpu() - to_tensor(truth)).square().mean().item()
    return Answer(
        candidate.number,
        candidate.error,
        candidate.met_tolerance,
        distance,
        float(-10 * np.log10(max(misfit, 1e-10))),
        _tone(image, landmarks),
        attribute(np.asarray(image)) if attribute else None,
    )


def _tone(image: Image.Image, landmarks: Array | None) -> Tone | None:
    return skin_tone(image, skin_windows(landmarks)) if landmarks is not None else None


def _strip(pictures: Sequence[Image.Image]) -> bytes:
    """Pictures side by side; the first, of low resolution, with its pixels to be seen."""
    strip = Image.new("RGB", (STRIP_PX * len(pictures), STRIP_PX))
    for i, picture in enumerate(pictures):
        kind = Image.Resampling.NEAREST if i == 0 else Image.Resampling.LANCZOS
        strip.paste(picture.resize((STRIP_PX, STRIP_PX), kind), (i * STRIP_PX, 0))
    data = io.BytesIO()
    strip.save(data, "JPEG", quality=85)
    return data.getvalue()


def value_table(people: Sequence[Person]) -> dict[str, Array]:
    """Each measure and baseline over people, (n,) each."""
    rows = [person.values() for person in people]
    table = {m.name: np.array([row[m.name] for row in rows]) for m in MEASURES}
    others = [_distances_to_others(i, people) for i in range(len(people))]
    nan = float("nan")
    table["distance_other"] = np.array([d.mean() if d.size else nan for d in others])
    table["alike_other"] = np.array([(d < SAME_PERSON).mean() if d.size else nan for d in others])
    return table


def _distances_to_others(i: int, people: Sequence[Person]) -> Array:
    """From one person's photograph to those of all others of the group."""
    person = people[i]
    if person.embedding is None:
        return np.array([])
    return np.array([
        np.linalg.norm(person.embedding - other.embedding)
        for j, other in enumerate(people)
        if j != i and other.group == person.group and other.embedding is not None
    ])  # fmt: skip
