"""Ordinary, broken and hostile image files, and the answer that each must get."""

import gzip
import struct
import zlib
from io import BytesIO

import cv2
import numpy as np
import pillow_heif
from PIL import Image, ImageCms
from serving import portrait

pillow_heif.register_heif_opener()  # to write HEIC


def chunk(kind: bytes, data: bytes) -> bytes:
    "A chunk of a PNG."
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    "A PNG with any header and any content."
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    "A picture as the bytes of a file."
    out = BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def corpus() -> dict[str, tuple[bytes, str]]:
    "Name: bytes, and `faces` (with the face of the portrait), `picture` (accepted) or an error code."
    return accepted() | unusual() | not_images() | damaged() | bombs()


def accepted() -> dict[str, tuple[bytes, str]]:
    "Images as cameras and programs write them."
    face = Image.open(BytesIO(portrait())).convert("RGB")
    small, jpeg = face.resize((64, 64)), portrait()
    exif = Image.Exif()
    exif[0x0112] = 6
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return {
        "JPEG": (jpeg, "faces"),
        "PNG": (saved(face, "PNG"), "faces"),
        "WebP": (saved(face, "WEBP"), "faces"),
        "WebP, lossless": (saved(face, "WEBP", lossless=True), "faces"),
        "BMP": (saved(face, "BMP"), "faces"),
        "GIF": (saved(face, "GIF"), "faces"),
        "HEIC": (saved(face, "HEIF"), "faces"),
        "AVIF": (saved(face, "AVIF"), "faces"),
        "JPEG, grey": (saved(face.convert("L"), "JPEG"), "faces"),
        "JPEG, CMYK": (saved(face.convert("CMYK"), "JPEG"), "faces"),
        "JPEG, progressive": (saved(face, "JPEG", progressive=True), "faces"),
        "JPEG, EXIF orientation 6": (saved(face.rotate(90, expand=True), "JPEG", exif=exif), "faces"),
        "JPEG, with an sRGB profile": (saved(face, "JPEG", icc_profile=srgb), "faces"),
        "JPEG, with a profile of noise": (saved(face, "JPEG", icc_profile=bytes(range(256)) * 100), "faces"),
        "JPEG, EXIF of noise": (jpeg[:2] + b"\xff\xe1\x00\x20Exif\0\0" + b"\xff" * 24 + jpeg[2:], "faces"),
        "PNG, 1 bit": (saved(small.convert("1"), "PNG"), "picture"),
        "JPEG, trailing garbage": (jpeg + b"garbage" * 100, "faces"),
        "1×1": (saved(Image.new("RGB", (1, 1)), "PNG"), "picture"),
        "1×3000": (saved(Image.new("RGB", (1, 3000)), "PNG"), "picture"),
    }


def unusual() -> dict[str, tuple[bytes, str]]:
    "Images that few programs write: 16 bits, palettes, transparency, animation."
    face = Image.open(BytesIO(portrait())).convert("RGB")
    sixteen = cv2.imencode(".png", np.asarray(face).astype(np.uint16) * 257)[1].tobytes()
    frames = {"save_all": True, "append_images": [face.rotate(90), face.rotate(180)], "duration": 50}
    return {
        "PNG, 16 bits": (sixteen, "faces"),
        "PNG, 16 bits grey": (
            saved(Image.fromarray(np.asarray(face.convert("L")).astype(np.uint16) * 257), "PNG"),
            "faces",
        ),
        "PNG, palette": (saved(face.quantize(64), "PNG"), "faces"),
        "PNG, transparent": (saved(face.convert("RGBA"), "PNG"), "faces"),
        "GIF, three frames": (saved(face, "GIF", **frames), "faces"),
        "PNG, animated": (saved(face, "PNG", **frames), "faces"),
        "WebP, animated": (saved(face, "WEBP", **frames), "faces"),
    }


def not_images() -> dict[str, tuple[bytes, str]]:
    "Files that are not images, or of a format that is not accepted."
    small = Image.open(BytesIO(portrait())).convert("RGB").resize((64, 64))
    jpeg = portrait()
    return {
        "empty": (b"", "empty"),
        "one byte": (b"\xff", "not_an_image"),
        "HTML": (b"<!doctype html><html><body>404</body></html>", "not_an_image"),
        "text": ("안녕".encode(), "not_an_image"),
        "zeros": (bytes(10_000), "not_an_image"),
        "PDF": (b"%PDF-1.7\n%\xe2\xe3", "not_an_image"),
        "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"),
        "TIFF": (saved(small, "TIFF"), "not_an_image"),
        "ICO": (saved(small, "ICO"), "not_an_image"),
        "gzip of a JPEG": (gzip.compress(jpeg), "not_an_image"),
        "ZIP": (b"PK\x03\x04" + bytes(30), "not_an_image"),
    }


