"""What decoding one picture of 25 megapixels costs in memory, for every format; a process each, because peaks stay."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from serving import ROOT

SIDE, ALLOWED_MB = 5000, 200
MORE_MB = {"animated WebP": 290, "AVIF": 260}  # their decoders hold more than one picture
MEASURE = """
import io, resource, sys
from PIL import Image
from face_emotion.core.image import decode_image

def peak_mb():
    if sys.platform == "linux":  # ru_maxrss would begin with the peak of the parent
        lines = open("/proc/self/status").read().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)

small = io.BytesIO()
Image.new("RGB", (64, 64)).save(small, "PNG")
decode_image(small.getvalue())
data = sys.stdin.buffer.read()
before = peak_mb()
shape = decode_image(data, 25_000_000).shape
print(*shape, round(peak_mb() - before))
"""
KINDS = {  # name: Pillow's format, colour mode, options
    "JPEG": ("JPEG", "RGB", {}),
    "progressive JPEG": ("JPEG", "RGB", {"progressive": True}),
    "CMYK JPEG": ("JPEG", "CMYK", {}),
    "PNG": ("PNG", "RGB", {"compress_level": 1}),
    "PNG with alpha": ("PNG", "RGBA", {"compress_level": 1}),
    "16-bit PNG": ("PNG", "I;16", {"compress_level": 1}),
    "lossless WebP": ("WEBP", "RGB", {"lossless": True, "method": 0}),
    "lossy WebP": ("WEBP", "RGB", {"method": 0}),
    "animated WebP": ("WEBP", "RGB", {"lossless": True, "method": 0, "save_all": True}),
    "AVIF": ("AVIF", "RGB", {"speed": 10}),
    "GIF": ("GIF", "P", {}),
    "BMP": ("BMP", "RGB", {}),
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no peak of a process's memory in `resource`")
@pytest.mark.parametrize("name", KINDS)
def test_decoding_at_the_limit(name):
    kind, mode, options = KINDS[name]
    if mode == "I;16":
        picture = Image.fromarray(np.full((SIDE, SIDE), 30_000, np.uint16))
    else:
        picture = Image.new("RGB", (SIDE, SIDE), "white").convert(mode)
    if "save_all" in options:
        options = options | {"append_images": [Image.new("RGB", (SIDE, SIDE), "black")]}
    encoded = io.BytesIO()
    try:
        picture.save(encoded, kind, **options)
    except KeyError:
        pytest.skip(f"this Pillow writes no {kind}")
    done = subprocess.run([sys.executable, "-c", MEASURE], input=encoded.getvalue(), capture_output=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    *shape, mb = map(int, done.stdout.split())
    print(f"{name}: {len(encoded.getvalue())} bytes, {mb} MB")
    assert shape == [SIDE, SIDE, 3] and mb <= MORE_MB.get(name, ALLOWED_MB)
