"""Digest of the code that decides what a step makes: the definitions that its script reaches, and their libraries.

A *part* is a top-level definition of ours (``mnasbench/build/equalize.py:equalize``), the other statements of a module
(``mnasbench/build/equalize.py``), or a library with its version (``numpy``). Counted are the script's own statements
and whatever they reach by name, from definition to definition:

- a function, a class with all its methods, an assigned name: where a counted part names it;
- the other statements of a module, assignments that call our own code, and definitions with a decorator that may
  keep them somewhere: where anything of that module is counted;
- a module as a whole: where it is handed on as a value, imported for its effect, or asked for a name that it does not
  define; everything that is imported at all: where code is looked up by a name made at run time;
- a library's version: where a counted part uses it. ``DECIDES_NO_RESULT`` lists what never counts, and why.

This is too wide rather than too narrow: a name counts wherever it stands, whether or not that line runs.
What decides no result does not count: comments, docstrings, formatting, the places of files, annotations of functions
that no decorator reads, the text of a raised error, and the help text of an argument.

The digest is over a form of the syntax tree that is our own, so all versions of Python give the same. Only the
standard library is needed.
"""

import ast
import functools
import gc
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Never counted. Of libraries: they read settings (which receipts hold themselves), check them, or draw on a terminal.
# Of ours: they word errors and show how far a step is.
LIBRARIES_THAT_DECIDE_NO_RESULT = frozenset({"yaml", "jsonschema", "tqdm", "tabulate"})
CODE_THAT_DECIDES_NO_RESULT = frozenset(
    {
        "mnasbench/errors.py",
        *(f"mnasbench/commands/{module}.py" for module in ("command_line", "progress", "colour")),
        *(f"mnasbench/commands/arguments.py:{name}" for name in ("parser_for", "HelpfulFormatter", "OneLineParser")),
    }
)
# Distributions whose name is not that of the module which is imported.
_DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python-headless"}
# These decorators keep no record of what they decorate, so the definition counts only where it is named.
_PLAIN_DECORATORS = frozenset(
    {"cache", "lru_cache", "dataclass", "contextmanager", "total_ordering", "njit", "jit", "intrinsic", "no_grad"}
)
_DYNAMIC_NAMES = frozenset({"globals", "eval", "exec", "__import__"})
_DYNAMIC_ATTRIBUTES = frozenset({"__subclasses__", "__init_subclass__"})
# Fields of a syntax tree that differ between versions of Python, or say nothing.
_UNCOUNTED_FIELDS = frozenset({"ctx", "kind", "type_comment", "type_ignores", "type_params"})
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_Definition = (*_Function, ast.ClassDef)
_Import = (ast.Import, ast.ImportFrom)
_Comprehension = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_Chain = tuple[str, ...]
# Stands among the hidden names where the annotation of a variable is read by nobody.
_UNREAD_ANNOTATIONS = ""


