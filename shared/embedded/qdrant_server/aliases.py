"""Alias actions: several in one request, all of them or none."""

from collections.abc import Callable

from .errors import Conflict, NotFound, collection_missing, invalid, malformed
from .fields import fields, items, required, text

Aliases = dict[str, str]
IsCollection = Callable[[str], bool]

_MEMBERS = {
    "create_alias": frozenset({"collection_name", "alias_name"}),
    "rename_alias": frozenset({"old_alias_name", "new_alias_name"}),
    "delete_alias": frozenset({"alias_name"}),
}


def changed(value: object, aliases: Aliases, is_collection: IsCollection) -> Aliases:
    """Return the aliases after the request's actions, taken in order.

    Raises:
        ServerError: an action is impossible; none of them is to be applied.
    """
    body = fields(value, "aliases", frozenset({"actions"}))
    result = dict(aliases)
    for action in items(required(body, "actions", "aliases"), "actions"):
        _apply(action, result, is_collection)
    return result


def _apply(value: object, aliases: Aliases, is_collection: IsCollection) -> None:
    action = fields(value, "action", _MEMBERS.keys())
    if len(action) != 1:
        raise malformed("action: expected exactly one of " + ", ".join(_MEMBERS))
    [(kind, operand)] = action.items()
    body = fields(operand, kind, _MEMBERS[kind])
    names = {name: _name(required(body, name, kind), name) for name in _MEMBERS[kind]}
    if kind == "create_alias":
        _create(names["alias_name"], names["collection_name"], aliases, is_collection)
    elif kind == "rename_alias":
        _rename(names["old_alias_name"], names["new_alias_name"], aliases, is_collection)
    else:
        aliases.pop(names["alias_name"], None)


def _name(value: object, where: str) -> str:
    name = text(value, where)
    if not name:
        raise invalid(f"{where}: must not be empty")
    return name


def _create(alias: str, collection: str, aliases: Aliases, is_collection: IsCollection) -> None:
    """Point an alias to a collection, also one that points elsewhere now."""
    if not is_collection(collection):
        raise collection_missing(collection)
    _refuse_collection(alias, is_collection)
    aliases[alias] = collection


def _rename(old: str, new: str, aliases: Aliases, is_collection: IsCollection) -> None:
    if old not in aliases:
        raise NotFound(f"Not found: Alias {old} does not exists!")
    _refuse_collection(new, is_collection)
    aliases[new] = aliases.pop(old)


def _refuse_collection(alias: str, is_collection: IsCollection) -> None:
    if is_collection(alias):
        raise Conflict(f"Wrong input: Collection `{alias}` already exists!")
