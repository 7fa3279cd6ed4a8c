"""The page with a server that asks for a token.

The page takes the token from the fragment of its address and sends it with pictures and with the camera.
"""

import pytest
from browser import FAKE_CAMERA, launch, needs_chromium, sync_api
from serving import ServerProcess, portrait, wait_until

pytestmark = [pytest.mark.timeout(180), needs_chromium]


@pytest.fixture(scope="module")
def browser(playwright):
    browser = launch(playwright, FAKE_CAMERA)
    yield browser
    browser.close()


def test_token(browser, tmp_path):
    with ServerProcess(tmp_path, ACCESS_TOKEN="s3cret-token") as server:
        page, sockets = browser.new_page(permissions=["camera"]), []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        page.goto(server.url + "/#token=s3cret-token")
        assert page.url == server.url + "/"
        page.reload()  # the tab keeps the token
        page.set_input_files("#upload", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": portrait()})
        sync_api.expect(page.locator("#faces [data-face-id]")).to_have_count(1)
        page.click("#start")
        sync_api.expect(page.locator("#status")).to_have_attribute("data-state", "connected")
        assert sockets and "ticket=" in sockets[0] and "s3cret" not in sockets[0]
        wait_until(lambda: "s3cret" not in server.log() and "/ws/emotion" in server.log())


def test_no_token(browser, tmp_path):
    with ServerProcess(tmp_path, ACCESS_TOKEN="s3cret-token") as server:
        page = browser.new_page()
        page.goto(server.url)
        page.set_input_files("#upload", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": portrait()})
        sync_api.expect(page.locator("#message")).to_contain_text("ACCESS_TOKEN is set")


def test_docs_page_runs_under_its_policy(browser, tmp_path):
    with ServerProcess(tmp_path) as server:
        page, complaints, requests = browser.new_page(), [], []
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("request", lambda r: requests.append(r.url))
        page.goto(server.url + "/docs")
        sync_api.expect(page.locator(".opblock").first).to_be_visible(timeout=20_000)
        assert complaints == []
        assert [url for url in requests if not url.startswith((server.url, "data:", "blob:"))] == []
