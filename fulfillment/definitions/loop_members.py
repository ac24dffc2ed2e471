"""Misspelt members of list elements: `items.all(one, one.quantty > 1)`.

The library knows only that the elements of `items` are objects; which members they have is said
by the declared names below the list (`items.quantity`, `items.price.one_off`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fulfillment.definitions.expression_tree import (
    Call,
    Collection,
    Constant,
    Loop,
    Member,
    Name,
    Node,
)

_OPEN = ("list(object", "list(any", "list(list")


def unknown_members(node: Node, names: Mapping[str, str]) -> Iterator[str]:
    """The dotted names (`items.quantty`) of elements' members that are not declared."""
    yield from _unknown(node, names, {})


def _unknown(node: Node, names: Mapping[str, str], elements: Mapping[str, str]) -> Iterator[str]:
    """`elements` maps variables of loops to the lists whose elements they are."""
    path = _path(node, names, elements)
    if path is not None and "." in path and not _is_known(path, names):
        yield path
        return
    match node:
        case Member():
            yield from _unknown(node.operand, names, elements)
        case Call(arguments=below) | Collection(members=below):
            for one in below:
                yield from _unknown(one, names, elements)
        case Loop():
            source = _list(node.over, names, elements)
            variables = {name: source for name in node.variables[:1] if source is not None}
            hidden = {*node.variables, node.gathered}
            inside = {k: v for k, v in elements.items() if k not in hidden} | variables
            yield from _unknown(node.over, names, elements)
            yield from _unknown(node.start, names, elements)
            for one in (node.condition, node.step, node.result):
                yield from _unknown(one, names, inside)


def _path(node: Node, names: Mapping[str, str], elements: Mapping[str, str]) -> str | None:
    """`items.price` for `one.price`, when `one` is an element of `items`."""
    match node:
        case Name(name=name):
            return elements.get(name)
        case Member(operand=operand, field=field):
            above = _path(operand, names, elements)
            return f"{above}.{field}" if above is not None else None
        case Call(function="_[_]" | "_[?_]" | "_?._", arguments=(operand, key)):
            above = _path(operand, names, elements)
            if above is not None:
                named = isinstance(key, Constant) and key.text is not None
                return f"{above}.{key.text}" if isinstance(key, Constant) and named else None
            return _list(operand, names, elements)
    return None


def _list(node: Node, names: Mapping[str, str], elements: Mapping[str, str]) -> str | None:
    """The declared list that the node is, or of which it is a selection."""
    match node:
        case Name(name=name) if name not in elements and names.get(name) == "list(object)":
            return name if any(one.startswith(f"{name}.") for one in names) else None
        case Loop(
            over=over,
            variables=(variable, *_),
            step=Call(
                function="_?_:_",
                arguments=(_, Call(function="_+_", arguments=(_, Collection((Name(kept),)))), _),
            ),
        ) if kept == variable:
            return _list(over, names, elements)
    return None


def _is_known(path: str, names: Mapping[str, str]) -> bool:
    if path in names or any(one.startswith(f"{path}.") for one in names):
        return True
    above = path.rpartition(".")[0]
    while "." in above:
        if above in names:
            return names[above].startswith(_OPEN)
        above = above.rpartition(".")[0]
    return False
