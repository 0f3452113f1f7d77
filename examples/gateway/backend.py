"""The model server behind the gateway: OpenAI's API over the models of this package, with faults on order.

    python -m examples.gateway.backend --port 0        # prints its URL, then serves

It knows nothing of keys, credit or limits. It counts its work: `GET /work` says how often each route really ran,
`GET /usage` how many tokens each model has read and written as text, `DELETE /work` starts both counts again. Any other
OpenAI-compatible server can stand in its place.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import secrets
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from examples.gateway import media, model
from examples.gateway.faults import Faults, WiredProtocol
from examples.gateway.fields import BadField, Fields
from examples.gateway.processes import Server, bind, port_number, until_stdin_closes

__all__ = ["MODELS", "app", "main"]

MODELS: dict[str, dict[str, Any]] = {
    "alice-2gram": {"kind": "chat", "context_window": 512, "order": 2},
    "alice-3gram": {"kind": "chat", "context_window": 8_192, "order": 3},
    "alice-embed": {"kind": "embedding", "context_window": 8_192},
    "alice-speech": {"kind": "speech", "context_window": 1_024},
    "alice-transcribe": {"kind": "transcription", "context_window": 1_024},
    "alice-image": {"kind": "image", "context_window": 1_024},
    "alice-video": {"kind": "video", "context_window": 1_024},
}
SIZES = ("64x64", "128x128", "256x256")
VOICES = {"alto": 0.5, "whisper": 0.1}  # each a volume: the tones have no other voice


async def list_models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [{"id": name, **_card(name)} for name in MODELS]})


async def chat(request: Request) -> Response:
    fields = Fields.read(await request.body())
    return await _generate(request, fields, fields.messages(), "chat.completion")


async def completions(request: Request) -> Response:
    fields = Fields.read(await request.body())
    return await _generate(request, fields, [fields.text("prompt")], "text_completion")


async def _generate(request: Request, fields: Fields, texts: list[str], kind: str) -> Response:
    name = _model(fields, "chat")
    fields.refuse("tools", "functions", "logprobs", "audio", "response_format")
    fields.whole("n", 1, most=1)
    prompt_tokens = sum(map(model.count_tokens, texts))
    room = MODELS[name]["context_window"] - prompt_tokens
    if room < 1:
        raise BadField(f"The input of {prompt_tokens} tokens fills the context window of {name!r}.", "messages")
    stream, usage = fields.flag("stream"), fields.inner("stream_options").flag("include_usage")
    limit = fields.whole("max_completion_tokens", fields.whole("max_tokens", 256))
    generation = model.load(MODELS[name]["order"]).generate(
        texts[-1],
        seed=fields.whole("seed", secrets.randbelow(2**32), least=-(2**63), most=2**63),
        max_tokens=min(limit, room),
        min_tokens=fields.whole("min_tokens", 1),
        temperature=fields.number("temperature", 1.0, least=0, most=2),
        stop=fields.texts("stop", []),
    )
    _worked(request)
    response = ModelResponse(kind, name, prompt_tokens, generation, request.app.state.usage)
    if stream:
        return StreamingResponse(response.events(usage), media_type="text/event-stream")
    return JSONResponse(response.whole())


class ModelResponse:
    """One completion in either of OpenAI's two shapes, whole or as events."""

    def __init__(
        self, kind: str, name: str, prompt_tokens: int, generation: model.Generation, total: dict[str, Counter[str]]
    ) -> None:
        self.total = total.setdefault(name, Counter())
        self.chat = kind == "chat.completion"
        self.kind, self.prompt_tokens, self.generation = kind, prompt_tokens, generation
        prefix = "chatcmpl" if self.chat else "cmpl"
        self.base = {"id": f"{prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": name}

    def usage(self) -> dict[str, int]:
        written = self.generation.tokens
        self.total.update(read=self.prompt_tokens, written=written)
        total = self.prompt_tokens + written
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": written, "total_tokens": total}

    def whole(self) -> dict[str, Any]:
        text = "".join(self.generation)
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, "finish_reason": self.generation.finish_reason, "logprobs": None, **said}
        return {**self.base, "object": self.kind, "choices": [choice], "usage": self.usage()}

    async def events(self, with_usage: bool) -> AsyncIterator[str]:
        if self.chat:
            yield self._piece({"role": "assistant", "content": ""}, "")
        for piece in self.generation:
            yield self._piece({"content": piece}, piece)
            await asyncio.sleep(0)  # lets the other streams have their turn
        yield self._piece({}, "", self.generation.finish_reason)
        if with_usage:
            yield self._event([], usage=self.usage())
        yield "data: [DONE]\n\n"

    def _piece(self, delta: dict[str, str], text: str, finish_reason: str | None = None) -> str:
        said: dict[str, Any] = {"delta": delta} if self.chat else {"text": text}
        return self._event([{"index": 0, "finish_reason": finish_reason, **said}])

    def _event(self, choices: Sequence[dict[str, Any]], **extra: Any) -> str:
        kind = "chat.completion.chunk" if self.chat else self.kind
        return f"data: {json.dumps({**self.base, 'object': kind, 'choices': choices, **extra})}\n\n"


async def embeddings(request: Request) -> Response:
    fields = Fields.read(await request.body())
    name, texts = _model(fields, "embedding"), fields.texts("input")
    size = fields.whole("dimensions", 256, most=1_024)
    form = fields.text("encoding_format", "float", among=("float", "base64"))
    _worked(request)
    vectors = [model.embed(model.tokenize(text), size) for text in texts]
    # OpenAI's base64 form is little-endian float32; its SDK asks for it by itself.
    coded = [base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() for vector in vectors]
    data = [
        {"object": "embedding", "index": index, "embedding": value}
        for index, value in enumerate(coded if form == "base64" else vectors)
    ]
    used = sum(map(model.count_tokens, texts))
    usage = {"prompt_tokens": used, "total_tokens": used}
    return JSONResponse({"object": "list", "model": name, "data": data, "usage": usage})


