"""The settings tree: what can be set, and its default.

Values come from flags, `IMGPRO_*` variables, a TOML file and defaults, in that order; `sources.py` does the reading and
`forms.py` knows how values are written. Each part of the appliance is handed its own section and validates nothing
again. Knows no click.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: frozen, unknown keys refused."""


class Server(_Section, frozen=True):
    """How imgpro listens and what it believes about the network around it."""

    listen: Annotated[
        tuple[str, ...],
        Meta(
            description="Where to listen: `:8080`, `127.0.0.1:8080`, `[::1]:8080`, `https://:8443`, "
            "`unix:/run/imgpro.sock`, `fd:3`. Sockets that systemd hands over come instead."
        ),
    ] = (":8080",)
    tls_cert: Annotated[
        str,
        Meta(
            description="PEM file with certificate and chain. Where no address says https://, all TCP ones speak TLS."
        ),
    ] = ""
    tls_key: Annotated[str, Meta(description="PEM file with its private key. Empty: it is in `tls_cert`.")] = ""
    base_url: Annotated[
        str,
        Meta(description="What links start with, e.g. `https://img.example.org`. Empty: each request's Host."),
    ] = ""
    api_url: Annotated[
        str,
        Meta(description="What links to the API start with, where it has a host of its own. Empty: as `base_url`."),
    ] = ""
    src_url: Annotated[
        str,
        Meta(
            description="What links to pictures start with, where they have a host of their own, which then serves "
            "nothing else and no cookies. Empty: as `base_url`."
        ),
    ] = ""
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="Reverse proxies whose X-Forwarded-* is believed: addresses, networks, or `unix`."),
    ] = ()
    max_connections: Annotated[int, Meta(ge=8, description="Connections open at once, in all.")] = 2000
    max_connections_per_network: Annotated[
        int,
        Meta(
            ge=4,
            description="Connections open at once from one IPv4 address or IPv6 /64 (trusted proxies are not counted).",
        ),
    ] = 256
    idle_deadline_s: Annotated[
        float,
        Meta(
            gt=0,
            description="Longest silence of a connection between requests and within request headers; twice that while "
            "it takes nothing of an answer.",
        ),
    ] = 30.0
    stop_deadline_s: Annotated[float, Meta(gt=0, description="On SIGTERM, how long requests under way may go on.")] = (
        25.0
    )


class Storage(_Section, frozen=True):
    """Where the data lies and how much of the disk stays free."""

    data: Annotated[
        str, Meta(description="The data directory. Empty: `$STATE_DIRECTORY`, else the user's data directory.")
    ] = ""
    database_dir: Annotated[
        str, Meta(description="Directory of the database, for data on a network disk. Empty: the data directory.")
    ] = ""
    reserve_bytes: Annotated[
        int, Meta(ge=0, description="Uploads are refused (507) while less than this is free on the disk.")
    ] = 256 * MIB
    low_bytes: Annotated[
        int, Meta(ge=0, description="The operator is warned while less than this is free on the disk.")
    ] = 2 * GIB


class Uploads(_Section, frozen=True):
    """What one upload may weigh and how long it may take."""

    anonymous_max_bytes: Annotated[int, Meta(ge=1024, description="Largest file without a key.")] = 20 * MIB
    max_bytes: Annotated[int, Meta(ge=1024, description="Largest file with a key.")] = 70 * MIB
    svg_max_bytes: Annotated[int, Meta(ge=1024, description="Largest SVG.")] = 10 * MIB
    max_in_flight: Annotated[int, Meta(ge=1, description="Uploads and imports received at once; more wait.")] = 64
    max_in_flight_per_network: Annotated[
        int, Meta(ge=1, description="The same from one address (IPv6: per /64), so that nobody takes all places.")
    ] = 16
    patience_s: Annotated[
        float, Meta(gt=0, description="How long an upload waits for a place before it is answered 503.")
    ] = 20.0
    chunk_deadline_s: Annotated[float, Meta(gt=0, description="Longest silence within a body.")] = 10.0
    min_rate_bytes: Annotated[
        int, Meta(ge=0, description="Slowest upload, in bytes a second on average, once `chunk_deadline_s` has passed.")
    ] = 10_000
    deadline_s: Annotated[float, Meta(gt=0, description="Longest time for one body.")] = 900.0


