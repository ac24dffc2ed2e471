"""`manage.py roles load|list`: who may do what, by role."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group
from django.core.management import BaseCommand, CommandError, CommandParser

from fulfillment.actions import Action
from fulfillment.authority.authorizing import authorize
from fulfillment.authority.context import Context
from fulfillment.authority.roles import ROLES, load_roles
from fulfillment.errors import FulfillmentError
from fulfillment.management.people import actor_of, add_actor
from fulfillment.models import Grant


class Command(BaseCommand):
    help = "Make the roles that come with the product, and show who is in which."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        load = verbs.add_parser("load", help="make those that are missing, with nobody in them")
        load.add_argument(
            "--overwrite",
            action="store_true",
            help="give those that exist the permissions and grants again that they came with",
        )
        add_actor(load)
        verbs.add_parser("list", help="every role: what it may do where, and who is in it")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        try:
            {"load": self._load, "list": self._list}[verb](options)
        except FulfillmentError as error:
            raise CommandError(str(error)) from error

    def _load(self, options: dict[str, Any]) -> None:
        if options["overwrite"]:
            for role in ROLES:
                authorize(
                    actor=actor_of(options),
                    action=Action.GRANT_EDIT,
                    context=Context(subject=f"group:{role.name}"),
                )
        for name in load_roles(overwrite=options["overwrite"]):
            if options["verbosity"]:
                self.stdout.write(f"{name} loaded")

    def _list(self, options: dict[str, Any]) -> None:
        for group in Group.objects.prefetch_related("user_set").order_by("name"):
            people = ", ".join(sorted(user.get_username() for user in group.user_set.all()))
            self.stdout.write(f"{group.name}: {people or 'nobody'}")
            for grant in Grant.objects.filter(group=group).order_by("pk"):
                self.stdout.write(f"  {grant.in_words}")
