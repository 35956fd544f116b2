"""dlib's models from the package face-recognition-models: found, verified, never imported."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from pulse.errors import PulseError

MODEL_PACKAGE = "face_recognition_models"
REINSTALL = "pip install --force-reinstall face-recognition-models==0.3.0"


@dataclass(frozen=True)
class Model:
    """One file of the package.

    Attributes:
        what: what to call it.
        name: of the file.
        size_bytes: of the file.
        sha256: of the file that PULSE was tested with, hexadecimal.
    """

    what: str
    name: str
    size_bytes: int
    sha256: str

    def path(self) -> Path:
        """Where the model is, its size checked.

        The package around the model is looked up and never imported: importing it fails with
        current setuptools.

        Raises:
            PulseError: if the package or the file is missing, or has another size.
        """
        spec = importlib.util.find_spec(MODEL_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise PulseError(f"the {self.what} is not installed; run: {REINSTALL}")
        path = Path(spec.submodule_search_locations[0]) / "models" / self.name
        if not path.is_file():
            raise PulseError(f"the {self.what} {path} is missing; run: {REINSTALL}")
        size = path.stat().st_size
        if size != self.size_bytes:
            raise PulseError(
                f"the {self.what} {path} is damaged: it has {size} bytes, expected "
                f"{self.size_bytes}; run: {REINSTALL}"
            )
        return path

    def checked_path(self) -> Path:
        """Where the model is, its content verified.

        Raises:
            PulseError: if it is missing, or not the file that PULSE was tested with.
        """
        path = self.path()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != self.sha256:
            raise PulseError(
                f"the {self.what} {path} is damaged: its SHA-256 is {digest}, expected "
                f"{self.sha256}; run: {REINSTALL}"
            )
        return path


LANDMARKS = Model(
    "face landmark model", "shape_predictor_68_face_landmarks.dat", 99_693_937,
    "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
)  # fmt: skip
EMBEDDING = Model(
    "face embedding model", "dlib_face_recognition_resnet_model_v1.dat", 22_466_066,
    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
)  # fmt: skip
