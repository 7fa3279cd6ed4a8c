"""Package metadata, all of it read from settings.ini, which nbdev reads too."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser(delimiters=["="], interpolation=None)
config.read(Path(__file__).parent / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]
STATUS = {
    "2": "Development Status :: 2 - Pre-Alpha",
    "3": "Development Status :: 3 - Alpha",
    "4": "Development Status :: 4 - Beta",
    "5": "Development Status :: 5 - Production/Stable",
}


def requirements(layer: str = "") -> list[str]:
    "The lines of one layer of settings.ini, such as `train_requirements`."
    return [line.strip() for line in cfg[f"{layer}requirements"].splitlines() if line.strip()]


def python_requires() -> str:
    "From `min_python` to `max_python`, which is included."
    major, minor = cfg["max_python"].split(".")
    return f">={cfg['min_python']},<{major}.{int(minor) + 1}"


def classifiers() -> list[str]:
    "Trove classifiers: maturity, who it is for, what it runs on."
    minor = [int(cfg[f"{end}_python"].split(".")[1]) for end in ("min", "max")]
    return [
        STATUS[cfg["status"]],
        f"Intended Audience :: {cfg['audience']}",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3 :: Only",
        *[f"Programming Language :: Python :: 3.{m}" for m in range(minor[0], minor[1] + 1)],
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ]


layers = ["train", "notebook", "ray", "dev"]
extras = {layer: requirements(f"{layer}_") for layer in layers}
extras["dev"] = sorted({r for layer in layers for r in extras[layer]})

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    keywords=cfg["keywords"].split(),
    author=cfg["author"],
    license="Apache-2.0",
    url=cfg["git_url"] or None,
    classifiers=classifiers(),
    packages=find_packages(include=["face_emotion", "face_emotion.*"]),
    package_data={"face_emotion": ["assets/**/*", "static/**/*", "py.typed"]},
    python_requires=python_requires(),
    install_requires=requirements(),
    extras_require=extras,
    zip_safe=False,
    entry_points={
        "console_scripts": ["face-emotion=face_emotion.serving.cli:main"],
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"],
    },
)
