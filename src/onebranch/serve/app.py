"""The routes of the service and their documentation in OpenAPI."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Match
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onebranch import strict_json
from onebranch.enhancer.options import MAX_SCALE, Options, OptionValues
from onebranch.errors import OnebranchError, nearest
from onebranch.images.encoders.encoding import Encoding
from onebranch.model.catalogue import CATALOGUE
from onebranch.page import write_page
from onebranch.serve.jobs import DONE, FINAL
from onebranch.serve.logs import log
from onebranch.serve.middleware import ServiceMiddleware
from onebranch.serve.negotiation import MEDIA_TYPES, accepted_formats
from onebranch.serve.problems import MEDIA_TYPE, TITLES, Problem
from onebranch.serve.process import start_fork_server
from onebranch.serve.response import problem_response
from onebranch.serve.service import Service, Settings
from onebranch.serve.worker import PictureTask

HEARTBEAT_SECONDS = 15.0
"""Time after which a stream of events without news sends a comment, so that proxies keep it open."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob:;"
    " connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'"
)
"""Content-Security-Policy of the page. It may be shown inside pages of others."""

PAGE_METHODS = ("GET", "HEAD")

MAX_SIDE_PIXELS = 1_000_000

MODEL_NAMES = [name for name, entry in CATALOGUE.items() if entry.path.exists()]


class Parameters(BaseModel):
    """How the picture is enhanced and encoded: the options of `onebranch enhance`."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(
        None,
        description="Name of a model of GET /v1/models; by default chosen by the scale.",
        json_schema_extra={"enum": [*MODEL_NAMES, None]},
    )
    scale: float | None = Field(None, gt=0, le=MAX_SCALE, description="Scale factor of both sides.")
    width: int | None = Field(None, ge=1, le=MAX_SIDE_PIXELS, description="Width of the result in pixels.")
    height: int | None = Field(None, ge=1, le=MAX_SIDE_PIXELS, description="Height of the result in pixels.")
    precision: Literal["auto", "fp32", "int8", "fast"] = Field(
        "auto", description="Precision of the network; auto: int8 for quantized models, else fp32."
    )
    wrap: bool = Field(False, description="The picture is a seamless texture.")
    self_ensemble: bool = Field(False, description="Mean over eight flips and rotations.")
    quality: int | None = Field(None, ge=1, le=100, description="Quality of JPEG, WebP and AVIF.")
    lossless: bool = Field(False, description="Lossless WebP and AVIF.")
    subsampling: Literal["auto", "444", "420"] = Field("auto", description="Chroma of JPEG and AVIF.")
    strip: bool = Field(False, description="Remove all metadata but the colour profile.")
    keep_location: bool = Field(
        False, description="Keep the geographic location, which is removed otherwise."
    )

    def options(self) -> OptionValues:
        """The options of the enhancement. Raises `Problem` if they contradict, or the model is unknown."""
        if self.model is not None and self.model not in MODEL_NAMES:
            raise Problem(422, "model", f"there is no such model; {nearest(self.model[:100], MODEL_NAMES)}")
        values = OptionValues(
            scale=self.scale,
            width=self.width,
            height=self.height,
            precision=self.precision,
            wrap=self.wrap,
            self_ensemble=self.self_ensemble,
        )
        try:
            Options(**values)
        except OnebranchError as error:
            raise Problem(422, "parameters", str(error)) from None
        return values

    def encoding(self) -> Encoding:
        """How the result is encoded."""
        return Encoding(
            quality=self.quality,
            lossless=self.lossless,
            subsampling=self.subsampling,
            strip=self.strip,
            strip_location=not self.keep_location,
        )


class ModelEntry(BaseModel):
    """One model."""

    name: str
    task: str
    scale: int
    colour: str
    about: str


class ProblemDetails(BaseModel):
    """A refusal (RFC 9457). reason: one word, as in the metrics."""

    type: str
    title: str
    status: int
    detail: str
    reason: str


class JobDescription(BaseModel):
    """One job. progress: from 0 to 1. result: the path of the result, after it is done."""

    id: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    progress: float
    result: str | None
    width: int | None
    height: int | None
    notes: list[str]
    problem: ProblemDetails | None


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for OpenAPI."""
    schema = {"$ref": "#/components/schemas/ProblemDetails"}
    return {s: {"description": TITLES[s], "content": {MEDIA_TYPE: {"schema": schema}}} for s in statuses}


