"""Serve the labelling page to this machine only.

Every request needs the token of the printed link, and then another one in a cookie; every change needs the token of the
page in a header. The page lies below a random path, which the cookie names, so that browsers do not send it to other
servers of this machine. Requests from other origins and to other host names are refused, so that no other page can read
pictures or write labels. Pictures are decoded and encoded again, so that nothing else of the folder is ever
sent.
"""

import functools
import hashlib
import hmac
import io
import json
import os
import re
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ssgan.data.file_tree import FileTree, printable
from ssgan.data.image_io import UnreadableImage, decode_within, ignore_warnings
from ssgan.errors import UserError
from ssgan.files import path_to_text
from ssgan.labeling.background import BackgroundTrainer
from ssgan.labeling.session import LabelingSession

__all__ = ["HOST", "LabelingApp", "open_socket", "serve"]

HOST = "127.0.0.1"
SIDES = (320, 1600)  # pixels of the longer side, of a picture in a group and of one alone
PIXEL_ART = 256  # pixels of the longer side, up to which a picture is sent losslessly
JPEG_QUALITY = 90
PICTURES_KEPT = 96  # encoded pictures kept in memory
DECODED_AT_ONCE = 2
BODY_LIMIT = 2**18  # bytes of a request
TOKEN_HEADER = "x-ssgan-token"
STATIC = {"page.js": "text/javascript", "page.css": "text/css", "icon.svg": "image/svg+xml"}
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
HTTP_PORT = 80
FORWARD = """<!doctype html><meta charset="utf-8"><title>ssgan label</title>
<link rel="icon" type="image/svg+xml" href="{0}static/icon.svg">
<meta http-equiv="refresh" content="0;url={0}"><a href="{0}">Label pictures</a>"""
NO_LINK = "Open this page with the link that `ssgan label` printed; each start of `ssgan label` prints a new one."


