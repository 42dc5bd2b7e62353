"""The rules for SQL of a cell, by PostgreSQL's own parser: right on Citus as on one server.

https://docs.citusdata.com/en/stable/develop/reference_workarounds.html has what Citus refuses.
Some of the rules are for what it does otherwise without a word: the rows that a command tag counts.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any, Final

import pglast

from core.postgres.migrate import available
from core.postgres.pipeline import Statement

Node = Mapping[str, Any]
ORGANIZATION: Final = "organization_id"

_WORDS: Final = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|MERGE|COPY|WITH|SET|LOCK|LISTEN|CREATE|ALTER|DROP|VACUUM)\s"
)
_PLACEHOLDER: Final = re.compile(r"%s|%\(\w+\)s")
_IDENTIFIER: Final = re.compile(r"\{\d*\}")
_NOT_IN_CONFLICTS: Final = {
    "SubLink": "a sub-select",
    "FuncCall": "a function, which may be STABLE",
    "SQLValueFunction": "the time or the user, which are STABLE",
    "ParamRef": "a parameter",
}


# --- the statements of a module -----------------------------------------------------------------


def statements(module: ModuleType) -> dict[str, str]:
    """All SQL of a module by the name of its constant, or by the line that it stands in."""
    found = {
        name: text
        for name, value in vars(module).items()
        if (text := _text_of(value)) is not None and _WORDS.match(text)
    }
    for node in _within_functions(_source(module)):
        text = _literal(node)
        if text is not None and _WORDS.match(text):
            found[f"line {node.lineno}"] = text
    return found


def _text_of(value: object) -> str | None:
    if isinstance(value, Statement):
        return value.sql
    return value if isinstance(value, str) else None


def _source(module: ModuleType) -> ast.Module:
    assert module.__file__ is not None
    with open(module.__file__, encoding="utf-8") as file:
        return ast.parse(file.read())


def _within_functions(tree: ast.AST) -> Iterator[ast.expr]:
    functions = [
        one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    for function in functions:
        for statement in function.body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                continue  # a docstring
            inside: set[int] = set()
            for node in ast.walk(statement):
                if isinstance(node, ast.JoinedStr):
                    inside |= {id(part) for part in node.values}
                if isinstance(node, ast.expr) and id(node) not in inside:
                    yield node


def _literal(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values
        )
    return None


def parsed(text: str) -> list[Node]:
    """The statements of a text; parameters may be psycopg's, identifiers those of ``sql.SQL``."""
    numbers = iter(range(1, 100))
    text = _PLACEHOLDER.sub(lambda _: f"${next(numbers)}", text).replace("%%", "%")
    text = _IDENTIFIER.sub("x", text)
    trees = [raw.stmt for raw in pglast.parse_sql(text)]
    return [tree(skip_none=True) for tree in trees if tree is not None]


# --- rules about a statement --------------------------------------------------------------------


def problems(text: str) -> list[str]:
    """The rules that a text breaks, which is a statement of a cell or of the home database."""
    trees = parsed(text)
    if len(trees) != 1:
        return ["has several statements"]
    return [
        problem
        for node in _walk(trees[0])
        for rule in (_conflict, _insert_from_table, _locks, _mixed, _qualified)
        for problem in rule(node)
    ]


def names_its_organization(text: str) -> bool:
    """Whether every part of a statement that has a table of a cell names the organization."""
    return all(_is_named(node) for tree in parsed(text) for node in _walk(tree))


def tables_of(text: str) -> frozenset[str]:
    """The tables that a statement names, in its sub-selects, too."""
    return frozenset(
        node["relname"] for tree in parsed(text) for node in _walk(tree) if node["@"] == "RangeVar"
    )


def _conflict(node: Node) -> Iterator[str]:
    if node["@"] != "InsertStmt" or "onConflictClause" not in node:
        return
    clause = node["onConflictClause"]
    if "conname" in clause.get("infer", {}):
        yield "names a constraint in ON CONFLICT: each node has a name of its own for it"
    takes_values = "valuesLists" in node.get("selectStmt", {})
    for inner in _walk(clause):
        kind = inner["@"]
        if kind in _NOT_IN_CONFLICTS and not (kind == "ParamRef" and takes_values):
            yield f"has {_NOT_IN_CONFLICTS[kind]} in ON CONFLICT"
        if kind == "A_Expr" and _operator(inner) in {"+", "-"}:
            operands = (inner.get("lexpr"), inner.get("rexpr"))
            if not all(one is None or one["@"] in {"ColumnRef", "A_Const"} for one in operands):
                yield "adds an interval in ON CONFLICT, which is STABLE for a moment"


