"""What the demo says: the model and its metrics, what to try next, or why it stopped and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Status = Mapping[str, Any]
# Metrics of the table, as (name in status, name on the screen).
METRICS = (("eval_loss", "loss"), ("eval_accuracy", "accuracy"), ("eval_f1", "macro F1"),
           ("eval_precision", "precision"), ("eval_recall", "recall"))  # fmt: skip


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def format_metrics(status: Status) -> str:
    """The trained model's metrics on both held-out splits beside those of the untrained one."""
    model = status.get("model") or {}
    before, after = model.get("baseline") or {}, model.get("evaluation") or {}
    lines = [
        f"{'':12}{'validation':>22}{'test':>24}",
        f"{'':12}{'untrained':>12}{'trained':>10}{'untrained':>14}{'trained':>10}",
    ]
    for key, label in METRICS:
        cells = [part.get(split, {}).get(key) for split in ("validation", "test") for part in (before, after)]
        if any(cell is not None for cell in cells):
            a, b, c, d = map(_number, cells)
            lines.append(f"{label:12}{a:>12}{b:>10}{c:>14}{d:>10}")
    return "\n".join(lines)


def format_data(status: Status) -> str:
    """One sentence about the prepared rows."""
    data = status.get("data") or {}
    splits = ", ".join(f"{name} {rows}" for name, rows in (data.get("splits") or {}).items())
    removed = ", ".join(f"{item['rows']} {item['reason']}" for item in data.get("removed") or [])
    text = f"{data.get('rowsIn', '?')} rows read, {data.get('rowsOut', '?')} kept ({splits})"
    return f"{text}; removed: {removed}" if removed else text


def format_warnings(status: Status) -> str:
    """What looked wrong about the data, a line each; nothing if nothing did."""
    lines = []
    for warning in (status.get("data") or {}).get("warnings") or []:
        count = f" ({warning['count']})" if warning.get("count") is not None else ""
        lines.append(f"  warning  {warning['reason']}{count}: {warning.get('message', '')}\n")
    return "".join(lines)


def _format_gate(status: Status) -> str:
    gate = status.get("gate") or {}
    return f"{gate.get('metric', '-')} {_number(gate.get('value'))}, bound {_number(gate.get('threshold'))}"


def format_success(name: str, status: Status) -> str:
    """Where the model lies, and how good it is."""
    model = status.get("model") or {}
    return f"""
{name} has succeeded.

  model    {model.get("uri", "-")}
  digest   {model.get("digest", "-")}
  data     {format_data(status)}
{format_warnings(status)}  gate     {_format_gate(status)}

{format_metrics(status)}
"""


def format_next(name: str, namespace: str, curl: str, kubeconfig: str) -> str:
    """What the reader can try by now. `curl` is a request that works in any shell of this machine."""
    return f"""
The model answers:
  {curl}

Next:
  export KUBECONFIG={kubeconfig}
  kubectl -n {namespace} get tj,md                       # the lists; -w shows them live
  kubectl -n {namespace} describe md {name}           # conditions, variants, revisions, events
  kubectl explain modeldeployment.spec                # every field has its page
  python3 -m examples.demo predict "I love it" "Two hours late again"   # the model in plain transformers
  make demo-down                                      # removes the demo; make cluster-down stops the cluster
"""


def format_failure(name: str, namespace: str, status: Status, kubeconfig: str) -> str:
    """Every condition with its reason and message, the last attempt's failure, and where to look."""
    lines = [f"\n{name} has not succeeded (phase {status.get('phase', 'unknown')}).\n"]
    for condition in status.get("conditions") or []:
        head = f"{condition['type']}={condition['status']}"
        lines.append(f"  {head:22} {condition['reason']}: {condition.get('message', '')}")
    attempts = status.get("attempts") or []
    failure = attempts[-1].get("failure") if attempts else None
    if failure:
        lines.append(
            f"\n  attempt {attempts[-1]['index']}: {failure['reason']}: {failure.get('message', '')}"
        )
        lines.extend(f"    {line}" for line in str(failure.get("excerpt") or "").splitlines())
    lines.append(_advise("tj", "trainingjob", name, namespace, kubeconfig))
    return "\n".join(lines)


def format_stuck(name: str, namespace: str, kubeconfig: str) -> str:
    """Where to look when the model isn't served; the live view has said why."""
    head = f"{name} is not served; the lines above say how it stands.\n"
    return head + _advise("md", "modeldeployment", name, namespace, kubeconfig)


def _advise(short: str, kind: str, name: str, namespace: str, kubeconfig: str) -> str:
    return f"""
What to do:
  export KUBECONFIG={kubeconfig}
  kubectl -n {namespace} describe {short} {name}
  kubectl -n {namespace} get pods; kubectl -n {namespace} logs -l modelyard.dev/{kind}={name} --tail=50
  kubectl -n modelyard-system logs deployment/modelyard
Then run the demo again: it repairs what is there and trains anew."""
