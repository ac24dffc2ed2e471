"""`manage.py roles load|list`: who may do what, by role."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group
from django.core.management import BaseCommand, CommandError, CommandParser

from fulfillment.actions import Action
from fulfillment.authority.authorizing import authorize
from fulfillment.authority.context import Context
from fulfillment.authority.roles import ROLES, add_to_roles, lacking, load_roles
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
        load.add_argument(
            "--add",
            nargs="+",
            metavar="ACTION",
            choices=[action.value for action in Action],
            help="give these to those that exist, come with them by now and lack them",
        )
        add_actor(load)
        verbs.add_parser("list", help="every role: what it may do where, and who is in it")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        try:
            {"load": self._load, "list": self._list}[verb](options)
        except FulfillmentError as error:
            raise CommandError(str(error)) from error

    def _load(self, options: dict[str, Any]) -> None:
        if options["overwrite"] or options["add"]:
            for role in ROLES:
                authorize(
                    actor=actor_of(options),
                    action=Action.GRANT_EDIT,
                    context=Context(subject=f"group:{role.name}"),
                )
        for name in load_roles(overwrite=options["overwrite"]):
            if options["verbosity"]:
                self.stdout.write(f"{name} loaded")
        if options["add"]:
            for name in add_to_roles(actions=[Action(name) for name in options["add"]]):
                if options["verbosity"]:
                    self.stdout.write(f"{name} has got what it lacked of that")
        for told in what_is_lacking():
            self.stdout.write(told)

    def _list(self, options: dict[str, Any]) -> None:
        for group in Group.objects.prefetch_related("user_set").order_by("name"):
            people = ", ".join(sorted(user.get_username() for user in group.user_set.all()))
            self.stdout.write(f"{group.name}: {people or 'nobody'}")
            for grant in Grant.objects.filter(group=group).order_by("pk"):
                self.stdout.write(f"  {grant.in_words}")


def what_is_lacking() -> list[str]:
    """A sentence for each role that exists and lacks something that it comes with by now."""
    return [
        f"{role} is as people have made it, and lacks {', '.join(actions)}: leave it so, or say "
        f"`manage.py roles load --add {' '.join(actions)} --as NAME`"
        for role, actions in lacking().items()
    ]
