"""The files for containers and proxies: checked by rules, and nginx in front of two real servers if it is installed."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from serving import ROOT, WAIT_S, ServerProcess, connect, fetch, free_port, portrait, wait_until

from face_emotion.core.config import Settings
from face_emotion.serving.client import EmotionClient

pytestmark = pytest.mark.timeout(180)


def instructions() -> list[tuple[str, str]]:
    "The Dockerfile's instructions, continued lines joined."
    text = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.M))
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def test_dockerfile():
    found = instructions()
    bases = [value.split()[0] for name, value in found if name == "FROM"]
    assert len(bases) == 2
    assert all("slim" in b and re.search(r":\d+\.\d+", b) for b in bases), "slim bases with a version"

    names = [name for name, _ in found]
    final = found[len(names) - names[::-1].index("FROM") :]
    final_names, values = [name for name, _ in final], dict(final)
    assert values["USER"] not in ("root", "0") and final_names.index("USER") > final_names.index("RUN")
    assert "/readyz" in values["HEALTHCHECK"] and values["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(values["CMD"]) == ["python", "-m", "face_emotion.serve"]


def test_dockerfile_installs_from_the_lock():
    found = instructions()
    assert any(name == "COPY" and "requirements/serve-py311.txt" in value for name, value in found)
    assert (ROOT / "requirements" / "serve-py311.txt").exists()
    assert "ADD" not in [name for name, _ in found]
    installs = [value for _, value in found if "apt-get install" in value]
    assert installs and all("--no-install-recommends" in v and "rm -rf /var/lib/apt/lists" in v for v in installs)
    pips = [value for _, value in found if "pip install" in value]
    assert pips and all("--no-cache-dir" in value for value in pips)
    assert not any(re.search(r"(?i)token|password|secret", value) for _, value in found)


def test_dockerignore_lets_in_what_is_copied():
    ignored = (ROOT / ".dockerignore").read_text().split()
    for _, value in (i for i in instructions() if i[0] == "COPY" and "--from" not in i[1]):
        for source in value.split()[:-1]:
            assert f"!{source.split('/')[0]}" in ignored and (ROOT / source).exists(), source


def test_image(tmp_path):
    "Build and run the image. FACE_EMOTION_BUILD_IMAGE=1 switches this on, because it downloads a base image."
    if not os.environ.get("FACE_EMOTION_BUILD_IMAGE"):
        pytest.skip("set FACE_EMOTION_BUILD_IMAGE=1 to build the image")
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no container engine answers")
    subprocess.run(["docker", "build", "-t", "face-emotion:test", "."], cwd=ROOT, check=True)
    port = free_port()
    command = "docker run -d --rm --read-only --tmpfs /tmp --tmpfs /srv/face_emotion/logs:uid=10001".split()
    command += ["-p", f"127.0.0.1:{port}:8001", "face-emotion:test"]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        wait_until(lambda: fetch(f"http://127.0.0.1:{port}/readyz")[0] == 200)
        assert fetch(f"http://127.0.0.1:{port}/api/predict", portrait(), content_type="image/jpeg")[0] == 200
    finally:
        subprocess.run(["docker", "stop", name], check=True, capture_output=True)


def test_compose():
    content = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    services = content["services"]
    for name in ("server1", "server2"):
        assert (
            services[name]["read_only"]
            and services[name]["restart"] == "unless-stopped"
            and "ports" not in services[name]
        ), "reached through the proxy only"
        assert f"server {name}:8001" in (ROOT / "deploy" / "nginx.conf").read_text()
    assert all(":latest" not in s["image"] and ":" in s["image"] for s in services.values())
    assert services["proxy"]["ports"] == ["127.0.0.1:8001:8080"] and services["proxy"]["depends_on"]["server1"] == {
        "condition": "service_healthy"
    }


def test_environment_names_are_settings():
    "A setting that is misspelt in a container is ignored without a word."
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    values = {name: text for s in services.values() for name, text in s.get("environment", {}).items()}
    for line in (value for name, value in instructions() if name == "ENV"):
        values |= dict(part.split("=", 1) for part in line.split())
    ours = {name: text for name, text in values.items() if name not in ("PATH", "PYTHONUNBUFFERED")}
    assert {name.lower() for name in ours} <= set(Settings.model_fields), ours
    text = {name.lower(): re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for name, value in ours.items()}
    Settings(_env_file=None, **text)  # raises if a value is not allowed


def test_files_that_compose_mounts():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    mounted = [v.split(":")[0] for s in services.values() for v in s["volumes"]]
    assert mounted and all((ROOT / m).is_file() for m in mounted if m.startswith("."))


# ---------------------------------------------------------------- the proxy, run


@pytest.fixture
def cluster(tmp_path):
    "Two servers behind nginx with the configuration of compose.yaml."
    if not (nginx := shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")):
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    folders = [tmp_path / name for name in ("one", "two", "proxy")]
    for f in folders:
        f.mkdir()
    with ServerProcess(folders[0]) as one, ServerProcess(folders[1], CONNECTIONS_PER_ADDRESS="3") as two:
        port = free_port()
        config = (
            (ROOT / "deploy" / "nginx.conf")
            .read_text()
            .replace("server1:8001", f"127.0.0.1:{one.port}")
            .replace("server2:8001", f"127.0.0.1:{two.port}")
            .replace("listen 8080", f"listen 127.0.0.1:{port}")
        )
        config = config.replace("/dev/stdout", str(folders[2] / "access.log")).replace(
            "http {", f"http {{ client_body_temp_path {folders[2]}/body; proxy_temp_path {folders[2]}/temp;", 1
        )
        (folders[2] / "nginx.conf").write_text(f"pid {folders[2]}/nginx.pid; daemon off;\n" + config)
        process = subprocess.Popen(
            [nginx, "-p", str(folders[2]), "-c", str(folders[2] / "nginx.conf")], stderr=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: fetch(f"http://127.0.0.1:{port}/healthz")[0] == 200)
            yield f"127.0.0.1:{port}", (one, two), folders[2]
        finally:
            process.terminate()
            process.wait(WAIT_S)


def frames(server) -> float:
    return server.metric("face_emotion_frames_total")


def test_sticky_proxy(cluster):
    address, servers, folder = cluster
    url = f"http://{address}"
    chosen = set()
    for visitor in range(8):
        before = [frames(s) for s in servers]
        for _ in range(3):
            assert (
                fetch(
                    url + "/api/predict", portrait(), content_type="image/jpeg", cookie=f"face_emotion=visitor{visitor}"
                )[0]
                == 200
            )
        grown = [i for i, s in enumerate(servers) if frames(s) > before[i]]
        assert len(grown) == 1, "all requests of one visitor go to one replica"
        chosen.add(grown[0])
    assert chosen == {0, 1}, "and visitors are spread over both"
    assert fetch(url + "/metrics")[0] == 404
    with connect(
        f"ws://{address}/ws/emotion?ticket=private", origin=url, subprotocols=["emotion.v2"], compression=None
    ) as ws:  # from the same origin, through the proxy
        json.loads(ws.recv(WAIT_S))
        ws.send(portrait())
        assert json.loads(ws.recv(WAIT_S))["results"]
    large = portrait()[:-2] + (b"\xff\xfe\xff\xff" + b"x" * 65533) * 60 + b"\xff\xd9"
    assert fetch(url + "/api/predict", large, content_type="image/jpeg")[0] == 200
    assert (
        not [p for p in (*folder.rglob("body/*"), *folder.rglob("temp/*")) if p.is_file()]
        and "private" not in (folder / "access.log").read_text()
    )


def test_replica_that_dies(cluster):
    address, servers, _ = cluster

    async def watch() -> tuple[int, int]:
        async with EmotionClient(f"ws://{address}/ws/emotion") as client:
            for n in range(30):
                assert (await client.ask(portrait()))["results"]
                if n == 10:
                    max(servers, key=lambda s: s.metric("face_emotion_connections")).process.kill()
            return n + 1, client.connects

    answered, connects = asyncio.run(watch())
    assert (answered, connects) == (30, 2)
    assert all(fetch(f"http://{address}/healthz")[0] == 200 for _ in range(10)), "the proxy skips the dead replica"


def test_addresses_come_from_the_proxy(tmp_path):
    "A client behind the proxy is counted by its own address, and cannot choose it."
    assert "$proxy_add_x_forwarded_for" not in re.sub(r"#.*", "", (ROOT / "deploy" / "nginx.conf").read_text())
    folder = Path(tmp_path)
    with ServerProcess(folder, CONNECTIONS_PER_ADDRESS="1", FORWARDED_ALLOW_IPS="127.0.0.1") as server:
        with (
            connect(server.ws, additional_headers={"X-Forwarded-For": "192.0.2.1"}),
            connect(server.ws, additional_headers={"X-Forwarded-For": "192.0.2.2"}),
        ):
            assert "192.0.2.1" in server.log() and "192.0.2.2" in server.log()
