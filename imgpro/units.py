"""The units and files that make imgpro a service of systemd, as text.

Pure: what is written where, and by whom, is not known here. `systemd/` in the repository holds the same texts.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

PROGRAM: Final = "/usr/local/bin/imgpro"
USER: Final = "imgpro"
SERVICE: Final = "imgpro.service"
SOCKET: Final = "imgpro.socket"
STATE_DIRECTORY: Final = "/var/lib/imgpro"
PORT: Final = 8080
# Below these a service with ProtectHome= sees nothing.
_HOMES: Final = ("/home", "/root", "/run/user")

_SERVICE_TEXT: Final = """\
# The image host imgpro as a service. `imgpro service install` writes it; changes belong into drop-ins
# (`systemctl edit imgpro`). Written for systemd 247 (Debian 11) and later. An older one says in its log which lines it
# does not know and goes on without them; the numbers below tell which version a line needs.

[Unit]
Description=imgpro image host
After=network.target local-fs.target remote-fs.target
# More than RestartSec= lets through: after a crash it is always started again.
StartLimitIntervalSec=60
StartLimitBurst=20

[Service]
# The one-file executable is a loader and, as its child, the server; the child speaks for both.
Type=notify
NotifyAccess=all
User={user}
Group={user}
# A reverse proxy in group {user} may read pictures and sockets. Others read nothing.
UMask=0027
ExecStart={command} run
# /bin/kill is in no essential package.
ExecReload=/bin/sh -c "kill -HUP $MAINPID"
# The loader passes SIGTERM on; sent to all it would arrive twice, and twice means at once.
KillMode=mixed
# Both grow by what the server asks for: while it migrates a database, and by server.stop_deadline_s.
TimeoutStartSec=90s
TimeoutStopSec=45s
# 243. For a process that not even SIGABRT wakes.
TimeoutAbortSec=10s
# The sign of life follows a write to the database.
WatchdogSec=60s
Restart=on-failure
RestartSec=3s
# Usage, data of a newer version or damaged, bad settings: no better the next time.
RestartPreventExitStatus=2 65 78
# 243. A worker that takes too much memory is one failed picture.
OOMPolicy=continue
LimitNOFILE=65536
LimitCORE=0
TasksMax=2048
SyslogIdentifier=imgpro

# Its own places; each is told to the server by a variable, which settings outrank.
ConfigurationDirectory=imgpro
StateDirectory=imgpro
StateDirectoryMode=0750
CacheDirectory=imgpro
CacheDirectoryMode=0700
RuntimeDirectory=imgpro
RuntimeDirectoryMode=0755
# The one file unpacks itself here: /tmp may be in memory or forbid programs, /run forbids them on Debian.
Environment=TMPDIR=/var/cache/imgpro
EnvironmentFile=-/etc/imgpro/imgpro.env

# What it may do. Its workers confine themselves further, by Landlock and a filter of their own.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateUsers=yes
PrivateMounts=yes
# 248
PrivateIPC=yes
RemoveIPC=yes
KeyringMode=private
# 247, both
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectHostname=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
# Netlink tells the addresses of this machine, for the banner and the operator's page.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources io_uring_setup io_uring_enter io_uring_register
# The workers' own sandbox, which @system-service of 252 lacks, and the lower priority of all but the server itself,
# which answers first.
SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self setpriority
SystemCallFilter=sched_setscheduler sched_setaffinity ioprio_set
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""

_SOCKET_TEXT: Final = """\
# Holds imgpro's address while the service restarts: connections wait, none is refused. Where this unit is enabled its
# addresses come instead of server.listen, ports below 1024 among them.

[Unit]
Description=imgpro image host, its address

[Socket]
ListenStream={port}
BindIPv6Only=both
# An address of this machine that comes later, by DHCP.
FreeBind=yes
Backlog=1024
# Where the service cannot start, a waiting connection would start it again and again.
TriggerLimitIntervalSec=60
TriggerLimitBurst=5

[Install]
WantedBy=sockets.target {service}
"""

_SYSUSERS_TEXT: Final = """\
# The user whose pictures they are. Read by systemd-sysusers.
u {user} - "imgpro image host" {state}
"""


def service(command: Sequence[str] = (PROGRAM,)) -> str:
    """Return the service unit; `command` are the words that start imgpro, the first an absolute path."""
    return _SERVICE_TEXT.format(command=" ".join(_word(part).replace("$", "$$") for part in command), user=USER)


def socket() -> str:
    """Return the socket unit."""
    return _SOCKET_TEXT.format(port=PORT, service=SERVICE)


def sysusers() -> str:
    """Return what makes the user, in the form of sysusers.d(5)."""
    return _SYSUSERS_TEXT.format(user=USER, state=STATE_DIRECTORY)


def service_drop_in(
    data: PurePosixPath,
    database_dir: PurePosixPath | None = None,
    listen: Sequence[str] = (),
    *,
    program: PurePosixPath | None = None,
    backups: PurePosixPath | None = None,
    choice: str = "",
) -> str:
    """Return what one machine adds to the service: where its data is, and `server.listen` where no socket unit says it.

    A directory whose disk is not mounted stops the start, but for that of `backups`. `choice`: the options that led to
    this, for the record.
    """
    places = [data] if database_dir is None or database_dir.is_relative_to(data) else [data, database_dir]
    words = " ".join(_word(str(place)) for place in places)
    line = f"imgpro service install {choice}".rstrip()
    lines = [f"# Written by `{line}`; the next one writes it anew.", "[Unit]"]
    lines += [f"RequiresMountsFor={words}", "", "[Service]", f"Environment={_word(f'IMGPRO_DATA={data}')}"]
    if listen:
        lines.append(f"Environment={_word('IMGPRO_LISTEN=' + ','.join(listen))}")
    if backups is not None and not backups.is_relative_to(data):
        places.append(backups)
    homes = [place for place in places if is_in_a_home(place)]
    if program is not None and is_in_a_home(program):
        lines += ["# The program is in a home directory.", "ProtectHome=read-only"]
    elif homes:
        lines.append("# Of the home directories it sees these alone.")
        lines += ["ProtectHome=tmpfs", *(f"BindPaths={_word(f'-{place}')}" for place in homes)]
    # What is missing is for imgpro to tell: systemd would fail with words that nobody understands.
    lines.append("ReadWritePaths=" + " ".join(_word(f"-{place}") for place in places))
    return "\n".join(lines) + "\n"


def socket_drop_in(addresses: Sequence[str], *, tls: bool) -> str:
    """Return what one machine adds to the socket unit: its addresses in systemd's form instead of port 8080.

    `tls`: they speak TLS with the server's own certificate.
    """
    lines = ["# Written by `imgpro service install`; the next one writes it anew.", "[Socket]", "ListenStream="]
    lines += [f"ListenStream={address.replace('%', '%%')}" for address in addresses]
    if any(address.startswith("/") for address in addresses):
        lines += [f"SocketUser={USER}", f"SocketGroup={USER}", "SocketMode=0660"]
    if tls:
        lines.append("FileDescriptorName=https")
    return "\n".join(lines) + "\n"


def is_in_a_home(path: PurePosixPath) -> bool:
    """Tell whether the service, as it is written, does not see a path."""
    return any(path.is_relative_to(home) for home in _HOMES)


def _word(text: str) -> str:
    """Return one word of a unit file, quoted where it needs it (systemd.syntax(7))."""
    text = text.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if set(text) & set(" \t;'\\\"") else text
