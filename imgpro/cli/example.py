"""The commented example configuration, generated from the settings so that it cannot go stale."""

import itertools

from imgpro import forms


def example() -> str:
    """Return `config.example.toml`: every setting with its meaning, form and default, commented out."""
    lines = [
        "# Settings of imgpro. Every line shows the default; remove the # to change it.",
        "# Each can also be given in the environment as IMGPRO_<SECTION>_<NAME>; flags win over both.",
        "# Sizes take units (500 MB, 2 GB), times too (30s, 10m, 2d); where it says so, unlimited.",
    ]
    for section, fields in itertools.groupby(forms.fields(), key=lambda field: field.section):
        lines += ["", f"[{section}]"]
        for field in fields:
            lines.append(f"# {field.description} ({forms.describe_form(field)})")
            lines.append(f"#{field.name} = {forms.show_value(field, field.default)}")
    return "\n".join(lines) + "\n"
