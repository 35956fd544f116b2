"""Fetch a generator: resumed where it was cut, verified before it has its name.

The only module that opens sockets. A file on its way is `<name>.part`; only when its SHA-256 was
checked is it renamed to `<name>`.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPMessage, HTTPResponse
from itertools import chain
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pulse.checkpoints.catalog import CatalogEntry
from pulse.checkpoints.part import Origin, Part
from pulse.checkpoints.store import (
    KNOWN_HASHES,
    is_present,
    known_sha256,
    path_of,
    record_sha256,
    sha256_of,
    verify,
)
from pulse.errors import PulseError, WeightsError
from pulse.files import make_folder, printable_path
from pulse.lock import locked

OnProgress = Callable[[int, int | None], None]
"""Called with the bytes that have come and the bytes of the whole file, None if unknown."""

BLOCK_BYTES = 1 << 16
LONGEST_PAUSE_S = 30.0
LOCAL_HOSTS = ("localhost", "127.0.0.1")
MAY_PASS = (408, 425, 429, 500, 502, 503, 504)  # statuses worth another attempt


class _RefusedError(Exception):
    """Why there is no use in trying again."""


class _CutError(Exception):
    """Why this attempt ended; the next goes on from there."""


class _StartAgainError(_CutError):
    """Why this attempt ended; what has come is of no use to the next."""


@dataclass(frozen=True)
class _Job:
    """One download: what, where to, and how patiently."""

    entry: CatalogEntry
    address: str
    part: Part
    on_progress: OnProgress
    timeout_s: float


def download(
    entry: CatalogEntry,
    folder: Path,
    on_progress: OnProgress = lambda _done, _total: None,
    *,
    attempts: int = 10,
    timeout_s: float = 30.0,
    pause_s: float = 1.0,
) -> Path:
    """Fetch a generator's weights, unless they are there already.

    Of several processes that want the same file one fetches it and the others wait. What has come
    when the download is interrupted stays, and the next call goes on from there. Proxies and
    certificates are those of the environment (HTTPS_PROXY, SSL_CERT_FILE).

    Args:
        entry: the catalogue's row.
        folder: where the file goes; made if needed.
        on_progress: called as bytes come, also while another process fetches them.
        attempts: how often to try, each going on from where the last was cut.
        timeout_s: seconds without an answer after which an attempt ends.
        pause_s: seconds before the second attempt; doubled for each later one.

    Returns:
        The path of the whole and verified file.

    Raises:
        WeightsError: saying why there is no file, and where to put it by hand.
    """
    target = path_of(entry, folder)
    if is_present(entry, folder):
        verify(entry, folder)
        return target
    part = Part(target.with_name(f"{target.name}.part"))
    try:
        job = _Job(entry, _checked_address(entry), part, on_progress, timeout_s)
        make_folder(folder)
        with locked(
            folder / f".{target.name}.lock",
            on_wait=lambda: on_progress(part.size_bytes, entry.size_bytes),
        ):
            if is_present(entry, folder):  # another process has fetched it
                verify(entry, folder)
            else:
                _fetch(job, attempts, pause_s)
                _accept(job, folder)
    except _RefusedError as error:
        raise _failure(entry, target, str(error)) from error
    except OSError as error:
        why = (
            f"cannot write in {printable_path(folder)}: {error.strerror or error}; check its "
            "permissions and its free space, or set PULSE_HOME to a folder on another disk"
        )
        raise _failure(entry, target, why) from error
    except PulseError as error:
        raise _failure(entry, target, str(error)) from error
    return target


def _failure(entry: CatalogEntry, target: Path, why: str) -> WeightsError:
    source = f" from {entry.address}" if entry.address else ""
    return WeightsError(
        f"cannot download {entry.name}{source}: {why}; if you get the file another way, "
        f"put it at {printable_path(target)}"
    )


def _checked_address(entry: CatalogEntry) -> str:
    if entry.address is None:
        raise _RefusedError(f"it has no address to download from: {entry.by_hand}")
    if not _is_secure(entry.address) and not _is_local(entry.address):
        raise _RefusedError("PULSE downloads over https only")
    return entry.address


def _is_secure(address: str) -> bool:
    return urlsplit(address).scheme == "https"


def _is_local(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme == "http" and parts.hostname in LOCAL_HOSTS


def _fetch(job: _Job, attempts: int, pause_s: float) -> None:
    """Bring the whole file into the part, in as many attempts as it takes and are allowed."""
    for attempt in range(attempts):
        if attempt:
            time.sleep(min(pause_s * 2 ** (attempt - 1), LONGEST_PAUSE_S))
        try:
            _fetch_rest(job)
        except _CutError as error:
            why = str(error)
            if isinstance(error, _StartAgainError):
                job.part.discard()
        else:
            return
    times = "once" if attempts == 1 else f"{attempts} times"
    raise _RefusedError(f"tried {times}, at last {why}; run it again to go on from there")


def _fetch_rest(job: _Job) -> None:
    """One attempt: ask for what is missing, or for all if nothing can be resumed."""
    origin = job.part.origin(job.address)
    start = job.part.size_bytes if origin else 0
    if origin and start == origin.total_bytes:
        return
    with _opened(_request(job.address, start, origin), job.timeout_s) as response:
        headers = response.headers
        if response.status == 206 and not (origin and _continues(headers, start, origin)):
            raise _StartAgainError("the server sent another part of the file than was asked for")
        if response.status != 206:
            start = 0
        total = _total_bytes(headers, start)
        blocks = _blocks(response, None if total is None else total - start, job.timeout_s)
        first = next(blocks, b"")
        _refuse_web_page(headers, first if start == 0 else b"")
        _check_space(job.part.path.parent, 0 if total is None else total - start)
        if start == 0:
            validator = _validator(headers)
            job.part.start(Origin(job.address, validator, total) if validator else None)
        _write(job, chain([first], blocks), start, total)


def _request(address: str, start: int, origin: Origin | None) -> Request:
    request = Request(address, headers={"User-Agent": "pulse"})
    if origin and start:
        # If-Range: the rest if the file is still that version, else all of the new one.
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", origin.validator)
    return request


class _SecureRedirects(HTTPRedirectHandler):
    """Follows redirects, but never from https to anything else."""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> Request | None:
        """The request for the new address, as `HTTPRedirectHandler` makes it."""
        if not _is_secure(newurl) and not (_is_local(newurl) and _is_local(req.full_url)):
            fp.close()
            raise _RefusedError(f"the server sends on to {newurl!a}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opened(request: Request, timeout_s: float) -> HTTPResponse:
    try:
        response: HTTPResponse = build_opener(_SecureRedirects).open(request, timeout=timeout_s)
    except HTTPError as error:
        error.close()
        raise _of_status(error.code) from error
    except (OSError, HTTPException) as error:
        raise _of_network(error, timeout_s) from error
    return response


def _of_status(status: int) -> _RefusedError | _CutError:
    if status == 416:
        return _StartAgainError("the server has no such part of the file (status 416)")
    if status in MAY_PASS:
        return _CutError(f"the server could not answer (status {status})")
    if status in (401, 403):
        return _RefusedError(
            f"the server refuses it (status {status}): it asks for a sign-in, or its quota is "
            "used up"
        )
    if status in (404, 410):
        return _RefusedError(f"the file is no longer there (status {status})")
    if 300 <= status < 400:
        return _RefusedError(f"the server's redirects lead nowhere (status {status})")
    return _RefusedError(f"the server answers with status {status}")


def _of_network(error: OSError | HTTPException, timeout_s: float) -> _RefusedError | _CutError:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return _RefusedError(
            f"the server's certificate is not accepted: {reason.verify_message}; if your network "
            "has a certificate of its own, set SSL_CERT_FILE to it"
        )
    if isinstance(reason, TimeoutError):
        return _CutError(f"there was no answer for {timeout_s:g} s")
    return _CutError(f"the connection failed ({getattr(reason, 'strerror', None) or reason})")


def _continues(headers: Message, start: int, origin: Origin) -> bool:
    """Whether a partial answer begins at `start` and is of the same version of the file."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
    if found is None or int(found[1]) != start:
        return False
    same_total = found[2] == "*" or int(found[2]) == origin.total_bytes
    return same_total and _validator(headers) in (None, origin.validator)


