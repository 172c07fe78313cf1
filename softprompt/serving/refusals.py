"""A request that is not answered, in OpenAI's form of an error."""

from typing import Any

INVALID, INTERNAL = "invalid_request_error", "server_error"


class RefusedError(Exception):
    """What a client asked and does not get.

    Args:
        message: what was wrong and what is allowed.
        status: of HTTP.
        param: the field at fault.
        code: OpenAI's name of the fault, where it has one.
    """

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the response."""
        return error_body(str(self), INVALID if self.status < 500 else INTERNAL, self.param, self.code)


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The JSON of an error of a `kind`."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
