"""`runtime` in params.yaml: what changes no byte that DVC hashes, and is a param of no stage."""

from typing import Annotated, Literal

from pydantic import Field

from softprompt.config.section import Positive, Section


class Runtime(Section):
    """See params.yaml for the meaning of each key."""

    workers: Annotated[int, Field(ge=1, le=1024)]
    save_steps: Positive
    require: bool
    trackers: list[Literal["tensorboard", "wandb", "mlflow", "trackio"]]
