"""Bodies of OpenAI's requests: what is known of them here, and nothing is ignored in silence."""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from softprompt.config.evaluate import LEAST_TEMPERATURE, Generate
from softprompt.config.faults import describe, shown
from softprompt.config.section import Positive, Section
from softprompt.serving.refusals import RefusedError

# They change no answer.
WITHOUT_EFFECT = ("metadata", "prompt_cache_key", "safety_identifier", "service_tier", "user")
# The only value of what is not done here.
NEUTRAL: dict[str, Any] = {
    "best_of": 1,
    "echo": False,
    "frequency_penalty": 0,
    "logit_bias": {},
    "logprobs": False,
    "modalities": ["text"],
    "n": 1,
    "presence_penalty": 0,
    "response_format": {"type": "text"},
    "store": False,
    "suffix": "",
    "tool_choice": "none",
    "tools": [],
}
STOPS = 4  # as OpenAI's
FAULTS = 8  # named in one refusal, at most


def _are_stops(given: Any) -> Any:
    stops = [given] if isinstance(given, str) else given
    if (
        not isinstance(stops, list | tuple)
        or len(stops) > STOPS
        or not all(isinstance(stop, str) and stop for stop in stops)
    ):
        raise ValueError(f"a text, or a list of at most {STOPS} texts, none of them empty")
    return tuple(stops)


def _is_temperature(given: float) -> float:
    if 0 < given < LEAST_TEMPERATURE:
        raise ValueError(f"0, or at least {LEAST_TEMPERATURE:g}")
    return given


class StreamOptions(Section):
    """How an answer is streamed."""

    include_usage: bool = False


class Body(Section):
    """What both requests for an answer share; a field that is null counts as absent."""

    model: str | None = None
    max_tokens: Positive | None = None
    temperature: Annotated[float, Field(ge=0, le=2), AfterValidator(_is_temperature)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[tuple[str, ...], BeforeValidator(_are_stops)] = ()
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @classmethod
    def of(cls, given: Any) -> Self:
        """From the JSON of a request.

        Raises:
            RefusedError: naming the fields that are unknown, not supported or out of range.
        """
        if not isinstance(given, dict):
            raise RefusedError("the body is no JSON object")
        fields = {name: value for name, value in given.items() if value is not None and name not in WITHOUT_EFFECT}
        for name in fields.keys() & NEUTRAL.keys():
            value, allowed = fields.pop(name), NEUTRAL[name]
            if value != allowed or isinstance(value, bool) != isinstance(allowed, bool):  # to Python False is 0
                raise RefusedError(f"{name}: {shown(value)} is not supported; allowed: {shown(allowed)}", param=name)
        for name, field in cls.model_fields.items():
            if field.is_required() and name not in fields:
                raise RefusedError(f"{name}: missing", param=name)
        try:
            body = cls.model_validate(fields)
        except ValidationError as error:
            faults = describe(error, cls, FAULTS)
            raise RefusedError("; ".join(faults), param=faults[0].partition(":")[0]) from None
        if "stream_options" in fields and not body.stream:
            raise RefusedError("stream_options: without an effect unless stream is true", param="stream_options")
        return body

    @property
    def new_tokens(self) -> int | None:
        """Tokens of the answer at most; None: not said."""
        return self.max_tokens

    def settings(self, usual: Generate, new_tokens: int) -> Generate:
        """How the answer is generated: the `usual` settings, unless this says otherwise.

        A temperature above 0 or a top_p below 1 samples, a temperature of 0 doesn't.
        """
        narrows = self.top_p is not None and self.top_p < 1
        do_sample = usual.do_sample or narrows if self.temperature is None else self.temperature > 0
        said = {"temperature": self.temperature or None, "top_p": self.top_p}
        changes = {name: value for name, value in said.items() if do_sample and value is not None}
        return usual.model_copy(update={**changes, "do_sample": do_sample, "max_new_tokens": new_tokens})


class ChatBody(Body):
    """Of /v1/chat/completions."""

    messages: list[Any]
    max_completion_tokens: Positive | None = None

    @property
    def new_tokens(self) -> int | None:
        """Tokens of the answer at most; None: not said."""
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise RefusedError("max_tokens and max_completion_tokens differ; send one of them", param="max_tokens")
        return self.max_completion_tokens or self.max_tokens


class TextBody(Body):
    """Of /v1/completions."""

    prompt: str
