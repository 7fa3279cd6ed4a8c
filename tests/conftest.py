"""Fixtures that several test files share."""

import pytest


@pytest.fixture(scope="module")
def playwright():
    from browser import sync_api

    with sync_api.sync_playwright() as playwright:
        yield playwright
