from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from picture_files import as_nobody
from web_server import Answer, WebServer

from pulse.checkpoints.catalog import CATALOG
from pulse.checkpoints.download import download
from pulse.errors import WeightsError

CONTENT = b"\x80\x04" + random.Random(0).randbytes(300_000)
NEW_CONTENT = b"\x80\x04" + random.Random(1).randbytes(250_000)
CUT = 100_000
REPOSITORY = Path(__file__).parents[2]
PAGE = "a web page came instead: the server's quota is used up, or it asks for a sign-in"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    with WebServer(CONTENT) as server:
        yield server


def entry_of(server, **changes):
    changes = {"address": server.address, "sha256": sha256(CONTENT)} | changes
    return replace(CATALOG[1], name="test-1024", file_name="weights.pkl", **changes)


def fetch(server, folder, on_progress=lambda *_: None, attempts=3, timeout_s=5.0, **changes):
    entry = entry_of(server, **changes)
    return download(
        entry, folder, on_progress, attempts=attempts, timeout_s=timeout_s, pause_s=0.001
    )


def failure_of(server, folder, **options) -> str:
    """Why there is no file: what the message says between its source and its advice."""
    with pytest.raises(WeightsError) as caught:
        fetch(server, folder, **options)
    message = str(caught.value)
    assert message.isprintable()
    beginning = f"cannot download test-1024 from {options.get('address', server.address)}: "
    end = f"; if you get the file another way, put it at {folder / 'weights.pkl'}"
    assert message.startswith(beginning)
    assert message.endswith(end)
    assert not (folder / "weights.pkl").exists()
    return message.removeprefix(beginning).removesuffix(end)


def visible(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def ranges(server) -> list[str | None]:
    return [seen.range for seen in server.seen]


def statuses(server) -> list[int]:
    return [seen.status for seen in server.seen]


def test_a_file_comes_whole_and_alone(server, tmp_path):
    progress = []
    path = fetch(server, tmp_path / "a" / "b", lambda *step: progress.append(step))
    assert path == tmp_path / "a" / "b" / "weights.pkl"
    assert path.read_bytes() == CONTENT
    assert visible(path.parent) == ["weights.pkl"]
    assert ranges(server) == [None]
    assert progress[-1] == (len(CONTENT), len(CONTENT))
    assert progress == sorted(progress)


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    fetch(server, tmp_path)
    fetch(server, tmp_path)
    assert len(server.seen) == 1


def test_a_file_that_is_there_and_altered_is_refused(server, tmp_path):
    (tmp_path / "weights.pkl").write_bytes(b"altered")
    with pytest.raises(WeightsError, match="was damaged or replaced; delete it and download it"):
        fetch(server, tmp_path)
    assert server.seen == []


def test_chunks_without_a_length(server, tmp_path):
    server.always = Answer(chunked=True)
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_server_that_does_not_hang_up(server, tmp_path):
    server.always = Answer(hold=True)
    assert fetch(server, tmp_path, timeout_s=1.0, attempts=1).read_bytes() == CONTENT


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_cut_connection_is_resumed(server, tmp_path, reset):
    server.answers = [Answer(cut_after=CUT, reset=reset)] * 2
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={CUT}-", f"bytes={2 * CUT}-"]
    assert [seen.if_range for seen in server.seen] == [None, '"first"', '"first"']
    assert statuses(server) == [200, 206, 206]


def test_a_cut_chunked_answer_is_resumed(server, tmp_path):
    server.answers = [Answer(chunked=True, cut_after=CUT)]
    server.always = Answer(ignore_range=True)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={CUT}-"]


def test_attempts_are_counted_and_what_came_stays(server, tmp_path):
    server.answers = [Answer(cut_after=CUT), Answer(cut_after=5)]
    assert failure_of(server, tmp_path, attempts=2) == (
        "tried 2 times, at last the connection was cut after 100,005 of 300,002 bytes; run it "
        "again to go on from there"
    )
    assert visible(tmp_path) == ["weights.pkl.part", "weights.pkl.part.json"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert ranges(server)[-1] == "bytes=100005-"


def test_a_part_that_is_whole_is_not_fetched_again(server, tmp_path):
    server.answers = [Answer(cut_after=CUT)]
    failure_of(server, tmp_path, attempts=1)
    (tmp_path / "weights.pkl.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert len(server.seen) == 1


def test_a_server_that_ignores_ranges_starts_again(server, tmp_path):
    server.answers = [Answer(cut_after=CUT)]
    server.always = Answer(ignore_range=True)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={CUT}-"]
    assert statuses(server) == [200, 200]


@pytest.mark.parametrize(
    "header", [{"Content-Range": "bytes 7-300001/300002"}, {"Content-Range": None}]
)
def test_a_part_that_was_not_asked_for_starts_again(server, tmp_path, header):
    server.answers = [Answer(cut_after=CUT), Answer(headers=header)]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={CUT}-", None]


def test_a_part_longer_than_the_file_starts_again(server, tmp_path):
    server.answers = [Answer(cut_after=CUT)]
    failure_of(server, tmp_path, attempts=1)
    (tmp_path / "weights.pkl.part").write_bytes(bytes(400_000))
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert statuses(server) == [200, 416, 200]


def change(server, etag='"second"'):
    server.content, server.etag = NEW_CONTENT, etag


def test_a_file_that_changes_between_attempts_starts_again(server, tmp_path):
    server.answers = [Answer(cut_after=CUT)]
    failure_of(server, tmp_path, attempts=1, sha256=None)
    change(server)
    assert fetch(server, tmp_path, sha256=None).read_bytes() == NEW_CONTENT
    assert ranges(server) == [None, f"bytes={CUT}-"]
    assert statuses(server) == [200, 200]


def test_a_server_that_resumes_a_changed_file_all_the_same(server, tmp_path):
    """It does not know If-Range: only the ETag of its answer shows that the file is another."""
    server.answers = [Answer(cut_after=CUT), Answer(headers={"ETag": '"second"'})]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={CUT}-", None]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_what_no_etag_vouches_for_is_not_resumed(server, tmp_path, etag):
    server.answers = [Answer(cut_after=CUT, headers={"ETag": etag})]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, None]


def test_a_date_vouches_where_there_is_no_etag(server, tmp_path):
    server.etag = "Wed, 21 Oct 2015 07:28:00 GMT"  # what the server compares If-Range with
    server.always = Answer(headers={"ETag": None, "Last-Modified": server.etag})
    server.answers = [replace(server.always, cut_after=CUT)]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert statuses(server) == [200, 206]


def test_a_part_from_another_address_is_not_resumed(server, tmp_path):
    server.answers = [Answer(cut_after=CUT)]
    failure_of(server, tmp_path, attempts=1, address=f"{server.address}?old")
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, None]


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_a_part_of_damaged_origin_is_not_resumed(server, tmp_path, text):
    (tmp_path / "weights.pkl.part").write_bytes(b"something")
    (tmp_path / "weights.pkl.part.json").write_text(text)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None]


