"""Fixtures that several test files share. A file gets its own server and browsers, one of each for all its tests."""

import os

import pytest

os.environ["LOG_DIR"] = "logs"  # of the folder in which a test starts its process


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
