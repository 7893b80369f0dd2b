"""Names for files that are no image of a known format, from their first bytes."""

_MARKS = (
    (b"version https://git-lfs", "a Git LFS pointer instead of the file itself: run `git lfs pull`"),
    (b"%PDF", "a PDF document: export its images"),
    (b"PK\3\4", "a zip archive: unpack it"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"7z\xbc\xaf", "a 7-zip archive: unpack it"),
    (b"Rar!", "a RAR archive: unpack it"),
    (b"\x89HDF", "an HDF5 file: save its images as npy, or all of them as npz"),
    (b"MATLAB 5.0", "a MATLAB file: save its images as npy, or all of them as npz"),
    (b"Bud1", "a file of the macOS Finder: delete it"),
)
_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"avif": "AVIF", b"avis": "AVIF"}


def describe(head: bytes, known: str) -> str:
    """Return what a file is that begins with these bytes.

    Args:
      head: the first bytes.
      known: names of the formats that are read.
    """
    if not head:
        return "an empty file: copy or download it again"
    for mark, text in _MARKS:
        if head.startswith(mark) or (mark == b"Bud1" and head[4:8] == mark):
            return text
    if not head.strip(b"\0"):
        return "a file of zeros, as a broken download or copy leaves it: copy it again"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:20].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page, as a download leaves it that asked for a login: download it again"
    if start.startswith((b"<?xml", b"<svg")):
        return "an XML or SVG file: export it as PNG"
    if head[4:8] == b"ftyp":
        return f"{_BRANDS.get(head[8:12], 'a video or image')} in an MP4 container: convert it to PNG"
    if head.startswith(b"RIFF"):
        return "a sound or video file: export its images"
    return f"neither {known}, or its head is broken"
