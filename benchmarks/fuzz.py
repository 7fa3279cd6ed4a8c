"""Random and mutated input against message parsing and decoding: whatever comes in, an answer with a known code comes out.

python benchmarks/fuzz.py --inputs 200000 --seed 0        hypothesis and mutations (seconds for 2,000, some ten minutes for 200,000)
python benchmarks/fuzz.py --inputs 200000 --atheris       guided by coverage, where atheris is installed
"""

import argparse
import base64
import collections
import json
import random
import resource
import sys
import time
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from face_emotion.core.image import ImageError, decode_image
from face_emotion.serving.protocol import ERRORS, FrameError, parse_message

MAX_BYTES, MAX_PIXELS = 100_000, 1_000_000
counts: collections.Counter = collections.Counter()
slowest = 0.0


def one(message: str | bytes) -> str:
    "What the server makes of a message, up to the pixels; anything but an answer or a known code is a finding."
    global slowest
    start = time.perf_counter()
    try:
        data, frame_id = parse_message(message, MAX_BYTES)
        assert frame_id is None or isinstance(frame_id, (str, int))
        json.dumps(frame_id).encode()
        image = decode_image(data, MAX_PIXELS)
        assert (
            image.dtype == np.uint8
            and image.ndim == 3
            and image.shape[2] == 3
            and 0 < image.shape[0] * image.shape[1] <= MAX_PIXELS
        )
        code = "decoded"
    except (FrameError, ImageError) as e:
        code = e.code
        assert code in ERRORS, code
        json.dumps(str(e)).encode()
    slowest = max(slowest, time.perf_counter() - start)
    counts[code] += 1
    return code


def seeds() -> list[bytes]:
    "Small pictures of every kind that is read, to be mutated."
    picture = Image.radial_gradient("L").resize((24, 20)).convert("RGB")
    out = []
    for kind, options in (
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"quality": 20, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
        ("BMP", {}),
    ):
        file = BytesIO()
        picture.save(file, kind, **options)
        out.append(file.getvalue())
    for mode in ("L", "P", "1", "LA", "RGBA", "I;16"):
        file = BytesIO()
        (Image.fromarray(np.full((20, 24), 30000, np.uint16)) if mode == "I;16" else picture.convert(mode)).save(
            file, "PNG"
        )
        out.append(file.getvalue())
    for more in ({"save_all": True, "append_images": [picture.rotate(90)]},):
        for kind in ("GIF", "PNG", "WEBP"):
            file = BytesIO()
            picture.save(file, kind, **more)
            out.append(file.getvalue())
    file = BytesIO()
    picture.convert("CMYK").save(file, "JPEG")
    return [*out, file.getvalue()]


def mutated(rng: random.Random, data: bytes) -> bytes:
    "A picture with bytes flipped, cut, doubled, moved or overwritten by telling values."
    b = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        i, n = rng.randrange(len(b) + 1), rng.randrange(1, 17)
        match rng.randrange(6):
            case 0:
                b[i : i + n] = rng.randbytes(n)
            case 1:
                del b[i : i + n]
            case 2:
                b[i:i] = b[i : i + n * 8]
            case 3:
                b[i : i + 2] = rng.choice((b"\xff\xff", b"\0\0", b"\x7f\xff", b"\xff\xda", b"\xff\xc0", b"\x80\0"))
            case 4:
                b = b[: max(4, i)]
            case 5 if len(b) > i:
                b[i] ^= 1 << rng.randrange(8)
    return bytes(b)


def run_mutations(n: int, seed: int) -> None:
    "Mutated pictures, a third of them inside JSON."
    rng, pictures = random.Random(seed), seeds()
    for _ in range(n):
        data = mutated(rng, rng.choice(pictures))
        if rng.random() < 0.67:
            one(data)
        else:
            text = json.dumps({"image": base64.b64encode(data).decode(), "id": rng.choice((None, 1, "a", -5))})
            one(text if rng.random() < 0.7 else mutated(rng, text.encode()).decode("utf-8", "replace"))


def run_hypothesis(n: int, seed: int) -> None:
    "Messages that hypothesis makes: any text, any JSON, any bytes behind the signatures."
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    anything = st.recursive(
        scalars, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(), x, max_size=4), max_leaves=12
    )
    image = st.text() | st.binary(max_size=200).map(lambda b: base64.b64encode(b).decode()) | anything
    starts = st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF\x10\0\0\0WEBPVP8 ", b""])
    messages = st.one_of(
        st.text(),
        anything.map(json.dumps),
        st.fixed_dictionaries({"image": image}, optional={"id": anything, "x": anything}).map(json.dumps),
        st.builds(lambda a, b: a + b, starts, st.binary(max_size=300)),
    )

    @hypothesis_seed(seed)
    @settings(
        max_examples=n,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(messages)
    def check(message):
        one(message)

    check()


def run_atheris(n: int, seed: int) -> None:
    "Input guided by coverage of the parser and of what Pillow does in Python."
    import atheris

    atheris.instrument_all()

    def test(data: bytes) -> None:
        if data[:1] == b"t":
            one(data[1:].decode("utf-8", "replace"))
        else:
            one(data[1:])
        if sum(counts.values()) >= n:
            report(n, "atheris")

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for i, s in enumerate(seeds()):
            (Path(folder) / f"{i}").write_bytes(b"b" + s)
        (Path(folder) / "json").write_bytes(b't{"image": "/9j/4AAQ", "id": 1}')
        atheris.Setup(
            [
                sys.argv[0],
                f"-seed={seed + 1}",
                f"-runs={n}",
                "-max_len=4000",
                "-rss_limit_mb=3000",
                "-timeout=20",
                "-verbosity=0",
                folder,
            ],
            test,
        )
        atheris.Fuzz()


def report(n: int, kind: str) -> None:
    "The table of codes."
    print(
        f"{sum(counts.values())} inputs ({kind}); slowest {slowest * 1e3:.0f} ms; peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    )
    for code, k in counts.most_common():
        print(f"  {code:<18} {k}")
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true")
    args = parser.parse_args(argv)
    cv2.setNumThreads(1)
    if args.atheris:
        run_atheris(args.inputs, args.seed)
    else:
        run_mutations(args.inputs * 3 // 4, args.seed)
        run_hypothesis(args.inputs // 4, args.seed)
        report(args.inputs, "mutations and hypothesis")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
