"""The gateway: an OpenAI-compatible API with keys, tiers, prepaid credit and video jobs, before a model backend.

The endpoints say what they refuse by raising flexmw's errors, and know nothing of envelopes, limits or retries;
`build` puts those around them in one place.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

import flexmw
from examples.gateway.accounts import DOLLAR, TIERS, Account, Accounts, account_id
from examples.gateway.admin import admin_routes
from examples.gateway.catalogue import PLAYGROUND, Catalogue, Model, Usage
from examples.gateway.faults import HEADER as FAULT_HEADER
from examples.gateway.fields import Fields
from examples.gateway.jobs import Clock, Jobs
from examples.gateway.metered import Bill, MeteredStream
from examples.gateway.store import open_store
from examples.gateway.upstream import Upstream
from examples.gateway.work import WORK, Work
from flexmw.ratelimit import Caller, settle
from flexmw.ratelimit import Usage as Tokens

__all__ = ["MESSAGES", "Gateway", "Settings", "build"]

AUTH_DOCS = "https://docs.flex.ai/authentication"
BILLING = "https://tokens.flex.ai/dashboard/billing"
MESSAGES = {
    "402": f"Insufficient credit. Add funds at {BILLING} to continue.",
    "job_not_found": "Video job not found.",
}
MAX_BODY = 8_000_000  # bytes
TOKENS = "1000000/minute"

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Settings:
    upstream: str  # the base URL of an OpenAI-compatible server, without /v1
    others: tuple[str, ...] = ()  # servers with the same models, for calls that `upstream` has refused or not got
    admin_token: str = field(repr=False)
    upstream_key: str | None = field(default=None, repr=False)
    storage: str = "sqlite:///gateway.db"
    timeout: float = 30.0  # seconds for the upstream to connect, and between two pieces of its response
    demo_key: str | None = field(default=None, repr=False)  # an account of the free tier that is opened at the start
    faults: bool = False  # let callers order the embedded backend's faults


class Gateway:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = Clock()

    @asynccontextmanager
    async def open(self, app: object = None) -> AsyncGenerator[None]:
        """Hold the store and the upstream open; also the lifespan of the app. Raises StoreError and APIError."""
        settings = self.settings
        async with AsyncExitStack() as stack:
            store = await open_store(settings.storage)
            stack.push_async_callback(store.close)
            urls = (settings.upstream, *settings.others)
            self.upstream = Upstream(urls, key=settings.upstream_key, timeout=settings.timeout)
            stack.push_async_callback(self.upstream.close)
            self.accounts, self.catalogue, self.jobs = Accounts(store), Catalogue(store), Jobs(store, self.clock)
            self.catalogue.stock(await self.upstream.get("/v1/models", f"The upstream {settings.upstream}"))
            if settings.demo_key:
                await self.accounts.create(key=settings.demo_key)
            yield

    async def caller(self, request: Request) -> Account:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        account = await self.accounts.of_key(key.strip()) if scheme.lower() == "bearer" else None
        if account is None:
            raise flexmw.InvalidAPIKey(doc_url=AUTH_DOCS)
        return account

    async def balance(self, caller: Caller) -> Decimal | None:
        """The dollars of a caller; a key that nobody has is refused later, by the endpoint."""
        account = await self.accounts.of_key(caller.value)
        return Decimal(account.balance) / DOLLAR if account else None

    async def charge(self, caller: Caller, amount: Decimal, usage: Tokens | None) -> None:
        """Debit one executed call."""
        tokens = usage.total_tokens if usage else 0
        await self.accounts.charge(account_id(caller.value), int(amount * DOLLAR), tokens)

    def price(self, model: str, usage: Tokens) -> Decimal:
        """What tokens of a model cost, in dollars."""
        cost = self.catalogue.models[model].cost(Usage(usage.input_tokens, usage.output_tokens))
        return Decimal(cost) / DOLLAR

    async def rate_of(self, caller: Caller) -> str:
        """The requests that a caller has; whoever shows no key of ours has those of the free tier."""
        account = await self.accounts.of_key(caller.value)
        return TIERS[account.tier if account else "free"]

    async def list_models(self, request: Request) -> Response:
        await self.caller(request)
        return JSONResponse({"object": "list", "data": [model.card() for model in self.catalogue.models.values()]})

    async def get_model(self, request: Request) -> Response:
        await self.caller(request)
        name = request.path_params["id"]
        if name not in self.catalogue.models:
            raise flexmw.ModelNotFound(name, status=404)
        return JSONResponse(self.catalogue.models[name].card())

    def do(self, work: Work) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            account = await self.caller(request)
            fields = Fields.read(await request.body(), flexmw.InvalidRequest)
            model = await self.catalogue.pick(fields.text("model"), work.kind)
            order = work.order(fields, model)
            pinned = work.kind == "video"
            response = await self._post(request, model, stream=order.stream, pinned=pinned, json=order.body)
            bill = _bill(model, order.read)
            if order.stream:
                return MeteredStream(response, bill=bill, show_usage=order.show_usage, said=_said(model))
            bill(_usage(response), 0)
            if work.kind == "video":
                return JSONResponse(await self.jobs.open(account.id, response.json()))
            return _passed_on(response)

        return endpoint

    async def transcribe(self, request: Request) -> Response:
        await self.caller(request)
        raw = await request.body()
        async with request.form(max_files=1, max_part_size=MAX_BODY) as form:
            model = await self.catalogue.pick(Fields(dict(form), flexmw.InvalidRequest).text("model"), "transcription")
        headers = {"content-type": request.headers["content-type"]}
        response = await self._post(request, model, content=raw, headers=headers)
        _bill(model, 0)(_usage(response), 0)
        return _passed_on(response)

    async def get_video(self, request: Request) -> Response:
        account = await self.caller(request)
        job_id = request.path_params["id"]
        job = await self.jobs.get(account.id, job_id)
        if job is None:
            raise flexmw.JobNotFound()
        if job["status"] != "completed":
            seen = await self.upstream.get(
                f"/v1/videos/generations/{job_id}", f"The model {job['model']!r}", flexmw.JobNotFound
            )
            job = await self.jobs.update(job_id, seen)
        return JSONResponse(job)

    async def playground(self, request: Request) -> Response:
        await self.catalogue.must_be_online(PLAYGROUND, "The playground")
        return FileResponse(Path(__file__).with_name("playground.html"))

    async def playground_script(self, request: Request) -> Response:
        return FileResponse(Path(__file__).with_name("playground.js"))

    async def _post(self, request: Request, model: Model, **content: Any) -> httpx2.Response:
        headers = content.pop("headers", {})
        if self.settings.faults and (fault := request.headers.get(FAULT_HEADER)):
            headers = {**headers, FAULT_HEADER: fault}
        return await self.upstream.post(request.url.path, _said(model), headers=headers, **content)


def _bill(model: Model, read: int) -> Bill:
    """Say what a call has used: RateLimit charges it, once, when the response has ended."""

    def bill(usage: Usage | None, written: int) -> None:
        used = usage or Usage(read, written)
        settle(Tokens(input_tokens=used.read, output_tokens=used.written, model=model.id))

    return bill


def _usage(response: httpx2.Response) -> Usage | None:
    is_json = response.headers.get("content-type", "").startswith("application/json")
    return Usage.of(response.json()) if is_json else None


def _passed_on(response: httpx2.Response) -> Response:
    return Response(response.content, media_type=response.headers.get("content-type"))


def _said(model: Model) -> str:
    return f"The model {model.id!r}"


def _keys_beside(storage: str) -> str:
    """The store of idempotency keys: the same redis, or a sqlite file of its own beside the records' file."""
    return f"{storage.removesuffix('.db')}-keys.db" if storage.startswith("sqlite:") else storage


