"""Serves an exported model over HTTP: python exported/serve.py --port 8000, then open http://127.0.0.1:8000.

Needs only FastAPI, uvicorn, numpy and the model's runtime. `export` writes this file beside the model as serve.py.
"""

import argparse
import asyncio
import base64
import contextlib
import importlib.util
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import fastapi
import pydantic
import uvicorn
from fastapi.responses import HTMLResponse, StreamingResponse

LARGEST_BODY = 16 * 2**20  # bytes
MOST_EXAMPLES = 256  # of a request, and about as many are answered at once
MOST_TOKENS = 4_096  # that continue a prompt
GRACE = 30  # seconds that requests have to end after SIGTERM
NOTICE = 1  # seconds before open connections are closed, in which answers announce it
Data = pydantic.Base64Bytes  # images and sound in JSON


def service(folder: Path) -> fastapi.FastAPI:
    """The service of an exported folder; the example in signature.json gives the types of requests and answers."""
    module = _module(folder / "preprocess.py")
    model = module.Model(folder)
    signature = model.network.signature
    example, kind = signature["example"], signature["example"]["kind"]
    one: Any = Data if kind in ("picture", "sound") else _request_type(example["request"], ignore_others=kind == "row")
    answer: Any = _answer_type(example["answer"])
    request_type = pydantic.create_model(
        "Request",
        examples=(list[one], pydantic.Field(min_length=1, max_length=MOST_EXAMPLES, examples=[[example["request"]]])),  # type: ignore
    )
    response_type = pydantic.create_model("Response", answers=(list[answer], ...))  # type: ignore
    batches = _Batches(model.answers)

    @contextlib.asynccontextmanager
    async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
        worker = asyncio.create_task(batches.work())
        yield
        worker.cancel()

    app = fastapi.FastAPI(title=signature["title"], lifespan=lifespan)
    app.add_middleware(_Limit)

    @app.post("/answers", response_model=response_type)
    async def answers(request: request_type) -> Any:  # type: ignore
        """Answer examples, in their order."""
        raws = [_plain(raw, kind) for raw in request.examples]  # type: ignore
        try:
            return {"answers": _encoded(await batches.answer(raws))}
        except (TypeError, ValueError) as error:
            raise fastapi.HTTPException(422, str(error)) from None

    if kind == "prompt":

        @app.post("/stream")
        async def stream(request: one) -> StreamingResponse:  # type: ignore
            """Continue a prompt; the text is streamed as it is generated."""
            try:
                pieces = model.write(**_plain(request, kind))
                first = await asyncio.to_thread(next, pieces, "")
            except (TypeError, ValueError) as error:
                raise fastapi.HTTPException(422, str(error)) from None
            return StreamingResponse(_joined(first, pieces), media_type="text/plain; charset=utf-8")

    @app.get("/signature")
    def described() -> dict[str, Any]:
        """Describe the model: its inputs, its outputs, and an example with its answer."""
        return {name: signature[name] for name in ("title", "format", "inputs", "outputs", "example")}

    @app.get("/health")
    def health() -> dict[str, str]:
        """Answer while the service is running."""
        return {"status": "ok"}

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> str:
        return Path(__file__).with_suffix(".html").read_text(encoding="utf-8")

    return app


class _Batches:
    """Answers all waiting requests together in one call of the model, in a thread."""

    def __init__(self, answers: Any):
        self.answers = answers
        self.waiting: asyncio.Queue = asyncio.Queue()

    async def answer(self, raws: list[Any]) -> list[Any]:
        future = asyncio.get_running_loop().create_future()
        await self.waiting.put((raws, future))
        return await future

    async def work(self) -> None:
        while True:
            batch = [await self.waiting.get()]
            while not self.waiting.empty() and sum(len(raws) for raws, _ in batch) < MOST_EXAMPLES:
                batch.append(self.waiting.get_nowait())
            await asyncio.to_thread(self._fill, batch, asyncio.get_running_loop())

    def _fill(self, batch: list[Any], loop: asyncio.AbstractEventLoop) -> None:
        try:
            found = iter(self.answers([raw for raws, _ in batch for raw in raws]))
        except Exception as error:
            if len(batch) > 1:  # one of them is bad; the others still get their answers
                for alone in batch:
                    self._fill([alone], loop)
            else:
                loop.call_soon_threadsafe(_settle, batch[0][1], error)
            return
        for raws, future in batch:
            loop.call_soon_threadsafe(_settle, future, [next(found) for _ in raws])


