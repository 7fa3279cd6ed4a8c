"""Answers a second that the page and the widget show, with one face and with three, beside another clone.

    python benchmarks/bench_page.py [--against CLONE] [--seconds 10] [--rounds 2]

Needs chromium and what `make install` installs. The camera is a recording of scikit-image's astronaut, 640x480; clones
take turns. It takes about two minutes, with another clone four.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pandas as pd
from clones import ROOT, environment_of, python_of
from playwright.sync_api import expect, sync_playwright

sys.path.insert(0, str(ROOT / "tests"))

from browser import launch, record_face, record_faces  # noqa: E402

from face_emotion.serving.transport import free_port  # noqa: E402

LAB = "-m jupyter lab --no-browser --ip=127.0.0.1 --IdentityProvider.token=bench --allow-root --LabApp.news_url="
QUIET = "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate"
WAIT_MS = 90_000


@contextmanager
def process(
    root: Path,  # of the clone
    arguments: list[str],  # of its Python
    address: str,  # that answers when the process is ready
) -> Iterator[None]:
    "A process of a clone, from when it answers until the end of the block."
    with tempfile.TemporaryDirectory() as home:
        cell = nbformat.v4.new_code_cell("from face_emotion.webcam import Webcam\nWebcam(lang='en')")
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), Path(home) / "webcam.ipynb")
        folders = {"HOME": home, "JUPYTER_CONFIG_DIR": f"{home}/config", "JUPYTER_DATA_DIR": f"{home}/data"}
        env = environment_of(root, LOG_DIR=f"{home}/logs", **folders)
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        running = subprocess.Popen([python_of(root), *arguments], cwd=home, env=env, **silent)
        try:
            wait_for(address, running)
            yield
        finally:
            running.terminate()
            running.wait(60)


def wait_for(address: str, running: subprocess.Popen) -> None:
    "Until the address answers."
    deadline = time.monotonic() + WAIT_MS / 1000
    while running.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"{' '.join(map(str, running.args[:4]))} does not answer at {address}.")


def page_rate(root: Path, browser, faces: int, seconds: float) -> float:
    "Answers a second that reach the server's page."
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with process(root, ["-m", "face_emotion.serve", "--port", str(port)], f"{url}/readyz"):
        page, answers = browser.new_page(locale="en-US"), []
        page.on("websocket", lambda socket: socket.on("framereceived", lambda _: answers.append(time.perf_counter())))
        page.goto(url)
        page.click("#start")
        expect(page.locator("#faces [data-face-id]")).to_have_count(faces, timeout=WAIT_MS)
        page.wait_for_timeout(2000)
        before, begun = len(answers), time.perf_counter()
        page.wait_for_timeout(1000 * seconds)
        rate = (len(answers) - before) / (time.perf_counter() - begun)
        page.close()
    return rate


def widget_rate(root: Path, browser, faces: int, seconds: float) -> float:
    "Answers a second that reach the widget in JupyterLab."
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with process(root, [*LAB.split(), QUIET, f"--port={port}"], f"{url}/api?token=bench"):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        dialog = page.locator(".jp-Dialog", has_text="Select Kernel")
        page.add_locator_handler(dialog, lambda shown: shown.locator("button.jp-mod-accept").click())
        page.goto(f"{url}/lab/tree/webcam.ipynb?token=bench&reset")
        page.locator(".jp-Notebook .jp-Cell .cm-content").first.click(timeout=WAIT_MS)
        idle = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
        page.locator(idle).first.wait_for(state="attached", timeout=WAIT_MS)
        page.keyboard.press("Control+Enter")
        page.locator(".fe-start").click(timeout=WAIT_MS)
        expect(page.locator(".fe-face")).to_have_count(faces, timeout=WAIT_MS)
        page.wait_for_timeout(2000)
        count = "Number(document.querySelector('.fe-rate').dataset.total)"
        before, begun = page.evaluate(count), time.perf_counter()
        page.wait_for_timeout(1000 * seconds)
        rate = (page.evaluate(count) - before) / (time.perf_counter() - begun)
        page.close()
    return rate


def measure(roots: dict[str, Path], seconds: float, rounds: int) -> pd.DataFrame:
    "A row for the page and for the widget, with one face and with three; the medians of all rounds."
    rows = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        for faces in (1, 3):
            path = Path(folder) / f"{faces}.mjpeg"
            camera = record_face(path, left=30) if faces == 1 else record_faces(path, faces)
            browser = launch(playwright, *camera)
            for name, rate_of in (("page", page_rate), ("widget", widget_rate)):
                found = {clone: [] for clone in roots}
                for _ in range(rounds):
                    for clone, root in roots.items():
                        found[clone].append(rate_of(root, browser, faces, seconds))
                row = {"where": name, "faces": faces} | {c: statistics.median(v) for c, v in found.items()}
                rows.append(row | ({"ratio": row["this"] / row["other"]} if "other" in row else {}))
            browser.close()
    return pd.DataFrame(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, metavar="CLONE", help="another clone, with an environment of its own")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each clone (default: %(default)s)")
    args = parser.parse_args()
    if not shutil.which("chromium"):
        parser.error("chromium is not installed: apt-get install chromium")
    roots = {"this": ROOT} | ({"other": args.against.resolve()} if args.against else {})
    table = measure(roots, args.seconds, args.rounds)
    print(table.to_markdown(index=False, floatfmt=".2f"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
