"""Time and memory of a run over very many pictures, when all of them are done already.

    python scripts/measure_scale.py FOLDER [--count 100000]

Makes COUNT tiny pictures in nested folders and one real run over the first few of them; the
finished files and records of the others are copies of those, since drawing them all would take
hours and is not what is measured. Then `pulse upscale` runs over everything and finds it done.
Prints one line of JSON: seconds to list, plan and resume, and memory beyond that of a run over a
single picture; and both for a run that has to write the report page besides.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

REAL = 20  # pictures that a real run draws
IN_A_FOLDER = 250
COMMAND = [sys.executable, "-m", "pulse", "upscale"]
OPTIONS = ["-n", "1", "--steps", "1", "--device", "cpu", "--align", "never", "--quiet"]
MEASURED = """
import resource, sys
from pulse.cli import main
try:
    main(sys.argv[1:])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def picture_path(folder: Path, i: int) -> Path:
    """Where the i-th picture is: folders of 250, in folders of 20 of those."""
    group = i // IN_A_FOLDER
    return folder / f"{group // 20:03}" / f"{group:05}" / f"{i:06}.png"


def make_pictures(folder: Path, count: int) -> None:
    """Write pictures of 8 px, all different."""
    for i in range(count):
        path = picture_path(folder, i)
        if i % IN_A_FOLDER == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i % 256, i // 256 % 256, i // 65536)).save(path)


def copy_results(folder: Path, out: Path, count: int) -> None:
    """Give every picture the files and the record of a real one, under its own name."""
    import hashlib

    lines = (out / "journal.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    by_source = {record["source"]: record for record in records}
    patterns = [by_source[os.path.abspath(picture_path(folder, i))] for i in range(REAL)]  # noqa: PTH100
    with (out / "journal.jsonl").open("a") as journal:
        for i in range(REAL, count):
            path, pattern = picture_path(folder, i), patterns[i % REAL]
            name = str(path.relative_to(folder).with_suffix(""))
            shutil.copytree(out / pattern["folder"], out / name, copy_function=os.link)
            status = path.stat()
            record = pattern | {
                "source": os.path.abspath(path),  # noqa: PTH100
                "folder": name,
                "output": pattern["output"].replace(pattern["folder"], name),
                "source_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "source_bytes": status.st_size,
                "source_mtime_ns": status.st_mtime_ns,
            }
            journal.write(json.dumps(record) + "\n")


def measure(inputs: Path, out: Path) -> tuple[float, float]:
    """Seconds and MiB of memory at most of one run of the command."""
    import time

    began = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", MEASURED, "upscale", str(inputs), "-o", str(out), *OPTIONS],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return time.monotonic() - began, int(result.stderr.split()[-1]) / 1024


def main() -> None:
    """Parse, make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for pictures and results; must be new")
    parser.add_argument("--count", type=int, default=100_000)
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    pictures, out = options.folder / "pictures", options.folder / "out"
    make_pictures(pictures, REAL)
    subprocess.run([*COMMAND, str(pictures), "-o", str(out), *OPTIONS], check=True)
    make_pictures(pictures, options.count)
    copy_results(pictures, out, options.count)
    single_s, single_mib = measure(picture_path(pictures, 0), options.folder / "single")
    single_s, single_mib = measure(picture_path(pictures, 0), options.folder / "single")
    page_s, page_mib = measure(pictures, out)  # the report page has to be written once
    seconds, mib = measure(pictures, out)
    print(
        json.dumps(
            {
                "pictures": options.count,
                "seconds": round(seconds, 1),
                "seconds_of_a_single_picture_done": round(single_s, 1),
                "mib_beyond_a_single_picture": round(mib - single_mib),
                "seconds_with_the_report_page": round(page_s, 1),
                "mib_beyond_with_the_report_page": round(page_mib - single_mib),
            }
        )
    )


if __name__ == "__main__":
    main()