def _operator(node: Node) -> str:
    return str(node["name"][-1]["sval"])


def _insert_from_table(node: Node) -> Iterator[str]:
    if node["@"] == "InsertStmt":
        for inner in _walk(node.get("selectStmt", {})):
            if inner["@"] == "RangeVar":
                yield f"inserts what it selects from the table {inner['relname']}"


def _locks(node: Node) -> Iterator[str]:
    if node["@"] == "SelectStmt" and "lockingClause" in node and len(_tables(node)) > 1:
        yield "locks the rows of several tables"


def _mixed(node: Node) -> Iterator[str]:
    """Home and a cell are two databases."""
    if node["@"] not in _READING:
        return
    tables = {one["relname"] for one in _walk(node) if one["@"] == "RangeVar"}
    named = {one["ctename"] for one in _walk(node) if one["@"] == "CommonTableExpr"}
    tables = {table for table in tables - named if not table.startswith("pg_")}
    if tables & cell_tables() and tables - cell_tables():
        yield f"reads a cell together with {', '.join(sorted(tables - cell_tables()))}"


def _qualified(node: Node) -> Iterator[str]:
    if node["@"] == "RangeVar" and node.get("schemaname", "pg_catalog") != "pg_catalog":
        yield f"names the schema {node['schemaname']}: the session's is its cell's"


_READING: Final = {"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "CopyStmt"}


def _is_named(node: Node) -> bool:
    tables = {one["relname"] for one in _tables(node)} & cell_tables()
    if node["@"] not in _READING or not tables:
        return True
    names = set(_names(node))
    return ORGANIZATION in names or (tables == {"organizations"} and "id" in names)


def _names(node: Node) -> Iterator[str]:
    """The columns that an INSERT or a COPY fills, or that rows are joined or chosen by."""
    for column in node.get("cols", ()):
        yield column["name"]
    for column in node.get("attlist", ()):
        yield column["sval"]
    joins = [one for one in _own(node) if one["@"] == "JoinExpr"]
    for join in joins:
        for column in join.get("usingClause", ()):
            yield column["sval"]
    conditions = [node.get("whereClause"), *(join.get("quals") for join in joins)]
    for condition in conditions:
        for inner in _own(condition or {}):
            if inner["@"] == "ColumnRef" and "sval" in inner["fields"][-1]:
                yield inner["fields"][-1]["sval"]


def _tables(node: Node) -> list[Node]:
    """The tables that a statement has of its own, without those of its sub-selects."""
    parts = [node.get(name) for name in ("relation", "fromClause", "usingClause")]
    return [
        one
        for part in parts
        for one in _own({"@": "", "parts": part or ()})
        if one["@"] == "RangeVar"
    ]


def _walk(node: object) -> Iterator[Node]:
    """A node and all within it."""
    if isinstance(node, Mapping):
        if "@" in node:
            yield node
        for value in node.values():
            yield from _walk(value)
    elif isinstance(node, tuple):
        for value in node:
            yield from _walk(value)


def _own(node: object, *, is_root: bool = True) -> Iterator[Node]:
    """As :func:`_walk`, without the sub-selects."""
    if isinstance(node, Mapping):
        if node.get("@") == "SelectStmt" and not is_root:
            return
        if "@" in node:
            yield node
        for value in node.values():
            yield from _own(value, is_root=False)
    elif isinstance(node, tuple):
        for value in node:
            yield from _own(value, is_root=False)


@cache
def cell_tables() -> frozenset[str]:
    """The tables that the migrations of a cell make."""
    return frozenset(
        node["relation"]["relname"]
        for migration in available("cell")
        for tree in parsed(migration.statements)
        for node in _walk(tree)
        if node["@"] == "CreateStmt"
    )


# --- rules about a module -----------------------------------------------------------------------


def misread_counts(module: ModuleType) -> list[str]:
    """Functions that run an INSERT with ON CONFLICT and read a command tag's number."""
    inserts = {
        name
        for name, text in statements(module).items()
        for tree in parsed(text)
        if tree["@"] == "InsertStmt" and "onConflictClause" in tree
    }
    found = []
    for function in ast.walk(_source(module)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = list(ast.walk(function))
            names = {one.id for one in inner if isinstance(one, ast.Name)}
            attributes = {one.attr for one in inner if isinstance(one, ast.Attribute)}
            if names & inserts and attributes & {"rowcount", "statusmessage", "command_tuples"}:
                found.append(function.name)
    return found