@dataclass(frozen=True, eq=False)
class Code:
    """The code of a step: each part with its digest or version, and the digest over all of them (hexadecimal).

    ``script``: the file that the step runs, below the folder of the sources.
    """

    parts: Mapping[str, str]
    script: str = ""

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the parts."""
        lines = json.dumps(dict(self.parts), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(lines.encode()).hexdigest()


def code_parts(script: Path) -> dict[str, str]:
    """The parts of the code that ``script`` runs, each with its digest or version, sorted by name."""
    return dict(code_of(script).parts)


def code_digest(script: Path) -> str:
    """SHA-256 (hexadecimal) over the code that ``script`` runs."""
    return code_of(script).digest


@functools.cache
def code_of(script: Path) -> Code:
    """The code that ``script`` runs, as it was when this process first asked."""
    script = script.resolve()
    return _sources(_root_of(script)).code_of(script)


def _root_of(script: Path) -> Path:
    """The folder above ``script`` that holds the library."""
    return next((folder for folder in script.parents if (folder / "mnasbench").is_dir()), script.parent.parent)


# ------------------------------------------------------------------------------------------------ one part of a module
class _Writer:
    """Writes a part of a module in our own form, and notes the names that it refers to."""

    def __init__(self, has_help: bool) -> None:
        self.text: list[str] = []
        self.references: set[_Chain] = set()
        self.imports = _Imports()
        self._has_help = has_help

    def write(self, node: Any, hidden: frozenset[str] = frozenset()) -> None:
        """Write ``node``; names in ``hidden`` are local variables and refer to nothing of the module."""
        if isinstance(node, list):
            self.text.append("[")
            for element in node:
                self.write(element, hidden)
            self.text.append("]")
        elif not isinstance(node, ast.AST):
            # ascii(), because what repr() escapes follows the version of Unicode.
            self.text.append(f"{node!a},")
        else:
            getattr(self, f"_write_{type(node).__name__}", self._write_fields)(node, hidden)

    def _write_fields(self, node: ast.AST, hidden: frozenset[str], without: frozenset[str] = frozenset()) -> None:
        self.text.append(f"{type(node).__name__}(")
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or value == [] or name in _UNCOUNTED_FIELDS or name in without:
                continue
            self.text.append(f"{name}=")
            self.write(value, hidden)
        self.text.append(")")

    def _write_Constant(self, node: ast.Constant, _hidden: frozenset[str]) -> None:
        self.text.append(f"{type(node.value).__name__} {node.value!a},")

    def _write_Name(self, node: ast.Name, hidden: frozenset[str]) -> None:
        self.text.append(f"{node.id},")
        if node.id not in hidden and isinstance(node.ctx, ast.Load):
            self.references.add((node.id,))

    def _write_Attribute(self, node: ast.Attribute, hidden: frozenset[str]) -> None:
        chain = _chain_of(node)
        if chain is None:
            if node.attr in _DYNAMIC_ATTRIBUTES:
                self.references.add((node.attr,))
            self._write_fields(node, hidden)
            return
        self.text.append(f"{'.'.join(chain)},")
        if chain[0] not in hidden:
            self.references.add(chain)
        if chain[-1] in _DYNAMIC_ATTRIBUTES:
            self.references.add((chain[-1],))

    def _write_JoinedStr(self, node: ast.JoinedStr, hidden: frozenset[str]) -> None:
        # Versions of Python differ in how they cut the text between the values.
        self.text.append("f[")
        text = ""
        for value in node.values:
            if isinstance(value, ast.Constant):
                text += str(value.value)
                continue
            self.text.append(f"{text!a},")
            text = ""
            self.write(value, hidden)
        self.text.append(f"{text!a}]")

    def _write_Raise(self, node: ast.Raise, hidden: frozenset[str]) -> None:
        raised = node.exc
        if isinstance(raised, ast.Call):
            counted = [argument for argument in raised.args if not _is_text(argument)]
            raised = ast.Call(raised.func, counted, raised.keywords)
        self.text.append("raise(")
        for part in (raised, node.cause):
            if part is not None:
                self.write(part, hidden)
        self.text.append(")")

    def _write_Call(self, node: ast.Call, hidden: frozenset[str]) -> None:
        chain = _chain_of(node.func)
        if chain is not None and chain[-1] == "import_module":
            name = node.args[0] if node.args else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                self.references.add(("import_module", *name.value.split(".")))
            else:
                self.references.add(("eval",))
        if self._has_help and any(_is_help(keyword) for keyword in node.keywords):
            node = ast.Call(node.func, node.args, [key for key in node.keywords if not _is_help(key)])
        self._write_fields(node, hidden)

    def _write_AnnAssign(self, node: ast.AnnAssign, hidden: frozenset[str]) -> None:
        # A class may get its fields from it; elsewhere nothing reads it.
        without = frozenset({"annotation"}) if node.simple and _UNREAD_ANNOTATIONS in hidden else frozenset()
        self._write_fields(node, hidden, without)

    def _write_Import(self, node: ast.Import, _hidden: frozenset[str]) -> None:
        self.imports.add(node)
        self._write_fields(node, frozenset())

    _write_ImportFrom = _write_Import

    def _write_FunctionDef(self, node: ast.FunctionDef, hidden: frozenset[str]) -> None:
        arguments = node.args
        self.text.append(f"{type(node).__name__}({node.name},")
        self.write(node.decorator_list, hidden)
        if node.decorator_list and node.returns is not None:
            self.write(node.returns, hidden)
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            self._write_argument(argument, hidden, bool(node.decorator_list))
        self.text.append(f"/{len(arguments.posonlyargs)}*{len(arguments.kwonlyargs)}")
        for marker, collector in (("*", arguments.vararg), ("**", arguments.kwarg)):
            if collector is not None:
                self.text.append(marker)
                self._write_argument(collector, hidden, bool(node.decorator_list))
        self.write(arguments.defaults, hidden)
        self.write(arguments.kw_defaults, hidden)
        self.write(_without_docstring(node.body), hidden | _local_names(node) | {_UNREAD_ANNOTATIONS})
        self.text.append(")")

    _write_AsyncFunctionDef = _write_FunctionDef

    def _write_argument(self, argument: ast.arg, hidden: frozenset[str], annotated: bool) -> None:
        self.text.append(f"{argument.arg},")
        if annotated and argument.annotation is not None:
            self.write(argument.annotation, hidden)

    def _write_Lambda(self, node: ast.Lambda, hidden: frozenset[str]) -> None:
        self.text.append("lambda(")
        self.write(node.args, hidden)
        self.write(node.body, hidden | _local_names(node))
        self.text.append(")")

    def _write_ClassDef(self, node: ast.ClassDef, hidden: frozenset[str]) -> None:
        self.text.append(f"class({node.name},")
        for part in (node.decorator_list, node.bases, node.keywords):
            self.write(part, hidden)
        # What a class binds, its methods do not see.
        self.write(_without_docstring(node.body), hidden - {_UNREAD_ANNOTATIONS})
        self.text.append(")")

    def _write_comprehension_of(self, node: Any, hidden: frozenset[str]) -> None:
        bound = {name.id for part in node.generators for name in ast.walk(part.target) if isinstance(name, ast.Name)}
        # Only the first of the iterables is evaluated outside; that a bound name hides no more is what counts.
        self.text.append("for(")
        self.write(node.generators[0].iter, hidden)
        self._write_fields(node, hidden | bound)
        self.text.append(")")

    _write_ListComp = _write_SetComp = _write_DictComp = _write_GeneratorExp = _write_comprehension_of


def _chain_of(node: ast.AST) -> _Chain | None:
    """``a.b.c`` as its names; None for an attribute of anything but a name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else None


