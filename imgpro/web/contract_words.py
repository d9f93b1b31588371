"""What several shapes of the API are made of."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

ImageId = Annotated[str, Meta(pattern="^[0-9A-Za-z]{12}$", description="12 letters and digits.")]
KeyId = Annotated[str, Meta(pattern="^key_[0-9A-Za-z]{6,32}$", description="Names the key in the API; not the secret.")]
Link = Annotated[str, Meta(extra_json_schema={"format": "uri"})]
Positive = Annotated[int, Meta(ge=1)]
Amount = Annotated[int, Meta(ge=0)]
Moment = Annotated[int, Meta(ge=0, description="Unix seconds.")]
Ability = Literal["read", "write", "upload"]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all shapes."""