def build(gateway: Gateway) -> ASGIApp:
    """The gateway's app with everything around it, outermost first."""
    table: list[tuple[str, str, Endpoint]] = [
        *(("POST", work.path, gateway.do(work)) for work in WORK),
        ("POST", "/v1/audio/transcriptions", gateway.transcribe),
        ("GET", "/v1/videos/generations/{id}", gateway.get_video),
        ("GET", "/v1/models", gateway.list_models),
        ("GET", "/v1/models/{id:path}", gateway.get_model),
        ("GET", "/playground", gateway.playground),
        ("GET", "/playground.js", gateway.playground_script),
    ]
    routes = [Route(path, endpoint, methods=[method]) for method, path, endpoint in table]
    app = Starlette(routes=[*routes, admin_routes(gateway)], lifespan=gateway.open, max_body_size=MAX_BODY)
    storage = gateway.settings.storage
    counters = "memory://" if storage.startswith("sqlite:") else storage  # one process counts for itself
    guarded = flexmw.wrap_app(
        app,
        flexmw.Tagging(codes=("context_length_exceeded",)),
        flexmw.Envelope(messages=MESSAGES),
        flexmw.RateLimit(
            limit=gateway.rate_of,
            tokens=TOKENS,
            token_cost="openai",
            usage="openai",
            storage=counters,
            exempt=["/admin/*", "/playground", "/playground.js"],
        ),
        flexmw.Idempotency(storage=_keys_beside(storage), sdk_retries=True),
        # Inside Idempotency: whoever has used up the credit still gets the response of a call that was executed.
        flexmw.RateLimit(
            unit="usd",
            budget=gateway,
            price=gateway.price,
            usage="openai",
            storage=counters,
            exempt=lambda scope: scope["method"] != "POST" or not scope["path"].startswith("/v1/"),
        ),
    )
    return OpenTelemetryMiddleware(guarded)  # the server span that Tagging writes on, where a provider is configured
