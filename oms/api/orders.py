"""Orders: submit one or many, list, read, follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from adapters.strict_json import dumps
from fulfillment.queries import fulfillments
from oms.api import documents, schema
from oms.api.authentication import client_of
from oms.api.idempotency import idempotency_key, key_reused
from oms.api.order_lists import OrderFilter, page_of
from oms.api.parsing import json_body, validated
from oms.api.problems import CONTENT_TYPE, Problem
from oms.api.requests import Closed, OrderIn, OrdersIn
from oms.intake.replay import Answer, KeyReused, submit_once
from oms.intake.requests import OrderRequest
from oms.intake.submission import Disposition, Submitted, submit
from oms.models import Order
from oms.queries.orders import newest_plan


class PageQuery(Closed):
    """Query of the timeline; `after` is the last sequence of the page before."""

    after: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 200


class Orders(APIView):
    """All orders of the client whose key is used."""

    @extend_schema(
        operation_id="submit_orders",
        tags=["Orders"],
        summary="Submit one order, or many",
        parameters=[schema.IDEMPOTENCY_KEY],
        examples=schema.SUBMISSIONS,
        request=schema.one_of("OrderOrOrders", OrderIn, OrdersIn),
        responses={
            201: schema.one_of(
                "SubmittedOrderOrOrders", documents.SubmittedOrder, documents.SubmissionOut
            ),
            207: documents.SubmissionOut,
            **schema.problems(400, 401, 403, 409, 413, 415, 503),
        },
    )
    def post(self, request: Request) -> Response:
        """One order as the body, or `{"orders": […]}` with up to 500.

        An order that breaks rules is kept as REJECTED, with every fault. An external id that you
        have used before creates nothing: 409 for one order, `duplicate` among many.
        """
        data = json_body(request)
        if isinstance(data, dict) and "orders" in data:
            requests = [order.request() for order in validated(OrdersIn, data).orders]
            respond = _answer_many
        else:
            requests = [validated(OrderIn, data).request()]
            respond = _answer_one
        (status, body), is_replay = _submit(request, requests, respond, data)
        if status > 399:
            body = {**body, "instance": request.path}
        response = Response(
            body, status=status, content_type=CONTENT_TYPE if status > 399 else None
        )
        if is_replay:
            response["Idempotent-Replayed"] = "true"
        if "href" in body:
            response["Location"] = body["href"]
        return response

    @extend_schema(
        operation_id="list_orders",
        tags=["Orders"],
        summary="List orders, newest first",
        parameters=schema.ORDER_FILTERS,
        responses={200: documents.OrderPage, **schema.problems(400, 401, 403, 503)},
    )
    def get(self, request: Request) -> Response:
        """Every filter narrows; `next` is the address of the next page."""
        query = query_of(OrderFilter, request, repeatable={"state"})
        rows = page_of(orders_of(request), query)
        page = rows[: query.limit]
        return _json(
            documents.OrderPage(
                orders=documents.summaries(page),
                next=next_page(request, after=page[-1].reference)
                if len(rows) > len(page)
                else None,
            )
        )


class OrderDetail(APIView):
    @extend_schema(
        operation_id="read_order",
        tags=["Orders"],
        summary="Read one order: how far it is, and what it waits for",
        responses={200: documents.OrderOut, **schema.problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, reference: str) -> Response:
        """State, items, progress, milestones, and in plain words what it waits for."""
        rows = orders_of(request).prefetch_related("items", "milestones")
        return _json(documents.order_document(found_order(rows, reference)))


class OrderTimeline(APIView):
    @extend_schema(
        operation_id="read_timeline",
        tags=["Orders"],
        summary="Everything that has happened to an order",
        parameters=schema.PAGE,
        responses={200: documents.Timeline, **schema.problems(400, 401, 403, 404, 503)},
    )
    def get(self, request: Request, reference: str) -> Response:
        """Every transition, command and attempt, oldest first."""
        query = query_of(PageQuery, request)
        order = found_order(orders_of(request), reference)
        entries, more = fulfillments.timeline(
            fulfillment_id=order.fulfillment_id, after=query.after, limit=query.limit
        )
        last = max((entry.get("sequence", 0) for entry in entries), default=0)
        return Response(
            {"entries": entries, "next": next_page(request, after=last) if more else None}
        )


class OrderGraph(APIView):
    @extend_schema(
        operation_id="read_graph",
        tags=["Orders"],
        summary="An order's plan as a graph",
        responses={200: documents.GraphOut, **schema.problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, reference: str) -> Response:
        """Nodes with their states and outputs, and typed edges between them."""
        order = found_order(orders_of(request), reference)
        plan = newest_plan(order)
        if plan is None:
            raise Problem(
                status=404,
                code="order.has_no_plan",
                title="This order has no plan",
                detail=f"It is {order.state}. An order gets its plan when every rule has passed.",
            )
        return Response(
            {"plan": plan.pk, "state": plan.state, **fulfillments.graph_document(plan=plan)}
        )


def _submit(
    request: Request, requests: Sequence[OrderRequest], respond: Any, data: Any
) -> tuple[Answer, bool]:
    client = client_of(request)
    key = idempotency_key(request)
    if key is None:
        return respond(
            submit(client=client, requests=requests, actor=f"client {client.name}")
        ), False
    try:
        done = submit_once(
            client=client,
            requests=requests,
            idempotency_key=key,
            body=dumps(data),
            respond=respond,
        )
    except KeyReused:
        raise key_reused() from None
    return done.answer, done.is_replay


def _answer_one(results: Sequence[Submitted]) -> Answer:
    (result,) = results
    if result.disposition is Disposition.CREATED:
        return 201, _submitted(result).model_dump(mode="json")
    problem = Problem(
        status=409,
        code="order.external_id_used",
        title="You have an order with this external id",
        detail=f"It is {result.reference}. Nothing was created. Read that one, or use another "
        "external id for another order.",
        order=_submitted(result).model_dump(mode="json"),
    )
    return 409, problem.document


def _answer_many(results: Sequence[Submitted]) -> Answer:
    answer = documents.SubmissionOut(
        results=[
            documents.SubmissionResult(status=result.disposition.value, order=_submitted(result))
            for result in results
        ]
    )
    created = all(result.disposition is Disposition.CREATED for result in results)
    return (201 if created else 207), answer.model_dump(mode="json")


def _submitted(result: Submitted) -> documents.SubmittedOrder:
    return documents.SubmittedOrder(
        id=result.reference,
        external_id=result.external_id,
        state=result.state,
        faults=[documents.FaultOut(**fault) for fault in result.faults],
        href=documents.order_href(result.reference),
    )


def orders_of(request: Request) -> QuerySet[Order]:
    """Those of the client whose key is used."""
    return Order.objects.filter(client=client_of(request))


def found_order(rows: QuerySet[Order], reference: str) -> Order:
    """The one of `rows` that is called so. Raises Problem 404."""
    order = rows.filter(reference=reference).first()
    if order is None:
        raise Problem(
            status=404,
            code="order.not_found",
            title="There is no such order",
            detail=f"None of your orders is called {reference}. The list finds one by external_id.",
        )
    return order


def query_of(
    model: Any, request: Request, *, repeatable: frozenset[str] | set[str] = frozenset()
) -> Any:
    given = {
        name: values if name in repeatable or len(values) > 1 else values[0]
        for name, values in request.query_params.lists()
    }
    return validated(model, given)


def next_page(request: Request, *, after: str | int) -> str:
    """The same address from `after` on."""
    parameters = [
        (name, value)
        for name, values in request.query_params.lists()
        if name != "after"
        for value in values
    ]
    return f"{request.path}?{urlencode([*parameters, ('after', str(after))])}"


def _json(document: Any) -> Response:
    return Response(document.model_dump(mode="json"))
