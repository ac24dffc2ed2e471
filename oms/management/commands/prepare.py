"""`manage.py prepare`: from an empty or older database to one that a stack can run on."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, call_command

from oms.demo.people import seed_people
from oms.environment import CHECKOUT, DEFAULT_QUEUES


class Command(BaseCommand):
    help = (
        "Migrate, load the shipped calendars and the sandbox's target systems, publish the shipped "
        "workflows, load the roles, and make the admin user if OMS_ADMIN_PASSWORD is set. Run it "
        "as the database's owner."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=0)
        call_command(
            "calendars", "load", str(CHECKOUT / "templates" / "calendars.yaml"), verbosity=0
        )
        if set(DEFAULT_QUEUES.split(",")) <= set(settings.OMS_TARGET_QUEUES):
            file = str(CHECKOUT / "examples" / "targets" / "sandbox.yaml")
            call_command("targets", "load", file, verbosity=0)
            call_command("workflows", "publish", verbosity=0)
        else:
            self.stdout.write(
                "OMS_TARGET_QUEUES names queues of your own: the sandbox's target systems and the "
                "shipped workflows are left out. Load yours with `manage.py targets load` and "
                "`manage.py workflows publish`."
            )
        call_command("roles", "load", verbosity=0, stdout=self.stdout)
        password = os.environ.get("OMS_ADMIN_PASSWORD")
        users = get_user_model().objects
        if password and not users.filter(username="admin").exists():
            users.create_superuser(username="admin", password=password)
        people = os.environ.get("OMS_DEMO_PASSWORD")
        if people:
            seed_people(password=people)
