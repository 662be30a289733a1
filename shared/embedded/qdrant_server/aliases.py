"""Alias actions: several in one request, all of them or none."""

from collections.abc import Collection, Mapping
from typing import Annotated

from pydantic import Field

from .errors import collection_exists, collection_missing
from .wire import Wire

_Name = Annotated[str, Field(min_length=1)]


class _CreateAlias(Wire):
    collection_name: _Name
    alias_name: _Name


class _DeleteAlias(Wire):
    alias_name: _Name


class _Create(Wire):
    """Point an alias at a collection, wherever it pointed before."""

    create_alias: _CreateAlias

    def apply(self, aliases: dict[str, str], collections: Collection[str]) -> None:
        alias, target = self.create_alias.alias_name, self.create_alias.collection_name
        if target not in collections:
            raise collection_missing(target)
        if alias in collections:
            raise collection_exists(alias)
        aliases[alias] = target


class _Delete(Wire):
    delete_alias: _DeleteAlias

    def apply(self, aliases: dict[str, str], _collections: Collection[str]) -> None:
        aliases.pop(self.delete_alias.alias_name, None)


class AliasActions(Wire):
    actions: list[Annotated[_Create | _Delete, Field(union_mode="left_to_right")]]

    def applied(self, aliases: Mapping[str, str], collections: Collection[str]) -> dict[str, str]:
        """Return the aliases after the actions, which are taken in order.

        Raises:
            ServerError: an action is impossible, so that none of them may take effect.
        """
        result = dict(aliases)
        for action in self.actions:
            action.apply(result, collections)
        return result
