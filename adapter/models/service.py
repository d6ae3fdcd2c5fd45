"""Which models this adapter serves, and which of them are up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from adapter.errors import ModelNotFound, Unavailable
from adapter.models.described import DescribedModel
from adapter.settings import Settings
from adapter.triton_client import TritonClient

# The day DeepSeek-Coder was released: the same on every replica and after every restart.
_CREATED = 1_698_883_200


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    object: Literal["model"] = "model"
    created: int = _CREATED
    owned_by: str = "deepseek"


@dataclass(frozen=True, slots=True)
class ModelList:
    object: Literal["list"] = field(default="list", init=False)
    data: Sequence[Model]


class ModelCatalog:
    def __init__(self, triton: TritonClient, settings: Settings) -> None:
        self._triton = triton
        self._triton_names = dict(settings.models)
        self._names = self._triton_names | {
            alias: self._triton_names[served_id]
            for alias, served_id in settings.model_aliases.items()
            if served_id in self._triton_names and alias not in self._triton_names
        }
        self.default_id = settings.default_model or next(iter(settings.models))
        self._ocr_id = settings.ocr_model
        # Several ids may be one model.
        self._described = {name: DescribedModel(triton, name) for name in self._triton_names.values()}

    def start(self) -> None:
        """Ask all models what they are: the first answers have a fingerprint already."""
        for model in self._described.values():
            model.ask()

    async def stop(self) -> None:
        for model in self._described.values():
            await model.forget()

    @property
    def served(self) -> Mapping[str, str]:
        """Served id to Triton's name."""
        return self._triton_names

    def resolve(self, model_id: str | None) -> tuple[str, str]:
        """The served id or alias and Triton's name of it; of the default model for None. Raises `ModelNotFound`."""
        served_id = self.default_id if model_id is None else model_id
        if served_id not in self._names:
            served = ", ".join(self._triton_names)
            raise ModelNotFound(f"model: there is no model {served_id!r}; this server has {served}", param="model")
        return served_id, self._names[served_id]

    def resolve_ocr(self, model_id: str | None) -> tuple[str, str]:
        """As `resolve`, but of the OCR model for None."""
        return self.resolve(self._ocr_id if model_id is None else model_id)

    def is_ocr(self, triton_name: str) -> bool:
        """Whether it is the OCR model, by whatever served id it was asked for."""
        return triton_name == self._triton_names.get(self._ocr_id)

    def described(self, triton_name: str) -> DescribedModel:
        """What is known of a model that is served."""
        return self._described[triton_name]

    async def fingerprint(self, triton_name: str) -> str | None:
        """As `DescribedModel.fingerprint`."""
        return await self._described[triton_name].fingerprint()

    async def list(self) -> ModelList:
        ready = await self._triton.ready_models()
        return ModelList([Model(served_id) for served_id, name in self._triton_names.items() if name in ready])

    async def get(self, model_id: str) -> Model:
        served_id, name = self.resolve(model_id)
        if name not in await self._triton.ready_models():
            raise Unavailable(f"The model {served_id!r} is not loaded, or is restarting.", param="model")
        return Model(served_id)
