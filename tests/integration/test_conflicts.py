"""A conflicting outcome is kept, whatever its reference holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fulfillment.models import CaseCategory, FalloutCase
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def test_a_conflicting_outcome_with_an_unstorable_reference_is_kept(
    systems: ScriptedSystems,
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.succeeded()))
    desk.settle(desk.result(claim, replace(desk.rejected(), reference="R\x00\ud800")))
    assert FalloutCase.objects.get().category == CaseCategory.CONFLICT
