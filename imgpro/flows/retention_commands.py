"""The operator's commands about retention rules: plain data in and out, as `Operate.perform` hands it on."""

from typing import Any

from imgpro.errors import ValidationError
from imgpro.flows.errands import Values
from imgpro.flows.home import Home
from imgpro.flows.operate import Operate
from imgpro.flows.retention import PAGE, Retention, describe
from imgpro.store.queries_retention import START, Match, Place, Rule


class RetentionCommands:
    """Makes itself known to `operate`."""

    def __init__(self, retention: Retention, home: Home, operate: Operate) -> None:
        self._retention = retention
        self._home = home
        operate.offer("retention-list", self._list)
        operate.offer("retention-rehearse", self._rehearse)
        operate.offer("retention-page", self._page)
        operate.offer("retention-add", self._add)
        operate.offer("retention-remove", self._remove)
        operate.offer("retention-resume", self._resume)

    async def _list(self, _: Values) -> dict[str, Any]:
        return {"rules": [_row(rule) for rule in await self._retention.rules()]}

    async def _rehearse(self, values: Values) -> dict[str, Any]:
        rule = await self._retention.wanted(values)
        found = await self._retention.rehearse(rule)
        return {"count": found.count, "bytes": found.bytes, "deletes": describe(rule)}

    async def _page(self, values: Values) -> dict[str, Any]:
        """Return the next pictures from the place `after` on, which a page before named as `next`."""
        rule = await self._retention.wanted(values)
        after = values.get("after")
        place = START if after is None else Place(int(after[0]), int(after[1]))
        found = await self._retention.matches(rule, place, PAGE)
        last = found[-1].place if len(found) == PAGE else None
        return {
            "pictures": [self._picture(match) for match in found],
            "next": None if last is None else [last.created_ms, last.seq],
        }

    async def _add(self, values: Values) -> dict[str, Any]:
        rule = await self._retention.wanted({**values, "rule": None})
        expected = _count(values)
        made = await self._retention.add(rule, str(values.get("name") or ""), expected, at_once=bool(values.get("now")))
        return _row(made)

    async def _remove(self, values: Values) -> dict[str, Any]:
        name = str(values.get("rule") or "")
        await self._retention.forget(name)
        return {"name": name}

    async def _resume(self, values: Values) -> dict[str, Any]:
        name = str(values.get("rule") or "")
        await self._retention.resume(name, _count(values))
        return {"name": name}

    def _picture(self, match: Match) -> dict[str, Any]:
        image = match.image
        return {
            "id": image.id,
            "name": image.name,
            "owner": match.email,
            "network": match.network,
            "created_at": image.created_ms // 1000,
            "stored_bytes": image.blob.stored_bytes,
            "link": f"{self._home.base}/{image.id}",
        }


def _row(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "deletes": describe(rule),
        "account": rule.email,
        "anonymous": rule.anonymous,
        "namespace": rule.namespace,
        "tag": rule.tag,
        "except_tag": rule.except_tag,
        "format": rule.format,
        "larger_than": rule.larger_than,
        "older_than_s": rule.older_than_s,
        "created_at": rule.created_ms // 1000,
        "begins_at": rule.begins_ms // 1000,
        "expected": rule.expected,
        "waits": rule.held_ms is not None,
    }


def _count(values: Values) -> int:
    found = values.get("expected")
    if not isinstance(found, int) or found < 0:
        raise ValidationError("Rehearse the rule first.")
    return found
