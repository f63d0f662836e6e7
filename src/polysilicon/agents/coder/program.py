"""From a model's answer to a program, and from a program to a test that cannot be talked round."""

from __future__ import annotations

import ast
import re
import warnings

_FENCE = re.compile(r"```[ \t]*(?:python|py)?[ \t]*\n?", re.IGNORECASE)
_KEPT = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign,
    ast.AnnAssign,
)  # fmt: skip
_INDENT = "    "


def header(prompt: str, entry_point: str) -> str:
    """Return the `def` line of the function to write, with what stands before it in `prompt`."""
    found = _definition(entry_point).search(prompt)
    if found is None:
        return prompt.rstrip()
    line_end = prompt.find(":\n", found.start())
    return prompt[: line_end + 1] if line_end >= 0 else prompt.rstrip()


def extract(prompt: str, entry_point: str, answer: str) -> str:
    """Return the program that an answer means: `prompt` completed, or the answer's own function.

    Answers come as a bare continuation of the prompt, as a code block, with prose around it, with
    the function repeated, cut off at the token limit, with calls and prints after it. Only
    definitions, imports and assignments are kept of the top level.

    Args:
        prompt: imports, helpers, the function's header and its docstring.
        entry_point: the function's name.
        answer: what the model wrote.
    """
    code = _code(answer, entry_point)
    own = _definition(entry_point).search(code)
    if own is not None:
        begin = _definition(entry_point).search(prompt)
        # Imports and helpers of the prompt first, then the answer with its own imports.
        program = (prompt[: begin.start()] if begin else "") + code
    else:
        program = prompt.rstrip() + "\n" + _indented(code)
    return _definitions(program)


def test_program(program: str, test: str, entry_point: str, marker: str) -> str:
    """Return `program` with its tests, whose value is `marker` where all of them passed.

    The marker comes after the tests, so that code which ends early, by an exception, `return` or
    `exit`, does not give it; `check` is defined after the program, so that the program cannot put
    another in its place. A program that is no Python on its own gets no tests: an open string could
    swallow them, and the marker must not follow then.
    """
    if _parsed(program) is None:
        return program
    return f"{program}\n\n{test}\n\ncheck({entry_point})\n{marker!r}\n"


def _definition(name: str) -> re.Pattern[str]:
    return re.compile(rf"^(?:async )?def {re.escape(name)}\b", re.MULTILINE)


def _code(answer: str, entry_point: str) -> str:
    """Return the code of an answer: the block that defines the function, or what comes first."""
    pieces = _FENCE.split(answer)
    for block in pieces[1::2]:
        if _definition(entry_point).search(block):
            return block
    # A continuation of an open block ends at the fence that closes it.
    if pieces[0].strip() or len(pieces) == 1:
        return pieces[0]
    return pieces[1]


def _indented(body: str) -> str:
    """Return a function body with its first line indented as a body is.

    A model that continues from an open indentation often gets the first line's wrong, and only it.
    """
    lines = body.strip("\n").splitlines()
    if not lines:
        return ""
    others = [line for line in lines if line.strip()]
    if not any(line.startswith((" ", "\t")) for line in others):
        # All of it stands at the margin: shift it as a block.
        lines[1:] = [_INDENT + line if line.strip() else line for line in lines[1:]]
    lines[0] = _INDENT + lines[0].lstrip()
    return "\n".join(lines) + "\n"


def _definitions(program: str) -> str:
    """Return the definitions of `program`, an unfinished end left out; `program` if none parse."""
    lines = program.rstrip().splitlines()
    for count in range(len(lines), 0, -1):
        tree = _parsed("\n".join(lines[:count]))
        if tree is not None:
            tree.body = [node for node in tree.body if isinstance(node, _KEPT)]
            return ast.unparse(tree) + "\n" if tree.body else program
    return program


def _parsed(program: str) -> ast.Module | None:
    """Return the syntax tree, or None where `program` is no Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return ast.parse(program)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