async def speech(request: Request) -> Response:
    fields = Fields.read(await request.body())
    _model(fields, "speech")
    text = fields.text("input", most=1_024)
    voice = fields.text("voice", among=VOICES)
    fields.text("response_format", "wav", among=("wav",))
    _worked(request)
    sound = await to_thread.run_sync(lambda: media.speak(text, volume=VOICES[voice]))
    return Response(sound, media_type="audio/wav")


async def transcriptions(request: Request) -> Response:
    async with request.form(max_files=1, max_part_size=1_000_000) as form:
        _model(Fields(dict(form)), "transcription")
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise BadField("'file' must be an uploaded WAV file.", "file")
        sound = await file.read()
    _worked(request)
    try:
        text = await to_thread.run_sync(media.hear, sound)
    except ValueError as exc:
        raise BadField(f"This model hears only what 'alice-speech' says: {exc}.", "file") from exc
    heard = model.count_tokens(text)
    usage = {"type": "tokens", "input_tokens": heard, "output_tokens": heard, "total_tokens": 2 * heard}
    return JSONResponse({"text": text, "usage": usage})


async def images(request: Request) -> Response:
    fields = Fields.read(await request.body())
    _model(fields, "image")
    prompt, size = fields.text("prompt"), fields.text("size", "128x128", among=SIZES)
    fields.whole("n", 1, most=1)
    fields.text("response_format", "b64_json", among=("b64_json",))
    _worked(request)
    width, height = map(int, size.split("x"))
    picture = await to_thread.run_sync(media.paint, prompt, width, height)
    used = model.count_tokens(prompt)
    usage = {"input_tokens": used, "output_tokens": 64, "total_tokens": used + 64}  # a picture has 64 tiles
    data = [{"b64_json": base64.b64encode(picture).decode()}]
    return JSONResponse({"created": int(time.time()), "data": data, "usage": usage})


async def start_video(request: Request) -> Response:
    fields = Fields.read(await request.body())
    name, prompt = _model(fields, "video"), fields.text("prompt")
    frames = 4 * fields.whole("seconds", 2, most=10)
    _worked(request)
    used = model.count_tokens(prompt)
    job = {
        "id": f"video-{secrets.token_hex(12)}",
        "object": "video.generation",
        "created_at": int(time.time()),
        "model": name,
        "usage": {"input_tokens": used, "output_tokens": 64 * frames, "total_tokens": used + 64 * frames},
    }
    film = asyncio.create_task(to_thread.run_sync(lambda: media.animate(prompt, 128, 128, frames=frames)))
    request.app.state.jobs[job["id"]] = (job, film)
    return JSONResponse({**job, "status": "queued"})


async def get_video(request: Request) -> Response:
    job, film = request.app.state.jobs.get(request.path_params["id"], (None, None))
    if job is None:
        return _refusal(404, "There is no such video job.")
    if not film.done():
        return JSONResponse({**job, "status": "in_progress"})
    data = [{"b64_json": base64.b64encode(film.result()).decode(), "mime_type": "image/apng"}]
    return JSONResponse({**job, "status": "completed", "data": data})


async def work(request: Request) -> Response:
    if request.method == "DELETE":
        request.app.state.work.clear()
        request.app.state.usage.clear()
    return JSONResponse(request.app.state.work)


async def usage(request: Request) -> Response:
    return JSONResponse(request.app.state.usage)


def _model(fields: Fields, kind: str) -> str:
    name = fields.text("model")
    if MODELS.get(name, {}).get("kind") != kind:
        raise BadField(f"This server has no {kind} model {name!r}.", "model")
    return name


def _card(name: str) -> dict[str, Any]:
    card = MODELS[name]
    return {"object": "model", "owned_by": "examples", "kind": card["kind"], "context_window": card["context_window"]}


def _worked(request: Request) -> None:
    request.app.state.work[request.url.path] += 1


def _refusal(status: int, message: str, param: str | None = None) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return JSONResponse({"error": error}, status)


async def _bad_field(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, BadField)
    return _refusal(400, exc.message, exc.param)


def app() -> Starlette:
    routes = [
        Route("/v1/models", list_models),
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/completions", completions, methods=["POST"]),
        Route("/v1/embeddings", embeddings, methods=["POST"]),
        Route("/v1/audio/speech", speech, methods=["POST"]),
        Route("/v1/audio/transcriptions", transcriptions, methods=["POST"]),
        Route("/v1/images/generations", images, methods=["POST"]),
        Route("/v1/videos/generations", start_video, methods=["POST"]),
        Route("/v1/videos/generations/{id}", get_video),
        Route("/work", work, methods=["GET", "DELETE"]),
        Route("/usage", usage),
    ]
    backend = Starlette(routes=routes, middleware=[Middleware(Faults)], exception_handlers={BadField: _bad_field})
    backend.state.work, backend.state.usage, backend.state.jobs = Counter(), {}, {}
    return backend


def announce(url: str) -> None:
    print(f"backend ready at {url}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m examples.gateway.backend", description="A small model server.")
    parser.add_argument("--port", type=port_number, default=0, help="0, the default, takes any free port")
    parser.add_argument("--child", action="store_true", help="stop when standard input closes, as with a parent")
    options = parser.parse_args(arguments)
    for order in {card["order"] for card in MODELS.values() if "order" in card}:
        model.load(order)  # now, so that no caller waits for it
    server = Server(app(), bind(options.port), ready=announce, http=WiredProtocol)
    if options.child:
        until_stdin_closes(server)
    server.run()


if __name__ == "__main__":
    main()
