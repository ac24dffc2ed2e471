"""What the database itself refuses about states: ways that no transitions lead, and raw writes.

The triggers are made from the state machines as the models declare them, after every migration:
a machine can't change, or come to exist, without its guard. A unit of work writes a row once,
whatever it has passed through meanwhile, so what the database allows is every state that
declared transitions lead to, one after the other. What has a state, the application can't delete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from django.apps import AppConfig
from django.db import connections, transaction

from fulfillment.models.base import StateField, StatefulModel

# A unit says that it is one.
_IN_A_UNIT = "current_setting('fulfillment.unit', true) = 'on'"
# AFTER, because a trigger that runs before an update would lock each row once more; and the WHEN is
# all that lawful writes cost: the function is only called to refuse.
_GUARD = """
CREATE OR REPLACE TRIGGER lawful_state AFTER UPDATE OF state ON {table} FOR EACH ROW
WHEN (OLD.state IS DISTINCT FROM NEW.state
      AND ({marked} AND (OLD.state || '>' || NEW.state) = ANY ('{{{edges}}}'::text[])) IS NOT TRUE)
EXECUTE FUNCTION fulfillment_refuse_state();
CREATE OR REPLACE TRIGGER lawful_first_state AFTER INSERT ON {table} FOR EACH ROW
WHEN (({marked} AND NEW.state = ANY ('{{{first}}}'::text[])) IS NOT TRUE)
EXECUTE FUNCTION fulfillment_refuse_state();
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'oms_app') THEN
        REVOKE DELETE, TRUNCATE ON {table} FROM oms_app;
    END IF;
END $$;
"""
_KNOWN = """
SELECT obj_description(t.oid, 'pg_trigger') FROM pg_trigger t
WHERE t.tgrelid = to_regclass(%s) AND t.tgname = 'lawful_state'
"""


def install(app_config: AppConfig, using: str, **_: Any) -> None:
    """Bring the guards of an app's tables up to date; after its migrations, as their owner."""
    connection = connections[using]
    with transaction.atomic(using=using), connection.cursor() as raw:
        raw.execute("SELECT to_regproc('fulfillment_refuse_state') IS NOT NULL")
        if raw.fetchone() != (True,):
            return  # Migrated to a time before there were guards.
        for model in stateful(app_config):
            table = model._meta.db_table
            guard = guard_of(model)
            digest = hashlib.sha256(guard.encode()).hexdigest()
            raw.execute("SELECT to_regclass(%s) IS NOT NULL", [table])
            if raw.fetchone() != (True,):
                continue
            raw.execute(_KNOWN, [table])
            if raw.fetchone() != (digest,):  # Else nobody has to wait for its lock.
                raw.execute(guard)
                raw.execute(f"COMMENT ON TRIGGER lawful_state ON {table} IS '{digest}'")


def stateful(app_config: AppConfig) -> Iterator[type[StatefulModel]]:
    """The models of an app that have a state machine."""
    return (model for model in app_config.get_models() if issubclass(model, StatefulModel))


def guard_of(model: type[StatefulModel]) -> str:
    """The triggers of one table, as SQL."""
    field = _field(model)
    states = {str(state) for state, _ in field.choices or ()}
    first = states if model.has_moved_when_stored else {str(field.default)}
    return _GUARD.format(
        table=model._meta.db_table,
        marked=_IN_A_UNIT if model.moves_in_units else "true",
        edges=",".join(sorted(f"{a}>{b}" for a, b in ways(model))),
        first=",".join(sorted(first)),
    )


def ways(model: type[StatefulModel]) -> set[tuple[str, str]]:
    """From which state to which other one a machine's transitions lead, in any number of steps."""
    field = _field(model)
    states = {str(state) for state, _ in field.choices or ()}
    steps: dict[str, set[str]] = {state: set() for state in states}
    for edge in field.get_all_transitions(model):
        source, target = str(edge.source), str(edge.target)
        for begin in states if source in "*+" else {source}:
            steps[begin].add(target)
    found = set()
    for begin in states:
        reached: set[str] = set()
        ahead = [begin]
        while ahead:
            new = steps[ahead.pop()] - reached
            reached |= new
            ahead += new
        found |= {(begin, end) for end in reached - {begin}}
    return found


def _field(model: type[StatefulModel]) -> Any:
    field: Any = model._meta.get_field("state")  # type: ignore[misc]  # Of its subclasses.
    assert isinstance(field, StateField)
    return field
