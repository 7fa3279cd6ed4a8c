"""Habits of clients that want to stop an open port; soak.py runs them beside well-behaved clients.

Each habit is a coroutine that uses one address until the run ends, and counts what the server did with it.
"""

import asyncio
import collections
import contextlib
import io
import json
import struct
import sys
from collections.abc import Callable, Coroutine
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

UPGRADE = (
    b"GET /ws/emotion HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
UPLOAD = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 900000\r\n\r\n"
PING, FRAGMENT = b"\x89\x80" + bytes(4), b"\x00\x81" + bytes(5)  # masked frames: empty, and one byte without an end
FIRST_FRAGMENT = b"\x02\x81" + bytes(5)
SIDE = 5000  # pixels; 25 megapixels are the default of MAX_PIXELS
FLOOD = 20_000, 0.01  # bytes, and seconds between two times: 2 MB a second


@lru_cache
def bomb() -> bytes:
    "A white lossless WebP of 25 megapixels: a few dozen bytes."
    out = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), "white").save(out, "WEBP", lossless=True)
    return out.getvalue()


@lru_cache
def large_jpeg() -> bytes:
    "A JPEG of 25 megapixels in one colour: about 400 KB."
    return cv2.imencode(".jpg", np.full((SIDE, SIDE, 3), 90, np.uint8))[1].tobytes()


class Target:
    "The server that is attacked, from one address, and what it did."

    def __init__(self, port: int, address: str, counts: collections.Counter, has_ended: Callable[[], bool]):
        self.port, self.address, self.counts, self.has_ended = port, address, counts, has_ended
        self.name = ""

    def count(self, what: str) -> None:
        self.counts[f"{self.name}: {what}"] += 1

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(self.address, 0))


async def many(target: Target, n: int, one: Callable[[Target], Coroutine]) -> None:
    "The same thing on n sockets, each of which begins again when the server has ended it."

    async def again(number: int) -> None:
        await asyncio.sleep(number / 50)  # a connection every 20 ms, so that the others keep some of the machine
        while not target.has_ended():
            try:
                target.count(await one(target))
            except ConnectionClosed as e:
                target.count(f"closed {e.rcvd.code if e.rcvd else 'without a code'}")
            except InvalidStatus as e:
                target.count(f"refused {e.response.status_code}")
            except (OSError, EOFError, TimeoutError, asyncio.TimeoutError) as e:
                target.count(type(e).__name__)
            await asyncio.sleep(0.5)

    await asyncio.gather(*(again(i) for i in range(n)))


async def until_closed(target: Target, reader: asyncio.StreamReader) -> str:
    "What the server sends until it closes, in short; `held` if it keeps the socket until the run ends."
    received = b""
    while not target.has_ended():
        with contextlib.suppress(asyncio.TimeoutError):
            data = await asyncio.wait_for(reader.read(4096), 0.5)
            if not data:
                return f"answered {received[9:12].decode()} and closed" if received[:4] == b"HTTP" else "closed"
            received = (received + data)[:64]
    return "held"


async def held_open(target: Target, data: bytes, drip: bytes = b"") -> str:
    "Send something and wait, with a few bytes each second."
    reader, writer = await target.dial()

    async def dripping() -> None:
        while drip:
            writer.write(drip)
            await asyncio.sleep(1)

    dripper = asyncio.create_task(dripping())
    try:
        writer.write(data)
        return await until_closed(target, reader)
    finally:
        dripper.cancel()
        writer.transport.abort()


async def frames(target: Target, first: bytes, frame: bytes) -> str:
    "Open a WebSocket and send the same frame 2,000,000 bytes a second."
    reader, writer = await target.dial()
    size, pause = FLOOD
    try:
        writer.write(UPGRADE + b"\r\n")
        if b" 101 " not in (head := await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)):
            return f"refused {head[9:12].decode()}"
        writer.write(first)
        closed = asyncio.create_task(_close_code(reader))
        while not closed.done() and not target.has_ended():
            writer.write(frame * (size // len(frame)))
            with contextlib.suppress(OSError):  # `closed` then ends too
                await asyncio.wait_for(writer.drain(), 10)
            await asyncio.sleep(pause)
        if closed.done():
            return f"closed {closed.result()}"
        closed.cancel()
        return "held"
    finally:
        writer.transport.abort()


async def _close_code(reader: asyncio.StreamReader) -> int | str:
    "The close code that the server sends, behind any pongs and messages; the end of the data tells it."
    last = b""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            last = (last + data)[-256:]
    at = last.rfind(b"\x88")
    return struct.unpack(">H", last[at + 2 : at + 4])[0] if 0 <= at < len(last) - 3 else "without a code"


async def pictures(target: Target, image: bytes) -> str:
    "Send the same picture again and again, each after the answer to the last."
    url = f"ws://127.0.0.1:{target.port}/ws/emotion"
    async with connect(url, compression=None, close_timeout=1, local_addr=(target.address, 0), max_size=None) as ws:
        while not target.has_ended():
            await ws.send(image)
            with contextlib.suppress(asyncio.TimeoutError):
                answer = json.loads(await asyncio.wait_for(ws.recv(), 30))
                target.count(answer.get("error", {}).get("code", "answered"))
    return "held"


async def stuck_upgrade(target: Target) -> None:
    "200 upgrades with a header line that is too long, on sockets that stay open."
    await many(target, 200, lambda t: held_open(t, UPGRADE + b"X: " + b"x" * 9000 + b"\r\n\r\n"))


async def ping_flood(target: Target) -> None:
    "Pings, 2 MB a second."
    await many(target, 1, lambda t: frames(t, b"", PING))


async def fragments(target: Target) -> None:
    "One message in fragments of one byte, 2 MB a second."
    await many(target, 1, lambda t: frames(t, FIRST_FRAGMENT, FRAGMENT))


async def tiny_bomb(target: Target) -> None:
    "A few dozen bytes that decode to 25 megapixels, on 4 sockets."
    await many(target, 4, lambda t: pictures(t, bomb()))


async def hog(target: Target) -> None:
    "25-megapixel JPEGs on 12 sockets."
    await many(target, 12, lambda t: pictures(t, large_jpeg()))


async def idle_tcp(target: Target) -> None:
    "200 connections that say nothing."
    await many(target, 200, lambda t: held_open(t, b""))


async def slow_upload(target: Target) -> None:
    "16 uploads of one byte a second."
    await many(target, 16, lambda t: held_open(t, UPLOAD, drip=b"x"))


ATTACKS = {f.__name__: f for f in (stuck_upgrade, ping_flood, fragments, tiny_bomb, hog, idle_tcp, slow_upload)}


def attackers(
    names: tuple[str, ...], addresses: int, port: int, counts: collections.Counter, has_ended: Callable[[], bool]
) -> list[Coroutine]:
    "One coroutine for each habit and address; addresses begin with 127.0.0.2."
    out = []
    for name in names:
        for _ in range(addresses):
            address = f"127.0.0.{len(out) + 2}" if sys.platform == "linux" else "127.0.0.1"
            target = Target(port, address, counts, has_ended)
            target.name = name
            out.append(ATTACKS[name](target))
    return out