def _is_text(node: ast.AST) -> bool:
    """Whether an expression is text, whatever its values."""
    match node:
        case ast.Constant(value=str()) | ast.JoinedStr():
            return True
        case ast.BinOp(op=ast.Add() | ast.Mod()):
            return _is_text(node.left) or (isinstance(node.op, ast.Add) and _is_text(node.right))
        case ast.IfExp():
            return _is_text(node.body) and _is_text(node.orelse)
        case ast.Call(func=ast.Attribute(value=template, attr="format" | "join")):
            return _is_text(template)
    return False


def _is_help(keyword: ast.keyword) -> bool:
    return keyword.arg == "help" and _is_text(keyword.value)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return body[1:]
    return body


def _local_names(function: ast.FunctionDef | ast.Lambda) -> frozenset[str]:
    """Names that a function binds itself; those that only an inner scope binds are left out."""
    arguments = function.args
    names = {argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    names |= {argument.arg for argument in (arguments.vararg, arguments.kwarg) if argument is not None}
    outer: set[str] = set()
    waiting: list[ast.AST] = [] if isinstance(function, ast.Lambda) else list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, _Definition):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Global):
            outer |= set(node.names)
        if not isinstance(node, (*_Definition, *_Comprehension, ast.Lambda)):
            waiting += _children(node)
    return frozenset(names - outer)


def _children(node: ast.AST) -> list[ast.AST]:
    """As ``ast.iter_child_nodes``, in a third of the time: every planning goes through all of the library."""
    children: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            children += [element for element in value if isinstance(element, ast.AST)]
        elif isinstance(value, ast.AST):
            children.append(value)
    return children


