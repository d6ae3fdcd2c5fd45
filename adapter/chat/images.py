"""The images of a chat, from the URLs in its messages to encoded bytes that the model can read."""

import asyncio

from adapter.chat.schemas import ChatRequest
from adapter.documents.media import START_BYTES, sniff
from adapter.documents.reader import DocumentReader
from adapter.documents.remote import ImageFetcher, read_url
from adapter.errors import InvalidRequest, TooLarge


class ChatImages:
    """Its methods raise `ApiError` only, with the path of the image's field."""

    def __init__(self, documents: DocumentReader, fetcher: ImageFetcher, max_bytes: int) -> None:
        """`max_bytes`: most of all images of one chat."""
        self._documents = documents
        self._fetcher = fetcher
        self._max_bytes = max_bytes

    async def read(self, body: ChatRequest) -> list[bytes]:
        images: list[bytes] = []
        for path, image in body.images.items():
            images.append(await self._image(image.url, f"{path}.url"))
            # A few URLs fetch far more than a body may hold.
            if sum(map(len, images)) > self._max_bytes:
                sentence = f"the images are larger than {self._max_bytes} bytes; send fewer or smaller ones"
                raise TooLarge(f"messages: {sentence}", param="messages")
        return images

    async def _image(self, url: str, field: str) -> bytes:
        data, declared_type = await read_url(url, field, self._fetcher)
        if await asyncio.to_thread(sniff, data[:START_BYTES], field, declared_type) == "pdf":
            raise InvalidRequest(f"{field}: must be an image; send PDFs to /ocr/file", param=field)
        document = await self._documents.open(data, field=field, declared_type=declared_type)
        try:
            page = await document.page(document.numbers[0])
        finally:
            await document.close()
        return page.image
