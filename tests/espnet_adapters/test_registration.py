"""Every registry of ESPnet has the plug-in, wherever and however it is started."""

import ast
import gc
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import emoq_plugin
from emoq_plugin.espnet_adapters import registration

ROOT = Path(__file__).parents[2]
# Says, without importing ESPnet, whether task modules will be registered with.
WATCHED = "any(type(f).__name__ == '_Watcher' for f in sys.meta_path)"


@pytest.fixture(scope="module")
def registries():
    emoq_plugin.register()
    found = {}
    package = importlib.import_module(registration.TASKS)
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{registration.TASKS}.{info.name}")
        for name, choices in registration.registries(module).items():
            found[f"{info.name}.{name}"] = choices
    return found


def python(*arguments, **options):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


def registries_in_the_source():
    """List `<module>.<name>` of registries by reading ESPnet's source."""
    import espnet2

    found = set()
    for path in Path(espnet2.__path__[0]).rglob("*.py"):
        text = path.read_text()
        # Parsing everything would take half a minute.
        for node in ast.walk(ast.parse(text if "ClassChoices(" in text else "")):
            if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
                continue
            for keyword in node.value.keywords:
                if keyword.arg == "type_check" and ast.unparse(keyword.value) in (
                    "AbsFrontend",
                    "AbsSpeechTokenizerQuantizer",
                ):
                    found.add(f"{path.stem}.{ast.unparse(node.targets[0])}")
    return found


def ours(choices):
    return [
        name
        for name, chosen in choices.classes.items()
        if chosen.__module__.startswith("emoq_plugin.")
    ]


def test_every_registry_in_the_source_of_espnet_is_found(registries):
    in_source = registries_in_the_source()
    assert len(in_source) > 15
    assert in_source <= set(registries)


def test_no_registry_in_memory_lacks_the_plug_in(registries):
    from espnet2.asr.frontend.abs_frontend import AbsFrontend
    from espnet2.tok.abs_quantizer import AbsSpeechTokenizerQuantizer
    from espnet2.train.class_choices import ClassChoices

    # Wherever it is kept, and whatever type it says that it checks.
    takes = (AbsFrontend, AbsSpeechTokenizerQuantizer)
    every = [
        choices
        for choices in gc.get_objects()
        if type(choices) is ClassChoices
        and any(issubclass(c, takes) for c in choices.classes.values())
    ]
    assert {id(c) for c in registries.values()} <= {id(c) for c in every}
    assert [c.name for c in every if not ours(c)] == []


def test_every_registry_has_one_class_of_ours_of_the_right_kind(registries):
    for where, choices in registries.items():
        [name] = ours(choices)
        assert issubclass(choices.get_class(name), choices.base_type), where
        assert name in choices.choices()
    assert "emoq_units" in registries["mt.frontend_choices"].classes
    assert "emoq_quantized" in registries["asr.frontend_choices"].classes
    assert "emoq" in registries["gan_tok.quantizer_choices"].classes


def test_each_task_offers_its_own_frontends_as_upstreams(registries):
    frontend = registries["ssl.frontend_choices"].get_class("emoq_quantized")
    assert frontend.upstreams is registries["ssl.frontend_choices"]


def keywords_of_frontends(module):
    """List the options that a task adds to those of the user, by reading its source."""
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        if isinstance(node, ast.Call) and "frontend_class" in ast.unparse(node.func):
            yield {k.arg for k in node.keywords if k.arg}


def test_our_frontends_take_what_the_tasks_give_to_theirs(registries):
    seen = set()
    for where, choices in registries.items():
        [name] = ours(choices)
        taken = inspect.signature(choices.get_class(name)).parameters
        module = sys.modules[f"{registration.TASKS}.{where.partition('.')[0]}"]
        for given in keywords_of_frontends(module):
            assert given <= set(taken), where
            seen |= given
    assert seen >= {"input_size", "input_fs"}  # of mt and gan_svs


def test_registering_again_changes_nothing(registries):
    before = {where: dict(choices.classes) for where, choices in registries.items()}
    finders = list(sys.meta_path)
    emoq_plugin.register()
    assert sys.meta_path == finders
    assert {w: dict(c.classes) for w, c in registries.items()} == before