def test_a_length_that_promises_too_much(server, tmp_path):
    server.always = Answer(headers={"Content-Length": "300010"}, ignore_range=True)
    assert failure_of(server, tmp_path) == (
        "tried 3 times, at last the connection was cut after 300,002 of 300,010 bytes; run it "
        "again to go on from there"
    )


def test_a_length_that_promises_too_little_is_found_by_the_hash(server, tmp_path):
    server.always = Answer(headers={"Content-Length": "1000"})
    assert f"has SHA-256 {sha256(CONTENT[:1000])}, expected" in failure_of(server, tmp_path)


def test_no_length_at_all(server, tmp_path):
    server.always = Answer(headers={"Content-Length": None})
    assert failure_of(server, tmp_path) == "the server does not say how long the file is"


def test_a_file_larger_than_the_disk(server, tmp_path):
    server.always = Answer(headers={"Content-Length": str(10**18)})
    reason = failure_of(server, tmp_path)
    assert reason.startswith(f"it needs {10**18:,} bytes more, and the disk of {tmp_path} has ")
    assert reason.endswith("free some space, or set PULSE_HOME to a folder on another disk")


def test_wrong_bytes_are_thrown_away(server, tmp_path):
    server.content = NEW_CONTENT
    assert failure_of(server, tmp_path) == (
        f"what came has SHA-256 {sha256(NEW_CONTENT)}, expected {sha256(CONTENT)}: it was damaged "
        "on its way, or replaced at its source"
    )
    assert visible(tmp_path) == []