def _read_names(tree: ast.AST) -> set[str]:
    """Every name that is read anywhere below ``tree``."""
    names: set[str] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                names.add(node.id)
        elif not isinstance(node, ast.Constant):
            waiting += _children(node)
    return names


@dataclass
class _Imports:
    """What imports bind: for each name the dotted names that it stands for, and those of what is loaded."""

    stands_for: dict[str, list[_Chain]] = field(default_factory=dict)
    loads: dict[str, list[_Chain]] = field(default_factory=dict)

    def add(self, node: ast.Import | ast.ImportFrom) -> None:
        """Add the names of one statement."""
        if isinstance(node, ast.ImportFrom) and node.level:
            raise ValueError("a relative import cannot be followed; ours are absolute")
        for alias in node.names:
            name, loaded = alias.asname or alias.name, tuple(alias.name.split("."))
            if isinstance(node, ast.ImportFrom):
                source = tuple((node.module or "").split("."))
                # Whatever * brings, the module as a whole counts.
                loaded = source if alias.name == "*" else (*source, alias.name)
                stands_for = loaded
            elif alias.asname:
                stands_for = loaded
            else:  # import a.b binds a
                name, stands_for = loaded[0], loaded[:1]
            self.stands_for.setdefault(name, []).append(stands_for)
            self.loads.setdefault(name, []).append(loaded)

    def all_loaded(self) -> list[_Chain]:
        """Every dotted name that is loaded."""
        return [chain for chains in self.loads.values() for chain in chains]


# ------------------------------------------------------------------------------------------------------------- modules
@dataclass(frozen=True)
class _Part:
    """One part of a module: its digest, the names that it refers to, and what it imports itself."""

    digest: str
    references: frozenset[_Chain]
    imports: _Imports


@dataclass
class _Module:
    """One of our files: where it is, what it imports, its definitions by name, and its other statements."""

    key: str
    imports: _Imports = field(default_factory=_Imports)
    named: dict[str, list[ast.stmt]] = field(default_factory=dict)
    always: list[ast.stmt] = field(default_factory=list)
    # Definitions that count wherever anything of the module does.
    kept: set[str] = field(default_factory=set)
    # What is imported for its effect alone.
    effects: list[_Chain] = field(default_factory=list)
    has_help: bool = False
    _parts: dict[str, _Part] = field(default_factory=dict)

    def part(self, name: str) -> _Part:
        """The part of this name; "" for the other statements."""
        if name not in self._parts:
            writer = _Writer(self.has_help)
            for statement in self.named[name] if name else self.always:
                writer.write(statement, frozenset({_UNREAD_ANNOTATIONS}))
            digest = hashlib.sha256("".join(writer.text).encode()).hexdigest()
            self._parts[name] = _Part(digest, frozenset(writer.references), writer.imports)
        return self._parts[name]


def _read_module(path: Path, key: str, ours: frozenset[str]) -> _Module:
    tree = ast.parse(path.read_bytes(), path)
    module = _Module(key)
    for statement in _without_docstring(tree.body):
        _place(module, statement)
    read = _read_names(tree)
    for name, loaded in module.imports.loads.items():
        if name not in read:
            module.effects += loaded
    module.has_help = any(
        chain[0] == "argparse" or chain[:2] == ("mnasbench", "commands") for chain in module.imports.all_loaded()
    )
    for name, statements in module.named.items():
        if any(_may_act(statement, module, read, ours) for statement in statements):
            module.kept.add(name)
    return module


def _place(module: _Module, statement: ast.stmt) -> None:
    """Put a top-level statement where it belongs."""
    if isinstance(statement, _Import):
        module.imports.add(statement)
    elif isinstance(statement, _Definition):
        module.named.setdefault(statement.name, []).append(statement)
    elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [name for target in targets for name in _bound(target)]
        for name in names:
            module.named.setdefault(name, []).append(statement)
        if not names:
            module.always.append(statement)
    elif isinstance(statement, ast.If) and _chain_of(statement.test) in (
        ("TYPE_CHECKING",),
        ("typing", "TYPE_CHECKING"),
    ):
        return  # never runs
    else:
        for inner in ast.walk(statement):
            if isinstance(inner, _Import):
                module.imports.add(inner)
            elif isinstance(inner, _Definition):
                module.named.setdefault(inner.name, []).append(statement)
            elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                module.named.setdefault(inner.id, []).append(statement)
        module.always.append(statement)


