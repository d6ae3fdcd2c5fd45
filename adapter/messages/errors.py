"""What a failure below `/v1/messages` looks like, for the OpenAPI document."""

from typing import Literal

from pydantic import BaseModel, Field

from adapter.errors import FAILURE_DOCS as OPENAI_FAILURE_DOCS


class MessagesErrorDetail(BaseModel):
    type: str = Field(examples=["invalid_request_error"])
    message: str = Field(description="Begins with the request's field at fault, where there is one.")


class MessagesErrorResponse(BaseModel):
    """Also the data of the event that ends a failed stream."""

    type: Literal["error"]
    error: MessagesErrorDetail
    request_id: str


FAILURE_DOCS = OPENAI_FAILURE_DOCS | {"model": MessagesErrorResponse}
