"""The pages as an application of their own below Airflow's API server, which hands requests on without a login.

Each page asks Airflow whether the user may read the DAG's XComs. Which file is shown follows from the task
instance's result alone: a request names a task instance, a place in its file, and what to search for. Nothing is
written, nothing is loaded from elsewhere, and no script runs.
"""

# Without the future import of annotations: the FastAPI of Airflow 3.1 does not find what a class's stand for.
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from airflow_provider_ims.deletion.resolve import Outcome
from airflow_provider_ims.links.ims import URL_PREFIX
from airflow_provider_ims.retention.page import make_environment
from airflow_provider_ims.web import deletion, plan
from airflow_provider_ims.web.lines import PAGE_ROWS, Fields, Lines, Page, RowQuery
from airflow_provider_ims.web.task_instance import open_question, read_task_instance

MAX_QUERY = 200
RENEW_SECONDS = 5

app = FastAPI(title="Alibaba Cloud IMS", docs_url=None, redoc_url=None, openapi_url=None)

_may_read = Depends(requires_access_dag("GET", DagAccessEntity.XCOM))


class Place:
    """What a request names: a task instance, and a part of its file.

    :param q: text to search for.
    :param outcome: show the targets with this one.
    :param after: offset in the file that the page begins at, ``before`` that it ends at.
    :param row: number of the page's first row, if the page before knew it.
    """

    def __init__(
        self,
        request: Request,
        dag_id: str,
        run_id: str,
        task_id: str,
        map_index: int,
        q: Annotated[str, Query(max_length=MAX_QUERY)] = "",
        outcome: Outcome | None = None,
        after: Annotated[int, Query(ge=0)] = 0,
        before: Annotated[int | None, Query(ge=0)] = None,
        row: Annotated[int | None, Query(ge=1)] = None,
    ) -> None:
        self.dag_id, self.run_id, self.task_id, self.map_index = dag_id, run_id, task_id, map_index
        self.q, self.outcome = q.strip(), outcome
        self.after, self.before, self.row = after, before, row
        # Airflow's own address, below which it has mounted these pages.
        airflow = str(request.scope.get("root_path", "")).removesuffix(URL_PREFIX)
        self.run_path = f"{airflow}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"
        mapped = "" if map_index < 0 else f"/mapped/{map_index}"
        self.task_path = f"{self.run_path}/tasks/{quote(task_id, safe='')}{mapped}"

    def link(self, **changes: Any) -> str:
        """Return the address of another part of the same list."""
        values = {"q": self.q or None, "outcome": self.outcome and self.outcome.value} | changes
        return "?" + urlencode({name: value for name, value in values.items() if value is not None}) + "#list"


PlaceDep = Annotated[Place, Depends()]


@app.get("/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/{map_index}/plan", dependencies=[_may_read])
def plan_page(place: PlaceDep) -> HTMLResponse:
    """Show what a plan would delete, and why."""
    found = _task_instance(place)
    if not found.result:
        _refuse("The task has not ended" if not found.ended else "The task left no plan; its log says why")
    file = _shown(lambda: plan.PlanFile(found.result))
    query = RowQuery(plan.SEARCHED, place.q)
    question = open_question(place.dag_id, place.run_id)
    shown = {"plan": file.summary, "path": file.path, "digest": file.digest, "question": question}
    return _rows_page("plan.html", place, file.lines, query, file.to_row, file.summary.selected, **shown)


@app.get("/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/{map_index}/deletion", dependencies=[_may_read])
def deletion_page(place: PlaceDep) -> HTMLResponse:
    """Show what became of each target; while the task runs, how far it is."""
    found = _task_instance(place)
    if not found.result:
        if found.ended:
            _refuse("The task left no result; its log says why")
        progress = found.progress and _shown(lambda: deletion.RunningDeletion(found.progress))
        return _html("running.html", refresh=f"{RENEW_SECONDS}", place=place, state=found.state, run=progress)
    done = _shown(lambda: deletion.FinishedDeletion(found.result))
    common = {"deletion": done, "state": found.state}
    if done.report is None:
        return _html("deletion.html", place=place, rows=None, missing=None, **common)
    try:
        lines = _shown(done.lines)
    except HTTPException as error:  # the counts are known all the same
        return _html("deletion.html", place=place, rows=None, missing=error.detail, **common)
    query = RowQuery(deletion.SEARCHED, place.q, place.outcome and place.outcome.value)
    total = done.requested if place.outcome is None else done.counts[place.outcome]
    return _rows_page("deletion.html", place, lines, query, done.to_row, total, **common)


def _task_instance(place: Place) -> Any:
    found = read_task_instance(place.dag_id, place.run_id, place.task_id, place.map_index)
    if found is None:
        _refuse("There is no such task instance")
    return found


def _shown(read: Callable[[], Any]) -> Any:
    """Read a file, or say what keeps it from being shown."""
    try:
        return read()
    except ValueError as error:
        raise HTTPException(404, str(error)) from None
    except Exception as error:  # stores raise errors of many kinds, whose words may hold what is secret
        reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        raise HTTPException(404, f"Airflow's API server can't read the file: {reason}") from error


def _refuse(message: str) -> Any:
    raise HTTPException(404, message)


def _rows_page(
    template: str,
    place: Place,
    lines: Lines,
    query: RowQuery,
    to_row: Callable[[Fields], Fields | None],
    total: int,
    **context: Any,
) -> HTMLResponse:
    rows: Page = _shown(lambda: lines.page(query, to_row, after=place.after, before=place.before))
    first = None if place.q else _first_row(place, rows, total, lines.size)
    refresh = None
    if not rows.rows and rows.searched is not None:  # nothing to look at yet: search on
        refresh = "0; url=" + (
            place.link(after=rows.after) if place.before is None else place.link(before=rows.before)
        )
    return _html(
        template,
        refresh=refresh,
        place=place,
        rows=rows,
        first=first,
        total=total,
        last=lines.size,
        page_rows=PAGE_ROWS,
        **context,
    )


def _first_row(place: Place, rows: Page, total: int, size: int) -> int | None:
    """Return the number of a page's first row, as far as it is known."""
    if place.before is None:
        return 1 if not place.after else place.row
    if place.before >= size:
        return max(total - len(rows.rows) + 1, 1)
    return place.row


def _html(template: str, status: int = 200, refresh: str | None = None, **context: Any) -> HTMLResponse:
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    if refresh is not None:
        headers["Refresh"] = refresh
    return HTMLResponse(_templates.get_template(template).render(nonce=nonce, **context), status, headers)


@app.exception_handler(StarletteHTTPException)
async def _refusal(request: Request, error: StarletteHTTPException) -> HTMLResponse:
    login = None
    if error.status_code == HTTPStatus.UNAUTHORIZED:
        login = get_auth_manager().get_url_login(next_url=str(request.url))
    title = HTTPStatus(error.status_code).phrase
    response = _html("refusal.html", error.status_code, title=title, detail=str(error.detail), login=login)
    response.headers.update(error.headers or {})
    return response


@app.exception_handler(RequestValidationError)
async def _no_such_page(request: Request, error: RequestValidationError) -> HTMLResponse:
    return await _refusal(request, HTTPException(404, "There is no such page"))


_templates = make_environment("airflow_provider_ims.web")
