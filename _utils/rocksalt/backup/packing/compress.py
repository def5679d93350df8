"""Compression as a stream: zstd where Python or the host has it, else gzip.

What is behind zstd: ``compression.zstd`` (Python 3.14), the package zstandard, the program zstd.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import shutil
import subprocess
import threading
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from rocksalt.backup.errors import BackupError, Unverified

LEVEL, WINDOW, CHAIN = 3, 22, 17
"""Of zstd: above this level, time grows faster than archives shrink. Trees of files repeat
themselves at distances of up to these powers of two, and it costs hardly any time to look there.
"""
_GZIP_LEVEL, _GZIP = 6, 31
_CHUNK = 1 << 16
_PIECE = 1 << 10
"""Bytes decompressed at once: zeros shrink by 32,768, and all that comes out is held in memory."""


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_OWN, _PACKAGE = _module("compression.zstd"), _module("zstandard")


def _has_zstd() -> bool:
    return bool(_OWN or _PACKAGE or shutil.which("zstd"))


def best() -> str:
    """``zstd`` where this host can write it, else ``gzip``."""
    return "zstd" if _has_zstd() else "gzip"


def _compressor(kind: str) -> Any:
    """Has ``compress`` and ``flush``; None where it takes the program."""
    if kind == "gzip":
        return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP)
    if _OWN:
        parameter = _OWN.CompressionParameter
        options = {
            parameter.compression_level: LEVEL,
            parameter.window_log: WINDOW,
            parameter.chain_log: CHAIN,
            parameter.checksum_flag: 1,
        }
        return _OWN.ZstdCompressor(options=options)
    if not _PACKAGE:
        return None
    parameters = _PACKAGE.ZstdCompressionParameters.from_level(
        LEVEL, window_log=WINDOW, chain_log=CHAIN, write_checksum=True
    )
    return _PACKAGE.ZstdCompressor(compression_params=parameters).compressobj()


def _decompressor(kind: str) -> Any:
    """Has ``decompress``, ``eof`` and ``unused_data``; None where it takes the program."""
    if kind == "gzip":
        return zlib.decompressobj(_GZIP)
    if _OWN:
        return _OWN.ZstdDecompressor()
    return _PACKAGE and _PACKAGE.ZstdDecompressor().decompressobj()


class Writer:
    """Compresses what is written to it into ``target``, which it does not close.

    ``kind`` is ``zstd`` or ``gzip``. Nothing is complete before :meth:`close`; :meth:`abort` gives
    up. OSError where the target cannot be written.
    """

    def __init__(self, target: BinaryIO, kind: str):
        self._target = target
        self._compressor = _compressor(kind)
        self._pipe = None if self._compressor else _Compressing(target)

    def write(self, data: bytes) -> int:
        if self._pipe:
            self._pipe.write(data)
        elif done := self._compressor.compress(data):
            self._target.write(done)
        return len(data)

    def close(self) -> None:
        if self._pipe:
            self._pipe.close()
        else:
            self._target.write(self._compressor.flush())

    def abort(self) -> None:
        """Ends what :meth:`close` would have waited for."""
        if self._pipe:
            self._pipe.abort()


class Reader(io.RawIOBase):
    """What was compressed into ``source``, which it does not close; :class:`Unverified` where that
    is damaged, cut short or longer than what was written.
    """

    def __init__(self, source: BinaryIO, kind: str):
        self._decompressor = _decompressor(kind)
        if not self._decompressor and not _has_zstd():
            raise BackupError(
                "this archive is compressed by zstd, which this host has not: install the package"
                " zstd (the program) or zstandard (for Python)"
            )
        self._pipe = None if self._decompressor else _Decompressing(source)
        self._source = source
        self._raw = memoryview(b"")
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer as far as there is data; 0 at the end."""
        while not self._ready:
            data = self._pipe.read() if self._pipe else self._more()
            if not data:
                return 0
            self._ready = memoryview(data)
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _more(self) -> bytes:
        """The next that comes out; nothing once everything has."""
        data = b""
        while not data:
            if not self._raw:
                self._raw = memoryview(self._source.read(_CHUNK))
            if self._decompressor.eof:
                if self._raw or self._decompressor.unused_data:
                    raise Unverified("the compressed data goes on after its end")
                return b""
            if not self._raw:
                raise Unverified("the compressed data is cut short")
            piece, self._raw = self._raw[:_PIECE], self._raw[_PIECE:]
            try:
                data = self._decompressor.decompress(piece)
            except Exception as error:  # each library has an exception of its own
                raise Unverified(f"the compressed data is damaged: {error}") from None
        return data

    def close(self) -> None:
        if self._pipe and not self.closed:
            self._pipe.end()
        super().close()


class _Program:
    """The program zstd, and a thread that moves bytes on the side where we do not wait."""

    def __init__(self, *options: str):
        self._process = subprocess.Popen(
            ["zstd", "-q", "-c", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._in, self._out, self._err = (
            self._process.stdin,
            self._process.stdout,
            self._process.stderr,
        )
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._move()
        except BaseException as error:  # raised again where somebody waits
            self._failure = error
            self._process.kill()

    def _move(self) -> None:
        raise NotImplementedError

    def _ended(self) -> str:
        """What the program complained about, once it has ended; what the thread failed with."""
        self._thread.join()
        complaint = self._err.read().decode(errors="replace").strip()
        status = self._process.wait()
        for pipe in (self._in, self._out, self._err):
            with contextlib.suppress(OSError):
                pipe.close()
        if self._failure:
            raise self._failure
        return complaint or f"zstd ended with status {status}" if status else ""

    def end(self) -> None:
        """Ends the program whatever it is at."""
        self._process.kill()
        with contextlib.suppress(BaseException):
            self._ended()


def _copy(read: Callable[[int], bytes | None], write: Callable[[bytes], object]) -> None:
    while data := read(_CHUNK):
        write(data)


class _Compressing(_Program):
    """Main thread -> zstd -> thread -> target."""

    def __init__(self, target: BinaryIO):
        self._target = target
        super().__init__(f"-{LEVEL}", f"--zstd=windowLog={WINDOW},chainLog={CHAIN}")

    def _move(self) -> None:
        _copy(self._out.read, self._target.write)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._in.write(view) :]
        except BrokenPipeError:
            raise OSError(self._ended()) from None

    def close(self) -> None:
        self._in.close()
        complaint = self._ended()
        if complaint:
            raise OSError(complaint)

    def abort(self) -> None:
        self.end()


class _Decompressing(_Program):
    """Source -> thread -> zstd -> main thread."""

    def __init__(self, source: BinaryIO):
        self._source = source
        self._done = False
        super().__init__("-d")

    def _move(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            _copy(self._source.read, self._write)
        self._in.close()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._in.write(view) :]

    def read(self) -> bytes:
        if self._done:
            return b""
        data = self._out.read(_CHUNK)
        if not data:
            self._done = True
            complaint = self._ended()
            if complaint:
                raise Unverified(f"the compressed data is damaged or cut short: {complaint}")
        return data or b""