class Anonymous(_Section, frozen=True):
    """What callers without a key may do."""

    enabled: Annotated[bool, Meta(description="Take uploads without a key at all.")] = True
    networks: Annotated[
        Literal["any", "private"],
        Meta(description="`private`: only callers with a private or loopback address may upload without a key."),
    ] = "any"
    uploads_per_hour: Annotated[
        int | None, Meta(description="Uploads per address (IPv6: per /64) in any hour, or `unlimited`.")
    ] = 20
    uploads_per_day: Annotated[int | None, Meta(description="The same for any 24 hours, or `unlimited`.")] = 100
    attempts_per_minute: Annotated[
        int | None, Meta(description="Requests to upload per address, successful or not, or `unlimited`.")
    ] = 120
    retention_s: Annotated[int | None, Meta(description="How long pictures are kept, e.g. `30d`, or `unlimited`.")] = (
        30 * 86400
    )
    storage_bytes: Annotated[
        int | None,
        Meta(description="Ceiling for all anonymous pictures together, or `unlimited`; beyond it uploads get 507."),
    ] = 50 * GIB


class Accounts(_Section, frozen=True):
    """Who may have an account and how many keys."""

    registration: Annotated[
        Literal["open", "invitation", "closed"],
        Meta(description="Who may create an account: anybody, people with an invitation, or nobody."),
    ] = "open"
    unverified_keys: Annotated[
        int, Meta(ge=1, description="Keys an account may have before its address is verified.")
    ] = 3
    keys: Annotated[int, Meta(ge=1, description="Keys a verified account may have.")] = 100
    keys_per_address_per_hour: Annotated[
        int | None, Meta(description="Requests for a key per mail address in an hour, or `unlimited`.")
    ] = 5
    keys_per_network_per_hour: Annotated[
        int | None, Meta(description="Requests for a key per network address in an hour, or `unlimited`.")
    ] = 20
    verify_link_s: Annotated[int, Meta(ge=300, description="How long the link in a verification mail works.")] = 86400
    session_s: Annotated[int, Meta(ge=300, description="How long a browser stays signed in after its last visit.")] = (
        30 * 86400
    )
    requests_per_minute: Annotated[
        int | None, Meta(description="Uploads and imports with a key per account in a minute, or `unlimited`.")
    ] = 600


class Plans(_Section, frozen=True):
    """What each plan allows. A box at home sets `unlimited = true`."""

    unlimited: Annotated[bool, Meta(description="No plan has any limit: for a box at home or a team.")] = False
    upgrade: Annotated[
        Literal["approve", "self_service", "checkout"],
        Meta(
            description="What an upgrade link does: ask the operator, upgrade at once, or lead to `checkout_url`, "
            "whose signed return upgrades."
        ),
    ] = "approve"
    checkout_url: Annotated[
        str,
        Meta(description="Where upgrades are paid; `{account}`, `{email}`, `{plan}`, `{return_url}` are filled in."),
    ] = ""
    checkout_secret: Annotated[
        str, Meta(description="Secret that the checkout signs its returns with (HMAC-SHA256).")
    ] = ""
    unverified_uploads: Annotated[
        int | None, Meta(description="Uploads a month before the address is verified, or `unlimited`.")
    ] = 100
    unverified_storage_bytes: Annotated[
        int | None, Meta(description="Storage before the address is verified, or `unlimited`.")
    ] = 5 * GIB
    unverified_retention_s: Annotated[
        int | None, Meta(description="How long pictures are kept before the address is verified, or `unlimited`.")
    ] = 30 * 86400
    free_uploads: Annotated[int | None, Meta(description="Uploads a month on the plan `free`, or `unlimited`.")] = 100
    free_storage_bytes: Annotated[int | None, Meta(description="Storage on the plan `free`, or `unlimited`.")] = 5 * GIB
    pro_uploads: Annotated[int | None, Meta(description="Uploads a month on the plan `pro`, or `unlimited`.")] = 1_000
    pro_storage_bytes: Annotated[int | None, Meta(description="Storage on the plan `pro`, or `unlimited`.")] = 50 * GIB
    pro_price: Annotated[str, Meta(description="Price shown for the plan `pro`; empty: none is shown.")] = "$10/mo"
    scale_uploads: Annotated[int | None, Meta(description="Uploads a month on the plan `scale`, or `unlimited`.")] = (
        10_000
    )
    scale_storage_bytes: Annotated[int | None, Meta(description="Storage on the plan `scale`, or `unlimited`.")] = (
        500 * GIB
    )
    scale_price: Annotated[str, Meta(description="Price shown for the plan `scale`; empty: none is shown.")] = "$49/mo"
    max_uploads: Annotated[int | None, Meta(description="Uploads a month on the plan `max`, or `unlimited`.")] = 100_000
    max_storage_bytes: Annotated[int | None, Meta(description="Storage on the plan `max`, or `unlimited`.")] = (
        5 * 1024 * GIB
    )
    max_price: Annotated[str, Meta(description="Price shown for the plan `max`; empty: none is shown.")] = "$299/mo"


