"""Every failure a user can meet: one class each, with its HTTP status, its code and its exit code.

    ImgproError                      500 server_error        exit 1
    +- BadRequest                    400 bad_request
    +- Unauthorized                  401 unauthorized
    +- Forbidden                     403 forbidden
    +- QuotaExceeded                 403 quota_exceeded
    +- KeyLimitReached               403 key_limit_reached
    +- RegistrationClosed            403 registration_closed
    +- NotFound                      404 not_found
    +- MethodNotAllowed              405 method_not_allowed
    +- RequestTimeout                408 request_timeout
    +- IdempotencyKeyConflict        409 idempotency_key_conflict
    +- IdempotencyKeyInProgress      409 idempotency_key_in_progress
    +- FileTooLarge                  413 file_too_large
    +- UnsupportedFormat             415 unsupported_format
    +- RangeNotSatisfiable           416 range_not_satisfiable
    +- ValidationError               422 validation_error
    +- ImageBroken                   422 image_broken
    +- ImageTooLarge                 422 image_too_large
    +- RateLimited                   429 rate_limited
    +- FetchFailed                   502 fetch_failed
    |  +- FetchTimedOut              504 fetch_failed
    +- Busy                          503 busy
    +- StorageFull                   507 storage_full        exit 74
    +- OperatorError                 (never over HTTP)
       +- DataDirMissing             exit 10
       +- DataDirLocked              exit 11
       +- DataUnusable               exit 65
       +- SourceUnusable             exit 1
       +- ServerUnreachable          exit 69
       +- StorageFault               exit 74
       |  +- StorageUnwritable       507 storage_full        exit 74
       +- WorkersUnusable            exit 1
       +- ConfigError                exit 78

Knows nothing of HTTP libraries, SQL or pictures. Arguments are positional, because an exception with
keyword-only arguments cannot be unpickled.
"""

from typing import Literal

import msgspec

ActionType = Literal["upgrade", "verify", "wait", "redirect", "fix"]


