"""The model card: what the model is, of what it was made, how good it is. Machines read modelyard.json."""

from __future__ import annotations

from typing import Any

from modelyard_trainer.tasks import find_task


def write_card(manifest: dict[str, Any], report: dict[str, Any]) -> str:
    """The text of README.md, with the metadata block that model hubs read."""
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=manifest["task"],
        base_model=_hub_name(manifest["base"]["uri"]),
        model_name=manifest["name"],
        tags=["modelyard"],
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_body(manifest, report)}"))


def _hub_name(uri: str | None) -> str | None:
    return uri.removeprefix("hf://") if uri and uri.startswith("hf://") else None


def _body(manifest: dict[str, Any], report: dict[str, Any]) -> str:
    parts = [f"# {manifest['name']}", _summary(manifest), _metrics(manifest), _data(report), _use(manifest)]
    return "\n\n".join(parts) + "\n"


def _summary(manifest: dict[str, Any]) -> str:
    base, job = manifest["base"]["uri"], manifest["job"]
    start = f"fine-tuned from `{base}`" if base else "trained from scratch"
    lines = [
        f"A {manifest['task']} model, {start} by the TrainingJob `{job['namespace']}/{job['name']}`"
        f" in {manifest['step']} steps. Digest `{manifest['digest']}`."
    ]
    if base and manifest["base"].get("head") == "new":
        lines.append("Its head was made anew for the classes of the data.")
    gate = manifest.get("gate")
    if gate and not gate["passed"]:
        lines.append(
            f"**It did not pass its gate**: {gate['metric']} is {_number(gate.get('value'))}, the bound is "
            f"{_number(gate['threshold'])}. Don't deploy it."
        )
    elif gate:
        lines.append(
            f"It passed its gate: {gate['metric']} is {_number(gate.get('value'))}, the bound is "
            f"{_number(gate['threshold'])}."
        )
    return "\n\n".join(lines)


def _metrics(manifest: dict[str, Any]) -> str:
    columns = [
        (title, manifest[key])
        for title, key in (
            ("validation", "metrics"), ("test", "testMetrics"),
            ("untrained, validation", "baseline"), ("untrained, test", "baselineTest"),
        )
        if manifest.get(key)
    ]  # fmt: skip
    if not columns:
        return "## Metrics\n\nNone: there was no validation split."
    names = list(dict.fromkeys(name for _, values in columns for name in values))
    head = "| | " + " | ".join(title for title, _ in columns) + " |"
    rule = "|---" * (len(columns) + 1) + "|"
    rows = [
        f"| {name.removeprefix('eval_')} | "
        + " | ".join(_number(values.get(name)) for _, values in columns)
        + " |"
        for name in names
    ]
    return "\n".join(["## Metrics", "", head, rule, *rows])


def _data(report: dict[str, Any]) -> str:
    sources = "".join(f"- `{s['uri']}`: {s['rows']} rows\n" for s in report.get("sources", []))
    splits = ", ".join(f"{name} {about['rows']}" for name, about in report.get("splits", {}).items())
    removed = report.get("rowsIn", 0) - report.get("rowsOut", 0)
    digest = report.get("digest")
    return f"## Data\n\n{sources}\n{removed} rows were removed. Splits: {splits}. Digest `{digest}`."


def _use(manifest: dict[str, Any]) -> str:
    code = (
        f'model = pipeline("{manifest["task"]}", "path/to/this/folder")\n{find_task(manifest["task"]).call}'
    )
    return f"## Use\n\n```python\nfrom transformers import pipeline\n\n{code}\n```"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
