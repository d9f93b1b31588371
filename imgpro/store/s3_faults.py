"""What an object store's refusal means, in a sentence for whoever set it up. Knows no library; nothing secret gets in.

The texts of libraries and stores hold access keys and signed requests: only codes and names are taken from them.
"""

import re
from typing import Final

from imgpro.errors import Action, TargetFault

_CODE: Final = re.compile(r"<Code>\s*(\w+)\s*</Code>|\(code: (\w+)\)")
_STATUS: Final = re.compile(r"status code: (\d{3})")
_REGION: Final = re.compile(
    r"<Region>\s*([\w-]+)\s*</Region>|expecting '([\w-]+)'|x-amz-bucket-region\W+([\w-]+)", re.IGNORECASE
)
_ELSEWHERE: Final = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_FULL: Final = frozenset(
    {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "EntityTooLarge", "InsufficientCapacity"}
)
_SLOW: Final = frozenset({"SlowDown", "ServiceUnavailable", "RequestLimitExceeded", "Throttling", "TooManyRequests"})
_EXPIRED: Final = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
_TLS: Final = re.compile(
    r"certificate|UnknownIssuer|InvalidContentType|received corrupt message|handshake", re.IGNORECASE
)

# By the code that the store answers with: what is said of it, and what to do. `{store}` is its address.
_BY_CODE: Final = {
    "NoSuchBucket": ("{store} has no bucket {bucket}.", "Make the bucket there, or correct backup.to"),
    "InvalidBucketName": ("{store} does not take {bucket} for the name of a bucket.", "Correct backup.to"),
    "InvalidAccessKeyId": (
        "{store} does not know the access key.",
        "Correct backup.s3_key_id and backup.s3_secret",
    ),
    "SignatureDoesNotMatch": (
        "{store} refuses the signature: the secret is not that of the access key.",
        "Correct backup.s3_secret",
    ),
    "AccessDenied": (
        "{store} does not allow this access key what is needed in bucket {bucket} ({doing}).",
        "Allow the key to list the bucket, and to read, write and delete in it",
    ),
    "RequestTimeTooSkewed": ("{store} refuses requests because the clock of this machine is wrong.", "Set the clock"),
    "InvalidObjectState": (
        "{store} has moved files of bucket {bucket} to an archive that cannot be read at once.",
        "Bring them back there, and take the bucket out of the rule that archives",
    ),
}  # fmt: skip


def fault(text: str, place: str, store: str, doing: str) -> TargetFault:
    """Return the error for what a library wrote about a request.

    `place` is the target as its user wrote it, `store` the address of its server, `doing` what was tried.
    """
    found = _CODE.search(text)
    code = (found[1] or found[2]) if found else ""
    status = _STATUS.search(text)
    words, label = _by_code(code, text) or _by_status(int(status[1]) if status else 0) or _by_connection(text)
    bucket = place.removeprefix("s3://").partition("/")[0]
    what = words.format(store=store, bucket=bucket, doing=doing, code=code or (status[1] if status else ""))
    return TargetFault(what, Action("fix", label=label))


def is_refusal(text: str) -> bool:
    """Tell whether the store refused without a word why, as it does where an answer has no body."""
    return bool(_STATUS.search(text)) and not _CODE.search(text)


def names_no_bucket(text: str) -> bool:
    """Tell whether it is the bucket that is missing, and not what was asked for in it."""
    return "<Code>NoSuchBucket</Code>" in text


def _by_code(code: str, text: str) -> tuple[str, str] | None:
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code in _ELSEWHERE:
        region = next((name for found in [_REGION.search(text)] if found for name in found.groups() if name), "")
        where = f"the region {region}" if region else "another region"
        return (
            f"{{store}} keeps bucket {{bucket}} in {where}.",
            f"Set backup.s3_region{f' to {region}' if region else ''}",
        )
    if code in _FULL:
        return "{store} has no room for more in bucket {bucket} ({code}).", "Make room there, or keep fewer backups"
    if code in _SLOW:
        return "{store} is overloaded ({code}).", "Try again later"
    if code in _EXPIRED:
        return "{store} no longer takes the credentials: they have expired.", "Renew the AWS_* variables"
    return None


def _by_status(status: int) -> tuple[str, str] | None:
    if status in (401, 403):
        return _BY_CODE["AccessDenied"]
    if status in (301, 307, 308):
        return "{store} sends requests elsewhere.", "Set backup.s3_region, or correct backup.s3_endpoint"
    if status == 507:
        return "{store} has no room for more in bucket {bucket}.", "Make room there, or keep fewer backups"
    if status >= 500:
        return "{store} failed while {doing} ({code}).", "Try again later, or look into its log"
    if status:
        return "{store} refused {doing} ({code}).", "Check that backup.s3_endpoint is the address of an S3 store"
    return None


def _by_connection(text: str) -> tuple[str, str]:
    if "ConnectionRefused" in text:
        return "{store} refuses connections: nothing listens there.", "Start the store, or correct backup.s3_endpoint"
    if "dns error" in text:
        return "{store} cannot be found: its name is not known.", "Correct backup.s3_endpoint, or check the network"
    if "TimedOut" in text or "timed out" in text or "Timeout" in text:
        return "{store} did not answer in time ({doing}).", "Check the network, or correct backup.s3_endpoint"
    if "NetworkUnreachable" in text or "HostUnreachable" in text:
        return "{store} cannot be reached from this machine.", "Check the network, or correct backup.s3_endpoint"
    if _TLS.search(text):
        return (
            "{store} shows no certificate that this machine trusts, or speaks no TLS.",
            "Add its authority to the system's certificates (or SSL_CERT_FILE), or correct backup.s3_endpoint",
        )
    return "{store} broke off while {doing}.", "Try again; check the network and the store's log"