def test_a_class_of_others_is_never_replaced(registries):
    choices = registries["asr.frontend_choices"]
    other, ours = choices.get_class("default"), choices.classes["emoq_quantized"]
    choices.classes["emoq_quantized"] = other
    try:
        with pytest.raises(ValueError, match="asr.frontend_choices has another class"):
            emoq_plugin.register()
        assert choices.classes["emoq_quantized"] is other
    finally:
        choices.classes["emoq_quantized"] = ours


def test_a_registry_of_another_type_is_refused(registries):
    choices = registries["asr.frontend_choices"]
    with pytest.raises(ValueError, match="int is no AbsFrontend"):
        registration._add(choices, "emoq_number", int, where="here")
    assert "emoq_number" not in choices.classes


def test_another_espnet_is_refused(monkeypatch):
    monkeypatch.setattr(registration, "version", lambda _: "202310")
    with pytest.raises(ValueError, match="ESPnet 202310 is installed.*202611"):
        emoq_plugin.register()

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(registration, "version", missing)
    with pytest.raises(ValueError, match="ESPnet is not installed: pip install"):
        emoq_plugin.register()


def test_espnet_is_not_imported_before_it_is_used():
    code = (
        "import sys, emoq_plugin; emoq_plugin.register(); "
        f"assert {WATCHED}; "
        "assert not any(m.startswith('espnet2') for m in sys.modules)"
    )
    done = python("-c", code, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_commands_of_espnet_run_with_the_plug_in():
    call = ("-m", "emoq_plugin.run", "-m", "espnet2.bin.mt_train")
    done = python(*call, "--frontend", "emoq_units", "--print_config", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "frontend: emoq_units" in done.stdout


def test_spawned_workers_have_the_plug_in(tmp_path):
    (tmp_path / "worker.py").write_text(
        "import sys\n" "def work(queue):\n" f"    queue.put({WATCHED})\n"
    )
    (tmp_path / "training.py").write_text(
        "import multiprocessing, sys\n"
        "from worker import work\n"
        "assert sys.argv[1:] == ['--option', '3'], sys.argv\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    queue = context.Queue()\n"
        "    process = context.Process(target=work, args=(queue,))\n"
        "    process.start()\n"
        "    print('registered:', queue.get(timeout=60))\n"
        "    process.join()\n"
    )
    paths = os.pathsep.join([str(ROOT), str(tmp_path)])
    call = ("-m", "emoq_plugin.run", "-m", "training", "--option", "3")
    done = python(*call, env={**os.environ, "PYTHONPATH": paths})
    assert "registered: True" in done.stdout, done.stderr


@pytest.mark.parametrize("form", ["script", "code", "stdin"])
def test_all_forms_in_which_recipes_call_python_work(tmp_path, form):
    code = f"import sys; print({WATCHED}, sys.argv[1:])"
    script = tmp_path / "a script.py"
    script.write_text(code)
    forms = {"script": [script], "code": ["-c", code], "stdin": ["-"]}
    done = python("-m", "emoq_plugin.run", *forms[form], "x", cwd=ROOT, input=code)
    assert done.stdout == "True ['x']\n", done.stderr


def test_a_call_without_a_program_says_what_is_expected():
    done = python("-m", "emoq_plugin.run", "--frontend", cwd=ROOT)
    assert done.returncode != 0
    assert "expected -m <module>" in done.stderr


@pytest.mark.parametrize("switch", ["1", "0"])
def test_the_import_hook_works_only_when_asked(tmp_path, switch):
    from emoq_plugin import autoregister

    (tmp_path / "sitecustomize.py").write_text("print('hidden one runs')\n")
    paths = os.pathsep.join([autoregister.path, str(tmp_path)])
    environment = {**os.environ, "PYTHONPATH": paths, "EMOQ_AUTOREGISTER": switch}
    code = f"import sys; print('registered:', {WATCHED})"
    done = python("-c", code, env=environment, cwd=tmp_path)
    assert done.stdout == f"hidden one runs\nregistered: {switch == '1'}\n", done.stderr
