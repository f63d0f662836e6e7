"""The documentation of the standard library as documents: docstrings, read without importing.

Sources are parsed, never run: an import may open windows, start threads or fail. Modules written in
C have no source to read; the Python half of such a module (`heapq`, `bisect`) has the docstrings.
"""

from __future__ import annotations

import ast
import inspect
import re
import sysconfig
import warnings
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from polysilicon.runtime.types import Document

LONGEST_CHARACTERS = 1200
"""Of a document; what follows is examples and history."""


def read_words(name: str) -> tuple[str, ...]:
    """Return the words of a data file."""
    text = files(__package__).joinpath("data", name).read_text(encoding="utf-8")
    return tuple(text.split())


MODULES = read_words("modules.txt")
"""Public modules that are (also) written in Python; those that a Python lacks are left out there.

Left out everywhere: debuggers and other tools of the interpreter, test frameworks, mail servers and
mailboxes, and what is only there for old programs.
"""

NOTES = "Name: "
"""Begins the last line of a document: the name in words and what the module is, to be found by."""
_SUMMARY_CHARACTERS = 120
_MODULE_SET = frozenset(MODULES)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def module_of(name: str) -> str:
    """Return the module of `MODULES` that a qualified name lies in, else its first part."""
    parts = name.split(".")
    stems = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((stem for stem in stems if stem in _MODULE_SET), parts[0])


def read_questions() -> list[dict[str, Any]]:
    """Return the bundled questions; their key `expected` is for grading alone."""
    text = files(__package__).joinpath("data", "questions.jsonl").read_text(encoding="utf-8")
    return [msgspec.json.decode(line) for line in text.splitlines()]


def source_of(module: str, library: Path) -> Path | None:
    """Return the source file of a module below `library`, or None where there is none."""
    stem = library.joinpath(*module.split("."))
    for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
        if path.is_file():
            return path
    return None


def documents_of(module: str, source: str) -> Iterator[Document]:
    """Give one document for the module and for each of its public functions and classes.

    Methods stand in the document of their class, with the first sentence of each: documents of one
    line would beat all others in BM25.

    Args:
        module: its name, with which all ids begin.
        source: its source text.

    Yields:
        Documents with a docstring; `id` and `title` are the qualified name.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes in old sources are no fault of the reader's
        tree = ast.parse(source)
    about = inspect.cleandoc(ast.get_docstring(tree) or "")
    if about:
        yield Document(id=module, title=module, text=_cut(about, LONGEST_CHARACTERS))
    summary = _cut(_first_sentence(about), _SUMMARY_CHARACTERS)
    seen = {module}
    for node in _definitions(tree.body):
        name = f"{module}.{node.name}"
        doc = ast.get_docstring(node)
        if doc and name not in seen:
            seen.add(name)
            parts = [_cut(doc, LONGEST_CHARACTERS), *_methods(node)]
            words = _CAMEL.sub(" ", node.name.replace("_", " "))
            notes = f"{NOTES}{words} {_parameters(node)}; {module}: {summary}"
            text = "\n".join([_cut("\n".join(parts), 2 * LONGEST_CHARACTERS), notes])
            yield Document(id=name, title=name, text=text)


def _definitions(body: list[ast.stmt]) -> Iterator[_Definition]:
    """Give the public definitions, also those under `if` and `try`."""
    for node in body:
        if isinstance(node, _Definition):
            if not node.name.startswith("_"):
                yield node
        elif isinstance(node, ast.If | ast.Try):
            yield from _definitions(node.body)
            for handler in getattr(node, "handlers", ()):
                yield from _definitions(handler.body)
            yield from _definitions(node.orelse)


def _methods(node: _Definition) -> Iterator[str]:
    """Give a line for each public method of a class that has a docstring."""
    if isinstance(node, ast.ClassDef):
        for method in _definitions(node.body):
            doc = ast.get_docstring(method)
            if doc:
                yield f"{method.name}: {_first_sentence(doc)}"


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0]


def _parameters(node: _Definition) -> str:
    if isinstance(node, ast.ClassDef):
        return ""
    names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return f"({', '.join(name for name in names if name not in ('self', 'cls'))})"


def _cut(text: str, characters: int) -> str:
    """Return the first `characters` of a text, up to a whole word."""
    return text if len(text) <= characters else text[:characters].rpartition(" ")[0]


def read_library() -> list[dict[str, str]]:
    """Return the documents of all `MODULES` that this Python has: the step of `prepare`."""
    library = Path(sysconfig.get_path("stdlib"))
    rows = []
    for module in MODULES:
        path = source_of(module, library)
        if path is not None:
            source = path.read_text(encoding="utf-8")
            rows += [msgspec.to_builtins(document) for document in documents_of(module, source)]
    return rows