def _bound(target: ast.expr) -> list[str]:
    """The names that an assignment binds; none where it changes what an object holds."""
    if isinstance(target, ast.Name):
        return [target.id]
    if isinstance(target, (ast.Tuple, ast.List)):
        parts = [_bound(element) for element in target.elts]
        return [name for names in parts for name in names] if all(parts) else []
    return []


def _may_act(statement: ast.stmt, module: _Module, read: set[str], ours: frozenset[str]) -> bool:
    """Whether a definition may do more, where it stands, than bind its name."""
    if isinstance(statement, _Definition):
        return any(_decorator_name(decorator) not in _PLAIN_DECORATORS for decorator in statement.decorator_list)
    if not isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        return False
    calls = [node for node in ast.walk(statement) if isinstance(node, (ast.Call, ast.Await))]
    if not calls:
        return False
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    if not any(name in read for target in targets for name in _bound(target)):
        return True
    return any(_is_ours(call, module, ours) for call in calls)


def _decorator_name(decorator: ast.expr) -> str:
    chain = _chain_of(decorator.func if isinstance(decorator, ast.Call) else decorator)
    return chain[-1] if chain else ""


def _is_ours(call: ast.Call | ast.Await, module: _Module, ours: frozenset[str]) -> bool:
    chain = _chain_of(call.func) if isinstance(call, ast.Call) else None
    if chain is None:
        return True  # a method of what another call gave, or of a literal
    if chain[0] in module.named:
        return True
    return any(target[0] in ours for target in module.imports.stands_for.get(chain[0], ()))


