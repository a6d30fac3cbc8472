"""A hub of one repository on this machine: what huggingface_hub asks for to find and download files."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import unquote

REPO = "someone/model"


class Hub:
    """Serves folders as revisions of one repository; `requests` says what was asked for."""

    def __init__(self, revisions: dict[str, Path], token: str | None = None, repository: str = REPO) -> None:
        self.folders = {commit(name): folder for name, folder in revisions.items()}
        self.revisions = {name: commit(name) for name in revisions}
        self.token = token
        self.repository = repository
        self.requests: list[str] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """What a process needs to ask this hub, and keep its files in `home`."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
        }

    def downloaded(self) -> list[str]:
        """The files that were downloaded."""
        gets = (r for r in self.requests if r.startswith("GET ") and "/resolve/" in r)
        return sorted(request.rsplit("/", 1)[1] for request in gets)


def commit(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0])
        self.hub.requests.append(f"{self.command} {path}")
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self.refuse(401, "GatedRepo")
        elif path.startswith(f"/api/models/{self.hub.repository}"):
            self.info(path.removeprefix(f"/api/models/{self.hub.repository}").removeprefix("/revision/") or "main")
        elif path.startswith(f"/{self.hub.repository}/resolve/"):
            self.file(*path.removeprefix(f"/{self.hub.repository}/resolve/").split("/", 1))
        else:
            self.refuse(404, "RepoNotFound")

    def info(self, revision: str) -> None:
        sha = self.hub.revisions.get(revision, revision)
        if sha not in self.hub.folders:
            self.refuse(404, "RevisionNotFound")
            return
        folder = self.hub.folders[sha]
        files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        info = {"id": self.hub.repository, "sha": sha, "siblings": [{"rfilename": name} for name in files]}
        self.answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def file(self, revision: str, name: str) -> None:
        sha = self.hub.revisions.get(revision, revision)
        folder = self.hub.folders.get(sha)
        if folder is None:
            self.refuse(404, "RevisionNotFound")
        elif not (folder / name).is_file():
            self.refuse(404, "EntryNotFound", {"X-Repo-Commit": sha})
        else:
            content = (folder / name).read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            headers = {"ETag": etag, "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
            self.part(content, headers)

    def part(self, content: bytes, headers: dict[str, str]) -> None:
        start = self.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
        if not start:
            self.answer(200, content, headers)
            return
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.answer(206, content[int(start) :], headers)

    def refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self.answer(status, b"", {"X-Error-Code": code} | (headers or {}))

    def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""
