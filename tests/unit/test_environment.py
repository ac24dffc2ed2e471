"""Variables are read once, typed, and refused loudly when wrong."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from oms.embedded.layout import layout_of
from oms.environment import CHECKOUT, EnvironmentInvalid, django_database, read_environment
from oms.supervisor.programs import programs, variables


def test_without_variables_everything_is_embedded_beneath_the_checkout() -> None:
    environment = read_environment({})
    assert environment.embedded_database
    assert environment.embedded_redis
    assert environment.home == CHECKOUT / ".oms"
    assert environment.public_url == "http://127.0.0.1:8000"
    assert environment.fast_path
    assert environment.scanner
    assert "logistics" in environment.target_queues


def test_sums_of_high_value_are_told_by_currency() -> None:
    assert read_environment({}).high_value == {"": Decimal(10_000)}
    found = read_environment({"OMS_HIGH_VALUE": "EUR 500.50, JPY 150000, 900"}).high_value
    assert found == {"EUR": Decimal("500.50"), "JPY": Decimal(150_000), "": Decimal(900)}


def test_flower_is_beside_the_admin_unless_an_address_is_given() -> None:
    assert read_environment({}).flower_url == ""
    given = {"OMS_FLOWER_URL": "https://flower.example/"}
    assert read_environment(given).flower_url == "https://flower.example"


def test_external_urls_switch_embedding_off() -> None:
    environment = read_environment(
        {"DATABASE_URL": "postgres://u:p@db:5432/oms", "REDIS_URL": "redis://cache:6379/0"}
    )
    assert not environment.embedded_database
    assert not environment.embedded_redis
    assert environment.database_owner_url == environment.database_url


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OMS_WEB_PORT": "http"}, ("OMS_WEB_PORT", "'http'", "1 to 65535")),
        ({"OMS_WEB_PORT": "70000"}, ("OMS_WEB_PORT", "1 to 65535")),
        ({"OMS_WEB_PORT": "²"}, ("OMS_WEB_PORT", "1 to 65535")),
        ({"OMS_HIGH_VALUE": "much"}, ("OMS_HIGH_VALUE", "'much'", "EUR 10000")),
        ({"OMS_HIGH_VALUE": "0"}, ("OMS_HIGH_VALUE", "above zero")),
        ({"OMS_HIGH_VALUE": "EUR 1, EUR 2"}, ("OMS_HIGH_VALUE", "'EUR 2'", "once")),
        ({"OMS_FLOWER_URL": "flower"}, ("OMS_FLOWER_URL", "browsers")),
        ({"OMS_WEB_PORT": "5555"}, ("OMS_WEB_PORT", "OMS_FLOWER_PORT", "differ")),
        ({"OMS_SCANNER": "maybe"}, ("OMS_SCANNER", "on or off")),
        ({"OMS_BIND": "localhost"}, ("OMS_BIND", "IPv4", "127.0.0.1")),
        ({"OMS_TARGET_QUEUES": "billing,,crm"}, ("OMS_TARGET_QUEUES", "commas")),
        ({"OMS_TARGET_QUEUES": "billing,orchestration"}, ("OMS_TARGET_QUEUES", "orchestration")),
        ({"OMS_TARGET_QUEUES": "billing,billing"}, ("OMS_TARGET_QUEUES", "twice")),
        ({"OMS_PUBLIC_URL": "orders.example"}, ("OMS_PUBLIC_URL", "http://host:port")),
        ({"DATABASE_URL": "mysql://db/oms"}, ("DATABASE_URL", "postgres://")),
        ({"DATABASE_URL": "postgres://db"}, ("DATABASE_URL", "names no database")),
        ({"DATABASE_OWNER_URL": "postgres://db/oms"}, ("DATABASE_OWNER_URL", "DATABASE_URL")),
        ({"REDIS_URL": "amqp://mq"}, ("REDIS_URL", "redis://host:port/0")),
        ({"OMS_DATABASE_POOL_SIZE": "-1"}, ("OMS_DATABASE_POOL_SIZE", "0 to 1000")),
        ({"OMS_WEBHOOK_ALLOWED_ORIGINS": "http://a/b"}, ("ALLOWED_ORIGINS", "http://a/b", "path")),
        ({"OMS_WEBHOOK_ALLOWED_ORIGINS": "ftp://a"}, ("ALLOWED_ORIGINS", "http://receiver:9000")),
        ({"OMS_WEBHOOK_ALLOWED_ORIGINS": "http://a:x"}, ("ALLOWED_ORIGINS", "'http://a:x'")),
        ({"OMS_WEBHOOK_ALLOWED_ORIGINS": "http://a,"}, ("ALLOWED_ORIGINS", "single commas")),
        ({"OMS_EMAIL_URL": "http://mail"}, ("OMS_EMAIL_URL", "smtp://")),
        ({"OMS_EMAIL_URL": "smtp://mail:x"}, ("OMS_EMAIL_URL", "smtp+starttls://")),
        ({"OMS_EMAIL_URL": "smtp://"}, ("OMS_EMAIL_URL", "smtps://")),
        ({"OMS_EMAIL_FROM": "somebody"}, ("OMS_EMAIL_FROM", "orders@shop.example")),
        ({"OMS_EMAIL_FROM": "a@b\nBcc: c@d"}, ("OMS_EMAIL_FROM", "address")),
        ({"OMS_AUDIT_KEY": "too-short"}, ("fewer than 32 characters", "openssl rand")),
        ({"OMS_AUDIT_KEY": f"{'k' * 32},{'k' * 32}"}, ("names a key twice",)),
        ({"OMS_SECRET_KEY_FILE": "/nowhere/key"}, ("OMS_SECRET_KEY_FILE", "can't be read")),
        ({"OMS_CALLBACK_SECRET_CRM": "whsec_%"}, ("OMS_CALLBACK_SECRET_CRM", "base64")),
        ({"OMS_NEXT_CALLBACK_SECRET": "whsec_"}, ("OMS_NEXT_CALLBACK_SECRET", "base64")),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_what_is_accepted(
    variables: dict[str, str], words: tuple[str, ...]
) -> None:
    with pytest.raises(EnvironmentInvalid) as refused:
        read_environment(variables)
    assert [word for word in words if word not in str(refused.value)] == []


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from a file\n")
    environment = read_environment({"OMS_CALLBACK_SECRET_BILLING_FILE": str(file)})
    assert environment.callback_secrets.of("billing") == ("from a file",)


def test_a_secret_from_two_sources_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("one")
    with pytest.raises(EnvironmentInvalid, match="Both OMS_SECRET_KEY and OMS_SECRET_KEY_FILE"):
        read_environment({"OMS_SECRET_KEY": "two", "OMS_SECRET_KEY_FILE": str(file)})


def test_secrets_do_not_show_when_the_environment_is_printed() -> None:
    environment = read_environment(
        {
            "DATABASE_URL": "postgres://u:hidden@db/oms",
            "REDIS_URL": "redis://:hidden@cache",
            "OMS_SECRET_KEY": "hidden",
            "OMS_AUDIT_KEY": "hidden" * 6,
            "OMS_FLOWER_PASSWORD": "hidden",
            "OMS_CALLBACK_SECRET": "hidden",
            "OMS_CALLBACK_SECRET_CRM": "hidden",
            "OMS_NEXT_CALLBACK_SECRET_CRM": "hidden",
        }
    )
    assert "hidden" not in repr(environment)


@pytest.mark.parametrize(
    ("url", "host", "user", "password", "port"),
    [
        ("postgres://u%40x:p%2Fw@db:5433/oms", "db", "u@x", "p/w", "5433"),
        ("postgres:///oms?host=/run/pg&user=oms_app", "/run/pg", "oms_app", "", ""),
    ],
)
def test_a_database_url_becomes_connection_settings(
    url: str, host: str, user: str, password: str, port: str
) -> None:
    settings = django_database(url)
    assert settings["NAME"] == "oms"
    assert (settings["HOST"], settings["USER"]) == (host, user)
    assert (settings["PASSWORD"], settings["PORT"]) == (password, port)


def test_other_parameters_of_a_database_url_reach_the_driver() -> None:
    assert django_database("postgres://db/oms?sslmode=require")["OPTIONS"] == {"sslmode": "require"}


def test_child_processes_read_the_same_environment_back(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    given = {
        "DATABASE_URL": "postgres://u:p@db/oms",
        "REDIS_URL": "redis://cache",
        "OMS_SECRET_KEY_FILE": str(secret),
        "OMS_AUDIT_KEY": f"{'n' * 32}, {'o' * 32}",
        "OMS_CALLBACK_SECRET_CRM": "signed",
        "OMS_NEXT_CALLBACK_SECRET": "signed soon",
        "OMS_TARGET_QUEUES": "crm,billing",
        "OMS_SCANNER": "off",
        "OMS_HOME": str(tmp_path),
        "OMS_WEB_PORT": "8001",
    }
    environment = read_environment(given)
    assert read_environment({**given, **variables(environment)}) == environment


def test_every_target_queue_has_a_worker_of_its_own() -> None:
    environment = read_environment({"OMS_TARGET_QUEUES": "crm,billing"})
    names = [program.name for program in programs(environment, home=layout_of(environment.home))]
    assert {"orchestration", "worker-crm", "worker-billing", "beat", "web", "sandbox"} <= set(names)
    assert "flower" not in names  # Without a password it would be open to everybody.


def test_without_a_mail_server_messages_become_files_in_the_home() -> None:
    environment = read_environment({"OMS_HOME": "/srv/oms"})
    assert environment.email == {
        "EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend",
        "EMAIL_FILE_PATH": Path("/srv/oms/mail"),
    }


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail", {"EMAIL_PORT": 25}),
        ("smtp+starttls://a%40b:s%3Ac@mail", {"EMAIL_PORT": 587, "EMAIL_USE_TLS": True}),
        ("smtps://a%40b:s%3Ac@mail:4465", {"EMAIL_PORT": 4465, "EMAIL_USE_SSL": True}),
    ],
)
def test_a_mail_server_is_one_address(url: str, expected: dict[str, object]) -> None:
    email = read_environment({"OMS_EMAIL_URL": url}).email
    assert email["EMAIL_HOST"] == "mail"
    assert expected.items() <= email.items()
    if "@" in url:
        assert (email["EMAIL_HOST_USER"], email["EMAIL_HOST_PASSWORD"]) == ("a@b", "s:c")
    assert email["EMAIL_TIMEOUT"] > 0
