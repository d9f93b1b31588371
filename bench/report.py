"""Figures as a Markdown table for people and as JSON for comparison."""

import json
import os
import platform
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

from bench.figures import Figure

RESULTS = Path(__file__).resolve().parent / "results"


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def line(figure: Figure) -> str:
    """Return one row of the table."""
    values = ", ".join(f"{name} {_number(value)}" for name, value in figure.values.items())
    ratios = ", ".join(f"{name} {value:.2f}x" for name, value in figure.ratios.items())
    verdict = {True: "met", False: "**short**", None: ""}[figure.met]
    return f"| {figure.row} | {figure.server} | {values} | {ratios} | {figure.target} | {verdict} |"


HEADER = (
    "| row | server | measured | imgpro against it (more is better) | target | |\n| --- | --- | --- | --- | --- | --- |"
)


def machine() -> dict[str, str]:
    """Say what the figures were measured on."""
    models = [text for text in Path("/proc/cpuinfo").read_text().splitlines() if text.startswith("model name")]
    import PIL

    def version(*command: str) -> str:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return "absent"
        return (done.stdout + done.stderr).strip().splitlines()[0]

    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "cores": str(os.cpu_count()),
        "cpu": models[0].partition(": ")[2] if models else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "imaging": PIL.__version__,
        "node": version("node", "--version"),
        "nginx": version("nginx", "-v"),
    }


def write(figures: list[Figure]) -> Path:
    """Write the JSON file of this run; return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps({"machine": machine(), "figures": [asdict(figure) for figure in figures]}, indent=1))
    return path
