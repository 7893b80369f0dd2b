"""Predicted against true values."""

from jaxssl.evaluation.scores import is_value
from jaxssl.report import figures
from jaxssl.report.blocks import Grid, Heading, Panel, Section, Text
from jaxssl.report.figures import MAX_DOTS, Line
from jaxssl.report.run_data import RunData
from jaxssl.report.sections.common import iter_predictions
from jaxssl.results.words import clean_text, format_estimate, get_score, init_name, protocol_name, shorten


def section(run: RunData) -> Section | None:
    """Return a panel for each evaluation; None unless values are predicted."""
    by_name = {e["name"]: e for e in run.results["evaluations"]}
    blocks = []
    for protocol, of in iter_predictions(run):
        panels = []
        for init, p in of.items():
            if not is_value(p.labels):
                return None
            name, error = init_name(init, run.results), format_estimate(get_score(by_name[f"{protocol}_{init}"]))
            label = clean_text(f"Predicted against true values, {protocol}, {name}: mean absolute error {error}")
            line = Line(init, p.labels, p.probabilities[:, 0])
            svg = figures.draw_predicted(f"predicted-{protocol}-{init}", label, line)
            panels.append(Panel(name, svg, f"mean absolute error {error}"))
        blocks += [Heading(protocol_name(protocol).capitalize()), Grid(panels, "square")]
    if not blocks:
        return None
    value = shorten(run.results["dataset"]["classes"][0])
    text = (
        f"Each point is a test image (at most {MAX_DOTS:,} are drawn): its {value}, and the prediction. On the line "
        "both are equal; a network that has learned little predicts all near their mean."
    )
    return Section("predicted", "Predicted and true values", [Text(text), *blocks])
