"""A W&B server on this machine, as small as W&B's client allows: it keeps what it is sent, run by run."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

KEY = "f" * 40


class WandbServer(ThreadingHTTPServer):
    """Serves from when it is made until `close`.

    Attributes:
        runs: by id, what was sent: the fields of the run, its ``history`` by line, ``summary`` and ``exit_code``.
        lost: while it is true, lines are not taken, as by an overloaded server; questions are answered.
        refuses: while it is true, no run may be begun.
        asked: how many times one was to be begun.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, dict[str, Any]] = {}
        self.lost = self.refuses = False
        self.asked = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "WANDB_MODE": "online"}

    def history(self, run: str) -> list[dict[str, Any]]:
        """The lines of a run in the order of the chart, without the client's own times."""
        lines = [json.loads(text) for _, text in sorted(self.runs[run]["history"].items())]
        return [{name: one for name, one in line.items() if not name.startswith("_")} for line in lines]

    def steps(self, run: str) -> list[int]:
        """W&B's own numbers of the lines."""
        return [json.loads(text)["_step"] for _, text in sorted(self.runs[run]["history"].items())]

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer: Any = {}
        status = 200
        if self.path == "/graphql":
            asked = json.loads(body)
            resolve = getattr(self, asked["operationName"], dict)
            answer = {"data": resolve(**asked.get("variables") or {})}
            self.server.asked += asked["operationName"] == "RunResumeStatus"
            if self.server.refuses and asked["operationName"] == "RunResumeStatus":
                answer, status = {"errors": [{"message": "permission denied"}]}, 403
        elif self.path.endswith("/file_stream"):
            if self.server.lost:
                status = 503
            else:
                self._take(self.path.split("/")[-2], json.loads(body))
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    # The names of these are those of the client's questions.

    def Viewer(self) -> dict[str, Any]:
        return {
            "viewer": {"id": "1", "entity": "someone", "username": "someone", "flags": "{}", "teams": {"edges": []}}
        }

    def ServerFeaturesQuery(self) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def RunResumeStatus(self, project: str, entity: str | None, name: str) -> dict[str, Any]:
        bucket = None
        if (run := self.server.runs.get(name)) is not None:
            history = [text for _, text in sorted(run["history"].items())]
            bucket = {
                **{"id": name, "name": name, "displayName": run["displayName"], "tags": run["tags"], "notes": ""},
                **{"config": run["config"], "wandbConfig": json.dumps({"t": 1})},
                **{"summaryMetrics": json.dumps(run["summary"]), "logLineCount": 0, "eventsLineCount": 0},
                **{"historyLineCount": len(history), "historyTail": json.dumps(history[-1:]), "eventsTail": "[]"},
            }
        return {"model": {"id": "1", "name": project, "entity": {"id": "1", "name": "someone"}, "bucket": bucket}}

    def UpsertBucket(self, **fields: Any) -> dict[str, Any]:
        name = fields["name"]
        run = self.server.runs.setdefault(
            name, {"history": {}, "summary": {}, "exit_code": None, "displayName": None, "tags": [], "config": "{}"}
        )
        run |= {field: value for field, value in fields.items() if value is not None}
        project = {"id": "1", "name": run["project"], "entity": {"id": "1", "name": "someone"}}
        bucket = {"id": name, "name": name, "displayName": run["displayName"], "config": run["config"]}
        bucket |= {"project": project, "historyLineCount": len(run["history"])}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def CreateRunFiles(self, run: str, **_: Any) -> dict[str, Any]:
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": []}}

    def _take(self, name: str, sent: dict[str, Any]) -> None:
        run = self.server.runs[name]
        for file, part in (sent.get("files") or {}).items():
            if file == "wandb-history.jsonl":
                run["history"] |= dict(enumerate(part["content"], start=part["offset"]))
            elif file == "wandb-summary.json":
                run["summary"] = json.loads(part["content"][-1])
        if sent.get("complete"):
            run["exit_code"] = sent["exitcode"]


@pytest.fixture
def wandb_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """The server of a test, to which W&B in this process is logged in."""
    import wandb

    server = WandbServer()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    wandb.teardown()  # it reads the environment once
    yield server
    wandb.teardown()
    server.close()
