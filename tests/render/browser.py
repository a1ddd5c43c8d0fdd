"""A headless browser for the tests: pictures and the document after the script has run."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--force-device-scale-factor=0.5",  # a quarter of the pixels to read
    "--host-resolver-rules=MAP * ~NOTFOUND",  # a page that asks the network for anything fails
    "--virtual-time-budget=2000",
)


def find() -> str | None:
    """Return the path of a browser, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class Browser:
    """One browser, with a folder for its profile."""

    path: str
    folder: Path

    def _run(self, *args: str) -> str:
        profile = f"--user-data-dir={self.folder / 'profile'}"
        done = subprocess.run(
            [self.path, *_FLAGS, profile, *args], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def document(self, page: Path, fragment: str = "") -> str:
        """Return the page's document after its script has run."""
        return self._run("--dump-dom", f"{page.as_uri()}#{fragment}")

    def picture(self, page: Path, fragment: str = "", size: str = "1300,1500") -> np.ndarray:
        """Return what the page looks like: uint8, (height, width, 3)."""
        shot = self.folder / "shot.png"
        shot.unlink(missing_ok=True)
        self._run(f"--window-size={size}", f"--screenshot={shot}", f"{page.as_uri()}#{fragment}")
        return read_png(shot.read_bytes())


def read_png(data: bytes) -> np.ndarray:
    """Return the pixels of an 8-bit RGB or RGBA PNG without interlace: (height, width, 3)."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, head = 8, b"", (0, 0, 0, 0)
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            head = struct.unpack(">IIBB", body[:10])
        elif kind == b"IDAT":
            packed += body
        at += length + 12
    width, height, depth, colours = head
    assert depth == 8
    channels = {2: 3, 6: 4}[colours]
    raw, stride = zlib.decompress(packed), width * channels
    above, out = bytearray(stride), bytearray()
    for line in range(height):
        start = line * (stride + 1)
        above = _line(raw[start], raw[start + 1 : start + 1 + stride], above, channels)
        out += above
    return np.frombuffer(bytes(out), np.uint8).reshape(height, width, channels)[..., :3]


def _line(kind: int, packed: bytes, above: bytearray, channels: int) -> bytearray:
    """Return a line of bytes, from what it is said to differ in from its left and upper ones.

    Source: Portable Network Graphics (PNG) Specification, section 9 "Filtering".
    """
    line = bytearray(packed)
    if kind == 2:
        return bytearray((value + up) & 255 for value, up in zip(packed, above, strict=True))
    for at in range(len(line)) if kind else ():
        left = line[at - channels] if at >= channels else 0
        if kind == 1:
            line[at] = (line[at] + left) & 255
        elif kind == 3:
            line[at] = (line[at] + (left + above[at]) // 2) & 255
        else:
            corner, up = above[at - channels] if at >= channels else 0, above[at]
            to_left, to_up, to_corner = up - corner, left - corner, left + up - 2 * corner
            to_left, to_up, to_corner = abs(to_left), abs(to_up), abs(to_corner)
            if to_left <= to_up and to_left <= to_corner:
                line[at] = (line[at] + left) & 255
            else:
                line[at] = (line[at] + (up if to_up <= to_corner else corner)) & 255
    return line


def cells(document: str) -> list[dict[str, str]]:
    """Return every cell of the matrices: its classes, its holders, its operand and place."""
    found = []
    tables = re.findall(
        r'<table class="grid"[^>]*data-operand="(\w+)" data-matrix="(\d+)".*?</table>',
        document,
        re.DOTALL,
    )
    bodies = re.findall(r'<table class="grid".*?<tbody>(.*?)</tbody>', document, re.DOTALL)
    for (operand, matrix), body in zip(tables, bodies, strict=True):
        for row, line in enumerate(re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL)):
            for col, attributes in enumerate(re.findall(r"<td([^>]*)>", line)):
                names = re.search(r'class="?([^">]*)', attributes)
                held = re.search(r'data-h="([^"]*)"', attributes)
                assert names is not None
                assert held is not None
                place = {"row": str(row), "col": str(col), "matrix": matrix}
                found.append({"operand": operand, "class": names[1], "held": held[1], **place})
    return found
