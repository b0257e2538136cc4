"The reference of the site: types without modules, a sentence for each field of a configuration."

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from reference import fields, tidy  # noqa: E402

RECIPE = ROOT / "ion_ode/training/recipe.py"
ENTRY = """---

[source](https://github.com/ion-ode/ion_ode/blob/main/{file}#L31){{target="_blank"}}

### {name}

```python
def {name}(
    config:ion_ode.training.recipe.TrainConfig, # $\\lambda = r_s/r_p$
    opt:torch.optim.optimizer.Optimizer=1e-07
)->pandas.DataFrame:
```

*What it is.*"""


def page(file, name, arguments=""):
    text = ENTRY.format(file=file, name=name)
    text = re.sub(r"(?<=\()[^)]*(?=\n\))", arguments, text) if arguments else text
    (cell,) = tidy([{"cell_type": "code", "source": [], "outputs": [{"data": {"text/markdown": text}}]}])
    return cell["outputs"][0]["data"]["text/markdown"]


def configurations() -> dict[str, Path]:
    "Public dataclasses that can be made without an argument, each with its file."
    found = {}
    for file in sorted((ROOT / "ion_ode").rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            plain = isinstance(node, ast.ClassDef) and not node.name.startswith("_")
            if plain and any("dataclass" in ast.unparse(d) for d in node.decorator_list):
                values = [n.value for n in node.body if isinstance(n, ast.AnnAssign)]
                if values and all(values):
                    found[node.name] = file
    return found


def test_every_field_of_a_configuration_has_a_sentence():
    found = configurations()
    assert {"FieldConfig", "TrainConfig", "Plant", "Stage", "Protocol", "Prior"} <= found.keys()
    for name, file in found.items():
        rows = fields(file, name).strip().splitlines()[2:]
        assert rows and all(row.split(" | ")[-1].strip(" |") for row in rows), (name, rows)


def test_an_entry_shows_types_symbols_small_numbers_and_fields():
    text = page("ion_ode/training/recipe.py", "TrainConfig")
    assert "config:TrainConfig, # λ = r_s/r_p" in text and "opt:Optimizer=1e-07" in text and "->DataFrame" in text
    assert "| `solver_steps` | `4` | Tsitouras steps while training |" in text


def test_what_is_no_dataclass_gets_no_table():
    assert "| Field" not in page("ion_ode/attention_odenet/odenet.py", "ODENet")


def test_a_named_tuple_has_its_fields_for_a_signature():
    text = page("ion_ode/attention_odenet/odenet.py", "Rollout", "*args, **kwargs")
    assert "| `n_steps` |" in text and "```" not in text


def test_source_that_is_shown_is_not_said_twice():
    text = ENTRY.format(file="ion_ode/attention_odenet/odenet.py", name="ODENet.start")
    fold = ["#| code-fold: show\n", '#| code-summary: "Exported source"\n']
    source = [*fold, "@patch\n", "def start(self):  # at $\\lambda$\n"]
    other = text.replace("ODENet.start", "ODENet.end").replace("#L31", "#L40")
    source[2:2] = ["@patch\n", "def end(self): pass\n"]
    told, anchor, code, check = tidy([
        {"cell_type": "code", "source": [], "outputs": [{"data": {"text/markdown": other}}]},
        {"cell_type": "code", "source": [], "outputs": [{"data": {"text/markdown": text}}]},
        {"cell_type": "code", "source": source, "outputs": []},
        {"cell_type": "code", "source": ["start"], "outputs": []},
    ])  # fmt: skip
    assert told["outputs"][0]["data"]["text/markdown"].endswith("### ODENet.start")
    assert anchor["outputs"][0]["data"]["text/markdown"] == "[]{#odenet.end}"
    assert "".join(code["source"]).endswith("@patch\ndef start(self):  # at λ\n") and check["source"] == ["start"]


def test_a_membrane_by_default_is_its_name():
    numbers = "feed, membrane:Membrane=Membrane with pore radius 0.56 nm, charge (feed) -1.6 mol/m³, # Of NF270"
    text = page("ion_ode/dspmde/solve.py", "simulate", f"\n    {numbers}")
    assert "feed, membrane:Membrane=NF270, # Of NF270" in text
