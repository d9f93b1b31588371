"""What is said of a picture there becomes what is said of it here; what cannot come is told why."""

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from imgpro.cli.pictures import shown
from imgpro.cli.taking_over import Taking
from imgpro.errors import Action, OperatorError
from imgpro.flows.bring_in import Incoming
from imgpro.flows.email_address import parse_email
from imgpro.flows.fitting import fit_album, fit_date, fit_description, fit_name, fit_removed, fit_tags
from imgpro.flows.old_links import as_kept
from imgpro.flows.options import parse_namespace
from imgpro.model import OldLink
from imgpro.movers.found import Found, LeftOut

Ask = Callable[[str, Mapping[str, Any]], dict[str, Any]]

_SHOWN_CHARS: Final = 100
_NOT_HERE: Final = "There is no account"


class Fitted(msgspec.Struct, frozen=True):
    """A picture ready to be sent, what it was, and sentences about what had to be changed."""

    found: Found
    incoming: Incoming
    notes: tuple[str, ...]


class Judge:
    """Applies the options of one import."""

    def __init__(self, source: str, taking: Taking, ask: Ask) -> None:
        self._source = source
        self._taking = taking
        self._ask = ask
        self._to = _email(taking.to, "--to") if taking.to else None
        self._owners = {owner: _email(email, "--map") for owner, email in taking.owners.items()}
        self._namespace = _namespace(taking.namespace)
        notes: list[str] = []
        self._tags = fit_tags(taking.tags, notes)
        if notes:
            raise OperatorError(f"--tag: {' '.join(notes)}")

    def check_accounts(self) -> None:
        """Make the accounts that are named, if that is wanted. Raises OperatorError for one that is not there."""
        emails = list(dict.fromkeys([*([self._to] if self._to else []), *self._owners.values()]))
        if not emails:
            return
        asked = [{"item": email, "account": email} for email in emails]
        rows = self._ask("bring-in-look", {"source": self._source, "items": asked})["items"]
        for email, row in zip(emails, rows, strict=True):
            if row["problem"] and not self.settle(email, row["problem"]):
                raise OperatorError(row["problem"], Action("fix", label="--add-accounts to have it made"))

    def settle(self, email: str, problem: str) -> bool:
        """Do away with what stands against an account, if that is wanted; return whether nothing does any more."""
        if not (self._taking.add_accounts and problem.startswith(_NOT_HERE)):
            return False
        if not self._taking.dry_run:
            self._ask("bring-in-accounts", {"emails": [email]})
        return True

    def fit(self, found: Found) -> Fitted | LeftOut:
        """Return what is to be sent, or why it is not."""
        owner = self._owner(found.owner)
        if isinstance(owner, LeftOut):
            return LeftOut(found.item, owner.reason)
        notes = [found.note] if found.note else []
        name = found.name or (shown(os.path.basename(found.path)) if found.path else "")
        namespace, tags = fit_album("" if self._namespace else found.namespace, (*self._tags, *found.tags), notes)
        namespace = self._namespace or namespace
        if owner is None and (namespace or tags):
            notes.append("Nobody's pictures have no namespace and no tags.")
            namespace, tags = None, ()
        return Fitted(
            found,
            Incoming(
                source=self._source,
                item=found.item,
                account=owner,
                url=found.url,
                name=fit_name(name, notes) if name else "",
                created_ms=found.created_ms,
                wanted_end_ms=found.expires_ms,
                description=fit_description(found.description, notes),
                public=found.public if self._taking.private is None else not self._taking.private,
                display_date=fit_date(found.display_date, notes),
                namespace=namespace,
                tags=tags,
                old_links=self._links(found.old_links, notes),
                id=found.id,
                origin=found.origin,
                metadata_removed=fit_removed(found.metadata_removed, notes),
            ),
            tuple(notes),
        )

    def _owner(self, there: str) -> str | LeftOut | None:
        """Return the mail address of the account that a picture of this owner goes to, None for nobody's."""
        taking = self._taking
        if there in self._owners:
            return self._owners[there]
        if taking.nobody or self._to:
            return self._to
        if not there:
            return None
        try:
            return parse_email(there)
        except ValueError:
            who = there if len(there) <= _SHOWN_CHARS else f"{there[:_SHOWN_CHARS]}…"
            return LeftOut(there, f"It is {who}'s there; --map {who}=EMAIL, or --to EMAIL, says whose it is here.")

    def _links(self, links: tuple[OldLink, ...], notes: list[str]) -> tuple[OldLink, ...]:
        if not self._taking.keep_links:
            return ()
        kept: dict[str, OldLink] = {}
        for link in links:
            path = as_kept(link.path)
            if path is None:
                notes.append(f"{link.path[:80]} is not a path that can be kept.")
            else:
                kept.setdefault(path, OldLink(path, link.leads_to))
        return tuple(kept.values())


def with_way_out(problem: str) -> str:
    """Return what stands against an account, and what does away with it."""
    return f"{problem} --add-accounts makes it." if problem.startswith(_NOT_HERE) else problem


def _email(text: str, option: str) -> str:
    try:
        return parse_email(text)
    except ValueError as problem:
        raise OperatorError(f"{option}: {problem}") from None


def _namespace(text: str | None) -> str | None:
    try:
        return parse_namespace(text)
    except ValueError as problem:
        raise OperatorError(f"--namespace: {problem}") from None
