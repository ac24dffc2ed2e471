"""Django and Celery settings, derived from the typed environment. Imports no application code."""

from __future__ import annotations

from typing import Any

from celery.schedules import schedule
from kombu import Exchange, Queue

from oms.admin_settings import UNFOLD
from oms.api.settings import REST_FRAMEWORK, SPECTACULAR_SETTINGS
from oms.embedded.layout import resolve
from oms.environment import CHECKOUT, ORCHESTRATION_QUEUE, django_database, read_environment

__all__ = ["REST_FRAMEWORK", "SPECTACULAR_SETTINGS", "UNFOLD"]

# Embedded servers are found where the supervisor has put them; external ones are left alone.
ENVIRONMENT = resolve(read_environment())

# --- the engine -------------------------------------------------------------------------------

OMS_TARGET_QUEUES = ENVIRONMENT.target_queues
OMS_FAST_PATH = ENVIRONMENT.fast_path
OMS_PUBLIC_URL = ENVIRONMENT.public_url
OMS_SANDBOX_URL = ENVIRONMENT.sandbox_url
OMS_WORKFLOWS = CHECKOUT / "templates" / "workflows"
OMS_SCHEDULES = ENVIRONMENT.schedules
OMS_CALLBACK_SECRETS = ENVIRONMENT.callback_secrets
OMS_HINT_EXPIRES_SECONDS = 60
OMS_INCIDENT_CASES = ENVIRONMENT.incident_cases
OMS_HIGH_VALUE = ENVIRONMENT.high_value
OMS_FLOWER_URL = ENVIRONMENT.flower_url
OMS_FLOWER_PORT = ENVIRONMENT.flower_port if ENVIRONMENT.flower_password else None
OMS_AUDIT_KEYS = ENVIRONMENT.audit_keys
OMS_WEBHOOK_ALLOWED_ORIGINS = ENVIRONMENT.webhook_allowed_origins

# --- e-mail to customers ----------------------------------------------------------------------

globals().update(ENVIRONMENT.email)
DEFAULT_FROM_EMAIL = ENVIRONMENT.email_from

# --- Django -----------------------------------------------------------------------------------

SECRET_KEY = ENVIRONMENT.secret_key
DEBUG = ENVIRONMENT.debug
ALLOWED_HOSTS = list(ENVIRONMENT.allowed_hosts)
ROOT_URLCONF = "oms.urls"
WSGI_APPLICATION = "oms.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-gb"
FORMAT_MODULE_PATH = "oms.formats"

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "fulfillment",
    "oms",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "fulfillment.admin.bounded.BoundReading",
    "fulfillment.admin.pages.LeaveMessages",
    "fulfillment.admin.refusals.KeepRefusals",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [CHECKOUT / "templates" / "html"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
_DATABASE = django_database(ENVIRONMENT.database_url)
_OPTIONS: dict[str, object] = {
    **_DATABASE.pop("OPTIONS", {}),
    "prepare_threshold": 5,
    # A process that is stopped in the middle of a transaction must not keep its locks: holds,
    # and the orders that it had in hand, would wait for it.
    "options": "-c jit=off -c idle_in_transaction_session_timeout=20s",
}
if ENVIRONMENT.database_pool_size:
    # One pool per process, shared by its threads; their number stays below its size.
    _OPTIONS["pool"] = {"min_size": 0, "max_size": ENVIRONMENT.database_pool_size, "timeout": 10}
DATABASES = {"default": {**_DATABASE, "CONN_HEALTH_CHECKS": True, "OPTIONS": _OPTIONS}}
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
STATIC_URL = "/static/"
# Served from the packages that bring them: no copy to collect, none to go stale. Their addresses
# change with them, so that no browser keeps one beyond an upgrade.
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "oms.static_addresses.ByContent"},
}
WHITENOISE_USE_FINDERS = True
WHITENOISE_MAX_AGE = 3600
SESSION_COOKIE_HTTPONLY = True
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 6 * 1024 * 1024
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "oms.log_lines.LineFormatter"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}

# --- Celery -----------------------------------------------------------------------------------

CELERY_BROKER_URL = ENVIRONMENT.redis_url
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # Without them a publish waits for as long as Redis is silent.
    "socket_timeout": 5,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 30,
    # Whoever publishes does not wait for a broker that is away; workers connect on their own.
    "max_retries": 1,
    "interval_start": 0.1,
}
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
# Messages are hints: acknowledged at once, because a late acknowledgement makes a busy worker
# exit when Redis restarts, and what a dead worker had in hand is found by its lease.
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_DISABLE_PREFETCH = True
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = True
# The threads of a worker keep their connections from task to task; see `replace_if_broken`.
CELERY_DB_REUSE_MAX = 1_000_000_000
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_DEFAULT_QUEUE = ORCHESTRATION_QUEUE
# The anonymous exchange delivers by queue name alone: there are no bindings that a flushed
# Redis could forget.
CELERY_TASK_QUEUES = [
    Queue(name, Exchange(""), routing_key=name)
    for name in (ORCHESTRATION_QUEUE, *ENVIRONMENT.target_queues)
]
CELERY_TASK_DEFAULT_EXCHANGE = ""
CELERY_TASK_DEFAULT_ROUTING_KEY = ORCHESTRATION_QUEUE
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE_FILENAME = str(ENVIRONMENT.home / "run" / "beat-schedule")


def _every(seconds: float, task: str) -> dict[str, Any]:
    # An old tick is worth nothing once the next one is due.
    return {
        "task": task,
        "schedule": schedule(seconds),
        "options": {"queue": ORCHESTRATION_QUEUE, "expires": min(60.0, max(5.0, 3 * seconds))},
    }


CELERY_BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "sweep-leases": _every(2, "fulfillment.tasks.sweep_leases"),
    "detect-stuck-orders": _every(15, "fulfillment.tasks.detect_stuck_orders"),
    "break-circles": _every(30, "fulfillment.tasks.break_circles"),
    "break-all-circles": {
        **_every(3600, "fulfillment.tasks.break_circles"),
        "kwargs": {"all_of_them": True},
    },
    "look-for-jeopardy": _every(10, "fulfillment.tasks.look_for_jeopardy"),
    "measure-durations": _every(300, "fulfillment.tasks.measure_durations"),
    "assess-feasibility": _every(3, "oms.tasks.assess_feasibility"),
    "look-after-approvals": _every(30, "fulfillment.tasks.look_after_approvals"),
    "seal-audit": _every(60, "fulfillment.tasks.seal_audit"),
    "undo-at-rest": _every(5, "fulfillment.tasks.undo_at_rest"),
    "group-cases": _every(15, "fulfillment.tasks.group_cases"),
    "escalate-cases": _every(20, "fulfillment.tasks.escalate_cases"),
    "run-bulk-jobs": _every(3, "fulfillment.tasks.run_bulk_jobs"),
    "publish-events": _every(2, "fulfillment.tasks.publish_events"),
    "send-mail": _every(5, "oms.tasks.send_mail"),
    "tell-delays": _every(20, "oms.tasks.tell_delays"),
    "count-figures": _every(300, "oms.tasks.count_figures"),
    "find-leaks": _every(20, "oms.tasks.find_leaks"),
    "settle-amendments": _every(5, "oms.tasks.settle_amendments"),
    "submit-scheduled": _every(15, "oms.tasks.submit_scheduled"),
}
if ENVIRONMENT.scanner:
    CELERY_BEAT_SCHEDULE["scan-runnable"] = _every(2, "fulfillment.tasks.scan_runnable")
