"""What docs/architecture.md says of the rooms is true: imports, sizes, packages."""

import ast
import configparser
import graphlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "emoq_plugin"
# A room imports those below it or on its floor; two are beside, see `may_import`.
FLOOR = {
    "core": 0,
    "learning": 1,
    "routing": 2,
    "units": 3,
    "evaluation": 4,
    "recipe": 5,
    "espnet_adapters": 5,
    "bin": 6,
}
BESIDE = {"data", "speech"}
# What `import emoq_plugin` gives: lazy, so that all may ask it for the version.
FACADE = {"emoq_plugin", "emoq_plugin.estimator"}

# The reason is beside each; who mends one strikes it out.
UPWARD = {
    # `quantizer.units(audio)` is a shorthand of the class above it.
    ("routing.quantizer", "speech.pipeline"),
}
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 60
LONG_FILES = {
    "data.directory": 427,
    "espnet_adapters.units_frontend": 442,
}
LONG_FUNCTIONS = {  # lines without the docstring
    "learning.fit_bank.learn_bank": 70,
}

# Modules of packages that are called otherwise.
MODULES = {
    "espnet": "espnet2",
    "espnet-s3prl": "s3prl",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), path)


FILES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
    for p in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: _parse(path) for name, path in FILES.items()}


def imports(name: str) -> set[str]:
    """Return the modules that a module names anywhere, for types too."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                found.add(inside if inside in FILES else node.module)
    return found - {name}


def at_import(node: ast.AST):
    """Yield the third-party packages that are imported with the module itself."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef) or (
            isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        ):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield child.module.partition(".")[0]
        yield from at_import(child)


def room(module: str) -> str:
    return module.removeprefix("emoq_plugin.").partition(".")[0]


def may_import(here: str, there: str) -> bool:
    if here in BESIDE:
        return there in BESIDE or FLOOR[there] <= FLOOR["units"]
    if there in BESIDE:
        return FLOOR[here] >= FLOOR["units"]
    return FLOOR[there] <= FLOOR[here]


def test_imports_go_down():
    rooms = BESIDE | set(FLOOR)
    up = {
        (a.removeprefix("emoq_plugin."), b.removeprefix("emoq_plugin."))
        for a in FILES
        for b in imports(a) & set(FILES)
        if {room(a), room(b)} <= rooms and not may_import(room(a), room(b))
    }
    assert up == UPWARD


def test_no_two_modules_need_each_other():
    ahead = {name: imports(name) & set(FILES) - FACADE for name in FILES}
    for a, b in UPWARD:
        ahead[f"emoq_plugin.{a}"].discard(f"emoq_plugin.{b}")
    graphlib.TopologicalSorter(ahead).prepare()  # raises where there is a circle


def test_espnet_is_imported_in_its_room_only():
    others = {name for name in FILES if room(name) != "espnet_adapters"}
    assert not [n for n in others if any(i.startswith("espnet") for i in imports(n))]


def test_packages_that_are_imported_are_required_by_the_installation_or_an_extra():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")

    def names(text: str) -> set[str]:
        found = {re.split(r"[\[<>=]", line)[0] for line in text.split()}
        if "espnet" in found:  # one distribution, two packages
            found.add("espnet3")
        return {MODULES.get(name, name) for name in found}

    light = names(config["options"]["install_requires"])
    extras = {n: names(t) for n, t in config["options.extras_require"].items()}
    for name, tree in TREES.items():
        own = light | (extras["espnet"] if room(name) == "espnet_adapters" else set())
        first = set(at_import(tree)) - sys.stdlib_module_names - {"emoq_plugin"}
        assert first <= own, f"{name} needs these when it is imported"
        later = {i.partition(".")[0] for i in imports(name)}
        later -= sys.stdlib_module_names | {"emoq_plugin"}
        assert later <= light.union(*extras.values()), f"{name} may import these"


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"numpy", "torch", "sklearn", "pandas", "transformers", "espnet2"}
    code = f"import sys, emoq_plugin; print({heavy} & set(sys.modules))"
    found = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert found.strip() == "set()"


def test_applying_a_quantizer_needs_no_fitting_libraries(tmp_path):
    """Half of the start of `emoq encode` was scikit-learn and pandas."""
    code = (
        "import sys, emoq_plugin.speech.pipeline, emoq_plugin.routing.quantizer\n"
        "from emoq_plugin.routing.base import routers; routers()\n"
        "print({'sklearn', 'scipy', 'pandas', 'transformers'} & set(sys.modules))"
    )
    found = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert found.strip() == "set()"


def test_files_and_functions_are_short():
    """What is longer is listed above, with its size: the lists only shrink."""
    lines = {n: len(p.read_text("utf-8").splitlines()) for n, p in FILES.items()}
    check_list({n: s for n, s in lines.items() if s > MOST_LINES}, LONG_FILES)
    found = {}
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                first = node.body[ast.get_docstring(node) is not None :] or node.body
                size = node.end_lineno - first[0].lineno + 1
                if size > MOST_LINES_OF_A_FUNCTION:
                    found[f"{name}.{node.name}"] = size
    check_list(found, LONG_FUNCTIONS)


def check_list(found: dict[str, int], listed: dict[str, int]) -> None:
    """Compare sizes by name: nothing new, nothing that grew, nothing mended left."""
    short = {name.removeprefix("emoq_plugin."): size for name, size in found.items()}
    assert set(short) == set(listed)
    assert not {name: size for name, size in short.items() if size > listed[name]}
