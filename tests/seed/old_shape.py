"""A gateway in the shape that failed (design, section 1), as small as the failure lets it be.

The middleware opens a session for each request, on the event loop, and asks the database whether the token's user may
pass. The handler opens another one and keeps it until the upstream has answered. Whatever goes wrong in the check is
"access denied". Three engine settings are the original's; the timeout is shorter than its 60 s.

    python -m tests.seed.old_shape PORT DATABASE_URL UPSTREAM_URL POOL_TIMEOUT
"""

import asyncio
import logging
import sys
from typing import Any

import httpx2
import jwt
import uvicorn
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger("old-shape")
MEMBERSHIPS = text("SELECT team_id FROM memberships WHERE user_id = :user")
TOOL = text("SELECT id FROM tools WHERE name = :name")


class TokenScopingMiddleware:
    """Lets pass who is a member of some team."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self._app = app
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._may_pass(Request(scope)):
            await JSONResponse({"detail": "access denied"}, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _may_pass(self, request: Request) -> bool:
        token = request.headers["authorization"].removeprefix("Bearer ")
        claims = jwt.decode(token, options={"verify_signature": False})  # how it is verified is not what failed
        try:
            with Session(self._engine) as session:
                return session.execute(MEMBERSHIPS, {"user": claims["sub"]}).first() is not None
        except SQLAlchemyError as error:
            log.error("team membership could not be checked: %s", error)
            return False


class Endpoint:
    """Answers `tools/call` with what the upstream says; keeps its session until then."""

    def __init__(self, engine: Engine, upstream: str) -> None:
        self._engine = engine
        self._upstream = upstream
        self._client = httpx2.AsyncClient(verify=False, timeout=60, limits=httpx2.Limits())

    async def call_tool(self, request: Request) -> Response:
        try:
            return await self._call(await request.json())
        except SQLAlchemyError as error:
            log.error("the tool could not be called: %s", error)
            return JSONResponse({"detail": "internal error"}, 500)

    async def _call(self, message: dict[str, Any]) -> Response:
        with Session(self._engine) as session:
            name = message["params"]["name"].partition("__")[2]
            if session.execute(TOOL, {"name": name}).first() is None:
                return JSONResponse({"detail": "no such tool"}, 404)
            message["params"]["name"] = name
            answer = await self._client.post(
                self._upstream, json=message, headers={"MCP-Protocol-Version": "2026-07-28"}
            )
            session.commit()
        return Response(answer.content, answer.status_code, media_type="application/json")


def main(port: int, database: str, upstream: str, pool_timeout: float) -> None:
    engine = create_engine(
        database,
        pool_size=20,
        max_overflow=10,
        pool_timeout=pool_timeout,
        connect_args={"prepare_threshold": None},  # for PgBouncer
    )
    app = Starlette(routes=[Route("/mcp", Endpoint(engine, upstream).call_tool, methods=["POST"])])
    served = TokenScopingMiddleware(app, engine)
    config = uvicorn.Config(served, host="127.0.0.1", port=port, log_level="warning", access_log=False, lifespan="off")
    asyncio.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4]))
