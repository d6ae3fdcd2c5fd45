"""What is left of a key's budget, in DeepSeek's shape."""

from dataclasses import dataclass, field
from typing import Literal

from fastapi import APIRouter, Request

from adapter.access.ledger import Ledger
from adapter.errors import FAILURE_DOCS
from adapter.request_log import record_of


@dataclass(frozen=True, slots=True)
class BalanceInfo:
    """DeepSeek counts money here, this server tokens. Nothing is topped up: budgets are granted."""

    currency: Literal["TOKENS"] = field(default="TOKENS", init=False)
    total_balance: str
    granted_balance: str
    topped_up_balance: str = field(default="0", init=False)


@dataclass(frozen=True, slots=True)
class Balance:
    """`balance_infos` is empty where there is no budget."""

    is_available: bool
    balance_infos: list[BalanceInfo]


def balance_router(ledger: Ledger) -> APIRouter:
    router = APIRouter(tags=["Keys"], responses={"default": FAILURE_DOCS})

    @router.get("/user/balance", summary="What is left of the key's token budget")
    async def balance(request: Request) -> Balance:
        key = record_of(request.scope).key
        left = None if key is None else await ledger.left(key)
        if left is None:
            return Balance(True, [])
        return Balance(left > 0, [BalanceInfo(str(left), str(left))])

    return router
