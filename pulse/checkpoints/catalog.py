"""The generators that people know, as data: what each is, its licence, and where to get it.

A SHA-256 stands here only where unrelated holders of the official file have published the same
one; for the others the first download is trusted and recorded (see `pulse.checkpoints.store`).
Sizes are what was seen or what the same architecture weighs, for a progress bar and a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from pulse.settings import EMBEDDED


@dataclass(frozen=True)
class CatalogEntry:
    """A generator's weights file.

    Attributes:
        name: what to call it on the command line.
        architecture: "stylegan1", "stylegan2" or "stylegan3".
        resolution: pixels a side.
        licence: short name of the licence of the weights.
        non_commercial: whether the licence excludes commercial use.
        file_name: of the weights in the cache.
        size_bytes: about how large the file is; None if unknown.
        address: where it can be downloaded (https); None if only a person can get it.
        by_hand: where a person gets it, for entries without an address.
        sha256: of the official file, hexadecimal; None if nobody published it.
        note: what sets it apart.
    """

    name: str
    architecture: str
    resolution: int
    licence: str
    non_commercial: bool
    file_name: str
    size_bytes: int | None = None
    address: str | None = None
    by_hand: str | None = None
    sha256: str | None = None
    note: str = ""


CC_BY_NC = "CC BY-NC 4.0"
NVIDIA_STYLEGAN2 = "Nvidia Source Code License-NC"
NVIDIA_ADA = "NVIDIA Source Code License for StyleGAN2-ADA"
NVIDIA_STYLEGAN3 = "NVIDIA Source Code License for StyleGAN3"

NVIDIA_FILES = "https://nvlabs-fi-cdn.nvidia.com"
NVIDIA_MODELS = "https://api.ngc.nvidia.com/v2/models/nvidia/research"
DRIVE = "https://drive.google.com/uc?id="

_DATASETS = {
    "ffhq": "faces (FFHQ)",
    "ffhqu": "faces, not aligned (FFHQ-U)",
    "celebahq": "faces of celebrities (CelebA-HQ)",
    "metfaces": "faces in works of art (MetFaces)",
    "metfacesu": "faces in works of art, not aligned (MetFaces-U)",
    "afhqv2": "animal faces (AFHQv2)",
    "afhqcat": "cats (AFHQ)",
    "afhqdog": "dogs (AFHQ)",
    "afhqwild": "wild animals (AFHQ)",
}


def _stylegan2(dataset: str, resolution: int, size_bytes: int | None = None) -> CatalogEntry:
    """A row for a StyleGAN2 among NVIDIA's models for the code of StyleGAN3."""
    file_name = f"stylegan2-{dataset}-{resolution}x{resolution}.pkl"
    return CatalogEntry(
        name=f"stylegan2-{dataset}-{resolution}",
        architecture="stylegan2",
        resolution=resolution,
        licence=NVIDIA_STYLEGAN3,
        non_commercial=True,
        file_name=file_name,
        size_bytes=size_bytes,
        address=f"{NVIDIA_MODELS}/stylegan2/versions/1/files/{file_name}",
        note=_DATASETS[dataset],
    )


def _stylegan2_ada(
    dataset: str, resolution: int, size_bytes: int, sha256: str | None = None
) -> CatalogEntry:
    """A row for a snapshot published with stylegan2-ada-pytorch."""
    return CatalogEntry(
        name=f"stylegan2-ada-{dataset}-{resolution}",
        architecture="stylegan2",
        resolution=resolution,
        licence=NVIDIA_ADA,
        non_commercial=True,
        file_name=f"stylegan2-ada-{dataset}.pkl",
        size_bytes=size_bytes,
        address=f"{NVIDIA_FILES}/stylegan2-ada-pytorch/pretrained/{dataset}.pkl",
        sha256=sha256,
        note=f"{_DATASETS[dataset]}; published as {dataset}.pkl",
    )


def _stylegan3(
    config: str, dataset: str, resolution: int, size_bytes: int | None = None
) -> CatalogEntry:
    """A row for StyleGAN3, config "t" (translation) or "r" (translation and rotation)."""
    file_name = f"stylegan3-{config}-{dataset}-{resolution}x{resolution}.pkl"
    return CatalogEntry(
        name=f"stylegan3-{config}-{dataset}-{resolution}",
        architecture="stylegan3",
        resolution=resolution,
        licence=NVIDIA_STYLEGAN3,
        non_commercial=True,
        file_name=file_name,
        size_bytes=size_bytes,
        address=f"{NVIDIA_MODELS}/stylegan3/versions/1/files/{file_name}",
        note=_DATASETS[dataset],
    )


