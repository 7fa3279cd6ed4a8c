"""Fixtures that several test files share. A file gets its own server and browsers, one of each for all its tests."""

import importlib.util
import os

import pytest

os.environ["LOG_DIR"] = "logs"  # of the folder in which a test starts its process

MORE_THAN_SERVING = {  # a package that the tests of a file need and the serving layer lacks
    **dict.fromkeys(
        ("test_train_formats.py", "test_train_loop.py", "test_train_run.py", "test_train_speed.py"), "tensorflow"
    ),
    **dict.fromkeys(("test_evaluate.py", "test_preprocess.py", "test_readme.py"), "tensorflow"),
    **dict.fromkeys(("test_compare.py", "test_robustness.py"), "tensorflow"),
    **dict.fromkeys(("test_ray.py", "test_train_processes.py"), "tensorflow"),
    "test_scripts.py": "mkdocs",
    "test_webcam.py": "anywidget",
}
# Files that are started first, the slowest before the others, so that no worker is left with one at the end.
FIRST = [
    f"test_{name}.py"
    for name in "train_run ray_serve train_loop preprocess page webcam ray train_processes open_port scripts install "
    "codes train_speed compare soak train_formats faults predict doctor page_session page_layout".split()
]


def pytest_addoption(parser):
    parser.addoption("--layer", choices=("all", "serving"), default="all", help="serving: what runs without TensorFlow")


def _left_out(config) -> dict[str, str]:
    "The files that are not collected, and the package that each needs."
    serving = config.getoption("--layer") == "serving"
    return {f: p for f, p in MORE_THAN_SERVING.items() if serving or importlib.util.find_spec(p) is None}


def pytest_ignore_collect(collection_path, config):
    return True if collection_path.name in _left_out(config) else None


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


def pytest_report_header(config):
    left = _left_out(config)
    return [f"left out: {f} needs {p} (make install brings it)" for f, p in sorted(left.items())]


@pytest.fixture(scope="module")
def playwright():
    from browser import sync_api

    with sync_api.sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    from serving import ServerProcess

    with ServerProcess(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def face_browser(playwright, tmp_path_factory):
    "A browser whose camera shows a face, left of the middle."
    from browser import launch, record_face

    browser = launch(playwright, *record_face(tmp_path_factory.mktemp("camera") / "face.mjpeg", left=100))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def plain_browser(playwright):
    "A browser with two cameras, which show chromium's green test pattern."
    from browser import FAKE_CAMERA, launch

    browser = launch(playwright, f"{FAKE_CAMERA}=device-count=2")
    yield browser
    browser.close()


@pytest.fixture
def open_page(server):
    "A function that opens the page in a browser; its contexts are closed after the test."
    from page import Watched

    opened = []

    def open_page(browser, url=server.url, **options):
        opened.append(Watched(browser, url, **options))
        return opened[-1]

    yield open_page
    for watched in opened:
        watched.context.close()