def damaged() -> dict[str, tuple[bytes, str]]:
    "Images that are cut off or damaged, and one that is too large."
    face = Image.open(BytesIO(portrait())).convert("RGB")
    small, jpeg = face.resize((64, 64)), portrait()
    return {
        "JPEG, cut in half": (jpeg[: len(jpeg) // 2], "broken_image"),
        "JPEG, header only": (jpeg[:200], "broken_image"),
        "JPEG, three bytes": (jpeg[:3], "broken_image"),
        "PNG, cut in half": (saved(face, "PNG")[:50_000], "broken_image"),
        "PNG, signature only": (b"\x89PNG\r\n\x1a\n", "broken_image"),
        "PNG, wrong checksum": (saved(small, "PNG")[:29] + b"\0\0\0\0" + saved(small, "PNG")[33:], "broken_image"),
        "PNG, no pixels": (png(0, 0), "broken_image"),
        "PNG, header without data": (png(64, 64), "broken_image"),
        "PNG, zlib of garbage": (png(64, 64, b"garbage"), "broken_image"),
        "WebP, cut": (saved(face, "WEBP")[:500], "broken_image"),
        "HEIC, cut": (saved(face, "HEIF")[:5_000], "broken_image"),
        "AVIF, cut": (saved(face, "AVIF")[:5_000], "broken_image"),
        "GIF, cut": (saved(face, "GIF")[:50], "broken_image"),
        "BMP, header only": (saved(face, "BMP")[:60], "broken_image"),
        "JPEG behind a PNG signature": (b"\x89PNG\r\n\x1a\n" + jpeg, "too_many_pixels"),
        "JPEG, size of no pixels": (
            jpeg[:2] + b"\xff\xc0\x00\x11\x08\0\0\0\0\x03\x01\x22\0\x02\x11\x01\x03\x11\x01\xff\xd9",
            "broken_image",
        ),
        "too large by a byte": (jpeg + bytes(2 * 1024 * 1024 + 1 - len(jpeg)), "too_large"),
    }


def bombs() -> dict[str, tuple[bytes, str]]:
    "Small files that claim or unpack to something huge."
    jpeg = portrait()
    return {
        "bomb: PNG of 57 bytes, 100000×100000": (png(100_000, 100_000), "too_many_pixels"),
        "bomb: PNG, 2³¹ wide": (png(2**31 - 1, 1), "too_many_pixels"),
        "bomb: PNG, 30000×30000 of zeros": (png(30_000, 30_000, zlib.compress(bytes(10**7))), "too_many_pixels"),
        "bomb: JPEG, 65535×65535": (_with_size(jpeg, 65535, 65535), "too_many_pixels"),
        "bomb: GIF, 65535×65535": (
            b"GIF89a\xff\xff\xff\xff\0\0\0" + b",\0\0\0\0\xff\xff\xff\xff\0\x02\0;",
            "too_many_pixels",
        ),
        "bomb: BMP, 100000×100000": (
            b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 100_000, 100_000, 1, 24, 0, 0, 0, 0, 0, 0),
            "too_many_pixels",
        ),
        "bomb: WebP canvas, 16384×16384": (
            b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (16383).to_bytes(3, "little") * 2,
            "too_many_pixels",
        ),
        "bomb: PNG, 4000×4000 of zeros": (png(4000, 4000, zlib.compress(bytes(4000 * 12001), 9)), "picture"),
        "bomb: JPEG, 500 passes": (jpeg[:-2] + b"\xff\xda\x00\x02" * 500 + b"\xff\xd9", "too_complex"),
        "bomb: PNG, text of 50 MB packed": (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
            + chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000), 9))
            + chunk(b"IDAT", zlib.compress(bytes(72)))
            + chunk(b"IEND", b""),
            "broken_image",
        ),
    }


def _with_size(jpeg: bytes, width: int, height: int) -> bytes:
    at = next(i for i in range(len(jpeg)) if jpeg[i : i + 2] in (b"\xff\xc0", b"\xff\xc2"))
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]