CATALOG: tuple[CatalogEntry, ...] = (
    CatalogEntry(
        name=EMBEDDED,
        architecture="stylegan2",
        resolution=128,
        licence="given for research and demonstration",
        non_commercial=False,
        file_name=f"{EMBEDDED}.safetensors",
        size_bytes=12_300_660,
        by_hand="it comes with PULSE; if it is missing, install PULSE again",
        sha256="999955ade9b5252861f052a6d7209ca632365878e55e8c7f365cef3d22950ecd",
        note="the small generator inside the package; read its model card before commercial use",
    ),
    CatalogEntry(
        name="stylegan1-ffhq-1024",
        architecture="stylegan1",
        resolution=1024,
        licence=CC_BY_NC,
        non_commercial=True,
        file_name="karras2019stylegan-ffhq-1024x1024.for_g_all.pt",
        size_bytes=104_900_000,
        address="https://github.com/lernapparat/lernapparat/releases/download/v2019-02-01/"
        "karras2019stylegan-ffhq-1024x1024.for_g_all.pt",
        note="faces (FFHQ); the generator of the published PULSE, in lernapparat's PyTorch form",
    ),
    CatalogEntry(
        name="stylegan1-ffhq-1024-pulse",
        architecture="stylegan1",
        resolution=1024,
        licence=CC_BY_NC,
        non_commercial=True,
        file_name="synthesis.pt",
        size_bytes=96_500_000,
        by_hand=f"open {DRIVE}1TCViX1YpQyRsklTVYEJwdbmK91vklCo8 (synthesis.pt) and "
        f"{DRIVE}14R6iHGf5iuVx3DMNsACAl7eBr7Vdpd0k (mapping.pt) in a browser and keep both files "
        "in one folder",
        note="faces (FFHQ); the two files of the published PULSE: mapping.pt belongs beside it",
    ),
    CatalogEntry(
        name="stylegan1-ffhq-1024-tf",
        architecture="stylegan1",
        resolution=1024,
        licence=CC_BY_NC,
        non_commercial=True,
        file_name="karras2019stylegan-ffhq-1024x1024.pkl",
        by_hand=f"open {DRIVE}1MEGjdvVpUsu1jB4zrXZN7Y4kBBOzizDQ in a browser",
        note="faces (FFHQ); NVIDIA's TensorFlow pickle",
    ),
    CatalogEntry(
        name="stylegan1-celebahq-1024-tf",
        architecture="stylegan1",
        resolution=1024,
        licence=CC_BY_NC,
        non_commercial=True,
        file_name="karras2019stylegan-celebahq-1024x1024.pkl",
        by_hand=f"open {DRIVE}1MGqJl28pN4t7SAtSrPdSRJSQJqahkzUf in a browser",
        note="faces of celebrities (CelebA-HQ); NVIDIA's TensorFlow pickle",
    ),
    CatalogEntry(
        name="stylegan2-ffhq-1024-tf",
        architecture="stylegan2",
        resolution=1024,
        licence=NVIDIA_STYLEGAN2,
        non_commercial=True,
        file_name="stylegan2-ffhq-config-f.pkl",
        size_bytes=381_673_535,
        address=f"{NVIDIA_FILES}/stylegan2/networks/stylegan2-ffhq-config-f.pkl",
        sha256="adf127ea7bb8a7788c8bdeda3c9937f7310b669b09ecf799ca53a631ff46948d",
        note="faces (FFHQ); NVIDIA's TensorFlow pickle, configuration F",
    ),
    CatalogEntry(
        name="stylegan2-ffhq-1024-rosinality",
        architecture="stylegan2",
        resolution=1024,
        licence=NVIDIA_STYLEGAN2,
        non_commercial=True,
        file_name="stylegan2-ffhq-config-f.pt",
        size_bytes=381_000_000,
        by_hand=f"open {DRIVE}1EM87UquaoQmk17Q8d5kYIAHqu0dkYqdT in a browser",
        note="faces (FFHQ); configuration F converted for rosinality's PyTorch code",
    ),
    _stylegan2_ada(
        "ffhq",
        1024,
        381_624_121,
        "a205a346e86a9ddaae702e118097d014b7b8bd719491396a162cca438f2f524c",
    ),
    _stylegan2_ada("metfaces", 1024, 381_600_000),
    _stylegan2_ada("afhqcat", 512, 364_000_000),
    _stylegan2_ada("afhqdog", 512, 364_000_000),
    _stylegan2_ada("afhqwild", 512, 364_000_000),
    _stylegan2("ffhq", 1024, 381_600_000),
    _stylegan2("ffhq", 512, 364_000_000),
    _stylegan2("ffhq", 256),
    _stylegan2("ffhqu", 1024, 381_600_000),
    _stylegan2("ffhqu", 256),
    _stylegan2("celebahq", 256),
    _stylegan2("metfaces", 1024, 381_600_000),
    _stylegan2("metfacesu", 1024, 381_600_000),
    _stylegan2("afhqv2", 512, 364_000_000),
    _stylegan2("afhqcat", 512, 364_000_000),
    _stylegan2("afhqdog", 512, 364_000_000),
    _stylegan2("afhqwild", 512, 364_000_000),
    _stylegan3("t", "ffhq", 1024, 294_775_112),
    _stylegan3("t", "ffhqu", 1024, 294_800_000),
    _stylegan3("t", "ffhqu", 256),
    _stylegan3("t", "metfaces", 1024, 294_800_000),
    _stylegan3("t", "metfacesu", 1024, 294_800_000),
    _stylegan3("t", "afhqv2", 512),
    _stylegan3("r", "ffhq", 1024),
    _stylegan3("r", "ffhqu", 1024),
    _stylegan3("r", "ffhqu", 256),
    _stylegan3("r", "metfaces", 1024),
    _stylegan3("r", "metfacesu", 1024),
    _stylegan3("r", "afhqv2", 512),
)


def find_entry(name: str) -> CatalogEntry | None:
    """The row of that name; case does not matter."""
    return next((entry for entry in CATALOG if entry.name == name.lower()), None)


def unknown_name_text(name: str) -> str:
    """What to tell someone whose name is not in the catalogue: the nearest names, else all."""
    names = [entry.name for entry in CATALOG]
    near = get_close_matches(name.lower(), names, n=3)
    advice = f"did you mean {' or '.join(near)}?" if near else "see: pulse weights list"
    return f"there is no generator {name!r} in the catalogue; {advice}"
