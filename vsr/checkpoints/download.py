"""One verified, resumable download. Free of torch."""

import contextlib
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from io import BufferedRandom
from pathlib import Path
from typing import Protocol, override
from urllib.parse import urlsplit

from vsr.errors import DownloadError

_CHUNK = 1 << 18
_TIMEOUT = 30.0
_MOST_BYTES = 4 << 30


class Response(Protocol):
    """The part of `http.client.HTTPResponse` that is used."""

    status: int
    headers: Message

    def read(self, amount: int, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...

    def close(self) -> None:
        """Frees the connection."""
        ...


type Opener = Callable[[urllib.request.Request], Response]
type Report = Callable[[int, int], None]


class _SecureRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only."""

    @override
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: object,
        code: int,
        msg: str,
        headers: object,
        newurl: str,
    ) -> urllib.request.Request | None:
        _require_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]  # the stub narrows what the base class passes on


def _require_https(url: str) -> None:
    if urlsplit(url).scheme != "https":
        text = f"a download from {url[:100]!r} was refused: only https is used"
        raise DownloadError(text)


def open_https(request: urllib.request.Request) -> Response:
    """Opens an https URL; redirects must stay on https.

    Raises:
        DownloadError: The URL, or one that it redirects to, is not https.
    """
    _require_https(request.full_url)
    opener = urllib.request.build_opener(_SecureRedirects)
    response: Response = opener.open(request, timeout=_TIMEOUT)
    return response


def sha256_of(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(
    url: str,
    target: Path,
    *,
    size: int | None,
    sha256: str | None,
    report: Report | None = None,
    open_url: Opener = open_https,
) -> str:
    """Downloads a file and puts it in place only if it is the expected one.

    What arrived before an interruption lies beside the target and is continued if the content is
    pinned, so that a mixture of two versions cannot pass.

    Args:
        url: Where from.
        target: Where to; its folder exists.
        size: Expected bytes, None if unknown.
        sha256: Expected digest, None if unknown.
        report: Told (bytes so far, bytes in all or 0).
        open_url: Replaced by tests.

    Returns:
        The digest of what was downloaded.

    Raises:
        DownloadError: Network, size or digest are wrong, or the disk refuses.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        with _locked(part) as file:
            resumed = sha256 is not None and 0 < _length(file) <= (size or _MOST_BYTES)
            digest = _attempt(url, file, size, report, open_url, resume=resumed)
            if resumed and sha256 not in {None, digest}:
                digest = _attempt(url, file, size, report, open_url, resume=False)
            if sha256 not in {None, digest}:
                file.truncate(0)
                msg = (
                    f"the download of {target.name} has SHA-256 {digest}, expected {sha256}: it "
                    "was changed or replaced on the server, and was thrown away"
                )
                raise DownloadError(msg)
            os.fsync(file.fileno())
        part.replace(target)
    except (OSError, http.client.HTTPException) as error:
        msg = (
            f"the download of {target.name} from {urlsplit(url).hostname} failed: {_reason(error)}"
        )
        raise DownloadError(msg) from error
    return digest


def _attempt(
    url: str,
    file: BufferedRandom,
    size: int | None,
    report: Report | None,
    open_url: Opener,
    *,
    resume: bool,
) -> str:
    """Fills the file from where it ends, or from its start, and returns the digest of it all."""
    begin = _length(file) if resume else 0
    if not (resume and begin == size):
        with contextlib.closing(_opened(url, begin, open_url)) as response:
            begin = begin if _continues(response, begin) else 0
            file.seek(begin)
            file.truncate()
            length = response.headers.get("Content-Length", "")
            total = size or (begin + int(length) if length.isdecimal() else 0)
            _copy(response, file, begin, total, report)
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _opened(url: str, begin: int, open_url: Opener) -> Response:
    headers = {"User-Agent": "vsr", "Accept-Encoding": "identity"}
    if begin:
        headers["Range"] = f"bytes={begin}-"
    try:
        return open_url(urllib.request.Request(url, headers=headers))  # noqa: S310 - open_url checks
    except urllib.error.HTTPError as error:
        with error:
            if begin and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                return _opened(url, 0, open_url)
            raise


def _continues(response: Response, begin: int) -> bool:
    span = response.headers.get("Content-Range", "")
    return response.status == http.client.PARTIAL_CONTENT and span.startswith(f"bytes {begin}-")


def _copy(
    response: Response, file: BufferedRandom, done: int, total: int, report: Report | None
) -> None:
    most = total or _MOST_BYTES
    while data := response.read(_CHUNK):
        done += len(data)
        if done > most:
            file.truncate(0)
            msg = f"a download was stopped: the server sends more than the expected {most} bytes"
            raise DownloadError(msg)
        file.write(data)
        if report:
            report(done, total)
    file.flush()
    if done < total:
        msg = f"a download was cut after {done} of {total} bytes: try again, it continues there"
        raise DownloadError(msg)


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[BufferedRandom]:
    """Opens the partial file for this process alone."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
    with os.fdopen(descriptor, "r+b") as file:
        try:
            _lock(file)
        except OSError as error:
            msg = f"{part.name[1:-5]} is being downloaded by another process: wait for it"
            raise DownloadError(msg) from error
        yield file


def _lock(file: BufferedRandom) -> None:
    """An advisory lock, where the system has one, that ends with the process."""
    try:
        import fcntl  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _length(file: BufferedRandom) -> int:
    return os.fstat(file.fileno()).st_size


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return " ".join(str(reason).split()) or type(error).__name__
