"""What every model with a state machine shares."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django_fsm import FSMField, FSMFieldDescriptor
from psycopg.types.json import Json


class StatefulModel(models.Model):
    """A row whose `state` only its transition methods may change.

    `FSMModelMixin` of django-fsm lifts the protection on the *shared* field object while it
    refreshes an instance, so another thread may write any state meanwhile. A protected field
    accepts the first value that an instance is given, so forgetting the old one is enough.

    The database refuses what no transitions lead to, and what is written outside of a unit of work
    (`fulfillment.engine.store.guards`).
    """

    moves_in_units: ClassVar[bool] = True
    """Its states are part of an order's history, so only a unit of work changes them."""
    has_moved_when_stored: ClassVar[bool] = False
    """It may be written for the first time in any state: it moves in the unit that makes it."""

    class Meta:
        abstract = True

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        fields = kwargs.get("fields") or (args[1] if len(args) > 1 else None)
        if fields is None or "state" in fields:
            self.__dict__.pop("state", None)
        super().refresh_from_db(*args, **kwargs)


class AsWritten(models.JSONField):
    """JSON whose objects keep the order of their members, which `jsonb` does not.

    For what people are shown in the order in which a template declares it. Nothing can be
    looked up in it.
    """

    def db_type(self, connection: Any) -> str:
        return "json"

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return None if value is None else Json(value)

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        return f"({sql})::text", params


class _AsStored(FSMFieldDescriptor):
    def __get__(self, instance: Any, instance_type: Any = None) -> Any:
        if instance is not None and "state" in (values := instance.__dict__):
            return values["state"]
        return super().__get__(instance, instance_type)


class StateField(FSMField):
    """django-fsm's, read without the detours that it takes for deferred fields each time."""

    descriptor_class = _AsStored

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "protected": True})

    def get_state(self, instance: Any) -> Any:
        try:
            return instance.__dict__[self.attname]
        except KeyError:
            return super().get_state(instance)

    def deconstruct(self) -> tuple[str, str, Any, dict[str, Any]]:
        """To migrations it is what it is in the database."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django_fsm.FSMField", args, kwargs


def states_constraint(*, states: type, name: str) -> models.CheckConstraint:
    """A database check that only the declared states are ever stored."""
    return models.CheckConstraint(
        condition=models.Q(state__in=[state.value for state in states]),  # type: ignore[attr-defined]
        name=name,
    )