PICTURE = {"schema": {"type": "string", "format": "binary"}}

PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "description": "The picture itself. Its format is recognized by its content.",
        "content": dict.fromkeys((*MEDIA_TYPES.values(), "application/octet-stream"), PICTURE),
    }
}

RESULT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The result.", "content": dict.fromkeys(MEDIA_TYPES.values(), PICTURE)}
}

REFUSALS = (400, 401, 408, 413, 415, 422, 429, 503)
"""Statuses of refused pictures."""

EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The job, now and after each change, as server-sent events.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}

METRICS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


def create_app(settings: Settings) -> tuple[ASGIApp, Service]:
    """The application and its service; `Service.drain` shuts it down gracefully."""
    service = Service(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(start_fork_server)
        await asyncio.to_thread(_mount_page, app, service.scratch / "page")
        service.is_ready = True
        yield
        await service.close()

    app = FastAPI(
        title="onebranch",
        version=settings.version,
        description="Enhances pictures: upscales, downscales or denoises them.",
        docs_url=None,  # these pages load scripts from another host
        redoc_url=None,
        lifespan=lifespan,
        responses=problems(400, 401),
    )
    _add_handlers(app)
    _add_pictures(app, service)
    _add_jobs(app, service)
    _add_facts(app, service)
    return ServiceMiddleware(app, service.metrics, settings.limits, settings.token, settings.hosts), service


def _mount_page(app: FastAPI, folder: Path) -> None:
    """Serve the static page at `/`; if its files are not installed, only the HTTP interface is served."""
    try:
        write_page(folder)
    except OnebranchError as error:
        log("the page is not served", logging.WARNING, reason=str(error))
        return
    app.mount("/", _PageFiles(directory=folder, html=True))


class _StoredResult(FileResponse):
    """The file of a result; an invalid Range and a file that was deleted meanwhile give problem responses."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""

        async def checked_send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                raise Problem(message["status"], "range", "there are no such bytes in the result (Range)")
            await send(message)

        try:
            await super().__call__(scope, receive, checked_send)
        except (RuntimeError, FileNotFoundError):
            raise Problem(404, "no_job", "the job was deleted meanwhile") from None


class _PageFiles(StaticFiles):
    """The files of the page, with a Content-Security-Policy that allows only them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file."""
        response = await super().get_response(path, scope)
        response.headers["Content-Security-Policy"] = PAGE_POLICY
        response.headers["Cache-Control"] = "no-cache"
        return response


def _add_handlers(app: FastAPI) -> None:
    """Give every error response a body of problem details, whichever layer raises the error."""

    @app.exception_handler(Problem)
    async def refuse(request: Request, problem: Problem) -> Response:
        request.scope["failure"] = problem.reason
        return problem_response(problem)

    @app.exception_handler(RequestValidationError)
    async def refuse_parameters(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])[:100]
        return await refuse(request, Problem(422, "parameters", f"{where}: {first['msg']}"))

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> Response:
        methods = _methods_of(app, request)
        if error.status_code == 405 or (error.status_code == 404 and methods):  # the page does not know them
            allowed = (("Allow", ", ".join(methods or PAGE_METHODS)),)
            return await refuse(request, Problem(405, "method", "this path has other methods", allowed))
        reason = "no_route" if error.status_code == 404 else "request"
        headers = tuple((error.headers or {}).items())
        return await refuse(request, Problem(error.status_code, reason, str(error.detail), headers))

    @app.exception_handler(ClientDisconnect)
    async def forget(request: Request, error: ClientDisconnect) -> Response:
        return await refuse(request, Problem(400, "client_gone", "the client closed the connection"))


def _methods_of(app: FastAPI, request: Request) -> list[str]:
    """The methods of all routes that match the path of the request; empty for a path of the page."""
    matching = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in matching for method in getattr(route, "methods", None) or ()}
    return sorted(methods)


def _task_maker(service: Service, parameters: Parameters, request: Request) -> Any:
    """The function that makes the task of a request for a folder; raises `Problem` for wrong parameters."""
    options, encoding = parameters.options(), parameters.encoding()
    options["memory"], options["threads"] = service.limits.memory, service.threads
    options["device"] = service.settings.device
    accepted = accepted_formats(request.headers.get("accept", ""))

    def task_for(folder: str) -> PictureTask:
        return PictureTask(folder, parameters.model, options, encoding, accepted, service.limits)

    return task_for


def _add_pictures(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/enhance",
        responses={**RESULT, **problems(406, *REFUSALS)},
        openapi_extra=PICTURE_BODY,
        response_class=Response,
        summary="Enhance a picture",
    )
    async def enhance(request: Request, parameters: Annotated[Parameters, Query()]) -> Response:
        """Enhance the picture in the body; Accept chooses the format of the result, by default its own.

        PNG, JPEG and PPM are sent while they are encoded. After a failure, the response ends without its
        last chunk; use a job to get a status instead.
        """
        return await service.enhance(request, _task_maker(service, parameters, request))

    @app.get("/v1/models", response_model=list[ModelEntry], summary="The models")
    async def models() -> list[ModelEntry]:
        """The models that requests can name."""
        entries = [CATALOGUE[name] for name in MODEL_NAMES]
        return [
            ModelEntry(name=e.name, task=e.task, scale=e.scale, colour=e.colour, about=e.about)
            for e in entries
        ]


def _add_jobs(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/jobs",
        status_code=202,
        response_model=JobDescription,
        responses=problems(406, *REFUSALS),
        openapi_extra=PICTURE_BODY,
        summary="Start a job",
    )
    async def start(request: Request, parameters: Annotated[Parameters, Query()]) -> Response:
        """Enhance the picture in the body as a job. Anyone who knows its id can fetch the result."""
        job = await service.start_job(request, _task_maker(service, parameters, request))
        return JSONResponse(job.description(), 202, {"Location": f"/v1/jobs/{job.name}"})

    @app.get("/v1/jobs/{name}", response_model=JobDescription, responses=problems(404), summary="A job")
    async def show(name: str) -> Response:
        """The state and progress of a job."""
        return JSONResponse(service.jobs.find(name).description())

    @app.get(
        "/v1/jobs/{name}/events",
        responses={**EVENTS, **problems(404)},
        response_class=StreamingResponse,
        summary="The progress of a job",
    )
    async def events(name: str) -> Response:
        """Server-sent events with the job as JSON, until it is finished."""
        job = service.jobs.find(name)

        async def lines() -> AsyncIterator[str]:
            async for description in job.changes(HEARTBEAT_SECONDS):
                yield (
                    ": still here\n\n"
                    if description is None
                    else f"data: {strict_json.dumps(description)}\n\n"
                )

        return StreamingResponse(lines(), media_type="text/event-stream")

    @app.get(
        "/v1/jobs/{name}/result",
        responses={**RESULT, **problems(404, 409, 416)},
        response_class=Response,
        summary="The result of a job",
    )
    async def result(name: str) -> Response:
        """The picture, once the job is done."""
        job = service.jobs.find(name)
        if job.state != DONE or job.facts is None:
            why = f"the job is {job.state}" if job.state in FINAL else "the job is not finished"
            raise Problem(409, "not_finished", f"{why}; see /v1/jobs/{job.name}")
        job.collected = True
        return _StoredResult(job.result, media_type=MEDIA_TYPES[job.facts.format])

    @app.delete("/v1/jobs/{name}", status_code=204, responses=problems(404), summary="Cancel a job")
    async def cancel(name: str) -> Response:
        """Cancel the job if it is not finished, and delete its result."""
        await service.jobs.delete(name)
        return Response(status_code=204)


def _add_facts(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Whether the process runs")
    async def alive() -> dict[str, str]:
        """Always ok: the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", responses=problems(503), summary="Whether pictures are accepted")
    async def ready(request: Request) -> dict[str, str]:
        """Ok if the service accepts pictures; 503 while it starts or ends."""
        if not service.is_ready or service.admission.is_closing:
            raise Problem(503, "not_ready", "the service does not accept pictures now")
        return {"status": "ok"}

    @app.get("/metrics", responses=METRICS, response_class=Response, summary="Metrics for Prometheus")
    async def metrics() -> Response:
        """Counters and gauges in the text format of Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")
