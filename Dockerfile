# One image for every service; docker-compose.yml says which command each one runs.
FROM python:3.11-slim AS build
WORKDIR /build
COPY requirements/base.txt requirements/base.txt
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --require-hashes --no-deps -r requirements/base.txt

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin oms \
    && install -d -o oms -g oms /app /var/lib/oms
COPY --from=build /venv /venv
WORKDIR /app
COPY --chown=root:root manage.py ./
COPY --chown=root:root oms oms
COPY --chown=root:root fulfillment fulfillment
COPY --chown=root:root adapters adapters
COPY --chown=root:root templates templates
COPY --chown=root:root examples examples
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=oms.settings OMS_HOME=/var/lib/oms
USER oms
VOLUME /var/lib/oms
EXPOSE 8000
CMD ["gunicorn", "oms.wsgi:application", "--bind", "0.0.0.0:8000", "--worker-class", "gthread", "--workers", "2", "--threads", "8", "--access-logfile", "-", "--no-control-socket"]