def _settle(future: asyncio.Future, result: Any) -> None:
    if future.done():  # its client has disconnected
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


class _Limit:
    """Refuses bodies of more than `LARGEST_BODY` bytes, whether or not they state their length."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body, more = body + message.get("body", b""), message.get("more_body", False)
            if len(body) > LARGEST_BODY:
                refusal = fastapi.responses.JSONResponse(
                    {"detail": f"found more than {LARGEST_BODY:,} bytes, expected less"}, 413
                )
                return await refusal(scope, receive, send)
        sent = False

        async def again() -> Any:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        return await self.app(scope, again, send)


def _request_type(example: Any, ignore_others: bool) -> Any:
    """The type of a request's example: a string, or a model whose fields may all be omitted or null."""
    if not isinstance(example, dict):
        return type(example)
    fields: dict[str, Any] = {
        f"field_{number}": (str | int | float | bool | None, pydantic.Field(default=None, alias=name, examples=[value]))
        for number, (name, value) in enumerate(example.items())
    }
    config = pydantic.ConfigDict(extra="ignore" if ignore_others else "forbid")
    return pydantic.create_model("Example", __config__=config, **fields)


def _answer_type(value: Any, name: str = "Answer") -> Any:
    """The type of an answer's value, from an example of it."""
    if isinstance(value, list):
        return list[_answer_type(value[0], name)] if value else list
    if not isinstance(value, dict):
        return Any if value is None else type(value)
    kinds = {type(of_name) for of_name in value.values()}
    if len(kinds) == 1 and kinds <= {float, int, str, bool}:
        return dict[str, kinds.pop()]
    fields: dict[str, Any] = {key: (_answer_type(of_name, f"{name}_{key}"), ...) for key, of_name in value.items()}
    return pydantic.create_model(name, **fields)


def _plain(raw: Any, kind: str) -> Any:
    """A request's example as the model takes it: omitted fields are left out; in a row, null is a missing value."""
    if not isinstance(raw, pydantic.BaseModel):
        return raw
    values = raw.model_dump(by_alias=True, exclude_unset=True, exclude_none=kind != "row")
    if kind == "prompt" and not (isinstance(values.get("tokens", 0), int) and values.get("tokens", 0) <= MOST_TOKENS):
        raise fastapi.HTTPException(422, f"tokens: found {values['tokens']!r}, expected {MOST_TOKENS:,} at most")
    return values


def _encoded(value: Any) -> Any:
    """An answer as JSON holds it: images in base 64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: _encoded(of_name) for name, of_name in value.items()}
    return [_encoded(one) for one in value] if isinstance(value, list | tuple) else value


def _joined(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("preprocess", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Server(uvicorn.Server):
    """Closes a connection only after its client could know; otherwise the client's next request would be lost."""

    async def shutdown(self, sockets: Any = None) -> None:
        for server in self.servers:
            server.close()
        self.server_state.default_headers.append((b"connection", b"close"))
        end = time.monotonic() + NOTICE
        while self.server_state.connections and time.monotonic() < end and not self.force_exit:
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)


def serve(folder: Path, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; requests in progress and those of open connections are answered first."""
    with contextlib.suppress(KeyboardInterrupt):
        _Server(uvicorn.Config(service(folder), host=host, port=port, timeout_graceful_shutdown=GRACE)).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the exported model of this folder over HTTP.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    serve(Path(__file__).parent, options.host, options.port)