def test_the_first_download_is_trusted_and_any_other_refused(server, tmp_path):
    fetch(server, tmp_path, sha256=None).unlink()
    record = tmp_path / "known_hashes.json"
    assert json.loads(record.read_text()) == {"weights.pkl": sha256(CONTENT)}
    change(server)
    assert failure_of(server, tmp_path, sha256=None) == (
        f"what came has SHA-256 {sha256(NEW_CONTENT)}, expected {sha256(CONTENT)}: it has changed "
        "at its source; if you trust the new one, delete the line of weights.pkl from "
        f"{record}"
    )
    assert visible(tmp_path) == ["known_hashes.json"]
    change(server, etag='"first"')
    server.content = CONTENT
    assert fetch(server, tmp_path, sha256=None).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server, tmp_path, status):
    server.answers = [
        Answer(status=status, headers={"Location": "/elsewhere"}),
        Answer(cut_after=CUT),
        Answer(status=status, headers={"Location": "/elsewhere"}),
    ]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert [seen.path for seen in server.seen] == ["/weights.pkl", "/elsewhere"] * 2
    assert ranges(server) == [None, None, f"bytes={CUT}-", f"bytes={CUT}-"]


@pytest.mark.parametrize("location", ["/weights.pkl", None, "gopher://127.0.0.1/"])
def test_redirects_that_lead_nowhere(server, tmp_path, location):
    server.always = Answer(status=302, headers={"Location": location})
    reason = failure_of(server, tmp_path)
    assert reason == "the server's redirects lead nowhere (status 302)"


def test_a_redirect_to_http_elsewhere_is_refused(server, tmp_path):
    server.always = Answer(status=302, headers={"Location": "http://weights.invalid/x"})
    assert failure_of(server, tmp_path) == (
        "the server sends on to 'http://weights.invalid/x', which is not https"
    )


@pytest.mark.parametrize("address", ["http://weights.invalid/x", "file:///etc/passwd"])
def test_an_address_that_is_not_https_is_refused(server, tmp_path, address):
    assert failure_of(server, tmp_path, address=address) == "PULSE downloads over https only"


SIGN_IN = "it asks for a sign-in, or its quota is used up"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, f"the server refuses it (status 401): {SIGN_IN}"),
        (403, f"the server refuses it (status 403): {SIGN_IN}"),
        (404, "the file is no longer there (status 404)"),
        (418, "the server answers with status 418"),
    ],
)
def test_a_server_that_will_not_is_asked_once(server, tmp_path, status, reason):
    server.always = Answer(status=status)
    assert failure_of(server, tmp_path) == reason
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_cannot_is_asked_again(server, tmp_path, status):
    server.always = Answer(status=status)
    assert failure_of(server, tmp_path) == (
        f"tried 3 times, at last the server could not answer (status {status}); run it again to "
        "go on from there"
    )
    assert len(server.seen) == 3


def test_a_fault_that_passes(server, tmp_path):
    server.answers = [Answer(status=503)]
    assert fetch(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "page",
    [
        Answer(headers={"Content-Type": "text/html; charset=utf-8"}),
        Answer(headers={"Content-Type": "application/json"}),
        Answer(body=b"\n <!DOCTYPE html><title>Quota exceeded</title>"),
        Answer(body=b"<HTML>Sign in"),
        Answer(body=b'{"requestStatus": "denied"}'),
    ],
)
def test_a_page_in_place_of_the_file(server, tmp_path, page):
    server.always = page
    assert failure_of(server, tmp_path) == PAGE
    assert len(server.seen) == 1


def test_a_page_does_not_cost_what_has_come(server, tmp_path):
    server.answers = [Answer(cut_after=CUT), Answer(body=b"<html>Quota", ignore_range=True)]
    assert failure_of(server, tmp_path) == PAGE
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert ranges(server)[-1] == f"bytes={CUT}-"


def test_a_server_that_says_nothing(server, tmp_path):
    server.always = Answer(wait=True)
    assert failure_of(server, tmp_path, timeout_s=0.2, attempts=1) == (
        "tried once, at last there was no answer for 0.2 s; run it again to go on from there"
    )


def test_a_server_that_falls_silent_midway_is_resumed(server, tmp_path):
    server.answers = [Answer(pause_s=1.0)]
    assert fetch(server, tmp_path, timeout_s=0.3).read_bytes() == CONTENT
    assert len(server.seen) == 2


def test_nobody_at_the_address(server, tmp_path):
    with WebServer(b"") as other:
        address = other.address
    assert failure_of(server, tmp_path, address=address, attempts=1) == (
        "tried once, at last the connection failed (Connection refused); run it again to go on "
        "from there"
    )


