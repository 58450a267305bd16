from __future__ import annotations

import pytest
from deepfake_app.address import Names
from deepfake_app.guards import OnlyNeeded, SafeHeaders, SameSite
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

HOST = "127.0.0.1:7860"


async def answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse("here")


async def talk(socket: WebSocket) -> None:
    await socket.accept()


@pytest.fixture
def client() -> TestClient:
    routes = [
        WebSocketRoute("/ws", talk),
        Route("/{path:path}", answer, methods=["GET", "POST", "DELETE"]),
    ]
    guards = [
        Middleware(SafeHeaders),
        Middleware(SameSite, names=Names("127.0.0.1")),
        Middleware(OnlyNeeded),
    ]
    return TestClient(Starlette(routes=routes, middleware=guards), base_url=f"http://{HOST}")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "192.168.0.9", ""])
def test_a_foreign_host_is_refused(client: TestClient, method: str, host: str) -> None:
    refused = client.request(method, "/", headers={"Host": host})
    assert refused.status_code == 403
    assert refused.headers["connection"] == "close"
    assert "default-src 'self'" in refused.headers["content-security-policy"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Origin": "file://"},
        {"Origin": f"http://{HOST}.evil.example"},
        {"Origin": "http://[::1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_another_site_changes_nothing(
    client: TestClient, method: str, headers: dict[str, str]
) -> None:
    assert client.request(method, "/", headers=headers).status_code == 403
    assert client.get("/", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}]
)
def test_the_page_itself_and_programs_are_let_through(
    client: TestClient, headers: dict[str, str]
) -> None:
    assert client.post("/", headers=headers).text == "here"


def test_a_web_socket_is_closed(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/ws"):
        pass


@pytest.mark.parametrize(
    "path",
    ["file=/etc/passwd", "file=https://example.com/a", "proxy=https://a.hf.space/", "runs", "dev"],
)
def test_what_nobody_needs_of_gradio_is_closed(client: TestClient, path: str) -> None:
    assert client.get(f"/gradio_api/{path}").status_code == 404
    assert client.get("/gradio_api/info").text == "here"
    assert client.get("/v1/detect").text == "here"