def _validator(headers: Message) -> str | None:
    """What names this version of the file; a weak ETag does not vouch for its bytes."""
    etag: str | None = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _total_bytes(headers: Message, start: int) -> int | None:
    length = headers.get("Content-Length", "").strip()
    if length.isdecimal():
        return start + int(length)
    if "Transfer-Encoding" in headers:
        return None  # chunks, which say themselves where they end
    raise _RefusedError("the server does not say how long the file is")


def _blocks(response: HTTPResponse, expected: int | None, timeout_s: float) -> Iterator[bytes]:
    """What the server sends, at most `expected` bytes."""
    left = BLOCK_BYTES if expected is None else expected
    while left:
        try:
            block = response.read1(min(BLOCK_BYTES, left))
        except (OSError, HTTPException) as error:
            raise _of_network(error, timeout_s) from error
        if not block:
            return
        yield block
        # Counted here: read1 of early Python 3.11 waits for more than the answer's length.
        left -= 0 if expected is None else len(block)


def _refuse_web_page(headers: Message, beginning: bytes) -> None:
    looks_like_page = beginning[:64].lstrip().lower().startswith((b"<!doctype", b"<html", b"{"))
    if looks_like_page or headers.get_content_type() in ("text/html", "application/json"):
        raise _RefusedError(
            "a web page came instead: the server's quota is used up, or it asks for a sign-in"
        )


def _check_space(folder: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise _RefusedError(
            f"it needs {needed_bytes:,} bytes more, and the disk of {printable_path(folder)} has "
            f"{free_bytes:,}; free some space, or set PULSE_HOME to a folder on another disk"
        )


def _write(job: _Job, blocks: Iterator[bytes], start: int, total: int | None) -> None:
    done = start
    with job.part.path.open("ab") as file:
        for block in blocks:
            file.write(block)
            done += len(block)
            job.on_progress(done, total)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done < total:
        raise _CutError(f"the connection was cut after {done:,} of {total:,} bytes")


def _accept(job: _Job, folder: Path) -> None:
    """Give the file its name if its hash is the known one, or the first one seen."""
    found = sha256_of(job.part.path)
    known = known_sha256(job.entry, folder)
    if known is None:
        record_sha256(job.entry, folder, found)
    elif found != known:
        job.part.discard()
        remedy = (
            "it was damaged on its way, or replaced at its source"
            if job.entry.sha256
            else f"it has changed at its source; if you trust the new one, delete the line of "
            f"{job.entry.file_name} from {printable_path(folder / KNOWN_HASHES)}"
        )
        raise _RefusedError(f"what came has SHA-256 {found}, expected {known}: {remedy}")
    job.part.finish(path_of(job.entry, folder))
