"""`train` in params.yaml: the tuning method and how it is optimised."""

import json
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from softprompt.config.section import Positive, Section, Text

# Of each method; the first is what `init: null` means.
INITS = {
    "prompt_tuning": ("text", "demonstrations", "vocabulary", "random"),
    "p_tuning": ("random",),
    "prefix_tuning": ("demonstrations", "text", "random", "zero"),
    "lora": ("zero",),
}
# Of each key that some methods alone have: these, and the value that changes nothing.
METHODS_OF: dict[str, tuple[tuple[str, ...], float]] = {
    "freeze_first": (("prompt_tuning", "prefix_tuning"), False),
    "residual": (("prompt_tuning",), False),
    "keys_lr_ratio": (("prefix_tuning",), 1.0),
}


class Train(Section):
    """See params.yaml for the meaning of each key."""

    method: Literal["prompt_tuning", "p_tuning", "prefix_tuning", "lora"]
    num_virtual_tokens: Positive | None
    init: Literal["random", "vocabulary", "text", "demonstrations", "zero"] | None
    init_text: Text | None
    freeze_first: bool
    residual: bool
    keys_lr_ratio: Annotated[float, Field(ge=0, le=1e6)]
    encoder: Literal["mlp", "lstm"]
    lora_r: Positive
    lora_alpha: Positive
    optim: Literal["adamw_torch", "adafactor"]
    learning_rate: Annotated[float, Field(gt=0, le=1e6)] | None
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"]
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)]
    num_train_epochs: Annotated[float, Field(gt=0)]
    max_steps: Positive | None
    batch_size: Positive
    gradient_accumulation_steps: Positive
    max_grad_norm: Annotated[float, Field(ge=0)] | None
    eval_steps: Positive
    early_stopping_patience: Positive | None
    torch_compile: Literal["auto", True, False]

    @property
    def initialisation(self) -> str:
        """`init`, or the method's default."""
        return self.init or INITS[self.method][0]

    @property
    def virtual_tokens(self) -> int:
        """The most tokens that the method puts in front of a row: `num_virtual_tokens`, or its default."""
        if self.method == "lora":
            return 0
        return self.num_virtual_tokens or (512 if self.initialisation == "demonstrations" else 20)

    @field_validator("init")
    @classmethod
    def is_the_methods(cls, init: str | None, info: ValidationInfo) -> str | None:
        """Refuse an initialisation that the method doesn't have."""
        allowed = INITS.get(info.data.get("method", ""))
        if init and allowed and init not in allowed:
            raise ValueError(f"null or {', '.join(allowed)}, where train.method is {info.data['method']}")
        return init

    @field_validator("freeze_first", "residual", "keys_lr_ratio")
    @classmethod
    def is_of_the_method(cls, value: float, info: ValidationInfo) -> float:
        """Refuse what the method would not use."""
        name = info.field_name or ""
        methods, unset = METHODS_OF[name]
        method = info.data.get("method")
        if value != unset and method is not None and method not in methods:
            raise ValueError(f"{json.dumps(unset)} where train.method is {method}; it is of {' and '.join(methods)}")
        return value

    @field_validator("init_text")
    @classmethod
    def stands_with_text_init(cls, text: str | None, info: ValidationInfo) -> str | None:
        """Refuse `init: text` without a text."""
        init = info.data.get("init") or INITS.get(info.data.get("method", ""), ("",))[0]
        if init == "text" and not (text and text.strip()):
            raise ValueError("a text where train.init is text, as it is by default")
        return text