class Sources:
    """Our sources below one folder: ``mnasbench/`` (the library), and the folders of the scripts."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._modules: dict[Path, _Module] = {}
        self._files: dict[tuple[Path, str], Path | None] = {}
        # Root names of what is ours, by the folder of the script.
        self._ours: dict[Path, frozenset[str]] = {}

    def code_of(self, script: Path) -> Code:
        """The code that ``script`` runs."""
        # Syntax trees are all live: looking among them for garbage takes a quarter of the time.
        collects = gc.isenabled()
        gc.disable()
        try:
            script = script.resolve()
            parts = _Reach(self, script).parts()
            return Code(dict(sorted(parts.items())), script.relative_to(self._root).as_posix())
        finally:
            if collects:
                gc.enable()

    def file_of(self, name: _Chain, folder: Path) -> Path | None:
        """The file of one of our modules by its dotted name, as a script in ``folder`` imports it."""
        key = (folder, ".".join(name))
        if key not in self._files:
            base = (self._root if name[0] == "mnasbench" else folder).joinpath(*name)
            candidates = (base.with_name(f"{base.name}.py"), base / "__init__.py")
            self._files[key] = next((path for path in candidates if path.is_file()), None)
        return self._files[key]

    def module(self, path: Path, folder: Path) -> _Module:
        """The module in a file."""
        if path not in self._modules:
            if folder not in self._ours:
                self._ours[folder] = frozenset({"mnasbench", *(file.stem for file in folder.glob("*.py"))})
            self._modules[path] = _read_module(path, path.relative_to(self._root).as_posix(), self._ours[folder])
        return self._modules[path]


@functools.cache
def _sources(root: Path) -> Sources:
    return Sources(root)


# --------------------------------------------------------------------------------------------------------------- reach
class _Reach:
    """What one script reaches."""

    def __init__(self, sources: Sources, script: Path) -> None:
        self._sources = sources
        self._folder = script.parent
        self._reached: set[tuple[Path, str]] = set()
        self._modules: set[Path] = set()
        self._whole: set[Path] = set()
        self._libraries: set[str] = set()
        self._everything = False
        self._waiting: list[tuple[Path, str]] = []
        self._reach_module(script)
        if "main" in self._module(script).named:
            self._reach(script, "main")
        while self._waiting:
            self._follow(*self._waiting.pop())

    def parts(self) -> dict[str, str]:
        """Digest or version of each part that was reached."""
        digests = {_key(self._module(path), name): self._module(path).part(name).digest for path, name in self._reached}
        versions = (_version(library) for library in self._libraries)
        return digests | dict(pair for pair in versions if pair is not None)

    def _module(self, path: Path) -> _Module:
        return self._sources.module(path, self._folder)

    def _reach(self, path: Path, name: str) -> None:
        module = self._module(path)
        if {module.key, _key(module, name)} & CODE_THAT_DECIDES_NO_RESULT:
            return
        if (path, name) not in self._reached:
            self._reached.add((path, name))
            self._waiting.append((path, name))
            self._reach_module(path)

    def _reach_module(self, path: Path) -> None:
        """Count what runs where the module is imported."""
        if path in self._modules:
            return
        self._modules.add(path)
        module = self._module(path)
        if module.always:
            self._reach(path, "")
        for name in module.kept:
            self._reach(path, name)
        for loaded in module.effects:
            self._reach_dotted(loaded)
        if self._everything:
            self._open(path)

    def _reach_whole(self, path: Path) -> None:
        if path in self._whole or self._module(path).key in CODE_THAT_DECIDES_NO_RESULT:
            return
        self._whole.add(path)
        self._reach_module(path)
        for name in self._module(path).named:
            self._reach(path, name)

    def _follow(self, path: Path, name: str) -> None:
        module = self._module(path)
        part = module.part(name)
        for loaded in part.imports.all_loaded():
            self._reach_dotted(loaded)
        for chain in part.references:
            if chain[0] == "import_module" and len(chain) > 1:
                self._reach_dotted(chain[1:])
            elif chain[0] in _DYNAMIC_NAMES or chain[0] in _DYNAMIC_ATTRIBUTES:
                self._reach_everything()
            elif chain[0] in part.imports.stands_for:
                for target in part.imports.stands_for[chain[0]]:
                    self._reach_dotted((*target, *chain[1:]))
            else:
                self._reach_chain(path, chain)

    def _reach_chain(self, path: Path, chain: _Chain) -> bool:
        """Count what a dotted name stands for in a module; False where it is none of the module's."""
        module = self._module(path)
        if chain[0] in module.named:
            self._reach(path, chain[0])
            return True
        for target in module.imports.stands_for.get(chain[0], ()):
            self._reach_dotted((*target, *chain[1:]))
        return chain[0] in module.imports.stands_for

    def _reach_dotted(self, name: _Chain) -> None:
        """Count what a dotted name stands for, from the root of all modules."""
        for length in range(len(name), 0, -1):
            path = self._sources.file_of(name[:length], self._folder)
            if path is not None:
                break
        else:
            self._libraries.add(name[0])
            return
        # Importing a.b.c runs a and a.b before it, and a.b.c itself where it only hands on what another module defines.
        for above in range(1, length + 1):
            module = self._sources.file_of(name[:above], self._folder)
            if module is not None:
                self._reach_module(module)
        if length == len(name) or not self._reach_chain(path, name[length:]):
            self._reach_whole(path)

    def _reach_everything(self) -> None:
        """Count all that is imported: some code is looked up by a name that only the running step knows."""
        if not self._everything:
            self._everything = True
            for path in list(self._modules):
                self._open(path)

    def _open(self, path: Path) -> None:
        self._reach_whole(path)
        for loaded in self._module(path).imports.all_loaded():
            self._reach_dotted(loaded)


def _key(module: _Module, name: str) -> str:
    return f"{module.key}:{name}" if name else module.key


def _version(module: str) -> tuple[str, str] | None:
    """The distribution of an imported library and its version; None where it decides no result or is Python's own."""
    if module in sys.stdlib_module_names or module in LIBRARIES_THAT_DECIDE_NO_RESULT:
        return None
    return _installed(_DISTRIBUTIONS.get(module, module))


@functools.cache
def _installed(distribution: str) -> tuple[str, str] | None:
    try:
        # The local part (+cpu) names a build of the same release, which machines legitimately differ in.
        return distribution.lower(), importlib.metadata.version(distribution).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return distribution.lower(), "not installed"
