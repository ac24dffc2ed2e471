"""The installed base over HTTP: what customers have, and what orders will make of it."""

from __future__ import annotations

from typing import Annotated

from drf_spectacular.utils import extend_schema
from pydantic import Field, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from oms import assets
from oms.api import asset_documents, schema
from oms.api.authentication import client_of
from oms.api.order_lists import Storable
from oms.api.orders import next_page, query_of
from oms.api.problems import Problem
from oms.api.requests import Closed


class AssetFilter(Closed):
    """Query of the list; `after` is the last id of the page before."""

    customer: Annotated[Storable, StringConstraints(min_length=1)]
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    after: Storable = ""


class Assets(APIView):
    @extend_schema(
        operation_id="list_assets",
        tags=["Assets"],
        summary="What a customer has, and what orders under way will change",
        parameters=schema.ASSET_FILTERS,
        responses={200: asset_documents.AssetPage, **schema.problems(400, 401, 403, 503)},
    )
    def get(self, request: Request) -> Response:
        """By id. An asset that is only expected has no state yet."""
        query = query_of(AssetFilter, request)
        rows = assets.page(
            client_id=client_of(request).pk,
            customer_id=query.customer,
            after=query.after,
            limit=query.limit + 1,
        )
        shown = rows[: query.limit]
        answer = asset_documents.AssetPage(
            assets=[asset_documents.asset_document(known) for known in shown],
            next=next_page(request, after=shown[-1].asset_id) if len(rows) > len(shown) else None,
        )
        return Response(answer.model_dump(mode="json"))


class AssetDetail(APIView):
    @extend_schema(
        operation_id="read_asset",
        tags=["Assets"],
        summary="Read one asset",
        responses={200: asset_documents.AssetOut, **schema.problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, asset_id: str) -> Response:
        """As it is, and beside it what orders under way will make of it."""
        known = None
        if "\0" not in asset_id:
            known = assets.find(client_id=client_of(request).pk, asset_id=asset_id)
        if known is None:
            raise Problem(
                status=404,
                code="asset.not_found",
                title="There is no such asset",
                detail="None of your customers has an asset of this id, and no order under way "
                "brings one. The list finds assets by customer.",
            )
        return Response(asset_documents.asset_document(known).model_dump(mode="json"))