class Action(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the caller can do about an error. `seconds` goes with `wait`, `url` with the links.

    An `url` that starts with a slash is completed with the server's own address when the answer is written.
    """

    type: ActionType
    url: str | None = None
    label: str | None = None
    seconds: int | None = None


class ImgproError(Exception):
    """Base of all errors that imgpro raises on purpose.

    `message` is a sentence for a person, `action` says what to do next, `details` maps a field name to a
    sentence about it.
    """

    status: int = 500
    code: str = "server_error"
    exit_code: int = 1
    message: str = "Something went wrong on this server."
    action: Action = Action("wait", label="Try again in a moment", seconds=10)
    usage: object = None  # a model.Usage, with errors about a plan's limits

    def __init__(
        self,
        message: str | None = None,
        action: Action | None = None,
        details: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message, action, details)
        if message is not None:
            self.message = message
        if action is not None:
            self.action = action
        self.details = details or {}

    def __str__(self) -> str:
        return self.message


class BadRequest(ImgproError):
    """The request itself is malformed: it could not be read as HTTP, multipart or JSON."""

    status = 400
    code = "bad_request"
    message = "The request could not be understood."
    action = Action("fix", label="Send a well-formed request")


class Unauthorized(ImgproError):
    """A credential was sent and is not valid here."""

    status = 401
    code = "unauthorized"
    message = "The API key is not valid."
    action = Action("fix", label="Send a valid key as Authorization: Bearer, or none to upload anonymously")


class Forbidden(ImgproError):
    """The caller is known and may not do this."""

    status = 403
    code = "forbidden"
    message = "This is not allowed."
    action = Action("fix", label="Use a link or key that allows this")


class QuotaExceeded(ImgproError):
    """The plan's uploads of this month or its storage are used up; `usage` says how far."""

    code = "quota_exceeded"
    status = 403
    message = "The plan of this account does not allow this."
    action = Action("redirect", url="/dashboard", label="Open the dashboard")


class KeyLimitReached(ImgproError):
    """The account has as many keys as it may have."""

    code = "key_limit_reached"
    status = 403
    message = "This account has as many keys as it may have before its address is verified."
    action = Action("verify", url="/dashboard", label="Verify the address by its link, or ask the operator")


class RegistrationClosed(ImgproError):
    """The operator does not take new accounts, or only with an invitation."""

    code = "registration_closed"
    status = 403
    message = "This server takes no new accounts."
    action = Action("redirect", url="/dashboard", label="Ask the operator of this server")


class NotFound(ImgproError):
    """Nothing here: deleted, expired, private and never-was look the same."""

    status = 404
    code = "not_found"
    message = "There is nothing at this address."
    action = Action("fix", label="Check the link; the picture may have expired or been deleted")


class MethodNotAllowed(ImgproError):
    """The path exists, the method does not. `allow` lists the methods that do."""

    status = 405
    code = "method_not_allowed"
    message = "This address does not support that method."
    action = Action("fix", label="Use one of the methods in the Allow header")


class RequestTimeout(ImgproError):
    """The body came too slowly."""

    status = 408
    code = "request_timeout"
    message = "The upload was too slow and was given up."
    action = Action("fix", label="Send the file again over a faster connection")


class IdempotencyKeyConflict(ImgproError):
    """The same Idempotency-Key came with another request within a day."""

    status = 409
    code = "idempotency_key_conflict"
    message = "This Idempotency-Key was used for another request."
    action = Action("fix", label="Use a new Idempotency-Key for a new request")


class IdempotencyKeyInProgress(ImgproError):
    """The first request with this Idempotency-Key has not ended yet."""

    status = 409
    code = "idempotency_key_in_progress"
    message = "A request with this Idempotency-Key is still under way."
    action = Action("wait", label="Try again in a moment", seconds=2)


class FileTooLarge(ImgproError):
    """More bytes than this caller may send."""

    status = 413
    code = "file_too_large"
    message = "The file is too large."
    action = Action("fix", label="Send a smaller file")


class UnsupportedFormat(ImgproError):
    """The bytes are not a picture of a kind that imgpro takes, whatever their name says."""

    status = 415
    code = "unsupported_format"
    message = "This is not a picture format that is accepted here."
    action = Action("fix", label="Send JPEG, PNG, GIF, WebP, AVIF, HEIC, SVG, BMP or ICO")


class RangeNotSatisfiable(ImgproError):
    """A byte range that lies wholly outside the picture."""

    status = 416
    code = "range_not_satisfiable"
    message = "The requested range is outside the file."
    size_bytes: int | None = None  # of the file
    action = Action("fix", label="Ask for a range inside the file, or for all of it")


class ValidationError(ImgproError):
    """A field has a value that is not allowed; `details` names each of them.

    `why` tells more, where only the operator may know; it is never part of an answer.
    """

    why: str = ""
    status = 422
    code = "validation_error"
    message = "Some fields are not valid."
    action = Action("fix", label="Correct the fields named in details")


class ImageBroken(ImgproError):
    """The container or the pixels are damaged or end too early."""

    status = 422
    code = "image_broken"
    message = "The picture is damaged and cannot be displayed."
    action = Action("fix", label="Save the picture again and send the new file")


class ImageTooLarge(ImgproError):
    """Too many pixels, frames, scans or chunks to decode safely, or too large for the wanted format."""

    status = 422
    code = "image_too_large"
    message = "The picture is too large to be processed."
    action = Action("fix", label="Send a picture with fewer pixels or frames")


class RateLimited(ImgproError):
    """Too many requests; `action.seconds` says when the next one is welcome."""

    status = 429
    code = "rate_limited"
    message = "Too many uploads from this address."
    action = Action("wait", label="Wait, or use an API key", seconds=60)


class FetchFailed(ImgproError):
    """The other server gave nothing usable for an import. `answered` is its status, `wait_s` what it asks to wait."""

    answered: int = 0
    wait_s: int = 0
    status = 502
    code = "fetch_failed"
    message = "The address did not answer with a picture."
    action = Action("fix", label="Check that the address opens as a picture in a browser")


class FetchTimedOut(FetchFailed):
    """The other server was too slow."""

    status = 504
    message = "The address took too long to answer."
    action = Action("wait", label="Try again later", seconds=60)


class Busy(ImgproError):
    """A queue is full; nothing was lost and the same request will work later."""

    status = 503
    code = "busy"
    message = "The server is busy."
    action = Action("wait", label="Try again in a moment", seconds=2)


class StorageFull(ImgproError):
    """No room for new pictures. Reading and deleting go on."""

    status = 507
    code = "storage_full"
    exit_code = 74
    message = "This server has no room for more pictures."
    action = Action("wait", label="Try again later, or ask the operator to make room", seconds=3600)


class ImageDamaged(ImgproError):
    """The disk has changed the original, or lost it; its bytes are not served. A backup may still have them."""

    status = 503
    code = "image_damaged"
    message = "This picture was damaged on the server's disk."
    action = Action("wait", label="Ask the operator to restore it from a backup", seconds=3600)


class OperatorError(ImgproError):
    """Met on the command line only; `fix` is the line printed after `Try:`."""


class DataDirMissing(OperatorError):
    """The data directory is not there, is not ours, or is unexpectedly empty."""

    exit_code = 10


class DataDirLocked(OperatorError):
    """Another server works on this data directory."""

    exit_code = 11


class DataUnusable(OperatorError):
    """The data was written by a newer imgpro, by another program, or is damaged."""

    exit_code = 65


class DoneInPart(OperatorError):
    """Some of it could not be done, and was named."""

    exit_code = 3


class BackupUnusable(OperatorError):
    """A backup is not there, incomplete, damaged, or of another server."""

    exit_code = 65


class TargetFault(OperatorError):
    """Where backups go could not be reached, read or written."""

    exit_code = 74


class SourceUnusable(OperatorError):
    """What pictures are to be taken over from is not there, or is not what it should be."""


class ServerUnreachable(OperatorError):
    """No server answered."""

    exit_code = 69


class StorageFault(OperatorError):
    """The disk refused to do what durability needs."""

    exit_code = 74


class StorageUnwritable(StorageFault):
    """The disk is read-only, or the data directory another user's: nothing new is taken, reading goes on."""

    status = 507
    code = "storage_full"
    message = "This server cannot store anything at the moment: its disk is read-only."
    action = Action("wait", label="Try again later, or ask the operator to make the disk writable", seconds=60)


class WorkersUnusable(OperatorError):
    """The processes that decode pictures cannot be started."""

    message = "The worker processes cannot be started."
    action = Action("fix", label="`imgpro doctor`, and more memory or processes for this service")


class ConfigError(OperatorError):
    """A setting is wrong; the message names it, its value and the form it should have."""

    exit_code = 78


def by_code(code: str, message: str) -> ImgproError:
    """Build the error that `code` names, as it arrives from a worker process."""
    for kind in (UnsupportedFormat, ImageBroken, ImageTooLarge, FileTooLarge, Busy, StorageFull):
        if kind.code == code:
            return kind(message or None)
    return ImgproError(message or None)
