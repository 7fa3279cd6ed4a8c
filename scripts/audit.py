"""Known vulnerabilities of every locked package, and the image libraries inside OpenCV and Pillow: `make audit`.

pip-audit asks PyPI about each lock in requirements/. OpenCV and Pillow bring libjpeg, libpng and libwebp along, which
no package index lists, so their versions are printed for comparison with the libraries' own announcements. The exit
code is 1 if a package has a known vulnerability, and 2 if PyPI could not be asked about every package.
"""

import json
import re
import subprocess
import sys
import venv
from pathlib import Path

from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]
PIP_AUDIT = "pip-audit==2.10.1"
LIBRARIES = ("JPEG", "PNG", "WEBP", "TIFF", "OPENJPEG", "AVIF")


def image_libraries() -> list[tuple[str, str, str]]:
    "Package, library and version of what decodes pictures in this environment."
    import cv2
    from PIL import __version__, features

    found = re.findall(r"^ +(\w+): +(.*)$", cv2.getBuildInformation(), re.M)
    rows = [(f"OpenCV {cv2.__version__}", name, value) for name, value in found if name in LIBRARIES]
    names = {"libjpeg_turbo": "JPEG", "zlib": "zlib", "webp": "WEBP", "avif": "AVIF"}
    versions = ((names[key], features.version(key)) for key in names)
    return rows + [(f"Pillow {__version__}", name, version) for name, version in versions if version]


def auditor() -> Path:
    "pip-audit in an environment of its own, so that no lock has to hold it."
    folder = ROOT / "build" / "audit"
    program = folder / "bin" / "pip-audit"
    if not program.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", PIP_AUDIT], check=True)
    return program


def vulnerabilities(
    program: Path,  # pip-audit
    lock: Path,  # a file of requirements/
) -> list[tuple[str, str, str, str]]:  # lock, package, vulnerability, versions that mend it
    "What PyPI knows about the packages of a lock. Raises `RuntimeError` if it could not be asked."
    command = [program, "-r", lock, "--no-deps", "--disable-pip", "-f", "json", "--progress-spinner", "off"]
    done = subprocess.run([*command, "--timeout", "15"], capture_output=True, text=True)
    start = done.stdout.find("{")
    if start < 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no answer"])[-1])
    packages = json.loads(done.stdout[start:])["dependencies"]
    if skipped := [package for package in packages if "skip_reason" in package]:
        raise RuntimeError(f"{len(skipped)} of {len(packages)} packages: {skipped[0]['skip_reason']}")
    return [
        (lock.name, f"{package['name']} {package['version']}", v["id"], ", ".join(v["fix_versions"]))
        for package in packages
        for v in package["vulns"]
    ]


def main() -> int:
    print(tabulate(image_libraries(), ("", "library", "version"), disable_numparse=True), end="\n\n")
    rows = []
    try:
        program = auditor()
        for lock in sorted((ROOT / "requirements").glob("*.txt")):
            found = vulnerabilities(program, lock)
            print(f"{lock.name}: {len(found)} known vulnerabilities", flush=True)
            rows += found
    except (RuntimeError, subprocess.CalledProcessError, OSError) as e:
        print(f"PyPI could not be asked. {e}\nTry again where pypi.org answers.", file=sys.stderr)
        return 2
    print(tabulate(rows, ("lock", "package", "vulnerability", "mended in"), disable_numparse=True))
    return int(bool(rows))


if __name__ == "__main__":
    sys.exit(main())
