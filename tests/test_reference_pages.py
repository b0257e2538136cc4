"The reference of the site: types without modules, a sentence for each field of a configuration."

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


def page(file, name):
    text = ENTRY.format(file=file, name=name)
    (cell,) = tidy([{"cell_type": "code", "outputs": [{"data": {"text/markdown": text}}]}])
    return cell["outputs"][0]["data"]["text/markdown"]


def test_every_field_of_a_configuration_has_a_sentence():
    for file, name in ((RECIPE, "TrainConfig"), (ROOT / "ion_ode/attention_odenet/field.py", "FieldConfig")):
        rows = fields(file, name).strip().splitlines()[2:]
        assert len(rows) > 10 and all(row.split(" | ")[-1].strip(" |") for row in rows), rows


def test_an_entry_shows_types_symbols_small_numbers_and_fields():
    text = page("ion_ode/training/recipe.py", "TrainConfig")
    assert "config:TrainConfig, # λ = r_s/r_p" in text and "opt:Optimizer=1e-07" in text and "->DataFrame" in text
    assert "| `solver_steps` | `4` | Tsitouras steps while training |" in text


def test_what_is_no_dataclass_gets_no_table():
    assert "| Field" not in page("ion_ode/attention_odenet/odenet.py", "ODENet")