class Mail(_Section, frozen=True):
    """The mail server that sends links. Without one they are logged and shown by `imgpro accounts list`."""

    host: Annotated[str, Meta(description="SMTP server. Empty: no mail is sent.")] = ""
    port: Annotated[int, Meta(ge=0, le=65535, description="Its port; 0: 587, 465 or 25 by `security`.")] = 0
    security: Annotated[
        Literal["starttls", "tls", "none"],
        Meta(description="How the connection is protected; with `starttls` mail is never sent in the clear."),
    ] = "starttls"
    username: Annotated[str, Meta(description="Name to log in with. Empty: no login.")] = ""
    password: Annotated[
        str, Meta(description="Password to log in with; better in a file named by IMGPRO_MAIL_PASSWORD_FILE.")
    ] = ""
    sender: Annotated[str, Meta(description="Address that mail comes from. Empty: imgpro@ and the host's name.")] = ""
    ca_file: Annotated[
        str,
        Meta(description="PEM file with the authority that signed the mail server's certificate. Empty: the system's."),
    ] = ""
    timeout_s: Annotated[float, Meta(gt=0, description="Longest time for sending one mail.")] = 30.0


class Imports(_Section, frozen=True):
    """Fetching pictures from other servers."""

    enabled: Annotated[bool, Meta(description="Offer `POST /v1/import`.")] = True
    private_networks: Annotated[
        tuple[str, ...],
        Meta(description="Private networks that may be fetched from, e.g. `192.168.1.0/24`. Empty: none."),
    ] = ()
    ports: Annotated[tuple[int, ...], Meta(description="Ports that may be fetched from.")] = (80, 443)
    deadline_s: Annotated[float, Meta(gt=0, description="Longest time for one import, redirects included.")] = 30.0
    per_hour: Annotated[int | None, Meta(description="Import attempts per address in an hour, or `unlimited`.")] = 60


class Backup(_Section, frozen=True):
    """Copies of database and pictures, from which everything can be had again."""

    to: Annotated[
        str,
        Meta(
            description="Where they go: a directory, best on another disk, or `s3://bucket/folder`. Empty: "
            "`backups/repository/` in the data directory, which helps against mistakes and not against a broken disk."
        ),
    ] = ""
    daily: Annotated[bool, Meta(description="Make one every day.")] = True
    at: Annotated[str, Meta(description="When, as hour and minute of local time, e.g. `03:30`.")] = "03:30"
    keep: Annotated[int, Meta(ge=1, description="How many are kept; older ones go after each new one.")] = 7
    verify_s: Annotated[
        int | None,
        Meta(description="How often the newest is restored to try it out, e.g. `30d`; `unlimited`: never."),
    ] = 30 * 86400
    s3_endpoint: Annotated[
        str, Meta(description="Address of the object store, e.g. `https://s3.example.org`. Empty: Amazon's.")
    ] = ""
    s3_region: Annotated[str, Meta(description="Its region, where it has some.")] = "us-east-1"
    s3_key_id: Annotated[str, Meta(description="Its access key. Empty: as the AWS_* variables say.")] = ""
    s3_secret: Annotated[str, Meta(description="The secret of that key.")] = ""


class Scrub(_Section, frozen=True):
    """Reading all originals again, to find bytes that the disk has changed."""

    every_s: Annotated[
        int | None, Meta(description="How long one round takes, e.g. `30d`, or `unlimited`: never by itself.")
    ] = 30 * 86400
    max_rate_bytes: Annotated[
        int, Meta(ge=1024, description="Most bytes read a second, so that visitors do not notice.")
    ] = 20 * MIB