class Guard:
    """Refuse requests that do not come from the page itself, and add security headers to every response.

    Parameters
    ----------
    app : ASGI app
    port : int
    base : str
        Path of the page.
    link_token, page_token : str
    """

    def __init__(self, app: ASGIApp, port: int, base: str, link_token: str, page_token: str) -> None:
        self.app, self.port, self.base = app, port, base
        self.link_token, self.page_token = link_token, page_token
        self.cookie_token, self.once_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self.hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
        if port == HTTP_PORT:  # browsers leave it out
            self.hosts |= {HOST, "localhost"}
        self.origins = {f"http://{host}" for host in self.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refuse(Request(scope)) or self.app
        await answer(scope, receive, send_with_headers)

    def _refuse(self, request: Request) -> Response | None:
        """Return the response to a request that is refused or redirected; None for others."""
        headers = request.headers
        if headers.get("host") not in self.hosts:
            return PlainTextResponse("The request names another host: open the link that `ssgan label` printed.", 421)
        if headers.get("origin", next(iter(self.origins))) not in self.origins:
            return PlainTextResponse("Requests from other pages are refused.", 403)
        if request.method not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("This method is refused.", 405)
        if request.url.path == "/" and "token" in request.query_params:
            token = request.query_params["token"]
            if _equal(token, self.once_token):
                self.once_token = secrets.token_urlsafe(24)
            elif not _equal(token, self.link_token):
                return PlainTextResponse(NO_LINK, 403)
            # A redirect would not have the cookie, if a page of another site has the link.
            answer = HTMLResponse(FORWARD.format(self.base))
            answer.set_cookie(self.cookie, self.cookie_token, path=self.base, httponly=True, samesite="strict")
            return answer
        if not _equal(request.cookies.get(self.cookie, ""), self.cookie_token):
            return PlainTextResponse(NO_LINK, 403)
        return self._refuse_change(headers) if request.method == "POST" else None

    def _refuse_change(self, headers: Headers) -> Response | None:
        """Return the response to a request that may not change anything; None if it may."""
        if not _equal(headers.get(TOKEN_HEADER, ""), self.page_token):
            return PlainTextResponse("The token of the page is missing: reload it.", 403)
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return PlainTextResponse("Requests from other pages are refused.", 403)
        if headers.get("content-type", "").partition(";")[0] != "application/json":
            return PlainTextResponse("Only JSON is accepted.", 415)
        length = headers.get("content-length", "")
        if "transfer-encoding" in headers:  # the body may be longer than content-length says
            length = ""
        if not length.isascii() or not length.isdecimal() or int(length) > BODY_LIMIT:
            return PlainTextResponse("The request is too large, or does not give its length.", 413)
        return None

    @property
    def cookie(self) -> str:
        """The name of the cookie, which has the port because all ports share cookies."""
        return f"ssgan-label-{self.port}"


def _equal(text: str, secret: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(text.encode(), secret.encode())


class LabelingApp:
    """The ASGI app of a labelling page.

    Parameters
    ----------
    tree : FileTree
        The folder of pictures.
    session : LabelingSession
    trainer : BackgroundTrainer
    port : int
        Port at which it is served; host names and origins are checked with it.

    Attributes
    ----------
    link : str
        Link that opens the page; it holds the token.
    link_for_browser : str
        Link that opens the page once: other users of this machine may see the arguments of a browser.
    """

    def __init__(self, tree: FileTree, session: LabelingSession, trainer: BackgroundTrainer, port: int) -> None:
        self.tree, self.session, self.trainer = tree, session, trainer
        self.link_token, self.page_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self.start = secrets.token_hex(4)  # part of the URLs of pictures, whose numbers are valid for this start
        self.base = f"/{secrets.token_urlsafe(12)}/"
        root = f"http://{HOST}:{port}/?token="
        self.link = f"{root}{self.link_token}"
        folder = resources.files("ssgan.labeling") / "static"
        self._static = {name: (folder / name).read_bytes() for name in STATIC}
        template = (folder / "page.html").read_text(encoding="utf-8")
        self._page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(template)
        self._decoding = threading.Semaphore(DECODED_AT_ONCE)
        self.picture = functools.lru_cache(PICTURES_KEPT)(self._picture)
        actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "next": self._next,
            "group": self._group,
            "answer": self._answer,
            "undo": self._undo,
            "release": self._release,
            "train": self._train,
            "status": self._status,
        }
        routes = [
            Route("/", self._show),
            Route("/static/{name}", self._send_static),
            Route("/picture/{start}/{place}/{side}", self._send_picture),
            *(Route(f"/do/{name}", self._action(work), methods=["POST"]) for name, work in actions.items()),
        ]
        self._done: dict[str, tuple[str, dict[str, Any]]] = {}  # the last change of each tab, by its id
        pages = Starlette(routes=[Mount(self.base.rstrip("/"), routes=routes)])
        self.app = Guard(pages, port, self.base, self.link_token, self.page_token)
        self.link_for_browser = f"{root}{self.app.once_token}"

    async def _show(self, request: Request) -> Response:
        """Send the page."""
        name = printable(path_to_text(self.tree.path.resolve().name or self.tree.path))
        folder_id = hashlib.sha256(os.fsencode(self.tree.path.resolve())).hexdigest()[:16]
        page = self._page.render(folder=name, folder_id=folder_id, token=self.page_token, start=self.start)
        return HTMLResponse(page)

    async def _send_static(self, request: Request) -> Response:
        """Send the script or the style of the page."""
        name = request.path_params["name"]
        if name not in self._static:
            return PlainTextResponse("There is no such file.", 404)
        return Response(self._static[name], media_type=STATIC[name])

    async def _send_picture(self, request: Request) -> Response:
        """Send a picture by its number, upright and at most as large as a page shows it."""
        place, side = (_number(request.path_params[name]) for name in ("place", "side"))
        if request.path_params["start"] != self.start or place >= len(self.session.names) or side not in SIDES:
            return PlainTextResponse("There is no such picture.", 404)
        try:
            content, kind = await run_in_threadpool(self.picture, place, side)
        except UnreadableImage as reason:
            self.session.mark_unreadable(self.session.names[place], str(reason))
            return PlainTextResponse(f"{self.session.names[place]} {reason}.", 415)
        self.session.mark_readable(self.session.names[place])
        return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})

    def _picture(self, place: int, side: int) -> tuple[bytes, str]:
        """Decode a picture and encode it for the page; return it with its type."""
        with self._decoding:
            try:
                with self.tree.open(self.session.names[place]) as stream:
                    image = decode_within(stream, side)
            except OSError as cause:
                raise UnreadableImage(f"cannot be opened ({cause.strerror})") from None
        content = io.BytesIO()
        if max(image.size) <= PIXEL_ART:
            image.save(content, "PNG", compress_level=1)
            return content.getvalue(), "image/png"
        image.save(content, "JPEG", quality=JPEG_QUALITY)
        return content.getvalue(), "image/jpeg"

    def _action(self, work: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Request], Awaitable[Response]]:
        """Return the handler of an action: JSON in, JSON out, with a sentence about what was refused."""

        async def handle(request: Request) -> Response:
            try:
                body = json.loads(await request.body())
                if not isinstance(body, dict):
                    raise TypeError
                result = await run_in_threadpool(work, body)
            except ClientDisconnect:
                return Response(status_code=400)
            except UserError as mistake:
                return JSONResponse({"error": str(mistake)}, 409)
            except OSError as cause:
                return JSONResponse({"error": f"{cause.filename} cannot be written ({cause.strerror})."}, 507)
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                return JSONResponse({"error": "The request is not understood: reload the page."}, 400)
            return JSONResponse(result)

        return handle

    def _once(self, body: dict[str, Any], change: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Make a change; return the earlier result if it is the last one of the tab, asked for again."""
        tab, number = _text(body, "tab"), _text(body, "id", "")
        last = self._done.get(tab)
        if number and last is not None and last[0] == number:
            return last[1]
        result = change()
        self._done[tab] = number, result
        return result

    def _status(self, body: dict[str, Any]) -> dict[str, Any]:
        self.session.renew(_text(body, "tab"))
        counts, training = self.session.counts(), self.trainer.status()
        return {"counts": counts, "training": training, "order": self.session.order_number}

    def _next(self, body: dict[str, Any]) -> dict[str, Any]:
        pictures = self.session.next_pictures(_text(body, "tab"), _texts(body, "holding"), bool(body.get("skipped")))
        return {"pictures": pictures, **self._status(body)}

    def _group(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**self.session.group(_text(body, "tab"), _text(body, "label", "")), **self._status(body)}

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        action, label, items = _text(body, "action"), _text(body, "label", ""), _pairs(body, "items")
        exceptions, _ = _texts(body, "exceptions"), _text(body, "tab")
        if action not in ("label", "none", "skip"):
            raise ValueError
        result = self._once(body, lambda: self.session.answer(items, action, label))
        self.session.except_from(label, exceptions)
        self.trainer.consider(self.session.label_counts())
        return {**result, **self._status(body)}

    def _undo(self, body: dict[str, Any]) -> dict[str, Any]:
        tab, items = _text(body, "tab"), _pairs(body, "items")
        result = self._once(body, lambda: self.session.undo(tab, items))
        self.trainer.consider(self.session.label_counts())
        return {**result, **self._status(body)}

    def _release(self, body: dict[str, Any]) -> dict[str, Any]:
        tab = _text(body, "tab")
        self.session.release(tab)
        self._done.pop(tab, None)
        return {}

    def _train(self, body: dict[str, Any]) -> dict[str, Any]:
        _text(body, "tab")
        self.trainer.train_now()
        return self._status(body)


def _number(text: str) -> int:
    """Parse a number of a URL; other text becomes a number larger than that of any picture."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else 10**9


def _as_text(value: Any) -> str:
    """Return a string of a request; lone surrogates, which UTF-8 lacks, are an error."""
    if not isinstance(value, str):
        raise TypeError
    value.encode()
    return value


def _text(body: dict[str, Any], key: str, default: str | None = None) -> str:
    """Return a string of a request."""
    return _as_text(body[key] if default is None else body.get(key, default))


def _texts(body: dict[str, Any], key: str) -> list[str]:
    """Return a list of strings of a request, which may lack it."""
    values = body.get(key, [])
    if not isinstance(values, list):
        raise TypeError
    return [_as_text(value) for value in values]


def _pairs(body: dict[str, Any], key: str) -> list[tuple[str, int]]:
    """Return pairs of a picture and a version of a request."""
    pairs = [(_as_text(name), version) for name, version in body[key]]
    if not all(type(version) is int for _, version in pairs):
        raise TypeError
    return pairs


def open_socket(port: int) -> socket.socket:
    """Listen at a port of this machine; 0 is any free one.

    Raises
    ------
    UserError
        If the port is not available.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name != "nt":  # so that a new start can reuse the port of a killed one; on Windows both would share it
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as cause:
        listener.close()
        raise UserError(
            f"--port is {port}, which cannot be used ({cause.strerror}): choose another, or omit --port."
        ) from None
    return listener


def serve(app: LabelingApp, listener: socket.socket) -> None:
    """Serve the page until a signal ends it; the signal then has its usual effect."""
    config = uvicorn.Config(
        app.app,
        log_level="error",
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    with ignore_warnings():
        uvicorn.Server(config).run(sockets=[listener])
