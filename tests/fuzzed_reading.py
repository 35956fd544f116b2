"""Feeds damaged pictures to the reading path; a script for the tests.

Usage: fuzzed_reading.py FOLDER COUNT SEED. Writes COUNT mutations of real PNG, JPEG, WebP, TIFF
and BMP files to FOLDER, reads them as a run does, and prints as JSON how many came out as faces,
without a face and failed, the longest time for one, and the memory that the process took for them.
"""

from __future__ import annotations

import io
import json
import random
import resource
import sys
import time
from pathlib import Path, PurePosixPath

from PIL import Image

from pulse.batch.jobs import Source
from pulse.batch.journal import Journal
from pulse.batch.plan import Plan
from pulse.batch.reader import Reader
from pulse.settings import FaceSettings

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)  # ends of ranges, signs


def seeds():
    """Small real files of every format, with the extras that have parsers of their own."""
    image = Image.linear_gradient("L").resize((24, 24)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    files = []
    for name in FORMATS:
        variants = [{}, {"exif": exif}] if name != "BMP" else [{}]
        variants += {
            "JPEG": [{"progressive": True}, {"icc_profile": b"\0" * 128}],
            "TIFF": [{"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}],
            "WEBP": [{"lossless": True}],
            "PNG": [{"interlace": 1}],
        }.get(name, [])
        for options in variants:
            for mode in ("RGB", "L", "RGBA", "P"):
                if mode in ("RGBA", "P") and name == "JPEG":
                    continue
                buffer = io.BytesIO()
                image.convert(mode).save(buffer, name, **options)
                files.append((name, buffer.getvalue()))
    return files


def mutate(rng, data):
    """Change, insert, remove, repeat or cut bytes, at a few places."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data)) if data else 0
        match rng.randrange(6):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                data[at : at + 1] = bytes([rng.choice(INTERESTING)])
            case 2:
                data[at : at + 4] = rng.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 4))
            case 3:
                del data[at : at + rng.randrange(1, 64)]
            case 4:
                data[at:at] = data[at : at + rng.randrange(1, 64)]
            case 5:
                del data[max(at, 8) :]
    return bytes(data)


def main(folder, count, seed):
    """Write, read, count."""
    rng = random.Random(seed)
    originals = seeds()
    sources = []
    for i in range(count):
        name, data = rng.choice(originals)
        path = folder / f"{i:05}.{name.lower()}"
        path.write_bytes(mutate(rng, data))
        sources.append((Source(path, PurePosixPath()), PurePosixPath(path.stem)))
    plan = Plan(Journal(folder).index(), folder, "run", 1, overwrite=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts, longest_s = {"faces": 0, "no-face": 0, "failed": 0}, 0.0
    for item in sources:  # one at a time, so that each has its own time
        began = time.monotonic()
        reader = Reader([item], plan, 128, FaceSettings(), None, 1)
        prepared = reader.next()
        assert reader.is_exhausted
        reader.close()
        longest_s = max(longest_s, time.monotonic() - began)
        counts[prepared.problem[0] if prepared.problem else "faces"] += 1
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = {"counts": counts, "longest_s": longest_s, "mib": (after - before) / 1024}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