class Imaging(_Section, frozen=True):
    """The worker processes that decode and transform."""

    workers: Annotated[int, Meta(ge=0, description="Worker processes; 0: one per core.")] = 0
    worker_memory_bytes: Annotated[int, Meta(ge=256 * MIB, description="Address space one worker may use.")] = 2 * GIB
    deadline_s: Annotated[float, Meta(gt=0, description="Longest time for one picture; then the worker is killed.")] = (
        12.0
    )
    max_queued: Annotated[int, Meta(ge=1, description="Jobs that may wait; more are answered 503.")] = 64
    max_pixels: Annotated[int, Meta(ge=1, description="Most pixels in one picture.")] = 50_000_000
    max_side_px: Annotated[int, Meta(ge=1, description="Longest side of a picture.")] = 20_000
    max_frames: Annotated[int, Meta(ge=1, description="Most frames in an animation.")] = 1_000
    max_frame_pixels: Annotated[int, Meta(ge=1, description="Most pixels in all frames of an animation together.")] = (
        500_000_000
    )
    svg: Annotated[bool, Meta(description="Accept SVG (sanitised, never rendered here).")] = True
    heic: Annotated[bool, Meta(description="Accept HEIC.")] = True


class Cache(_Section, frozen=True):
    """Derivatives on disk, hot pictures and records in memory."""

    max_bytes: Annotated[int, Meta(ge=0, description="Bytes of derivatives kept on disk; 0 keeps none.")] = 5 * GIB
    memory_bytes: Annotated[int, Meta(ge=0, description="Bytes of hot pictures kept in memory; 0 keeps none.")] = (
        32 * MIB
    )
    memory_item_bytes: Annotated[int, Meta(ge=0, description="Largest picture kept in memory.")] = 512 * 1024
    records: Annotated[int, Meta(ge=0, description="Image records kept in memory.")] = 10_000


class Pages(_Section, frozen=True):
    """What people and crawlers see."""

    site_name: Annotated[str, Meta(description="Name shown on pages and in link previews.")] = "imgpro"
    indexing: Annotated[bool, Meta(description="Let search engines index viewer pages.")] = False


class HeaderSignIn(_Section, frozen=True):
    """Signing in by what a proxy in front says of the visitor (Authelia, Authentik, Tailscale)."""

    user_header: Annotated[
        str,
        Meta(
            description="Header that holds the visitor's mail address, e.g. `Remote-Email` or `Tailscale-User-Login`. "
            "Empty: off."
        ),
    ] = ""
    proxies: Annotated[
        tuple[str, ...],
        Meta(description="Proxies believed in this: addresses, networks, or `unix`. From others it is ignored."),
    ] = ()
    create: Annotated[bool, Meta(description="Make an account for a visitor who has none.")] = False
    groups_header: Annotated[
        str, Meta(description="Header that lists the visitor's groups, split by comma or `|`. Empty: not looked at.")
    ] = ""
    operator_group: Annotated[
        str, Meta(description="Members of this group are the operator here. Empty: nobody by group.")
    ] = ""


class Metrics(_Section, frozen=True):
    """Numbers for Prometheus at `/metrics`."""

    enabled: Annotated[bool, Meta(description="Answer at `/metrics`.")] = False
    networks: Annotated[
        tuple[str, ...],
        Meta(description="Who may read them: addresses, networks, or `unix`; others get 404."),
    ] = ("127.0.0.0/8", "::1")
    listen: Annotated[
        str,
        Meta(description="An address for them alone, e.g. `127.0.0.1:9091`. Empty: the same as everything else."),
    ] = ""


class Log(_Section, frozen=True):
    """What is written to standard error."""

    format: Annotated[
        Literal["auto", "text", "json"],
        Meta(description="`auto`: text on a terminal and in the journal, JSON otherwise."),
    ] = "auto"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least severe message written.")
    ] = "info"
    access: Annotated[bool, Meta(description="Write one line per request.")] = True


class Settings(_Section, frozen=True):
    """All of it. A section is a TOML table; a field is `IMGPRO_<SECTION>_<FIELD>` in the environment."""

    server: Server = Server()
    storage: Storage = Storage()
    uploads: Uploads = Uploads()
    anonymous: Anonymous = Anonymous()
    accounts: Accounts = Accounts()
    plans: Plans = Plans()
    mail: Mail = Mail()
    imports: Imports = Imports()
    backup: Backup = Backup()
    scrub: Scrub = Scrub()
    imaging: Imaging = Imaging()
    cache: Cache = Cache()
    pages: Pages = Pages()
    header_sign_in: HeaderSignIn = HeaderSignIn()
    metrics: Metrics = Metrics()
    log: Log = Log()