def test_an_entry_that_only_a_person_can_get(server, tmp_path):
    with pytest.raises(WeightsError) as caught:
        fetch(server, tmp_path, address=None, by_hand="open the page in a browser")
    assert str(caught.value) == (
        "cannot download test-1024: it has no address to download from: open the page in a "
        f"browser; if you get the file another way, put it at {tmp_path / 'weights.pkl'}"
    )


@contextmanager
def files_no_larger_than(size_bytes: int):
    """A limit of the system's, which fails a write midway as a full disk does."""
    resource = pytest.importorskip("resource", reason="this system has no limits on files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more(server, tmp_path):
    with files_no_larger_than(CUT):
        reason = failure_of(server, tmp_path)
    assert reason == (
        f"cannot write in {tmp_path}: File too large; check its permissions and its free space, "
        "or set PULSE_HOME to a folder on another disk"
    )
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={CUT}-"]


def test_a_folder_without_the_right_to_write(server, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    with as_nobody(folder):
        reason = failure_of(server, folder)
    assert reason == (
        f"cannot write in {folder}: Permission denied; check its permissions and its free space, "
        "or set PULSE_HOME to a folder on another disk"
    )
    assert server.seen == []


def test_a_file_in_place_of_the_folder(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match=r"cannot make the folder .*: Not a directory; if you"):
        fetch(server, tmp_path / "file" / "folder")


def test_a_damaged_record_of_hashes(server, tmp_path):
    (tmp_path / "known_hashes.json").write_text("{")
    assert "known_hashes.json is damaged" in failure_of(server, tmp_path, sha256=None)


FETCH = """
import sys
from dataclasses import replace
from pathlib import Path
from pulse.checkpoints.catalog import CATALOG
from pulse.checkpoints.download import download
entry = replace(CATALOG[1], file_name="weights.pkl", address=sys.argv[1], sha256=None)
print(download(entry, Path(sys.argv[2])))
"""


def start_process(server, folder) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, server.address, str(folder)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_fetch_one_file_once(server, tmp_path):
    server.always = Answer(pause_s=0.05)
    processes = [start_process(server, tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=30) for process in processes]
    assert outputs == [(f"{tmp_path / 'weights.pkl'}\n", "")] * 2
    assert (tmp_path / "weights.pkl").read_bytes() == CONTENT
    assert ranges(server) == [None]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_stopped_leaves_what_has_come(server, tmp_path, how):
    part = tmp_path / "weights.pkl.part"
    server.answers = [Answer(pause_s=0.1)]
    process = start_process(server, tmp_path)
    deadline = time.monotonic() + 20
    while (not part.exists() or part.stat().st_size == 0) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    process.communicate(timeout=10)
    came = part.stat().st_size
    assert 0 < came < len(CONTENT)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={came}-"]


def test_progress_goes_on_while_another_process_fetches(server, tmp_path):
    server.always = Answer(pause_s=0.05)
    process = start_process(server, tmp_path)
    while not (tmp_path / "weights.pkl.part").exists():
        time.sleep(0.01)
    progress = []
    fetch(server, tmp_path, lambda done, _: progress.append(done))
    process.communicate(timeout=10)
    assert ranges(server) == [None]
    assert progress == sorted(progress)
    assert progress[0] < len(CONTENT)


@pytest.fixture
def certificate(tmp_path_factory):
    """A certificate of this machine that nobody has signed, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 "
        "-addext keyUsage=critical,digitalSignature,keyCertSign -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def secure_server(certificate):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with WebServer(CONTENT, tls) as server:
        yield server


def test_a_certificate_that_nobody_vouches_for_is_refused(secure_server, tmp_path):
    reason = failure_of(secure_server, tmp_path)
    assert re.fullmatch(  # OpenSSL 1 writes the words apart, OpenSSL 3 with a hyphen
        r"the server's certificate is not accepted: self.signed certificate; if your network has "
        r"a certificate of its own, set SSL_CERT_FILE to it",
        reason,
    )
    assert secure_server.seen == []


def test_the_environments_certificates_are_used(secure_server, certificate, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    assert fetch(secure_server, tmp_path).read_bytes() == CONTENT


def test_https_never_leads_to_http(secure_server, server, certificate, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    secure_server.always = Answer(status=302, headers={"Location": server.address})
    assert failure_of(secure_server, tmp_path) == (
        f"the server sends on to '{server.address}', which is not https"
    )
    assert server.seen == []
