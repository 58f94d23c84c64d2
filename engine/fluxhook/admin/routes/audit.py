"""/v1/audit and /v1/changes: what was given up and erased, and who changed what."""

from __future__ import annotations

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromQuery

from fluxhook.admin.document import rules
from fluxhook.admin.models import Page
from fluxhook.admin.paging import delivery_filter, given
from fluxhook.admin.routes.deliveries import PageSize
from fluxhook.admin.service import Service
from fluxhook.admin.trails import ChangeFilter
from fluxhook.store.audit import AuditEntry, ChangeEntry

__all__ = ["HANDLERS"]


@get(
    "/v1/audit",
    opt=rules("read"),
    tags=["records"],
    summary="Read the audit trail",
    sync_to_thread=True,
)
def list_audit(
    service: NamedDependency[Service],
    endpoint: FromQuery[str] = "",
    type: FromQuery[str] = "",
    event_id: FromQuery[str] = "",
    action: FromQuery[str] = "",
    since: FromQuery[str] = "",
    until: FromQuery[str] = "",
    cursor: FromQuery[str] = "",
    limit: PageSize = 100,
) -> Page[AuditEntry]:
    """List what was given up and erased, newest first. `endpoint` is a name, also a former one."""
    which = delivery_filter(
        **given(endpoint=endpoint, type=type, event_id=event_id, since=since, until=until)
    )
    return service.audit(which, action or None, cursor or None, limit)


@get(
    "/v1/changes",
    opt=rules("read", ("unknown-webhook",)),
    tags=["records"],
    summary="Read who changed what",
    sync_to_thread=True,
)
def list_changes(
    service: NamedDependency[Service],
    endpoint: FromQuery[str] = "",
    actor: FromQuery[str] = "",
    action: FromQuery[str] = "",
    since: FromQuery[str] = "",
    until: FromQuery[str] = "",
    cursor: FromQuery[str] = "",
    limit: PageSize = 100,
) -> Page[ChangeEntry]:
    """List the changes of the engine, newest first, with who asked for them. `endpoint` is a name, also
    a former one."""
    which = given(endpoint=endpoint, actor=actor, action=action, since=since, until=until)
    return service.changes(ChangeFilter(**which), cursor or None, limit)


HANDLERS = (list_audit, list_changes)
