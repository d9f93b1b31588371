"""`imgpro import HOST`: one command for each other image host whose storage can be read."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from imgpro.cli.taking_over import Taking, taking_over

_Command = Callable[..., None]


def _files_option(words: str) -> Callable[[_Command], _Command]:
    kind = click.Path(path_type=Path)
    return click.option("--files", metavar="FOLDER", required=True, type=kind, help=words)


def _database_option(words: str) -> Callable[[_Command], _Command]:
    kind = click.Path(path_type=Path)
    return click.option("--database", "--dump", "database", metavar="FILE", required=True, type=kind, help=words)


_by_mail_option: Final = click.option(
    "--by-mail", is_flag=True, help="Owners are told apart by their mail addresses there, not by their user names."
)


@click.command("zipline")
@_files_option("Zipline's folder of uploads (of S3: a copy of the bucket).")
@_database_option("A plain dump of its database, its JSON export, or its file of SQLite.")
@click.option("--route", metavar="PATH", help="Where its files were; else what the database says, or /u.")
@taking_over(keeps_links=True)
def zipline(files: Path, database: Path, route: str | None, taking: Taking) -> None:
    """Take pictures over from Zipline (2 to 4).

    Example: imgpro import zipline --files /srv/zipline/uploads --database zipline.sql --to ann@example.org
    """
    from imgpro.movers.zipline import Zipline

    taking.run(Zipline(files, database, route))


@click.command("chevereto")
@_files_option("Chevereto's folder images.")
@_database_option("A dump of its database, as mariadb-dump, mysqldump or phpMyAdmin makes it.")
@click.option("--prefix", metavar="TEXT", default="chv_", show_default=True, help="What its tables' names begin with.")
@click.option("--at", metavar="PATH", default="/images", show_default=True, help="Where that folder was served.")
@_by_mail_option
@taking_over(keeps_links=True)
def chevereto(files: Path, database: Path, prefix: str, at: str, *, by_mail: bool, taking: Taking) -> None:
    """Take pictures over from Chevereto (3, 4, Free).

    Example: imgpro import chevereto --files /var/www/html/images --database chevereto.sql --to ann@example.org
    """
    from imgpro.movers.chevereto import Chevereto

    taking.run(Chevereto(files, database, prefix, at, by_mail=by_mail))


@click.command("picsur")
@_database_option("A plain dump of its database, where the pictures are, too.")
@taking_over(keeps_links=True)
def picsur(database: Path, taking: Taking) -> None:
    """Take pictures over from Picsur (0.3 to 0.5).

    Example: imgpro import picsur --database picsur.sql --to ann@example.org
    """
    from imgpro.movers.picsur import Picsur

    taking.run(Picsur(database))


@click.command("xbackbone")
@_files_option("XBackBone's folder storage.")
@_database_option("Its file of SQLite, or a dump of its database in MySQL.")
@_by_mail_option
@taking_over(keeps_links=True)
def xbackbone(files: Path, database: Path, *, by_mail: bool, taking: Taking) -> None:
    """Take pictures over from XBackBone (2, 3).

    Example: imgpro import xbackbone --files storage --database resources/database/xbackbone.db --to ann@example.org
    """
    from imgpro.movers.xbackbone import XBackBone

    taking.run(XBackBone(files, database, by_mail=by_mail))


@click.command("lychee")
@_files_option("Lychee's folder uploads.")
@_database_option("Its file of SQLite, or a dump of its database in MySQL or PostgreSQL.")
@click.option("--at", metavar="PATH", default="/uploads", show_default=True, help="Where that folder was served.")
@_by_mail_option
@taking_over(keeps_links=True)
def lychee(files: Path, database: Path, at: str, *, by_mail: bool, taking: Taking) -> None:
    """Take pictures over from Lychee (4 to 7).

    Example: imgpro import lychee --files public/uploads --database database/database.sqlite --to ann@example.org
    """
    from imgpro.movers.lychee import Lychee

    taking.run(Lychee(files, database, at, by_mail=by_mail))


@click.command("pictshare")
@_files_option("PictShare's folder data (of version 2: upload).")
@taking_over(keeps_links=True)
def pictshare(files: Path, taking: Taking) -> None:
    """Take pictures over from PictShare (2, 3).

    Example: imgpro import pictshare --files /var/www/pictshare/data --to ann@example.org
    """
    from imgpro.movers.pictshare import PictShare

    taking.need_owner()
    taking.run(PictShare(files))


COMMANDS: Final[tuple[click.Command, ...]] = (zipline, chevereto, picsur, xbackbone, lychee, pictshare)
